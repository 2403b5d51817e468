//! What can be typed, and what it means.

use crate::memory::MemoryFormula;
use clap::Parser;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;
use tidewatch_client::options::Options;
use tidewatch_command::{Properties, UsageError, parse_duration};

const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

const EXAMPLES: &str = "\
Examples:
  See what would be sent, without any Kafka:
    tidewatch-collector --dry-run
  Send this host's utilisation under its own name:
    tidewatch-collector -b kafka-1:9092,kafka-2:9092
  Under another name, each second, compressed:
    tidewatch-collector web-1 -b kafka-1:9092 --interval 1s -X compression.type=zstd
  From a container that has the host's /proc at /host/proc:
    tidewatch-collector web-1 -b kafka-1:9092 --procfs /host/proc
  Check a configuration before it is rolled out:
    tidewatch-collector --config collector.toml --check-config

Records: topics cpu-monitor and mem-monitor, key = the host, value = the percentage as decimal text,
timestamp = the tick, header tw = run.sequence.interval, by which a reader sees gaps and duplicates.
The first tick has no CPU value: utilisation is what happened between two ticks.

TLS (-X security.protocol=SSL or SASL_SSL) is for x86_64 with AVX2 and ADX and for aarch64 with AES
instructions. Elsewhere, as on armv7, it is refused at the start, never left out in silence.";

/// Reads /proc and sends this host's CPU and memory utilisation to Kafka.
#[derive(Debug, Parser)]
#[command(name = "tidewatch-collector", version, after_help = EXAMPLES)]
pub(crate) struct Typed {
    /// The host's name, which becomes the key of its records [default: this host's own].
    #[arg(value_name = "HOST")]
    host: Option<String>,

    /// Time between two samples; they are taken at its multiples since 1970, on every host alike.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "2s")]
    interval: Duration,

    /// Where procfs is mounted.
    #[arg(long, value_name = "PATH", default_value = "/proc")]
    procfs: PathBuf,

    /// What counts as used memory.
    #[arg(long, value_name = "FORMULA", default_value = "available")]
    memory_formula: MemoryFormula,

    /// Print the samples to stdout instead of sending them: topic, host, value, timestamp, tw.
    #[arg(long)]
    dry_run: bool,
}

/// What the agent is to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) host: String,
    pub(crate) interval_ms: NonZeroU32,
    pub(crate) procfs: PathBuf,
    pub(crate) formula: MemoryFormula,
    /// `None` in a dry run.
    pub(crate) kafka: Option<Options>,
}

/// Makes of what was typed something that can be done.
pub(crate) fn plan(typed: Typed, kafka: &Properties) -> Result<Plan, UsageError> {
    let interval_ms = plan_interval(typed.interval)?;
    let host = plan_host(typed.host)?;
    let kafka = plan_kafka(kafka, typed.dry_run)?;
    Ok(Plan {
        host,
        interval_ms,
        procfs: typed.procfs,
        formula: typed.memory_formula,
        kafka,
    })
}

/// The client's options, which are checked in a dry run too.
fn plan_kafka(properties: &Properties, dry_run: bool) -> Result<Option<Options>, UsageError> {
    let mut options = Options::default();
    properties.apply(|name, value| options.set(name, value))?;
    if dry_run {
        return Ok(None);
    }
    properties.bootstrap_servers()?;
    if properties.get("delivery.timeout.ms").is_none() {
        // A sample is dropped for want of room, and never because it waited.
        options.producer.delivery_timeout_ms = u64::from(i32::MAX.unsigned_abs());
    }
    let valid = options.validated();
    valid
        .map(Some)
        .map_err(|why| UsageError::new(why.to_string()))
}

fn plan_interval(interval: Duration) -> Result<NonZeroU32, UsageError> {
    let refused = |why| UsageError::new(format!("--interval is {interval:?}; {why}"));
    if interval < INTERVAL_MIN {
        return Err(refused(
            "counters advance in steps of 10 ms, so give 100ms or more",
        ));
    }
    if interval > INTERVAL_MAX {
        return Err(refused("give 1d or less"));
    }
    let interval_ms = u32::try_from(interval.as_millis())
        .ok()
        .and_then(NonZeroU32::new);
    interval_ms.ok_or_else(|| refused("give whole milliseconds up to 1d"))
}

fn plan_host(typed: Option<String>) -> Result<String, UsageError> {
    let (host, whose) = match typed {
        Some(host) => (host, "HOST"),
        None => (own_name(), "this host's own name"),
    };
    match tidewatch_sample::parse_host(Some(host.as_bytes())) {
        Ok("localhost") => {
            tracing::warn!("the host is called localhost, as others may be; give a name as HOST");
            Ok(host)
        }
        Ok(_) => Ok(host),
        Err(why) => Err(UsageError::new(format!(
            "{whose} cannot be the key of a record: {why}; give another as HOST"
        ))),
    }
}

/// What `uname -n` says; empty where that is no name.
fn own_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    // The kernel's name for a host that was given none.
    if name == "(none)" {
        String::new()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_has_bounds() {
        let ms = |ms| plan_interval(Duration::from_millis(ms)).map(NonZeroU32::get);
        assert_eq!(ms(100), Ok(100));
        assert_eq!(ms(86_400_000), Ok(86_400_000));
        for refused in [0, 99, 86_400_001, u64::MAX] {
            assert!(ms(refused).is_err(), "{refused}");
        }
        assert!(ms(0).unwrap_err().to_string().contains("100ms or more"));
    }

    #[test]
    fn a_host_is_what_was_given_or_this_ones_name() {
        assert_eq!(plan_host(Some("web-1".into())), Ok("web-1".into()));
        assert_eq!(plan_host(None), Ok(own_name()));
        let failed = plan_host(Some(String::new())).unwrap_err().to_string();
        assert!(
            failed.contains("the key is empty") && failed.contains("give another"),
            "{failed}"
        );
    }
}
