//! Filling a batch record by record, sealing it, and stamping it for the wire.

use crate::compression::{self, Codec, Compression, CompressionError};
use crate::records::batch::{
    Attributes, BATCH_HEADER_BYTES, Batch, BatchHeader, CRC_COVERS_FROM, LENGTH_COUNTS_FROM, MAGIC,
};
use crate::records::record::RawRecord;
use crate::records::{Header, TimestampType, crc, varint};
use bytes::Bytes;

/// The length field of a batch is an i32, and counts the rest of the header too.
const MAX_RECORDS_BYTES: usize = i32::MAX as usize - (BATCH_HEADER_BYTES - LENGTH_COUNTS_FROM);
/// Length, attributes, timestamp delta and offset delta of a record at most.
const MAX_RECORD_OVERHEAD: usize = 5 + 1 + 10 + 5;

/// How far ahead of the records a new buffer is cleared.
const CLEARED_AHEAD_BYTES: usize = 4 * 1024;

/// An open batch. Records are encoded at once; nothing is kept per record.
#[derive(Debug)]
pub struct BatchBuilder {
    /// The records, and behind them bytes of any content: a record goes into a slice of its very
    /// size, which is cheaper than growing a vector field by field.
    buffer: Vec<u8>,
    used: usize,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// With room for `capacity` bytes of records.
    pub fn with_capacity(capacity: usize) -> Self {
        Self::from_recycled(Vec::with_capacity(capacity))
    }

    /// With the room of a used buffer, whose content is written over (see
    /// [`SealedBatch::recycle`]).
    pub fn from_recycled(buffer: Vec<u8>) -> Self {
        Self {
            buffer,
            used: 0,
            count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
        }
    }

    /// The bytes that a record would take at most (uncompressed), without the batch's header.
    pub fn upper_bound(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> usize {
        fields_bytes(key, value, headers).saturating_add(MAX_RECORD_OVERHEAD)
    }

    /// Appends a record and returns its index in the batch. Timestamps may go backwards.
    ///
    /// `None` where the batch can hold no more: its count, its length or the distance to its first
    /// timestamp would overflow. An empty batch refuses only a record of about 2 GiB.
    pub fn append(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Option<i32> {
        let fields_bytes = fields_bytes(key, value, headers);
        self.append_with(timestamp_ms, fields_bytes, |out| {
            let out = encode_nullable(out, key);
            let out = encode_nullable(out, value);
            // The record fits, so each of its counts and lengths fits an i32.
            let mut out = varint::encode_i32(out, headers.len() as i32);
            for header in headers {
                out = encode_nullable(out, Some(header.key.as_bytes()));
                out = encode_nullable(out, header.value);
            }
        })
    }

    /// Bytes of header and records so far, uncompressed.
    pub fn size_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.used
    }

    /// Records so far.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Ends the batch: no record is added after this.
    pub fn seal(mut self) -> SealedBatch {
        self.buffer.truncate(self.used);
        SealedBatch {
            records_crc: crc32c::crc32c(&self.buffer),
            uncompressed_bytes: self.size_bytes(),
            records: Bytes::from(self.buffer),
            codec: Codec::default(),
            count: self.count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
        }
    }

    /// Appends a record whose fields take exactly `fields_bytes`.
    #[inline]
    fn append_with(
        &mut self,
        timestamp_ms: i64,
        fields_bytes: usize,
        encode_fields: impl FnOnce(&mut [u8]),
    ) -> Option<i32> {
        let index = self.count;
        let count = index.checked_add(1)?;
        let base = if index == 0 {
            timestamp_ms
        } else {
            self.base_timestamp
        };
        let timestamp_delta = timestamp_ms.checked_sub(base)?;
        let deltas_bytes = varint::size_i64(timestamp_delta) + varint::size_i32(index);
        let length = fields_bytes.checked_add(1 + deltas_bytes)?;
        let length_field = i32::try_from(length).ok()?;
        let end = self
            .used
            .checked_add(varint::size_i32(length_field))?
            .checked_add(length)?;
        if end > MAX_RECORDS_BYTES {
            return None;
        }
        if end > self.buffer.len() {
            self.grow(end);
        }
        let out = self.buffer.get_mut(self.used..end)?;
        let out = varint::encode_i32(out, length_field);
        // A record's attributes, which Kafka has no use for yet; zero is the same as a varint.
        let out = varint::encode_i32(out, 0);
        let out = varint::encode_i64(out, timestamp_delta);
        encode_fields(varint::encode_i32(out, index));

        let max_so_far = if index == 0 {
            timestamp_ms
        } else {
            self.max_timestamp
        };
        self.max_timestamp = max_so_far.max(timestamp_ms);
        self.base_timestamp = base;
        self.count = count;
        self.used = end;
        Some(index)
    }

    #[cold]
    fn grow(&mut self, end: usize) {
        let ahead = end.saturating_add(CLEARED_AHEAD_BYTES);
        let within = if end <= self.buffer.capacity() {
            self.buffer.capacity()
        } else {
            ahead
        };
        self.buffer.resize(ahead.min(within), 0);
    }
}

/// Bytes of key, value and headers as they are written.
#[inline]
fn fields_bytes(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> usize {
    let own = nullable_bytes(key).saturating_add(nullable_bytes(value));
    headers.iter().fold(
        own.saturating_add(length_bytes(headers.len())),
        |sum, header| {
            sum.saturating_add(nullable_bytes(Some(header.key.as_bytes())))
                .saturating_add(nullable_bytes(header.value))
        },
    )
}

#[inline]
fn nullable_bytes(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| {
        length_bytes(bytes.len()).saturating_add(bytes.len())
    })
}

/// Bytes of a length or count; one that no i32 holds makes its record too long by itself.
#[inline]
fn length_bytes(length: usize) -> usize {
    i32::try_from(length).map_or(usize::MAX, varint::size_i32)
}

/// Writes a field and returns what is left of `out`.
#[inline]
fn encode_nullable<'a>(out: &'a mut [u8], field: Option<&[u8]>) -> &'a mut [u8] {
    let Some(bytes) = field else {
        return varint::encode_i32(out, -1);
    };
    let out = varint::encode_i32(out, bytes.len() as i32);
    let Some((room, rest)) = out.split_at_mut_checked(bytes.len()) else {
        return &mut [];
    };
    copy(room, bytes);
    rest
}

