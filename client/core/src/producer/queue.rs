//! One partition's records on their way out: an open batch that takes more, and ended ones in order.

use super::accumulator::RecordRef;
use super::delivery::{Delivery, DeliveryCause, Failure, Outcome, Promise};
use super::memory::{Charge, Memory, Reserved, Ticket, Unresolved};
use crate::time::ReadTime;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidewatch_protocol::compression::{Codec, Compression, CompressionError};
use tidewatch_protocol::records::batch::BATCH_HEADER_BYTES;
use tidewatch_protocol::records::{BatchBuilder, SealedBatch};

/// The batches of one partition that were not taken by the room yet.
#[derive(Debug)]
pub(crate) struct PartitionQueue {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    /// Counts the partitions of one accumulator.
    pub(crate) number: u32,
    /// Already among the partitions that the room will look at.
    listed: AtomicBool,
    batches: Mutex<Batches>,
}

#[derive(Debug, Default)]
struct Batches {
    ended: VecDeque<Ended>,
    open: Option<OpenBatch>,
    /// Of records that came by the sticky choice, since it came here.
    sticky_bytes: usize,
    closed: bool,
}

/// A batch that takes no more records.
#[derive(Debug)]
enum Ended {
    /// In the hands of the thread that filled it, outside the lock.
    Sealing {
        number: u64,
        opened_us: u64,
    },
    Sealed(Batch),
}

/// A batch that takes records.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    builder: BatchBuilder,
    promise: Promise,
    charge: Charge,
    unresolved: Arc<Unresolved>,
    opened_us: u64,
}

/// A batch whose records never change any more.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) sealed: SealedBatch,
    promise: Promise,
    charge: Charge,
    unresolved: Arc<Unresolved>,
    /// When its first record came; its delivery timeout counts from here.
    pub(crate) opened_us: u64,
}

/// What the room may know about the front of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Front {
    pub(crate) state: FrontState,
    pub(crate) number: u64,
    pub(crate) opened_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrontState {
    /// To be had at once.
    Ended,
    /// To be had soon; news will come.
    Sealing,
    /// To be had, but it would take more records.
    Open,
}

/// What came of appending a record.
#[derive(Debug, Default)]
pub(crate) struct Append {
    /// `None` where there was no room for a new batch.
    pub(crate) delivery: Option<Delivery>,
    pub(crate) opened: bool,
    /// Batches that ended by it; the caller seals them, outside the lock.
    pub(crate) ended: [Option<OpenBatch>; 2],
}

/// How large batches may become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizing {
    pub(crate) batch_bytes: usize,
    /// What this record takes at most.
    pub(crate) record_bytes: usize,
    /// It comes by the sticky choice.
    pub(crate) sticky: bool,
}

impl PartitionQueue {
    pub(crate) fn new(topic: Arc<str>, partition: i32, number: u32) -> Self {
        let (listed, batches) = (AtomicBool::new(false), Mutex::default());
        Self {
            topic,
            partition,
            number,
            listed,
            batches,
        }
    }

    /// Encodes a record into the open batch if that leaves it open: nearly always.
    #[inline]
    pub(crate) fn append_inside(
        &self,
        record: &RecordRef<'_>,
        timestamp_ms: i64,
        sizing: Sizing,
    ) -> Option<Delivery> {
        let mut batches = self.lock();
        let open = batches.open.as_mut()?;
        if open
            .builder
            .size_bytes()
            .saturating_add(sizing.record_bytes)
            >= sizing.batch_bytes
        {
            return None;
        }
        let delivery = open.append(record, timestamp_ms)?;
        batches.count_sticky(sizing);
        Some(delivery)
    }

    /// Whether the sticky choice should move on rather than bring this record: it has brought a
    /// batch's worth, and no batch is left half full. The open batch ends by it.
    pub(crate) fn leave(&self, sizing: Sizing) -> Option<Option<OpenBatch>> {
        let mut batches = self.lock();
        let brought = batches.sticky_bytes.saturating_add(sizing.record_bytes);
        if brought < sizing.batch_bytes || batches.takes(sizing) {
            return None;
        }
        batches.sticky_bytes = 0;
        Some(batches.end_open())
    }

    /// Encodes a record, ending and opening batches as need be. `None` where the queue is closed.
    pub(crate) fn append(
        &self,
        now: &impl ReadTime,
        record: &RecordRef<'_>,
        timestamp_ms: i64,
        sizing: Sizing,
        memory: &Arc<Memory>,
        ticket: Option<Ticket>,
    ) -> Option<Append> {
        let mut batches = self.lock();
        if batches.closed {
            return None;
        }
        let mut append = Append::default();
        let takes = batches.takes(sizing);
        let open = batches.open.as_mut().filter(|_| takes);
        append.delivery = open.and_then(|open| open.append(record, timestamp_ms));
        if append.delivery.is_none() {
            append.ended[0] = batches.end_open();
            let alone_bytes = BATCH_HEADER_BYTES.saturating_add(sizing.record_bytes);
            let size_bytes = sizing.batch_bytes.max(alone_bytes);
            let Some(reserved) = memory.reserve(size_bytes, ticket) else {
                return Some(append);
            };
            let mut open = self.open(reserved, now.monotonic_us());
            append.opened = true;
            append.delivery = open.append(record, timestamp_ms);
            batches.open = Some(open);
        }
        batches.count_sticky(sizing);
        let open = batches.open.as_ref();
        if open.is_some_and(|open| open.builder.size_bytes() >= sizing.batch_bytes) {
            append.ended[1] = batches.end_open();
        }
        Some(append)
    }

