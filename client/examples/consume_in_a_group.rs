//! Reads a topic together with every other process of its group, each record at least once, until
//! Ctrl-C. Start it twice, and the partitions are shared; stop one, and the other takes over.
//!
//! ```text
//! cargo run -p tidewatch-client --example consume_in_a_group -- localhost:9092 readings printers
//! ```

use std::pin::pin;
use tidewatch_client::options::Options;
use tidewatch_client::{Client, Consumer, Event, Fetched, Rebalance};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or("localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or("readings".to_owned());
    let group = arguments.next().unwrap_or("printers".to_owned());

    let mut options = Options::default();
    options.set("bootstrap.servers", &bootstrap)?;
    options.set("group.id", &group)?;
    // Where the group has not been before, it begins at the beginning.
    options.set("auto.offset.reset", "earliest")?;
    // A position is committed once its records are printed, and not by the clock.
    options.set("enable.auto.commit", "false")?;
    // One partition moves at a time; the others are read on meanwhile.
    options.set("partition.assignment.strategy", "cooperative-sticky")?;
    let client = Client::spawn(options)?;

    let mut consumer = client.consumer().await?;
    consumer.subscribe([topic]).await?;
    // One for all turns of the loop: a new one each time would miss what comes between them.
    let mut ctrl_c = pin!(tokio::signal::ctrl_c());
    loop {
        let event = tokio::select! {
            // Dropped halfway it loses nothing.
            event = consumer.next() => event?,
            _ = &mut ctrl_c => break,
        };
        match event {
            Event::Records(records) => {
                print(records)?;
                commit(&consumer).await;
            }
            // The group waits until `revoking` is dropped, so that its last records can be committed.
            Event::Rebalance(Rebalance::Revoking(revoking)) => {
                commit(&consumer).await;
                eprintln!("gives up {}", list(revoking.partitions()));
            }
            Event::Rebalance(Rebalance::Assigned(partitions)) => {
                eprintln!("was given {}", list(&partitions));
            }
            // This member was silent for too long. Whoever has them now reads again what was not
            // committed.
            Event::Rebalance(Rebalance::Lost(partitions)) => {
                eprintln!("has lost {}", list(&partitions));
            }
            Event::CaughtUp(partition) => eprintln!("has read all of {partition}"),
        }
    }
    // Leaves the group, so that the others need not wait for the end of this member's session.
    consumer.close().await?;
    eprintln!("has left {group}");
    Ok(())
}

/// Borrows each record from the response that it came in: nothing is copied.
fn print(mut records: Fetched) -> Result<(), Failure> {
    let partition = records.topic_partition().clone();
    while let Some(record) = records.next_ref() {
        let record = record?;
        let key = String::from_utf8_lossy(record.key.unwrap_or_default());
        let value = String::from_utf8_lossy(record.value.unwrap_or_default());
        println!("{partition} {} {key} {value}", record.offset);
    }
    Ok(())
}

/// A commit that fails loses nothing: those records come again, here or at another member.
async fn commit(consumer: &Consumer) {
    if let Err(error) = consumer.commit_positions().await {
        eprintln!("{error}");
    }
}

fn list(partitions: &[tidewatch_client::TopicPartition]) -> String {
    let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.join(", "),
    }
}
