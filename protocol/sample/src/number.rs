//! A finite number and its decimal text: the shortest that reads back to the same f64.

use std::fmt;
use thiserror::Error;

/// More than any text of ours takes, in bytes: the longest are those of numbers near 1e-308, which
/// take a sign, some 308 zeros and 17 digits.
const TEXT_MAX_BYTES: usize = 400;

/// A finite f64 that is written as decimal text with at least one decimal and no exponent, `48.0`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Number(f64);

impl Number {
    /// `None` where the value is infinite or not a number. A negative zero becomes zero.
    pub fn new(value: f64) -> Option<Self> {
        // In IEEE 754, -0.0 + 0.0 is 0.0; every other value stays what it is.
        value.is_finite().then_some(Self(value + 0.0))
    }

    /// The value.
    pub fn get(self) -> f64 {
        self.0
    }

    /// Reads back what [`Display`](fmt::Display) writes: digits, a point, digits; nothing else.
    pub fn parse(text: &[u8]) -> Result<Self, NumberError> {
        if text.len() > TEXT_MAX_BYTES {
            return Err(NumberError::TooLong {
                size_bytes: text.len(),
            });
        }
        let malformed = || NumberError::Malformed(String::from_utf8_lossy(text).into_owned());
        let text = std::str::from_utf8(text).map_err(|_| malformed())?;
        let (whole, decimals) = text
            .strip_prefix('-')
            .unwrap_or(text)
            .split_once('.')
            .ok_or_else(malformed)?;
        if !is_digits(whole) || !is_digits(decimals) {
            return Err(malformed());
        }
        text.parse().ok().and_then(Self::new).ok_or_else(malformed)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A float's Display never takes an exponent; its Debug does.
        write!(out, "{}", self.0)?;
        if self.0.fract() == 0.0 {
            out.write_str(".0")
        } else {
            Ok(())
        }
    }
}

/// Why text is not a number in the form that we write.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NumberError {
    /// Longer than any f64's text.
    #[error("a number's text takes {size_bytes} bytes, more than any number needs")]
    TooLong {
        /// The text's length.
        size_bytes: usize,
    },
    /// Not digits, a point, digits.
    #[error("`{0}` is not a decimal number such as 48.0")]
    Malformed(String),
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: f64) -> String {
        Number::new(value).unwrap().to_string()
    }

    #[test]
    fn text_is_the_shortest_that_reads_back_with_a_decimal_and_no_exponent() {
        assert_eq!(text(14.163090128755364), "14.163090128755364");
        assert_eq!(text(48.0), "48.0");
        assert_eq!(text(0.0005), "0.0005");
        assert_eq!(text(1e-7), "0.0000001");
        assert_eq!(text(1e17), "100000000000000000.0");
        assert_eq!(text(-0.0), "0.0");
    }

    #[test]
    fn what_is_not_finite_is_no_number() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Number::new(value), None);
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "", "48", ".5", "5.", "1e3", "5.0E-4", "+1.0", "--1.0", "NaN", "inf", " 1.0", "1.0 ",
            "1_0.0",
        ] {
            assert!(
                matches!(
                    Number::parse(text.as_bytes()),
                    Err(NumberError::Malformed(_))
                ),
                "{text}"
            );
        }
        assert!(Number::parse(b"1.\xff").is_err());
        assert!(matches!(
            Number::parse(&[b'1'; 2000]),
            Err(NumberError::TooLong { size_bytes: 2000 })
        ));
    }

    proptest! {
        #[test]
        fn every_finite_number_reads_back(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
            let number = Number::new(value).unwrap();
            prop_assert_eq!(Number::parse(number.to_string().as_bytes()), Ok(number));
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(number) = Number::parse(&bytes) {
                prop_assert!(number.get().is_finite());
            }
        }
    }
}
