//! Behaviours of `client/BEHAVIOURS.md` that a real broker shows and no other suite does: batches that it
//! refuses, topics that are made anew under the producer, Java's own choice of partitions, a group that
//! a slow reader leaves, an address where nobody is. One broker serves every scene.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidewatch_client::{
    Client, Consumer, Delivery, ErrorCode, Event, NewTopic, Partitioner, Producer, ProducerRecord,
    Rebalance, Refused, StartAt,
};
use tidewatch_it::kafka::{Kafka, Version, skips_on_foreign_cluster};
use tidewatch_it::ports::free_port;
use tidewatch_it::suite::reading::read_all;
use tidewatch_it::suite::{Sides, ensure_topics, examples};

const PATIENCE: Duration = Duration::from_secs(60);

/// A broker with a second listener, which it advertises under a port where nobody is.
fn broker() -> (Kafka, String, String) {
    let (second, nobody) = (free_port(), free_port());
    let lines = [
        format!(
            "listeners=PLAINTEXT://127.0.0.1:@B@,LOST://127.0.0.1:{second},\
             CONTROLLER://127.0.0.1:@C@"
        ),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:@B@,LOST://127.0.0.1:{nobody}"),
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LOST:PLAINTEXT"
            .to_owned(),
    ];
    let kafka = Kafka::single(Version::V4_3, &lines.each_ref().map(String::as_str));
    let [second, nobody] = [second, nobody].map(|port| format!("127.0.0.1:{port}"));
    (kafka, second, nobody)
}

#[tokio::test(flavor = "current_thread")]
async fn a_real_broker_shows_them() {
    if skips_on_foreign_cluster("behaviours one by one: they want a broker of their own") {
        return;
    }
    let (kafka, second, nobody) = broker();
    line_08_batches_too_large_for_the_topic_are_split_until_they_pass(&kafka).await;
    line_09_without_acks_records_arrive_and_other_answers_find_their_requests(&kafka).await;
    line_11_a_topic_made_anew_and_partitions_that_come_are_written_to(&kafka).await;
    line_13_keys_go_to_the_partitions_that_java_chooses(&kafka).await;
    a_partitioner_of_ones_own_chooses(&kafka).await;
    line_21_a_first_batch_over_the_limit_comes_whole(&kafka).await;
    line_31_a_slow_reader_leaves_its_group_and_comes_back(&kafka).await;
    line_48_a_missing_topic_is_told_soon_and_no_consumer_creates_it(&kafka).await;
    examples::the_loop_is_exact(kafka.bootstrap()).await;
    line_49_an_advertised_address_where_nobody_is_is_named(&kafka, &second, &nobody).await;
}

fn client(kafka: &Kafka, settings: &[(&str, &str)]) -> Client {
    Sides::of(kafka).client(settings)
}

async fn send(producer: &Producer, topic: &str, value: &str) -> Delivery {
    let record = ProducerRecord::to(topic).partition(0).value(value);
    producer.send(record).await.unwrap()
}

async fn values(client: &Client, topic: &str) -> Vec<String> {
    let rows = read_all(client, topic, 1).await;
    rows.into_iter().map(|row| row.value).collect()
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:0>500}")).collect()
}

async fn line_08_batches_too_large_for_the_topic_are_split_until_they_pass(kafka: &Kafka) {
    let client = client(kafka, &[("linger.ms", "10000")]);
    let topic = NewTopic::new("narrow", 1).config("max.message.bytes", "2000");
    ensure_topics(&client, vec![topic]).await;
    let producer = client.producer().await.unwrap();
    // Batches of 16 KiB, of which the topic takes an eighth.
    let mut deliveries = Vec::new();
    for value in numbered(100) {
        deliveries.push(send(&producer, "narrow", &value).await);
    }
    let too_large = send(&producer, "narrow", &"?".repeat(3000)).await;
    producer.flush().await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let refused = too_large.await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
    assert!(
        refused.to_string().contains("max.message.bytes"),
        "{refused}"
    );
    assert_eq!(values(&client, "narrow").await, numbered(100));
}

async fn line_09_without_acks_records_arrive_and_other_answers_find_their_requests(kafka: &Kafka) {
    let client = client(kafka, &[("acks", "0"), ("linger.ms", "0")]);
    ensure_topics(&client, vec![NewTopic::new("unanswered", 1)]).await;
    let producer = client.producer().await.unwrap();
    let mut deliveries = Vec::new();
    for value in numbered(50) {
        deliveries.push(send(&producer, "unanswered", &value).await);
    }
    for delivery in deliveries {
        assert_eq!(delivery.await.unwrap().offset, -1);
    }
    // Delivered is here no more than written: the broker may still be at it.
    let all = async { while values(&client, "unanswered").await != numbered(50) {} };
    let within = tokio::time::timeout(PATIENCE, all).await;
    within.expect("records are missing");
}

