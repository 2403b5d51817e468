//! What can be typed, and what it means.

use std::time::Duration;
use tidewatch_client::options::Options;
use tidewatch_command::{Properties, UsageError, parse_duration};
use tidewatch_sample::Metric;

/// Computes each host's mean utilisation over windows of event time: reads the samples that
/// tidewatch-collector writes, prints a table for each batch of results and writes them back to
/// Kafka.
#[derive(Debug, clap::Parser)]
#[command(
    name = "tidewatch-aggregator",
    version,
    after_help = "Examples:
  tidewatch-aggregator -b kafka-1:9092
      windows of 10 seconds of cpu-monitor and mem-monitor, printed and written to
      cpu-monitor-agg-result and mem-monitor-agg-result
  tidewatch-aggregator -b kafka-1:9092 --window 1m --delay 10s
      windows of a minute that wait 10 seconds for late samples
  tidewatch-aggregator -b kafka-1:9092 --available-now
      works through what is there and exits
  tidewatch-aggregator -b kafka-1:9092 --raw
      prints the samples as they come and writes nothing

A record that cannot be read is counted, copied to <topic>-rejected with its reason, and passed over."
)]
pub(crate) struct Typed {
    /// Topics to read; by default cpu-monitor and mem-monitor. Give it several times for several.
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,

    /// How long a window is.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    window: Duration,

    /// How long a host's window waits, by that host's own samples, for samples that come late.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "4s")]
    delay: Duration,

    /// How much longer the window of a host that has fallen silent stays open.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    silence: Duration,

    /// How far a sample's time may lie ahead of the other hosts' before it is rejected.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10m")]
    max_future: Duration,

    /// The mean of everything since the topic's beginning, per host, instead of windows.
    #[arg(long, conflicts_with = "raw")]
    running: bool,

    /// Prints the samples as they are and writes nothing.
    #[arg(long)]
    raw: bool,

    /// Works through what is in the topics now, then exits. Windows that are still open stay open.
    #[arg(long)]
    available_now: bool,

    /// The consumer group that keeps the offsets.
    #[arg(long, value_name = "GROUP", default_value = "tidewatch-aggregator")]
    group: String,

    /// How often results are made durable and offsets committed.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "1s")]
    commit_interval: Duration,
}

/// What the job computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Query {
    /// Tumbling windows per host.
    Windows,
    /// The mean of everything per host.
    Running,
    /// Nothing: the samples themselves.
    Raw,
}

/// What was typed, once it makes sense.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) kafka: Options,
    pub(crate) topics: Vec<String>,
    pub(crate) query: Query,
    pub(crate) engine: tidewatch_engine::Settings,
    pub(crate) available_now: bool,
    pub(crate) group: String,
    pub(crate) commit_interval: Duration,
}

impl Plan {
    pub(crate) fn new(typed: Typed, properties: &Properties) -> Result<Self, UsageError> {
        properties.bootstrap_servers()?;
        let mut kafka = Options::default();
        properties.apply(|name, value| kafka.set(name, value))?;
        let window_ms = milliseconds("--window", typed.window)?;
        if window_ms == 0 {
            return Err(UsageError::new(
                "--window is 0s; a window takes at least a millisecond",
            ));
        }
        if typed.commit_interval.is_zero() {
            return Err(UsageError::new(
                "--commit-interval is 0s; give 100ms or more",
            ));
        }
        let engine = tidewatch_engine::Settings {
            size_ms: window_ms,
            delay_ms: milliseconds("--delay", typed.delay)?,
            silence_ms: milliseconds("--silence", typed.silence)?,
            max_future_ms: milliseconds("--max-future", typed.max_future)?,
            running: typed.running,
            ..tidewatch_engine::Settings::default()
        };
        engine
            .check()
            .map_err(|why| UsageError::new(format!("--{why}")))?;
        Ok(Self {
            kafka,
            topics: plan_topics(typed.topics)?,
            query: match (typed.running, typed.raw) {
                (true, _) => Query::Running,
                (_, true) => Query::Raw,
                _ => Query::Windows,
            },
            engine,
            available_now: typed.available_now,
            group: typed.group,
            commit_interval: typed.commit_interval,
        })
    }
}

/// Times are kept in milliseconds of an i64; half of that leaves room for sums.
fn milliseconds(flag: &str, duration: Duration) -> Result<i64, UsageError> {
    i64::try_from(duration.as_millis())
        .ok()
        .filter(|ms| *ms < i64::MAX / 2)
        .ok_or_else(|| UsageError::new(format!("{flag} is too long: {duration:?}")))
}

fn plan_topics(typed: Vec<String>) -> Result<Vec<String>, UsageError> {
    if typed.is_empty() {
        return Ok([Metric::Cpu, Metric::Memory]
            .map(|metric| metric.topic().to_owned())
            .to_vec());
    }
    let mut topics = typed;
    topics.sort();
    if let Some(twice) = topics.windows(2).find_map(|pair| match pair {
        [a, b] if a == b => Some(a),
        _ => None,
    }) {
        return Err(UsageError::new(format!("--topic {twice} is given twice")));
    }
    Ok(topics)
}
