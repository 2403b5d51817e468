//! Numbers as the engine counts with them: decimal text in, exact integers inside, one f64 out.

use std::cmp::Ordering;
use tidewatch_sample::{Number, Reason};

/// Decimals kept of a value: it is counted in units of 10^-12.
pub const SCALE: u32 = 12;

/// The longest text read as a number, in bytes: Java's longest double takes 24.
pub const TEXT_MAX_BYTES: usize = 64;

/// Digits that always fit a u64.
const DIGITS_MAX: u32 = 19;

/// An exponent beyond this leaves nothing but zero or an overflow of the longest text.
const EXPONENT_MAX: i64 = 1000;

/// A value in units of 10^-[`SCALE`], so that sums of values do not depend on their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(i64);

impl Value {
    /// A value from its units of 10^-[`SCALE`].
    pub const fn from_units(units: i64) -> Self {
        Self(units)
    }

    /// A whole number, for settings; saturates at the range of a value (±9.2e6).
    pub const fn whole(number: i64) -> Self {
        Self(number.saturating_mul(10_i64.pow(SCALE)))
    }

    /// Units of 10^-[`SCALE`].
    pub const fn units(self) -> i64 {
        self.0
    }

    /// Reads ASCII text: sign, digits, fraction, exponent, each but the digits optional. What does
    /// not fit the scale is rounded half to even over all digits. No text is read beyond
    /// [`TEXT_MAX_BYTES`].
    pub fn parse(text: &[u8]) -> Result<Self, Reason> {
        if text.is_empty() {
            return Err(Reason::EmptyValue);
        }
        if text.len() > TEXT_MAX_BYTES {
            return Err(Reason::LongValue);
        }
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let mantissa = Mantissa::parse(unsigned).ok_or_else(|| name_of_no_number(unsigned))?;
        let magnitude = mantissa.scaled().ok_or(Reason::Overflow)?;
        let signed = if negative {
            0_i64.checked_sub_unsigned(magnitude)
        } else {
            0_i64.checked_add_unsigned(magnitude)
        };
        signed.map(Self).ok_or(Reason::Overflow)
    }

    /// The nearest f64.
    pub fn to_number(self) -> Option<Number> {
        quotient(i128::from(self.0), 1)
    }
}

/// The f64 nearest to `sum` / (`count` · 10^[`SCALE`]), ties to even; `None` for a count of 0.
pub(crate) fn quotient(sum: i128, count: u64) -> Option<Number> {
    let denominator = u128::from(count).checked_mul(10_u128.pow(SCALE))?;
    let magnitude = nearest(sum.unsigned_abs(), denominator)?;
    Number::new(if sum < 0 { -magnitude } else { magnitude })
}

/// Long division until the quotient has 55 bits: 53 to keep, one to round by, and at least one
/// that, joined with the remainder, tells a tie from what is just above it. A denominator is less
/// than 2^104, so nothing overflows and no result is subnormal.
fn nearest(numerator: u128, denominator: u128) -> Option<f64> {
    const KEPT_BITS: u32 = f64::MANTISSA_DIGITS;
    if numerator == 0 {
        return (denominator != 0).then_some(0.0);
    }
    let mut quotient = numerator.checked_div(denominator)?;
    let mut remainder = numerator.checked_rem(denominator)?;
    let mut exponent = 0_i32;
    while bits(quotient) < KEPT_BITS + 2 {
        remainder <<= 1;
        quotient <<= 1;
        if remainder >= denominator {
            remainder -= denominator;
            quotient |= 1;
        }
        exponent -= 1;
    }
    let excess = bits(quotient) - KEPT_BITS;
    let (mut kept, cut) = (quotient >> excess, quotient & ((1 << excess) - 1));
    let half = 1_u128 << (excess - 1);
    let above = cut.cmp(&half).then(remainder.cmp(&0));
    if above == Ordering::Greater || (above == Ordering::Equal && kept & 1 == 1) {
        kept += 1;
    }
    exponent += i32::try_from(excess).ok()?;
    // At most 2^53, and a power of two in the range of normal numbers: both steps are exact.
    Some(kept as f64 * 2_f64.powi(exponent))
}

fn bits(number: u128) -> u32 {
    u128::BITS - number.leading_zeros()
}

/// A number's text without its sign: `digits` · 10^`exponent`, and what came after those digits.
struct Mantissa {
    /// The first [`DIGITS_MAX`] digits from the first that is not zero.
    digits: u64,
    exponent: i64,
    /// The first digit left out, and whether any after it is not zero.
    next: u8,
    more: bool,
}

