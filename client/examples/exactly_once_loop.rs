//! Reads one topic and writes another, so that readers of committed data find each input's output
//! exactly once, whatever dies in between: outputs and the positions behind them are committed in one
//! transaction. Start several, each with a name of its own, and they share the partitions.
//!
//! ```text
//! cargo run -p tidewatch-client --example exactly_once_loop -- localhost:9092 readings doubled worker-1
//! ```

use std::pin::pin;
use std::time::Duration;
use tidewatch_client::options::Options;
use tidewatch_client::{
    Client, Consumer, Error, Event, Fetched, ProducerRecord, TransactionalProducer,
};

type Failure = Box<dyn std::error::Error>;

/// So many transactions may abort one after another before that is taken for more than bad luck.
const MAX_ABORTS: u32 = 10;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or("localhost:9092".to_owned());
    let input = arguments.next().unwrap_or("readings".to_owned());
    let output = arguments.next().unwrap_or("doubled".to_owned());
    let name = arguments.next().unwrap_or("worker-1".to_owned());

    let mut options = Options::default();
    options.set("bootstrap.servers", &bootstrap)?;
    options.set("group.id", &format!("{input}-to-{output}"))?;
    options.set("auto.offset.reset", "earliest")?;
    // Positions are committed by the transactions, and by nothing else.
    options.set("enable.auto.commit", "false")?;
    // Neither is anything read that another transaction may still take back.
    options.set("isolation.level", "read_committed")?;
    // A worker that is started again under its name gets its partitions back at once, and whoever still
    // goes by that name is shut out. Without it the group would first wait for the end of a session.
    options.set("group.instance.id", &name)?;
    let client = Client::spawn(options)?;

    // From here on whoever had this name before is fenced, and what it left open is aborted. So the
    // name goes with the worker: two at a time under one name would fence each other for ever.
    let mut producer = client.transactional_producer_as(&name).await?;
    let mut consumer = client.consumer().await?;
    consumer.subscribe([input]).await?;

    // One for all turns of the loop: a new one each time would miss what comes between them.
    let mut ctrl_c = pin!(tokio::signal::ctrl_c());
    let mut aborts = 0;
    loop {
        let event = tokio::select! {
            event = consumer.next() => event?,
            _ = &mut ctrl_c => break,
        };
        // Partitions are taken from us by an event too, hence never in the middle of a transaction.
        let Event::Records(records) = event else {
            continue;
        };
        let partition = records.topic_partition().clone();
        match transfer(&consumer, &mut producer, records, &output).await {
            Ok(count) => {
                aborts = 0;
                println!("{count} records of {partition}");
            }
            // Somebody else goes by our name: nothing that we do counts any more.
            Err(error) if error.is_fenced() => return Err(error.into()),
            // Nobody has seen anything of it. What was read comes again.
            Err(error) if aborts < MAX_ABORTS => {
                aborts += 1;
                eprintln!("{error}");
                consumer.rewind().await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    consumer.close().await?;
    producer.close(Duration::from_secs(30)).await?;
    Ok(())
}

/// One transaction: what comes of these records, and the position behind them. Wherever this ends
/// early, the transaction is dropped, and with that aborted.
async fn transfer(
    consumer: &Consumer,
    producer: &mut TransactionalProducer,
    mut records: Fetched,
    output: &str,
) -> Result<usize, Error> {
    let transaction = producer.begin().await?;
    let mut count = 0;
    while let Some(record) = records.next_ref() {
        let record = record?;
        let value = doubled(record.value.unwrap_or_default());
        let mut produced = ProducerRecord::to(output).value(&value);
        if let Some(key) = record.key {
            produced = produced.key(key);
        }
        // The first record that is not taken makes the commit refuse, and that says why.
        if transaction.send(produced).await.is_err() {
            break;
        }
        count += 1;
    }
    // How far the reader is goes with its outputs. The group refuses it from a member that is none any
    // more.
    transaction.send_positions(consumer).await?;
    // All of it, or nothing.
    transaction.commit().await?;
    Ok(count)
}

/// What there is to do with a value; what is no number goes through as it is.
fn doubled(value: &[u8]) -> Vec<u8> {
    let number = std::str::from_utf8(value).ok().map(str::parse::<f64>);
    match number {
        Some(Ok(number)) => (2.0 * number).to_string().into_bytes(),
        _ => value.to_vec(),
    }
}
