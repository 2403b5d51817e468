//! Cutting a record set into batches and reading a batch's header, without decompression.

use crate::compression::{self, Compression, CompressionError};
use crate::records::{ControlKind, Records};
use bytes::{Buf, BufMut, Bytes};

/// Bytes of a batch's header, from base offset to record count.
pub const BATCH_HEADER_BYTES: usize = 61;
/// The only message format that is read or written.
pub(crate) const MAGIC: i8 = 2;
/// A batch's length counts the bytes after base offset and length.
pub(crate) const LENGTH_COUNTS_FROM: usize = 12;
/// The CRC covers everything from the attributes on.
pub(crate) const CRC_COVERS_FROM: usize = 21;
/// Where the format stands, in formats 0 and 1 as well.
const MAGIC_AT: usize = 16;
/// A control record holds a few numbers; no more than this is decompressed for one.
const MAX_CONTROL_BYTES: usize = 64 * 1024;

/// Whose clock a batch's timestamps are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's: every record takes the batch's max timestamp (line 23).
    LogAppendTime,
}

/// The attributes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// The codec; `Err` holds the unknown id.
    pub fn compression(self) -> Result<Compression, u8> {
        let id = (self.0 & Self::CODEC) as u8;
        Compression::from_id(id).ok_or(id)
    }
    /// Bit 3.
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }
    /// Bit 4.
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }
    /// Bit 5.
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }
    /// Bit 6: the base timestamp is the time after which a compacted topic may drop the batch's
    /// tombstones (KIP-534). Records' timestamps are still counted from it.
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// Sets the codec.
    #[must_use]
    pub fn with_compression(self, codec: Compression) -> Self {
        Self(self.0 & !Self::CODEC | i16::from(codec as u8))
    }
    /// Sets bit 3.
    #[must_use]
    pub fn with_timestamp_type(self, clock: TimestampType) -> Self {
        self.with(Self::LOG_APPEND_TIME, clock == TimestampType::LogAppendTime)
    }
    /// Sets bit 4.
    #[must_use]
    pub fn with_transactional(self, on: bool) -> Self {
        self.with(Self::TRANSACTIONAL, on)
    }
    /// Sets bit 5.
    #[must_use]
    pub fn with_control(self, on: bool) -> Self {
        self.with(Self::CONTROL, on)
    }

    fn with(self, bit: i16, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// A batch's header as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record the batch was written with.
    pub base_offset: i64,
    /// Bytes after this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended it.
    pub partition_leader_epoch: i32,
    /// The format; only 2 is read.
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, clock, transactional, control, delete horizon.
    pub attributes: Attributes,
    /// Last offset minus base offset; kept by compaction.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, or the delete horizon.
    pub base_timestamp: i64,
    /// The greatest timestamp.
    pub max_timestamp: i64,
    /// -1 where not idempotent.
    pub producer_id: i64,
    /// -1 where not idempotent.
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 where not idempotent.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads a header. Every bit pattern is one; [`Batches`] refuses those that make no sense.
    pub fn decode(bytes: &[u8; BATCH_HEADER_BYTES]) -> Self {
        let mut bytes = bytes.as_slice();
        Self {
            base_offset: bytes.get_i64(),
            batch_length: bytes.get_i32(),
            partition_leader_epoch: bytes.get_i32(),
            magic: bytes.get_i8(),
            crc: bytes.get_u32(),
            attributes: Attributes(bytes.get_i16()),
            last_offset_delta: bytes.get_i32(),
            base_timestamp: bytes.get_i64(),
            max_timestamp: bytes.get_i64(),
            producer_id: bytes.get_i64(),
            producer_epoch: bytes.get_i16(),
            base_sequence: bytes.get_i32(),
            record_count: bytes.get_i32(),
        }
    }

    /// Writes the header, the CRC as it stands in the field.
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        let mut out = bytes.as_mut_slice();
        out.put_i64(self.base_offset);
        out.put_i32(self.batch_length);
        out.put_i32(self.partition_leader_epoch);
        out.put_i8(self.magic);
        out.put_u32(self.crc);
        out.put_i16(self.attributes.0);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.record_count);
        bytes
    }

    /// The offset after this batch: base offset + last offset delta + 1, also where compaction has
    /// left fewer records or none. Stays at `i64::MAX` rather than overflow.
    pub fn next_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
            .saturating_add(1)
    }

    fn malformed(&self, why: &'static str) -> RecordsError {
        RecordsError::Malformed {
            base_offset: self.base_offset,
            why,
        }
    }

    /// Refuses what no writer writes and a reader could stumble over: a position that goes back.
    fn check(&self) -> Result<(), RecordsError> {
        if self.last_offset_delta < 0 {
            return Err(self.malformed("its last offset delta is negative"));
        }
        if self
            .base_offset
            .checked_add(i64::from(self.last_offset_delta))
            .is_none()
        {
            return Err(self.malformed("its last offset is too large"));
        }
        if self.record_count < 0 {
            return Err(self.malformed("its record count is negative"));
        }
        Ok(())
    }
}

