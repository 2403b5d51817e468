//! What holds for every batch, whole or damaged.

use super::batch::BATCH_HEADER_BYTES;
use super::tests::{CAP, compiled, only, wire};
use super::*;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

/// A record as a property test makes it.
type Made = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(String, Option<Vec<u8>>)>,
);

fn made() -> impl Strategy<Value = Made> {
    let field = || proptest::option::of(vec(any::<u8>(), 0..200));
    let headers = vec(
        (".{0,9}", proptest::option::of(vec(any::<u8>(), 0..20))),
        0..4,
    );
    let time = prop_oneof![
        Just(-1),
        0..2_000_000_000_000i64,
        any::<i64>().prop_map(|t| t >> 2)
    ];
    (time, field(), field(), headers)
}

fn build(made: &[Made]) -> BatchBuilder {
    let mut builder = BatchBuilder::with_capacity(0);
    for (time, key, value, headers) in made {
        let headers: Vec<_> = headers
            .iter()
            .map(|(key, value)| Header {
                key,
                value: value.as_deref(),
            })
            .collect();
        let before = builder.size_bytes();
        builder
            .append(*time, key.as_deref(), value.as_deref(), &headers)
            .unwrap();
        let bound = BatchBuilder::upper_bound(key.as_deref(), value.as_deref(), &headers);
        assert!(builder.size_bytes() - before <= bound);
    }
    builder
}

proptest! {
    #[test]
    fn whatever_is_written_by_any_codec_is_read(
        made in vec(made(), 1..30),
        codec in proptest::sample::select(compiled()),
        base_offset in 0..1i64 << 60,
    ) {
        let sealed = build(&made).seal().compress(codec).unwrap();
        prop_assert_eq!(sealed.max_timestamp(), made.iter().map(|m| m.0).max().unwrap());
        let sent = only(wire(&sealed));
        sent.verify_crc().unwrap();
        let stored = only(restamp(&sent, base_offset, 3, None));
        stored.verify_crc().unwrap();
        let mut borrowed = stored.records(CAP).unwrap();
        let mut count = 0;
        for (record, want) in stored.records(CAP).unwrap().zip(&made) {
            let record = record.unwrap();
            let (time, key, value, headers) = want;
            prop_assert_eq!(record.offset, base_offset + count);
            prop_assert_eq!(record.timestamp_ms, *time);
            prop_assert_eq!(record.key.as_deref(), key.as_deref());
            prop_assert_eq!(record.value.as_deref(), value.as_deref());
            let headers: Vec<_> =
                headers.iter().map(|(k, v)| (k.as_bytes(), v.as_deref())).collect();
            prop_assert_eq!(record.headers.as_ref().collect::<Vec<_>>(), headers);
            let borrowed = borrowed.next_ref().unwrap().unwrap();
            prop_assert_eq!(borrowed.value, record.value.as_deref());
            prop_assert_eq!(borrowed.headers, record.headers.as_ref());
            count += 1;
        }
        prop_assert_eq!(count, made.len() as i64);
        prop_assert!(borrowed.next_ref().is_none());
    }

    #[test]
    fn the_brokers_clock_keeps_the_crc_right_and_a_wrong_one_wrong(
        made in vec(made(), 1..9), now in any::<i64>(), damage in 0..8u8,
    ) {
        let mut bytes = wire(&build(&made).seal()).to_vec();
        *bytes.last_mut().unwrap() ^= damage;
        let sent = only(Bytes::from(bytes));
        let stored = only(restamp(&sent, 9, 3, Some(now)));
        prop_assert_eq!(stored.verify_crc().is_ok(), damage == 0);
        prop_assert_eq!(stored.header.max_timestamp, now);
    }

    #[test]
    fn damaged_batches_are_read_or_refused_and_nothing_else(
        made in vec(made(), 1..12),
        codec in proptest::sample::select(compiled()),
        hits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let sealed = build(&made).seal().compress(codec).unwrap();
        let mut bytes = wire(&sealed).to_vec();
        for (at, byte) in hits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        consume(Bytes::from(bytes));
    }

    #[test]
    fn noise_is_read_or_refused(mut noise in vec(any::<u8>(), 0..300), framed in any::<bool>()) {
        if framed && noise.len() >= BATCH_HEADER_BYTES {
            let length = noise.len() as i32 - 12;
            noise[8..12].copy_from_slice(&length.to_be_bytes());
            noise[16] = 2;
        }
        consume(Bytes::from(noise));
    }
}

/// Reads everything that a record set can be asked for.
fn consume(bytes: Bytes) {
    let mut batches = Batches::new(bytes);
    for batch in &mut batches {
        let Ok(batch) = batch else { continue };
        let _crc = batch.verify_crc();
        let _control = batch.control();
        let _stored = restamp(&batch, i64::MAX, -1, Some(i64::MIN));
        let Ok(records) = batch.records(CAP) else {
            continue;
        };
        for record in records.flatten() {
            assert!(record.offset < batch.header.next_offset());
            assert_eq!(record.headers.iter().count(), record.headers.len());
        }
    }
    let _cut = batches.truncated();
}
