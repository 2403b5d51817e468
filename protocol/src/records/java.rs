//! Batches as Kafka 4.3.1's Java classes write them (`MemoryRecordsBuilder` and `DefaultRecordBatch`
//! of kafka-clients), read field by field, and ours beside them, byte by byte.

use super::*;
use crate::compression::Compression;
use bytes::Bytes;

/// Three records, uncompressed: header order, a duplicate, null and empty, time going backwards.
const NONE: &str = concat!(
    "00000000000000000000006400000005021f18ba2200000000000200000000000003e800000000000f4240ff",
    "ffffffffffffffffffffffffff00000003440000000c686f73742d610831322e350604747710722e312e3230",
    "30300474770100000c0013020100001000b0f97904000100",
);

/// The same records by gzip.
const GZIP: &str = concat!(
    "0000000000000000000000740000000502d04f78c700010000000200000000000003e800000000000f4240ff",
    "ffffffffffffffffffffffffff000000031f8b08000000000000ff73616060e0c9c82f2ed14de43034d23365",
    "6329291728d233d43332303000b21981d20cc24c404a8061c3cf4a16064606002587196833000000",
);

/// The same records by snappy in xerial's framing.
const SNAPPY: &str = concat!(
    "00000000000000000000007a0000000502489136a800020000000200000000000003e800000000000f4240ff",
    "ffffffffffffffffffffffffff0000000382534e415050590000000001000000010000003533c8440000000c",
    "686f73742d610831322e350604747710722e312e323030300474770100000c0013020100001000b0f9790400",
    "0100",
);

/// The same records by lz4.
const LZ4: &str = concat!(
    "0000000000000000000000730000000502536bae7c00030000000200000000000003e800000000000f4240ff",
    "ffffffffffffffffffffffffff0000000304224d1860408233000080440000000c686f73742d610831322e35",
    "0604747710722e312e323030300474770100000c0013020100001000b0f9790400010000000000",
);

/// The same records by zstd, whose frame does not announce its content.
const ZSTD: &str = concat!(
    "0000000000000000000000700000000502e1d666f100040000000200000000000003e800000000000f4240ff",
    "ffffffffffffffffffffffffff0000000328b52ffd0058980100440000000c686f73742d610831322e350604",
    "747710722e312e323030300474770100000c0013020100001000b0f97904000100010000",
);

/// The same records in a transaction, in a topic with the broker's clock, at offset 700.
const LOG_APPEND_TIME_TRANSACTIONAL: &str = concat!(
    "00000000000002bc000000640000000502d42bf54800180000000200000000000003e8000000000000138800",
    "00000000000fa000030000001100000003440000000c686f73742d610831322e350604747710722e312e3230",
    "30300474770100000c0013020100001000b0f97904000100",
);

/// A transaction's commit.
const COMMIT: &str = concat!(
    "000000000000002a0000004200000005029fcc920400300000000000000000000004d200000000000004d200",
    "00000000000fa00003ffffffff000000012000000008000000010c00000000000900",
);

/// A transaction's abort.
const ABORT: &str = concat!(
    "000000000000002a0000004200000005026bf2444c00300000000000000000000004d200000000000004d200",
    "00000000000fa00003ffffffff000000012000000008000000000c00000000000900",
);

/// A control batch of a Raft quorum.
const LEADER_CHANGE: &str = concat!(
    "0000000000000007000000450000000502b8a115de00200000000000000000000004d200000000000004d2ff",
    "ffffffffffffffffffffffffff000000012600000008000000021200000000000101010000",
);

/// Offsets 100 to 102 after compaction: a tombstone is left, to be dropped after 60,000 ms.
const COMPACTED_WITH_DELETE_HORIZON: &str = concat!(
    "00000000000000640000003b000000050212056d70004000000002000000000000ea6000000000000003e9ff",
    "ffffffffffffffffffffffffff000000011200ed99070202620100",
);

/// Offsets 300 to 302 after compaction: nothing is left.
const EMPTY: &str = concat!(
    "000000000000012c00000031000000050215ecb3ed001000000002ffffffffffffffff00000000000003ea00",
    "00000000000fa000030000001100000000",
);

/// A message of format 0.
const MAGIC_0: &str = "0000000000000000000000101fecd70a0000000000016b0000000176";

/// A message of format 1.
const MAGIC_1: &str = "000000000000000000000018e4e321bc010000000000000003e8000000016b0000000176";

