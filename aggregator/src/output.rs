//! What the engines hand out, on its way to Kafka and to the console.

use crate::table::{self, Row as TableRow};
use std::collections::BTreeMap;
use tidewatch_client::{Delivery, Producer, ProducerRecord, TopicPartition};
use tidewatch_command::{Failure, print};
use tidewatch_engine::{Output, RejectedRecord, Row};
use tidewatch_sample::{Reason, Reject, Window, rejected_topic, results_topic};

/// Results and rejects since the last commit. All of them are durable before the offsets are.
#[derive(Debug)]
pub(crate) struct Batch {
    number: u64,
    rows: Vec<TableRow>,
    deliveries: Vec<Delivery>,
    rejected: BTreeMap<(String, Reason), u64>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            number: 0,
            rows: Vec::new(),
            deliveries: Vec::new(),
            rejected: BTreeMap::new(),
        }
    }

    /// Records under way to Kafka.
    pub(crate) fn in_flight(&self) -> usize {
        self.deliveries.len()
    }

    /// Sends all of `output`, which came from `input`, and empties it.
    pub(crate) async fn take(
        &mut self,
        input: &TopicPartition,
        output: &mut Output,
        producer: &Producer,
        wall_ms: i64,
    ) -> Result<(), Failure> {
        for row in &output.rows {
            self.send_row(input, row, producer).await?;
        }
        for rejected in &output.rejects {
            self.send_reject(input, rejected, producer, wall_ms).await?;
        }
        output.clear();
        Ok(())
    }

    async fn send_row(
        &mut self,
        input: &TopicPartition,
        row: &Row,
        producer: &Producer,
    ) -> Result<(), Failure> {
        let Some(result) = row.result() else {
            return Ok(());
        };
        let topic = results_topic(&input.topic);
        let value = result.encode_value();
        let headers = result.encode_headers();
        let mut record = ProducerRecord::to(&topic)
            .partition(input.partition)
            .timestamp_ms(result.window.timestamp_ms())
            .key(result.host)
            .value(&value);
        for header in &headers {
            record = record.header(header.name, &header.value);
        }
        self.deliveries
            .push(producer.send(record).await.map_err(Failure::running)?);
        let window = match result.window {
            Window::Span { start_ms, end_ms } => table::span(start_ms, end_ms),
            Window::All { .. } => "all".to_owned(),
        };
        self.rows.push([
            input.topic.to_string(),
            window,
            result.host.to_owned(),
            value,
            result.min.to_string(),
            result.max.to_string(),
            result.samples.to_string(),
        ]);
        Ok(())
    }

    async fn send_reject(
        &mut self,
        input: &TopicPartition,
        rejected: &RejectedRecord,
        producer: &Producer,
        wall_ms: i64,
    ) -> Result<(), Failure> {
        let reject = Reject {
            reason: rejected.reason,
            topic: input.topic.to_string(),
            partition: input.partition,
            offset: rejected.offset,
            timestamp_ms: rejected.timestamp_ms,
            truncated_bytes: rejected.truncated_bytes,
            truncated_key_bytes: rejected.truncated_key_bytes,
        };
        // Before the first sample there is no clock; a broker takes no time far from its own.
        let timestamp_ms = rejected.clock_ms.unwrap_or(wall_ms);
        let topic = rejected_topic(&input.topic);
        let headers = reject.encode_headers();
        let mut record = ProducerRecord::to(&topic)
            .partition(input.partition)
            .timestamp_ms(timestamp_ms);
        if let Some(key) = &rejected.key {
            record = record.key(key);
        }
        if let Some(value) = &rejected.value {
            record = record.value(value);
        }
        for header in &headers {
            record = record.header(header.name, &header.value);
        }
        self.deliveries
            .push(producer.send(record).await.map_err(Failure::running)?);
        *self
            .rejected
            .entry((input.topic.to_string(), rejected.reason))
            .or_default() += 1;
        Ok(())
    }

    /// Waits until everything sent is durable, then prints it.
    pub(crate) async fn complete(&mut self, producer: &Producer) -> Result<(), Failure> {
        if self.deliveries.is_empty() {
            return Ok(());
        }
        producer.flush().await.map_err(Failure::running)?;
        for delivery in self.deliveries.drain(..) {
            delivery.await.map_err(Failure::running)?;
        }
        for ((topic, reason), count) in std::mem::take(&mut self.rejected) {
            tracing::warn!(
                "{count} records of {topic} rejected as {reason}, kept on {}",
                rejected_topic(&topic)
            );
        }
        if !self.rows.is_empty() {
            self.rows.sort();
            print(table::draw(self.number, &self.rows)).await?;
            self.number += 1;
            self.rows.clear();
        }
        Ok(())
    }
}
