//! Zigzag varints of records: at most 5 bytes for an i32, 10 for an i64, overflow bits refused.

/// Why bytes are not a varint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    /// The bytes end inside it.
    #[error("a varint is cut short")]
    Truncated,
    /// More bytes than the type has, or bits that it cannot hold.
    #[error("a varint is too long for its type")]
    TooLong,
}

/// Bytes that `value` takes, 1 to 5.
#[inline]
pub fn size_i32(value: i32) -> usize {
    size_u64(u64::from(zigzag_i32(value)))
}

/// Bytes that `value` takes, 1 to 10.
#[inline]
pub fn size_i64(value: i64) -> usize {
    size_u64(zigzag_i64(value))
}

/// Writes `value` to the front of `out` and returns what is left of it, which is nothing where it
/// did not fit.
#[inline]
pub fn encode_i32(out: &mut [u8], value: i32) -> &mut [u8] {
    encode_u64(out, u64::from(zigzag_i32(value)))
}

/// Writes `value` to the front of `out` and returns what is left of it, which is nothing where it
/// did not fit.
#[inline]
pub fn encode_i64(out: &mut [u8], value: i64) -> &mut [u8] {
    encode_u64(out, zigzag_i64(value))
}

/// Takes an i32 from the front of `bytes`; leaves them as they are where there is none.
#[inline]
pub fn decode_i32(bytes: &mut &[u8]) -> Result<i32, VarintError> {
    let raw = decode_u64::<5, 0x0f>(bytes)?;
    // The fifth byte was held to four bits, so 32 are all there are.
    let raw = raw as u32;
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Takes an i64 from the front of `bytes`; leaves them as they are where there is none.
#[inline]
pub fn decode_i64(bytes: &mut &[u8]) -> Result<i64, VarintError> {
    let raw = decode_u64::<10, 0x01>(bytes)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

#[inline]
fn zigzag_i32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

#[inline]
fn zigzag_i64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
fn size_u64(raw: u64) -> usize {
    // Significant bits (at least one), divided by seven and rounded up, as a multiplication.
    let bits = 64 - (raw | 1).leading_zeros();
    ((bits * 9 + 64) / 64) as usize
}

#[inline]
fn encode_u64(out: &mut [u8], mut raw: u64) -> &mut [u8] {
    let mut rest = out;
    while let [first, after @ ..] = rest {
        rest = after;
        if raw < 0x80 {
            *first = raw as u8;
            return rest;
        }
        *first = raw as u8 | 0x80;
        raw >>= 7;
    }
    &mut []
}

/// At most `MAX` bytes, the last of which has no bits beyond `LAST`.
#[inline]
fn decode_u64<const MAX: usize, const LAST: u8>(bytes: &mut &[u8]) -> Result<u64, VarintError> {
    match *bytes {
        [only, rest @ ..] if *only < 0x80 => {
            *bytes = rest;
            Ok(u64::from(*only))
        }
        [first, last, rest @ ..] if *last < 0x80 => {
            *bytes = rest;
            Ok(u64::from(first & 0x7f) | u64::from(*last) << 7)
        }
        _ => decode_long_u64::<MAX, LAST>(bytes),
    }
}

fn decode_long_u64<const MAX: usize, const LAST: u8>(
    bytes: &mut &[u8],
) -> Result<u64, VarintError> {
    let mut raw = 0;
    let mut rest = *bytes;
    for place in 0..MAX {
        let (byte, after) = rest.split_first().ok_or(VarintError::Truncated)?;
        rest = after;
        raw |= u64::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            if place + 1 == MAX && *byte > LAST {
                return Err(VarintError::TooLong);
            }
            *bytes = rest;
            return Ok(raw);
        }
    }
    Err(VarintError::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn i32_bytes(value: i32) -> Vec<u8> {
        let mut out = vec![0; size_i32(value)];
        assert!(encode_i32(&mut out, value).is_empty());
        out
    }

    #[test]
    fn known_values_have_the_bytes_of_the_kafka_protocol() {
        assert_eq!(i32_bytes(0), [0x00]);
        assert_eq!(i32_bytes(-1), [0x01]);
        assert_eq!(i32_bytes(1), [0x02]);
        assert_eq!(i32_bytes(63), [0x7e]);
        assert_eq!(i32_bytes(-64), [0x7f]);
        assert_eq!(i32_bytes(64), [0x80, 0x01]);
        assert_eq!(i32_bytes(i32::MAX), [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(i32_bytes(i32::MIN), [0xff, 0xff, 0xff, 0xff, 0x0f]);
    }

    #[test]
    fn line_41_varints_over_five_or_ten_bytes_are_refused() {
        let five_and_more = [0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
        assert_eq!(
            decode_i32(&mut &five_and_more[..]),
            Err(VarintError::TooLong)
        );
        let ten_and_more = [
            0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00,
        ];
        assert_eq!(
            decode_i64(&mut &ten_and_more[..]),
            Err(VarintError::TooLong)
        );
    }

    #[test]
    fn line_41_overflow_bits_of_the_last_byte_are_refused() {
        assert_eq!(
            decode_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]),
            Ok(i32::MIN)
        );
        assert_eq!(
            decode_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]),
            Err(VarintError::TooLong)
        );
        let mut longest = [0xff; 10];
        longest[9] = 0x01;
        assert_eq!(decode_i64(&mut &longest[..]), Ok(i64::MIN));
        longest[9] = 0x03;
        assert_eq!(decode_i64(&mut &longest[..]), Err(VarintError::TooLong));
    }

    #[test]
    fn a_cut_varint_leaves_the_bytes_where_they_were() {
        let mut bytes = &[0x80, 0x80][..];
        assert_eq!(decode_i64(&mut bytes), Err(VarintError::Truncated));
        assert_eq!(bytes.len(), 2);
        assert_eq!(decode_i32(&mut &[][..]), Err(VarintError::Truncated));
    }

    proptest! {
        #[test]
        fn every_i32_comes_back(value: i32, shift in 0..32u32) {
            let value = value >> shift;
            let bytes = i32_bytes(value);
            let mut rest = &bytes[..];
            prop_assert_eq!(decode_i32(&mut rest), Ok(value));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn every_i64_comes_back(value: i64, shift in 0..64u32) {
            let value = value >> shift;
            let mut bytes = vec![0; size_i64(value) + 1];
            prop_assert_eq!(encode_i64(&mut bytes, value).len(), 1);
            bytes.pop();
            let mut rest = &bytes[..];
            prop_assert_eq!(decode_i64(&mut rest), Ok(value));
            prop_assert!(rest.is_empty());
        }
    }
}
