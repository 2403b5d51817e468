//! The producer's handle: records in, deliveries out.

use crate::handle::Handle;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidewatch_client_core::client::Command;
use tidewatch_client_core::error::Error;
use tidewatch_client_core::options::ProducerOptions;
use tidewatch_client_core::producer::Command as ProducerCommand;
use tidewatch_client_core::producer::accumulator::{Accumulator, RecordRef, Refused, Wake};
use tidewatch_client_core::producer::delivery::Delivery;
use tidewatch_client_core::producer::partitioner::Partitioner;
use tidewatch_protocol::records::Header;

/// Batches that [`Producer::send`] fills before it lets others have its thread, the client's own task among
/// them: what is full should be on its way, although there may be room for more.
const BATCHES_PER_TURN: usize = 2;

/// A record to send; it borrows everything, and nothing is copied before it is encoded.
#[derive(Debug, Clone)]
pub struct ProducerRecord<'a> {
    topic: &'a str,
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Vec<Header<'a>>,
}

impl<'a> ProducerRecord<'a> {
    /// A record to `topic` with null key, null value and no headers.
    pub fn to(topic: &'a str) -> Self {
        Self {
            topic,
            partition: None,
            timestamp_ms: None,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    /// To this partition, whatever the key.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Milliseconds since 1970; otherwise the time of sending.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// The key; records of one key go to one partition, as with Java's client.
    #[must_use]
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// The value.
    #[must_use]
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// One more header; names may repeat.
    #[must_use]
    pub fn header(mut self, key: &'a str, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.headers.push(Header {
            key,
            value: Some(value.as_ref()),
        });
        self
    }

    /// One more header, with a null value.
    #[must_use]
    pub fn null_header(mut self, key: &'a str) -> Self {
        self.headers.push(Header { key, value: None });
        self
    }

    fn borrowed(&self) -> RecordRef<'_> {
        RecordRef {
            topic: self.topic,
            partition: self.partition,
            timestamp_ms: self.timestamp_ms,
            key: self.key,
            value: self.value,
            headers: &self.headers,
        }
    }
}

/// A record that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to send a record to {topic}: {why}{}", waited(*.waited_ms))]
pub struct SendError {
    /// Where it was to go.
    pub topic: String,
    /// Why it was not taken.
    pub why: Refused,
    /// How long it waited for that to change (`max.block.ms`).
    pub waited_ms: Option<u64>,
}

fn waited(ms: Option<u64>) -> String {
    ms.map_or(String::new(), |ms| {
        format!(", for all of max.block.ms={ms}")
    })
}

/// Sends records; cheap to clone, usable from any thread. The last clone dropped ends it, and what
/// was not delivered by then fails: `flush` or `close` before.
#[derive(Debug, Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    handle: Handle,
    number: u32,
    accumulator: Arc<Accumulator>,
    max_block: Duration,
    /// Batches that were filled since a sender last let others have its thread.
    filled: AtomicUsize,
}

impl Producer {
    /// `partitioner` is the user's own, if there is one.
    pub(crate) async fn open(
        handle: Handle,
        options: ProducerOptions,
        partitioner: Option<Arc<dyn Partitioner>>,
    ) -> Result<Self, Error> {
        let accumulator = Accumulator::with_partitioner(&options, handle.waker(), partitioner);
        let max_block = Duration::from_millis(options.max_block_ms);
        let number = handle
            .open_producer(options, Arc::clone(&accumulator))
            .await?;
        Ok(Self::opened(handle, number, accumulator, max_block))
    }

    /// One that sends only within transactions.
    pub(crate) async fn open_transactional(
        handle: Handle,
        options: ProducerOptions,
    ) -> Result<Self, Error> {
        let accumulator = Accumulator::new(&options, handle.waker());
        let max_block = Duration::from_millis(options.max_block_ms);
        let number = handle
            .open_transactional_producer(options, Arc::clone(&accumulator))
            .await?;
        Ok(Self::opened(handle, number, accumulator, max_block))
    }