/// What is wrong with a record set; each is distinct (line 23).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// The CRC does not match.
    #[error(
        "the batch at offset {base_offset} has CRC {found:#010x}, its bytes have {computed:#010x}"
    )]
    BadCrc {
        /// The batch.
        base_offset: i64,
        /// In the header.
        found: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A codec id that does not exist.
    #[error("the batch at offset {base_offset} names the unknown codec {codec}")]
    UnknownCodec {
        /// The batch.
        base_offset: i64,
        /// The id.
        codec: u8,
    },
    /// Message formats 0 and 1 and those of the future.
    #[error("the batch at offset {base_offset} has message format {magic}, only 2 is read")]
    UnsupportedMagic {
        /// The batch.
        base_offset: i64,
        /// The format.
        magic: i8,
    },
    /// Bytes that do not parse.
    #[error("the batch at offset {base_offset} is malformed: {why}")]
    Malformed {
        /// The batch.
        base_offset: i64,
        /// What is wrong.
        why: &'static str,
    },
    /// The codec's complaint.
    #[error("the batch at offset {base_offset} cannot be decompressed: {source}")]
    Compression {
        /// The batch.
        base_offset: i64,
        /// The complaint.
        source: CompressionError,
    },
}

/// One whole batch: its header and all its bytes, as a slice of the frame it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The header.
    pub header: BatchHeader,
    /// The whole batch, header included.
    pub bytes: Bytes,
}

impl Batch {
    /// Compares the CRC-32C.
    pub fn verify_crc(&self) -> Result<(), RecordsError> {
        let covered = self.bytes.get(CRC_COVERS_FROM..).unwrap_or_default();
        let computed = crc32c::crc32c(covered);
        if computed == self.header.crc {
            return Ok(());
        }
        Err(RecordsError::BadCrc {
            base_offset: self.header.base_offset,
            found: self.header.crc,
            computed,
        })
    }

    /// Decompresses (at most `cap` bytes) and iterates. The CRC is not checked here. Records that
    /// are not compressed are neither copied nor held to `cap`: they are in the frame already.
    pub fn records(&self, cap: usize) -> Result<Records, RecordsError> {
        let base_offset = self.header.base_offset;
        let codec = self
            .header
            .attributes
            .compression()
            .map_err(|codec| RecordsError::UnknownCodec { base_offset, codec })?;
        let plain =
            compression::decompress(codec, &self.packed_records(), cap).map_err(|source| {
                RecordsError::Compression {
                    base_offset,
                    source,
                }
            })?;
        Records::new(self.header, plain)
    }

    /// What a control batch says; `None` for data, and for a control batch that compaction has
    /// emptied, which says nothing either.
    pub fn control(&self) -> Result<Option<ControlKind>, RecordsError> {
        if !self.header.attributes.is_control() {
            return Ok(None);
        }
        let Some(record) = self.records(MAX_CONTROL_BYTES)?.next() else {
            return Ok(None);
        };
        ControlKind::decode(record?.key.as_deref())
            .map(Some)
            .ok_or_else(|| self.header.malformed("its control record has no type"))
    }

    /// The bytes after the header, as they came.
    fn packed_records(&self) -> Bytes {
        self.bytes.slice(self.bytes.len().min(BATCH_HEADER_BYTES)..)
    }
}

/// Iterates over the whole batches of a record set; a truncated last batch ends it quietly,
/// [`Batches::truncated`] tells. It ends after an error as well.
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Over `record_set`, as it stands in a Fetch response or a Produce request.
    pub fn new(record_set: Bytes) -> Self {
        Self { rest: record_set }
    }

    /// Bytes of the cut batch at the end, and the length of the whole that its header announces, if
    /// it got that far. To be asked after the iterator has ended.
    pub fn truncated(&self) -> Option<(usize, Option<usize>)> {
        match next_batch(&self.rest) {
            Ok(Next::Cut { announced }) => Some((self.rest.len(), announced)),
            _ => None,
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        match next_batch(&self.rest) {
            Ok(Next::Whole { header, size_bytes }) => {
                let bytes = self.rest.split_to(size_bytes);
                Some(Ok(Batch { header, bytes }))
            }
            Ok(Next::Nothing | Next::Cut { .. }) => None,
            Err(error) => {
                self.rest.clear();
                Some(Err(error))
            }
        }
    }
}

/// What a record set starts with.
enum Next {
    Nothing,
    Cut {
        announced: Option<usize>,
    },
    Whole {
        header: BatchHeader,
        size_bytes: usize,
    },
}

/// The order is that of Kafka's `ByteBufferLogInputStream`: length, then magic, then the rest, so
/// that formats 0 and 1 are named as such however short their messages are.
fn next_batch(rest: &[u8]) -> Result<Next, RecordsError> {
    if rest.is_empty() {
        return Ok(Next::Nothing);
    }
    let Some(mut head) = rest.get(..LENGTH_COUNTS_FROM) else {
        return Ok(Next::Cut { announced: None });
    };
    let base_offset = head.get_i64();
    let malformed = |why| RecordsError::Malformed { base_offset, why };
    let length =
        usize::try_from(head.get_i32()).map_err(|_| malformed("its length is negative"))?;
    let size_bytes = length
        .checked_add(LENGTH_COUNTS_FROM)
        .ok_or_else(|| malformed("its length is larger than memory"))?;
    if size_bytes <= MAGIC_AT {
        return Err(malformed("its length has no room for a message format"));
    }
    let Some(magic) = rest.get(MAGIC_AT) else {
        return Ok(Next::Cut {
            announced: Some(size_bytes),
        });
    };
    let magic = i8::from_be_bytes([*magic]);
    if magic != MAGIC {
        return Err(RecordsError::UnsupportedMagic { base_offset, magic });
    }
    if size_bytes < BATCH_HEADER_BYTES {
        return Err(malformed("its length has no room for a header"));
    }
    match rest.first_chunk() {
        Some(header) if rest.len() >= size_bytes => {
            let header = BatchHeader::decode(header);
            header.check()?;
            Ok(Next::Whole { header, size_bytes })
        }
        _ => Ok(Next::Cut {
            announced: Some(size_bytes),
        }),
    }
}
