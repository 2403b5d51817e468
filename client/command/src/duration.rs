//! Spans of time as an operator types them: `500ms`, `2s`, `1m`.

use std::time::Duration;
use thiserror::Error;

/// Every unit with its length in milliseconds; `ms` stands before `m` and `s`, which end it.
const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Reads a whole number and its unit, `ms`, `s`, `m`, `h` or `d`, with nothing between them.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(DurationError::NoNumber);
    }
    if unit.is_empty() {
        return Err(DurationError::NoUnit {
            number: number.to_owned(),
        });
    }
    let (_, unit_ms) = UNITS
        .into_iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| DurationError::UnknownUnit {
            unit: unit.to_owned(),
        })?;
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or(DurationError::TooLong)
}

/// Why text is no span of time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// It does not begin with a digit.
    #[error("a duration is a whole number and its unit, such as 500ms, 2s or 1m")]
    NoNumber,
    /// Nothing follows the digits.
    #[error("the unit is missing; say {number}ms, {number}s, {number}m, {number}h or {number}d")]
    NoUnit {
        /// The digits.
        number: String,
    },
    /// What follows the digits is not a unit.
    #[error("`{unit}` is not a unit; use ms, s, m, h or d after a whole number (1500ms, not 1.5s)")]
    UnknownUnit {
        /// What follows the digits.
        unit: String,
    },
    /// More milliseconds than 64 bits hold.
    #[error("the duration is longer than any clock counts")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_and_its_unit_are_a_duration() {
        for (text, ms) in [
            ("0s", 0),
            ("500ms", 500),
            ("2s", 2_000),
            ("1m", 60_000),
            ("3h", 10_800_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_says_what_is_missing() {
        assert_eq!(parse_duration(""), Err(DurationError::NoNumber));
        assert_eq!(parse_duration("s"), Err(DurationError::NoNumber));
        assert_eq!(parse_duration("-2s"), Err(DurationError::NoNumber));
        assert_eq!(
            parse_duration("2"),
            Err(DurationError::NoUnit { number: "2".into() })
        );
        for unit in [" s", ".5s", "sec", "S", "s ", "µs"] {
            let failed = parse_duration(&format!("2{unit}"));
            assert_eq!(
                failed,
                Err(DurationError::UnknownUnit { unit: unit.into() })
            );
        }
    }

    #[test]
    fn more_than_64_bits_of_milliseconds_are_refused() {
        assert_eq!(
            parse_duration("18446744073709551615ms"),
            Ok(Duration::from_millis(u64::MAX))
        );
        assert_eq!(
            parse_duration("18446744073709551616ms"),
            Err(DurationError::TooLong)
        );
        assert_eq!(
            parse_duration("18446744073709551615s"),
            Err(DurationError::TooLong)
        );
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[0-9]{0,30}\\PC{0,6}") {
            if let Ok(duration) = parse_duration(&text) {
                prop_assert_eq!(duration.subsec_nanos() % 1_000_000, 0);
            }
        }
    }
}
