//! Answers of a real broker that never arrive: what was asked for is done, and the client does not know.
//! A proxy ends the connection in the place of the answer.

use tidewatch_client::{
    Client, Delivery, Error, NewTopic, Producer, ProducerRecord, TransactionEnd,
};
use tidewatch_it::kafka::{Kafka, Version, skips_on_foreign_cluster};
use tidewatch_it::ports::free_port;
use tidewatch_it::proxy::Proxy;
use tidewatch_it::suite::reading::read_all;
use tidewatch_it::suite::{Sides, ensure_topics};
use tidewatch_protocol::messages::ApiKey;

/// More than there can be.
const ALL: usize = usize::MAX;

/// A broker with a second listener, which is advertised under the proxy's address.
fn broker() -> (Kafka, Proxy) {
    let (behind, front) = (free_port(), free_port());
    let lines = [
        format!(
            "listeners=PLAINTEXT://127.0.0.1:@B@,LOSSY://127.0.0.1:{behind},CONTROLLER://127.0.0.1:@C@"
        ),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:@B@,LOSSY://127.0.0.1:{front}"),
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LOSSY:PLAINTEXT"
            .to_owned(),
    ];
    let kafka = Kafka::single(Version::V4_3, &lines.each_ref().map(String::as_str));
    let proxy = Proxy::start(front, &format!("127.0.0.1:{behind}"), None);
    (kafka, proxy)
}

#[tokio::test(flavor = "current_thread")]
async fn a_lost_answer_doubles_nothing_and_hides_nothing() {
    if skips_on_foreign_cluster("lost answers: they want a listener behind a proxy") {
        return;
    }
    let (kafka, proxy) = broker();
    let sides = Sides::of(&kafka);
    let topics = ["once", "doubtful", "open"].map(|name| NewTopic::new(name, 1));
    ensure_topics(&sides.client(&[]), topics.into()).await;
    let through_proxy = |settings: &[(&str, &str)]| {
        let address = ("bootstrap.servers", proxy.address());
        sides.client(&[settings, &[address, ("linger.ms", "0")]].concat())
    };
    line_05_a_batch_whose_answer_was_lost_is_written_once(&through_proxy(&[]), &proxy).await;
    let hurried = [
        ("request.timeout.ms", "1000"),
        ("delivery.timeout.ms", "2000"),
    ];
    line_06_what_failed_after_a_lost_answer_is_said_to_be_possibly_written(
        &through_proxy(&hurried),
        &proxy,
    )
    .await;
    let transactional = [
        ("transactional.id", "open"),
        ("max.block.ms", "3000"),
        ("isolation.level", "read_committed"),
    ];
    line_16_a_commit_whose_answers_were_lost_says_that_its_outcome_is_open(
        &through_proxy(&transactional),
        &proxy,
    )
    .await;
}

fn record<'a>(topic: &'a str, value: &'a str) -> ProducerRecord<'a> {
    ProducerRecord::to(topic).partition(0).value(value)
}

async fn send(producer: &Producer, topic: &str, value: &str) -> Delivery {
    producer.send(record(topic, value)).await.unwrap()
}

async fn values(client: &Client, topic: &str) -> Vec<String> {
    let rows = read_all(client, topic, 1).await;
    rows.into_iter().map(|row| row.value).collect()
}

async fn line_05_a_batch_whose_answer_was_lost_is_written_once(client: &Client, proxy: &Proxy) {
    let producer = client.producer().await.unwrap();
    send(&producer, "once", "a").await.await.unwrap();
    proxy.lose_answers(ApiKey::Produce, 2);
    let written = send(&producer, "once", "b").await.await.unwrap();
    assert!(proxy.has_lost_all(), "no answer was lost");
    assert_eq!(written.offset, 1);
    send(&producer, "once", "c").await.await.unwrap();
    assert_eq!(values(client, "once").await, ["a", "b", "c"]);
}

async fn line_06_what_failed_after_a_lost_answer_is_said_to_be_possibly_written(
    client: &Client,
    proxy: &Proxy,
) {
    let producer = client.producer().await.unwrap();
    send(&producer, "doubtful", "a").await.await.unwrap();
    proxy.lose_answers(ApiKey::Produce, ALL);
    let failed = send(&producer, "doubtful", "b").await.await.unwrap_err();
    assert!(failed.possibly_written, "{failed}");
    proxy.lose_answers(ApiKey::Produce, 0);
    // Under another epoch, for the broker would take its sequence for the lost one's.
    send(&producer, "doubtful", "c").await.await.unwrap();
    assert_eq!(values(client, "doubtful").await, ["a", "b", "c"]);
}

async fn line_16_a_commit_whose_answers_were_lost_says_that_its_outcome_is_open(
    client: &Client,
    proxy: &Proxy,
) {
    let mut producer = client.transactional_producer().await.unwrap();
    let transaction = producer.begin().await.unwrap();
    let _of_the_commit = transaction.send(record("open", "a")).await.unwrap();
    proxy.lose_answers(ApiKey::EndTxn, ALL);
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("not known yet"), "{error}");
    proxy.lose_answers(ApiKey::EndTxn, 0);
    assert_eq!(
        producer.last_end().await.unwrap(),
        Some(TransactionEnd::Committed)
    );

    let next = producer.begin().await.unwrap();
    let written = next.send(record("open", "b")).await.unwrap();
    written.await.unwrap();
    next.abort().await.unwrap();
    let next = producer.begin().await.unwrap();
    let _of_the_commit = next.send(record("open", "c")).await.unwrap();
    next.commit().await.unwrap();
    assert_eq!(values(client, "open").await, ["a", "c"]);
}
