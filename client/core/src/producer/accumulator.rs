//! Records on their way to the brokers: what callers' threads share with the producer's room.
//!
//! A record is encoded at once into its partition's open batch. No allocation, channel message or
//! completion object is made per record: a batch has one outcome, and records know their index.

use super::delivery::Delivery;
use super::memory::{Memory, Ticket};
use super::partitioner::{Partitioner, Random, partition_for_key};
use super::queue::{OpenBatch, PartitionQueue, Sizing};
use super::topics::{Topic, Topics};
use crate::metadata::Cluster;
use crate::options::ProducerOptions;
use crate::time::ReadTime;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use tidewatch_protocol::compression::Codec;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::records::batch::BATCH_HEADER_BYTES;
use tidewatch_protocol::records::{BatchBuilder, Header};

/// A batch's length is an i32 on the wire; this leaves room for what compression may add.
const MAX_BATCH_BYTES: usize = 1 << 30;

/// A record to send; nothing is copied before it is encoded.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Where to; the partitioner decides where `None`.
    pub partition: Option<i32>,
    /// Milliseconds since the Unix epoch; the time of the call where `None`.
    pub timestamp_ms: Option<i64>,
    /// Null and empty are different.
    pub key: Option<&'a [u8]>,
    /// Null and empty are different.
    pub value: Option<&'a [u8]>,
    /// In order, duplicates kept.
    pub headers: &'a [Header<'a>],
}

/// A record that was taken.
#[derive(Debug)]
pub struct Appended {
    /// Its fate.
    pub delivery: Delivery,
    /// What it meant for the driver, which was woken already.
    pub wake: Wake,
}

/// What a record meant for the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Nothing.
    No,
    /// It opened a batch, which lingers from now on.
    Opened,
    /// It filled a batch, or left no room in the one before.
    Ready,
}

/// A record that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No broker has told about the topic yet; it has been asked for. Waiting helps.
    #[error("the topic is not known (yet): does it exist, and can the brokers be reached?")]
    UnknownTopic,
    /// The topic is not known, and no broker can be asked for want of security: a certificate or a
    /// password is wrong. Waiting helps once somebody mends it, and no sooner.
    #[error("no broker can be asked about the topic: {0}")]
    Unsecured(Arc<str>),
    /// `buffer.memory` is used up, or others wait for it already. Waiting helps.
    #[error("buffer.memory is used up: records come faster than the brokers take them")]
    Full,
    /// It can never be sent.
    #[error("the record takes up to {size} bytes, over {option}={limit}")]
    TooLarge {
        /// The most that it takes in a batch of its own.
        size: usize,
        /// The limit.
        limit: usize,
        /// The option that sets the limit.
        option: &'static str,
    },
    /// The topic has no such partition.
    #[error("the topic has {count} partitions, there is no partition {partition}")]
    NoPartition {
        /// As asked for.
        partition: i32,
        /// How many there are, from 0.
        count: usize,
    },
    /// The brokers refuse the topic, and asking again does not help.
    #[error("the brokers refuse the topic: {0}")]
    Topic(ErrorCode),
    /// The producer is closed.
    #[error("the producer was closed")]
    Closed,
}

impl Refused {
    /// Whether waiting can help: [`Refused::UnknownTopic`] and [`Refused::Full`].
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::UnknownTopic | Self::Full)
    }
}

/// The records that a producer has taken and not yet sent.
#[derive(Debug)]
pub struct Accumulator {
    batch_bytes: usize,
    max_record_bytes: usize,
    codec: Codec,
    partitioner: Option<Arc<dyn Partitioner>>,
    random: Random,
    memory: Arc<Memory>,
    topics: Topics,
    /// Partitions with something new, for the room; each once.
    news: Mutex<Vec<Arc<PartitionQueue>>>,
    closed: AtomicBool,
    driver: Waker,
}

impl Accumulator {
    /// Empty; `driver` is woken when the room has something to do.
    pub fn new(options: &ProducerOptions, driver: Waker) -> Arc<Self> {
        Self::with_partitioner(options, driver, None)
    }

    /// With a partitioner of the user's own.
    pub fn with_partitioner(
        options: &ProducerOptions,
        driver: Waker,
        partitioner: Option<Arc<dyn Partitioner>>,
    ) -> Arc<Self> {
        let batch_bytes = options
            .batch_size
            .min(options.buffer_memory)
            .min(options.max_request_size);
        let batch_bytes = batch_bytes.max(BATCH_HEADER_BYTES);
        Arc::new(Self {
            batch_bytes,
            max_record_bytes: options.max_request_size.min(MAX_BATCH_BYTES),
            codec: options.codec(),
            partitioner,
            random: Random::default(),
            memory: Memory::new(options.buffer_memory, batch_bytes),
            topics: Topics::default(),
            news: Mutex::default(),
            closed: AtomicBool::new(false),
            driver,
        })
    }