    fn opened(
        handle: Handle,
        number: u32,
        accumulator: Arc<Accumulator>,
        max_block: Duration,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                handle,
                number,
                accumulator,
                max_block,
                filled: AtomicUsize::new(0),
            }),
        }
    }

    /// Takes a record, waiting up to `max.block.ms` for the topic to be known and for room in
    /// `buffer.memory`. The [`Delivery`] resolves when Kafka has the record; it may be dropped. Who sends
    /// without a pause lets other tasks have the thread every few batches.
    ///
    /// Cancellation-safe: a future dropped before it is ready has sent nothing.
    ///
    /// # Errors
    /// The record can never be taken, or not in time.
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery, SendError> {
        if self.shared.filled.load(Ordering::Relaxed) >= BATCHES_PER_TURN {
            self.shared.filled.store(0, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        match self.append(&record) {
            Err(why) if why.may_pass() => self.send_when_possible(&record).await,
            end => end.map_err(|why| error(record.topic, why, None)),
        }
    }

    async fn send_when_possible(&self, record: &ProducerRecord<'_>) -> Result<Delivery, SendError> {
        let (accumulator, clock) = (&self.shared.accumulator, self.shared.handle.clock());
        let mut waiting = accumulator.waiting();
        let sent = poll_fn(|context| {
            accumulator.poll_append(clock, &record.borrowed(), &mut waiting, context.waker())
        });
        match tokio::time::timeout(self.shared.max_block, sent).await {
            Ok(Ok(appended)) => Ok(appended.delivery),
            Ok(Err(why)) => Err(error(record.topic, why, None)),
            Err(_) => {
                let why = waiting.last_refused().cloned().unwrap_or(Refused::Full);
                let waited_ms = u64::try_from(self.shared.max_block.as_millis()).ok();
                Err(error(record.topic, why, waited_ms))
            }
        }
    }

    /// How many partitions a topic has. One that is not known yet is asked for, without waiting: who
    /// asks before the first record spares it the wait for a connection and for the topic.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send) would refuse a record for it: [`Refused::UnknownTopic`] until
    /// the brokers have answered.
    pub fn partitions_for(&self, topic: &str) -> Result<usize, SendError> {
        let count = self.shared.accumulator.partitions(topic);
        count.map_err(|why| error(topic, why, None))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    /// Names its rooms.
    pub(crate) fn number(&self) -> u32 {
        self.shared.number
    }

    fn append(&self, record: &ProducerRecord<'_>) -> Result<Delivery, Refused> {
        let clock = self.shared.handle.clock();
        let appended = self.shared.accumulator.append(clock, record.borrowed())?;
        if appended.wake == Wake::Ready {
            self.shared.filled.fetch_add(1, Ordering::Relaxed);
        }
        Ok(appended.delivery)
    }

    /// Takes a record at once or not at all.
    ///
    /// # Errors
    /// As [`send`](Self::send), and where it would have to wait: [`Refused::UnknownTopic`], which
    /// also asks for the topic, and [`Refused::Full`].
    pub fn try_send(&self, record: &ProducerRecord<'_>) -> Result<Delivery, SendError> {
        let taken = self.append(record);
        taken.map_err(|why| error(record.topic, why, None))
    }

    /// Sends everything now, without linger, and returns when all of it has an outcome.
    ///
    /// # Errors
    /// The client was closed.
    pub async fn flush(&self) -> Result<(), Error> {
        let command = Command::Producer(self.shared.number, ProducerCommand::Flush);
        self.shared
            .handle
            .request("flush the producer", command)
            .await
            .map(drop)
    }

    /// Takes no more records, and returns when all have an outcome; what has none after `timeout`
    /// fails.
    ///
    /// # Errors
    /// The client was closed.
    pub async fn close(&self, timeout: Duration) -> Result<(), Error> {
        let timeout_us = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
        let deadline_us = self
            .shared
            .handle
            .now()
            .monotonic_us
            .saturating_add(timeout_us);
        let command = Command::Producer(self.shared.number, ProducerCommand::Close { deadline_us });
        self.shared
            .handle
            .request("close the producer", command)
            .await
            .map(drop)
    }
}

fn error(topic: &str, why: Refused, waited_ms: Option<u64>) -> SendError {
    SendError {
        topic: topic.to_owned(),
        why,
        waited_ms,
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.handle.close_producer(self.number);
    }
}
