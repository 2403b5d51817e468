//! One host's result for one window: the record on `<topic>-agg-result`.

use crate::header::{EncodedHeader, HeaderError, parse_integer, read};
use crate::host::{HostError, parse_host};
use crate::number::{Number, NumberError};
use bytes::Bytes;
use std::fmt;
use thiserror::Error;

const WINDOW: &str = "tw.window";
const COUNT: &str = "tw.count";
const MIN: &str = "tw.min";
const MAX: &str = "tw.max";
const SAMPLES: &str = "tw.samples";
const EMIT: &str = "tw.emit";

/// A window's mean and what it rests on. The record's key is the host, its value the mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowResult<'a> {
    /// Whose window it is.
    pub host: &'a str,
    /// What time it spans.
    pub window: Window,
    /// The mean of the values.
    pub mean: Number,
    /// How many values the mean is made of.
    pub count: u64,
    /// The smallest value.
    pub min: Number,
    /// The greatest value.
    pub max: Number,
    /// How complete the window is.
    pub samples: Samples,
    /// Whether the window may still change.
    pub emit: Emit,
}

impl<'a> WindowResult<'a> {
    /// The record's value.
    pub fn encode_value(&self) -> String {
        self.mean.to_string()
    }

    /// The record's headers, in their order.
    pub fn encode_headers(&self) -> [EncodedHeader; 6] {
        [
            EncodedHeader::new(WINDOW, self.window),
            EncodedHeader::new(COUNT, self.count),
            EncodedHeader::new(MIN, self.min),
            EncodedHeader::new(MAX, self.max),
            EncodedHeader::new(SAMPLES, self.samples),
            EncodedHeader::new(EMIT, self.emit),
        ]
    }

    /// Reads a record; `header` finds the value of its last header of a name. Headers that this
    /// version does not know are left alone.
    pub fn parse(
        key: Option<&'a [u8]>,
        value: Option<&[u8]>,
        timestamp_ms: i64,
        header: impl Fn(&str) -> Option<Option<Bytes>>,
    ) -> Result<Self, WindowResultError> {
        let number = |text: &[u8]| Number::parse(text).ok();
        Ok(Self {
            host: parse_host(key)?,
            window: read(WINDOW, "`start/end` in ms, or `all`", &header, |text| {
                Window::parse(text, timestamp_ms)
            })?,
            mean: Number::parse(value.ok_or(WindowResultError::NoValue)?)?,
            count: read(COUNT, "a count", &header, parse_integer)?,
            min: read(MIN, "a decimal number", &header, number)?,
            max: read(MAX, "a decimal number", &header, number)?,
            samples: read(
                SAMPLES,
                "`seen/expected` or `seen/?`",
                &header,
                Samples::parse,
            )?,
            emit: read(EMIT, "`update` or `final`", &header, Emit::parse)?,
        })
    }
}

/// The time that a result spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// From `start_ms` to before `end_ms`, milliseconds since 1970; written as `start/end`.
    Span {
        /// The first millisecond.
        start_ms: i64,
        /// The millisecond after the last; greater than the start.
        end_ms: i64,
    },
    /// Everything so far, the running mean; written as `all`.
    All {
        /// The newest sample's time, which is the record's timestamp.
        newest_ms: i64,
    },
}

impl Window {
    /// The timestamp of the window's record: the last millisecond in it.
    pub fn timestamp_ms(self) -> i64 {
        match self {
            Self::Span { end_ms, .. } => end_ms.saturating_sub(1),
            Self::All { newest_ms } => newest_ms,
        }
    }

    fn parse(text: &[u8], timestamp_ms: i64) -> Option<Self> {
        if text == b"all" {
            return Some(Self::All {
                newest_ms: timestamp_ms,
            });
        }
        let (start, end) = split_at_slash(text)?;
        let (start_ms, end_ms) = (parse_integer(start)?, parse_integer(end)?);
        (start_ms < end_ms).then_some(Self::Span { start_ms, end_ms })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Span { start_ms, end_ms } => write!(out, "{start_ms}/{end_ms}"),
            Self::All { .. } => out.write_str("all"),
        }
    }
}

/// How many of a window's samples came; written as `seen/expected`, or `seen/?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Samples {
    /// Samples in the window, each counted once.
    pub seen: u64,
    /// Ticks in the window; unknown where samples carry no tag.
    pub expected: Option<u64>,
}

impl Samples {
    fn parse(text: &[u8]) -> Option<Self> {
        let (seen, expected) = split_at_slash(text)?;
        let expected = match expected {
            b"?" => None,
            expected => Some(parse_integer(expected)?),
        };
        Some(Self {
            seen: parse_integer(seen)?,
            expected,
        })
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.expected {
            Some(expected) => write!(out, "{}/{expected}", self.seen),
            None => write!(out, "{}/?", self.seen),
        }
    }
}

/// Whether a result may be followed by another for the same window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Emit {
    /// The window is still open.
    Update,
    /// The window is closed.
    Final,
}

