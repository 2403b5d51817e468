//! Batches written and read back, and what readers refuse.

use super::batch::BATCH_HEADER_BYTES;
use super::*;
use crate::compression::{Compression, CompressionError};
use bytes::Bytes;

pub(super) const CAP: usize = 1 << 20;

#[test]
fn line_12_null_and_empty_headers_and_backward_timestamps_come_back() {
    let headers = [
        Header {
            key: "b",
            value: Some(b"2"),
        },
        Header {
            key: "a",
            value: None,
        },
        Header {
            key: "b",
            value: Some(b""),
        },
        Header {
            key: "",
            value: Some(b"1"),
        },
    ];
    let mut builder = BatchBuilder::with_capacity(0);
    assert_eq!(
        builder.append(1_000, Some(b"k"), Some(b"v"), &headers),
        Some(0)
    );
    assert_eq!(builder.append(900, None, Some(b""), &[]), Some(1));
    assert_eq!(builder.append(-1, Some(b""), None, &[]), Some(2));
    let batch = only(wire(&builder.seal()));

    batch.verify_crc().unwrap();
    assert_eq!(
        (batch.header.base_timestamp, batch.header.max_timestamp),
        (1_000, 1_000)
    );
    let records: Vec<_> = batch.records(0).unwrap().map(Result::unwrap).collect();
    let times: Vec<_> = records.iter().map(|record| record.timestamp_ms).collect();
    assert_eq!(times, [1_000, 900, -1]);
    assert_eq!(
        (&records[1].key, records[1].value.as_deref()),
        (&None, Some(&b""[..]))
    );
    assert_eq!(
        (records[2].key.as_deref(), &records[2].value),
        (Some(&b""[..]), &None)
    );
    let read: Vec<_> = records[0].headers.as_ref().collect();
    let want: Vec<_> = headers
        .iter()
        .map(|h| (h.key.as_bytes(), h.value))
        .collect();
    assert_eq!(read, want);
    assert_eq!(records[0].headers.last("b"), Some(Some(Bytes::new())));
    assert_eq!(records[0].headers.last("a"), Some(None));
    assert_eq!(records[0].headers.last("c"), None);
}

#[test]
fn line_55_a_copied_record_is_the_same_in_memory_of_its_own() {
    let header = Header {
        key: "h",
        value: Some(b"1"),
    };
    let mut builder = BatchBuilder::with_capacity(0);
    builder.append(1, Some(b"key"), Some(b"value"), &[header, header]);
    builder.append(2, None, Some(b""), &[]);
    builder.append(3, Some(b""), None, &[header]);
    let batch = only(wire(&builder.seal()));
    let shared: Vec<_> = batch.records(0).unwrap().map(Result::unwrap).collect();
    let copied: Vec<_> = shared.iter().map(|r| r.as_ref().to_record()).collect();
    assert_eq!(copied, shared);
    let place = |record: &Record| record.value.as_ref().unwrap().as_ptr();
    assert_ne!(place(&copied[0]), place(&shared[0]));
}

#[test]
fn a_batch_refuses_what_its_deltas_cannot_hold_and_a_new_one_takes_it() {
    let mut builder = BatchBuilder::with_capacity(0);
    assert_eq!(builder.append(i64::MIN, None, None, &[]), Some(0));
    assert_eq!(builder.append(i64::MAX, None, None, &[]), None);
    assert_eq!(builder.count(), 1);
    let mut next = BatchBuilder::with_capacity(0);
    assert_eq!(next.append(i64::MAX, None, None, &[]), Some(0));
    for (builder, time) in [(builder, i64::MIN), (next, i64::MAX)] {
        assert_eq!(read(&only(wire(&builder.seal())))[0].timestamp_ms, time);
    }
}

#[test]
fn a_buffer_can_be_recycled_once_no_frame_holds_it() {
    let mut builder = BatchBuilder::with_capacity(1_000);
    builder.append(0, None, Some(b"first"), &[]).unwrap();
    let sealed = builder.seal();
    let frame = sealed.stamp(ProducerStamp::NONE);
    assert!(sealed.clone().recycle().is_none());
    drop(frame);
    let buffer = sealed.recycle().unwrap();
    assert!(buffer.capacity() >= 1_000);
    let mut again = BatchBuilder::from_recycled(buffer);
    assert_eq!(again.size_bytes(), BATCH_HEADER_BYTES);
    assert_eq!(again.append(0, None, Some(b"second"), &[]), Some(0));
    assert_eq!(
        read(&only(wire(&again.seal())))[0].value.as_deref(),
        Some(&b"second"[..])
    );
}

