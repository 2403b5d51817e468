//! What a leader checks before it appends a producer's batch (Kafka's `ProduceRequest.validateRecords`,
//! `UnifiedLog.analyzeAndValidateRecords` and `LogValidator`, in their order).

use crate::topic::TopicConfig;
use bytes::Bytes;
use tidewatch_protocol::compression::Compression;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::records::{Batch, Batches, TimestampType};

/// What one batch may decompress to. Kafka has no such bound.
pub(crate) const MAX_DECOMPRESSED_BYTES: usize = 100 << 20;
/// KIP-110: zstd is refused below this version of Produce.
const FIRST_ZSTD_VERSION: i16 = 7;
/// Record errors listed in one response.
const MAX_RECORD_ERRORS: usize = 100;

/// Why a batch was not appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) code: ErrorCode,
    pub(crate) message: Option<String>,
    /// Index in the batch, and what is wrong with that record (KIP-467).
    pub(crate) records: Vec<(i32, String)>,
}

impl From<ErrorCode> for Rejected {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
            records: Vec::new(),
        }
    }
}

fn rejected(code: ErrorCode, message: impl Into<String>) -> Rejected {
    Rejected {
        code,
        message: Some(message.into()),
        records: Vec::new(),
    }
}

fn invalid(message: impl Into<String>) -> Rejected {
    rejected(ErrorCode::INVALID_RECORD, message)
}

/// The one batch of a Produce request's partition, if a leader would take it.
pub(crate) fn validate(
    records: Option<Bytes>,
    version: i16,
    config: &TopicConfig,
    wall_ms: i64,
) -> Result<Batch, Rejected> {
    let batch = only_batch(records.unwrap_or_default(), version)?;
    if batch.header.base_offset != 0 {
        return Err(invalid("the base offset of a produced batch must be 0"));
    }
    if batch.bytes.len() > config.max_message_bytes() {
        let size = batch.bytes.len();
        let limit = config.max_message_bytes();
        let message = format!("the batch of {size} bytes exceeds max.message.bytes of {limit}");
        return Err(rejected(ErrorCode::MESSAGE_TOO_LARGE, message));
    }
    batch
        .verify_crc()
        .map_err(|error| rejected(ErrorCode::CORRUPT_MESSAGE, error.to_string()))?;
    check_header(&batch)?;
    check_records(&batch, config, wall_ms)?;
    Ok(batch)
}

fn only_batch(records: Bytes, version: i16) -> Result<Batch, Rejected> {
    let mut batches = Batches::new(records);
    let batch = match batches.next() {
        Some(Ok(batch)) => batch,
        Some(Err(error)) => return Err(invalid(error.to_string())),
        None => return Err(invalid("a produced partition must hold one record batch")),
    };
    let codec = batch
        .header
        .attributes
        .compression()
        .map_err(|codec| invalid(format!("the batch names the unknown codec {codec}")))?;
    if codec == Compression::Zstd && version < FIRST_ZSTD_VERSION {
        let message = format!("Produce version {version} does not allow zstd");
        return Err(rejected(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, message));
    }
    if batches.next().is_some() {
        return Err(invalid(
            "a produced partition must hold exactly one record batch",
        ));
    }
    Ok(batch)
}

fn check_header(batch: &Batch) -> Result<(), Rejected> {
    let header = &batch.header;
    if header.record_count <= 0
        || header.last_offset_delta.checked_add(1) != Some(header.record_count)
    {
        let (count, delta) = (header.record_count, header.last_offset_delta);
        return Err(invalid(format!(
            "the batch says {count} records and a last offset delta of {delta}"
        )));
    }
    if header.attributes.is_control() {
        return Err(invalid("clients may not write control records"));
    }
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(invalid("a producer may not set LogAppendTime"));
    }
    if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return Err(invalid(
            "a batch with a producer id needs an epoch and a sequence",
        ));
    }
    if header.attributes.is_transactional() && header.producer_id < 0 {
        return Err(invalid("a transactional batch needs a producer id"));
    }
    Ok(())
}

fn check_records(batch: &Batch, config: &TopicConfig, wall_ms: i64) -> Result<(), Rejected> {
    let records = batch
        .records(MAX_DECOMPRESSED_BYTES)
        .map_err(|error| invalid(error.to_string()))?;
    let mut count = 0_i32;
    let (mut wrong_times, mut keyless) = (Vec::new(), Vec::new());
    for record in records {
        let record = record.map_err(|error| invalid(error.to_string()))?;
        let expected = batch.header.base_offset.saturating_add(i64::from(count));
        if record.offset != expected {
            let found = record.offset;
            return Err(invalid(format!(
                "record {count} has offset {found}, not {expected}"
            )));
        }
        if !config.is_timestamp_allowed(record.timestamp_ms, wall_ms) {
            wrong_times.push((
                count,
                format!("timestamp {} is out of range", record.timestamp_ms),
            ));
        }
        if config.is_compacted() && record.key.is_none() {
            keyless.push((
                count,
                "a compacted topic takes no record without a key".to_owned(),
            ));
        }
        count = count.saturating_add(1);
    }
    if count != batch.header.record_count {
        let claimed = batch.header.record_count;
        return Err(invalid(format!(
            "the batch says {claimed} records and holds {count}"
        )));
    }
    refuse_records(ErrorCode::INVALID_TIMESTAMP, wrong_times)?;
    refuse_records(ErrorCode::INVALID_RECORD, keyless)
}

fn refuse_records(code: ErrorCode, mut records: Vec<(i32, String)>) -> Result<(), Rejected> {
    if records.is_empty() {
        return Ok(());
    }
    let message = Some(format!(
        "{} records of the batch were refused",
        records.len()
    ));
    records.truncate(MAX_RECORD_ERRORS);
    Err(Rejected {
        code,
        message,
        records,
    })
}
