//! Headers as we write them: a fixed name, ASCII text.

use bytes::Bytes;
use thiserror::Error;

/// More than any header of ours takes, in bytes: the longest holds a number.
const HEADER_MAX_BYTES: usize = 512;

/// A header to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedHeader {
    /// The header's name.
    pub name: &'static str,
    /// Its value; never null.
    pub value: String,
}

impl EncodedHeader {
    pub(crate) fn new(name: &'static str, value: impl ToString) -> Self {
        Self {
            name,
            value: value.to_string(),
        }
    }
}

/// Why a header of ours cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// There is none of that name, or its value is null.
    #[error("the record has no `{name}` header")]
    Missing {
        /// The header's name.
        name: &'static str,
    },
    /// Not in the form that we write.
    #[error("the `{name}` header `{text}` is not {expected}")]
    Malformed {
        /// The header's name.
        name: &'static str,
        /// The header's value, shortened.
        text: String,
        /// The form that it should have.
        expected: &'static str,
    },
}

/// The value of the header `name`, read by `parse`.
pub(crate) fn read<T>(
    name: &'static str,
    expected: &'static str,
    header: &impl Fn(&str) -> Option<Option<Bytes>>,
    parse: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<T, HeaderError> {
    read_optional(name, expected, header, parse)?.ok_or(HeaderError::Missing { name })
}

/// Like [`read`] where the header may be absent.
pub(crate) fn read_optional<T>(
    name: &'static str,
    expected: &'static str,
    header: &impl Fn(&str) -> Option<Option<Bytes>>,
    parse: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<Option<T>, HeaderError> {
    let Some(value) = header(name).flatten() else {
        return Ok(None);
    };
    let parsed = if value.len() <= HEADER_MAX_BYTES {
        parse(&value)
    } else {
        None
    };
    match parsed {
        Some(parsed) => Ok(Some(parsed)),
        None => Err(HeaderError::Malformed {
            name,
            text: excerpt(&value),
            expected,
        }),
    }
}

/// An integer in its one spelling: no plus sign, no leading zeros, no blanks.
pub(crate) fn parse_integer<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Enough of a value for a message.
fn excerpt(value: &[u8]) -> String {
    const EXCERPT_BYTES: usize = 64;
    match value.get(..EXCERPT_BYTES) {
        Some(first) => format!("{}…", String::from_utf8_lossy(first)),
        None => String::from_utf8_lossy(value).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_integer_has_one_spelling() {
        assert_eq!(parse_integer::<i64>(b"-12"), Some(-12));
        assert_eq!(parse_integer::<u64>(b"0"), Some(0));
        for text in [
            "", "-", "-0", "00", "01", "-01", "+1", " 1", "1 ", "1.0", "0x1",
        ] {
            assert_eq!(parse_integer::<i64>(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_integer::<u64>(b"-1"), None);
        assert_eq!(parse_integer::<u8>(b"256"), None);
    }

    #[test]
    fn a_long_value_is_shortened_in_the_message() {
        let header = |_: &str| Some(Some(Bytes::from(vec![b'7'; 100_000])));
        let failed = read("tw.count", "a count", &header, parse_integer::<u64>).unwrap_err();
        assert!(failed.to_string().len() < 200, "{failed}");
    }

    proptest! {
        #[test]
        fn every_integer_reads_back(value: i64) {
            prop_assert_eq!(parse_integer(value.to_string().as_bytes()), Some(value));
        }
    }
}
