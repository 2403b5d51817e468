//! What a topic holds.

use crate::programs::PATIENCE;
use tidewatch_client::{Client, Event, StartAt};

/// A record as text; null is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Every record of the first `partitions` partitions as it stands now, in order.
///
/// # Panics
/// If it cannot be read.
pub async fn read_all(client: &Client, topic: &str, partitions: i32) -> Vec<Row> {
    let mut consumer = client.consumer().await.unwrap();
    let all = (0..partitions).map(|partition| (topic, partition, StartAt::Earliest));
    consumer.assign(all).await.unwrap();
    let text = |bytes: Option<bytes::Bytes>| {
        String::from_utf8(bytes.unwrap_or_default().to_vec()).expect("text")
    };
    let (mut rows, mut left) = (Vec::new(), partitions);
    while left > 0 {
        match tokio::time::timeout(PATIENCE, consumer.next()).await {
            Ok(Ok(Event::Records(records))) => {
                let partition = records.topic_partition().partition;
                for record in records {
                    let record = record.unwrap();
                    rows.push(Row {
                        partition,
                        offset: record.offset,
                        key: text(record.key),
                        value: text(record.value),
                    });
                }
            }
            Ok(Ok(Event::CaughtUp(_))) => left -= 1,
            other => panic!("{topic} cannot be read: {other:?}"),
        }
    }
    rows.sort();
    rows
}
