//! Each compression, both ways between our client and Java's, field by field; and Kafka's own check of
//! the log that we wrote.

use std::time::Duration;
use tidewatch_client::options::Options;
use tidewatch_client::{Client, Event, ProducerRecord, StartAt};
use tidewatch_it::kafka::{Kafka, Version};
use tidewatch_it::lines::{self, Line, hex};
use tidewatch_it::process::Process;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PARTITIONS: i32 = 3;
/// 100,000 records each way, over all codecs.
const RECORDS_PER_CODEC: usize = 20_000;
const SOAK_RECORDS_PER_CODEC: usize = 100_000;
const LIMIT: Duration = Duration::from_secs(180);

fn records_per_codec() -> usize {
    if std::env::var_os("TIDEWATCH_SOAK").is_some() {
        SOAK_RECORDS_PER_CODEC
    } else {
        RECORDS_PER_CODEC
    }
}

fn client(kafka: &Kafka, properties: &[(&str, &str)]) -> Client {
    let mut options = Options::default();
    options.set("bootstrap.servers", kafka.bootstrap()).unwrap();
    for (name, value) in properties {
        options.set(name, value).unwrap();
    }
    Client::spawn(options).unwrap()
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

fn java(kafka: &Kafka, verb: &str, topic: &str, properties: &[&str], input: &str) -> Vec<String> {
    let mut command = kafka.java_program("Lines.java");
    command
        .args([verb, kafka.bootstrap(), topic])
        .args(properties);
    let mut process = Process::start("Lines.java", command);
    process.write(input);
    process.close_stdin();
    let status = process.wait(LIMIT);
    assert!(status.success(), "{}", process.stderr());
    process.stdout().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "current_thread")]
async fn each_compression_is_read_by_java_as_it_was_written_and_the_other_way_round() {
    // The records' times lie years back: a broker would soon delete what bears them.
    let kafka = Kafka::single(Version::V4_3, &["log.retention.ms=-1"]);
    for (seed, codec) in (1..).zip(CODECS) {
        let records = lines::varied(seed, records_per_codec(), PARTITIONS);
        let want = expected(&records);

        let ours = format!("ours-{codec}");
        kafka.create_topic(&ours, PARTITIONS as u32, &[]);
        let client = client(&kafka, &[("compression.type", codec), ("linger.ms", "5")]);
        write(&client, &ours, &records).await;
        assert_same(
            &format!("{codec}, ours read by Java"),
            &java(&kafka, "read", &ours, &[], ""),
            &want,
        );
        assert_same(
            &format!("{codec}, ours read by ours"),
            &read(&client, &ours, want.len()).await,
            &want,
        );

        let javas = format!("javas-{codec}");
        kafka.create_topic(&javas, PARTITIONS as u32, &[]);
        let input: String = records.iter().map(|line| line.encode() + "\n").collect();
        let sent = java(
            &kafka,
            "write",
            &javas,
            &[&format!("compression.type={codec}"), "linger.ms=5"],
            &input,
        );
        assert_eq!(sent, [format!("SENT {}", records.len())]);
        assert_same(
            &format!("{codec}, Java's read by ours"),
            &read(&client, &javas, want.len()).await,
            &want,
        );
        assert_log_is_valid(&kafka, &ours);
    }
}

/// Kafka's DumpLogSegments finds every batch and record of what we wrote valid.
fn assert_log_is_valid(kafka: &Kafka, topic: &str) {
    for partition in 0..PARTITIONS {
        let file = kafka
            .data_dir()
            .join(format!("{topic}-{partition}/00000000000000000000.log"));
        let mut command = kafka.tool("org.apache.kafka.tools.DumpLogSegments");
        command.args(["--deep-iteration", "--files"]).arg(&file);
        let mut process = Process::start("DumpLogSegments", command);
        process.close_stdin();
        let status = process.wait(LIMIT);
        let (stdout, stderr) = (process.stdout(), process.stderr());
        assert!(status.success(), "{stderr}");
        let valid = stdout
            .lines()
            .filter(|line| line.contains("isvalid: true"))
            .count();
        let invalid = stdout.lines().find(|line| line.contains("isvalid: false"));
        assert!(
            valid > 0 && invalid.is_none(),
            "{topic}-{partition}: {valid} valid batches, {invalid:?}"
        );
        let complaint = stdout
            .lines()
            .chain(stderr.lines())
            .find(|line| line.starts_with("Found") || line.contains("Exception"));
        assert_eq!(complaint, None, "{topic}-{partition}");
    }
}
