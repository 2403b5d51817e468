//! Our transactions and Java's on one Kafka, on both transaction versions: each side's readers of
//! committed data see exactly what the other committed, each fences the other, and a process killed
//! between any two steps leaves nothing hanging.

use std::time::Duration;
use tidewatch_client::options::Options;
use tidewatch_client::{
    Client, Consumer, Error, Event, Fetched, GroupMetadata, OffsetAndMetadata, ProducerRecord,
    Rebalance, StartAt, TopicPartition, TransactionEnd, TransactionalProducer,
};
use tidewatch_it::kafka::{Kafka, Tools, Version};
use tidewatch_it::process::Process;
use tidewatch_it::programs::{Devbroker, path};

const LIMIT: Duration = Duration::from_secs(90);
const STEPS: [&str; 7] = [
    "init", "begin", "send", "flush", "offsets", "commit", "abort",
];

fn client(bootstrap: &str) -> Client {
    let mut options = Options::default();
    options.set("bootstrap.servers", bootstrap).unwrap();
    options.set("isolation.level", "read_committed").unwrap();
    options.set("group.id", "readers").unwrap();
    Client::spawn(options).unwrap()
}

/// `Transactions.java` under a transactional id.
struct Java {
    process: Process,
    seen: usize,
}

impl Java {
    fn start(kafka: &Tools, bootstrap: &str, id: &str, topic: &str) -> Self {
        let mut command = kafka.java_program("Transactions.java");
        command.args([bootstrap, id, topic]);
        let process = Process::start("Transactions.java", command);
        Self { process, seen: 0 }
    }

    /// Takes a step and returns its answer.
    fn step(&mut self, step: &str) -> String {
        self.process.write(&format!("{step}\n"));
        let (at, line) = self
            .process
            .wait_for_line_from(self.seen, LIMIT, step, |line| {
                let text = &line.text;
                !line.stderr && (text.starts_with("ok ") || text.starts_with("failed "))
            });
        self.seen = at + 1;
        line
    }

    #[track_caller]
    fn done(&mut self, step: &str) {
        assert_eq!(
            self.step(step),
            format!("ok {step}"),
            "{}",
            self.process.stderr()
        );
    }

    fn end(mut self) {
        self.process.close_stdin();
        self.process.wait(LIMIT);
    }
}

async fn transact(producer: &mut TransactionalProducer, topic: &str, value: &str, commit: bool) {
    let transaction = producer.begin().await.unwrap();
    let delivery = transaction.send(ProducerRecord::to(topic).value(value));
    let delivery = delivery.await.unwrap();
    transaction.flush().await.unwrap();
    delivery.await.unwrap();
    match commit {
        true => transaction.commit().await.unwrap(),
        false => transaction.abort().await.unwrap(),
    }
}

/// The committed values of a topic with one partition, as our consumer reads them.
async fn committed(client: &Client, topic: &str, last: &str) -> Vec<String> {
    let mut consumer = client.consumer().await.unwrap();
    consumer
        .assign([(topic, 0, StartAt::Earliest)])
        .await
        .unwrap();
    let mut values = Vec::new();
    while values.last().is_none_or(|value| value != last) {
        if let Event::Records(records) = consumer.next().await.unwrap() {
            for record in records {
                let value = record.unwrap().value.unwrap();
                values.push(String::from_utf8(value.to_vec()).unwrap());
            }
        }
    }
    values
}

/// The same as Java's reads them.
fn committed_by_java(kafka: &Tools, topic: &str) -> Vec<String> {
    let lines = kafka.console_consume(topic, "read_committed");
    let value = |line: &String| line.rsplit('\t').next().unwrap_or_default().to_owned();
    lines.iter().map(value).collect()
}

