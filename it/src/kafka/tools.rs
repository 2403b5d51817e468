//! Kafka's own Java tools.

use super::home::{Home, Version};
use crate::process::Process;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A JVM on a busy core starts and does its work within this.
const TOOL_LIMIT: Duration = Duration::from_secs(120);
/// ConsoleConsumer gives up when nothing has come for so long.
const SILENCE_MS: &str = "6000";

/// Kafka's tools of one version, pointed at a cluster.
#[derive(Debug, Clone)]
pub struct Tools {
    home: Home,
    bootstrap: String,
}

impl Tools {
    /// Tools for the cluster behind `bootstrap`, which may be of another version than they are.
    pub fn new(version: Version, bootstrap: &str) -> Self {
        Self {
            home: Home::of(version),
            bootstrap: bootstrap.to_owned(),
        }
    }

    /// The cluster, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// One of the tools, by its class, not started yet.
    pub fn tool(&self, class: &str) -> Command {
        let mut command = self.home.java();
        command.arg(class);
        command
    }

    /// Runs one of the tools against the cluster: `input` goes to its standard input; returns its
    /// standard output and its standard error.
    ///
    /// # Panics
    /// If it does not end within two minutes.
    pub fn run(&self, class: &str, arguments: &[&str], input: &str) -> (String, String) {
        let mut command = self.tool(class);
        command
            .args(["--bootstrap-server", &self.bootstrap])
            .args(arguments);
        let mut process = Process::start(class, command);
        process.write(input);
        process.close_stdin();
        process.wait(TOOL_LIMIT);
        (process.stdout(), process.stderr())
    }

    /// A single-file Java program from `it/java`, with Kafka's jars on its class path.
    pub fn java_program(&self, file: &str) -> Command {
        let mut command = self.home.java();
        command.arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("java")
                .join(file),
        );
        command
    }

    /// Kafka's TopicCommand.
    pub fn topic_command(&self, arguments: &[&str]) -> (String, String) {
        self.run("org.apache.kafka.tools.TopicCommand", arguments, "")
    }

    /// Creates a topic; `configs` as `name=value`.
    ///
    /// # Panics
    /// If the tool does not say that it did.
    pub fn create_topic(&self, name: &str, partitions: u32, configs: &[&str]) {
        let partitions = partitions.to_string();
        let mut arguments = vec!["--create", "--topic", name, "--partitions", &partitions];
        for config in configs {
            arguments.extend(["--config", config]);
        }
        let (stdout, stderr) = self.topic_command(&arguments);
        assert!(
            stdout.contains("Created topic"),
            "TopicCommand did not create {name}: {stdout}{stderr}"
        );
    }

    /// ConsoleProducer: each line of `input` is a record, as `properties` of its reader say
    /// (`parse.key=true`); `more` are further arguments.
    ///
    /// # Panics
    /// If it complains.
    pub fn console_produce(&self, topic: &str, properties: &[&str], more: &[&str], input: &str) {
        let (class, flag) = match self.home.version {
            Version::V3_9 => ("kafka.tools.ConsoleProducer", "--property"),
            _ => (
                "org.apache.kafka.tools.ConsoleProducer",
                "--reader-property",
            ),
        };
        let mut arguments = vec!["--topic", topic];
        for property in properties {
            arguments.extend([flag, property]);
        }
        arguments.extend(more);
        let (_, stderr) = self.run(class, &arguments, input);
        let complaint = stderr
            .lines()
            .find(|line| line.contains("ERROR") || line.contains("Exception"));
        assert_eq!(complaint, None, "ConsoleProducer: {stderr}");
    }

    /// ConsoleConsumer with everything that it can print of a record; `which` says what it reads and
    /// when it ends.
    pub fn console_consumer(&self, which: &[&str]) -> Vec<String> {
        let flag = match self.home.version {
            Version::V3_9 => "--property",
            _ => "--formatter-property",
        };
        let mut arguments = which.to_vec();
        for property in [
            "print.key=true",
            "print.headers=true",
            "print.timestamp=true",
            "print.offset=true",
            "print.partition=true",
        ] {
            arguments.extend([flag, property]);
        }
        let class = "org.apache.kafka.tools.consumer.ConsoleConsumer";
        let (stdout, _) = self.run(class, &arguments, "");
        stdout.lines().map(str::to_owned).collect()
    }

    /// What ConsoleConsumer prints of a whole topic.
    pub fn console_consume(&self, topic: &str, isolation: &str) -> Vec<String> {
        let records: i64 = self.end_offsets(topic).into_iter().sum();
        if records == 0 {
            return Vec::new();
        }
        // It ends at the last record; what is counted but not to be read (markers of transactions,
        // records that were deleted) leaves it waiting for the silence.
        let records = records.to_string();
        self.console_consumer(&[
            "--topic",
            topic,
            "--from-beginning",
            "--max-messages",
            &records,
            "--timeout-ms",
            SILENCE_MS,
            "--isolation-level",
            isolation,
        ])
    }

    /// Each partition's end, by GetOffsetShell.
    ///
    /// # Panics
    /// If it prints something else than `topic:partition:offset`.
    pub fn end_offsets(&self, topic: &str) -> Vec<i64> {
        let arguments = ["--topic", topic, "--time", "-1"];
        let (stdout, stderr) = self.run("org.apache.kafka.tools.GetOffsetShell", &arguments, "");
        let offset_of = |line: &str| {
            let (partition, offset) = line.rsplit_once(':')?;
            partition.starts_with(topic).then(|| offset.parse().ok())?
        };
        let offsets: Option<Vec<i64>> = stdout.lines().map(offset_of).collect();
        offsets.unwrap_or_else(|| panic!("GetOffsetShell: {stdout}{stderr}"))
    }
}
