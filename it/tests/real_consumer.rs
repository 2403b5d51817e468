//! What only a real broker can show of a consumer: logs that begin elsewhere, that have gaps, that
//! hold aborted records; sessions that are denied and lost; offsets as Kafka's own tools tell them.

use std::time::{Duration, Instant};
use tidewatch_client::options::Options;
use tidewatch_client::{Client, Consumer, ErrorCode, Event, Producer, ProducerRecord, StartAt};
use tidewatch_client::{Error, NewTopic, TopicPartition};
use tidewatch_it::kafka::{Kafka, Version, skips_on_foreign_cluster};
use tidewatch_it::process::Process;
use tidewatch_it::programs::Devbroker;

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a bounded time for what must come.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let within = tokio::time::timeout(PATIENCE, future).await;
    within.unwrap_or_else(|_| panic!("{what} did not come"))
}

fn client(kafka: &Kafka, settings: &[(&str, &str)]) -> Client {
    let mut options = Options::default();
    options.set("bootstrap.servers", kafka.bootstrap()).unwrap();
    for (name, value) in settings {
        options.set(name, value).unwrap();
    }
    Client::spawn(options).unwrap()
}

async fn create(kafka: &Kafka, topic: NewTopic) {
    let created = client(kafka, &[]).create_topics(vec![topic]).await.unwrap();
    assert!(
        created.iter().all(|(_, result)| result.is_ok()),
        "{created:?}"
    );
}

async fn consumer(kafka: &Kafka, settings: &[(&str, &str)]) -> Consumer {
    client(kafka, settings).consumer().await.unwrap()
}

async fn reading(
    kafka: &Kafka,
    topic: &str,
    start: StartAt,
    settings: &[(&str, &str)],
) -> Consumer {
    let consumer = consumer(kafka, settings).await;
    consumer.assign([(topic, 0, start)]).await.unwrap();
    consumer
}

/// Each value to the partition, one batch each.
async fn write(
    producer: &Producer,
    topic: &str,
    partition: i32,
    values: impl IntoIterator<Item = String>,
) {
    for value in values {
        let record = ProducerRecord::to(topic)
            .partition(partition)
            .key("key")
            .value(&value);
        let delivery = producer.send(record).await.unwrap();
        producer.flush().await.unwrap();
        delivery.await.unwrap();
    }
}

fn numbered(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| number.to_string())
}

/// A record as these tests look at it.
type Seen = (i64, i64, String);

/// Offset, time and value of what comes until the consumer has caught up.
async fn read_to_end(consumer: &mut Consumer) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        match soon("the end", consumer.next()).await.unwrap() {
            Event::Records(mut records) => {
                while let Some(record) = records.next_ref() {
                    let record = record.unwrap();
                    let value = String::from_utf8(record.value.unwrap_or_default().to_vec());
                    seen.push((record.offset, record.timestamp_ms, value.unwrap()));
                }
            }
            Event::CaughtUp(_) => return seen,
            Event::Rebalance(_) => {}
        }
    }
}

fn offsets(seen: &[Seen]) -> Vec<i64> {
    seen.iter().map(|(offset, _, _)| *offset).collect()
}

