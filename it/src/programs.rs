//! Our own binaries, as an operator starts them.

use crate::process::Process;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Long enough for a loaded two-core machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The path of one of the product's binaries, built beside the tests.
///
/// # Panics
/// If it has not been built; the message says how.
pub fn path(name: &str) -> PathBuf {
    let mut dir = std::env::current_exe().expect("a test has a path");
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    let path = dir.join(name);
    assert!(path.exists(), "{name} has not been built: run `make build`");
    path
}

/// A command for one of our binaries, with none of the caller's TIDEWATCH_ variables.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(path(name));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("TIDEWATCH_") {
            command.env_remove(variable);
        }
    }
    command
}

/// A devbroker on ports of the kernel's choice.
#[derive(Debug)]
pub struct Devbroker {
    process: Process,
    /// Its nodes' addresses.
    pub addresses: Vec<String>,
}

impl Devbroker {
    /// Starts it with `arguments` beside the address to listen on, and waits until it accepts.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = command("tidewatch-devbroker");
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        let process = Process::start("tidewatch-devbroker", command);
        let nodes = arguments
            .iter()
            .position(|a| *a == "--nodes")
            .map_or(1, |at| arguments[at + 1].parse().unwrap());
        let mut addresses = Vec::new();
        let mut from = 0;
        while addresses.len() < nodes {
            let (at, line) = process.wait_for_line_from(from, PATIENCE, "LISTENING line", |l| {
                !l.stderr && l.text.starts_with("LISTENING ")
            });
            addresses.push(line["LISTENING ".len()..].to_owned());
            from = at + 1;
        }
        Self { process, addresses }
    }

    /// The first node's address.
    pub fn bootstrap(&self) -> &str {
        &self.addresses[0]
    }

    /// The running program.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
