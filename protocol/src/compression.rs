//! The five codecs of Kafka's record batches, none of them with C, every output capped.

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;
#[cfg(all(feature = "zstd-small", not(feature = "zstd")))]
mod zstd_small;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use core::ops::RangeInclusive;

/// How a batch's records are compressed (the low three bits of its attributes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952, possibly of several members.
    Gzip = 1,
    /// Snappy, raw or in xerial's framing; written in xerial's, as Java does.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// Zstandard; Produce 7 and Fetch 10 on (KIP-110).
    Zstd = 4,
}

impl Compression {
    /// All of them, in the order of their ids.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// By Kafka's name: none, gzip, snappy, lz4, zstd.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Whether this program can write and read it; a configuration that asks for another is refused
    /// at its start.
    pub fn is_compiled_in(self) -> bool {
        match self {
            Self::None => true,
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Snappy => cfg!(feature = "snappy"),
            Self::Lz4 => cfg!(feature = "lz4"),
            Self::Zstd => cfg!(any(feature = "zstd", feature = "zstd-small")),
        }
    }

    /// By the id in a batch's attributes.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| *codec as u8 == id)
    }
}

impl Compression {
    /// The levels that Kafka's `compression.<name>.level` takes (KIP-390); `None` where the codec
    /// has none.
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some(1..=9),
            Self::Lz4 => Some(1..=17),
            Self::Zstd => Some(-131_072..=22),
        }
    }
}

/// A codec and how hard it tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Codec {
    /// The codec.
    pub compression: Compression,
    /// `compression.gzip.level`, `compression.lz4.level` or `compression.zstd.level`; the codec's
    /// own default (gzip 6, zstd 1) where `None`. One outside [`Compression::levels`] is taken to
    /// the nearest. Lz4 and the small zstd have a single speed here, whatever the level.
    pub level: Option<i32>,
}

impl Codec {
    /// The level if any, within the codec's range.
    #[cfg(any(feature = "gzip", feature = "zstd"))]
    fn level(self) -> Option<i32> {
        let levels = self.compression.levels()?;
        self.level
            .map(|level| level.clamp(*levels.start(), *levels.end()))
    }
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        Self {
            compression,
            level: None,
        }
    }
}

/// Why bytes could not be compressed or decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The codec is not compiled in.
    #[error("{0} is not compiled into this program")]
    NotCompiledIn(&'static str),
    /// The codec's own complaint.
    #[error("malformed {codec} data: {why}")]
    Malformed {
        /// The codec.
        codec: &'static str,
        /// Its complaint.
        why: String,
    },
    /// More than the cap.
    #[error("{codec} data decompresses to more than {cap} bytes")]
    TooLarge {
        /// The codec.
        codec: &'static str,
        /// The cap.
        cap: usize,
    },
}

/// Compresses `plain` with `codec` into `out`, whose old content is kept in front.
///
/// # Errors
/// The codec is not compiled in.
pub fn compress(
    codec: impl Into<Codec>,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let codec = codec.into();
    match codec.compression {
        Compression::None => out.extend_from_slice(plain),
        #[cfg(feature = "gzip")]
        Compression::Gzip => gzip::compress(codec.level(), plain, out)?,
        #[cfg(feature = "snappy")]
        Compression::Snappy => snappy::compress(plain, out)?,
        #[cfg(feature = "lz4")]
        Compression::Lz4 => lz4::compress(plain, out)?,
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::compress(codec.level(), plain, out),
        #[cfg(all(feature = "zstd-small", not(feature = "zstd")))]
        Compression::Zstd => zstd_small::compress(plain, out),
        #[allow(unreachable_patterns, reason = "reached where a codec is left out")]
        other => return Err(CompressionError::NotCompiledIn(other.name())),
    }
    Ok(())
}

/// Decompresses; at most `cap` bytes come out. `None` returns `packed` itself, uncopied and uncapped.
///
/// Checksums inside the compressed form are not verified, where a codec leaves the choice: the
/// batch's CRC-32C covers the same bytes.
///
/// # Errors
/// The codec is not compiled in, the data is malformed, or more than `cap` bytes would come out.
pub fn decompress(
    codec: Compression,
    packed: &Bytes,
    cap: usize,
) -> Result<Bytes, CompressionError> {
    match codec {
        Compression::None => Ok(packed.clone()),
        #[cfg(feature = "gzip")]
        Compression::Gzip => gzip::decompress(packed, cap).map(owned),
        #[cfg(feature = "snappy")]
        Compression::Snappy => snappy::decompress(packed, cap).map(owned),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => lz4::decompress(packed, cap).map(owned),
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::decompress(packed, cap).map(owned),
        #[cfg(all(feature = "zstd-small", not(feature = "zstd")))]
        Compression::Zstd => zstd_small::decompress(packed, cap).map(owned),
        #[allow(unreachable_patterns, reason = "reached where a codec is left out")]
        other => {
            let _no_codec_to_hold_to_it = cap;
            Err(CompressionError::NotCompiledIn(other.name()))
        }
    }
}

/// A kept record keeps its whole batch: not the room that was not needed too.
#[allow(dead_code, reason = "without codecs nothing is decompressed")]
fn owned(mut plain: Vec<u8>) -> Bytes {
    plain.shrink_to_fit();
    Bytes::from(plain)
}

/// What a record batch shrinks by on a good day: the room to start with when the size is not known.
#[cfg(any(feature = "gzip", feature = "zstd", feature = "zstd-small"))]
const USUAL_RATIO: usize = 6;

#[allow(dead_code, reason = "without codecs nothing is malformed")]
fn malformed(codec: Compression, why: impl ToString) -> CompressionError {
    CompressionError::Malformed {
        codec: codec.name(),
        why: why.to_string(),
    }
}

#[allow(dead_code, reason = "without codecs nothing is too large")]
fn too_large(codec: Compression, cap: usize) -> CompressionError {
    CompressionError::TooLarge {
        codec: codec.name(),
        cap,
    }
}
