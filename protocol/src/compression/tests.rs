//! Every codec there and back, what each must read besides, and what each must refuse.

use super::*;

fn packed(codec: Compression, plain: &[u8]) -> Bytes {
    let mut out = Vec::new();
    compress(codec, plain, &mut out).unwrap();
    Bytes::from(out)
}

/// Text that compresses, of `length` bytes.
fn text(length: usize) -> Vec<u8> {
    let line = |i: u32| format!("host-{} {}.{i}\n", i % 37, i % 100).into_bytes();
    (0u32..).flat_map(line).take(length).collect()
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn every_codec_gives_back_what_it_was_given() {
    for codec in compiled() {
        for length in [0, 1, 10, 1_000, 32_768, 65_536, 65_537, 300_000] {
            for plain in [text(length), noise(length), vec![0; length]] {
                let packed = packed(codec, &plain);
                assert_eq!(
                    decompress(codec, &packed, length).unwrap(),
                    plain,
                    "{codec:?} {length}"
                );
            }
        }
    }
}

#[test]
fn compress_keeps_what_is_in_front() {
    for codec in compiled() {
        let mut out = b"front".to_vec();
        compress(codec, b"plain", &mut out).unwrap();
        assert_eq!(out[..5], *b"front");
        let packed = Bytes::from(out.split_off(5));
        assert_eq!(decompress(codec, &packed, 5).unwrap(), &b"plain"[..]);
    }
}

#[test]
fn levels_outside_the_range_are_taken_to_the_nearest() {
    for compression in compiled() {
        let plain = text(20_000);
        for level in [i32::MIN, -5, 0, 1, 9, 22, i32::MAX] {
            let mut out = Vec::new();
            compress(
                Codec {
                    compression,
                    level: Some(level),
                },
                &plain,
                &mut out,
            )
            .unwrap();
            assert_eq!(
                decompress(compression, &out.into(), plain.len()).unwrap(),
                plain
            );
        }
    }
}

#[test]
fn names_and_ids_are_kafkas() {
    for (id, name) in ["none", "gzip", "snappy", "lz4", "zstd"]
        .into_iter()
        .enumerate()
    {
        let codec = Compression::parse(name).unwrap();
        assert_eq!((codec as usize, codec.name()), (id, name));
        assert_eq!(Compression::from_id(id as u8), Some(codec));
    }
    assert_eq!(Compression::parse("brotli"), None);
    assert_eq!(Compression::from_id(5), None);
}

#[test]
fn a_codec_that_is_left_out_says_so() {
    for codec in Compression::ALL
        .into_iter()
        .filter(|codec| !codec.is_compiled_in())
    {
        let left_out = CompressionError::NotCompiledIn(codec.name());
        assert_eq!(compress(codec, b"", &mut Vec::new()), Err(left_out.clone()));
        assert_eq!(decompress(codec, &Bytes::new(), 0), Err(left_out));
    }
}

#[test]
fn line_41_no_codec_gives_more_than_the_cap() {
    for codec in compiled() {
        for plain in [text(100_000), vec![0; 1 << 20]] {
            let packed = packed(codec, &plain);
            for cap in [0, 1, 5_000, plain.len() - 1] {
                let refused = CompressionError::TooLarge {
                    codec: codec.name(),
                    cap,
                };
                assert_eq!(decompress(codec, &packed, cap), Err(refused));
            }
        }
    }
}

#[test]
fn what_is_cut_or_followed_by_something_else_is_malformed() {
    for codec in compiled() {
        let whole = packed(codec, &text(200_000));
        for end in (1..whole.len())
            .step_by(whole.len() / 97)
            .chain([whole.len() - 1])
        {
            let cut = decompress(codec, &whole.slice(..end), 200_000);
            // Snappy has no end mark: after a whole block it is whole.
            let whole_blocks = codec == Compression::Snappy && cut.is_ok();
            assert!(whole_blocks || is_malformed(&cut), "{codec:?} {end}");
        }
        let followed = Bytes::from([&whole[..], b"garbage"].concat());
        assert!(
            is_malformed(&decompress(codec, &followed, 200_000)),
            "{codec:?}"
        );
    }
}

#[test]
fn bytes_of_another_codec_are_malformed() {
    for codec in compiled() {
        for other in compiled().into_iter().filter(|other| *other != codec) {
            let foreign = packed(other, &text(1_000));
            assert!(
                is_malformed(&decompress(codec, &foreign, 1 << 20)),
                "{other:?} as {codec:?}"
            );
        }
    }
}

#[cfg(feature = "gzip")]
#[test]
fn line_41_gzip_of_several_members_is_read() {
    let [a, b] = [b"first ", b"second"].map(|part| packed(Compression::Gzip, part));
    let both = Bytes::from([a, b].concat());
    assert_eq!(
        decompress(Compression::Gzip, &both, 12).unwrap(),
        &b"first second"[..]
    );
    assert!(decompress(Compression::Gzip, &both, 11).is_err());
}

#[cfg(feature = "snappy")]
mod snappy_forms {
    use super::*;

    const SNAPPY: Compression = Compression::Snappy;

    #[test]
    fn line_41_raw_snappy_is_read() {
        let plain = text(100_000);
        let raw = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        assert_eq!(
            decompress(SNAPPY, &Bytes::from(raw), plain.len()).unwrap(),
            plain
        );
    }

    #[test]
    fn xerial_streams_may_follow_each_other() {
        let [a, b] = [b"first ", b"second"].map(|part| packed(SNAPPY, part));
        let both = Bytes::from([a, b].concat());
        assert_eq!(decompress(SNAPPY, &both, 12).unwrap(), &b"first second"[..]);
    }

    #[test]
    fn line_41_a_claim_of_4_gib_is_refused_before_anything_is_allocated() {
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'x'];
        let raw = Bytes::copy_from_slice(&claim);
        assert!(is_malformed(&decompress(SNAPPY, &raw, usize::MAX)));
        let mut framed = packed(SNAPPY, b"").to_vec();
        framed.extend_from_slice(&7u32.to_be_bytes());
        framed.extend_from_slice(&claim);
        assert!(is_malformed(&decompress(
            SNAPPY,
            &framed.into(),
            usize::MAX
        )));
    }
}

