//! What cannot be read or believed is counted, kept with its reason, and passed over; the same input
//! gives the same bytes.

use super::{Sides, ensure_topics};
use crate::kafka::{Tools, unique};
use crate::process::Process;
use crate::programs::{PATIENCE, command};
use std::collections::BTreeMap;
use tidewatch_client::{Client, ErrorCode, NewTopic, ProducerRecord};

const START_MS: i64 = 1_700_000_000_000;
const YEAR_2100_MS: i64 = 4_102_444_800_000;
const PARTITIONS: i32 = 2;

/// The same bad and good records worked through twice.
///
/// # Panics
/// If one is lost, lacks its reason, or gives other bytes the second time.
pub async fn are_kept_with_their_reasons(sides: Sides<'_>) {
    let client = sides.client(&[]);
    let input = unique("rejects");
    let outputs = ["agg-result", "rejected"].map(|what| format!("{input}-{what}"));
    // The records' times lie years back: a broker would soon delete what bears them.
    let topic = |name: &String| {
        let topic = NewTopic::new(name, PARTITIONS).replication(1);
        topic.config("retention.ms", "-1")
    };
    // Brokers refuse times over an hour ahead unless told otherwise (KIP-1030).
    let roomy = topic(&input)
        .config("max.message.bytes", "4194304")
        .config("message.timestamp.after.max.ms", "9223372036854775807");
    let [results, rejects] = outputs.each_ref().map(topic);
    ensure_topics(&client, vec![roomy, results, rejects]).await;
    let mut expected: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in write_input(&client, &input).await {
        *expected.entry(reason).or_default() += 1;
    }

    let said = aggregate(sides, &input, &unique("first"));
    let first = outputs.each_ref().map(|topic| contents(sides.javas, topic));
    let [results, rejects] = &first;
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for line in rejects {
        let reason = reason_of(line);
        *found.entry(reason).or_default() += 1;
        assert!(
            said.contains(reason),
            "the log does not say {reason}: {said}"
        );
    }
    assert_eq!(found, expected);
    let longest = rejects.iter().map(String::len).max().unwrap();
    assert!(longest < 70_000, "a reject holds {longest} bytes");
    let is_final = |line: &&String| line.contains("tw.emit:final");
    let finals = results.iter().filter(is_final).count();
    assert!(finals >= 4 * 4, "{results:?}");

    aggregate(sides, &input, &unique("second"));
    for (topic, once) in outputs.iter().zip(first) {
        let twice = contents(sides.javas, topic);
        assert_eq!(twice.len(), 2 * once.len(), "{topic}");
        assert_eq!(
            twice[once.len()..],
            once,
            "{topic}: the second run wrote something else"
        );
    }
}

/// Hosts' ticks with everything in between that an operator's topic may hold, and the reason that
/// each bad record is to have.
async fn write_input(client: &Client, topic: &str) -> Vec<&'static str> {
    let digits = "7".repeat(900 * 1024);
    let bad: [(Option<&str>, Option<&str>, i64, &'static str); 12] = [
        (Some("a"), Some("abc"), START_MS + 4_000, "not-a-number"),
        (Some("a"), Some("NaN"), START_MS + 4_000, "nan"),
        (Some("a"), Some("inf"), START_MS + 4_000, "infinite"),
        (Some("a"), Some("-1"), START_MS + 4_000, "below-range"),
        (Some("a"), Some("1e999"), START_MS + 4_000, "overflow"),
        (Some("a"), Some(""), START_MS + 4_000, "empty-value"),
        (Some("a"), None, START_MS + 4_000, "no-value"),
        (Some("a"), Some(&digits), START_MS + 4_000, "long-value"),
        (None, Some("5"), START_MS + 4_000, "no-host"),
        (Some("a"), Some("300"), START_MS + 4_000, "above-range"),
        (Some("a"), Some("5"), -1, "no-timestamp"),
        (Some("a"), Some("5"), YEAR_2100_MS, "future"),
    ];
    let producer = client.producer().await.unwrap();
    let mut deliveries = Vec::new();
    let good = |tick: i64| {
        ["a", "b", "c", "d"].map(|host| {
            (
                Some(host),
                START_MS + tick * 2_000,
                format!("{}.5", tick % 90),
            )
        })
    };
    for (host, at_ms, value) in (0..3).flat_map(good) {
        let record = ProducerRecord::to(topic).partition(0).timestamp_ms(at_ms);
        deliveries.push(
            producer
                .send(record.key(host.unwrap()).value(&value))
                .await
                .unwrap(),
        );
    }
    for (key, value, at_ms, _) in bad {
        let mut record = ProducerRecord::to(topic).partition(0).timestamp_ms(at_ms);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.value(value);
        }
        deliveries.push(producer.send(record).await.unwrap());
    }
    for (host, at_ms, value) in (3..30).flat_map(good) {
        let record = ProducerRecord::to(topic).partition(0).timestamp_ms(at_ms);
        deliveries.push(
            producer
                .send(record.key(host.unwrap()).value(&value))
                .await
                .unwrap(),
        );
    }
    producer.flush().await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    bad.map(|(_, _, _, reason)| reason).to_vec()
}

