//! Reading the primitive types of the Kafka protocol off the front of a slice, nothing trusted.

use super::DecodeError;

/// The bytes that are still to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    left: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.left.len()
    }

    pub(crate) fn take(
        &mut self,
        size: usize,
        what: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let (taken, left) = self
            .left
            .split_at_checked(size)
            .ok_or(DecodeError::Truncated { what })?;
        self.left = left;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, left) = self
            .left
            .split_first_chunk()
            .ok_or(DecodeError::Truncated { what })?;
        self.left = left;
        Ok(*taken)
    }

    pub(crate) fn i8(&mut self, what: &'static str) -> Result<i8, DecodeError> {
        self.take_array(what).map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self, what: &'static str) -> Result<i16, DecodeError> {
        self.take_array(what).map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        self.take_array(what).map(i32::from_be_bytes)
    }

    /// An unsigned varint of at most 32 bits. A sixth byte or bits over the 32nd are refused
    /// (line 41), where the decoder of `kafka-protocol` would drop them.
    pub(crate) fn unsigned_varint(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take_array(what)?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed {
            what,
            why: "a varint of more than 32 bits".to_owned(),
        })
    }

    /// Skips a section of tagged fields none of which we know (line 44).
    pub(crate) fn skip_tagged_fields(&mut self, what: &'static str) -> Result<(), DecodeError> {
        for _ in 0..self.unsigned_varint(what)? {
            self.unsigned_varint(what)?;
            let size = self.unsigned_varint(what)?;
            self.take(size as usize, what)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(bytes: &[u8]) -> Result<u32, DecodeError> {
        Cursor::new(bytes).unsigned_varint("it")
    }

    #[test]
    fn line_41_varints_of_six_bytes_or_with_overflow_bits_are_refused() {
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
        assert_eq!(varint(&[0x80, 0x80, 0x00]), Ok(0));
        for bytes in [
            &[0xff, 0xff, 0xff, 0xff, 0x1f][..],
            &[0x80, 0x80, 0x80, 0x80, 0x10],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
            &[0xff, 0xff, 0xff, 0xff, 0x8f, 0x01],
        ] {
            assert!(
                matches!(varint(bytes), Err(DecodeError::Malformed { .. })),
                "{bytes:x?}"
            );
        }
        assert_eq!(varint(&[0x80]), Err(DecodeError::Truncated { what: "it" }));
    }
}
