//! Snappy, raw or in the framing of the xerial library that Kafka's Java client uses.
//!
//! The framing is a magic, two version numbers, and then blocks, each with its length in front.
//! librdkafka and others write raw snappy instead, so both are read.

use super::{Compression, CompressionError, malformed, too_large};
use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Version and the oldest version that can read it, both 1.
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// What Java puts into a block.
const BLOCK_BYTES: usize = 32 * 1024;
/// A copy of three bytes makes 64, which is the most that snappy expands.
const MAX_RATIO: usize = 22;

pub(super) fn compress(plain: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let mut encoder = Encoder::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSIONS);
    for block in plain.chunks(BLOCK_BYTES) {
        let length_at = out.len();
        let block_at = length_at + 4;
        out.resize(block_at + max_compress_len(block.len()), 0);
        let (length, room) = out.get_mut(length_at..).unwrap_or_default().split_at_mut(4);
        let packed_bytes = encoder
            .compress(block, room)
            .map_err(|error| malformed(Compression::Snappy, error))?;
        // A block of 32 KiB is far below what an i32 holds.
        length.copy_from_slice(&(packed_bytes as u32).to_be_bytes());
        out.truncate(block_at + packed_bytes);
    }
    Ok(())
}

pub(super) fn decompress(packed: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
    let mut decoder = Decoder::new();
    let mut plain = Vec::new();
    if !packed.starts_with(&MAGIC) {
        decompress_block(&mut decoder, packed, &mut plain, cap)?;
        return Ok(plain);
    }
    let cut = || malformed(Compression::Snappy, "the xerial framing is cut short");
    let mut rest = packed;
    while !rest.is_empty() {
        // Streams may stand one after the other, each with its own magic.
        if rest.starts_with(&MAGIC) {
            rest = rest.get(MAGIC.len() + VERSIONS.len()..).ok_or_else(cut)?;
            continue;
        }
        let (length, after) = rest.split_first_chunk().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut())?;
        let (block, after) = after.split_at_checked(length).ok_or_else(cut)?;
        decompress_block(&mut decoder, block, &mut plain, cap)?;
        rest = after;
    }
    Ok(plain)
}

fn decompress_block(
    decoder: &mut Decoder,
    block: &[u8],
    plain: &mut Vec<u8>,
    cap: usize,
) -> Result<(), CompressionError> {
    let complaint = |error| malformed(Compression::Snappy, error);
    let claimed = decompress_len(block).map_err(complaint)?;
    if claimed > block.len().saturating_mul(MAX_RATIO) {
        return Err(malformed(
            Compression::Snappy,
            "a block claims more than its bytes can hold",
        ));
    }
    let start = plain.len();
    let end = start.saturating_add(claimed);
    if end > cap {
        return Err(too_large(Compression::Snappy, cap));
    }
    plain.resize(end, 0);
    let room = plain.get_mut(start..).unwrap_or_default();
    let written = decoder.decompress(block, room).map_err(complaint)?;
    plain.truncate(start + written);
    Ok(())
}