async fn each_reads_what_the_other_committed(kafka: &Tools, topic: &str) {
    let client = client(kafka.bootstrap());
    kafka.create_topic(topic, 1, &[]);
    let mut ours = client.transactional_producer_as(topic).await.unwrap();
    let mut java = Java::start(kafka, kafka.bootstrap(), "java", topic);
    java.done("init");
    for round in 0..3 {
        transact(&mut ours, topic, &format!("ours {round}"), true).await;
        transact(&mut ours, topic, &format!("ours aborted {round}"), false).await;
        java.done("begin");
        java.done(&format!("send java {round}"));
        java.done("commit");
        java.done("begin");
        java.done(&format!("send java aborted {round}"));
        java.done("flush");
        java.done("abort");
        // Dropped: aborted in the background.
        let dropped = ours.begin().await.unwrap();
        drop(
            dropped
                .send(ProducerRecord::to(topic).value("dropped"))
                .await
                .unwrap(),
        );
        dropped.flush().await.unwrap();
        drop(dropped);
    }
    java.end();
    ours.begin().await.unwrap().commit().await.unwrap();
    transact(&mut ours, topic, "last", true).await;
    assert_eq!(
        ours.last_end().await.unwrap(),
        Some(TransactionEnd::Committed)
    );
    let wanted = (0..3).flat_map(|round| [format!("ours {round}"), format!("java {round}")]);
    let wanted: Vec<String> = wanted.chain(["last".to_owned()]).collect();
    assert_eq!(committed(&client, topic, "last").await, wanted);
    assert_eq!(committed_by_java(kafka, topic), wanted);
}

async fn each_fences_the_other(kafka: &Tools, bootstrap: &str, topic: &str) {
    let client = client(bootstrap);
    let mut java = Java::start(kafka, bootstrap, "contested", topic);
    java.done("init");
    java.done("begin");
    java.done("send of a fenced one");
    java.done("flush");
    let mut ours = client.transactional_producer_as("contested").await.unwrap();
    let told = java.step("commit");
    assert!(
        told.contains("Fenced") || told.contains("InvalidProducerEpoch"),
        "{told}"
    );
    java.end();

    let transaction = ours.begin().await.unwrap();
    drop(
        transaction
            .send(ProducerRecord::to(topic).value("fenced"))
            .await
            .unwrap(),
    );
    transaction.flush().await.unwrap();
    let mut java = Java::start(kafka, bootstrap, "contested", topic);
    java.done("init");
    let error = transaction.commit().await.unwrap_err();
    assert!(error.is_fenced(), "{error}");
    let error = ours.begin().await.unwrap_err();
    assert!(error.is_fenced(), "{error}");
    java.done("begin");
    java.done("send by the last");
    java.done("commit");
    java.end();
    assert_eq!(
        committed(&client, topic, "by the last").await,
        ["by the last"]
    );
}

/// Who takes a transactional id over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Successor {
    Ours,
    Java,
}

/// Kills a process of ours after each of its steps; a successor takes its transactional id over.
async fn a_killed_process_leaves_nothing(kafka: &Tools, topic: &str) {
    let client = client(kafka.bootstrap());
    kafka.create_topic(topic, 1, &[]);
    let mut wanted = Vec::new();
    for step in STEPS {
        for successor in [Successor::Ours, Successor::Java] {
            let id = format!("{topic}-{step}-{successor:?}");
            kill_at(kafka, &id, topic, step);
            let value = format!("{id} succeeded");
            match successor {
                Successor::Ours => {
                    let mut ours = client.transactional_producer_as(&id).await.unwrap();
                    transact(&mut ours, topic, &value, true).await;
                }
                Successor::Java => {
                    let mut java = Java::start(kafka, kafka.bootstrap(), &id, topic);
                    java.done("init");
                    java.done("begin");
                    java.done(&format!("send {value}"));
                    java.done("commit");
                    java.end();
                }
            }
            let is_committed = step == "commit";
            if is_committed {
                wanted.extend((0..3).map(|number| format!("{id} killed {number}")));
            }
            wanted.push(value);
            let offset = committed_offset(kafka, &id, topic).await;
            assert_eq!(offset, is_committed.then_some(3), "{id}: killed");
        }
    }
    let last = wanted.last().unwrap().clone();
    assert_eq!(committed(&client, topic, &last).await, wanted);
    assert_eq!(committed_by_java(kafka, topic), wanted);
    let tool = "org.apache.kafka.tools.TransactionsCommand";
    let (hanging, errors) = kafka.run(tool, &["find-hanging", "--broker-id", "1"], "");
    assert_eq!(hanging.trim().lines().count(), 1, "{hanging}{errors}");
    let (listed, _) = kafka.run(tool, &["list"], "");
    assert!(
        listed.contains(topic) && !listed.contains("Ongoing"),
        "{listed}"
    );
}