impl Emit {
    fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"update" => Some(Self::Update),
            b"final" => Some(Self::Final),
            _ => None,
        }
    }
}

impl fmt::Display for Emit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Update => "update",
            Self::Final => "final",
        })
    }
}

/// Why a record is no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WindowResultError {
    /// The key names no host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The value is null.
    #[error("the result has no value")]
    NoValue,
    /// The value is not a mean as we write it.
    #[error("the result's value cannot be read: {0}")]
    Value(#[from] NumberError),
    /// A header is missing or malformed.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

fn split_at_slash(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == b'/')?;
    let (before, after) = text.split_at_checked(at)?;
    Some((before, after.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Headers = BTreeMap<&'static str, String>;

    fn written(result: &WindowResult<'_>) -> Headers {
        result
            .encode_headers()
            .into_iter()
            .map(|header| (header.name, header.value))
            .collect()
    }

    fn read_back<'a>(
        host: &'a str,
        value: &str,
        timestamp_ms: i64,
        headers: &Headers,
    ) -> Result<WindowResult<'a>, WindowResultError> {
        WindowResult::parse(
            Some(host.as_bytes()),
            Some(value.as_bytes()),
            timestamp_ms,
            |name| headers.get(name).map(|value| Some(value.clone().into())),
        )
    }

    fn number(value: f64) -> Number {
        Number::new(value).unwrap()
    }

    fn a_result() -> WindowResult<'static> {
        WindowResult {
            host: "web-1",
            window: Window::Span {
                start_ms: 10_000,
                end_ms: 20_000,
            },
            mean: number(48.92621555359135),
            count: 4,
            min: number(12.0),
            max: number(90.25),
            samples: Samples {
                seen: 4,
                expected: Some(5),
            },
            emit: Emit::Final,
        }
    }

    #[test]
    fn a_result_is_written_as_documented() {
        let result = a_result();
        assert_eq!(result.encode_value(), "48.92621555359135");
        assert_eq!(result.window.timestamp_ms(), 19_999);
        let lines: Vec<String> = result
            .encode_headers()
            .iter()
            .map(|h| format!("{}={}", h.name, h.value))
            .collect();
        assert_eq!(
            lines.join(" "),
            "tw.window=10000/20000 tw.count=4 tw.min=12.0 tw.max=90.25 tw.samples=4/5 tw.emit=final"
        );
    }

    #[test]
    fn the_running_mean_spans_everything_up_to_its_newest_sample() {
        let result = WindowResult {
            window: Window::All { newest_ms: 77 },
            samples: Samples {
                seen: 4,
                expected: None,
            },
            emit: Emit::Update,
            ..a_result()
        };
        let headers = written(&result);
        assert_eq!(
            (
                headers["tw.window"].as_str(),
                headers["tw.samples"].as_str()
            ),
            ("all", "4/?")
        );
        assert_eq!(result.window.timestamp_ms(), 77);
        assert_eq!(
            read_back("web-1", &result.encode_value(), 77, &headers),
            Ok(result)
        );
    }

    #[test]
    fn each_header_is_needed_and_read_strictly() {
        let result = a_result();
        let malformed = [
            (
                "tw.window",
                ["", "1", "2/1", "1/1", "a/b", "1/2/3", "ALL"].as_slice(),
            ),
            ("tw.count", &["", "-1", "1.0", "+1"]),
            ("tw.min", &["", "1", "NaN"]),
            ("tw.max", &["", "1", "inf"]),
            ("tw.samples", &["", "4", "4/", "/5", "?/5", "4/5/6"]),
            ("tw.emit", &["", "Final", "complete"]),
        ];
        for (name, texts) in malformed {
            let mut headers = written(&result);
            for text in texts {
                headers.insert(name, (*text).to_string());
                let failed = read_back("web-1", "1.0", 0, &headers).unwrap_err();
                let named = matches!(failed, WindowResultError::Header(HeaderError::Malformed { name: n, .. }) if n == name);
                assert!(named, "{name}={text}: {failed}");
            }
            headers.remove(name);
            let failed = read_back("web-1", "1.0", 0, &headers).unwrap_err();
            assert_eq!(
                failed,
                WindowResultError::Header(HeaderError::Missing { name })
            );
        }
    }

    proptest! {
        #[test]
        fn every_result_reads_back(
            mean in -1e9..1e9, min in -1e9..1e9, max in -1e9..1e9,
            start_ms in i64::MIN..i64::MAX, size_ms in 1..i64::MAX,
            count: u64, seen: u64, expected: Option<u64>, closed: bool,
        ) {
            let result = WindowResult {
                host: "web-1",
                window: Window::Span { start_ms, end_ms: start_ms.saturating_add(size_ms) },
                mean: number(mean),
                count,
                min: number(min),
                max: number(max),
                samples: Samples { seen, expected },
                emit: if closed { Emit::Final } else { Emit::Update },
            };
            let headers = written(&result);
            let timestamp_ms = result.window.timestamp_ms();
            prop_assert_eq!(read_back("web-1", &result.encode_value(), timestamp_ms, &headers), Ok(result));
        }
    }
}
