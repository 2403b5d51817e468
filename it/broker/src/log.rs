//! A partition's log: batches in order, as they were written, with what a broker derives from them.

mod epochs;
mod producers;
mod transactions;
mod validate;

pub(crate) use epochs::{EpochEnd, LeaderEpochs, UNDEFINED};
pub(crate) use validate::{MAX_DECOMPRESSED_BYTES, Rejected, validate};

use bytes::{Bytes, BytesMut};
use producers::Producers;
use std::collections::VecDeque;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::records::{Batch, Batches, EndMarker, TimestampType};
use transactions::LogTransactions;

/// Where an append ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    /// The offset that the high watermark must reach before acks=all is answered.
    pub(crate) next_offset: i64,
    /// -1 where the records keep their producer's timestamps.
    pub(crate) log_append_time_ms: i64,
}

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timed {
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) leader_epoch: i32,
}

/// The log of one partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    batches: VecDeque<Batch>,
    start_offset: i64,
    end_offset: i64,
    size_bytes: usize,
    epochs: LeaderEpochs,
    producers: Producers,
    transactions: LogTransactions,
}

impl Log {
    pub(crate) fn start_offset(&self) -> i64 {
        self.start_offset
    }

    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(crate) fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    pub(crate) fn transactions(&self) -> &LogTransactions {
        &self.transactions
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter()
    }

    /// A leader of `epoch` begins to write here.
    pub(crate) fn begin_epoch(&mut self, epoch: i32) {
        self.epochs.assign(epoch, self.end_offset);
    }

    /// Appends a batch that [`validate`] let pass, or finds that it was appended before.
    pub(crate) fn append(
        &mut self,
        batch: &Batch,
        leader_epoch: i32,
        log_append_time_ms: Option<i64>,
    ) -> Result<Appended, ErrorCode> {
        if batch.header.producer_id >= 0
            && let Some(written) = self.producers.check(&batch.header)?
        {
            let count = i64::from(batch.header.last_offset_delta) + 1;
            return Ok(Appended {
                base_offset: written.first_offset,
                next_offset: written.first_offset.saturating_add(count),
                log_append_time_ms: written.timestamp_ms,
            });
        }
        let base_offset = self.end_offset;
        let stamped = tidewatch_protocol::records::builder::restamp(
            batch,
            base_offset,
            leader_epoch,
            log_append_time_ms,
        );
        let stored = match Batches::new(stamped).next() {
            Some(Ok(stored)) => stored,
            Some(Err(_)) | None => return Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        };
        self.push(stored);
        Ok(Appended {
            base_offset,
            next_offset: self.end_offset,
            log_append_time_ms: log_append_time_ms.unwrap_or(-1),
        })
    }

    /// Appends the end of a producer's transaction, and returns the offset after it.
    pub(crate) fn append_marker(
        &mut self,
        marker: &EndMarker,
        leader_epoch: i32,
        timestamp_ms: i64,
    ) -> i64 {
        let bytes = marker.encode(self.end_offset, leader_epoch, timestamp_ms);
        // It is a whole batch, because it was just made.
        if let Some(Ok(stored)) = Batches::new(bytes).next() {
            self.push(stored);
        }
        self.end_offset
    }

    fn push(&mut self, stored: Batch) {
        let header = &stored.header;
        self.epochs
            .assign(header.partition_leader_epoch, header.base_offset);
        self.end_offset = header.next_offset();
        self.size_bytes = self.size_bytes.saturating_add(stored.bytes.len());
        self.note(&stored);
        self.batches.push_back(stored);
    }

    /// Keeps what is derived from batches up to date with one more.
    fn note(&mut self, stored: &Batch) {
        match stored.control().ok().flatten() {
            Some(kind) => {
                self.producers.remember_marker(&stored.header);
                self.transactions.note_marker(&stored.header, kind);
            }
            None => {
                self.producers.remember(&stored.header);
                self.transactions.note_batch(&stored.header);
            }
        }
    }

    /// Drops whole batches from the front while the log holds more than `limit` bytes; the last
    /// batch stays, as Kafka's active segment does.
    pub(crate) fn retain(&mut self, limit: usize) {
        while self.size_bytes > limit && self.batches.len() > 1 {
            if let Some(dropped) = self.batches.pop_front() {
                self.size_bytes = self.size_bytes.saturating_sub(dropped.bytes.len());
                self.start_offset = self.start_offset.max(dropped.header.next_offset());
            }
        }
        self.epochs.truncate_start(self.start_offset);
        self.transactions.truncate_start(self.start_offset);
    }

