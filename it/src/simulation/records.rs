//! Records of a run: how they are written, and how they are read.

use crate::simulation::check::{RecordName, Violation};
use crate::simulation::trial::cannot;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tidewatch_broker::Cluster;
use tidewatch_client_core::Now;
use tidewatch_client_core::fetch::inbox::{Event, Inbox};
use tidewatch_client_core::producer::accumulator::{Accumulator, RecordRef, Refused};
use tidewatch_client_core::producer::delivery::Delivery;
use tidewatch_protocol::records::{ControlKind, Record};

/// Larger than any batch of a run.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Takes a record into a producer; `None` where it has to be tried again a little later.
pub(super) fn append(
    accumulator: &Arc<Accumulator>,
    now: Now,
    topic: &str,
    partition: i32,
    (key, value): (Option<&str>, &str),
) -> Option<Delivery> {
    let record = RecordRef {
        topic,
        partition: Some(partition),
        timestamp_ms: None,
        key: key.map(str::as_bytes),
        value: Some(value.as_bytes()),
        headers: &[],
    };
    match accumulator.append(now, record) {
        Ok(appended) => Some(appended.delivery),
        Err(Refused::UnknownTopic | Refused::Full) => None,
        Err(refused) => unreachable!("a small record was refused: {refused:?}"),
    }
}

/// Everything that a reader is given by now: partition, offset and name; true if that was something.
pub(super) fn read_names(
    inbox: &Arc<Inbox>,
    mut take: impl FnMut(usize, i64, RecordName),
) -> Result<bool, Violation> {
    let mut context = Context::from_waker(Waker::noop());
    let mut moved = false;
    while let Poll::Ready(event) = inbox.poll_event(&mut context) {
        moved = true;
        let event = event.map_err(|e| Violation(format!("the reader failed: {e}")))?;
        let Event::Records(records) = event else {
            continue;
        };
        let partition = records.topic_partition().partition;
        let partition = usize::try_from(partition).expect("not negative");
        for record in records {
            let record = record.map_err(|e| cannot("read", e))?;
            take(partition, record.offset, name_of(&record)?);
        }
    }
    Ok(moved)
}

/// Who sent a record.
pub(super) fn name_of(record: &Record) -> Result<RecordName, Violation> {
    let name = record.value.as_deref().and_then(RecordName::parse);
    name.ok_or_else(|| Violation(format!("nobody sent the record at {}", record.offset)))
}

/// Every record in a broker's log, committed or not.
pub(super) fn logged(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
) -> Result<Vec<Record>, Violation> {
    let mut logged = Vec::new();
    let batches = cluster.batches(topic, partition);
    for batch in batches.map_err(|e| cannot("look into a log", e))? {
        if !batch.header.attributes.is_control() {
            records_of(batch, &mut logged)?;
        }
    }
    Ok(logged)
}

/// What a broker's log has of committed transactions, in the order of offsets. It takes each
/// producer's records when it meets their marker, and asks no client's code.
pub(super) fn committed(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
) -> Result<Vec<Record>, Violation> {
    let mut committed = Vec::new();
    let mut open: BTreeMap<i64, Vec<Record>> = BTreeMap::new();
    let batches = cluster.batches(topic, partition);
    for batch in batches.map_err(|e| cannot("look into a log", e))? {
        let header = &batch.header;
        if !header.attributes.is_control() {
            let of_producer = open.entry(header.producer_id).or_default();
            records_of(batch, of_producer)?;
            continue;
        }
        let ended = open.remove(&header.producer_id).unwrap_or_default();
        let marker = batch.control().map_err(|e| cannot("read a marker", e))?;
        if marker == Some(ControlKind::Commit) {
            committed.extend(ended);
        }
    }
    committed.sort_by_key(|record| record.offset);
    Ok(committed)
}

fn records_of(
    batch: &tidewatch_protocol::records::Batch,
    found: &mut Vec<Record>,
) -> Result<(), Violation> {
    let records = batch.records(MAX_BATCH_BYTES);
    for record in records.map_err(|e| cannot("read a log", e))? {
        found.push(record.map_err(|e| cannot("read a log", e))?);
    }
    Ok(())
}
