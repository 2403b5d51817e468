//! A broker with a listener of each kind of security, and the keys for it.

use super::home::Home;
use super::node::Node;
use super::{Tools, Version, format, work_dir};
use crate::ports::free_port;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const LISTENERS: [&str; 10] = [
    "PLAINTEXT",
    "TLS",
    "MTLS",
    "WRONGHOST",
    "EXPIRED",
    "SASL",
    "SASLTLS",
    "OAUTH",
    "OAUTHTLS",
    "REAUTH",
];

/// Bob's password is the same for both hashes.
const BOB: [&str; 2] = [
    "SCRAM-SHA-256=[name=bob,password=bob-secret]",
    "SCRAM-SHA-512=[name=bob,password=bob-secret]",
];

/// A broker whose listeners differ in their security.
#[derive(Debug)]
pub struct SecureKafka {
    node: Node,
    /// By the listener PLAINTEXT.
    tools: Tools,
    ports: BTreeMap<&'static str, u16>,
    work: TempDir,
}

impl SecureKafka {
    /// Starts it. Alice and her password are known to PLAIN, Bob and his to SCRAM.
    pub fn start() -> Self {
        let home = Home::of(Version::V4_3);
        let work = work_dir();
        make_keys(&work.path().join("pki"));
        let dir = work.path().join("broker");
        std::fs::create_dir(&dir).unwrap();
        let ports: BTreeMap<_, _> = LISTENERS.map(|name| (name, free_port())).into();
        let controller = free_port();
        let listeners = ports.iter().chain([(&"CONTROLLER", &controller)]);
        let listeners: Vec<_> = listeners
            .map(|(name, port)| format!("{name}://127.0.0.1:{port}"))
            .collect();
        let properties = include_str!("../../kafka/secure.properties")
            .replace("@LISTENERS@", &listeners.join(","))
            .replace("@CONTROLLER@", &controller.to_string());
        std::fs::write(dir.join("server.properties"), properties).unwrap();
        let [one, other] = BOB;
        format(
            &home,
            &dir,
            &["--standalone", "--add-scram", one, "--add-scram", other],
        );
        let mut node = Node::new(home, dir);
        node.start();
        node.wait_until_started();
        Self {
            node,
            tools: Tools::new(Version::V4_3, &format!("127.0.0.1:{}", ports["PLAINTEXT"])),
            ports,
            work,
        }
    }

    /// Kafka's own tools, by the listener without security.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// A folder that goes with the broker.
    pub fn work_dir(&self) -> &Path {
        self.work.path()
    }

    /// Where a listener is, for `bootstrap.servers`.
    pub fn address(&self, listener: &str) -> String {
        format!("127.0.0.1:{}", self.ports[listener])
    }

    /// A file that `it/kafka/pki.sh` made.
    pub fn key(&self, file: &str) -> PathBuf {
        self.work_dir().join("pki").join(file)
    }
}

impl Drop for SecureKafka {
    fn drop(&mut self) {
        self.node.kill();
    }
}

fn make_keys(dir: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/pki.sh");
    let made = Command::new(script).arg(dir).output();
    let made = made.expect("pki.sh runs");
    assert!(
        made.status.success(),
        "pki.sh failed; it needs openssl: {}",
        String::from_utf8_lossy(&made.stderr)
    );
}