    /// Takes a record, or says at once why not. Its bytes are copied into the partition's batch; the
    /// thread that fills a batch compresses it.
    ///
    /// # Errors
    /// See [`Refused`].
    #[inline]
    pub fn append(&self, now: impl ReadTime, record: RecordRef<'_>) -> Result<Appended, Refused> {
        self.append_in_turn(&now, &record, None)
    }

    /// A place to wait in, for [`Accumulator::poll_append`].
    pub fn waiting(&self) -> Waiting<'_> {
        Waiting {
            accumulator: self,
            ticket: None,
            last: None,
        }
    }

    /// Takes a record, or wakes `waker` when it is worth asking again. Senders who wait for memory
    /// are served in the order they came.
    pub fn poll_append(
        &self,
        now: impl ReadTime,
        record: &RecordRef<'_>,
        waiting: &mut Waiting<'_>,
        waker: &Waker,
    ) -> Poll<Result<Appended, Refused>> {
        // What it waits for may come between a refusal and its registration: it asks once more. The
        // other thing may be missing then, hence the third time.
        for _ in 0..3 {
            let refused = match self.append_in_turn(&now, record, waiting.ticket) {
                Err(refused) if refused.may_pass() => refused,
                end => return Poll::Ready(end),
            };
            waiting.wait_for(refused, waker);
        }
        Poll::Pending
    }

    /// How many partitions a topic has. One that is not known is asked for.
    ///
    /// # Errors
    /// As a record for it would be refused.
    pub fn partitions(&self, topic: &str) -> Result<usize, Refused> {
        let known = self.topics.get(topic);
        let known = known.ok_or_else(|| self.announce(topic));
        known.and_then(|topic| self.count(topic))
    }

    /// Bytes of `buffer.memory` in use.
    pub fn used_bytes(&self) -> usize {
        self.memory.used_bytes()
    }

    #[inline]
    fn append_in_turn(
        &self,
        now: &impl ReadTime,
        record: &RecordRef<'_>,
        ticket: Option<Ticket>,
    ) -> Result<Appended, Refused> {
        let record_bytes = BatchBuilder::upper_bound(record.key, record.value, record.headers);
        self.check_size(record_bytes)?;
        let Some(topic) = self.topics.get(record.topic) else {
            return Err(self.announce(record.topic));
        };
        let (queue, sticky) = self.choose(topic, record)?;
        let target = Target {
            topic,
            queue,
            timestamp_ms: record.timestamp_ms.unwrap_or_else(|| now.wall_ms()),
            sizing: Sizing {
                batch_bytes: self.batch_bytes,
                record_bytes,
                sticky,
            },
        };
        match queue.append_inside(record, target.timestamp_ms, target.sizing) {
            Some(delivery) => Ok(Appended {
                delivery,
                wake: Wake::No,
            }),
            None => self.append_at_edge(now, target, record, ticket),
        }
    }

    /// Where a batch ends or opens.
    #[cold]
    fn append_at_edge(
        &self,
        now: &impl ReadTime,
        target: Target<'_>,
        record: &RecordRef<'_>,
        ticket: Option<Ticket>,
    ) -> Result<Appended, Refused> {
        let Target {
            topic,
            mut queue,
            timestamp_ms,
            sizing,
        } = target;
        let mut left = Wake::No;
        if let Some(ended) = sizing.sticky.then(|| queue.leave(sizing)).flatten() {
            left = self.settle(queue, [ended, None], false);
            topic.sticky.switch(&self.random);
            queue = topic.queue(topic.sticky.partition()).unwrap_or(queue);
        }
        let append = queue.append(now, record, timestamp_ms, sizing, &self.memory, ticket);
        let append = append.ok_or(Refused::Closed)?;
        let wake = match self.settle(queue, append.ended, append.opened) {
            Wake::No => left,
            wake if left == Wake::No => wake,
            _ => Wake::Ready,
        };
        let delivery = append.delivery.ok_or(Refused::Full)?;
        Ok(Appended { delivery, wake })
    }

    /// A topic's partitions, where records are taken for it.
    #[inline]
    fn count(&self, topic: &Topic) -> Result<usize, Refused> {
        if let Some(code) = topic.refused() {
            return Err(Refused::Topic(code));
        }
        match topic.count() {
            // It was forgotten, or is just being taken over: its queues come in a moment.
            0 => Err(self.announce(topic.name())),
            count => Ok(count),
        }
    }

    #[inline]
    fn check_size(&self, record_bytes: usize) -> Result<(), Refused> {
        let size = record_bytes.saturating_add(BATCH_HEADER_BYTES);
        let memory = self.memory.limit_bytes();
        if size <= self.max_record_bytes && size <= memory {
            return Ok(());
        }
        let (limit, option) = if size > self.max_record_bytes {
            (self.max_record_bytes, "max.request.size")
        } else {
            (memory, "buffer.memory")
        };
        Err(Refused::TooLarge {
            size,
            limit,
            option,
        })
    }

    /// The record's partition, and whether it is a sticky choice.
    #[inline]
    fn choose<'t>(
        &self,
        topic: &'t Topic,
        record: &RecordRef<'_>,
    ) -> Result<(&'t Arc<PartitionQueue>, bool), Refused> {
        let count = self.count(topic)?;
        let own = || {
            let partitioner = self.partitioner.as_ref()?;
            partitioner.partition(record.topic, record.key, record.value, count)
        };
        let (partition, sticky) = match (record.partition.or_else(own), record.key) {
            (Some(partition), _) => (Some(partition), false),
            (None, Some(key)) => (Some(partition_for_key(key, count)), false),
            (None, None) => (Some(topic.sticky.partition()), true),
        };
        let queue = partition.and_then(|partition| topic.queue(partition));
        let found = queue.map(|queue| (queue, sticky));
        found.ok_or_else(|| {
            // It may have been forgotten in between.
            let none = |count| {
                let partition = partition.unwrap_or(-1);
                Refused::NoPartition { partition, count }
            };
            self.count(topic).map_or_else(|refused| refused, none)
        })
    }

    /// Seals what ended, tells the room, and wakes the driver.
    fn settle(
        &self,
        queue: &Arc<PartitionQueue>,
        ended: [Option<OpenBatch>; 2],
        opened: bool,
    ) -> Wake {
        let mut wake = if opened { Wake::Opened } else { Wake::No };
        for open in ended.into_iter().flatten() {
            let number = open.number();
            queue.put_sealed(number, open.seal(self.codec));
            wake = Wake::Ready;
        }
        if wake != Wake::No && queue.list() {
            let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
            let first = news.is_empty();
            news.push(Arc::clone(queue));
            drop(news);
            if first {
                self.driver.wake_by_ref();
            }
        }
        wake
    }

    /// Has the room look a topic up.
    #[cold]
    fn announce(&self, topic: &str) -> Refused {
        if self.closed.load(Ordering::Acquire) {
            return Refused::Closed;
        }
        if self.topics.announce(topic) {
            self.driver.wake_by_ref();
        }
        match self.topics.unsecured() {
            Some(why) => Refused::Unsecured(why),
            None => Refused::UnknownTopic,
        }
    }
}

