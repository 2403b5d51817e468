//! A sample as it stands in a record: the host, the value's text, the tick, and perhaps our tag.

use crate::host::{HostError, parse_host};
use crate::tag::{SampleTag, TAG_HEADER, TagError};
use bytes::Bytes;
use thiserror::Error;

/// The timestamp of a record that has none (Kafka's `RecordBatch.NO_TIMESTAMP`).
pub const NO_TIMESTAMP: i64 = -1;

/// One reading of one metric of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample<'a> {
    /// The record's key.
    pub host: &'a str,
    /// The record's value as it came: a percentage as decimal text, not yet read as a number.
    pub value: &'a [u8],
    /// The tick that it was taken for, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Absent where another producer wrote the record: then nothing is known of its completeness.
    pub tag: Option<SampleTag>,
}

impl<'a> Sample<'a> {
    /// Reads a record; `header` finds the value of its last header of a name.
    pub fn parse(
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        timestamp_ms: i64,
        header: impl FnOnce(&str) -> Option<Option<Bytes>>,
    ) -> Result<Self, SampleError> {
        let host = parse_host(key)?;
        let value = value.ok_or(SampleError::NoValue)?;
        if timestamp_ms == NO_TIMESTAMP {
            return Err(SampleError::NoTimestamp);
        }
        let tag = match header(TAG_HEADER) {
            None => None,
            Some(None) => return Err(SampleError::Tag(TagError::Null)),
            Some(Some(text)) => Some(SampleTag::parse(&text)?),
        };
        Ok(Self {
            host,
            value,
            timestamp_ms,
            tag,
        })
    }
}

/// Why a record is no sample.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SampleError {
    /// The key names no host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The value is null.
    #[error("the record has no value")]
    NoValue,
    /// The timestamp is [`NO_TIMESTAMP`].
    #[error("the record has no timestamp")]
    NoTimestamp,
    /// The `tw` header cannot be read.
    #[error(transparent)]
    Tag(#[from] TagError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_header(_: &str) -> Option<Option<Bytes>> {
        None
    }

    #[test]
    fn a_record_of_the_tutorial_is_a_sample_without_a_tag() {
        let sample = Sample::parse(Some(b"host-a"), Some(b"12.5"), 1_000, no_header).unwrap();
        assert_eq!(
            sample,
            Sample {
                host: "host-a",
                value: b"12.5",
                timestamp_ms: 1_000,
                tag: None
            }
        );
    }

    #[test]
    fn a_value_that_is_no_number_is_left_to_who_computes() {
        let sample = Sample::parse(Some(b"host-a"), Some(b""), 0, no_header).unwrap();
        assert_eq!(sample.value, b"");
    }

    #[test]
    fn what_is_missing_is_named() {
        let parse = |key, value, timestamp| Sample::parse(key, value, timestamp, no_header);
        let key = Some(b"host-a".as_slice());
        let value = Some(b"1.0".as_slice());
        assert_eq!(
            parse(None, value, 0),
            Err(SampleError::Host(HostError::Missing))
        );
        assert_eq!(parse(key, None, 0), Err(SampleError::NoValue));
        assert_eq!(
            parse(key, value, NO_TIMESTAMP),
            Err(SampleError::NoTimestamp)
        );
        assert!(parse(key, value, -2).is_ok());
    }

    #[test]
    fn a_tag_that_cannot_be_read_is_not_taken_for_none() {
        let parse = |tag: Option<&'static [u8]>| {
            Sample::parse(Some(b"a"), Some(b"1.0"), 0, |_| {
                Some(tag.map(Bytes::from_static))
            })
        };
        assert_eq!(parse(None), Err(SampleError::Tag(TagError::Null)));
        assert!(matches!(
            parse(Some(b"x")),
            Err(SampleError::Tag(TagError::Malformed { .. }))
        ));
        assert!(
            parse(Some(b"00000000000000ff.0.2000"))
                .unwrap()
                .tag
                .is_some()
        );
    }
}
