//! A real Apache Kafka: nodes that the suites start from the cache that `it/kafka/setup.sh` fills, or
//! a cluster that runs elsewhere and that `TIDEWATCH_BOOTSTRAP` names.

mod home;
mod node;
mod secure;
mod tools;

pub use home::Version;
pub use secure::SecureKafka;
pub use tools::Tools;

use crate::ports::free_port;
use home::Home;
use node::Node;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";
/// The address of a running cluster to run the suites on.
const FOREIGN: &str = "TIDEWATCH_BOOTSTRAP";

/// Brokers that belong together, on 127.0.0.1, each on a port that it keeps over restarts; or a
/// foreign cluster, which is only spoken to.
#[derive(Debug)]
pub struct Kafka {
    /// None where the cluster is foreign.
    nodes: Vec<Node>,
    tools: Tools,
    /// Goes with the cluster.
    _work: TempDir,
}

/// Whether the suites run on a foreign cluster, where `what` cannot be seen: then it says so, in a
/// line that the ladder counts.
#[must_use = "what needs a cluster of our own must not go on"]
pub fn skips_on_foreign_cluster(what: &str) -> bool {
    let foreign = std::env::var(FOREIGN).ok();
    if let Some(address) = &foreign {
        println!("!!! SKIPPED on {FOREIGN}={address}: {what}");
    }
    foreign.is_some()
}

/// `name` with an ending that no other run and no other call has, for what outlives a test on a
/// cluster that does: topics, groups, hosts.
pub fn unique(name: &str) -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{:x}-{call}", since_1970.as_millis())
}

impl Kafka {
    /// The cluster that `TIDEWATCH_BOOTSTRAP` names, or else one node of 4.3 of our own.
    pub fn at_hand() -> Self {
        match std::env::var(FOREIGN) {
            Ok(bootstrap) => Self {
                nodes: Vec::new(),
                tools: Tools::new(Version::V4_3, &bootstrap),
                _work: work_dir(),
            },
            Err(_) => Self::single(Version::V4_3, &[]),
        }
    }

    /// One node that is broker and controller. `overrides` are lines of its properties file, in which
    /// `@B@` and `@C@` stand for the ports of its broker and of its controller.
    pub fn single(version: Version, overrides: &[&str]) -> Self {
        let home = Home::of(version);
        let work = work_dir();
        let (broker, controller) = (free_port().to_string(), free_port().to_string());
        // 3.9 knows no quorum that is found by itself.
        let quorum = match version {
            Version::V3_9 => "controller.quorum.voters=1@127.0.0.1:@C@",
            _ => "controller.quorum.bootstrap.servers=127.0.0.1:@C@",
        };
        let mut properties = include_str!("../kafka/single.properties")
            .replace("PLAINTEXT://127.0.0.1:0", "PLAINTEXT://127.0.0.1:@B@")
            .replace("CONTROLLER://127.0.0.1:0", "CONTROLLER://127.0.0.1:@C@")
            .replace("controller.quorum.bootstrap.servers=127.0.0.1:0", quorum);
        for line in overrides {
            properties.push_str(line);
            properties.push('\n');
        }
        let properties = properties
            .replace("@B@", &broker)
            .replace("@C@", &controller);
        std::fs::write(work.path().join("server.properties"), properties).unwrap();
        match version {
            Version::V4_3 => copy_tree(&home.dir.join("template/data"), &work.path().join("data")),
            Version::V3_9 => format(&home, work.path(), &[]),
            Version::V4_4 => panic!("of Kafka 4.4.0 only the tools are set up"),
        }
        let mut node = Node::new(home, work.path().to_owned());
        node.start();
        node.wait_until_started();
        Self {
            nodes: vec![node],
            tools: Tools::new(version, &format!("127.0.0.1:{broker}")),
            _work: work,
        }
    }

    /// Three nodes: 1 is the only controller and is never to be harmed, 2 and 3 are brokers only.
    /// `overrides` are lines of every node's properties file.
    pub fn cluster(version: Version, overrides: &[&str]) -> Self {
        assert_eq!(
            version,
            Version::V4_3,
            "a cluster of {version:?} has not been tried"
        );
        let home = Home::of(version);
        let work = work_dir();
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
            let mut properties = template
                .replace("@N@", &id.to_string())
                .replace("@B@", &port.to_string())
                .replace("@C@", &controller.to_string());
            for line in overrides {
                properties.push_str(line);
                properties.push('\n');
            }
            std::fs::write(dir.join("server.properties"), properties).unwrap();
            if id == 1 {
                format(&home, &dir, &["--standalone"]);
            } else {
                std::fs::create_dir(dir.join("data")).unwrap();
                let meta = format!("version=1\ncluster.id={CLUSTER_ID}\nnode.id={id}\n");
                std::fs::write(dir.join("data/meta.properties"), meta).unwrap();
            }
            let mut node = Node::new(home.clone(), dir);
            node.start();
            nodes.push(node);
            addresses.push(format!("127.0.0.1:{port}"));
        }
        for node in &nodes {
            node.wait_until_started();
        }
        Self {
            nodes,
            tools: Tools::new(version, &addresses.join(",")),
            _work: work,
        }
    }

    /// For `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        self.tools.bootstrap()
    }

    /// Kafka's own tools, pointed at this cluster.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The first node's data directory; `None` where the cluster is foreign.
    pub fn data_dir(&self) -> Option<PathBuf> {
        self.nodes.first().map(|node| node.dir.join("data"))
    }

    /// `kill -9` of a node, 1 being the first.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node - 1].kill();
    }

    /// Starts a killed node again, on its port, with its data.
    pub fn restart(&mut self, node: usize) {
        let node = &mut self.nodes[node - 1];
        node.start();
        node.wait_until_started();
    }

    /// SIGSTOP or SIGCONT to a node.
    pub fn signal(&self, node: usize, name: &str) {
        self.nodes[node - 1].signal(name);
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
    }
}

fn work_dir() -> TempDir {
    tempfile::Builder::new()
        .prefix("tidewatch-kafka-")
        .tempdir()
        .expect("a temporary folder")
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
