//! A record that could not be read, as it is kept on `<topic>-rejected`.

use crate::header::{EncodedHeader, HeaderError, parse_integer, read, read_optional};
use crate::host::HostError;
use crate::sample::SampleError;
use bytes::Bytes;
use std::fmt;

const REASON: &str = "tw.reason";
const TOPIC: &str = "tw.topic";
const PARTITION: &str = "tw.partition";
const OFFSET: &str = "tw.offset";
const TIMESTAMP: &str = "tw.timestamp";
const TRUNCATED: &str = "tw.truncated";
const KEY_TRUNCATED: &str = "tw.truncated-key";

/// How much of a rejected record's value is kept, in bytes: the rejecting job must never write
/// more than the reject topic takes, whatever its input's limit is.
pub const REJECT_VALUE_MAX_BYTES: usize = 64 * 1024;

/// How much of a rejected record's key is kept, in bytes; for the same reason.
pub const REJECT_KEY_MAX_BYTES: usize = 64 * 1024;

/// Where a rejected record came from and why it was rejected: the headers of its copy.
///
/// The copy's timestamp is the rejecting job's and not the record's: a broker refuses a timestamp
/// that is far ahead of its clock (KIP-1030), and such records are among the rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Why.
    pub reason: Reason,
    /// The topic that it was read from.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its own timestamp, in milliseconds since 1970, or -1.
    pub timestamp_ms: i64,
    /// The value's length in bytes, where not all of it was kept.
    pub truncated_bytes: Option<u64>,
    /// The key's length in bytes, where not all of it was kept.
    pub truncated_key_bytes: Option<u64>,
}

impl Reject {
    /// As much of a record's value as is kept, and its length where that is not all.
    pub fn truncate_value(value: &[u8]) -> (&[u8], Option<u64>) {
        truncate(value, REJECT_VALUE_MAX_BYTES)
    }

    /// As much of a record's key as is kept, and its length where that is not all.
    pub fn truncate_key(key: &[u8]) -> (&[u8], Option<u64>) {
        truncate(key, REJECT_KEY_MAX_BYTES)
    }

    /// The headers, in their order.
    pub fn encode_headers(&self) -> Vec<EncodedHeader> {
        let mut headers = vec![
            EncodedHeader::new(REASON, self.reason),
            EncodedHeader::new(TOPIC, &self.topic),
            EncodedHeader::new(PARTITION, self.partition),
            EncodedHeader::new(OFFSET, self.offset),
            EncodedHeader::new(TIMESTAMP, self.timestamp_ms),
        ];
        headers.extend(
            self.truncated_bytes
                .map(|size| EncodedHeader::new(TRUNCATED, size)),
        );
        headers.extend(
            self.truncated_key_bytes
                .map(|size| EncodedHeader::new(KEY_TRUNCATED, size)),
        );
        headers
    }

    /// Reads the headers back; `header` finds the value of a record's last header of a name.
    pub fn parse(header: impl Fn(&str) -> Option<Option<Bytes>>) -> Result<Self, RejectError> {
        let text = |text: &[u8]| std::str::from_utf8(text).ok().map(str::to_owned);
        Ok(Self {
            reason: read(REASON, "a known reason", &header, Reason::parse)?,
            topic: read(TOPIC, "a topic's name", &header, text)?,
            partition: read(PARTITION, "a partition", &header, parse_integer)?,
            offset: read(OFFSET, "an offset", &header, parse_integer)?,
            timestamp_ms: read(TIMESTAMP, "a time in ms", &header, parse_integer)?,
            truncated_bytes: read_optional(TRUNCATED, "a length", &header, parse_integer)?,
            truncated_key_bytes: read_optional(KEY_TRUNCATED, "a length", &header, parse_integer)?,
        })
    }
}

/// Why the headers are not those of a reject.
pub type RejectError = HeaderError;

/// Why a record was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The key is null or empty.
    NoHost,
    /// The key is not UTF-8 or too long for a host name.
    BadHost,
    /// The value is null.
    NoValue,
    /// The value is there, and empty.
    EmptyValue,
    /// The value is longer than any number needs to be; it was not read further.
    LongValue,
    /// The value is not a decimal number.
    NotANumber,
    /// The value is the IEEE word for no number, `NaN`.
    Nan,
    /// The value is infinite by its word, `inf` or `Infinity`.
    Infinite,
    /// The value is a number too great to be counted with, `1e999`.
    Overflow,
    /// The value is a number below its metric's range.
    BelowRange,
    /// The value is a number above its metric's range.
    AboveRange,
    /// The `tw` header is not one of ours.
    BadTag,
    /// The record has no timestamp.
    NoTimestamp,
    /// The timestamp is so far from our era that times near it cannot be reckoned with.
    BadTimestamp,
    /// The timestamp is too far ahead of the other hosts.
    Future,
    /// The partition has as many hosts as one job keeps, and this one is not among them.
    TooManyHosts,
}

