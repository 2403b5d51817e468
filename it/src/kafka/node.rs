//! One node's process.

use super::home::Home;
use crate::process::{Process, signal};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Three JVMs on two busy cores start within this.
const START_LIMIT: Duration = Duration::from_secs(90);

/// A broker. Java runs under a shell that kills it when our end of the pipe goes, so that
/// no broker outlives a test that was killed.
#[derive(Debug)]
pub(super) struct Node {
    home: Home,
    pub(super) dir: PathBuf,
    /// Of Java's system, as `name=value`.
    properties: Vec<String>,
    running: Option<(Process, u32)>,
}

impl Node {
    /// What `dir` holds, its `server.properties` and its data, not started yet.
    pub(super) fn new(home: Home, dir: PathBuf) -> Self {
        Self {
            home,
            dir,
            properties: Vec::new(),
            running: None,
        }
    }

    /// With a property of Java's system.
    pub(super) fn with_property(mut self, property: String) -> Self {
        self.properties.push(property);
        self
    }

    /// Starts it, on its port, with its data.
    pub(super) fn start(&mut self) {
        assert!(self.running.is_none(), "the node is running");
        let log = "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info";
        let script = r#"exec 3<&0; java -Xmx128m "$@" </dev/null & echo "PID $!"; cat <&3 >/dev/null; kill -9 $!"#;
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh", log])
            .args(
                self.properties
                    .iter()
                    .map(|property| format!("-D{property}")),
            )
            .args(self.home.java_arguments());
        command
            .args(["kafka.Kafka", "server.properties"])
            .current_dir(&self.dir);
        let process = Process::start("kafka", command);
        let pid = process.wait_for_line(START_LIMIT, "process id", |l| l.text.starts_with("PID "));
        let pid = pid["PID ".len()..].parse().expect("a number");
        self.running = Some((process, pid));
    }

    pub(super) fn wait_until_started(&self) {
        let (process, _) = self.running.as_ref().expect("started before");
        process.wait_for_line(START_LIMIT, "`Kafka Server started`", |l| {
            l.text.contains("Kafka Server started")
        });
    }

    pub(super) fn kill(&mut self) {
        // Dropping the process closes its pipe; the shell would be killed first, so the signal goes
        // to Java itself.
        if let Some((mut process, pid)) = self.running.take() {
            signal(pid, "KILL");
            process.close_stdin();
            process.wait(Duration::from_secs(20));
        }
    }

    pub(super) fn signal(&self, name: &str) {
        let (_, pid) = self.running.as_ref().expect("the node is running");
        signal(*pid, name);
    }
}
