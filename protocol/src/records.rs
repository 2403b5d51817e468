//! The v2 record batch, both ways (KIP-98; the layout is in Kafka's `DefaultRecordBatch`).

pub mod batch;
pub mod builder;
pub mod control;
mod crc;
pub mod record;
pub mod varint;

pub use batch::{Attributes, Batch, BatchHeader, Batches, RecordsError, TimestampType};
pub use builder::{BatchBuilder, ProducerStamp, SealedBatch, restamp};
pub use control::{ControlKind, EndMarker};
pub use record::{Header, Headers, HeadersRef, Record, RecordRef, Records};

#[cfg(test)]
mod java;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