    /// Puts a sealed batch in the place that was kept for it.
    pub(crate) fn put_sealed(
        &self,
        number: u64,
        sealed: Result<Batch, (Promise, CompressionError)>,
    ) {
        let mut batches = self.lock();
        let place = batches
            .ended
            .iter()
            .position(|ended| ended.is_sealing(number));
        let sealed = match (sealed, place) {
            (Ok(batch), Some(place)) => {
                if let Some(ended) = batches.ended.get_mut(place) {
                    *ended = Ended::Sealed(batch);
                }
                return;
            }
            // The queue was closed meanwhile.
            (sealed, None) => sealed,
            (sealed, Some(place)) => {
                batches.ended.remove(place);
                sealed
            }
        };
        drop(batches);
        match sealed {
            Ok(batch) => batch.failed(Failure::new(DeliveryCause::Closed, false)),
            Err((promise, error)) => {
                promise.failed(Failure::new(DeliveryCause::Compression(error), false));
            }
        }
    }

    /// The first batch, if there is one.
    pub(crate) fn front(&self) -> Option<Front> {
        let batches = self.lock();
        match (batches.ended.front(), &batches.open) {
            (Some(ended), _) => Some(ended.front()),
            (None, Some(open)) => Some(Front {
                state: FrontState::Open,
                number: open.unresolved.number,
                opened_us: open.opened_us,
            }),
            (None, None) => None,
        }
    }

    /// Takes the first batch if it is at most `limit_bytes` long, ending it if it is open.
    pub(crate) fn take(&self, limit_bytes: usize, codec: Codec) -> Option<Taken> {
        let mut batches = self.lock();
        match batches.ended.front() {
            Some(Ended::Sealing { .. }) => return None,
            Some(Ended::Sealed(batch)) if batch.sealed.size_bytes() > limit_bytes => return None,
            Some(Ended::Sealed(_)) => {
                let ended = batches.ended.pop_front();
                return match ended {
                    Some(Ended::Sealed(batch)) => Some(Taken::Batch(batch)),
                    _ => None,
                };
            }
            None => {}
        }
        let open = batches
            .open
            .take_if(|open| open.builder.size_bytes() <= limit_bytes)?;
        drop(batches);
        Some(match open.seal(codec) {
            Ok(batch) => Taken::Batch(batch),
            Err((promise, error)) => {
                promise.failed(Failure::new(DeliveryCause::Compression(error), false));
                Taken::Nothing
            }
        })
    }

    /// Fails the first batches, as far as they were opened until `until_us`, and returns whether
    /// there were any.
    pub(crate) fn fail_until(&self, until_us: u64, failure: &Failure) -> bool {
        let mut failed = Vec::new();
        let mut batches = self.lock();
        while let Some(Ended::Sealed(batch)) = batches.ended.front() {
            if batch.opened_us > until_us {
                break;
            }
            failed.extend(batches.ended.pop_front());
        }
        let open = match batches.ended.is_empty() {
            true => batches.open.take_if(|open| open.opened_us <= until_us),
            false => None,
        };
        drop(batches);
        let any = !failed.is_empty() || open.is_some();
        fail_all(failed, open, failure);
        any
    }

    /// Takes no more records; fails what it holds.
    pub(crate) fn close(&self) {
        let mut batches = self.lock();
        batches.closed = true;
        let (ended, open) = (std::mem::take(&mut batches.ended), batches.open.take());
        drop(batches);
        fail_all(ended, open, &Failure::new(DeliveryCause::Closed, false));
    }

    /// Marks the queue as one that the room will look at; false where it was already.
    pub(crate) fn list(&self) -> bool {
        !self.listed.swap(true, Ordering::AcqRel)
    }

    /// To be called before looking at it.
    pub(crate) fn unlist(&self) {
        self.listed.store(false, Ordering::Release);
    }