    /// Moves the start forward to `offset` (DeleteRecords); a batch that holds it stays whole.
    pub(crate) fn delete_before(&mut self, offset: i64) {
        self.start_offset = self.start_offset.max(offset.min(self.end_offset));
        while let Some(first) = self.batches.front()
            && first.header.next_offset() <= self.start_offset
        {
            self.size_bytes = self.size_bytes.saturating_sub(first.bytes.len());
            self.batches.pop_front();
        }
        self.epochs.truncate_start(self.start_offset);
        self.transactions.truncate_start(self.start_offset);
    }

    /// Cuts off every batch that reaches to `end_offset` or beyond, and what was derived from it.
    pub(crate) fn truncate(&mut self, end_offset: i64) {
        let kept = self.batches.len();
        while let Some(last) = self.batches.back()
            && last.header.next_offset() > end_offset
        {
            self.end_offset = last.header.base_offset;
            self.size_bytes = self.size_bytes.saturating_sub(last.bytes.len());
            self.batches.pop_back();
        }
        if self.batches.len() == kept {
            return;
        }
        self.end_offset = self.end_offset.max(self.start_offset);
        self.epochs.truncate_end(self.end_offset);
        self.producers = Producers::default();
        self.transactions = LogTransactions::default();
        let batches = std::mem::take(&mut self.batches);
        for batch in &batches {
            self.note(batch);
        }
        self.batches = batches;
    }

    fn index_of(&self, offset: i64) -> usize {
        self.batches
            .partition_point(|batch| batch.header.next_offset() <= offset)
    }

    /// Bytes between `from` and `until`, counted no further than `enough`.
    pub(crate) fn available_bytes(&self, from: i64, until: i64, enough: usize) -> usize {
        let mut total = 0_usize;
        for batch in self
            .batches
            .range(self.index_of(from).min(self.batches.len())..)
        {
            if batch.header.next_offset() > until || total >= enough {
                break;
            }
            total = total.saturating_add(batch.bytes.len());
        }
        total.min(enough)
    }

    /// The bytes of at most `max_bytes` from the batch that holds `from` on, up to `until`. The last
    /// batch may be cut short, as Kafka cuts it; a first batch that does not fit is nothing at all,
    /// or whole where `first_whole`.
    pub(crate) fn read(&self, from: i64, until: i64, max_bytes: usize, first_whole: bool) -> Bytes {
        let mut batches = self
            .batches
            .range(self.index_of(from).min(self.batches.len())..)
            .take_while(|batch| batch.header.next_offset() <= until);
        let Some(first) = batches.next() else {
            return Bytes::new();
        };
        if first.bytes.len() >= max_bytes {
            let whole = first_whole || first.bytes.len() == max_bytes;
            return if whole {
                first.bytes.clone()
            } else {
                Bytes::new()
            };
        }
        let mut set = BytesMut::from(first.bytes.as_ref());
        for batch in batches {
            let room = max_bytes.saturating_sub(set.len());
            let fitting = batch.bytes.get(..room).unwrap_or(&batch.bytes);
            set.extend_from_slice(fitting);
            if set.len() == max_bytes {
                break;
            }
        }
        set.freeze()
    }

    /// The first record before `until` whose timestamp is `timestamp_ms` or later.
    pub(crate) fn find_timestamp(&self, timestamp_ms: i64, until: i64) -> Option<Timed> {
        self.batches
            .iter()
            .take_while(|batch| batch.header.base_offset < until)
            .filter(|batch| batch.header.max_timestamp >= timestamp_ms)
            .find_map(|batch| {
                self.find_in(batch, |offset, timestamp| {
                    timestamp >= timestamp_ms && offset >= self.start_offset && offset < until
                })
            })
    }

    /// The first of the records with the greatest timestamp before `until`.
    pub(crate) fn greatest_timestamp(&self, until: i64) -> Option<Timed> {
        let greatest = self
            .batches
            .iter()
            .take_while(|batch| batch.header.next_offset() <= until)
            .map(|batch| batch.header.max_timestamp)
            .max()?;
        self.find_timestamp(greatest, until)
    }

    fn find_in(&self, batch: &Batch, wanted: impl Fn(i64, i64) -> bool) -> Option<Timed> {
        let leader_epoch = batch.header.partition_leader_epoch;
        if batch.header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            let timestamp_ms = batch.header.max_timestamp;
            let offset = batch.header.base_offset.max(self.start_offset);
            return wanted(offset, timestamp_ms).then_some(Timed {
                offset,
                timestamp_ms,
                leader_epoch,
            });
        }
        batch
            .records(MAX_DECOMPRESSED_BYTES)
            .ok()?
            .map_while(Result::ok)
            .find(|record| wanted(record.offset, record.timestamp_ms))
            .map(|record| Timed {
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                leader_epoch,
            })
    }
}