/// What GetOffsetShell says of partition 0.
fn offset_by_tool(kafka: &Kafka, topic: &str, time: &str) -> i64 {
    let class = "org.apache.kafka.tools.GetOffsetShell";
    let (stdout, stderr) = kafka
        .tools()
        .run(class, &["--topic", topic, "--time", time], "");
    let prefix = format!("{topic}:0:");
    let line = stdout.lines().find_map(|line| line.strip_prefix(&prefix));
    let offset = line.unwrap_or_else(|| panic!("no offset: {stdout}{stderr}"));
    offset.parse().unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn what_only_a_real_broker_can_show() {
    if skips_on_foreign_cluster("a consumer's logs, quotas and sessions: it restarts the broker") {
        return;
    }
    let mut kafka = Kafka::single(
        Version::V4_3,
        &[
            "max.incremental.fetch.session.cache.slots=1",
            "log.cleaner.backoff.ms=200",
            "log.retention.ms=-1",
            "quota.window.num=2",
        ],
    );
    let producer = client(&kafka, &[("linger.ms", "0")])
        .producer()
        .await
        .unwrap();
    line_25_a_deleted_start_resets_the_position_as_configured(&kafka, &producer).await;
    line_20_compaction_leaves_gaps_that_the_position_passes(&kafka, &producer).await;
    line_23_log_append_time_is_every_records_time(&kafka, &producer).await;
    line_22_aborted_records_are_seen_by_the_uncommitted_only(&kafka).await;
    line_51_lag_and_offsets_are_those_of_kafkas_own_tool(&kafka, &producer).await;
    line_27_a_paused_partition_keeps_what_it_has(&kafka, &producer).await;
    line_42_a_throttled_consumer_reads_everything_and_sees_no_failure(&kafka, &producer).await;
    line_24_denied_sessions_cost_nothing_but_bytes(&kafka, &producer).await;
    line_24_javas_consumer_keeps_a_session_with_our_own_broker(&kafka).await;
    line_24_a_restarted_broker_has_lost_the_session(&mut kafka, &producer).await;
}

async fn line_25_a_deleted_start_resets_the_position_as_configured(
    kafka: &Kafka,
    producer: &Producer,
) {
    create(kafka, NewTopic::new("trimmed", 1)).await;
    write(producer, "trimmed", 0, numbered(10)).await;
    let json = r#"{"partitions":[{"topic":"trimmed","partition":0,"offset":6}],"version":1}"#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("offsets.json");
    std::fs::write(&file, json).unwrap();
    let file = file.to_str().unwrap();
    let class = "org.apache.kafka.tools.DeleteRecordsCommand";
    let (said, _) = kafka.tools().run(class, &["--offset-json-file", file], "");
    assert!(said.contains("low_watermark: 6"), "{said}");

    let earliest = [("auto.offset.reset", "earliest")];
    let mut reader = reading(kafka, "trimmed", StartAt::Offset(2), &earliest).await;
    assert_eq!(offsets(&read_to_end(&mut reader).await), [6, 7, 8, 9]);
    let none = [("auto.offset.reset", "none")];
    let mut reader = reading(kafka, "trimmed", StartAt::Offset(2), &none).await;
    let error = soon("an error", reader.next()).await.unwrap_err();
    let code = ErrorCode::OFFSET_OUT_OF_RANGE;
    assert!(
        matches!(&error, Error::Broker { code: c, .. } if *c == code),
        "{error}"
    );
    let trimmed = TopicPartition::new("trimmed", 0);
    reader.seek(&trimmed, StartAt::Offset(8)).await.unwrap();
    assert_eq!(offsets(&read_to_end(&mut reader).await), [8, 9]);
}

/// Compaction comes when it likes: written and read until it has.
async fn line_20_compaction_leaves_gaps_that_the_position_passes(
    kafka: &Kafka,
    producer: &Producer,
) {
    let topic = NewTopic::new("compacted", 1)
        .config("cleanup.policy", "compact")
        .config("segment.ms", "300")
        .config("min.cleanable.dirty.ratio", "0.01");
    create(kafka, topic).await;
    let began = Instant::now();
    let mut written = 0;
    loop {
        assert!(began.elapsed() < PATIENCE, "nothing was compacted");
        write(producer, "compacted", 0, numbered(2)).await;
        written += 2;
        let mut reader = reading(kafka, "compacted", StartAt::Earliest, &[]).await;
        let seen = offsets(&read_to_end(&mut reader).await);
        assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
        assert_eq!(seen.last(), Some(&(written - 1)));
        let compacted = TopicPartition::new("compacted", 0);
        assert_eq!(reader.position(&compacted), Some(written));
        if seen.len() < usize::try_from(written).unwrap() {
            // In the middle of what is gone, too.
            let gap = (0..written).find(|offset| !seen.contains(offset)).unwrap();
            reader.seek(&compacted, StartAt::Offset(gap)).await.unwrap();
            let after = seen.iter().filter(|offset| **offset > gap).copied();
            assert_eq!(
                offsets(&read_to_end(&mut reader).await),
                after.collect::<Vec<_>>()
            );
            return;
        }
    }
}

async fn line_23_log_append_time_is_every_records_time(kafka: &Kafka, producer: &Producer) {
    let topic = NewTopic::new("stamped", 1);
    create(
        kafka,
        topic.config("message.timestamp.type", "LogAppendTime"),
    )
    .await;
    for value in numbered(3) {
        let record = ProducerRecord::to("stamped").partition(0).timestamp_ms(7);
        drop(producer.send(record.value(&value)).await.unwrap());
    }
    producer.flush().await.unwrap();
    let mut reader = reading(kafka, "stamped", StartAt::Earliest, &[]).await;
    let seen = read_to_end(&mut reader).await;
    assert_eq!(seen.len(), 3);
    let year_2020_ms = 1_577_836_800_000;
    assert!(
        seen.iter().all(|(_, at_ms, _)| *at_ms > year_2020_ms),
        "{seen:?}"
    );
}

async fn line_22_aborted_records_are_seen_by_the_uncommitted_only(kafka: &Kafka) {
    create(kafka, NewTopic::new("undecided", 1)).await;
    let mut java = kafka.tools().java_program("CommitsAndAborts.java");
    java.args([kafka.bootstrap(), "undecided", "6"]);
    let mut java = Process::start("CommitsAndAborts", java);
    java.close_stdin();
    assert!(java.wait(PATIENCE).success(), "{}", java.stderr());

    // Three records and a marker each.
    let end = 6 * 4;
    let undecided = TopicPartition::new("undecided", 0);
    let committed = |isolation: &'static str| async move {
        let settings = [("isolation.level", isolation)];
        let mut reader = reading(kafka, "undecided", StartAt::Earliest, &settings).await;
        let seen = read_to_end(&mut reader).await;
        assert_eq!(
            reader.position(&TopicPartition::new("undecided", 0)),
            Some(end)
        );
        assert_eq!(reader.lag(&TopicPartition::new("undecided", 0)), Some(0));
        seen
    };
    let all = committed("read_uncommitted").await;
    assert_eq!(all.len(), 18);
    let decided = committed("read_committed").await;
    assert_eq!(decided.len(), 9);
    let is_committed = |value: &str| value.starts_with("committed ");
    assert!(
        decided.iter().all(|(_, _, value)| is_committed(value)),
        "{decided:?}"
    );
    let expected: Vec<Seen> = all
        .into_iter()
        .filter(|(_, _, v)| is_committed(v))
        .collect();
    assert_eq!(decided, expected);
    // From within an aborted transaction, too.
    let settings = [("isolation.level", "read_committed")];
    let mut reader = reading(kafka, "undecided", StartAt::Offset(9), &settings).await;
    assert_eq!(
        offsets(&read_to_end(&mut reader).await),
        [12, 13, 14, 20, 21, 22]
    );
    assert_eq!(reader.lag(&undecided), Some(0));
}