async fn line_11_a_topic_made_anew_and_partitions_that_come_are_written_to(kafka: &Kafka) {
    let client = client(
        kafka,
        &[("metadata.max.age.ms", "1000"), ("linger.ms", "0")],
    );
    ensure_topics(&client, vec![NewTopic::new("anew", 1)]).await;
    let producer = client.producer().await.unwrap();
    for value in ["one", "two", "three"] {
        send(&producer, "anew", value).await.await.unwrap();
    }
    let deleted = client.delete_topics(&["anew"]).await.unwrap();
    deleted.into_iter().for_each(|(_, result)| result.unwrap());
    ensure_topics(&client, vec![NewTopic::new("anew", 1)]).await;
    // The same producer, whose sequences stand at 3: a new log begins with 0.
    for (offset, value) in (0..).zip(["four", "five"]) {
        let written = send(&producer, "anew", value).await.await.unwrap();
        assert_eq!(written.offset, offset);
    }
    assert_eq!(values(&client, "anew").await, ["four", "five"]);

    let (told, complaint) =
        kafka
            .tools()
            .topic_command(&["--alter", "--topic", "anew", "--partitions", "2"]);
    assert_eq!(complaint, "", "{told}");
    let to_the_new_one = async {
        loop {
            let record = ProducerRecord::to("anew").partition(1).value("six");
            match producer.send(record).await {
                Ok(delivery) => return delivery.await.unwrap(),
                Err(error) => assert!(matches!(error.why, Refused::NoPartition { .. }), "{error}"),
            }
            // The next look at the cluster shows it.
            client.cluster(&["anew"]).await.unwrap();
        }
    };
    let written = tokio::time::timeout(PATIENCE, to_the_new_one)
        .await
        .unwrap();
    assert_eq!((written.partition.partition, written.offset), (1, 0));
}