#[cfg(feature = "lz4")]
mod lz4_frames {
    use super::*;
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use std::io::Write;

    const LZ4: Compression = Compression::Lz4;

    fn framed(info: FrameInfo, plain: &[u8]) -> Bytes {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(plain).unwrap();
        Bytes::from(encoder.finish().unwrap())
    }

    #[test]
    fn line_41_frames_with_every_option_are_read() {
        let plain = [text(300_000), noise(70_000), vec![7; 500_000]].concat();
        let sizes = [
            BlockSize::Max64KB,
            BlockSize::Max256KB,
            BlockSize::Max1MB,
            BlockSize::Max4MB,
        ];
        for size in sizes {
            for mode in [BlockMode::Independent, BlockMode::Linked] {
                for checked in [false, true] {
                    for content in [None, Some(plain.len() as u64)] {
                        let info = FrameInfo::new()
                            .block_size(size)
                            .block_mode(mode)
                            .block_checksums(checked)
                            .content_checksum(checked)
                            .content_size(content);
                        let frame = framed(info, &plain);
                        assert_eq!(decompress(LZ4, &frame, plain.len()).unwrap(), plain);
                    }
                }
            }
        }
    }

    #[test]
    fn our_frames_are_read_by_the_librarys_reader() {
        let plain = [text(100_000), noise(70_000)].concat();
        let mut read = Vec::new();
        let packed = packed(LZ4, &plain);
        let mut decoder = lz4_flex::frame::FrameDecoder::new(&packed[..]);
        std::io::Read::read_to_end(&mut decoder, &mut read).unwrap();
        assert_eq!(read, plain);
    }

    #[test]
    fn frames_may_follow_each_other_and_linked_blocks_do_not_reach_across() {
        let linked = FrameInfo::new().block_mode(BlockMode::Linked);
        let [a, b] = [text(100_000), text(100_000)].map(|part| framed(linked.clone(), &part));
        let both = Bytes::from([a, b].concat());
        let plain = decompress(LZ4, &both, 200_000).unwrap();
        assert_eq!(plain, [text(100_000), text(100_000)].concat());
    }

    #[test]
    fn skippable_frames_are_skipped() {
        let mut bytes = 0x184d_2a53u32.to_le_bytes().to_vec();
        bytes.extend_from_slice(&3u32.to_le_bytes());
        bytes.extend_from_slice(b"any");
        bytes.extend_from_slice(&packed(LZ4, b"plain"));
        assert_eq!(decompress(LZ4, &bytes.into(), 5).unwrap(), &b"plain"[..]);
    }

