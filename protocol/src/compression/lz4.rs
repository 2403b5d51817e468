//! LZ4 frames: written with the one header that Java writes, read with every option but dictionaries.
//!
//! The frames are ours and only the blocks the library's: its frame reader takes a frame that ends
//! between two blocks for a whole one, and copies everything twice.

use super::{Compression, CompressionError, malformed, too_large};
use lz4_flex::block::{
    CompressTable, DecompressError, compress_into_with_table, decompress_into,
    decompress_into_with_dict, get_maximum_output_size,
};

const MAGIC: u32 = 0x184d_2204;
/// Frames of anything, to be skipped: the last four bits are free.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;
/// Version 1, independent blocks, no checksums, no sizes; blocks of 64 KiB; and the checksum of
/// these two bytes. Kafka's `Lz4BlockInputStream` refuses linked blocks.
const DESCRIPTOR: [u8; 3] = [0x60, 0x40, 0x82];
const BLOCK_BYTES: usize = 64 * 1024;
/// In a block's length: it is stored as it was.
const STORED: u32 = 1 << 31;
/// How far back a match may reach.
const WINDOW_BYTES: usize = 64 * 1024;
/// Every byte of a match's length adds 255 at most.
const MAX_RATIO: usize = 255;

pub(super) fn compress(plain: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let mut table = if plain.len() < BLOCK_BYTES {
        CompressTable::small()
    } else {
        CompressTable::large()
    };
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&DESCRIPTOR);
    for block in plain.chunks(BLOCK_BYTES) {
        let length_at = out.len();
        let block_at = length_at + 4;
        out.resize(block_at + get_maximum_output_size(block.len()), 0);
        let (length, room) = out.get_mut(length_at..).unwrap_or_default().split_at_mut(4);
        let packed_bytes = compress_into_with_table(block, room, &mut table)
            .map_err(|error| malformed(Compression::Lz4, error))?;
        // Both lengths are at most 64 KiB.
        if packed_bytes < block.len() {
            length.copy_from_slice(&(packed_bytes as u32).to_le_bytes());
            out.truncate(block_at + packed_bytes);
        } else {
            length.copy_from_slice(&(block.len() as u32 | STORED).to_le_bytes());
            out.truncate(block_at);
            out.extend_from_slice(block);
        }
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    Ok(())
}

pub(super) fn decompress(packed: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
    let mut rest = packed;
    let mut output = Output {
        bytes: Vec::new(),
        filled: 0,
        cap,
    };
    while !rest.is_empty() {
        let magic = take_u32(&mut rest)?;
        if magic & !0xf == SKIPPABLE_MAGIC {
            let length = take_u32(&mut rest)?;
            take(&mut rest, length as usize)?;
        } else if magic == MAGIC {
            read_frame(&mut rest, &mut output)?;
        } else {
            return Err(refuse("it does not start with the magic of a frame"));
        }
    }
    output.bytes.truncate(output.filled);
    Ok(output.bytes)
}

/// A frame's header, after the magic.
struct Descriptor {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_bytes: Option<u64>,
    max_block_bytes: usize,
}

impl Descriptor {
    fn read(rest: &mut &[u8]) -> Result<Self, CompressionError> {
        let [flags, block] = take_chunk(rest)?;
        if flags >> 6 != 1 {
            return Err(refuse("its version is not 1"));
        }
        if flags & 1 != 0 {
            return Err(refuse("it needs a dictionary"));
        }
        if flags & 0b10 != 0 || block & 0b1000_1111 != 0 {
            return Err(refuse("a reserved bit is set"));
        }
        let max_block_bytes = match block >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(refuse("its block size does not exist")),
        };
        let content_bytes = if flags & (1 << 3) == 0 {
            None
        } else {
            Some(u64::from_le_bytes(take_chunk(rest)?))
        };
        let [_checksum] = take_chunk(rest)?;
        Ok(Self {
            linked: flags & (1 << 5) == 0,
            block_checksums: flags & (1 << 4) != 0,
            content_checksum: flags & (1 << 2) != 0,
            content_bytes,
            max_block_bytes,
        })
    }
}

fn read_frame(rest: &mut &[u8], output: &mut Output) -> Result<(), CompressionError> {
    let frame = Descriptor::read(rest)?;
    let frame_at = output.filled;
    loop {
        let length = take_u32(rest)?;
        if length == 0 {
            break;
        }
        let block = take(rest, (length & !STORED) as usize)?;
        if block.len() > frame.max_block_bytes {
            return Err(refuse("a block is larger than its frame allows"));
        }
        if length & STORED != 0 {
            output.store(block)?;
        } else {
            let dictionary_at = if frame.linked {
                frame_at.max(output.filled.saturating_sub(WINDOW_BYTES))
            } else {
                output.filled
            };
            output.decompress(block, dictionary_at, frame.max_block_bytes)?;
        }
        if frame.block_checksums {
            take_u32(rest)?;
        }
    }
    if frame.content_checksum {
        take_u32(rest)?;
    }
    let produced = (output.filled - frame_at) as u64;
    match frame.content_bytes {
        Some(claimed) if claimed != produced => Err(refuse("its content size is wrong")),
        _ => Ok(()),
    }
}

/// What has come out. The bytes from `filled` on are room, zeroed once and used again.
struct Output {
    bytes: Vec<u8>,
    filled: usize,
    cap: usize,
}

impl Output {
    fn store(&mut self, block: &[u8]) -> Result<(), CompressionError> {
        let end = self.filled + block.len();
        if end > self.cap {
            return Err(too_large(Compression::Lz4, self.cap));
        }
        self.make_room(end);
        self.bytes
            .get_mut(self.filled..end)
            .unwrap_or_default()
            .copy_from_slice(block);
        self.filled = end;
        Ok(())
    }

    fn decompress(
        &mut self,
        block: &[u8],
        dictionary_at: usize,
        max_block_bytes: usize,
    ) -> Result<(), CompressionError> {
        // Room for what the bytes can hold, not for what the frame allows: otherwise blocks of a few
        // bytes would have 4 MiB cleared for each of them.
        let most = max_block_bytes.min(block.len().saturating_mul(MAX_RATIO));
        let end = self.filled.saturating_add(most).min(self.cap);
        self.make_room(end);
        let (before, room) = self.bytes.split_at_mut(self.filled);
        let room = room.get_mut(..end - before.len()).unwrap_or_default();
        let room_bytes = room.len();
        let dictionary = before.get(dictionary_at..).unwrap_or_default();
        let written = if dictionary.is_empty() {
            decompress_into(block, room)
        } else {
            decompress_into_with_dict(block, room, dictionary)
        };
        match written {
            Ok(written) => {
                self.filled += written;
                Ok(())
            }
            Err(DecompressError::OutputTooSmall { .. }) if room_bytes < most => {
                Err(too_large(Compression::Lz4, self.cap))
            }
            Err(error) => Err(malformed(Compression::Lz4, error)),
        }
    }

    fn make_room(&mut self, end: usize) {
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], CompressionError> {
    let (taken, after) = rest
        .split_at_checked(length)
        .ok_or_else(|| refuse("the frame is cut short"))?;
    *rest = after;
    Ok(taken)
}

fn take_chunk<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], CompressionError> {
    let (taken, after) = rest
        .split_first_chunk()
        .ok_or_else(|| refuse("the frame is cut short"))?;
    *rest = after;
    Ok(*taken)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, CompressionError> {
    take_chunk(rest).map(u32::from_le_bytes)
}

fn refuse(why: &str) -> CompressionError {
    malformed(Compression::Lz4, why)
}
