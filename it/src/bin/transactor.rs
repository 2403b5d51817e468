//! One transaction of ours, step by step, so that a test can kill this process between any two:
//! `transactor BOOTSTRAP TRANSACTIONAL-ID TOPIC GROUP STOP`.
//!
//! Every step that was taken is told as `AT STEP` on standard output; at STOP it stands still until
//! it is killed.

use std::future::pending;
use tidewatch_client::options::Options;
use tidewatch_client::{Client, Error, GroupMetadata, OffsetAndMetadata, ProducerRecord};
use tidewatch_client::{SendError, TopicPartition};

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("five arguments are needed: BOOTSTRAP TRANSACTIONAL-ID TOPIC GROUP STOP")]
    Usage,
    #[error(transparent)]
    Client(#[from] Error),
    #[error(transparent)]
    Send(#[from] SendError),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, id, topic, group, stop] = &arguments[..] else {
        return Err(Failure::Usage);
    };
    let at = async |step: &str| {
        println!("AT {step}");
        if step == stop {
            pending::<()>().await;
        }
    };
    let mut options = Options::default();
    let set = options.set("bootstrap.servers", bootstrap);
    set.map_err(Error::from)?;
    let client = Client::spawn(options)?;
    let mut producer = client.transactional_producer_as(id).await?;
    at("init").await;
    let transaction = producer.begin().await?;
    at("begin").await;
    for number in 0..3 {
        let value = format!("{id} killed {number}");
        let record = ProducerRecord::to(topic).value(&value);
        // Its outcome is the commit's.
        drop(transaction.send(record).await?);
    }
    at("send").await;
    transaction.flush().await?;
    at("flush").await;
    let offset = (
        TopicPartition::new(topic.as_str(), 0),
        OffsetAndMetadata::new(3, -1),
    );
    let group = GroupMetadata::without_membership(group.as_str());
    transaction.send_offsets([offset], &group).await?;
    at("offsets").await;
    let end = match stop.as_str() {
        "abort" => transaction.abort().await.map(|()| stop.as_str()),
        _ => transaction.commit().await.map(|()| "commit"),
    };
    at(end?).await;
    Ok(())
}
