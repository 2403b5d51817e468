//! A record as it comes from Kafka, and the sample that it is.

use crate::number::Value;
use crate::output::RejectedRecord;
use crate::settings::Settings;
use bytes::Bytes;
use std::ops::RangeInclusive;
use tidewatch_sample::{NO_TIMESTAMP, Reason, Reject, SampleError, SampleTag, parse_host};

/// Times that can be reckoned with, in milliseconds: some 140,000 years around 1970. Beyond them
/// the sums and differences of times and settings could overflow.
const TIMES_MS: RangeInclusive<i64> = -(1 << 52)..=1 << 52;

/// A record of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputRecord<'a> {
    /// Its offset; records come in the order of their offsets, gaps allowed.
    pub offset: i64,
    /// Its timestamp, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key, null or not.
    pub key: Option<&'a [u8]>,
    /// Its value, null or not.
    pub value: Option<&'a [u8]>,
    /// Its last [`TAG_HEADER`](tidewatch_sample::TAG_HEADER), if any, whose value may be null.
    pub tag: Option<Option<&'a [u8]>>,
}

/// A sample in range, not yet judged by its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadSample<'a> {
    pub(crate) offset: i64,
    pub(crate) time_ms: i64,
    pub(crate) host: &'a str,
    pub(crate) value: Value,
    /// The value as it came.
    pub(crate) text: &'a [u8],
    pub(crate) tag: Option<SampleTag>,
}

impl<'a> ReadSample<'a> {
    pub(crate) fn parse(record: &InputRecord<'a>, settings: &Settings) -> Result<Self, Reason> {
        let host = parse_host(record.key).map_err(|why| Reason::from(&SampleError::Host(why)))?;
        let text = record.value.ok_or(Reason::NoValue)?;
        if record.timestamp_ms == NO_TIMESTAMP {
            return Err(Reason::NoTimestamp);
        }
        if !TIMES_MS.contains(&record.timestamp_ms) {
            return Err(Reason::BadTimestamp);
        }
        let tag = match record.tag {
            None => None,
            Some(None) => return Err(Reason::BadTag),
            Some(Some(tag)) => Some(SampleTag::parse(tag).map_err(|_| Reason::BadTag)?),
        };
        let value = Value::parse(text)?;
        if value < settings.min {
            return Err(Reason::BelowRange);
        }
        if value > settings.max {
            return Err(Reason::AboveRange);
        }
        Ok(Self {
            offset: record.offset,
            time_ms: record.timestamp_ms,
            host,
            value,
            text,
            tag,
        })
    }
}

impl RejectedRecord {
    pub(crate) fn of(record: &InputRecord<'_>, reason: Reason, clock_ms: Option<i64>) -> Self {
        let key = record.key.map(Reject::truncate_key);
        let value = record.value.map(Reject::truncate_value);
        Self {
            reason,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: key.map(|(kept, _)| Bytes::copy_from_slice(kept)),
            value: value.map(|(kept, _)| Bytes::copy_from_slice(kept)),
            truncated_key_bytes: key.and_then(|(_, truncated)| truncated),
            truncated_bytes: value.and_then(|(_, truncated)| truncated),
            clock_ms,
        }
    }
}