impl Reason {
    /// Every reason there is.
    pub const ALL: [Self; 16] = [
        Self::NoHost,
        Self::BadHost,
        Self::NoValue,
        Self::EmptyValue,
        Self::LongValue,
        Self::NotANumber,
        Self::Nan,
        Self::Infinite,
        Self::Overflow,
        Self::BelowRange,
        Self::AboveRange,
        Self::BadTag,
        Self::NoTimestamp,
        Self::BadTimestamp,
        Self::Future,
        Self::TooManyHosts,
    ];

    /// The reason's name in the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoHost => "no-host",
            Self::BadHost => "bad-host",
            Self::NoValue => "no-value",
            Self::EmptyValue => "empty-value",
            Self::LongValue => "long-value",
            Self::NotANumber => "not-a-number",
            Self::Nan => "nan",
            Self::Infinite => "infinite",
            Self::Overflow => "overflow",
            Self::BelowRange => "below-range",
            Self::AboveRange => "above-range",
            Self::BadTag => "bad-tag",
            Self::NoTimestamp => "no-timestamp",
            Self::BadTimestamp => "bad-timestamp",
            Self::Future => "future",
            Self::TooManyHosts => "too-many-hosts",
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str().as_bytes() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl From<&SampleError> for Reason {
    fn from(error: &SampleError) -> Self {
        match error {
            SampleError::Host(HostError::Missing | HostError::Empty) => Self::NoHost,
            SampleError::Host(HostError::TooLong { .. } | HostError::NotUtf8 { .. }) => {
                Self::BadHost
            }
            SampleError::NoValue => Self::NoValue,
            SampleError::NoTimestamp => Self::NoTimestamp,
            SampleError::Tag(_) => Self::BadTag,
        }
    }
}

fn truncate(bytes: &[u8], limit: usize) -> (&[u8], Option<u64>) {
    match bytes.get(..limit) {
        Some(kept) if kept.len() < bytes.len() => (kept, u64::try_from(bytes.len()).ok()),
        _ => (bytes, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_back(headers: &[EncodedHeader]) -> Result<Reject, RejectError> {
        Reject::parse(|name| {
            headers
                .iter()
                .rfind(|header| header.name == name)
                .map(|header| Some(header.value.clone().into()))
        })
    }

    #[test]
    fn a_reject_says_why_and_from_where() {
        let reject = Reject {
            reason: Reason::NotANumber,
            topic: "cpu-monitor".into(),
            partition: 3,
            offset: 4711,
            timestamp_ms: -1,
            truncated_bytes: Some(921_600),
            truncated_key_bytes: None,
        };
        let headers = reject.encode_headers();
        let lines: Vec<String> = headers
            .iter()
            .map(|h| format!("{}={}", h.name, h.value))
            .collect();
        assert_eq!(
            lines.join(" "),
            "tw.reason=not-a-number tw.topic=cpu-monitor tw.partition=3 tw.offset=4711 \
             tw.timestamp=-1 tw.truncated=921600"
        );
        assert_eq!(read_back(&headers), Ok(reject));
    }

    #[test]
    fn only_what_is_longer_than_the_limit_is_cut() {
        let whole = vec![b'9'; REJECT_VALUE_MAX_BYTES];
        assert_eq!(Reject::truncate_value(&whole), (whole.as_slice(), None));
        let longer = vec![b'9'; REJECT_VALUE_MAX_BYTES + 1];
        assert_eq!(
            Reject::truncate_value(&longer),
            (whole.as_slice(), Some(65_537))
        );
        assert_eq!(Reject::truncate_key(b""), (b"".as_slice(), None));
    }

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str().as_bytes()), Some(reason));
        }
        assert_eq!(Reason::parse(b"bad"), None);
    }

    #[test]
    fn what_is_no_sample_has_its_reason() {
        for (error, reason) in [
            (SampleError::Host(HostError::Missing), Reason::NoHost),
            (
                SampleError::Host(HostError::NotUtf8 { valid_up_to: 0 }),
                Reason::BadHost,
            ),
            (SampleError::NoValue, Reason::NoValue),
            (SampleError::NoTimestamp, Reason::NoTimestamp),
            (SampleError::Tag(crate::TagError::Null), Reason::BadTag),
        ] {
            assert_eq!(Reason::from(&error), reason, "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_reject_reads_back(
            reason in prop::sample::select(Reason::ALL.to_vec()), topic in "[a-zA-Z0-9._-]{1,249}",
            partition: i32, offset: i64, timestamp_ms: i64,
            truncated_bytes: Option<u64>, truncated_key_bytes: Option<u64>,
        ) {
            let reject = Reject {
                reason, topic, partition, offset, timestamp_ms, truncated_bytes, truncated_key_bytes,
            };
            prop_assert_eq!(read_back(&reject.encode_headers()), Ok(reject));
        }
    }
}
