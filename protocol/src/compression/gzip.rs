//! Gzip, read with any number of members.

use super::{Compression, CompressionError, USUAL_RATIO, malformed, too_large};
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

/// The largest window (RFC 1951 §2), which every writer may use.
const WINDOW_BITS: u8 = 15;
/// What the output grows by at least.
const MIN_ROOM: usize = 4 << 10;

pub(super) fn compress(
    level: Option<i32>,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let level = level
        .and_then(|level| u32::try_from(level).ok())
        .map_or_else(flate2::Compression::default, flate2::Compression::new);
    let mut stream = Compress::new_gzip(level, WINDOW_BITS);
    let mut rest = plain;
    loop {
        out.reserve((rest.len() / USUAL_RATIO).max(MIN_ROOM));
        let before = stream.total_in();
        let status = stream
            .compress_vec(rest, out, FlushCompress::Finish)
            .map_err(|error| malformed(Compression::Gzip, error))?;
        if status == Status::StreamEnd {
            return Ok(());
        }
        rest = after(rest, stream.total_in() - before);
    }
}

pub(super) fn decompress(packed: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
    let guess = packed.len().saturating_mul(USUAL_RATIO).max(MIN_ROOM);
    // One byte more than allowed tells "too large" from "just enough".
    let most = cap.saturating_add(1);
    let mut plain = Vec::with_capacity(guess.min(most));
    let mut stream = Decompress::new_gzip(WINDOW_BITS);
    let mut rest = packed;
    loop {
        let before = (stream.total_in(), plain.len());
        let status = stream
            .decompress_vec(rest, &mut plain, FlushDecompress::None)
            .map_err(|error| malformed(Compression::Gzip, error))?;
        rest = after(rest, stream.total_in() - before.0);
        if plain.len() > cap {
            return Err(too_large(Compression::Gzip, cap));
        }
        match status {
            Status::StreamEnd if rest.is_empty() => return Ok(plain),
            Status::StreamEnd => stream = Decompress::new_gzip(WINDOW_BITS),
            _ if plain.len() == plain.capacity() => {
                let room = plain.capacity().max(MIN_ROOM).min(most - plain.len());
                plain.reserve_exact(room);
            }
            _ if rest.is_empty() => return Err(malformed(Compression::Gzip, "it ends too early")),
            _ => {}
        }
    }
}

/// What is left of `bytes` once so many are used.
fn after(bytes: &[u8], used: u64) -> &[u8] {
    let used = usize::try_from(used).unwrap_or(bytes.len());
    bytes.get(used..).unwrap_or_default()
}
