//! Control records: the commit and abort markers of transactions.

use crate::records::batch::{Attributes, BATCH_HEADER_BYTES, BatchHeader};
use crate::records::builder::{self, BatchBuilder};
use bytes::{Buf, Bytes};

/// What a control batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlKind {
    /// The transaction was aborted.
    Abort,
    /// The transaction was committed.
    Commit,
    /// A type that this version does not know.
    Other(i16),
}

impl ControlKind {
    /// From a control record's key: a version, which does not matter yet, and a type (Kafka's
    /// `ControlRecordType`). `None` where the key holds none.
    pub(crate) fn decode(key: Option<&[u8]>) -> Option<Self> {
        let mut key = key?;
        let version = key.try_get_i16().ok()?;
        let kind = key.try_get_i16().ok()?;
        if version < 0 {
            return None;
        }
        Some(match kind {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        })
    }

    fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(id) => id,
        }
    }
}

/// The end of a transaction, as a broker writes it into the partition's log (Kafka's
/// `EndTransactionMarker`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndMarker {
    /// Commit or abort.
    pub kind: ControlKind,
    /// Whose transaction ends.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Epoch of the transaction coordinator that decided it.
    pub coordinator_epoch: i32,
}

impl EndMarker {
    /// The marker's batch, a single record, for the log.
    pub fn encode(&self, base_offset: i64, leader_epoch: i32, timestamp_ms: i64) -> Bytes {
        const VERSION: [u8; 2] = [0, 0];
        let [k0, k1] = self.kind.id().to_be_bytes();
        let [e0, e1, e2, e3] = self.coordinator_epoch.to_be_bytes();
        let [v0, v1] = VERSION;
        let mut builder = BatchBuilder::with_capacity(32);
        // One record of ten bytes always fits.
        let _index = builder.append(
            timestamp_ms,
            Some(&[v0, v1, k0, k1]),
            Some(&[v0, v1, e0, e1, e2, e3]),
            &[],
        );
        let sealed = builder.seal();
        let header = BatchHeader {
            base_offset,
            partition_leader_epoch: leader_epoch,
            attributes: Attributes::default()
                .with_transactional(true)
                .with_control(true),
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: -1,
            ..sealed.header()
        };
        let mut batch = Vec::with_capacity(BATCH_HEADER_BYTES + sealed.records().len());
        batch.extend_from_slice(&builder::encode_header(header, sealed.records_crc()));
        batch.extend_from_slice(sealed.records());
        Bytes::from(batch)
    }
}
