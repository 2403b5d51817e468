//! SipHash-1-3, keyed by whoever starts the engine: host names come from the network, and with a
//! known hash a peer could choose ten thousand names that all collide.

use std::hash::{BuildHasher, Hasher};

/// The key of the hash. It decides nothing but where a name lies in memory: no output depends on it.
#[derive(Debug, Clone, Copy)]
pub struct HashSeed(pub [u64; 2]);

impl BuildHasher for HashSeed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        let [k0, k1] = self.0;
        SipHasher13 {
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
            pending: 0,
            length: 0,
        }
    }
}

/// SipHash with one round a word and three at the end (Aumasson and Bernstein, 2012), as Rust's own
/// maps use it.
#[derive(Debug, Clone)]
pub struct SipHasher13 {
    v: [u64; 4],
    /// The bytes since the last whole word, the first lowest.
    pending: u64,
    length: usize,
}

impl SipHasher13 {
    fn round(&mut self) {
        let [mut v0, mut v1, mut v2, mut v3] = self.v;
        v0 = v0.wrapping_add(v1);
        v1 = v1.rotate_left(13) ^ v0;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v3);
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.wrapping_add(v3);
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.wrapping_add(v1);
        v1 = v1.rotate_left(17) ^ v2;
        v2 = v2.rotate_left(32);
        self.v = [v0, v1, v2, v3];
    }

    fn word(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.v[0] ^= word;
    }
}

impl Hasher for SipHasher13 {
    fn write(&mut self, mut bytes: &[u8]) {
        while !self.length.is_multiple_of(8) {
            let [byte, rest @ ..] = bytes else { return };
            self.write_u8(*byte);
            bytes = rest;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        self.length += words.len() * 8;
        for &byte in rest {
            self.write_u8(byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.pending |= u64::from(byte) << (8 * (self.length % 8));
        self.length += 1;
        if self.length.is_multiple_of(8) {
            let word = std::mem::take(&mut self.pending);
            self.word(word);
        }
    }

    fn finish(&self) -> u64 {
        let mut end = self.clone();
        end.word(self.pending | (self.length as u64) << 56);
        end.v[2] ^= 0xff;
        for _ in 0..3 {
            end.round();
        }
        end.v.iter().fold(0, |hash, word| hash ^ word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_does_not_matter_how_bytes_are_cut(bytes in prop::collection::vec(any::<u8>(), 0..40), cut in 0..40_usize) {
            let seed = HashSeed([1, 2]);
            let (mut whole, mut parts) = (seed.build_hasher(), seed.build_hasher());
            whole.write(&bytes);
            let (first, rest) = bytes.split_at(cut.min(bytes.len()));
            parts.write(first);
            parts.write(rest);
            prop_assert_eq!(whole.finish(), parts.finish());
        }

        #[test]
        fn it_is_what_rust_hashes_maps_with(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            // std's default hasher is SipHash-1-3 with the key 0, 0.
            let mut std = std::hash::DefaultHasher::new();
            let mut ours = HashSeed([0, 0]).build_hasher();
            std.write(&bytes);
            ours.write(&bytes);
            prop_assert_eq!(ours.finish(), std.finish());
        }
    }

    #[test]
    fn the_key_changes_the_hash() {
        let hash = |seed| HashSeed(seed).hash_one("web-1");
        assert_ne!(hash([0, 0]), hash([0, 1]));
    }
}