#[test]
fn line_1_a_stamp_leaves_the_records_as_they_are() {
    let sealed = some_batch(50).seal();
    let stamps = [
        ProducerStamp::NONE,
        ProducerStamp {
            producer_id: i64::MAX,
            producer_epoch: 7,
            base_sequence: i32::MAX,
            transactional: true,
        },
    ];
    for stamp in stamps {
        let [header, records] = sealed.stamp(stamp);
        assert_eq!(
            records.as_ptr(),
            sealed.stamp(ProducerStamp::NONE)[1].as_ptr()
        );
        let batch = only(Bytes::from([header, records].concat()));
        batch.verify_crc().unwrap();
        assert_eq!(batch.header.producer_id, stamp.producer_id);
        assert_eq!(batch.header.producer_epoch, stamp.producer_epoch);
        assert_eq!(batch.header.base_sequence, stamp.base_sequence);
        assert_eq!(
            batch.header.attributes.is_transactional(),
            stamp.transactional
        );
    }
}

#[test]
fn line_8_a_batch_splits_down_to_single_records_and_loses_none() {
    for codec in compiled() {
        let sealed = some_batch(100).seal().compress(codec).unwrap();
        let whole = read(&only(wire(&sealed)));
        for limit in [0, 200, 1_000, usize::MAX] {
            let parts = sealed.split(limit).unwrap();
            assert!(
                parts
                    .iter()
                    .all(|p| p.uncompressed_bytes() <= limit || p.count() == 1)
            );
            assert!(parts.iter().all(|part| part.compression() == codec));
            let records: Vec<_> = parts.iter().flat_map(|p| read(&only(wire(p)))).collect();
            assert_eq!(records.len(), 100);
            for (part, was) in records.iter().zip(&whole) {
                assert_eq!(part.timestamp_ms, was.timestamp_ms);
                assert_eq!((&part.key, &part.value), (&was.key, &was.value));
                assert_eq!(part.headers, was.headers);
            }
        }
        assert_eq!(sealed.split(0).unwrap().len(), 100);
        assert_eq!(sealed.split(usize::MAX).unwrap().len(), 1);
    }
}

#[test]
fn a_batch_splits_between_records_that_are_to_part() {
    let apart = |index: i32| matches!(index, 0 | 40 | 41 | 99);
    for codec in compiled() {
        let sealed = some_batch(100).seal().compress(codec).unwrap();
        let parts = sealed.split_apart(apart).unwrap();
        let counts: Vec<i32> = parts.iter().map(SealedBatch::count).collect();
        assert_eq!(counts, [1, 39, 2, 57, 1]);
        let fields = |record: &Record| (record.timestamp_ms, record.value.clone());
        let whole = read(&only(wire(&sealed)));
        let records = parts.iter().flat_map(|part| read(&only(wire(part))));
        assert!(
            records
                .map(|record| fields(&record))
                .eq(whole.iter().map(fields))
        );
        assert_eq!(sealed.split_apart(|_| true).unwrap().len(), 1);
    }
}

#[test]
fn compression_keeps_everything_but_the_size() {
    for codec in compiled() {
        let plain = some_batch(100).seal();
        let packed = plain.compressed(codec).unwrap();
        assert_eq!(packed.uncompressed_bytes(), plain.uncompressed_bytes());
        assert_eq!(
            packed.size_bytes() < plain.size_bytes(),
            codec != Compression::None
        );
        assert_eq!(packed.size_bytes(), wire(&packed).len());
        let batch = only(wire(&packed));
        batch.verify_crc().unwrap();
        assert_eq!(batch.header.attributes.compression(), Ok(codec));
        assert_eq!(read(&batch), read(&only(wire(&plain))));
    }
}

#[test]
fn line_20_the_next_offset_follows_the_last_delta_and_never_overflows() {
    let mut header = only(wire(&some_batch(3).seal())).header;
    assert_eq!(header.next_offset(), 3);
    header.base_offset = i64::MAX - 1;
    assert_eq!(header.next_offset(), i64::MAX);
}

#[test]
fn line_21_a_truncated_last_batch_ends_the_set_quietly() {
    let first = wire(&some_batch(3).seal());
    let second = wire(&some_batch(5).seal());
    let set = Bytes::from([first.clone(), second.clone()].concat());
    for end in first.len()..set.len() {
        let mut batches = Batches::new(set.slice(..end));
        assert_eq!(batches.next().unwrap().unwrap().bytes, first);
        assert_eq!(batches.next(), None);
        assert_eq!(batches.next(), None);
        let tail = end - first.len();
        let announced = (tail >= 12).then_some(second.len());
        assert_eq!(batches.truncated(), (tail > 0).then_some((tail, announced)));
    }
    assert_eq!(Batches::new(set).count(), 2);
}

