//! The collector as an operator starts it, before there is anything to send.

use std::process::Command;
use tidewatch_it::process::Process;
use tidewatch_it::programs::{Devbroker, PATIENCE, path};

#[test]
fn brokers_and_topics_are_known_before_the_first_tick() {
    let devbroker = Devbroker::start(&["--topic", "cpu-monitor:1", "--topic", "mem-monitor:1"]);
    let mut command = Command::new(path("tidewatch-collector"));
    // Far away, unless a day ends just now.
    command.args(["web-1", "--interval", "24h", "--log", "debug"]);
    command.args(["-b", devbroker.bootstrap()]);
    let collector = Process::start("tidewatch-collector", command);
    let is_connecting = format!("goes to {}", devbroker.bootstrap());
    collector.wait_for_line(PATIENCE, "a connection", |line| {
        line.text.contains(&is_connecting)
    });
}
