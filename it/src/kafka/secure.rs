//! A broker with a listener of each kind of security, and the keys for it.

use super::home::Home;
use super::node::Node;
use super::{Tools, Version, format, work_dir};
use crate::ports::free_port;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const LISTENERS: [&str; 11] = [
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
    "OIDC",
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
        let keys = work.path().join("pki");
        make_keys(&keys);
        let jwks = keys.join("jwks.json");
        std::fs::write(&jwks, jwks_of(&keys.join("issuer.modulus"))).unwrap();
        let jwks = format!("file://{}", jwks.display());
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
            .replace("@CONTROLLER@", &controller.to_string())
            .replace("@JWKS@", &jwks);
        std::fs::write(dir.join("server.properties"), properties).unwrap();
        let [one, other] = BOB;
        format(
            &home,
            &dir,
            &["--standalone", "--add-scram", one, "--add-scram", other],
        );
        // Kafka 4 asks nobody for keys whom it was not told of here.
        let allowed = format!("org.apache.kafka.sasl.oauthbearer.allowed.urls={jwks}");
        let mut node = Node::new(home, dir).with_property(allowed);
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

/// The set of keys (RFC 7517) by which the broker believes tokens: the issuer's alone.
fn jwks_of(modulus: &Path) -> String {
    let printed = std::fs::read_to_string(modulus).unwrap();
    let hex = printed.trim().trim_start_matches("Modulus=");
    let digits = (0..hex.len()).step_by(2);
    let modulus: Vec<u8> = digits
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let modulus = BASE64_URL_SAFE_NO_PAD.encode(modulus);
    let key = json!({
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "issuer", "n": modulus, "e": "AQAB",
    });
    json!({ "keys": [key] }).to_string()
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
