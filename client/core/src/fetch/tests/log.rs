//! Record batches as a broker may hold them: compacted, aborted, emptied, with markers.

use bytes::Bytes;
use tidewatch_protocol::compression::{Compression, compress};
use tidewatch_protocol::records::{Attributes, BatchHeader, TimestampType};

/// Where the CRC stands in a batch, and where what it covers begins.
const CRC_AT: usize = 17;
const CRC_COVERS_FROM: usize = 21;

/// A batch to be written.
#[derive(Debug, Clone)]
pub(super) struct TestBatch {
    pub(super) base_offset: i64,
    pub(super) last_offset_delta: i32,
    /// Offset deltas of the records it still has.
    pub(super) deltas: Vec<i32>,
    pub(super) attributes: Attributes,
    pub(super) producer_id: i64,
    pub(super) leader_epoch: i32,
    /// The type in a control record's key.
    pub(super) marker: i16,
    pub(super) value_bytes: usize,
}

/// A batch of `count` records from `base_offset` on.
pub(super) fn batch(base_offset: i64, count: i32) -> TestBatch {
    TestBatch {
        base_offset,
        last_offset_delta: count - 1,
        deltas: (0..count).collect(),
        attributes: Attributes::default(),
        producer_id: -1,
        leader_epoch: 3,
        marker: 0,
        value_bytes: 10,
    }
}

/// A marker that ends `producer_id`'s transaction.
pub(super) fn marker(offset: i64, producer_id: i64, commit: bool) -> TestBatch {
    let mut batch = batch(offset, 1).transactional(producer_id);
    batch.attributes = batch.attributes.with_control(true);
    batch.marker = i16::from(commit);
    batch
}

impl TestBatch {
    pub(super) fn transactional(mut self, producer_id: i64) -> Self {
        self.attributes = self.attributes.with_transactional(true);
        self.producer_id = producer_id;
        self
    }

    /// Compaction left only these.
    pub(super) fn keeping(mut self, deltas: &[i32]) -> Self {
        self.deltas = deltas.to_vec();
        self
    }

    pub(super) fn compressed(mut self, codec: Compression) -> Self {
        self.attributes = self.attributes.with_compression(codec);
        self
    }

    pub(super) fn with_values_of(mut self, bytes: usize) -> Self {
        self.value_bytes = bytes;
        self
    }

    pub(super) fn with_log_append_time(mut self) -> Self {
        self.attributes = self
            .attributes
            .with_timestamp_type(TimestampType::LogAppendTime);
        self
    }

    pub(super) fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    pub(super) fn offsets(&self) -> impl Iterator<Item = i64> {
        let base_offset = self.base_offset;
        let deltas = self.deltas.iter();
        deltas.map(move |delta| base_offset + i64::from(*delta))
    }

    pub(super) fn bytes(&self) -> Bytes {
        let mut records = Vec::new();
        for delta in &self.deltas {
            self.write_record(*delta, &mut records);
        }
        let mut packed = Vec::new();
        match self.attributes.compression().unwrap_or_default() {
            Compression::None => packed = records,
            codec => compress(codec, &records, &mut packed).unwrap(),
        }
        let header = BatchHeader {
            base_offset: self.base_offset,
            batch_length: i32::try_from(49 + packed.len()).unwrap(),
            partition_leader_epoch: self.leader_epoch,
            magic: 2,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: self.last_offset_delta,
            base_timestamp: 1_000,
            max_timestamp: 9_000,
            producer_id: self.producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            record_count: i32::try_from(self.deltas.len()).unwrap(),
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend(packed);
        let crc = crc32c::crc32c(&bytes[CRC_COVERS_FROM..]);
        bytes[CRC_AT..CRC_COVERS_FROM].copy_from_slice(&crc.to_be_bytes());
        bytes.into()
    }

    fn write_record(&self, delta: i32, out: &mut Vec<u8>) {
        let mut body = vec![0];
        write_varint(i64::from(delta), &mut body);
        write_varint(i64::from(delta), &mut body);
        if self.attributes.is_control() {
            write_varint(4, &mut body);
            body.extend([0, 0]);
            body.extend(self.marker.to_be_bytes());
            write_varint(6, &mut body);
            body.extend([0; 6]);
        } else {
            write_varint(-1, &mut body);
            write_varint(i64::try_from(self.value_bytes).unwrap(), &mut body);
            body.resize(body.len() + self.value_bytes, b'v');
        }
        write_varint(0, &mut body);
        write_varint(i64::try_from(body.len()).unwrap(), out);
        out.extend(body);
    }
}

fn write_varint(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f | 0x80) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Batches one after the other.
pub(super) fn set(batches: &[TestBatch]) -> Bytes {
    let mut bytes = Vec::new();
    for batch in batches {
        bytes.extend_from_slice(&batch.bytes());
    }
    bytes.into()
}