/// Keys are often short enough for two words, which spares them the call of a `memcpy`.
#[inline]
fn copy(room: &mut [u8], bytes: &[u8]) {
    if let 8..=16 = bytes.len()
        && let (Some(front), Some(back)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>())
    {
        if let Some(room) = room.first_chunk_mut() {
            *room = *front;
        }
        if let Some(room) = room.last_chunk_mut() {
            *room = *back;
        }
    } else {
        room.copy_from_slice(bytes);
    }
}

/// A batch whose records never change any more; only its stamp does.
#[derive(Debug, Clone)]
pub struct SealedBatch {
    records: Bytes,
    records_crc: u32,
    codec: Codec,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    uncompressed_bytes: usize,
}

/// What is written into a batch's header when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// -1 where not idempotent.
    pub producer_id: i64,
    /// -1 where not idempotent.
    pub producer_epoch: i16,
    /// -1 where not idempotent.
    pub base_sequence: i32,
    /// Whether it belongs to a transaction.
    pub transactional: bool,
}

impl ProducerStamp {
    /// Not idempotent.
    pub const NONE: Self = Self {
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        transactional: false,
    };
}

impl SealedBatch {
    /// The same batch with its records compressed; itself where `codec` is none or what it has
    /// already.
    ///
    /// # Errors
    /// The codec is not compiled in.
    pub fn compress(self, codec: impl Into<Codec>) -> Result<Self, CompressionError> {
        let codec = codec.into();
        if codec.compression == self.codec.compression {
            return Ok(self);
        }
        self.compressed(codec)
    }

    /// A compressed copy, after which the original's buffer can be recycled.
    ///
    /// # Errors
    /// The codec is not compiled in.
    pub fn compressed(&self, codec: impl Into<Codec>) -> Result<Self, CompressionError> {
        let codec = codec.into();
        let plain = self.plain_records()?;
        let records = match codec.compression {
            Compression::None => plain,
            _ => {
                let mut packed = Vec::new();
                compression::compress(codec, &plain, &mut packed)?;
                Bytes::from(packed)
            }
        };
        Ok(Self {
            records_crc: crc32c::crc32c(&records),
            records,
            codec,
            ..*self
        })
    }

    /// Header and records for the wire. The records are not copied, and their CRC is not computed
    /// again but joined to the header's.
    pub fn stamp(&self, stamp: ProducerStamp) -> [Bytes; 2] {
        let header = self.header();
        let header = BatchHeader {
            attributes: header.attributes.with_transactional(stamp.transactional),
            producer_id: stamp.producer_id,
            producer_epoch: stamp.producer_epoch,
            base_sequence: stamp.base_sequence,
            ..header
        };
        let header = encode_header(header, self.records_crc);
        [Bytes::copy_from_slice(&header), self.records.clone()]
    }