/// For the room.
impl Accumulator {
    pub(crate) fn seed(&self, seed: u64) {
        self.random.seed(seed);
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Partitions that have something new.
    pub(crate) fn take_news(&self) -> Vec<Arc<PartitionQueue>> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Partition counts and leaders from a new picture of the cluster; wakes who waits for a topic.
    pub(crate) fn update(&self, cluster: &Cluster) {
        self.topics.update(cluster);
        if self.closed.load(Ordering::Acquire) {
            self.topics.queues().for_each(|queue| queue.close());
        }
    }

    /// Refuses records from now on. What was taken stays.
    pub(crate) fn refuse(&self) {
        self.closed.store(true, Ordering::Release);
        self.topics.close();
        self.memory.wake_all();
    }

    /// Refuses records from now on and fails those that were not taken by the room.
    pub(crate) fn close(&self) {
        self.refuse();
        self.topics.queues().for_each(|queue| queue.close());
    }
}

/// Where a record goes, and in which form.
#[derive(Debug, Clone, Copy)]
struct Target<'t> {
    topic: &'t Topic,
    queue: &'t Arc<PartitionQueue>,
    timestamp_ms: i64,
    sizing: Sizing,
}

/// A sender's place among those who wait; dropped, it lets the next one pass.
#[derive(Debug)]
pub struct Waiting<'a> {
    accumulator: &'a Accumulator,
    ticket: Option<Ticket>,
    last: Option<Refused>,
}

impl Waiting<'_> {
    fn wait_for(&mut self, refused: Refused, waker: &Waker) {
        let Accumulator {
            memory,
            topics,
            driver,
            ..
        } = self.accumulator;
        let ticket = *self.ticket.get_or_insert_with(|| memory.new_ticket());
        if refused == Refused::Full {
            memory.wait(ticket, waker);
            // Open batches stop lingering.
            driver.wake_by_ref();
        } else {
            topics.wait(ticket, waker);
        }
        self.last = Some(refused);
    }

    /// What it waited for last.
    pub fn last_refused(&self) -> Option<&Refused> {
        self.last.as_ref()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.accumulator.memory.leave(ticket);
            self.accumulator.topics.leave(ticket);
        }
    }
}
