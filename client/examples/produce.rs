//! Sends readings of three hosts and waits until Kafka has every one of them.
//!
//! ```text
//! cargo run -p tidewatch-client --example produce -- localhost:9092 readings
//! ```

use std::time::Duration;
use tidewatch_client::options::Options;
use tidewatch_client::{Client, NewTopic, ProducerRecord};

type Failure = Box<dyn std::error::Error>;

const HOSTS: [&str; 3] = ["web-1", "web-2", "db-1"];
const READINGS: u32 = 100;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or("localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or("readings".to_owned());

    let mut options = Options::default();
    options.set("bootstrap.servers", &bootstrap)?;
    options.set("compression.type", "lz4")?;
    let client = Client::spawn(options)?;
    create(&client, &topic).await?;
    let producer = client.producer().await?;

    // `send` is done as soon as the record lies in its batch, so that batches fill while earlier ones
    // are under way; it waits only while `buffer.memory` is used up. What became of the record is its
    // `Delivery`'s to tell.
    let mut deliveries = Vec::new();
    for reading in 0..READINGS {
        for host in HOSTS {
            let percent = format!("{}.5", reading % 100);
            let record = ProducerRecord::to(&topic)
                .key(host)
                .value(&percent)
                .header("unit", "percent");
            deliveries.push((host, producer.send(record).await?));
        }
    }
    // Nobody has to wait for `linger.ms` any more.
    producer.flush().await?;

    for (host, delivery) in deliveries {
        let written = delivery.await?;
        println!("{host} {} at {}", written.partition, written.offset);
    }
    producer.close(Duration::from_secs(30)).await?;
    Ok(())
}

/// Creates the topic with three partitions, if it is not there.
async fn create(client: &Client, topic: &str) -> Result<(), Failure> {
    let results = client.create_topics(vec![NewTopic::new(topic, 3)]).await?;
    for (_, result) in results {
        match result {
            Err(error) if !error.is_topic_exists() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