impl Mantissa {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut read = Self {
            digits: 0,
            exponent: 0,
            next: 0,
            more: false,
        };
        let (mut taken, mut cut) = (0_u32, 0_u32);
        let (mut seen, mut point) = (false, false);
        let mut rest = text.iter();
        while let Some(&byte) = rest.next() {
            match byte {
                b'0'..=b'9' => {
                    let digit = byte - b'0';
                    seen = true;
                    if taken < DIGITS_MAX {
                        read.digits = read.digits * 10 + u64::from(digit);
                        taken += u32::from(read.digits != 0);
                        read.exponent -= i64::from(point);
                    } else {
                        if cut == 0 {
                            read.next = digit;
                        } else {
                            read.more |= digit != 0;
                        }
                        cut += 1;
                        read.exponent += i64::from(!point);
                    }
                }
                b'.' if !point => point = true,
                b'e' | b'E' if seen => {
                    read.exponent += parse_exponent(rest.as_slice())?;
                    break;
                }
                _ => return None,
            }
        }
        seen.then_some(read)
    }

    /// In units of 10^-[`SCALE`], half to even; `None` where a u64 is too small.
    fn scaled(&self) -> Option<u64> {
        let shift = self.exponent + i64::from(SCALE);
        if self.digits == 0 {
            return Some(0);
        }
        if shift >= 0 {
            let power = 10_u64.checked_pow(u32::try_from(shift).ok()?)?;
            let whole = self.digits.checked_mul(power)?;
            let above = self.next.cmp(&5).then(self.more.cmp(&false));
            return round(whole, above);
        }
        let Some(power) = u32::try_from(-shift)
            .ok()
            .and_then(|shift| 10_u64.checked_pow(shift))
        else {
            // At most 19 digits shifted right by 20 or more: below a tenth of a unit.
            return Some(0);
        };
        let (whole, cut) = (self.digits / power, self.digits % power);
        let above = cut.cmp(&(power - cut));
        let tail = self.next != 0 || self.more;
        round(whole, above.then(tail.cmp(&false)))
    }
}

/// `whole`, or one more where the part cut off is above a half, or is a half and `whole` is odd.
fn round(whole: u64, cut_to_half: Ordering) -> Option<u64> {
    match cut_to_half {
        Ordering::Less => Some(whole),
        Ordering::Equal => whole.checked_add(whole & 1),
        Ordering::Greater => whole.checked_add(1),
    }
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let magnitude = digits.iter().try_fold(0_i64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        Some((sum * 10 + digit).min(EXPONENT_MAX))
    })?;
    Some(if negative { -magnitude } else { magnitude })
}

