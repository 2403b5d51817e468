//! What every Tidewatch command shares: flags, file, environment, logs, signals and exit codes.
//!
//! A command says what can be typed ([`clap::Parser`]), what that means (`plan`, which refuses
//! what makes no sense), and what to do then (`act`):
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::time::Duration;
//! use tidewatch_command::{Failure, Properties, UsageError, parse_duration};
//!
//! /// Says hello at an interval.
//! #[derive(clap::Parser)]
//! #[command(name = "hello", version)]
//! struct Typed {
//!     /// Time between two greetings.
//!     #[arg(long, value_parser = parse_duration, default_value = "2s")]
//!     interval: Duration,
//! }
//!
//! fn plan(typed: Typed, kafka: &Properties) -> Result<Duration, UsageError> {
//!     if typed.interval.is_zero() {
//!         return Err(UsageError::new("--interval is 0s, which greets for ever; give 1s or more"));
//!     }
//!     Ok(typed.interval)
//! }
//!
//! fn act(interval: Duration) -> Result<(), Failure> {
//!     tidewatch_command::block_on(Duration::from_secs(5), async |stop| {
//!         while !stop.within(interval).await {
//!             tracing::info!("hello");
//!         }
//!         Ok(())
//!     })
//! }
//!
//! fn main() -> ExitCode {
//!     tidewatch_command::main(plan, act)
//! }
//! ```
//!
//! Every flag of `Typed` is then also a key of the file and a variable of the environment: the
//! flag beats the variable (`TIDEWATCH_INTERVAL`), which beats the file, which beats the default.

mod duration;
mod environment;
mod failure;
mod file;
mod invocation;
mod layer;
mod log;
mod placeholder;
mod properties;
mod signals;
mod stdout;
mod timestamp;

pub use duration::{DurationError, parse_duration};
pub use failure::{Failure, UsageError};
pub use invocation::command;
pub use layer::Origin;
pub use properties::{Properties, Property};
pub use signals::{Stop, block_on};
pub use stdout::{Stdout, StdoutError, print};

use clap::{CommandFactory, FromArgMatches};
use invocation::{Invocation, Outcome};
use std::process::ExitCode;

/// Runs a command: reads flags, environment and file, starts the logs, makes a plan, and acts on
/// it. With `--check-config` it prints the configuration instead of acting.
///
/// Exits 0 when done, 1 when acting failed, 2 where flags or configuration are wrong.
pub fn main<T, P>(
    plan: impl FnOnce(T, &Properties) -> Result<P, UsageError>,
    act: impl FnOnce(P) -> Result<(), Failure>,
) -> ExitCode
where
    T: CommandFactory + FromArgMatches,
{
    let name = T::command().get_name().to_owned();
    match start(plan, act) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&name),
    }
}

fn start<T, P>(
    plan: impl FnOnce(T, &Properties) -> Result<P, UsageError>,
    act: impl FnOnce(P) -> Result<(), Failure>,
) -> Result<(), Failure>
where
    T: CommandFactory + FromArgMatches,
{
    let invocation = match Invocation::parse(std::env::args_os(), std::env::vars_os())? {
        Outcome::Run(invocation) => *invocation,
        Outcome::Print(text) => return Ok(Stdout::new().write(&text)?),
    };
    log::start(&invocation.log)?;
    for warning in &invocation.warnings {
        tracing::warn!("{warning}");
    }
    let plan = plan(invocation.typed, &invocation.properties)?;
    if invocation.check_config {
        return Ok(Stdout::new().write(&invocation.effective)?);
    }
    act(plan)
}