async fn line_13_keys_go_to_the_partitions_that_java_chooses(kafka: &Kafka) {
    const PARTITIONS: i32 = 7;
    let client = client(kafka, &[]);
    let topics = ["keyed-by-java", "keyed-by-us"].map(|name| NewTopic::new(name, PARTITIONS));
    ensure_topics(&client, topics.to_vec()).await;
    // Every length modulo 4, and bytes over 127.
    let keys: Vec<_> = (0..300)
        .map(|number| format!("{}é{number}", "k".repeat(number % 9)))
        .collect();
    let input: String = keys.iter().map(|key| format!("{key}=1\n")).collect();
    let reader = ["parse.key=true", "key.separator=="];
    kafka
        .tools()
        .console_produce("keyed-by-java", &reader, &[], &input);
    let producer = client.producer().await.unwrap();
    for key in &keys {
        let record = ProducerRecord::to("keyed-by-us").key(key).value("1");
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    let mut chosen = Vec::new();
    for topic in ["keyed-by-java", "keyed-by-us"] {
        let rows = read_all(&client, topic, PARTITIONS).await;
        let by_key = rows.into_iter().map(|row| (row.key, row.partition));
        chosen.push(by_key.collect::<BTreeMap<_, _>>());
    }
    assert_eq!(chosen[0].len(), keys.len());
    assert_eq!(chosen[0], chosen[1]);
}

/// The last byte of the value chooses.
#[derive(Debug)]
struct ByLastByte;

impl Partitioner for ByLastByte {
    fn partition(
        &self,
        _topic: &str,
        _key: Option<&[u8]>,
        value: Option<&[u8]>,
        partition_count: usize,
    ) -> Option<i32> {
        let last = usize::from(*value?.last()?);
        i32::try_from(last % partition_count).ok()
    }
}

async fn a_partitioner_of_ones_own_chooses(kafka: &Kafka) {
    const PARTITIONS: u8 = 3;
    let client = client(kafka, &[]);
    ensure_topics(&client, vec![NewTopic::new("chosen", PARTITIONS.into())]).await;
    let producer = client.producer_partitioned_by(Arc::new(ByLastByte));
    let producer = producer.await.unwrap();
    for value in numbered(50) {
        let record = ProducerRecord::to("chosen")
            .key("always the same")
            .value(&value);
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    let rows = read_all(&client, "chosen", PARTITIONS.into()).await;
    assert_eq!(rows.len(), 50);
    for row in rows {
        let last = row.value.as_bytes()[row.value.len() - 1];
        assert_eq!(row.partition, i32::from(last % PARTITIONS), "{row:?}");
    }
}

async fn line_21_a_first_batch_over_the_limit_comes_whole(kafka: &Kafka) {
    let narrow = [
        ("max.partition.fetch.bytes", "100"),
        ("fetch.max.bytes", "100"),
    ];
    let client = client(kafka, &[&narrow[..], &[("linger.ms", "10000")]].concat());
    ensure_topics(&client, vec![NewTopic::new("wide", 1)]).await;
    let producer = client.producer().await.unwrap();
    for value in numbered(100) {
        drop(send(&producer, "wide", &value).await);
    }
    producer.flush().await.unwrap();
    assert_eq!(values(&client, "wide").await, numbered(100));
}

/// What a member is given and loses, partition by partition.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Given(usize),
    Lost(usize),
}

/// The next news of the member's partitions, told or taken.
async fn turn(consumer: &mut Consumer) -> Turn {
    loop {
        match consumer.next().await.unwrap() {
            Event::Rebalance(Rebalance::Assigned(given)) if !given.is_empty() => {
                return Turn::Given(given.len());
            }
            Event::Rebalance(Rebalance::Lost(lost)) => return Turn::Lost(lost.len()),
            _ => {}
        }
    }
}

async fn line_31_a_slow_reader_leaves_its_group_and_comes_back(kafka: &Kafka) {
    // A session is longer than anything here is waited for: it is not by its end that a member goes.
    let settings = [
        ("group.id", "slow"),
        ("session.timeout.ms", "300000"),
        ("max.poll.interval.ms", "3000"),
        // The others have as long to come when a member joins.
        ("heartbeat.interval.ms", "300"),
        ("partition.assignment.strategy", "cooperative-sticky"),
    ];
    let (slow, quick) = (client(kafka, &settings), client(kafka, &settings));
    ensure_topics(&slow, vec![NewTopic::new("shared", 2)]).await;
    let (mut slow, mut quick) = (
        slow.consumer().await.unwrap(),
        quick.consumer().await.unwrap(),
    );
    slow.subscribe(["shared"]).await.unwrap();
    assert_eq!(turn(&mut slow).await, Turn::Given(2));
    // It reads no more, and leaves; the other comes alone.
    quick.subscribe(["shared"]).await.unwrap();
    let all = async {
        let mut given = 0;
        while given < 2 {
            match turn(&mut quick).await {
                Turn::Given(more) => given += more,
                Turn::Lost(lost) => panic!("{lost} were lost"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, all)
        .await
        .expect("the slow one has not left");
    let back = async {
        assert_eq!(turn(&mut slow).await, Turn::Lost(2));
        assert_eq!(turn(&mut slow).await, Turn::Given(1));
    };
    // The quick one reads on, and gives one up.
    let both = async {
        tokio::select! {
            () = back => {}
            end = async { loop { turn(&mut quick).await; } } => end,
        }
    };
    tokio::time::timeout(PATIENCE, both)
        .await
        .expect("the slow one has not come back");
}

/// The broker would create it for whoever asks so (`auto.create.topics.enable`).
async fn line_48_a_missing_topic_is_told_soon_and_no_consumer_creates_it(kafka: &Kafka) {
    let client = client(kafka, &[("default.api.timeout.ms", "3000")]);
    let mut consumer = client.consumer().await.unwrap();
    consumer
        .assign([("missing", 0, StartAt::Earliest)])
        .await
        .unwrap();
    let error = tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        error.to_string().contains("UNKNOWN_TOPIC_OR_PARTITION"),
        "{error}"
    );
    let cluster = client.cluster(&["missing"]).await.unwrap();
    assert_eq!(
        cluster.topics["missing"].error,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    let (listed, complaint) = kafka.tools().topic_command(&["--list"]);
    assert!(listed.contains("anew"), "{listed}{complaint}");
    assert!(!listed.contains("missing"), "{listed}");
}

async fn line_49_an_advertised_address_where_nobody_is_is_named(
    kafka: &Kafka,
    bootstrap: &str,
    nobody: &str,
) {
    let sides = Sides {
        ours: bootstrap,
        javas: kafka.tools(),
    };
    let client = sides.client(&[("default.api.timeout.ms", "3000")]);
    let created = client.create_topics(vec![NewTopic::new("unreachable", 1)]);
    let (_, result) = created.await.unwrap().remove(0);
    let error = result.unwrap_err();
    let said = error.to_string();
    for part in [nobody, bootstrap, "advertised.listeners"] {
        assert!(said.contains(part), "it does not say {part}: {said}");
    }
}
