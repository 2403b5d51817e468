//! What can go wrong, how the client says so, and what a program does about it.
//!
//! Sends a record to each topic that it is told, and then reads from where there is nothing. Against a
//! broker that refuses things:
//!
//! ```text
//! tidewatch-devbroker --no-auto-create --topic alarms --topic secret --deny-write secret
//! cargo run -p tidewatch-client --example error_handling -- localhost:9092 alarms secret missing
//! ```

use tidewatch_client::options::Options;
use tidewatch_client::{
    Client, DeliveryError, Error, ErrorCode, Event, Producer, ProducerRecord, SendError, StartAt,
    TopicPartition,
};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or("localhost:9092".to_owned());
    let topics: Vec<String> = arguments.collect();

    let client = Client::spawn(configure(&bootstrap)?)?;
    // A client connects when it has something to do, so an address where nobody is shows here first.
    match client.cluster(&[]).await {
        Ok(cluster) => println!("{} brokers", cluster.brokers.len()),
        Err(error) => return Err(explain(&error).into()),
    }
    let producer = client.producer().await?;
    for topic in &topics {
        deliver(&producer, topic, "disk full").await;
        deliver(&producer, topic, &"?".repeat(2_000_000)).await;
    }
    if let Some(topic) = topics.first() {
        read_again(&client, topic).await?;
    }
    Ok(())
}

/// A wrong name or value is an error at once: nothing is ignored in silence.
fn configure(bootstrap: &str) -> Result<Options, Error> {
    let mut options = Options::default();
    options.set("bootstrap.servers", bootstrap)?;
    options.set("default.api.timeout.ms", "5000")?;
    // How long a record may wait for its topic to be known, or for room in buffer.memory.
    options.set("max.block.ms", "2000")?;
    // Where a consumer has no valid position it shall say so.
    options.set("auto.offset.reset", "none")?;
    if let Err(error) = options.set("compression.typ", "lz4") {
        println!("option: {error}");
    }
    Ok(options)
}

/// A record can fail twice: not be taken, and not be delivered.
async fn deliver(producer: &Producer, topic: &str, value: &str) {
    let taken = producer.send(ProducerRecord::to(topic).value(value)).await;
    let delivery = match taken {
        Ok(delivery) => delivery,
        Err(error) => return not_taken(&error),
    };
    // The client has tried again for all of delivery.timeout.ms before it gives up.
    match delivery.await {
        Ok(written) => println!("written: {} at {}", written.partition, written.offset),
        Err(error) => not_delivered(&error),
    }
}

/// Nothing was sent.
fn not_taken(error: &SendError) {
    match error.why.may_pass() {
        true => println!("not taken, try later: {error}"),
        false => println!("not taken, put aside: {error}"),
    }
}

fn not_delivered(error: &DeliveryError) {
    let remedy = match error {
        // It went out and no answer came. Sending it again may double it: look, or live with two.
        error if error.possibly_written => "look whether it is there",
        error if error.is_retriable() => "send it again",
        _ => "put aside",
    };
    println!("not delivered, {remedy}: {error}");
}

/// Reads from an offset that the log has not reached, says so, and begins at its start.
async fn read_again(client: &Client, topic: &str) -> Result<(), Failure> {
    let partition = TopicPartition::new(topic, 0);
    let mut consumer = client.consumer().await?;
    let somewhere = StartAt::Offset(1_000_000);
    consumer.assign([(topic, 0, somewhere)]).await?;
    loop {
        match consumer.next().await {
            Ok(Event::Records(records)) => {
                for record in records {
                    println!("read: {partition} at {}", record?.offset);
                }
            }
            Ok(Event::CaughtUp(_)) => return Ok(()),
            Ok(Event::Rebalance(_)) => {}
            Err(error) => {
                println!("{}", explain(&error));
                let start = go_on_from(&error).ok_or(error)?;
                consumer.seek(&partition, start).await?;
            }
        }
    }
}

/// Where to read on after an error that concerns one partition; nowhere, if it is not of that kind.
fn go_on_from(error: &Error) -> Option<StartAt> {
    match error {
        // What was to be read is gone, or was never there.
        Error::Broker { code, .. } if *code == ErrorCode::OFFSET_OUT_OF_RANGE => {
            Some(StartAt::Earliest)
        }
        // Damaged bytes: what follows them can be had.
        Error::Records { skip_to, .. } => skip_to.map(StartAt::Offset),
        // An unclean election has cut the log.
        Error::Truncated { end_offset, .. } => Some(StartAt::Offset(*end_offset)),
        _ => None,
    }
}

/// An error in one line, with what can be done.
fn explain(error: &Error) -> String {
    match error.is_retriable() {
        true => format!("failed for now: {error}"),
        false => format!("failed: {error}"),
    }
}
