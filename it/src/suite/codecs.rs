//! Compressions, both ways between our client and Java's, field by field.

use super::{Sides, ensure_topics};
use crate::kafka::{Tools, unique};
use crate::lines::{self, Line, hex};
use crate::process::Process;
use std::time::Duration;
use tidewatch_client::{Client, Event, NewTopic, ProducerRecord, StartAt};

/// Every codec by Kafka's name.
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Of every topic here.
pub const PARTITIONS: i32 = 3;
/// A JVM reads or writes one topic within this.
const LIMIT: Duration = Duration::from_secs(180);

/// With each codec: what we wrote is read by Java and by us as it was written, and what Java wrote by
/// us. Returns the topics that we wrote.
///
/// # Panics
/// At the first field that differs.
pub async fn both_ways(sides: Sides<'_>, codecs: &[&str], records_per_codec: usize) -> Vec<String> {
    let mut written = Vec::new();
    for (seed, codec) in (1..).zip(codecs) {
        let records = lines::varied(seed, records_per_codec, PARTITIONS);
        let want = expected(&records);
        let client = sides.client(&[("compression.type", codec), ("linger.ms", "5")]);
        let [ours, javas] = ["ours", "javas"].map(|whose| unique(&format!("{whose}-{codec}")));
        // The records' times lie years back: a broker would soon delete what bears them.
        let topic = |name: &String| {
            let topic = NewTopic::new(name, PARTITIONS).replication(1);
            topic.config("retention.ms", "-1")
        };
        ensure_topics(&client, vec![topic(&ours), topic(&javas)]).await;

        write(&client, &ours, &records).await;
        assert_same(
            &format!("{codec}, ours read by Java"),
            &java(sides.javas, "read", &ours, &[], ""),
            &want,
        );
        assert_same(
            &format!("{codec}, ours read by ours"),
            &read(&client, &ours, want.len()).await,
            &want,
        );

        let input: String = records.iter().map(|line| line.encode() + "\n").collect();
        let compression = format!("compression.type={codec}");
        let sent = java(
            sides.javas,
            "write",
            &javas,
            &[&compression, "linger.ms=5"],
            &input,
        );
        assert_eq!(sent, [format!("SENT {}", records.len())]);
        assert_same(
            &format!("{codec}, Java's read by ours"),
            &read(&client, &javas, want.len()).await,
            &want,
        );
        written.push(ours);
    }
    written
}

async fn write(client: &Client, topic: &str, records: &[Line]) {
    let producer = client.producer().await.unwrap();
    let mut deliveries = Vec::new();
    for line in records {
        let mut record = ProducerRecord::to(topic)
            .partition(line.partition)
            .timestamp_ms(line.timestamp_ms);
        if let Some(key) = &line.key {
            record = record.key(key);
        }
        if let Some(value) = &line.value {
            record = record.value(value);
        }
        for (name, value) in &line.headers {
            record = match value {
                Some(value) => record.header(name, value),
                None => record.null_header(name),
            };
        }
        deliveries.push(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
}

/// The topic as `Lines.java read` prints it.
async fn read(client: &Client, topic: &str, count: usize) -> Vec<String> {
    let mut consumer = client.consumer().await.unwrap();
    consumer
        .assign((0..PARTITIONS).map(|partition| (topic, partition, StartAt::Earliest)))
        .await
        .unwrap();
    let mut by_partition = vec![Vec::new(); PARTITIONS as usize];
    let mut seen = 0;
    while seen < count {
        let Event::Records(records) = consumer.next().await.unwrap() else {
            continue;
        };
        let partition = records.topic_partition().partition;
        for record in records {
            let record = record.unwrap();
            let mut text = format!(
                "{}\t{partition}\t{}\t{}\t{}\t",
                record.offset,
                record.timestamp_ms,
                hex(record.key.as_deref()),
                hex(record.value.as_deref())
            );
            for (at, (name, value)) in record.headers.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                text.push_str(&format!(
                    "{comma}{}:{}",
                    hex(Some(&name)),
                    hex(value.as_deref())
                ));
            }
            by_partition[partition as usize].push(text);
            seen += 1;
        }
    }
    by_partition.concat()
}

/// The lines that a topic holds once `records` were written to it in their order.
fn expected(records: &[Line]) -> Vec<String> {
    (0..PARTITIONS)
        .flat_map(|partition| {
            let of_it = records
                .iter()
                .filter(move |line| line.partition == partition);
            of_it
                .enumerate()
                .map(|(offset, line)| format!("{offset}\t{}", line.encode()))
        })
        .collect()
}

#[track_caller]
fn assert_same(what: &str, got: &[String], want: &[String]) {
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got, want, "{what}: line {at}");
    }
    assert_eq!(got.len(), want.len(), "{what}: records");
}

fn java(tools: &Tools, verb: &str, topic: &str, properties: &[&str], input: &str) -> Vec<String> {
    let mut command = tools.java_program("Lines.java");
    command
        .args([verb, tools.bootstrap(), topic])
        .args(properties);
    let mut process = Process::start("Lines.java", command);
    process.write(input);
    process.close_stdin();
    let status = process.wait(LIMIT);
    assert!(status.success(), "{}", process.stderr());
    process.stdout().lines().map(str::to_owned).collect()
}