/// A process of ours that is killed once it has taken this step.
fn kill_at(kafka: &Tools, id: &str, topic: &str, step: &str) {
    let mut command = std::process::Command::new(path("transactor"));
    command.args([kafka.bootstrap(), id, topic, id, step]);
    let mut process = Process::start("transactor", command);
    let last = format!("AT {step}");
    process.wait_for_line(LIMIT, &last, |line| line.text == last);
    process.signal("KILL");
    process.wait(LIMIT);
}

/// What is committed of the topic's one partition in the group `group`, no transaction being open.
async fn committed_offset(kafka: &Tools, group: &str, topic: &str) -> Option<i64> {
    let mut options = Options::default();
    options.set("bootstrap.servers", kafka.bootstrap()).unwrap();
    options.set("group.id", group).unwrap();
    options.set("isolation.level", "read_committed").unwrap();
    let reader = Client::spawn(options).unwrap().consumer().await.unwrap();
    let of = [TopicPartition::new(topic, 0)];
    let offsets = reader.committed(&of).await.unwrap();
    offsets[0].1.as_ref().map(|offset| offset.offset)
}

/// A stale generation is refused, and only aborting goes on.
async fn offsets_of_a_stranger_are_refused(kafka: &Tools, topic: &str) {
    let client = client(kafka.bootstrap());
    let id = format!("{topic}-stranger");
    let mut ours = client.transactional_producer_as(&id).await.unwrap();
    let transaction = ours.begin().await.unwrap();
    let group = GroupMetadata {
        generation_id: 7,
        member_id: "nobody".into(),
        ..GroupMetadata::without_membership("strangers")
    };
    let offset = (TopicPartition::new(topic, 0), OffsetAndMetadata::new(1, -1));
    let error = transaction
        .send_offsets([offset], &group)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("has to be aborted"), "{error}");
    let error = transaction.commit().await.unwrap_err();
    assert!(error.to_string().contains("has to be aborted"), "{error}");
    transact(&mut ours, topic, "after the stranger", true).await;
}

/// A process of the loop from `{topic}-in` to `{topic}-out`.
struct Copier {
    consumer: Consumer,
    producer: TransactionalProducer,
    out: String,
}

impl Copier {
    async fn start(kafka: &Tools, topic: &str, id: &str) -> Self {
        let mut options = Options::default();
        let group = format!("{topic}-copiers");
        for (name, value) in [
            ("bootstrap.servers", kafka.bootstrap()),
            ("isolation.level", "read_committed"),
            ("group.id", &group),
            ("auto.offset.reset", "earliest"),
            ("enable.auto.commit", "false"),
            ("heartbeat.interval.ms", "500"),
        ] {
            options.set(name, value).unwrap();
        }
        let client = Client::spawn(options).unwrap();
        let id = format!("{topic}-{id}");
        let producer = client.transactional_producer_as(&id).await.unwrap();
        let consumer = client.consumer().await.unwrap();
        consumer.subscribe([format!("{topic}-in")]).await.unwrap();
        Self {
            consumer,
            producer,
            out: format!("{topic}-out"),
        }
    }

