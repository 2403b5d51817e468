//! Zstandard by the small codec, for binaries whose size matters more than their speed.

use super::{Compression, CompressionError, USUAL_RATIO, malformed, too_large};
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::io::Read;

/// The window that every decoder should allow (RFC 8878, 3.1.1.1.2). It is more than Java's client
/// asks for at its default level, and the decoder holds a window beside its output.
const MIN_WINDOW_BYTES: u64 = 8 << 20;

pub(super) fn compress(plain: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&compress_to_vec(plain, CompressionLevel::Fastest));
}

pub(super) fn decompress(packed: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
    let mut plain = Vec::new();
    let mut rest = packed;
    while !rest.is_empty() {
        let allowed = MIN_WINDOW_BYTES.max(cap as u64);
        if window_bytes(rest).is_some_and(|window| window > allowed) {
            return Err(malformed(
                Compression::Zstd,
                "a frame needs too large a window",
            ));
        }
        // A decoder per frame: it allocates a window at once only where it is used again.
        match StreamingDecoder::new(&mut rest) {
            Ok(frame) => {
                let left = cap.saturating_sub(plain.len());
                let part = read_frame(frame, packed.len(), left)?
                    .ok_or_else(|| too_large(Compression::Zstd, cap))?;
                if plain.is_empty() {
                    plain = part;
                } else {
                    plain.extend_from_slice(&part);
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                rest = rest
                    .get(length as usize..)
                    .ok_or_else(|| malformed(Compression::Zstd, "a frame is cut short"))?;
            }
            Err(error) => return Err(malformed(Compression::Zstd, error)),
        }
    }
    Ok(plain)
}

/// Reads a frame to its end, growing with what really comes out; `None` where that is more than `left`.
fn read_frame(
    frame: impl Read,
    packed_bytes: usize,
    left: usize,
) -> Result<Option<Vec<u8>>, CompressionError> {
    let mut plain = Vec::with_capacity(packed_bytes.saturating_mul(USUAL_RATIO).min(left));
    // One byte more than allowed tells "too large" from "just enough".
    let mut frame = frame.take((left as u64).saturating_add(1));
    frame
        .read_to_end(&mut plain)
        .map_err(|error| malformed(Compression::Zstd, error))?;
    Ok((plain.len() <= left).then_some(plain))
}

/// The window that a frame's header asks for (RFC 8878, 3.1.1.1); `None` where it is cut short.
fn window_bytes(frame: &[u8]) -> Option<u64> {
    const MAGIC_BYTES: usize = 4;
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let (descriptor, rest) = frame.get(MAGIC_BYTES..)?.split_first()?;
    if descriptor & SINGLE_SEGMENT == 0 {
        let window = rest.first()?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 0b111));
    }
    // The content is the window.
    let dictionary_id_bytes = match descriptor & 0b11 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let content = rest.get(dictionary_id_bytes..)?;
    match descriptor >> 6 {
        0 => Some(u64::from(*content.first()?)),
        1 => Some(u64::from(u16::from_le_bytes(*content.first_chunk()?)) + 256),
        2 => Some(u64::from(u32::from_le_bytes(*content.first_chunk()?))),
        _ => Some(u64::from_le_bytes(*content.first_chunk()?)),
    }
}
