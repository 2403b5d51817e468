//! tidewatch-aggregator: each host's mean utilisation over windows of event time.

mod job;
mod options;
mod output;
mod raw;
mod table;
mod task;
mod topics;

use options::{Plan, Query, Typed};
use std::process::ExitCode;
use std::time::Duration;

/// How long the last batch may take to become durable after SIGINT or SIGTERM.
const GRACE: Duration = Duration::from_secs(20);

/// Runs the program.
pub fn main() -> ExitCode {
    tidewatch_command::main(Plan::new, |plan: Plan| {
        tidewatch_command::block_on(GRACE, async |stop| match plan.query {
            Query::Raw => raw::run(plan, stop).await,
            Query::Windows | Query::Running => job::run(plan, stop).await,
        })
    })
}

/// Every flag, as `--help` shows them.
pub fn command() -> clap::Command {
    tidewatch_command::command::<Typed>()
}
