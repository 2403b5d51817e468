//! Clients of one listener.

use std::future::Future;
use tidewatch_client::options::Options;
use tidewatch_client::{
    CallError, CallErrorKind, Client, Error, Event, NewTopic, ProducerRecord, SecurityError,
    StartAt,
};
use tidewatch_it::kafka::SecureKafka;
use tidewatch_it::programs::PATIENCE;

const TOPIC: &str = "secured";

/// Options with their values.
pub(crate) type Settings<'a> = [(&'a str, &'a str)];

pub(crate) fn options(address: &str, settings: &Settings<'_>) -> Options {
    let mut options = Options::default();
    options.set("bootstrap.servers", address).unwrap();
    for (name, value) in settings {
        options.set(name, value).unwrap();
    }
    options
}

/// The file as the value of an option.
pub(crate) fn key(kafka: &SecureKafka, file: &str) -> String {
    kafka.key(file).to_str().unwrap().to_owned()
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await });
    ended.expect("it did not come to an end")
}

/// Writes a record and reads it back.
pub(crate) async fn round_trip(options: Options) -> Result<(), Error> {
    let client = Client::spawn(options)?;
    client.create_topics(vec![NewTopic::new(TOPIC, 1)]).await?;
    let producer = client.producer().await?;
    let sent = producer.send(ProducerRecord::to(TOPIC).value("tide")).await;
    let written = sent.unwrap().await.unwrap();
    let mut consumer = client.consumer().await?;
    let start = StartAt::Offset(written.offset);
    consumer.assign([(TOPIC, 0, start)]).await?;
    loop {
        if let Event::Records(mut records) = consumer.next().await? {
            let first = records.next_ref().unwrap()?;
            assert_eq!(first.value, Some(&b"tide"[..]));
            return Ok(());
        }
    }
}

/// Why the cluster cannot be read with these options.
pub(crate) fn failure(address: &str, settings: &Settings<'_>) -> Error {
    let options = options(address, settings);
    run(async {
        let client = Client::spawn(options).unwrap();
        client.cluster(&[]).await.unwrap_err()
    })
}

/// The failure, which has to be one of security: typed, and not worth a retry.
#[track_caller]
pub(crate) fn security_failure(address: &str, settings: &Settings<'_>) -> SecurityError {
    let error = failure(address, settings);
    assert!(!error.is_retriable(), "{error}");
    match error {
        Error::Call {
            source:
                CallError {
                    kind: CallErrorKind::Security { source, .. },
                    ..
                },
            ..
        } => source,
        other => panic!("not typed as one of security: {other}"),
    }
}