async fn line_51_lag_and_offsets_are_those_of_kafkas_own_tool(kafka: &Kafka, producer: &Producer) {
    create(kafka, NewTopic::new("measured", 1)).await;
    for (at_ms, value) in (0..9).zip(numbered(9)) {
        let record = ProducerRecord::to("measured").partition(0);
        let record = record.timestamp_ms(1_700_000_000_000 + at_ms * 1000);
        drop(producer.send(record.value(&value)).await.unwrap());
    }
    producer.flush().await.unwrap();
    let measured = TopicPartition::new("measured", 0);
    let mut reader = reading(kafka, "measured", StartAt::Earliest, &[]).await;
    let Event::Records(mut records) = soon("records", reader.next()).await.unwrap() else {
        panic!("no records");
    };
    for _ in 0..4 {
        records.next_ref().unwrap().unwrap();
    }
    drop(records);
    let end = offset_by_tool(kafka, "measured", "-1");
    assert_eq!(end, 9);
    assert_eq!(reader.position(&measured), Some(4));
    assert_eq!(reader.lag(&measured), Some(end - 4));
    let asked = [measured.clone()];
    assert_eq!(reader.end_offsets(&asked).await.unwrap()[0].1, end);
    let start = offset_by_tool(kafka, "measured", "-2");
    assert_eq!(reader.beginning_offsets(&asked).await.unwrap()[0].1, start);
    let at_ms = 1_700_000_002_500;
    let by_tool = offset_by_tool(kafka, "measured", &at_ms.to_string());
    let times = [(measured.clone(), at_ms), (measured.clone(), i64::MAX)];
    let found = reader.offsets_for_times(&times).await.unwrap();
    let third = found[0].1.unwrap();
    assert_eq!(
        (third.offset, third.timestamp_ms),
        (by_tool, 1_700_000_003_000)
    );
    assert_eq!(found[1].1, None);
}