    fn open(&self, reserved: Reserved, now_us: u64) -> OpenBatch {
        let outcome = Outcome::new(Arc::clone(&self.topic), self.partition);
        OpenBatch {
            builder: BatchBuilder::from_recycled(reserved.buffer),
            promise: Promise::new(outcome),
            charge: reserved.charge,
            unresolved: reserved.unresolved,
            opened_us: now_us,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fail_all(ended: impl IntoIterator<Item = Ended>, open: Option<OpenBatch>, failure: &Failure) {
    for ended in ended {
        if let Ended::Sealed(batch) = ended {
            batch.failed(failure.clone());
        }
    }
    if let Some(open) = open {
        open.charge.memory().note_failure(&failure.cause);
        open.promise.failed(failure.clone());
    }
}

/// What the room got from a queue.
#[derive(Debug)]
pub(crate) enum Taken {
    Batch(Batch),
    /// The batch could not be sealed and was failed.
    Nothing,
}

impl Batches {
    fn takes(&self, sizing: Sizing) -> bool {
        let open = self.open.as_ref();
        let size_bytes = open.map(|open| {
            open.builder
                .size_bytes()
                .saturating_add(sizing.record_bytes)
        });
        size_bytes.is_some_and(|size_bytes| size_bytes <= sizing.batch_bytes)
    }

    #[inline]
    fn count_sticky(&mut self, sizing: Sizing) {
        if sizing.sticky {
            self.sticky_bytes = self.sticky_bytes.saturating_add(sizing.record_bytes);
        }
    }

    fn end_open(&mut self) -> Option<OpenBatch> {
        let open = self.open.take()?;
        let (number, opened_us) = (open.unresolved.number, open.opened_us);
        self.ended.push_back(Ended::Sealing { number, opened_us });
        Some(open)
    }
}

impl Ended {
    fn is_sealing(&self, wanted: u64) -> bool {
        matches!(self, Self::Sealing { number, .. } if *number == wanted)
    }

    fn front(&self) -> Front {
        match self {
            Self::Sealing { number, opened_us } => Front {
                state: FrontState::Sealing,
                number: *number,
                opened_us: *opened_us,
            },
            Self::Sealed(batch) => Front {
                state: FrontState::Ended,
                number: batch.unresolved.number,
                opened_us: batch.opened_us,
            },
        }
    }
}

impl OpenBatch {
    pub(crate) fn number(&self) -> u64 {
        self.unresolved.number
    }

    /// Ends the batch: its records' CRC, compression, and its buffer back where that made a copy.
    pub(crate) fn seal(self, codec: Codec) -> Result<Batch, (Promise, CompressionError)> {
        let Self {
            builder,
            promise,
            mut charge,
            unresolved,
            opened_us,
        } = self;
        let plain = builder.seal();
        let sealed = if codec.compression == Compression::None {
            plain
        } else {
            match plain.compressed(codec) {
                Ok(packed) => {
                    if let Some(buffer) = plain.recycle() {
                        charge.memory().recycle(buffer);
                    }
                    charge.shrink_to(packed.size_bytes());
                    packed
                }
                Err(error) => {
                    let cause = DeliveryCause::Compression(error.clone());
                    charge.memory().note_failure(&cause);
                    return Err((promise, error));
                }
            }
        };
        Ok(Batch {
            sealed,
            promise,
            charge,
            unresolved,
            opened_us,
        })
    }

    #[inline]
    fn append(&mut self, record: &RecordRef<'_>, timestamp_ms: i64) -> Option<Delivery> {
        let RecordRef {
            key,
            value,
            headers,
            ..
        } = *record;
        let index = self.builder.append(timestamp_ms, key, value, headers)?;
        Some(self.promise.delivery(index, timestamp_ms))
    }
}

impl Batch {
    /// Resolves the batch, and keeps its buffer for another.
    pub(crate) fn written(self, written: super::delivery::Written) {
        self.promise.written(written);
        if let Some(buffer) = self.sealed.recycle() {
            self.charge.memory().recycle(buffer);
        }
    }

    pub(crate) fn failed(self, failure: Failure) {
        self.charge.memory().note_failure(&failure.cause);
        self.promise.failed(failure);
    }

    /// Two batches or more of at most `limit_bytes` before compression each, where there are two
    /// records; the batch itself where splitting cannot help.
    pub(crate) fn split(self, limit_bytes: usize) -> Result<Vec<Self>, Box<Self>> {
        self.cut(|sealed| sealed.split(limit_bytes))
    }

    /// Batches of neighbours that `apart` takes, by their index, and of those that it does not; the
    /// batch itself where they are all alike.
    pub(crate) fn split_apart(self, apart: impl Fn(i32) -> bool) -> Result<Vec<Self>, Box<Self>> {
        self.cut(|sealed| sealed.split_apart(apart))
    }

    fn cut(
        self,
        cut: impl FnOnce(&SealedBatch) -> Result<Vec<SealedBatch>, CompressionError>,
    ) -> Result<Vec<Self>, Box<Self>> {
        let pieces = match cut(&self.sealed) {
            Ok(pieces) if pieces.len() > 1 => pieces,
            _ => return Err(Box::new(self)),
        };
        let promises = self.promise.split(pieces.iter().map(SealedBatch::count));
        let charges = self
            .charge
            .split(pieces.iter().map(SealedBatch::size_bytes));
        let shares = pieces.into_iter().zip(promises).zip(charges);
        Ok(shares
            .map(|((sealed, promise), charge)| Self {
                sealed,
                promise,
                charge,
                unresolved: Arc::clone(&self.unresolved),
                opened_us: self.opened_us,
            })
            .collect())
    }
}