#[test]
fn batches_are_slices_of_the_frame() {
    let frame = wire(&some_batch(3).seal());
    let batch = only(frame.clone());
    assert_eq!(batch.bytes.as_ptr(), frame.as_ptr());
    let value = read(&batch)[2].value.clone().unwrap();
    assert!(frame.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn line_23_bad_crc_unknown_codec_and_foreign_magic_are_distinct() {
    let good = wire(&some_batch(3).seal());

    let mut bytes = good.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let batch = only(Bytes::from(bytes));
    assert!(matches!(
        batch.verify_crc(),
        Err(RecordsError::BadCrc { base_offset: 0, .. })
    ));

    for codec in 5..8 {
        let batch = only(with(&good, 22, &[codec]));
        let unknown = RecordsError::UnknownCodec {
            base_offset: 0,
            codec,
        };
        assert_eq!(batch.records(CAP).unwrap_err(), unknown);
    }
    for magic in [3, -1] {
        let mut batches = Batches::new(with(&good, 16, &[magic as u8]));
        let refused = RecordsError::UnsupportedMagic {
            base_offset: 0,
            magic,
        };
        assert_eq!(batches.next(), Some(Err(refused)));
        assert_eq!(batches.next(), None);
    }
}

#[test]
fn headers_that_make_no_sense_are_malformed_and_end_the_set() {
    let good = wire(&some_batch(3).seal());
    let cases: [(usize, &[u8], &str); 7] = [
        (8, &i32::MIN.to_be_bytes(), "its length is negative"),
        (
            8,
            &0i32.to_be_bytes(),
            "its length has no room for a message format",
        ),
        (
            8,
            &4i32.to_be_bytes(),
            "its length has no room for a message format",
        ),
        (
            8,
            &48i32.to_be_bytes(),
            "its length has no room for a header",
        ),
        (
            23,
            &(-1i32).to_be_bytes(),
            "its last offset delta is negative",
        ),
        (0, &i64::MAX.to_be_bytes(), "its last offset is too large"),
        (57, &(-1i32).to_be_bytes(), "its record count is negative"),
    ];
    for (at, field, why) in cases {
        let mut batches = Batches::new(with(&good, at, field));
        match batches.next() {
            Some(Err(RecordsError::Malformed { why: said, .. })) => assert_eq!(said, why),
            other => panic!("{why}: {other:?}"),
        }
        assert_eq!(batches.next(), None);
        assert_eq!(batches.truncated(), None);
    }
}

#[test]
fn line_41_record_counts_are_held_against_the_bytes_and_the_truth() {
    let good = wire(&some_batch(3).seal());
    let count = |count: i32| only(with(&good, 57, &count.to_be_bytes()));
    let refused = |batch: Batch| match batch.records(CAP) {
        Err(error) => error.to_string(),
        Ok(records) => records.last().unwrap().unwrap_err().to_string(),
    };
    assert!(refused(count(i32::MAX)).ends_with("it claims more records than its bytes can hold"));
    assert!(refused(count(4)).ends_with("a varint in a record is cut short"));
    assert!(refused(count(2)).ends_with("bytes follow its last record"));
    assert_eq!(count(3).records(CAP).unwrap().size_hint().0, 0);
}

#[test]
fn line_41_lengths_and_counts_in_a_record_are_held_against_its_bytes() {
    // Attributes, timestamp delta and offset delta are one byte each, and then the fields.
    let null = 0x01;
    let cases: [(&[u8], &str); 13] = [
        (&[0, 0, 0, null, null, 0], ""),
        (
            &[0, 0, 0, 0x03, null, 0],
            "a length in a record is below -1",
        ),
        (
            &[0, 0, 0, null, 0x03, 0],
            "a length in a record is below -1",
        ),
        (
            &[0, 0, 0, 0x0a, b'a', null, 0],
            "a length in a record is beyond the bytes left",
        ),
        (
            &[0, 0, 0, null, 0x7e, 0],
            "a length in a record is beyond the bytes left",
        ),
        (
            &[0, 0, 0, null, null, 0x01],
            "a record's header count is negative",
        ),
        (
            &[0, 0, 0, null, null, 0xfe, 0xff, 0xff, 0xff, 0x0f],
            "a record claims more headers than its bytes can hold",
        ),
        (
            &[0, 0, 0, null, null, 2, 0x01, 0],
            "a record's header key has a negative length",
        ),
        (
            &[0, 0, 0, null, null, 2, 0, 0x03],
            "a length in a record is below -1",
        ),
        (
            &[0, 0, 0, null, null, 0, 9],
            "bytes follow a record's last header",
        ),
        (
            &[0, 0, 0x02, null, null, 0],
            "a record's offset lies outside it",
        ),
        (
            &[0, 0, 0x01, null, null, 0],
            "a record's offset lies outside it",
        ),
        (
            &[0, 0, 0xff, 0xff, 0xff, 0xff, 0x1f, null, null, 0],
            "a varint in a record is too long for its type",
        ),
    ];
    for (body, why) in cases {
        let mut record = vec![body.len() as u8 * 2];
        record.extend_from_slice(body);
        record.resize(record.len().max(7), 0);
        let batch = forge(1, 0, &record);
        let said = match batch.records(CAP).unwrap().next().unwrap() {
            Ok(_) => "",
            Err(RecordsError::Malformed { why, .. }) => why,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(said, why);
    }
}

#[test]
fn a_record_length_below_zero_or_beyond_the_batch_is_refused() {
    for length in [0x01, 0x7e] {
        let batch = forge(1, 0, &[length, 0, 0, 0, 1, 1, 0]);
        let mut records = batch.records(CAP).unwrap();
        assert!(records.next().unwrap().is_err());
        assert_eq!(records.next(), None);
    }
}

#[test]
fn timestamps_and_offsets_that_overflow_are_refused() {
    let mut batch = forge(1, 1, &[12, 0, 2, 2, 1, 1, 0]);
    batch.header.base_timestamp = i64::MAX;
    assert!(batch.records(CAP).unwrap().next().unwrap().is_err());
    batch.header.base_timestamp = 0;
    batch.header.base_offset = i64::MAX;
    assert!(batch.records(CAP).unwrap().next().unwrap().is_err());
}

#[test]
fn line_41_decompression_stops_at_the_cap() {
    for codec in compiled().into_iter().skip(1) {
        let sealed = some_batch(100).seal().compress(codec).unwrap();
        let plain_bytes = sealed.uncompressed_bytes() - BATCH_HEADER_BYTES;
        let batch = only(wire(&sealed));
        assert_eq!(batch.records(plain_bytes).unwrap().count(), 100);
        let cap = plain_bytes - 1;
        let source = CompressionError::TooLarge {
            codec: codec.name(),
            cap,
        };
        let refused = RecordsError::Compression {
            base_offset: 0,
            source,
        };
        assert_eq!(batch.records(cap).unwrap_err(), refused);
    }
}

#[test]
fn a_control_record_without_a_type_is_malformed() {
    let control = |key: Option<&[u8]>| {
        let mut builder = BatchBuilder::with_capacity(0);
        builder.append(0, key, None, &[]).unwrap();
        let mut batch = only(wire(&builder.seal()));
        batch.header.attributes = batch.header.attributes.with_control(true);
        batch.control()
    };
    for key in [
        None,
        Some(&[][..]),
        Some(&[0, 0, 0]),
        Some(&[0xff, 0xff, 0, 0]),
    ] {
        assert!(
            matches!(control(key), Err(RecordsError::Malformed { .. })),
            "{key:?}"
        );
    }
    assert_eq!(control(Some(&[0, 9, 0, 1])), Ok(Some(ControlKind::Commit)));
    assert_eq!(
        control(Some(&[0, 0, 0, 77])),
        Ok(Some(ControlKind::Other(77)))
    );
}

pub(super) fn compiled() -> Vec<Compression> {
    Compression::ALL
        .into_iter()
        .filter(|codec| codec.is_compiled_in())
        .collect()
}

fn some_batch(count: usize) -> BatchBuilder {
    let mut builder = BatchBuilder::with_capacity(0);
    for i in 0..count {
        let value = format!("{i}.163090128755364");
        let header = [Header {
            key: "tw",
            value: Some(b"9f3c2a7e41d0b865.4711.2000"),
        }];
        let headers = header.get(..i % 2).unwrap_or_default();
        let time = 1_700_000_000_000 - (i as i64 % 5) * 1_000;
        builder
            .append(time, Some(b"host-a"), Some(value.as_bytes()), headers)
            .unwrap();
    }
    builder
}

/// A batch at offset 0 with these very bytes for records.
fn forge(count: i32, last_offset_delta: i32, records: &[u8]) -> Batch {
    let mut header = only(wire(&some_batch(1).seal())).header;
    header.batch_length = (BATCH_HEADER_BYTES - 12 + records.len()) as i32;
    header.last_offset_delta = last_offset_delta;
    header.record_count = count;
    only(Bytes::from([&header.encode()[..], records].concat()))
}

fn with(bytes: &[u8], at: usize, field: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at..at + field.len()].copy_from_slice(field);
    Bytes::from(bytes)
}

pub(super) fn wire(sealed: &SealedBatch) -> Bytes {
    Bytes::from(sealed.stamp(ProducerStamp::NONE).concat())
}

pub(super) fn only(bytes: Bytes) -> Batch {
    let mut batches = Batches::new(bytes);
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none());
    assert_eq!(batches.truncated(), None);
    batch
}

fn read(batch: &Batch) -> Vec<Record> {
    batch.records(CAP).unwrap().map(Result::unwrap).collect()
}
