//! A client with nothing to do, for a test to look at from outside: `idle-client TOPIC NAME=VALUE...`,
//! the options by Kafka's names.
//!
//! At `open` on standard input it opens a producer that has sent and a consumer that has read, as a
//! member of a group, and answers `idle`; at `drop` it drops all of it and answers `dropped`. Apart
//! from the client it is `hello-tokio`.

use tidewatch_client::options::Options;
use tidewatch_client::{Client, Consumer, Error, Event, Producer, ProducerRecord};
use tidewatch_it::commands;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().ok_or("a topic is needed")?;
    let mut options = Options::default();
    for pair in arguments {
        let (name, value) = pair.split_once('=').ok_or("NAME=VALUE is needed")?;
        options.set(name, value).map_err(Error::from)?;
    }
    let mut lines = commands::lines();
    println!("hello");
    let mut open = None;
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            event = next(&mut open) => {
                event?;
                continue;
            }
        };
        match line.as_deref() {
            Some("open") => {
                open = Some(use_once(&topic, options.clone()).await?);
                println!("idle");
            }
            Some("drop") => {
                drop(open.take());
                println!("dropped");
            }
            Some(other) => return Err(format!("{other} is no command").into()),
            None => return Ok(()),
        }
    }
}

/// Waits for the consumer's next event, where there is a consumer.
async fn next(open: &mut Option<(Client, Producer, Consumer)>) -> Result<Event, Error> {
    match open {
        Some((_, _, consumer)) => consumer.next().await,
        None => std::future::pending().await,
    }
}

async fn use_once(topic: &str, options: Options) -> Result<(Client, Producer, Consumer), Failure> {
    let client = Client::spawn(options)?;
    let producer = client.producer().await?;
    let record = ProducerRecord::to(topic).value("once");
    producer.send(record).await?.await?;
    let mut consumer = client.consumer().await?;
    consumer.subscribe([topic]).await?;
    loop {
        if let Event::Records(records) = consumer.next().await? {
            for record in records {
                record?;
            }
            consumer.commit_positions().await?;
            return Ok((client, producer, consumer));
        }
    }
}
