//! What was fetched of one partition, read lazily where the caller iterates: CRC, decompression and
//! decoding happen here, not in the driver.

use crate::call::TopicPartition;
use crate::error::Error;
use crate::fetch::aborted::Aborted;
use crate::fetch::inbox::Inbox;
use crate::fetch::position::Cursor;
use std::sync::Arc;
use tidewatch_protocol::records::{
    Batch, Batches, ControlKind, Record, RecordRef, Records, RecordsError,
};

/// What one compressed batch may grow to. Kafka sets no limit; producers fill batches to a few
/// megabytes at most (Java's `max.request.size` counts before compression).
pub const MAX_DECOMPRESSED_BATCH_BYTES: usize = 64 << 20;

/// Records of one partition, in order; possibly none that can be seen.
///
/// The consumer's position moves as they are taken. What is not taken comes again: a `Fetched` that
/// is dropped half read goes back to the front of its partition. While one is held, no other of the
/// same partition is given out. After a seek, a pause or the end of the assignment it yields nothing
/// more.
#[derive(Debug)]
pub struct Fetched {
    inbox: Arc<Inbox>,
    /// `None` only while it is dropped.
    piece: Option<Box<Piece>>,
    partition: TopicPartition,
}

impl Fetched {
    pub(crate) fn new(inbox: Arc<Inbox>, piece: Box<Piece>) -> Self {
        Self {
            inbox,
            partition: piece.place.partition.clone(),
            piece: Some(piece),
        }
    }

    /// The partition they are of.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The next record, borrowed: nothing is copied or counted for it. After an error it ends; the
    /// batch is fetched again after a backoff, and the error comes again unless the bytes were
    /// damaged on their way or the caller seeks past it.
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>, Error>> {
        let piece = self.piece.as_mut()?;
        let (place, batch) = match piece.next_batch()? {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        let found = batch.records.next_ref()?;
        place.take(found, |record| record.offset, &mut batch.rest)
    }

    /// The next record, its key and value being slices of the response, for those who hand them on
    /// soon. The whole response stays in memory, and counts against `fetch.max.buffered.bytes`, for
    /// as long as any of them lives.
    pub fn next_shared(&mut self) -> Option<Result<Record, Error>> {
        let piece = self.piece.as_mut()?;
        let (place, batch) = match piece.next_batch()? {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        let found = batch.records.next()?;
        place.take(found, |record| record.offset, &mut batch.rest)
    }
}

/// Copies, each in memory of its own: a record that is kept does not keep the response that it came
/// in. [`Fetched::next_ref`] copies nothing.
impl Iterator for Fetched {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.next_ref()?;
        Some(found.map(|record| record.to_record()))
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if let Some(piece) = self.piece.take() {
            self.inbox.handle_returned(piece);
        }
    }
}

/// One partition's part of one response.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) place: Place,
    batches: Batches,
    /// `None` under `read_uncommitted`.
    aborted: Option<Aborted>,
    check_crcs: bool,
    open: Option<OpenBatch>,
}

/// Where the reader stands in a piece.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) partition: TopicPartition,
    pub(crate) cursor: Arc<Cursor>,
    /// The cursor's epoch when the piece was asked for.
    pub(crate) epoch: u64,
    /// The next offset to deliver.
    pub(crate) position: i64,
    /// Something could not be read: the piece ends here.
    pub(crate) broken: bool,
}

/// The batch that is being read.
#[derive(Debug)]
struct OpenBatch {
    records: Records,
    rest: Rest,
}

/// What is left of the batch that is being read.
#[derive(Debug)]
struct Rest {
    /// Records not taken yet, by the header's count.
    records: i32,
    next_offset: i64,
    leader_epoch: i32,
}

impl Piece {
    pub(crate) fn new(
        place: Place,
        batches: Batches,
        aborted: Option<Aborted>,
        check_crcs: bool,
    ) -> Self {
        Self {
            place,
            batches,
            aborted,
            check_crcs,
            open: None,
        }
    }

    /// Whether every record was taken and the position stands behind the last batch.
    pub(crate) fn is_read(&self) -> bool {
        let nothing_open = self.open.as_ref().is_none_or(|open| open.rest.records <= 0);
        nothing_open && self.batches.clone().next().is_none()
    }

    /// The batch with the next record to deliver. `None` at the end, while paused, and once the
    /// cursor has moved on to another epoch.
    fn next_batch(&mut self) -> Option<Result<(&mut Place, &mut OpenBatch), Error>> {
        if self.place.broken || self.place.cursor.is_paused() {
            return None;
        }
        while self.open.as_ref().is_none_or(|open| open.rest.records <= 0) {
            match self.open_next() {
                Ok(true) => {}
                Ok(false) => return None,
                Err((source, skip_to)) => {
                    return Some(Err(self.place.fail(source, skip_to)));
                }
            }
        }
        Some(Ok((&mut self.place, self.open.as_mut()?)))
    }

