//! The records inside a batch, read lazily as slices.

use crate::records::varint::{self, VarintError};
use crate::records::{BatchHeader, RecordsError, TimestampType};
use bytes::Bytes;

/// A record takes at least a byte each for length, attributes, both deltas, the lengths of key and
/// value, and the count of headers.
const MIN_RECORD_BYTES: usize = 7;
/// A header takes at least the lengths of its key and of its value.
const MIN_HEADER_BYTES: usize = 2;

/// A header to write: a key and a value that may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// May be empty, may repeat.
    pub key: &'a str,
    /// Null and empty are different.
    pub value: Option<&'a [u8]>,
}

/// One record; key, value and headers are slices of the batch (or of its decompressed form).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds; the batch's max timestamp under LogAppendTime.
    pub timestamp_ms: i64,
    /// Null and empty are different.
    pub key: Option<Bytes>,
    /// Null and empty are different.
    pub value: Option<Bytes>,
    /// In order, duplicates kept.
    pub headers: Headers,
}

/// A record that borrows from the [`Records`] it came from: no reference count is touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds; the batch's max timestamp under LogAppendTime.
    pub timestamp_ms: i64,
    /// Null and empty are different.
    pub key: Option<&'a [u8]>,
    /// Null and empty are different.
    pub value: Option<&'a [u8]>,
    /// In order, duplicates kept.
    pub headers: HeadersRef<'a>,
}

impl Record {
    /// The same record as a borrowed one.
    pub fn as_ref(&self) -> RecordRef<'_> {
        RecordRef {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.as_ref(),
        }
    }
}

impl RecordRef<'_> {
    /// A copy in memory of its own, one piece for key, value and headers together: it may be kept
    /// without keeping the batch alive that it came in.
    pub fn to_record(&self) -> Record {
        let parts = [
            self.key.unwrap_or_default(),
            self.value.unwrap_or_default(),
            self.headers.raw,
        ];
        let mut rest = Bytes::from(parts.concat());
        let [key, value, headers] = parts.map(|part| rest.split_to(part.len()));
        Record {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.map(|_| key),
            value: self.value.map(|_| value),
            headers: Headers {
                raw: headers,
                count: self.headers.count,
            },
        }
    }
}

/// A record's headers, already checked, read on demand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers {
    raw: Bytes,
    count: usize,
}

impl Headers {
    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// In order. The key is bytes, because brokers do not check that it is UTF-8.
    pub fn iter(&self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> + '_ {
        let owned = |slice| self.raw.slice_ref(slice);
        self.as_ref()
            .map(move |(key, value)| (owned(key), value.map(owned)))
    }

    /// The value of the last header named `key` (Kafka's `lastHeader`); the outer `None` where there
    /// is none.
    pub fn last(&self, key: &str) -> Option<Option<Bytes>> {
        let value = self.as_ref().last_named(key)?;
        Some(value.map(|value| self.raw.slice_ref(value)))
    }

    /// The same headers, borrowed.
    pub fn as_ref(&self) -> HeadersRef<'_> {
        HeadersRef {
            raw: &self.raw,
            count: self.count,
        }
    }
}

/// A record's headers, borrowed: an iterator over keys and values, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadersRef<'a> {
    raw: &'a [u8],
    count: usize,
}

impl<'a> HeadersRef<'a> {
    /// The value of the last header named `key`; the outer `None` where there is none.
    pub fn last_named(self, key: &str) -> Option<Option<&'a [u8]>> {
        self.filter(|(name, _)| *name == key.as_bytes())
            .last()
            .map(|(_, value)| value)
    }

    fn parse(bytes: &mut &'a [u8]) -> Result<Self, Flaw> {
        let count = count(
            varint::decode_i32(bytes)?,
            "a record's header count is negative",
        )?;
        if count > bytes.len() / MIN_HEADER_BYTES {
            return Err(Flaw("a record claims more headers than its bytes can hold"));
        }
        let raw = *bytes;
        for _ in 0..count {
            parse_header(bytes)?;
        }
        let raw = raw.get(..raw.len() - bytes.len()).unwrap_or_default();
        Ok(Self { raw, count })
    }
}

impl<'a> Iterator for HeadersRef<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        // Checked when the record was parsed.
        parse_header(&mut self.raw).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for HeadersRef<'_> {}

/// Iterates over a batch's records. After an error it ends.
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    plain: Bytes,
    /// Bytes of `plain` already read.
    at: usize,
    /// Records still to come by the header's count.
    left: usize,
}

impl Records {
    pub(crate) fn new(header: BatchHeader, plain: Bytes) -> Result<Self, RecordsError> {
        let malformed = |why| RecordsError::Malformed {
            base_offset: header.base_offset,
            why,
        };
        let left = usize::try_from(header.record_count)
            .map_err(|_| malformed("its record count is negative"))?;
        if left > plain.len() / MIN_RECORD_BYTES {
            return Err(malformed("it claims more records than its bytes can hold"));
        }
        Ok(Self {
            header,
            plain,
            at: 0,
            left,
        })
    }

