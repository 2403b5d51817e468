//! Samples to windows: collector, topics, aggregator, with Kafka's own tools as the other side.
//!
//! The collector's topics have fixed names, so that on a cluster which others use too, a host's name
//! that nobody else has tells what is ours.

use super::{Sides, ensure_topics};
use crate::kafka::{Tools, unique};
use crate::process::Process;
use crate::programs::{PATIENCE, command};
use std::collections::BTreeMap;
use tidewatch_client::{Client, Event, NewTopic, StartAt};

/// The collector's topics.
pub const TOPICS: [&str; 2] = ["cpu-monitor", "mem-monitor"];

/// One record as ConsoleConsumer prints it.
#[derive(Debug, Clone, PartialEq)]
pub struct Printed {
    /// `Partition:` and its number.
    pub partition: String,
    /// Its offset.
    pub offset: u64,
    /// Milliseconds.
    pub timestamp_ms: i64,
    /// By name.
    pub headers: BTreeMap<String, String>,
    /// As text.
    pub key: String,
    /// As text.
    pub value: String,
}

impl Printed {
    /// The window of a result: its start and end in milliseconds.
    ///
    /// # Panics
    /// If it is no result of a window.
    pub fn window_ms(&self) -> (i64, i64) {
        let (start, end) = self.headers["tw.window"]
            .split_once('/')
            .expect("start/end");
        (start.parse().unwrap(), end.parse().unwrap())
    }
}

/// What a topic holds of `host`, as ConsoleConsumer reads it.
pub fn printed(tools: &Tools, topic: &str, host: &str) -> Vec<Printed> {
    let lines = tools.console_consume(topic, "read_committed");
    let mut records: Vec<_> = lines.iter().map(|line| parse(line)).collect();
    records.retain(|record| record.key == host);
    records
}

