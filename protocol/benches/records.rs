//! What a record costs, beside the floor of copying and checking its bytes. Items are records.

#![expect(clippy::expect_used, reason = "a bench has nobody to report to")]

use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use tidewatch_protocol::compression::{Codec, Compression, compress, decompress};
use tidewatch_protocol::records::{
    Batch, BatchBuilder, Batches, Header, ProducerStamp, SealedBatch, restamp,
};

const RECORDS: usize = 160;
const BATCH_BYTES: usize = 16 * 1024;
const CODECS: [Compression; 4] = [
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn main() {
    divan::main();
}

/// Keys and values of 100 bytes together, as a collector's hosts might send.
fn samples() -> Vec<(i64, String, String)> {
    (0..RECORDS)
        .map(|i| {
            let key = format!("host-{:05}", i * 7919 % 1000);
            let value = format!("{:.14}", (i * 104_729 % 10_000) as f64 / 100.0 + 1e-9);
            (
                1_700_000_000_000 + i as i64 * 13,
                key,
                format!("{value:_<90}"),
            )
        })
        .collect()
}

fn fill(builder: &mut BatchBuilder, samples: &[(i64, String, String)]) {
    for (timestamp_ms, key, value) in samples {
        builder.append(
            *timestamp_ms,
            Some(key.as_bytes()),
            Some(value.as_bytes()),
            &[],
        );
    }
}

fn sealed() -> SealedBatch {
    let mut builder = BatchBuilder::with_capacity(BATCH_BYTES * 2);
    fill(&mut builder, &samples());
    builder.seal()
}

fn batch() -> Batch {
    let bytes = sealed().stamp(ProducerStamp::NONE).concat();
    Batches::new(Bytes::from(bytes))
        .next()
        .expect("a batch")
        .expect("a whole one")
}

/// Text with the redundancy of real samples: `host value run.sequence` over and over.
fn plain() -> Vec<u8> {
    let line = |i: u64| {
        let noise = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        format!(
            "host-{:03} {}.{noise} 9f3c2a7e41d0b865.{i}.2000\n",
            noise % 300,
            noise % 100
        )
    };
    (0..)
        .flat_map(|i| line(i).into_bytes())
        .take(BATCH_BYTES)
        .collect()
}

#[divan::bench]
fn floor_memcpy_and_crc(bencher: Bencher<'_, '_>) {
    let bytes = batch().bytes;
    let mut copy = Vec::with_capacity(bytes.len());
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        copy.clear();
        copy.extend_from_slice(black_box(&bytes));
        crc32c::crc32c(&copy)
    });
}

#[divan::bench]
fn encode_append(bencher: Bencher<'_, '_>) {
    let samples = samples();
    let mut buffer = Some(Vec::with_capacity(BATCH_BYTES * 2));
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let mut builder = BatchBuilder::from_recycled(buffer.take().unwrap_or_default());
        fill(&mut builder, black_box(&samples));
        let sealed = builder.seal();
        let count = sealed.count();
        buffer = sealed.recycle();
        count
    });
}

#[divan::bench]
fn encode_append_with_a_header(bencher: Bencher<'_, '_>) {
    let samples = samples();
    let headers = [Header {
        key: "tw",
        value: Some(b"9f3c2a7e41d0b865.4711.2000"),
    }];
    let mut buffer = Some(Vec::with_capacity(BATCH_BYTES * 2));
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let mut builder = BatchBuilder::from_recycled(buffer.take().unwrap_or_default());
        for (timestamp_ms, key, value) in black_box(&samples) {
            let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
            builder.append(*timestamp_ms, key, value, &headers);
        }
        let sealed = builder.seal();
        let count = sealed.count();
        buffer = sealed.recycle();
        count
    });
}

#[divan::bench]
fn stamp_a_batch(bencher: Bencher<'_, '_>) {
    let sealed = sealed();
    bencher.bench_local(|| black_box(&sealed).stamp(ProducerStamp::NONE));
}

#[divan::bench]
fn restamp_a_batch_with_the_brokers_clock(bencher: Bencher<'_, '_>) {
    let batch = batch();
    bencher.bench_local(|| restamp(black_box(&batch), 4711, 3, Some(1_700_000_000_000)));
}

#[divan::bench]
fn decode_borrowed(bencher: Bencher<'_, '_>) {
    let batch = batch();
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let mut records = black_box(&batch).records(0).expect("records");
        let mut sum = 0;
        while let Some(record) = records.next_ref() {
            sum += record.expect("a record").value.map_or(0, <[u8]>::len);
        }
        sum
    });
}

#[divan::bench]
fn decode_owned(bencher: Bencher<'_, '_>) {
    let batch = batch();
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let records = black_box(&batch).records(0).expect("records");
        records
            .map(|record| record.expect("a record").value.map_or(0, |v| v.len()))
            .sum::<usize>()
    });
}

#[divan::bench]
fn verify_crc(bencher: Bencher<'_, '_>) {
    let batch = batch();
    bencher
        .counter(ItemsCount::new(RECORDS))
        .bench_local(|| black_box(&batch).verify_crc());
}

#[divan::bench(args = CODECS)]
fn compress_16_kib(bencher: Bencher<'_, '_>, codec: Compression) {
    bench_compress(bencher, codec.into());
}

#[divan::bench(args = [1, 3])]
fn compress_zstd_at(bencher: Bencher<'_, '_>, level: i32) {
    let codec = Codec {
        compression: Compression::Zstd,
        level: Some(level),
    };
    bench_compress(bencher, codec);
}

fn bench_compress(bencher: Bencher<'_, '_>, codec: Codec) {
    let plain = plain();
    let mut out = Vec::new();
    bencher
        .counter(BytesCount::new(plain.len()))
        .bench_local(|| {
            out.clear();
            compress(codec, black_box(&plain), &mut out).expect("compressed");
            out.len()
        });
}

#[divan::bench(args = CODECS)]
fn decompress_16_kib(bencher: Bencher<'_, '_>, codec: Compression) {
    let plain = plain();
    let mut out = Vec::new();
    compress(codec, &plain, &mut out).expect("compressed");
    let packed = Bytes::from(out);
    bencher
        .counter(BytesCount::new(plain.len()))
        .bench_local(|| decompress(codec, black_box(&packed), BATCH_BYTES).expect("plain"));
}