fn bytes(hex: &str) -> Bytes {
    let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
    hex.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn batch(hex: &str) -> Batch {
    let mut batches = Batches::new(bytes(hex));
    let batch = batches.next().unwrap().unwrap();
    batch.verify_crc().unwrap();
    assert!(batches.next().is_none());
    assert_eq!(batches.truncated(), None);
    batch
}

fn records(batch: &Batch) -> Vec<Record> {
    batch.records(1_000).unwrap().map(Result::unwrap).collect()
}

const HEADERS: [Header<'static>; 3] = [
    Header {
        key: "tw",
        value: Some(b"r.1.2000"),
    },
    Header {
        key: "tw",
        value: None,
    },
    Header {
        key: "",
        value: Some(b""),
    },
];

/// The records of [`NONE`] and its compressed forms, as our builder takes them.
fn the_same_records() -> BatchBuilder {
    let mut builder = BatchBuilder::with_capacity(0);
    builder
        .append(1_000, Some(b"host-a"), Some(b"12.5"), &HEADERS)
        .unwrap();
    builder.append(990, None, Some(b""), &[]).unwrap();
    builder.append(1_000_000, Some(b""), None, &[]).unwrap();
    builder
}

fn assert_the_same_records(records: &[Record], base_offset: i64) {
    let fields: Vec<_> = records
        .iter()
        .map(|r| (r.offset, r.key.as_deref(), r.value.as_deref()))
        .collect();
    let want = [
        (base_offset, Some(&b"host-a"[..]), Some(&b"12.5"[..])),
        (base_offset + 1, None, Some(&b""[..])),
        (base_offset + 2, Some(&b""[..]), None),
    ];
    assert_eq!(fields, want);
    let headers: Vec<_> = records[0].headers.as_ref().collect();
    let want: Vec<_> = HEADERS
        .iter()
        .map(|h| (h.key.as_bytes(), h.value))
        .collect();
    assert_eq!(headers, want);
    assert!(records[1].headers.is_empty() && records[2].headers.is_empty());
}

#[test]
fn every_codec_of_java_is_read_field_by_field() {
    let golden = [NONE, GZIP, SNAPPY, LZ4, ZSTD];
    for (codec, hex) in Compression::ALL.into_iter().zip(golden) {
        let batch = batch(hex);
        assert_eq!(batch.header.attributes.compression(), Ok(codec));
        if !codec.is_compiled_in() {
            continue;
        }
        assert_eq!(batch.header.partition_leader_epoch, 5);
        assert_eq!(batch.header.max_timestamp, 1_000_000);
        assert_eq!(batch.header.next_offset(), 3);
        let records = records(&batch);
        assert_the_same_records(&records, 0);
        let times: Vec<_> = records.iter().map(|r| r.timestamp_ms).collect();
        assert_eq!(times, [1_000, 990, 1_000_000]);
    }
}

#[test]
fn we_write_the_bytes_that_java_writes() {
    // gzip, lz4 and zstd choose their bytes freely; snappy chooses the same here.
    let fixed = [(Compression::None, NONE), (Compression::Snappy, SNAPPY)];
    for (codec, hex) in fixed
        .into_iter()
        .filter(|(codec, _)| codec.is_compiled_in())
    {
        let sealed = the_same_records().seal().compress(codec).unwrap();
        let ours = Batches::new(Bytes::from(sealed.stamp(ProducerStamp::NONE).concat()));
        let stored: Vec<_> = ours
            .map(|ours| restamp(&ours.unwrap(), 0, 5, None))
            .collect();
        assert_eq!(stored, [bytes(hex)]);
    }
}

#[test]
fn line_23_log_append_time_gives_every_record_the_batchs_max_timestamp() {
    let batch = batch(LOG_APPEND_TIME_TRANSACTIONAL);
    assert_eq!(
        batch.header.attributes.timestamp_type(),
        TimestampType::LogAppendTime
    );
    assert!(batch.header.attributes.is_transactional());
    assert_eq!(batch.control(), Ok(None));
    let records = records(&batch);
    assert_the_same_records(&records, 700);
    assert!(records.iter().all(|record| record.timestamp_ms == 5_000));
}

#[test]
fn a_broker_restamps_as_java_does() {
    let stamp = ProducerStamp {
        producer_id: 4_000,
        producer_epoch: 3,
        base_sequence: 17,
        transactional: true,
    };
    let sent = Bytes::from(the_same_records().seal().stamp(stamp).concat());
    let sent = Batches::new(sent).next().unwrap().unwrap();
    sent.verify_crc().unwrap();
    let stored = restamp(&sent, 700, 5, Some(5_000));
    assert_eq!(stored, bytes(LOG_APPEND_TIME_TRANSACTIONAL));
}

#[test]
fn line_22_the_markers_of_transactions_are_read_and_written_as_java_does() {
    for (kind, hex) in [(ControlKind::Commit, COMMIT), (ControlKind::Abort, ABORT)] {
        let batch = batch(hex);
        assert_eq!(batch.control(), Ok(Some(kind)));
        assert_eq!(batch.header.producer_id, 4_000);
        let marker = EndMarker {
            kind,
            producer_id: 4_000,
            producer_epoch: 3,
            coordinator_epoch: 9,
        };
        assert_eq!(marker.encode(42, 5, 1_234), bytes(hex));
    }
    assert_eq!(
        batch(LEADER_CHANGE).control(),
        Ok(Some(ControlKind::Other(2)))
    );
}

#[test]
fn line_23_the_delete_horizon_is_accepted_and_deltas_count_from_it() {
    let batch = batch(COMPACTED_WITH_DELETE_HORIZON);
    assert!(batch.header.attributes.has_delete_horizon());
    assert_eq!(batch.header.base_timestamp, 60_000);
    let records = records(&batch);
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].offset, records[0].timestamp_ms), (101, 1_001));
    assert_eq!(
        (records[0].key.as_deref(), &records[0].value),
        (Some(&b"b"[..]), &None)
    );
}

#[test]
fn line_20_the_position_passes_compacted_and_empty_batches() {
    assert_eq!(
        batch(COMPACTED_WITH_DELETE_HORIZON).header.next_offset(),
        103
    );
    let empty = batch(EMPTY);
    assert_eq!(empty.header.next_offset(), 303);
    assert_eq!(records(&empty), []);
    assert_eq!(batch(COMMIT).header.next_offset(), 43);
}

#[test]
fn line_23_old_formats_are_an_error_of_their_own_as_soon_as_the_magic_is_there() {
    for (magic, hex) in [(0, MAGIC_0), (1, MAGIC_1)] {
        let refused = Some(Err(RecordsError::UnsupportedMagic {
            base_offset: 0,
            magic,
        }));
        let whole = bytes(hex);
        assert_eq!(Batches::new(whole.clone()).next(), refused);
        assert_eq!(Batches::new(whole.slice(..17)).next(), refused);
        let mut cut = Batches::new(whole.slice(..16));
        assert_eq!(cut.next(), None);
        assert_eq!(cut.truncated(), Some((16, Some(whole.len()))));
    }
}
