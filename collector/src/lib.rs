//! Reads /proc and sends this host's utilisation to Kafka.

mod agent;
mod arguments;
mod backlog;
mod clock;
mod complaint;
mod cpu;
mod kafka;
mod lane;
mod memory;
mod outage;
mod outlet;
mod probe;
mod proc;
mod refusal;
mod sampler;
mod ticks;

use std::process::ExitCode;

/// Runs the program.
pub fn main() -> ExitCode {
    tidewatch_command::main(arguments::plan, agent::run)
}

/// Every flag, as `--help` shows them.
pub fn command() -> clap::Command {
    tidewatch_command::command::<arguments::Typed>()
}