    async fn copy(&mut self) -> Error {
        loop {
            match self.consumer.next().await {
                Ok(Event::Records(records)) => {
                    if self.transfer(records).await.is_err() {
                        self.consumer.rewind().await.unwrap();
                    }
                }
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    async fn transfer(&mut self, records: Fetched) -> Result<(), Error> {
        let transaction = self.producer.begin().await?;
        for record in records {
            let value = record?.value.unwrap_or_default();
            let record = ProducerRecord::to(&self.out).value(&value);
            let _ = transaction.send(record).await;
        }
        transaction.send_positions(&self.consumer).await?;
        transaction.commit().await
    }
}

/// Line 19: a member whose partitions go while a transaction is made of them cannot commit it, and
/// reads on from what was committed; so does who comes.
async fn a_rebalance_inside_a_transaction_aborts_and_rewinds(kafka: &Tools, topic: &str) {
    let client = client(kafka.bootstrap());
    let (from, to) = (format!("{topic}-in"), format!("{topic}-out"));
    kafka.create_topic(&from, 2, &[]);
    kafka.create_topic(&to, 1, &[]);
    let producer = client.producer().await.unwrap();
    let mut wanted = Vec::new();
    for number in 0..10 {
        let value = format!("input {number}");
        let record = ProducerRecord::to(&from).partition(number % 2);
        let delivery = producer.send(record.value(&value)).await.unwrap();
        delivery.await.unwrap();
        wanted.push(value);
    }

    let mut first = Copier::start(kafka, topic, "first").await;
    let transaction = first.producer.begin().await.unwrap();
    let mut taken = 0;
    while taken < 10 {
        let Event::Records(records) = first.consumer.next().await.unwrap() else {
            continue;
        };
        for record in records {
            let value = record.unwrap().value.unwrap();
            let record = ProducerRecord::to(&first.out).value(&value);
            drop(transaction.send(record).await.unwrap());
            taken += 1;
        }
    }
    let mut second = Copier::start(kafka, topic, "second").await;
    loop {
        let event = first.consumer.next().await.unwrap();
        if matches!(event, Event::Rebalance(Rebalance::Revoking(_))) {
            break;
        }
    }
    let error = transaction.send_positions(&first.consumer).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("has to be aborted"), "{error}");
    drop(transaction);
    first.consumer.rewind().await.unwrap();

    let mut reader = client.consumer().await.unwrap();
    let start = [(to.as_str(), 0, StartAt::Earliest)];
    reader.assign(start).await.unwrap();
    let all = async {
        let mut read = 0;
        while read < wanted.len() {
            if let Event::Records(records) = reader.next().await.unwrap() {
                read += records.count();
            }
        }
    };
    tokio::select! {
        error = first.copy() => panic!("{error}"),
        error = second.copy() => panic!("{error}"),
        done = tokio::time::timeout(LIMIT, all) => done.expect("everything is copied"),
    }
    drop((first, second));
    let mut copied = committed_by_java(kafka, &to);
    copied.sort();
    assert_eq!(copied, wanted);
}

#[tokio::test(flavor = "current_thread")]
async fn ours_and_javas_transactions_go_together_on_both_versions() {
    let cluster = Kafka::single(Version::V4_3, &[]);
    let kafka = cluster.tools();
    for (topic, level) in [("second", 2), ("first", 1)] {
        if level == 1 {
            let tool = "org.apache.kafka.tools.FeatureCommand";
            let downgrade = ["downgrade", "--feature", "transaction.version=1"];
            let (told, errors) = kafka.run(tool, &downgrade, "");
            assert!(told.contains("downgraded"), "{told}{errors}");
        }
        each_reads_what_the_other_committed(kafka, topic).await;
        let contested = format!("contested-{topic}");
        kafka.create_topic(&contested, 1, &[]);
        each_fences_the_other(kafka, kafka.bootstrap(), &contested).await;
        a_killed_process_leaves_nothing(kafka, &format!("killed-{topic}")).await;
        offsets_of_a_stranger_are_refused(kafka, topic).await;
        a_rebalance_inside_a_transaction_aborts_and_rewinds(kafka, &format!("loop-{topic}")).await;
    }
    // The broker of ours is no easier and no harder on Java's producer.
    for level in ["2", "1"] {
        let devbroker = Devbroker::start(&["--transaction-version", level]);
        each_fences_the_other(kafka, devbroker.bootstrap(), "contested").await;
    }
}
