//! A real Apache Kafka from the cache that `it/kafka/setup.sh` fills, and its own Java tools.

use crate::ports::free_port;
use crate::process::{Process, signal};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Three JVMs on two busy cores start within this.
const START_LIMIT: Duration = Duration::from_secs(90);
const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// Which Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 4.3.1, the newest that was tried.
    V4_3,
    /// 3.9.1, the last before 4.0 dropped the old protocols.
    V3_9,
}

impl Version {
    fn number(self) -> &'static str {
        match self {
            Self::V4_3 => "4.3.1",
            Self::V3_9 => "3.9.1",
        }
    }
}

/// The jars of one version.
#[derive(Debug, Clone)]
struct Home {
    version: Version,
    dir: PathBuf,
    class_path: String,
}

impl Home {
    fn of(version: Version) -> Self {
        let cache = std::env::var_os("TIDEWATCH_CACHE").map_or_else(
            || {
                PathBuf::from(std::env::var_os("HOME").expect("HOME is set"))
                    .join(".cache/tidewatch")
            },
            PathBuf::from,
        );
        let dir = cache.join(format!("kafka-{}", version.number()));
        assert!(
            dir.join("ready").exists(),
            "Kafka {} is not in the cache: run `make setup`",
            version.number()
        );
        let mut jars: Vec<_> = std::fs::read_dir(dir.join("libs"))
            .expect("the cache can be read")
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .into_os_string()
                    .into_string()
                    .expect("jar names are UTF-8")
            })
            .filter(|path| path.ends_with(".jar"))
            .collect();
        // The class archive wants the very class path that it was made with: sorted by bytes.
        jars.sort_unstable();
        Self {
            version,
            class_path: jars.join(":"),
            dir,
        }
    }

    fn java_arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let archive = self.dir.join("broker.jsa");
        if archive.exists() {
            arguments.push(format!("-XX:SharedArchiveFile={}", archive.display()));
        }
        arguments.extend(
            [
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-cp",
            ]
            .map(str::to_owned),
        );
        arguments.push(self.class_path.clone());
        arguments
    }

    fn java(&self) -> Command {
        let mut command = Command::new("java");
        command.arg("-Xmx256m").args(self.java_arguments());
        command
    }
}

/// One node's process. Java runs under a shell that kills it when our end of the pipe goes, so that
/// no broker outlives a test that was killed.
#[derive(Debug)]
struct Node {
    home: Home,
    dir: PathBuf,
    running: Option<(Process, u32)>,
}

impl Node {
    fn start(&mut self) {
        let log = "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info";
        let script = r#"exec 3<&0; java -Xmx128m "$@" </dev/null & echo "PID $!"; cat <&3 >/dev/null; kill -9 $!"#;
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh", log])
            .args(self.home.java_arguments());
        command
            .args(["kafka.Kafka", "server.properties"])
            .current_dir(&self.dir);
        let process = Process::start("kafka", command);
        let pid = process.wait_for_line(START_LIMIT, "process id", |l| l.text.starts_with("PID "));
        let pid = pid["PID ".len()..].parse().expect("a number");
        self.running = Some((process, pid));
    }

    fn wait_until_started(&self) {
        let (process, _) = self.running.as_ref().expect("started before");
        process.wait_for_line(START_LIMIT, "`Kafka Server started`", |l| {
            l.text.contains("Kafka Server started")
        });
    }

    fn kill(&mut self) {
        // Dropping the process closes its pipe; the shell would be killed first, so the signal goes
        // to Java itself.
        if let Some((mut process, pid)) = self.running.take() {
            signal(pid, "KILL");
            process.close_stdin();
            process.wait(Duration::from_secs(20));
        }
    }
}

/// Brokers that belong together, on 127.0.0.1, each on a port that it keeps over restarts.
#[derive(Debug)]
pub struct Kafka {
    nodes: Vec<Node>,
    bootstrap: String,
    home: Home,
    work: TempDir,
}

impl Kafka {
    /// One node that is broker and controller. `overrides` are lines of its properties file.
    pub fn single(version: Version, overrides: &[&str]) -> Self {
        let home = Home::of(version);
        let work = tempfile::Builder::new()
            .prefix("tidewatch-kafka-")
            .tempdir()
            .expect("a temporary folder");
        let (broker, controller) = (free_port(), free_port());
        let mut properties = include_str!("../kafka/single.properties")
            .replace(
                "PLAINTEXT://127.0.0.1:0",
                &format!("PLAINTEXT://127.0.0.1:{broker}"),
            )
            .replace(
                "CONTROLLER://127.0.0.1:0",
                &format!("CONTROLLER://127.0.0.1:{controller}"),
            );
        properties = match version {
            Version::V4_3 => properties.replace(
                "bootstrap.servers=127.0.0.1:0",
                &format!("bootstrap.servers=127.0.0.1:{controller}"),
            ),
            Version::V3_9 => properties.replace(
                "controller.quorum.bootstrap.servers=127.0.0.1:0",
                &format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            ),
        };
        for line in overrides {
            properties.push_str(line);
            properties.push('\n');
        }
        std::fs::write(work.path().join("server.properties"), properties).unwrap();
        match version {
            Version::V4_3 => copy_tree(&home.dir.join("template/data"), &work.path().join("data")),
            Version::V3_9 => format(&home, work.path(), &[]),
        }
        let mut node = Node {
            home: home.clone(),
            dir: work.path().to_owned(),
            running: None,
        };
        node.start();
        node.wait_until_started();
        Self {
            nodes: vec![node],
            bootstrap: format!("127.0.0.1:{broker}"),
            home,
            work,
        }
    }

