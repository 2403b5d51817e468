//! Zstandard by the fast codec.

use super::{Compression, CompressionError, USUAL_RATIO, malformed, too_large};
use structured_zstd::decoding::errors::{
    DecodeBlockContentError, DecodeBufferError, DecompressBlockError, ExecuteSequencesError,
    FrameDecoderError, ReadFrameHeaderError,
};
use structured_zstd::decoding::{
    FrameContentSize, FrameDecoder, find_frame_compressed_size, read_frame_content_size,
};
use structured_zstd::encoding::{CompressionLevel, FrameCompressor};

/// The least room to begin with, so that small batches are decoded once.
const MIN_ROOM_BYTES: usize = 4 * 1024;
/// How the room grows where the guess was too small.
const GROWTH: usize = 4;
/// Four bytes, a block that repeats one byte, make 128 KiB, which is the most that zstd expands.
const MAX_RATIO: usize = 32 * 1024;

/// Java's is 3. This encoder's 1 packs numbers written as text, which samples are, as small as its 3
/// for a third of the time; prose and JSON become 6 % larger for half of it. `compress_zstd_at` of the
/// benches measures it.
const DEFAULT_LEVEL: i32 = 1;

pub(super) fn compress(level: Option<i32>, plain: &[u8], out: &mut Vec<u8>) {
    let level = CompressionLevel::from_level(level.unwrap_or(DEFAULT_LEVEL));
    let mut compressor: FrameCompressor = FrameCompressor::new(level);
    if out.is_empty() {
        compressor.compress_independent_frame_into(plain, out);
    } else {
        out.extend_from_slice(&compressor.compress_independent_frame(plain));
    }
}

/// Decodes into our own buffer, which serves as the window too: what a frame announces, a window or
/// a content of gigabytes, is never allocated.
pub(super) fn decompress(packed: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
    let mut decoder = FrameDecoder::new();
    let mut plain = Vec::new();
    let mut rest = packed;
    while !rest.is_empty() {
        let frame_bytes = find_frame_compressed_size(rest)
            .map_err(|error| malformed(Compression::Zstd, format!("{error:?}")))?;
        let (frame, after) = rest
            .split_at_checked(frame_bytes)
            .ok_or_else(|| malformed(Compression::Zstd, "the frame is cut short"))?;
        match read_frame_content_size(frame) {
            Ok(content) => read_frame(&mut decoder, frame, content, &mut plain, cap)?,
            Err(ReadFrameHeaderError::SkipFrame { .. }) => {}
            Err(error) => return Err(malformed(Compression::Zstd, error)),
        }
        rest = after;
    }
    Ok(plain)
}

/// Java's streams do not announce their content, so the room for those is a guess that grows.
fn read_frame(
    decoder: &mut FrameDecoder,
    frame: &[u8],
    content: FrameContentSize,
    plain: &mut Vec<u8>,
    cap: usize,
) -> Result<(), CompressionError> {
    let start = plain.len();
    let left = cap.saturating_sub(start);
    let most = frame.len().saturating_mul(MAX_RATIO);
    let (mut room, limit) = match content {
        FrameContentSize::Known(claimed) => {
            let claimed = usize::try_from(claimed).unwrap_or(usize::MAX);
            if claimed > left {
                return Err(too_large(Compression::Zstd, cap));
            }
            if claimed > most {
                let why = "a frame claims more than its bytes can hold";
                return Err(malformed(Compression::Zstd, why));
            }
            (claimed, claimed)
        }
        FrameContentSize::Unknown => {
            let guess = frame.len().saturating_mul(USUAL_RATIO).max(MIN_ROOM_BYTES);
            (guess.min(left), most.min(left))
        }
    };
    loop {
        plain.resize(start + room, 0);
        let target = plain.get_mut(start..).unwrap_or_default();
        match decoder.decode_all(frame, target) {
            Ok(written) => {
                plain.truncate(start + written);
                return Ok(());
            }
            Err(error) if is_for_lack_of_room(&error) && room < limit => {
                room = room.saturating_mul(GROWTH).max(MIN_ROOM_BYTES).min(limit);
            }
            Err(error) if is_for_lack_of_room(&error) && limit == left => {
                return Err(too_large(Compression::Zstd, cap));
            }
            Err(error) => return Err(malformed(Compression::Zstd, error)),
        }
    }
}

/// The decoder says so in several ways, by the step in which the room ended.
fn is_for_lack_of_room(error: &FrameDecoderError) -> bool {
    use DecodeBlockContentError as Content;
    use DecompressBlockError as Block;
    use ExecuteSequencesError as Sequences;
    match error {
        FrameDecoderError::TargetTooSmall => true,
        FrameDecoderError::FailedToReadBlockBody(Content::DecompressBlockError(
            Block::ExecuteSequencesError(why),
        )) => matches!(
            why,
            Sequences::OutputBufferOverflow { .. }
                | Sequences::DecodebufferError(DecodeBufferError::OutputBufferOverflow { .. })
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_outgrows_the_guess_in_the_middle_of_a_block_is_read() {
        // Java's streams do not say how long they are. Repeated text, matched in long sequences,
        // ends the room inside a block: at every size that a guess can be off by.
        for count in 400..2_400 {
            let plain: Vec<u8> = (0..count)
                .flat_map(|n: u32| format!("{} ", n % 97).into_bytes())
                .collect();
            let mut packed = Vec::new();
            compress(None, &plain, &mut packed);
            let unsized_frame = ruzstd::encoding::compress_to_vec(
                &plain[..],
                ruzstd::encoding::CompressionLevel::Fastest,
            );
            for frame in [&packed, &unsized_frame] {
                let read = decompress(frame, 1 << 20).unwrap_or_else(|e| panic!("{count}: {e}"));
                assert!(read == plain, "{count}");
            }
        }
    }
}