    /// The next record without a reference count of its own; the same sequence as the iterator's.
    #[inline]
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>, RecordsError>> {
        match peek(&self.header, &self.plain, self.at, self.left)? {
            Ok((record, size_bytes)) => {
                self.at += size_bytes;
                self.left -= 1;
                Some(Ok(record))
            }
            Err(error) => {
                (self.at, self.left) = (self.plain.len(), 0);
                Some(Err(error))
            }
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (record, size_bytes) = match peek(&self.header, &self.plain, self.at, self.left)? {
            Ok(found) => found,
            Err(error) => {
                (self.at, self.left) = (self.plain.len(), 0);
                return Some(Err(error));
            }
        };
        let owned = |slice: &[u8]| self.plain.slice_ref(slice);
        let record = Record {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(owned),
            value: record.value.map(owned),
            headers: Headers {
                raw: owned(record.headers.raw),
                count: record.headers.count,
            },
        };
        self.at += size_bytes;
        self.left -= 1;
        Some(Ok(record))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The count is a claim: it may not make a collector allocate.
        (0, self.left.checked_add(1))
    }
}

/// The record at `at` and the bytes that it takes, or the error that ends the iteration.
#[inline]
fn peek<'a>(
    header: &BatchHeader,
    plain: &'a [u8],
    at: usize,
    left: usize,
) -> Option<Result<(RecordRef<'a>, usize), RecordsError>> {
    let rest = plain.get(at..).unwrap_or_default();
    let found = match (left, rest) {
        (0, []) => return None,
        (0, _) => Err(Flaw("bytes follow its last record")),
        _ => parse(header, rest),
    };
    Some(found.map_err(|flaw| flaw.of(header)))
}

/// What is wrong with a record.
pub(crate) struct Flaw(pub(crate) &'static str);

impl Flaw {
    fn of(self, header: &BatchHeader) -> RecordsError {
        RecordsError::Malformed {
            base_offset: header.base_offset,
            why: self.0,
        }
    }
}

impl From<VarintError> for Flaw {
    fn from(error: VarintError) -> Self {
        Self(match error {
            VarintError::Truncated => "a varint in a record is cut short",
            VarintError::TooLong => "a varint in a record is too long for its type",
        })
    }
}

/// A record's fields before the batch's base is added.
pub(crate) struct RawRecord<'a> {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    /// Key, value and headers as they stand.
    pub(crate) fields: &'a [u8],
    /// Bytes of the record, its length included.
    pub(crate) size_bytes: usize,
}

impl<'a> RawRecord<'a> {
    #[inline]
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let mut rest = bytes;
        let length = count(
            varint::decode_i32(&mut rest)?,
            "a record's length is negative",
        )?;
        let mut fields = take(&mut rest, length)?;
        let _unused_attributes = take(&mut fields, 1)?;
        Ok(Self {
            timestamp_delta: varint::decode_i64(&mut fields)?,
            offset_delta: varint::decode_i32(&mut fields)?,
            fields,
            size_bytes: bytes.len() - rest.len(),
        })
    }
}

/// The first record of `bytes` and the bytes that it takes.
#[inline]
fn parse<'a>(batch: &BatchHeader, bytes: &'a [u8]) -> Result<(RecordRef<'a>, usize), Flaw> {
    let raw = RawRecord::parse(bytes)?;
    if raw.offset_delta < 0 || raw.offset_delta > batch.last_offset_delta {
        return Err(Flaw("a record's offset lies outside it"));
    }
    let offset = batch.base_offset.checked_add(i64::from(raw.offset_delta));
    let timestamp_ms = match batch.attributes.timestamp_type() {
        TimestampType::LogAppendTime => Some(batch.max_timestamp),
        TimestampType::CreateTime => batch.base_timestamp.checked_add(raw.timestamp_delta),
    };
    let mut fields = raw.fields;
    let record = RecordRef {
        offset: offset.ok_or(Flaw("a record's offset is too large"))?,
        timestamp_ms: timestamp_ms.ok_or(Flaw("a record's timestamp is too large"))?,
        key: parse_nullable(&mut fields)?,
        value: parse_nullable(&mut fields)?,
        headers: HeadersRef::parse(&mut fields)?,
    };
    if !fields.is_empty() {
        return Err(Flaw("bytes follow a record's last header"));
    }
    Ok((record, raw.size_bytes))
}

#[inline]
fn parse_header<'a>(bytes: &mut &'a [u8]) -> Result<(&'a [u8], Option<&'a [u8]>), Flaw> {
    let length = count(
        varint::decode_i32(bytes)?,
        "a record's header key has a negative length",
    )?;
    Ok((take(bytes, length)?, parse_nullable(bytes)?))
}

/// -1 is null; anything below is refused.
#[inline]
fn parse_nullable<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Flaw> {
    match varint::decode_i32(bytes)? {
        -1 => Ok(None),
        length => take(bytes, count(length, "a length in a record is below -1")?).map(Some),
    }
}

#[inline]
fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Flaw> {
    let (taken, rest) = bytes
        .split_at_checked(length)
        .ok_or(Flaw("a length in a record is beyond the bytes left"))?;
    *bytes = rest;
    Ok(taken)
}

#[inline]
fn count(value: i32, negative: &'static str) -> Result<usize, Flaw> {
    usize::try_from(value).map_err(|_| Flaw(negative))
}
