//! The hash functions that SCRAM is made of: HMAC (RFC 2104) and `Hi`, which is PBKDF2 with one
//! block (RFC 5802, 2.2).

use sha2::digest::Digest;
use sha2::digest::block_api::BlockSizeUser;
use sha2::{Sha256, Sha512};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    pub(in super::super) fn new(sha512: bool) -> Self {
        match sha512 {
            false => Self::Sha256,
            true => Self::Sha512,
        }
    }

    pub(super) fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    pub(super) fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Keyed::<Sha256>::new(key).sign(&[message]),
            Self::Sha512 => Keyed::<Sha512>::new(key).sign(&[message]),
        }
    }

    /// The salted password.
    pub(super) fn hi(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => Keyed::<Sha256>::new(password).hi(salt, iterations),
            Self::Sha512 => Keyed::<Sha512>::new(password).hi(salt, iterations),
        }
    }
}

/// HMAC with its key taken in, so that the many rounds of `Hi` hash no more than they must.
struct Keyed<D> {
    inner: D,
    outer: D,
}

impl<D: Digest + BlockSizeUser + Clone> Keyed<D> {
    fn new(key: &[u8]) -> Self {
        let block_bytes = <D as BlockSizeUser>::block_size();
        let mut block = match key.len() > block_bytes {
            true => D::digest(key).to_vec(),
            false => key.to_vec(),
        };
        block.resize(block_bytes, 0);
        let padded = |pad: u8| {
            let block: Vec<u8> = block.iter().map(|byte| byte ^ pad).collect();
            D::new().chain_update(block)
        };
        Self {
            inner: padded(0x36),
            outer: padded(0x5c),
        }
    }

    fn sign(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut inner = self.inner.clone();
        parts.iter().for_each(|part| inner.update(part));
        let outer = self.outer.clone().chain_update(inner.finalize());
        outer.finalize().to_vec()
    }

    fn hi(&self, salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut last = self.sign(&[salt, &1_u32.to_be_bytes()]);
        let mut sum = last.clone();
        for _ in 1..iterations {
            last = self.sign(&[&last]);
            sum.iter_mut()
                .zip(&last)
                .for_each(|(sum, byte)| *sum ^= byte);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn hmac_matches_rfc_4231() {
        let signed = Hash::Sha256.hmac(b"Jefe", b"what do ya want for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(&signed), expected);
        // Test case 6: a key longer than a block.
        let long = Hash::Sha512.hmac(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
        );
        let expected = "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352\
                        6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598";
        assert_eq!(hex(&long), expected);
    }
}