fn aggregate(sides: Sides<'_>, topic: &str, group: &str) -> String {
    let mut command = command("tidewatch-aggregator");
    command
        .args(["-b", sides.ours, "--topic", topic])
        .args(["--available-now", "--group", group]);
    let mut process = Process::start("tidewatch-aggregator", command);
    process.close_stdin();
    assert!(process.wait(PATIENCE).success(), "{}", process.stderr());
    process.stderr()
}

/// A topic as ConsoleConsumer prints it, partition by partition, offsets left out.
fn contents(tools: &Tools, topic: &str) -> Vec<String> {
    let mut lines = tools.console_consume(topic, "read_committed");
    lines.retain(|line| line.contains("Partition:"));
    let without_offset = |line: String| {
        let fields = line
            .split('\t')
            .filter(|field| !field.starts_with("Offset:"));
        fields.collect::<Vec<_>>().join("\t")
    };
    lines.into_iter().map(without_offset).collect()
}

fn reason_of(line: &str) -> &str {
    let headers = line
        .split('\t')
        .find(|field| field.contains("tw.reason:"))
        .expect("a reject has headers");
    let reason = headers
        .split(',')
        .find_map(|header| header.strip_prefix("tw.reason:"));
    reason.expect("a reject has a reason")
}

/// Brokers say which records of a batch they refused it for (KIP-467): the others are written.
///
/// # Panics
/// If one is lost with it, or the wrong one written.
pub async fn a_wrong_time_takes_none_with_it(sides: Sides<'_>) {
    let topic = unique("wrong-times");
    // So small that batches are refused while others are in flight behind them.
    let client = sides.client(&[("batch.size", "500")]);
    let new = NewTopic::new(&topic, 1).replication(1);
    ensure_topics(&client, vec![new.config("retention.ms", "-1")]).await;
    let producer = client.producer().await.unwrap();
    let mut deliveries = Vec::new();
    for tick in 0..400 {
        let wrong = tick % 50 == 7;
        let value = format!("{tick}");
        let record = ProducerRecord::to(&topic).value(&value);
        let at_ms = if wrong { YEAR_2100_MS } else { START_MS + tick };
        let sent = producer.send(record.timestamp_ms(at_ms)).await.unwrap();
        deliveries.push((tick, wrong, sent));
    }
    producer.flush().await.unwrap();
    let mut expected = Vec::new();
    for (tick, wrong, delivery) in deliveries {
        match delivery.await {
            Ok(written) => {
                assert_eq!((written.offset, wrong), (expected.len() as i64, false));
                expected.push(tick.to_string());
            }
            Err(error) => {
                assert!(wrong, "{tick}: {error}");
                assert_eq!(error.code(), Some(ErrorCode::INVALID_TIMESTAMP));
                assert!(!error.possibly_written);
                assert!(
                    error.to_string().contains(&YEAR_2100_MS.to_string()),
                    "{error}"
                );
            }
        }
    }
    assert_eq!(expected.len(), 400 - 8);
    let lines = contents(sides.javas, &topic);
    let values = lines.iter().map(|line| line.rsplit('\t').next().unwrap());
    assert!(values.eq(expected.iter()), "{lines:?}");
}