fn name_of_no_number(unsigned: &[u8]) -> Reason {
    let is = |word: &str| unsigned.eq_ignore_ascii_case(word.as_bytes());
    if is("nan") {
        Reason::Nan
    } else if is("inf") || is("infinity") {
        Reason::Infinite
    } else {
        Reason::NotANumber
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn units(text: &str) -> Result<i64, Reason> {
        Value::parse(text.as_bytes()).map(Value::units)
    }

    /// The decimal expansion, with a last digit that stands for all that follow: std reads decimal
    /// text of any length to the nearest f64.
    fn nearest_by_text(numerator: u128, denominator: u128) -> f64 {
        const DECIMALS: usize = 300;
        let (mut text, mut rest) = (
            format!("{}.", numerator / denominator),
            numerator % denominator,
        );
        for _ in 0..DECIMALS {
            rest *= 10;
            text.push_str(&(rest / denominator).to_string());
            rest %= denominator;
        }
        text.push(if rest == 0 { '0' } else { '1' });
        text.parse().unwrap()
    }

    #[test]
    fn values_are_read_as_java_and_people_write_them() {
        for (text, expected) in [
            ("14.163090128755364", 14_163_090_128_755),
            ("48.0", 48_000_000_000_000),
            ("5.0E-4", 500_000_000),
            ("1e2", 100_000_000_000_000),
            ("+7", 7_000_000_000_000),
            ("-1", -1_000_000_000_000),
            ("-0.0", 0),
            (".5", 500_000_000_000),
            ("5.", 5_000_000_000_000),
            ("000000000000000000000000000001", 1_000_000_000_000),
            ("0e999", 0),
            ("1e-999", 0),
            ("9223372.036854775807", i64::MAX),
            ("-9223372.036854775808", i64::MIN),
        ] {
            assert_eq!(units(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn ties_go_to_even_over_all_digits() {
        for (text, expected) in [
            ("0.0000000000005", 0),
            ("0.0000000000015", 2),
            ("0.0000000000025", 2),
            (
                "0.00000000000250000000000000000000000000000000000000000000001",
                3,
            ),
            ("1.0000000000005", 1_000_000_000_000),
            (
                "1.00000000000050000000000000000000000000000000000001",
                1_000_000_000_001,
            ),
            ("-0.0000000000015", -2),
            ("9999999999999999999.5e-12", 0),
        ] {
            let read = units(text);
            if text.starts_with("9999") {
                assert_eq!(read, Err(Reason::Overflow));
            } else {
                assert_eq!(read, Ok(expected), "{text}");
            }
        }
        assert_eq!(
            units("1234567890123456789.5e-12"),
            Ok(1_234_567_890_123_456_790)
        );
        assert_eq!(
            units("1234567890123456788.5e-12"),
            Ok(1_234_567_890_123_456_788)
        );
        assert_eq!(
            units("1234567890123456788.50001e-12"),
            Ok(1_234_567_890_123_456_789)
        );
    }

    #[test]
    fn what_is_no_number_is_told_apart() {
        for (text, reason) in [
            ("", Reason::EmptyValue),
            ("abc", Reason::NotANumber),
            ("NaN", Reason::Nan),
            ("-nan", Reason::Nan),
            ("inf", Reason::Infinite),
            ("-Infinity", Reason::Infinite),
            ("1e999", Reason::Overflow),
            ("-1e999", Reason::Overflow),
            ("9223372.036854775808", Reason::Overflow),
            (".", Reason::NotANumber),
            ("e5", Reason::NotANumber),
            ("1e", Reason::NotANumber),
            ("1e+", Reason::NotANumber),
            ("1e5.0", Reason::NotANumber),
            ("1.2.3", Reason::NotANumber),
            ("--1", Reason::NotANumber),
            ("+-1", Reason::NotANumber),
            (" 1", Reason::NotANumber),
            ("1\n", Reason::NotANumber),
            ("1,5", Reason::NotANumber),
            ("0x10", Reason::NotANumber),
            ("1_000", Reason::NotANumber),
            ("１", Reason::NotANumber),
        ] {
            assert_eq!(units(text), Err(reason), "{text}");
        }
        assert_eq!(
            Value::parse(&vec![b'9'; 900 * 1024]),
            Err(Reason::LongValue)
        );
        assert_eq!(Value::parse(&[b'0'; TEXT_MAX_BYTES]), Ok(Value(0)));
    }

    #[test]
    fn a_mean_is_written_with_a_decimal_and_without_an_exponent() {
        let text = |sum, count| quotient(sum, count).unwrap().to_string();
        let one = 10_i128.pow(SCALE);
        assert_eq!(text(96 * one, 2), "48.0");
        assert_eq!(text(one, 3), "0.3333333333333333");
        assert_eq!(text(1, 1), "0.000000000001");
        assert_eq!(text(-one, 3), "-0.3333333333333333");
        assert_eq!(text(0, 7), "0.0");
        assert_eq!(quotient(0, 0), None);
        assert_eq!(quotient(1, 0), None);
    }

    proptest! {
        #[test]
        fn a_mean_is_the_nearest_f64(sum in any::<i128>(), shift in 0..127_u32, count in 1..=u64::MAX, narrow in 0..64_u32) {
            let (sum, count) = (sum >> shift, (count >> narrow).max(1));
            let denominator = u128::from(count) * 10_u128.pow(SCALE);
            let expected = nearest_by_text(sum.unsigned_abs(), denominator);
            prop_assert_eq!(quotient(sum, count).unwrap().get().abs(), expected);
        }

        #[test]
        fn halfway_means_go_to_even(odd in (1_u64 << 52)..(1 << 53), power in 0..30_u32) {
            // (2·odd + 1) / 2^power lies exactly between two doubles.
            let numerator = (u128::from(odd) * 2 + 1) << 20;
            let denominator = 1_u128 << (power + 20);
            prop_assert_eq!(nearest(numerator, denominator).unwrap(), nearest_by_text(numerator, denominator));
        }

        #[test]
        fn text_is_rounded_as_by_wide_integers(whole in 0..9_000_000_u64, fraction in "[0-9]{0,40}", exponent in -20..=6_i32, negative: bool) {
            let text = format!("{}{whole}.{fraction}e{exponent}", if negative { "-" } else { "" });
            // The oracle: all digits as text, the point moved, cut after the scale.
            let moved = i64::try_from(whole.to_string().len()).unwrap() + i64::from(exponent) + i64::from(SCALE);
            let all = format!("{}{whole}{fraction}{}", "0".repeat(40), "0".repeat(40));
            let cut = usize::try_from(moved + 40).unwrap();
            let (kept, rest) = all.split_at(cut);
            let mut expected: u128 = kept.parse().unwrap();
            let half = format!("5{}", "0".repeat(rest.len() - 1));
            if rest > half.as_str() || (rest == half && expected % 2 == 1) {
                expected += 1;
            }
            let read = units(&text);
            match i64::try_from(expected) {
                Ok(expected) => prop_assert_eq!(read, Ok(if negative { -expected } else { expected })),
                Err(_) => prop_assert_eq!(read, Err(Reason::Overflow)),
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let read = Value::parse(&bytes);
            if let Ok(text) = std::str::from_utf8(&bytes) && read.is_ok() {
                prop_assert!(text.parse::<f64>().unwrap().is_finite());
            }
        }

        #[test]
        fn a_value_is_near_what_std_reads(text in "[+-]?[0-9]{1,7}(\\.[0-9]{0,30})?([eE][+-]?[0-2]?[0-9])?") {
            let read = Value::parse(text.as_bytes());
            let expected = text.parse::<f64>().unwrap() * 1e12;
            match read {
                Ok(value) => prop_assert!((value.units() as f64 - expected).abs() <= 0.5 + expected.abs() * 1e-15),
                Err(reason) => prop_assert!(reason == Reason::Overflow && expected.abs() >= 9.2233720368e18),
            }
        }
    }
}
