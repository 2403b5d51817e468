//! A load generator with the command line of the peers that our client is measured beside: writes,
//! reads or paces records, and prints one line of JSON that says what it did and that the bytes were
//! right.

mod meter;
mod workload;

use clap::{Parser, ValueEnum};
use meter::{Meter, Role};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tidewatch_client::options::Options;
use tidewatch_client::{Client, Delivery, Event, Producer, ProducerRecord, StartAt};
use workload::Workload;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of records whose deliveries are awaited at most; the peers with handles use the same.
const WINDOW_BYTES: usize = 24 << 20;
/// Bytes that a handle is reckoned at, on top of its record.
const HANDLE_BYTES: usize = 64;
/// No record within this: the log holds fewer than asked for.
const READ_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Produce,
    Consume,
    Latency,
}

/// Writes, reads or paces records, and prints what it cost as a line of JSON.
#[derive(Debug, Parser)]
struct Arguments {
    #[arg(value_enum)]
    mode: Mode,
    /// Brokers, host:port.
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    #[arg(long)]
    topic: String,
    #[arg(long, default_value_t = 1000)]
    records: u64,
    /// Bytes of a value; a key has 11.
    #[arg(long, default_value_t = 100)]
    size: usize,
    #[arg(long, default_value = "none")]
    compression: String,
    #[arg(long, default_value = "all")]
    acks: String,
    #[arg(long)]
    idempotent: bool,
    /// Partitions of the topic, all of which are read.
    #[arg(long, default_value_t = 6)]
    partitions: i32,
    /// linger.ms; 0 when measuring latency.
    #[arg(long, default_value_t = 5)]
    linger: u64,
    /// batch.size.
    #[arg(long, default_value_t = 131_072)]
    batch: usize,
    /// Requests in flight.
    #[arg(long, default_value_t = 5)]
    inflight: usize,
    /// Records per second when measuring latency.
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Where the client works: on the program's runtime, or on a thread of its own.
    #[arg(long, value_enum, default_value_t = Place::Runtime)]
    driver: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    Runtime,
    Thread,
}

impl Arguments {
    fn options(&self) -> Result<Options, Failure> {
        let linger = if self.mode == Mode::Latency {
            0
        } else {
            self.linger
        };
        let mut options = Options::default();
        for (name, value) in [
            ("bootstrap.servers", self.bootstrap.clone()),
            ("client.id", "bench".to_owned()),
            ("compression.type", self.compression.clone()),
            ("acks", self.acks.clone()),
            ("enable.idempotence", self.idempotent.to_string()),
            ("linger.ms", linger.to_string()),
            ("batch.size", self.batch.to_string()),
            (
                "max.in.flight.requests.per.connection",
                self.inflight.to_string(),
            ),
        ] {
            options.set(name, &value)?;
        }
        Ok(options)
    }
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // As a task: waking the future that a runtime blocks on costs more.
    runtime.block_on(async { tokio::spawn(run(arguments)).await })?
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let options = arguments.options()?;
    let client = match arguments.driver {
        Place::Thread => Client::spawn(options)?,
        Place::Runtime => {
            let (client, driver) = Client::build(options)?;
            tokio::spawn(driver);
            client
        }
    };
    match arguments.mode {
        Mode::Produce => produce(&arguments, client).await,
        Mode::Consume => consume(&arguments, client).await,
        Mode::Latency => pace(&arguments, client).await,
    }
}

async fn produce(arguments: &Arguments, client: Client) -> Result<(), Failure> {
    let workload = Workload::new(arguments.size);
    let producer = client.producer().await?;
    let mut meter = Meter::start(Role::Produce);
    let window = WINDOW_BYTES / (arguments.size + HANDLE_BYTES);
    let mut waiting = VecDeque::with_capacity(window);
    for index in 0..arguments.records {
        waiting.push_back(send(&producer, arguments, &workload, index).await?);
        // The first acknowledgement is told when it comes, not when the window is full.
        let is_first = |oldest: &Delivery| meter.records() == 0 && oldest.try_result().is_some();
        if (waiting.len() == window || waiting.front().is_some_and(is_first))
            && let Some(oldest) = waiting.pop_front()
        {
            meter.resolved(oldest.await.is_ok());
        }
    }
    producer.flush().await?;
    for delivery in waiting {
        meter.resolved(delivery.await.is_ok());
    }
    meter.finish(Some(&workload));
    Ok(())
}

async fn send(
    producer: &Producer,
    arguments: &Arguments,
    workload: &Workload,
    index: u64,
) -> Result<Delivery, Failure> {
    let (key, value) = workload.record(index);
    let record = ProducerRecord::to(&arguments.topic).key(key).value(value);
    Ok(producer.send(record).await?)
}

/// One record after the other at a steady rate; the first opens the connections and is not counted
/// among the times.
async fn pace(arguments: &Arguments, client: Client) -> Result<(), Failure> {
    let workload = Workload::new(arguments.size);
    let producer = client.producer().await?;
    let mut meter = Meter::start(Role::Latency);
    meter.resolved(
        send(&producer, arguments, &workload, 0)
            .await?
            .await
            .is_ok(),
    );
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(arguments.rate)?);
    let mut waiting = tokio::task::JoinSet::new();
    for index in 1..arguments.records {
        ticks.tick().await;
        let sent = Instant::now();
        let delivery = send(&producer, arguments, &workload, index).await?;
        waiting.spawn(async move { (delivery.await.is_ok(), sent.elapsed()) });
        while let Some(ended) = waiting.try_join_next() {
            let (is_ok, took) = ended?;
            meter.acknowledged(is_ok, took);
        }
    }
    while let Some(ended) = waiting.join_next().await {
        let (is_ok, took) = ended?;
        meter.acknowledged(is_ok, took);
    }
    meter.finish(Some(&workload));
    Ok(())
}

async fn consume(arguments: &Arguments, client: Client) -> Result<(), Failure> {
    let mut consumer = client.consumer().await?;
    let topic = arguments.topic.as_str();
    let mut meter = Meter::start(Role::Consume);
    let all = (0..arguments.partitions).map(|partition| (topic, partition, StartAt::Earliest));
    consumer.assign(all).await?;
    while meter.records() < arguments.records {
        let Ok(event) = tokio::time::timeout(READ_LIMIT, consumer.next()).await else {
            meter.failed();
            break;
        };
        if let Event::Records(mut records) = event? {
            while let Some(record) = records.next_ref() {
                let record = record?;
                meter.read(
                    record.key.unwrap_or_default(),
                    record.value.unwrap_or_default(),
                );
            }
        }
    }
    meter.finish(None);
    Ok(())
}
