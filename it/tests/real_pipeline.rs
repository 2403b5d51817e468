//! The whole line on a real Kafka: collector, topics, aggregator, with Kafka's own tools as the other
//! side.

use std::collections::BTreeMap;
use std::time::Duration;
use tidewatch_it::kafka::{Kafka, Version};
use tidewatch_it::process::Process;
use tidewatch_it::programs::{PATIENCE, command};

const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const TOPICS: [&str; 2] = ["cpu-monitor", "mem-monitor"];

/// One record as ConsoleConsumer prints it.
#[derive(Debug, Clone, PartialEq)]
struct Printed {
    partition: String,
    offset: u64,
    timestamp_ms: i64,
    headers: BTreeMap<String, String>,
    key: String,
    value: String,
}

fn printed(kafka: &Kafka, topic: &str) -> Vec<Printed> {
    kafka
        .console_consume(topic, "read_committed")
        .iter()
        .map(|line| parse(line))
        .collect()
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

fn collector(kafka: &Kafka, host: &str, interval: &str) -> Process {
    let mut command = command("tidewatch-collector");
    command.args([host, "-b", kafka.bootstrap(), "--interval", interval]);
    Process::start("tidewatch-collector", command)
}

/// Runs an aggregator to its end and returns what it printed.
fn aggregate_available(kafka: &Kafka, group: &str, more: &[&str]) -> String {
    let mut command = command("tidewatch-aggregator");
    command
        .args(["-b", kafka.bootstrap(), "--available-now", "--group", group])
        .args(more);
    let mut process = Process::start("tidewatch-aggregator", command);
    process.close_stdin();
    let status = process.wait(PATIENCE);
    assert!(status.success(), "{}", process.stderr());
    process.stdout()
}

/// Every sequence from 0 to the last, once each, in order; each value a percentage.
fn assert_whole(records: &[Printed], host: &str) {
    for (at, record) in records.iter().enumerate() {
        assert_eq!(record.key, host);
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

fn create_topics(kafka: &Kafka) {
    for topic in TOPICS {
        kafka.create_topic(topic, 1, &[]);
    }
}

#[test]
fn thirty_seconds_of_samples_reach_javas_consumer_without_a_gap() {
    let kafka = Kafka::single(Version::V4_3, &[]);
    create_topics(&kafka);
    let mut collector = collector(&kafka, "web-1", "2s");
    // 15 ticks of two seconds; awaited, not slept.
    for topic in TOPICS {
        kafka.run_tool(
            CONSUMER,
            &[
                "--topic",
                topic,
                "--from-beginning",
                "--max-messages",
                "15",
                "--timeout-ms",
                "60000",
            ],
            "",
        );
    }
    collector.signal("TERM");
    assert!(collector.wait(PATIENCE).success(), "{}", collector.stderr());
    for topic in TOPICS {
        let records = printed(&kafka, topic);
        assert!(records.len() >= 15, "{topic}: {} records", records.len());
        assert_whole(&records, "web-1");
    }
}

#[test]
fn records_of_javas_producer_without_headers_give_the_mean_computed_by_hand() {
    let kafka = Kafka::single(Version::V4_3, &[]);
    create_topics(&kafka);
    let keyed = [
        "--topic",
        "cpu-monitor",
        "--reader-property",
        "parse.key=true",
        "--reader-property",
        "key.separator==",
    ];
    kafka.run_tool(
        PRODUCER,
        &keyed,
        "host-a=12.5\nhost-b=80\nhost-a=14.163090128755\nhost-a=0.1\nhost-b=5.0E-4\n",
    );
    let table = aggregate_available(&kafka, "by-hand", &["--running"]);
    // (12.5 + 14.163090128755 + 0.1) / 3 and (80 + 0.0005) / 2, exactly, to the nearest double.
    let by_hand = BTreeMap::from([("host-a", "8.921030042918334"), ("host-b", "40.00025")]);
    let results = printed(&kafka, "cpu-monitor-agg-result");
    for (host, mean) in by_hand {
        assert!(
            table.lines().any(|l| l.contains(host) && l.contains(mean)),
            "{host} {mean}:\n{table}"
        );
        let last = results
            .iter()
            .rfind(|r| r.key == host)
            .unwrap_or_else(|| panic!("no result for {host}"));
        assert_eq!(last.value, mean);
        assert_eq!(last.headers["tw.window"], "all");
    }
}

#[test]
fn a_killed_broker_costs_no_sample_and_doubles_none() {
    let outage = Duration::from_secs(20);
    let mut kafka = Kafka::single(Version::V4_3, &[]);
    create_topics(&kafka);
    let mut collector = collector(&kafka, "web-1", "500ms");
    let mut command = command("tidewatch-aggregator");
    command.args([
        "-b",
        kafka.bootstrap(),
        "--window",
        "2s",
        "--delay",
        "1s",
        "--group",
        "survivor",
    ]);
    let mut aggregator = Process::start("tidewatch-aggregator", command);
    let has_row = |process: &Process, from: usize| {
        process
            .wait_for_line_from(from, PATIENCE, "row of a table", |l| {
                !l.stderr && l.text.contains("web-1")
            })
            .0
    };
    has_row(&aggregator, 0);
    for _ in 0..3 {
        kafka.kill(1);
        collector.assert_runs_for(outage);
        kafka.restart(1);
        // Rows of after the restart: what was printed before it does not count.
        let seen = aggregator.lines().len();
        has_row(&aggregator, seen);
    }
    collector.signal("TERM");
    assert!(collector.wait(PATIENCE).success(), "{}", collector.stderr());
    aggregator.signal("TERM");
    assert!(
        aggregator.wait(PATIENCE).success(),
        "{}",
        aggregator.stderr()
    );
    for topic in TOPICS {
        let records = printed(&kafka, topic);
        assert!(records.len() > 120, "{topic}: {} records", records.len());
        assert_whole(&records, "web-1");
        // No window was lost, none was final twice with different content.
        let mut windows: BTreeMap<String, Printed> = BTreeMap::new();
        for result in printed(&kafka, &format!("{topic}-agg-result")) {
            let window = result.headers["tw.window"].clone();
            if let Some(before) = windows.insert(window, result.clone()) {
                assert_eq!(
                    (before.value, before.headers),
                    (result.value, result.headers),
                    "a final window changed"
                );
            }
        }
        let starts: Vec<i64> = windows
            .keys()
            .map(|w| w.split('/').next().unwrap().parse().unwrap())
            .collect();
        for pair in starts.windows(2) {
            assert_eq!(pair[1] - pair[0], 2000, "{topic}: a window is missing");
        }
        for (window, result) in windows.iter().skip(1) {
            assert_eq!(result.headers["tw.samples"], "4/4", "{topic} {window}");
        }
    }
}
