//! Joining CRC-32Cs: what the CRC of records becomes when a header of known CRC stands before them.
//!
//! `crc32c_combine` of the crc32c crate does the same by squaring matrices and takes ten times as
//! long as reading a batch of 16 KiB anew. Here a CRC is a polynomial over GF(2), and putting n bytes
//! behind it multiplies it by x^8n modulo Castagnoli's polynomial.

/// Castagnoli's polynomial, lowest power in the highest bit, as CRCs stand in a register.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial 1.
const ONE: u32 = 1 << 31;
/// x^8, x^16, x^32, ...: the factors for 1, 2, 4, ... bytes.
const FACTORS: [u32; usize::BITS as usize] = factors();

/// The CRC of two byte strings, one after the other, from their CRCs.
pub(crate) fn join(front: u32, back: u32, back_bytes: usize) -> u32 {
    shift(front, back_bytes) ^ back
}

/// The part that a difference of CRCs has in the whole when `bytes` equal bytes follow.
pub(crate) fn shift(crc: u32, bytes: usize) -> u32 {
    let powers = FACTORS
        .iter()
        .enumerate()
        .filter(|(power, _)| bytes >> power & 1 == 1);
    powers.fold(crc, |product, (_, factor)| multiply(product, *factor))
}

const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut power = 32;
    while power > 0 {
        power -= 1;
        // The bit is either all of a mask or none: data that is noise would mispredict a branch.
        product ^= b & (a >> power & 1).wrapping_neg();
        b = b >> 1 ^ POLYNOMIAL & (b & 1).wrapping_neg();
    }
    product
}

#[expect(
    clippy::indexing_slicing,
    reason = "at compile time, where it cannot be wrong"
)]
const fn factors() -> [u32; usize::BITS as usize] {
    let mut factors = [ONE >> 8; usize::BITS as usize];
    let mut at = 1;
    while at < factors.len() {
        factors[at] = multiply(factors[at - 1], factors[at - 1]);
        at += 1;
    }
    factors
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn joined_is_as_computed_in_one(
            front in vec(any::<u8>(), 0..100), back in vec(any::<u8>(), 0..5_000),
        ) {
            let (a, b) = (crc32c::crc32c(&front), crc32c::crc32c(&back));
            let whole = crc32c::crc32c(&[&front[..], &back[..]].concat());
            prop_assert_eq!(join(a, b, back.len()), whole);
        }

        #[test]
        fn lengths_beyond_memory_agree_with_the_library(a: u32, b: u32, bytes: usize) {
            prop_assert_eq!(join(a, b, bytes), crc32c::crc32c_combine(a, b, bytes));
        }
    }
}