fn parse(line: &str) -> Printed {
    // CreateTime:… TAB Partition:… TAB Offset:… TAB name:value,… TAB key TAB value
    let fields: Vec<_> = line.split('\t').collect();
    let [time, partition, offset, headers, key, value] = fields[..] else {
        panic!("an unexpected line: {line}")
    };
    let headers = headers.split(',').filter_map(|pair| pair.split_once(':'));
    Printed {
        timestamp_ms: time
            .strip_prefix("CreateTime:")
            .expect(line)
            .parse()
            .expect(line),
        partition: partition.to_owned(),
        offset: offset
            .strip_prefix("Offset:")
            .expect(line)
            .parse()
            .expect(line),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

/// A collector for `host`.
pub fn collector(sides: Sides<'_>, host: &str, interval: &str) -> Process {
    let mut command = command("tidewatch-collector");
    command.args([host, "-b", sides.ours, "--interval", interval]);
    Process::start("tidewatch-collector", command)
}

/// An aggregator with windows of two seconds.
pub fn aggregator(sides: Sides<'_>, group: &str) -> Process {
    let mut command = command("tidewatch-aggregator");
    command
        .args(["-b", sides.ours, "--group", group])
        .args(["--window", "2s", "--delay", "1s"]);
    Process::start("tidewatch-aggregator", command)
}

/// Waits until the aggregator prints `rows` rows of `host` after line `from`; returns the line after
/// the last of them.
///
/// # Panics
/// If one takes too long to come.
pub fn await_rows(aggregator: &Process, from: usize, rows: usize, host: &str) -> usize {
    (0..rows).fold(from, |from, _| {
        let row = aggregator.wait_for_line_from(from, PATIENCE, "row of a table", |line| {
            !line.stderr && line.text.contains(host)
        });
        row.0 + 1
    })
}

/// Ends a program as an operator does.
///
/// # Panics
/// If it does not end well.
pub fn terminate(process: &mut Process) {
    process.signal("TERM");
    assert!(process.wait(PATIENCE).success(), "{}", process.stderr());
}

/// Creates the collector's topics where they are not.
pub async fn ensure_sample_topics(client: &Client) {
    let topics = TOPICS.map(|topic| NewTopic::new(topic, 1).replication(1));
    ensure_topics(client, topics.into()).await;
}

/// Waits until `count` more samples of `host` have come to each topic.
///
/// # Panics
/// If they take too long.
pub async fn await_samples(client: &Client, host: &str, count: usize) {
    let cluster = client.cluster(&TOPICS).await.unwrap();
    let mut consumer = client.consumer().await.unwrap();
    let partitions = TOPICS.into_iter().flat_map(|topic| {
        let count = cluster.partition_count(topic).expect("the topic is there");
        (0..count as i32).map(move |partition| (topic, partition, StartAt::Latest))
    });
    consumer.assign(partitions).await.unwrap();
    let mut missing = BTreeMap::from(TOPICS.map(|topic| (topic.to_owned(), count)));
    let all_come = async {
        while missing.values().any(|count| *count > 0) {
            let Event::Records(mut records) = consumer.next().await.unwrap() else {
                continue;
            };
            let topic = records.topic_partition().topic.to_string();
            while let Some(record) = records.next_ref() {
                if record.unwrap().key == Some(host.as_bytes()) {
                    let count = missing.get_mut(&topic).expect("a topic of ours");
                    *count = count.saturating_sub(1);
                }
            }
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, all_come).await;
    assert!(
        in_time.is_ok(),
        "samples of {host} do not come: {missing:?}"
    );
}

/// Every sequence from 0 to the last, once each, in order; each value a percentage, each time a tick.
///
/// # Panics
/// If not.
pub fn assert_whole(records: &[Printed]) {
    for (at, record) in records.iter().enumerate() {
        let value: f64 = record.value.parse().expect("a number");
        assert!((0.0..=100.0).contains(&value), "{record:?}");
        let tag: Vec<_> = record.headers["tw"].split('.').collect();
        assert_eq!(
            tag[1].parse::<usize>().unwrap(),
            at,
            "a sample is missing or double: {record:?}"
        );
        let interval: i64 = tag[2].parse().unwrap();
        assert_eq!(
            record.timestamp_ms % interval,
            0,
            "not a tick of the wall clock: {record:?}"
        );
    }
}

/// Windows of two seconds without a gap between them, all but the first whole with 4 samples, none
/// final twice with different content.
///
/// # Panics
/// If not.
pub fn assert_windows(results: &[Printed]) {
    let mut windows: BTreeMap<(i64, i64), &Printed> = BTreeMap::new();
    for result in results {
        if let Some(before) = windows.insert(result.window_ms(), result) {
            assert_eq!(
                (&before.value, &before.headers, before.timestamp_ms),
                (&result.value, &result.headers, result.timestamp_ms),
                "a final window changed"
            );
        }
    }
    let starts: Vec<i64> = windows.keys().map(|(start, _)| *start).collect();
    for pair in starts.windows(2) {
        assert_eq!(pair[1] - pair[0], 2000, "a window is missing");
    }
    for (window, result) in windows.iter().skip(1) {
        assert_eq!(result.headers["tw.samples"], "4/4", "{window:?}");
    }
}

/// Collector to result topic, everything running at once: no sample and no window is missing.
///
/// # Panics
/// If one is.
pub async fn samples_become_windows(sides: Sides<'_>) {
    let host = unique("web");
    ensure_sample_topics(&sides.client(&[])).await;
    let mut collector = collector(sides, &host, "500ms");
    let mut aggregator = aggregator(sides, &unique("windows"));
    // Three of each topic.
    await_rows(&aggregator, 0, 6, &host);
    terminate(&mut collector);
    terminate(&mut aggregator);
    for topic in TOPICS {
        let samples = printed(sides.javas, topic, &host);
        assert!(samples.len() >= 12, "{topic}: {} samples", samples.len());
        assert_whole(&samples);
        let results = printed(sides.javas, &format!("{topic}-agg-result"), &host);
        assert!(results.len() >= 2, "{topic}: {} windows", results.len());
        assert_windows(&results);
    }
}

/// Records of ConsoleProducer, without headers, as anybody's program may write them.
///
/// # Panics
/// If a mean is not the one computed by hand.
pub async fn javas_records_give_the_mean_by_hand(sides: Sides<'_>) {
    let topic = unique("by-hand");
    let new = NewTopic::new(&topic, 1).replication(1);
    ensure_topics(&sides.client(&[]), vec![new]).await;
    sides.javas.console_produce(
        &topic,
        &["parse.key=true", "key.separator=="],
        &[],
        "host-a=12.5\nhost-b=80\nhost-a=14.163090128755\nhost-a=0.1\nhost-b=5.0E-4\n",
    );
    let mut command = command("tidewatch-aggregator");
    command
        .args(["-b", sides.ours, "--topic", &topic, "--group", &topic])
        .args(["--available-now", "--running"]);
    let mut aggregator = Process::start("tidewatch-aggregator", command);
    aggregator.close_stdin();
    assert!(
        aggregator.wait(PATIENCE).success(),
        "{}",
        aggregator.stderr()
    );
    let table = aggregator.stdout();
    // (12.5 + 14.163090128755 + 0.1) / 3 and (80 + 0.0005) / 2, exactly, to the nearest double.
    for (host, mean) in [("host-a", "8.921030042918334"), ("host-b", "40.00025")] {
        assert!(
            table.lines().any(|l| l.contains(host) && l.contains(mean)),
            "{host} {mean}:\n{table}"
        );
        let results = printed(sides.javas, &format!("{topic}-agg-result"), host);
        let last = results
            .last()
            .unwrap_or_else(|| panic!("no result for {host}"));
        assert_eq!(last.value, mean);
        assert_eq!(last.headers["tw.window"], "all");
    }
}