    /// Opens the next batch that can be seen, passing over at most one that cannot. False at the end.
    fn open_next(&mut self) -> Result<bool, (RecordsError, Option<i64>)> {
        if let Some(mut done) = self.open.take() {
            let next_offset = done.rest.next_offset;
            // Bytes behind the last record are an error of their own.
            if let Some(Err(source)) = done.records.next_ref() {
                return Err((source, Some(next_offset)));
            }
            // The last record it was written with may be gone, or lie below the position.
            if self.place.position < next_offset
                && !self.place.move_to(next_offset, done.rest.leader_epoch)
            {
                return Ok(false);
            }
        }
        let Some(batch) = self.batches.next() else {
            return Ok(false);
        };
        let batch = batch.map_err(|source| (source, None))?;
        let next_offset = batch.header.next_offset();
        if next_offset <= self.place.position {
            return Ok(true);
        }
        let records = self
            .read(&batch)
            .map_err(|source| (source, Some(next_offset)))?;
        match records {
            Some(records) if batch.header.record_count > 0 => {
                self.open = Some(OpenBatch {
                    records,
                    rest: Rest {
                        records: batch.header.record_count,
                        next_offset,
                        leader_epoch: batch.header.partition_leader_epoch,
                    },
                });
                self.skip_delivered();
                Ok(true)
            }
            _ => Ok(self
                .place
                .move_to(next_offset, batch.header.partition_leader_epoch)),
        }
    }

    /// The records of a batch, `None` where none of them can be seen.
    fn read(&mut self, batch: &Batch) -> Result<Option<Records>, RecordsError> {
        let is_aborted = match &mut self.aborted {
            Some(aborted) => aborted.holds(&batch.header),
            None => false,
        };
        let is_control = batch.header.attributes.is_control();
        if is_aborted && !is_control {
            return Ok(None);
        }
        if self.check_crcs {
            batch.verify_crc()?;
        }
        if !is_control {
            return batch.records(MAX_DECOMPRESSED_BATCH_BYTES).map(Some);
        }
        if let Some(aborted) = &mut self.aborted
            && let Some(ControlKind::Abort | ControlKind::Commit) = batch.control()?
        {
            aborted.handle_marker(batch.header.producer_id);
        }
        Ok(None)
    }

    /// Passes over records below the position: a response begins with the whole batch that holds
    /// the offset asked for.
    fn skip_delivered(&mut self) {
        let Some(open) = &mut self.open else { return };
        // Looked at on a second reader, because a record taken cannot be put back.
        let mut ahead = open.records.clone();
        while let Some(Ok(record)) = ahead.next_ref() {
            if record.offset >= self.place.position {
                break;
            }
            open.records.next_ref();
            open.rest.records -= 1;
        }
    }
}

impl Place {
    /// Counts a record as delivered, if the cursor's epoch still holds.
    fn take<R>(
        &mut self,
        found: Result<R, RecordsError>,
        offset: impl Fn(&R) -> i64,
        rest: &mut Rest,
    ) -> Option<Result<R, Error>> {
        let in_order = found.and_then(|record| match offset(&record) {
            offset if offset >= self.position && offset < rest.next_offset => Ok((record, offset)),
            _ => Err(RecordsError::Malformed {
                base_offset: self.position,
                why: "its records' offsets do not ascend",
            }),
        });
        match in_order {
            Ok((record, offset)) => {
                rest.records -= 1;
                let next_offset = match rest.records {
                    0 => rest.next_offset,
                    _ => offset + 1,
                };
                self.position = next_offset;
                let cursor = &self.cursor;
                cursor
                    .advance(self.epoch, next_offset, rest.leader_epoch, true)
                    .then_some(Ok(record))
            }
            Err(source) => Some(Err(self.fail(source, Some(rest.next_offset)))),
        }
    }

    /// Passes over what cannot be seen.
    fn move_to(&mut self, next_offset: i64, leader_epoch: i32) -> bool {
        self.position = next_offset;
        let cursor = &self.cursor;
        cursor.advance(self.epoch, next_offset, leader_epoch, false)
    }

    fn fail(&mut self, source: RecordsError, skip_to: Option<i64>) -> Error {
        self.broken = true;
        Error::Records {
            doing: format!("read {} at {}", self.partition, self.position),
            source,
            skip_to,
        }
    }
}