    /// Three nodes: 1 is the only controller and is never to be harmed, 2 and 3 are brokers only.
    pub fn cluster(version: Version) -> Self {
        assert_eq!(
            version,
            Version::V4_3,
            "a cluster of {version:?} has not been tried"
        );
        let home = Home::of(version);
        let work = tempfile::Builder::new()
            .prefix("tidewatch-kafka-")
            .tempdir()
            .expect("a temporary folder");
        let controller = free_port();
        let mut nodes = Vec::new();
        let mut addresses = Vec::new();
        for id in 1..=3 {
            let dir = work.path().join(id.to_string());
            std::fs::create_dir(&dir).unwrap();
            let port = free_port();
            let template = if id == 1 {
                include_str!("../kafka/cluster-1.properties")
            } else {
                include_str!("../kafka/cluster-n.properties")
            };
            let properties = template
                .replace("@N@", &id.to_string())
                .replace("@B@", &port.to_string())
                .replace("@C@", &controller.to_string());
            std::fs::write(dir.join("server.properties"), properties).unwrap();
            if id == 1 {
                format(&home, &dir, &["--standalone"]);
            } else {
                std::fs::create_dir(dir.join("data")).unwrap();
                let meta = format!("version=1\ncluster.id={CLUSTER_ID}\nnode.id={id}\n");
                std::fs::write(dir.join("data/meta.properties"), meta).unwrap();
            }
            let mut node = Node {
                home: home.clone(),
                dir,
                running: None,
            };
            node.start();
            nodes.push(node);
            addresses.push(format!("127.0.0.1:{port}"));
        }
        for node in &nodes {
            node.wait_until_started();
        }
        Self {
            nodes,
            bootstrap: addresses.join(","),
            home,
            work,
        }
    }

    /// For `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The first node's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.nodes[0].dir.join("data")
    }

    /// A folder that goes with the cluster.
    pub fn work_dir(&self) -> &Path {
        self.work.path()
    }

    /// `kill -9` of a node, 1 being the first.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node - 1].kill();
    }

    /// Starts a killed node again, on its port, with its data.
    pub fn restart(&mut self, node: usize) {
        let node = &mut self.nodes[node - 1];
        assert!(node.running.is_none(), "the node is running");
        node.start();
        node.wait_until_started();
    }

    /// SIGSTOP or SIGCONT to a node.
    pub fn signal(&self, node: usize, name: &str) {
        let (_, pid) = self.nodes[node - 1]
            .running
            .as_ref()
            .expect("the node is running");
        signal(*pid, name);
    }

    /// One of Kafka's own tools, by its class, not started yet.
    pub fn tool(&self, class: &str) -> Command {
        let mut command = self.home.java();
        command.arg(class).current_dir(self.work.path());
        command
    }

    /// One of Kafka's tools against this cluster: `input` goes to its standard input; returns its
    /// standard output and its standard error.
    ///
    /// # Panics
    /// If it does not end within two minutes.
    pub fn run_tool(&self, class: &str, arguments: &[&str], input: &str) -> (String, String) {
        let mut command = self.tool(class);
        command
            .args(["--bootstrap-server", &self.bootstrap])
            .args(arguments);
        let mut process = Process::start(class, command);
        process.write(input);
        process.close_stdin();
        process.wait(Duration::from_secs(120));
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

    /// Creates a topic with Kafka's own tool; `configs` as `name=value`.
    ///
    /// # Panics
    /// If the tool does not say that it did.
    pub fn create_topic(&self, name: &str, partitions: u32, configs: &[&str]) {
        let partitions = partitions.to_string();
        let mut arguments = vec!["--create", "--topic", name, "--partitions", &partitions];
        for config in configs {
            arguments.extend(["--config", config]);
        }
        let (stdout, stderr) = self.run_tool("org.apache.kafka.tools.TopicCommand", &arguments, "");
        assert!(
            stdout.contains("Created topic"),
            "TopicCommand did not create {name}: {stdout}{stderr}"
        );
    }

    /// What ConsoleConsumer prints of a whole topic, with everything it can print of a record.
    pub fn console_consume(&self, topic: &str, isolation: &str) -> Vec<String> {
        let mut arguments = vec![
            "--topic",
            topic,
            "--from-beginning",
            "--timeout-ms",
            "6000",
            "--isolation-level",
            isolation,
        ];
        // 3.9 has no --formatter-property.
        let flag = if self.home.version == Version::V3_9 {
            "--property"
        } else {
            "--formatter-property"
        };
        for property in [
            "print.key=true",
            "print.headers=true",
            "print.timestamp=true",
            "print.offset=true",
            "print.partition=true",
        ] {
            arguments.extend([flag, property]);
        }
        let class = if self.home.version == Version::V3_9 {
            "kafka.tools.ConsoleConsumer"
        } else {
            "org.apache.kafka.tools.consumer.ConsoleConsumer"
        };
        let (stdout, _) = self.run_tool(class, &arguments, "");
        stdout.lines().map(str::to_owned).collect()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
    }
}

fn format(home: &Home, dir: &Path, more: &[&str]) {
    let mut command = home.java();
    command
        .args([
            "kafka.tools.StorageTool",
            "format",
            "-t",
            CLUSTER_ID,
            "-c",
            "server.properties",
        ])
        .args(more)
        .current_dir(dir);
    let output = command.output().expect("java runs");
    assert!(
        output.status.success(),
        "StorageTool failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