    /// Bytes on the wire, header included.
    pub fn size_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.records.len()
    }

    /// Bytes before compression, header included.
    pub fn uncompressed_bytes(&self) -> usize {
        self.uncompressed_bytes
    }

    /// Records in it.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Compression {
        self.codec.compression
    }

    /// Timestamp of the first record in milliseconds, -1 where there is none.
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// The greatest timestamp in milliseconds, -1 where there is none.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Splits into batches of at most `limit` bytes before compression, header included, but of one
    /// record at least; each is compressed as this one is. A result of one batch means that
    /// splitting cannot help.
    ///
    /// # Errors
    /// The codec is not compiled in.
    pub fn split(&self, limit: usize) -> Result<Vec<SealedBatch>, CompressionError> {
        self.split_where(|open_bytes, _| open_bytes > limit)
    }

    /// Splits between neighbours of which `apart` takes one, by its index, and not the other; each
    /// part is compressed as this one is. A result of one batch means that they are all alike.
    ///
    /// # Errors
    /// The codec is not compiled in.
    pub fn split_apart(
        &self,
        apart: impl Fn(i32) -> bool,
    ) -> Result<Vec<SealedBatch>, CompressionError> {
        self.split_where(|_, index| apart(index) != apart(index - 1))
    }

    /// A part ends before a record for which `ends` says so: given what the part could grow to with
    /// that record, in bytes before compression, and its index in the whole.
    fn split_where(
        &self,
        ends: impl Fn(usize, i32) -> bool,
    ) -> Result<Vec<SealedBatch>, CompressionError> {
        let plain = self.plain_records()?;
        let mut rest = &plain[..];
        let mut parts = Vec::new();
        let mut open = BatchBuilder::with_capacity(0);
        let mut index = 0;
        while !rest.is_empty() {
            let malformed = |why: &str| CompressionError::Malformed {
                codec: "none",
                why: why.to_owned(),
            };
            let record = RawRecord::parse(rest).map_err(|flaw| malformed(flaw.0))?;
            let timestamp_ms = self.base_timestamp.wrapping_add(record.timestamp_delta);
            let most = record.fields.len() + MAX_RECORD_OVERHEAD;
            if open.count > 0 && ends(open.size_bytes().saturating_add(most), index) {
                let part = std::mem::replace(&mut open, BatchBuilder::with_capacity(0));
                parts.push(part.seal().compress(self.codec)?);
            }
            index += 1;
            // A part of what fitted into one batch fits into one batch.
            let fields = record.fields;
            open.append_with(timestamp_ms, fields.len(), |out| {
                out.copy_from_slice(fields)
            });
            rest = rest.get(record.size_bytes..).unwrap_or_default();
        }
        parts.push(open.seal().compress(self.codec)?);
        Ok(parts)
    }

    /// Gives the records' buffer back for [`BatchBuilder::from_recycled`]; `None` while a frame that
    /// was made from it is alive. The records are still in it.
    pub fn recycle(self) -> Option<Vec<u8>> {
        self.records.try_into_mut().ok().map(Vec::from)
    }

    /// The header of a batch at offset 0, of no producer; its CRC is not set.
    pub(crate) fn header(&self) -> BatchHeader {
        let length = self.size_bytes() - LENGTH_COUNTS_FROM;
        BatchHeader {
            base_offset: 0,
            // Compression can lengthen a batch of 2 GiB beyond this; brokers take 1 MiB.
            batch_length: i32::try_from(length).unwrap_or(i32::MAX),
            partition_leader_epoch: -1,
            magic: MAGIC,
            crc: 0,
            attributes: Attributes::default().with_compression(self.codec.compression),
            last_offset_delta: self.count.saturating_sub(1).max(0),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: self.count,
        }
    }

    pub(crate) fn records(&self) -> &Bytes {
        &self.records
    }

    pub(crate) fn records_crc(&self) -> u32 {
        self.records_crc
    }

    fn plain_records(&self) -> Result<Bytes, CompressionError> {
        let plain_bytes = self.uncompressed_bytes - BATCH_HEADER_BYTES;
        compression::decompress(self.codec.compression, &self.records, plain_bytes)
    }
}

/// The header's bytes with the CRC of a batch whose records have the CRC `records_crc`.
pub(crate) fn encode_header(header: BatchHeader, records_crc: u32) -> [u8; BATCH_HEADER_BYTES] {
    let records_bytes = usize::try_from(header.batch_length)
        .unwrap_or(0)
        .saturating_sub(BATCH_HEADER_BYTES - LENGTH_COUNTS_FROM);
    let header_crc = covered_crc(&header.encode());
    let crc = crc::join(header_crc, records_crc, records_bytes);
    BatchHeader { crc, ..header }.encode()
}

fn covered_crc(header: &[u8; BATCH_HEADER_BYTES]) -> u32 {
    crc32c::crc32c(header.get(CRC_COVERS_FROM..).unwrap_or_default())
}

/// A batch as a broker stores it: offsets and leader epoch set, and the clock where the topic wants
/// the broker's.
///
/// The one copy makes the batch contiguous and lets go of the request that it came in. The records
/// are not read: CRCs are linear, so a changed header changes the batch's by a difference that does
/// not depend on them, and a CRC that was wrong stays wrong.
pub fn restamp(
    batch: &Batch,
    base_offset: i64,
    partition_leader_epoch: i32,
    log_append_time: Option<i64>,
) -> Bytes {
    let mut header = BatchHeader {
        base_offset,
        partition_leader_epoch,
        ..batch.header
    };
    let records = batch.bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default();
    if let Some(now_ms) = log_append_time {
        header.attributes = header
            .attributes
            .with_timestamp_type(TimestampType::LogAppendTime);
        header.max_timestamp = now_ms;
        let difference = covered_crc(&header.encode()) ^ covered_crc(&batch.header.encode());
        header.crc ^= crc::shift(difference, records.len());
    }
    let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES + records.len());
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(records);
    Bytes::from(bytes)
}
