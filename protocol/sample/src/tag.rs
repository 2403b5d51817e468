//! The `tw` header: which sample of which run of an agent this is.

use crate::header::parse_integer;
use std::fmt;
use std::num::NonZeroU32;
use thiserror::Error;

/// The header's name.
pub const TAG_HEADER: &str = "tw";

/// Hexadecimal digits in a run's text.
const RUN_DIGITS: usize = 16;

/// The longest tag, in bytes: a run, a u64, a u32 and two points.
const TAG_MAX_BYTES: usize = RUN_DIGITS + 1 + 20 + 1 + 10;

/// One start of an agent, drawn at random; written as 16 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

/// What lets a reader see gaps and duplicates; written as `run.sequence.interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SampleTag {
    /// The start of the agent that took the sample.
    pub run: RunId,
    /// Counts the run's samples of one metric, from 0.
    pub sequence: u64,
    /// Between two samples, in milliseconds: samples are taken at its multiples since 1970.
    pub interval_ms: NonZeroU32,
}

impl SampleTag {
    /// Reads the value of a `tw` header.
    pub fn parse(value: &[u8]) -> Result<Self, TagError> {
        if value.len() > TAG_MAX_BYTES {
            return Err(TagError::TooLong {
                size_bytes: value.len(),
            });
        }
        let malformed = |what| TagError::Malformed {
            what,
            text: String::from_utf8_lossy(value).into_owned(),
        };
        let mut parts = value.split(|&byte| byte == b'.');
        let (run, sequence, interval) = match (parts.next(), parts.next(), parts.next()) {
            (Some(run), Some(sequence), Some(interval)) if parts.next().is_none() => {
                (run, sequence, interval)
            }
            _ => return Err(malformed("it is not run.sequence.interval")),
        };
        Ok(Self {
            run: parse_run(run)
                .ok_or_else(|| malformed("the run is not 16 lower-case hexadecimal digits"))?,
            sequence: parse_integer(sequence)
                .ok_or_else(|| malformed("the sequence is not a 64-bit number"))?,
            interval_ms: parse_integer(interval)
                .and_then(NonZeroU32::new)
                .ok_or_else(|| malformed("the interval is not a positive 32-bit number"))?,
        })
    }
}

impl fmt::Display for SampleTag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.run, self.sequence, self.interval_ms)
    }
}

/// Why a `tw` header cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TagError {
    /// The header is there and its value is null.
    #[error("the `tw` header is null")]
    Null,
    /// Longer than any tag.
    #[error("the `tw` header takes {size_bytes} bytes; a tag takes at most {TAG_MAX_BYTES}")]
    TooLong {
        /// The header's length.
        size_bytes: usize,
    },
    /// Not in the form that we write.
    #[error("the `tw` header `{text}` cannot be read: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
        /// The header's value.
        text: String,
    },
}

fn parse_run(text: &[u8]) -> Option<RunId> {
    if text.len() != RUN_DIGITS {
        return None;
    }
    let run = text.iter().try_fold(0_u64, |run, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(run << 4 | u64::from(digit))
    })?;
    Some(RunId(run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tag_is_written_as_documented() {
        let tag = SampleTag::parse(b"9f3c2a7e41d0b865.4711.2000").unwrap();
        assert_eq!(tag.run, RunId(0x9f3c_2a7e_41d0_b865));
        assert_eq!((tag.sequence, tag.interval_ms.get()), (4711, 2000));
        assert_eq!(tag.to_string(), "9f3c2a7e41d0b865.4711.2000");
        assert_eq!(RunId(1).to_string(), "0000000000000001");
    }

    #[test]
    fn only_the_one_spelling_of_a_tag_is_read() {
        let run = "9f3c2a7e41d0b865";
        for text in [
            String::new(),
            run.to_string(),
            format!("{run}.1"),
            format!("{run}.1.2000.3"),
            format!("{}.1.2000", run.to_uppercase()),
            "9f3c.1.2000".to_string(),
            format!("{run}..2000"),
            format!("{run}.01.2000"),
            format!("{run}.+1.2000"),
            format!("{run}.-1.2000"),
            format!("{run}.18446744073709551616.2000"),
            format!("{run}.1.0"),
            format!("{run}.1.4294967296"),
            format!("{run}.1.2000 "),
        ] {
            let read = SampleTag::parse(text.as_bytes());
            assert!(
                matches!(read, Err(TagError::Malformed { .. })),
                "{text}: {read:?}"
            );
        }
        assert!(matches!(
            SampleTag::parse(&[b'0'; 49]),
            Err(TagError::TooLong { size_bytes: 49 })
        ));
    }

    proptest! {
        #[test]
        fn every_tag_reads_back(run: u64, sequence: u64, interval in 1..=u32::MAX) {
            let interval_ms = NonZeroU32::new(interval).unwrap();
            let tag = SampleTag { run: RunId(run), sequence, interval_ms };
            prop_assert_eq!(SampleTag::parse(tag.to_string().as_bytes()), Ok(tag));
        }

        #[test]
        fn what_is_read_is_written_the_same(text in "[0-9a-f]{15,17}\\.[0-9]{0,21}\\.[0-9]{0,11}|\\PC*") {
            if let Ok(tag) = SampleTag::parse(text.as_bytes()) {
                prop_assert_eq!(tag.to_string(), text);
            }
        }
    }
}
