//! Logs go to stderr, filtered by `--log`.

use crate::failure::UsageError;
use crate::timestamp::Timestamp;
use std::io::IsTerminal;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the logs with a filter such as `info`, or `warn,tidewatch_client=debug`.
pub(crate) fn start(filter: &str) -> Result<(), UsageError> {
    let filter = parse(filter)?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer()
        .with_timer(Timestamp)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        // A stderr that was closed must not end an agent: without this it would panic.
        .log_internal_errors(false);
    let started = tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .try_init();
    // Refused only where logs are on already, as in a process that runs two commands' code.
    started.or(Ok(()))
}

// Levels by target, and not an `EnvFilter`: that brings an engine for regular expressions.
fn parse(filter: &str) -> Result<Targets, UsageError> {
    filter.parse().map_err(|why| {
        UsageError::new(format!(
            "--log `{filter}`: {why}; use off, error, warn, info, debug or trace, \
             or per part as in warn,tidewatch_client=debug"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_or_per_part_is_a_filter() {
        for filter in ["info", "off", "warn,tidewatch_client=debug"] {
            assert!(parse(filter).is_ok(), "{filter}");
        }
        let failed = parse("warn,tidewatch_client=loud").unwrap_err().to_string();
        assert!(failed.contains("use off, error, warn"), "{failed}");
    }
}