async fn line_27_a_paused_partition_keeps_what_it_has(kafka: &Kafka, producer: &Producer) {
    create(kafka, NewTopic::new("paused", 2)).await;
    for partition in 0..2 {
        write(producer, "paused", partition, numbered(3)).await;
    }
    let mut reader = consumer(kafka, &[]).await;
    let both = [
        ("paused", 0, StartAt::Earliest),
        ("paused", 1, StartAt::Earliest),
    ];
    reader.assign(both).await.unwrap();
    let first = TopicPartition::new("paused", 0);
    reader.pause(std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(offsets(&read_to_end(&mut reader).await), [0, 1, 2]);
    assert_eq!(reader.position(&TopicPartition::new("paused", 1)), Some(3));
    assert!(reader.status(&first).unwrap().is_paused);
    reader.resume(std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(offsets(&read_to_end(&mut reader).await), [0, 1, 2]);
    assert_eq!(reader.position(&first), Some(3));
}

async fn line_42_a_throttled_consumer_reads_everything_and_sees_no_failure(
    kafka: &Kafka,
    producer: &Producer,
) {
    create(kafka, NewTopic::new("rationed", 1)).await;
    write(
        producer,
        "rationed",
        0,
        (0..6).map(|n| n.to_string().repeat(10_000)),
    )
    .await;
    let class = "kafka.admin.ConfigCommand";
    let quota = "--alter --entity-type clients --entity-name rationed --add-config \
                 consumer_byte_rate=20000";
    let arguments: Vec<&str> = quota.split_whitespace().collect();
    let (said, errors) = kafka.tools().run(class, &arguments, "");
    assert!(said.contains("Completed updating config"), "{said}{errors}");
    let settings = [
        ("client.id", "rationed"),
        ("max.partition.fetch.bytes", "20000"),
        ("fetch.max.wait.ms", "50"),
    ];
    let mut reader = reading(kafka, "rationed", StartAt::Earliest, &settings).await;
    let rationed = TopicPartition::new("rationed", 0);
    let mut seen = Vec::new();
    while seen.len() < 6 {
        seen.extend(offsets(&read_to_end(&mut reader).await));
        assert!(reader.status(&rationed).unwrap().failure.is_none());
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
}

/// The broker has one slot, so at most one of these has a session.
async fn line_24_denied_sessions_cost_nothing_but_bytes(kafka: &Kafka, producer: &Producer) {
    create(kafka, NewTopic::new("shared", 1)).await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push(reading(kafka, "shared", StartAt::Earliest, &[]).await);
    }
    for round in 0..3 {
        write(producer, "shared", 0, numbered(4)).await;
        let expected: Vec<i64> = (round * 4..round * 4 + 4).collect();
        for reader in &mut readers {
            let mut seen = Vec::new();
            while seen.len() < 4 {
                seen.extend(offsets(&read_to_end(reader).await));
            }
            assert_eq!(seen, expected);
        }
    }
}

/// Java reads partition after partition, so each but the first begins by forgetting another.
async fn line_24_javas_consumer_keeps_a_session_with_our_own_broker(kafka: &Kafka) {
    let broker = Devbroker::start(&[]);
    let mut options = Options::default();
    options
        .set("bootstrap.servers", broker.bootstrap())
        .unwrap();
    let client = Client::spawn(options).unwrap();
    client
        .create_topics(vec![NewTopic::new("java", 3)])
        .await
        .unwrap();
    let producer = client.producer().await.unwrap();
    for partition in 0..3 {
        write(&producer, "java", partition, numbered(20)).await;
    }
    let mut java = kafka.tools().java_program("Lines.java");
    java.args(["read", broker.bootstrap(), "java"]);
    // A batch or two in each answer.
    java.args(["max.partition.fetch.bytes=100", "fetch.max.wait.ms=50"]);
    let mut java = Process::start("Lines.java", java);
    java.close_stdin();
    assert!(java.wait(PATIENCE).success(), "{}", java.stderr());
    assert!(!java.stderr().contains("session"), "{}", java.stderr());
    let read = java.stdout();
    let place = |line: &str| line.splitn(3, '\t').take(2).collect::<Vec<_>>().join("\t");
    let places: Vec<String> = read.lines().map(place).collect();
    let expected: Vec<String> = (0..3)
        .flat_map(|partition| (0..20).map(move |offset| format!("{offset}\t{partition}")))
        .collect();
    assert_eq!(places, expected);
}

async fn line_24_a_restarted_broker_has_lost_the_session(kafka: &mut Kafka, producer: &Producer) {
    create(kafka, NewTopic::new("outlasting", 1)).await;
    write(producer, "outlasting", 0, numbered(3)).await;
    let mut reader = reading(kafka, "outlasting", StartAt::Earliest, &[]).await;
    assert_eq!(offsets(&read_to_end(&mut reader).await), [0, 1, 2]);
    kafka.kill(1);
    kafka.restart(1);
    write(producer, "outlasting", 0, numbered(3)).await;
    let mut records = reader.records();
    for expected in 3..6 {
        let next = soon("a record", records.next()).await.unwrap().unwrap();
        assert_eq!(next.record.offset, expected);
        assert_eq!(next.partition, TopicPartition::new("outlasting", 0));
    }
}