    #[test]
    fn a_wrong_content_size_a_dictionary_and_reserved_bits_are_refused() {
        let frame = packed(LZ4, b"some plain text");
        let content = framed(FrameInfo::new().content_size(Some(15)), b"some plain text");
        let cases = [
            (&content, 6, 1),
            (&frame, 4, 0x61),
            (&frame, 4, 0x62),
            (&frame, 4, 0xa0),
        ];
        for (frame, at, byte) in cases
            .into_iter()
            .chain([(&frame, 5, 0x30), (&frame, 5, 0x41)])
        {
            let mut bytes = frame.to_vec();
            bytes[at] = byte;
            assert!(
                is_malformed(&decompress(LZ4, &bytes.into(), 1_000)),
                "{at} {byte:#x}"
            );
        }
    }
}

#[cfg(any(feature = "zstd", feature = "zstd-small"))]
mod zstd_frames {
    use super::*;

    const ZSTD: Compression = Compression::Zstd;

    #[test]
    fn line_41_a_claim_of_4_gib_is_refused_before_anything_is_allocated() {
        // Magic; a single segment whose content size has eight bytes; an empty last block.
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
        frame.extend_from_slice(&(4u64 << 30).to_le_bytes());
        frame.extend_from_slice(&[1, 0, 0]);
        assert!(decompress(ZSTD, &Bytes::from(frame), 1 << 20).is_err());
    }

    #[test]
    fn frames_may_follow_each_other_and_skippable_ones_are_skipped() {
        let mut bytes = 0x184d_2a53u32.to_le_bytes().to_vec();
        bytes.extend_from_slice(&3u32.to_le_bytes());
        bytes.extend_from_slice(b"any");
        bytes.extend_from_slice(&packed(ZSTD, b"first "));
        bytes.extend_from_slice(&packed(ZSTD, b"second"));
        let bytes = Bytes::from(bytes);
        assert_eq!(decompress(ZSTD, &bytes, 12).unwrap(), &b"first second"[..]);
        assert!(decompress(ZSTD, &bytes, 11).is_err());
    }

    #[test]
    fn a_block_that_repeats_one_byte_is_read_whole() {
        // Magic; a window of 128 KiB, no content size; a last block of 128 KiB times `r`.
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];
        frame.extend_from_slice(&((128 << 10 << 3 | 0b011u32).to_le_bytes()[..3]));
        frame.push(b'r');
        let frame = Bytes::from(frame);
        assert_eq!(
            decompress(ZSTD, &frame, 1 << 17).unwrap(),
            vec![b'r'; 1 << 17]
        );
        assert!(decompress(ZSTD, &frame, (1 << 17) - 1).is_err());
    }

    #[test]
    fn ruzstd_reads_what_we_write_and_we_read_what_it_writes() {
        for plain in [text(300_000), noise(200_000), vec![0; 400_000]] {
            for level in [None, Some(-5), Some(1), Some(9), Some(19)] {
                let mut out = Vec::new();
                compress(
                    Codec {
                        compression: ZSTD,
                        level,
                    },
                    &plain,
                    &mut out,
                )
                .unwrap();
                let mut read = Vec::with_capacity(plain.len());
                ruzstd::decoding::FrameDecoder::new()
                    .decode_all_to_vec(&out, &mut read)
                    .unwrap();
                assert_eq!(read, plain);
            }
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            let theirs = ruzstd::encoding::compress_to_vec(&plain[..], level);
            assert_eq!(
                decompress(ZSTD, &theirs.into(), plain.len()).unwrap(),
                plain
            );
        }
    }

    #[test]
    fn both_codecs_agree_on_damaged_frames_that_both_read() {
        let plain = text(2_000);
        let whole = packed(ZSTD, &plain);
        for at in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 1 << (at % 8);
            let ours = decompress(ZSTD, &Bytes::copy_from_slice(&bytes), 1 << 20);
            let mut theirs = Vec::with_capacity(1 << 20);
            let read = ruzstd::decoding::FrameDecoder::new().decode_all_to_vec(&bytes, &mut theirs);
            if let (Ok(ours), Ok(())) = (ours, read) {
                assert_eq!(ours, theirs, "byte {at}");
            }
        }
    }
}

/// The codecs of this build, besides none.
fn compiled() -> Vec<Compression> {
    Compression::ALL
        .into_iter()
        .skip(1)
        .filter(|codec| codec.is_compiled_in())
        .collect()
}

fn is_malformed(result: &Result<Bytes, CompressionError>) -> bool {
    matches!(result, Err(CompressionError::Malformed { .. }))
}
