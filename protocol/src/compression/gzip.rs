//! Gzip, read with any number of members.

use super::{Compression, CompressionError, malformed, read_capped};
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::io::Write;

pub(super) fn compress(
    level: Option<i32>,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let level = level
        .and_then(|level| u32::try_from(level).ok())
        .map_or_else(flate2::Compression::default, flate2::Compression::new);
    let mut encoder = GzEncoder::new(out, level);
    encoder
        .write_all(plain)
        .and_then(|()| encoder.try_finish())
        .map_err(|error| malformed(Compression::Gzip, error))
}

pub(super) fn decompress(packed: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
    read_capped(
        Compression::Gzip,
        MultiGzDecoder::new(packed),
        packed.len(),
        cap,
    )
}
