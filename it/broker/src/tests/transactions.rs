//! Transactions: who may go on, what belongs to one, how it ends, and what readers see of it.

use super::script::{Script, fetch, name, produce, records};
use crate::{NodeId, Options};
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use tidewatch_protocol::messages::fetch_response::PartitionData;
use tidewatch_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use tidewatch_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use tidewatch_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, GroupId,
    InitProducerIdRequest, OffsetFetchRequest, ProducerId, TransactionalId, TxnOffsetCommitRequest,
};
use tidewatch_protocol::records::ControlKind;

/// A transactional id whose coordinator is node 1, and what its producer is called now.
struct Writer {
    script: Script,
    id: i64,
    epoch: i16,
    sequence: i32,
    /// As clients speak under transaction.version 2.
    version_2: bool,
}

const TIMEOUT_MS: i32 = 10_000;

fn transactional_id() -> TransactionalId {
    TransactionalId(StrBytes::from_static_str("x"))
}

fn group() -> GroupId {
    GroupId(StrBytes::from_static_str("g"))
}

impl Writer {
    fn new(version_2: bool) -> Self {
        Self::with(Options::with_nodes(3), version_2)
    }

    fn with(options: Options, version_2: bool) -> Self {
        let mut script = Script::with(options);
        script.topic("t", 2, &[]);
        script.cluster.move_coordinator("x", NodeId(1));
        script.cluster.move_coordinator("g", NodeId(1));
        let mut writer = Self {
            script,
            id: -1,
            epoch: -1,
            sequence: 0,
            version_2,
        };
        assert_eq!(writer.init(-1, -1), ErrorCode::NONE);
        writer
    }

    fn init(&mut self, id: i64, epoch: i16) -> ErrorCode {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id()))
            .with_transaction_timeout_ms(TIMEOUT_MS)
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch);
        let answer = self.script.call(1, 5, &request);
        if answer.error_code == 0 {
            (self.id, self.epoch) = (answer.producer_id.0, answer.producer_epoch);
            self.sequence = 0;
        }
        ErrorCode(answer.error_code)
    }

    /// One record to t/0.
    fn write(&mut self) -> ErrorCode {
        let batch = records(1)
            .by(self.id, self.epoch, self.sequence)
            .transactional();
        let version = if self.version_2 { 12 } else { 11 };
        let request =
            produce("t", 0, batch.bytes()).with_transactional_id(Some(transactional_id()));
        let answer = self.script.call(1, version, &request);
        let code = ErrorCode(answer.responses[0].partition_responses[0].error_code);
        self.sequence += i32::from(code == ErrorCode::NONE);
        code
    }

    fn add(&mut self) -> ErrorCode {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id())
            .with_v3_and_below_producer_id(ProducerId(self.id))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let answer = self.script.call(1, 3, &request);
        let results = &answer.results_by_topic_v3_and_below[0].results_by_partition;
        ErrorCode(results[0].partition_error_code)
    }

    fn commit_offset(&mut self, offset: i64) -> ErrorCode {
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional_id())
            .with_group_id(group())
            .with_producer_id(ProducerId(self.id))
            .with_producer_epoch(self.epoch)
            .with_topics(vec![topic]);
        let version = if self.version_2 { 5 } else { 4 };
        let answer = self.script.call(1, version, &request);
        ErrorCode(answer.topics[0].partitions[0].error_code)
    }

    fn end(&mut self, committed: bool) -> ErrorCode {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id())
            .with_producer_id(ProducerId(self.id))
            .with_producer_epoch(self.epoch)
            .with_committed(committed);
        let version = if self.version_2 { 5 } else { 4 };
        let answer = self.script.call(1, version, &request);
        if answer.error_code == 0 && self.version_2 {
            (self.id, self.epoch) = (answer.producer_id.0, answer.producer_epoch);
            self.sequence = 0;
        }
        ErrorCode(answer.error_code)
    }

    fn committed(&self) -> Option<i64> {
        let committed = self.script.cluster.committed("g", "t", 0);
        committed.map(|committed| committed.offset)
    }

    fn offset_fetch(&mut self, require_stable: bool) -> (ErrorCode, i64) {
        let of_group = OffsetFetchRequestGroup::default()
            .with_group_id(group())
            .with_topics(Some(vec![
            tidewatch_protocol::messages::offset_fetch_request::OffsetFetchRequestTopics::default()
                .with_name(name("t"))
                .with_partition_indexes(vec![0]),
        ]));
        let request = OffsetFetchRequest::default()
            .with_groups(vec![of_group])
            .with_require_stable(require_stable);
        let answer = self.script.call(1, 9, &request);
        let partition = &answer.groups[0].topics[0].partitions[0];
        (ErrorCode(partition.error_code), partition.committed_offset)
    }

    fn read(&mut self, read_committed: bool) -> PartitionData {
        let request = fetch("t", 0, 0).with_isolation_level(i8::from(read_committed));
        super::script::only(&self.script.call(1, 12, &request))
    }

    fn markers(&self) -> Vec<(ControlKind, i16)> {
        let batches = self.script.cluster.batches("t", 0).unwrap();
        let marker = |batch: &tidewatch_protocol::records::Batch| {
            let kind = batch.control().unwrap()?;
            Some((kind, batch.header.producer_epoch))
        };
        batches.filter_map(marker).collect()
    }
}

#[test]
fn a_commit_lets_readers_of_committed_data_pass_and_an_abort_names_what_to_skip() {
    let mut writer = Writer::new(true);
    assert_eq!(writer.write(), ErrorCode::NONE);
    let open = writer.read(true);
    assert_eq!((open.last_stable_offset, open.high_watermark), (0, 1));
    assert_eq!(open.records.unwrap().len(), 0);

    assert_eq!(writer.end(true), ErrorCode::NONE);
    assert_eq!(writer.read(true).last_stable_offset, 2);
    let aborted = writer.id;
    assert_eq!(writer.write(), ErrorCode::NONE);
    assert_eq!(writer.end(false), ErrorCode::NONE);
    let read = writer.read(true);
    assert_eq!(read.last_stable_offset, 4);
    let skipped = read.aborted_transactions.unwrap();
    assert_eq!(
        (
            skipped.len(),
            skipped[0].producer_id.0,
            skipped[0].first_offset
        ),
        (1, aborted, 2)
    );
    assert_eq!(writer.read(false).aborted_transactions, None);
    // Each transaction of version 2 has an epoch of its own, which its marker closes.
    assert_eq!(
        writer.markers(),
        [(ControlKind::Commit, 1), (ControlKind::Abort, 2)]
    );
}

#[test]
fn version_1_wants_partitions_added_before_and_keeps_the_epoch() {
    let mut writer = Writer::new(false);
    assert_eq!(writer.write(), ErrorCode::TRANSACTION_ABORTABLE);
    assert_eq!(writer.add(), ErrorCode::NONE);
    assert_eq!(writer.write(), ErrorCode::NONE);
    assert_eq!(writer.end(true), ErrorCode::NONE);
    // A retry of what was carried out, and its opposite.
    assert_eq!(writer.end(true), ErrorCode::NONE);
    assert_eq!(writer.end(false), ErrorCode::INVALID_TXN_STATE);
    assert_eq!(writer.add(), ErrorCode::NONE);
    assert_eq!(writer.write(), ErrorCode::NONE);
    assert_eq!(writer.end(false), ErrorCode::NONE);
    assert_eq!(
        writer.markers(),
        [(ControlKind::Commit, 0), (ControlKind::Abort, 0)]
    );
}

#[test]
fn a_lost_answer_to_end_txn_is_given_again() {
    let mut writer = Writer::new(true);
    writer.write();
    let before = (writer.id, writer.epoch);
    assert_eq!(writer.end(true), ErrorCode::NONE);
    let after = (writer.id, writer.epoch);
    assert_eq!(after, (before.0, before.1 + 1));
    (writer.id, writer.epoch) = before;
    assert_eq!(writer.end(true), ErrorCode::NONE);
    assert_eq!((writer.id, writer.epoch), after);
    assert_eq!(writer.markers().len(), 1);

    // The opposite of a retry is no retry.
    (writer.id, writer.epoch) = before;
    assert_eq!(writer.end(false), ErrorCode::INVALID_TXN_STATE);
}

#[test]
fn a_successor_fences_and_aborts_what_was_open() {
    let mut writer = Writer::new(true);
    writer.write();
    let old = (writer.id, writer.epoch);
    assert_eq!(writer.init(-1, -1), ErrorCode::CONCURRENT_TRANSACTIONS);
    assert_eq!(writer.init(-1, -1), ErrorCode::NONE);
    let new = (writer.id, writer.epoch);
    assert_eq!(new, (old.0, old.1 + 2));
    assert_eq!(writer.markers(), [(ControlKind::Abort, old.1 + 1)]);

    (writer.id, writer.epoch) = old;
    writer.sequence = 1;
    assert_eq!(writer.write(), ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(writer.end(true), ErrorCode::PRODUCER_FENCED);
    assert_eq!(writer.add(), ErrorCode::PRODUCER_FENCED);
    assert_eq!(writer.commit_offset(1), ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(writer.init(old.0, old.1), ErrorCode::PRODUCER_FENCED);
    writer.id += 1;
    assert_eq!(writer.end(true), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
}

#[test]
fn a_producer_that_says_who_it_is_gets_the_next_epoch_once() {
    let mut writer = Writer::new(true);
    let (id, epoch) = (writer.id, writer.epoch);
    assert_eq!(writer.init(id, epoch), ErrorCode::NONE);
    assert_eq!((writer.id, writer.epoch), (id, epoch + 1));
    // The same request again: its answer was lost.
    assert_eq!(writer.init(id, epoch), ErrorCode::NONE);
    assert_eq!((writer.id, writer.epoch), (id, epoch + 1));
}

#[test]
fn until_the_markers_are_written_everything_waits() {
    let mut options = Options::with_nodes(3);
    options.transaction_marker_delay_us = 50_000;
    let mut writer = Writer::with(options, true);
    writer.write();
    let before = (writer.id, writer.epoch);
    assert_eq!(writer.end(true), ErrorCode::NONE);
    assert_eq!(writer.write(), ErrorCode::CONCURRENT_TRANSACTIONS);
    assert_eq!(writer.read(true).last_stable_offset, 0);
    assert_eq!(writer.init(-1, -1), ErrorCode::CONCURRENT_TRANSACTIONS);
    let after = (writer.id, writer.epoch);
    (writer.id, writer.epoch) = before;
    assert_eq!(writer.end(true), ErrorCode::CONCURRENT_TRANSACTIONS);

    writer.script.pass_ms(50);
    (writer.id, writer.epoch) = after;
    assert_eq!(writer.read(true).last_stable_offset, 2);
    assert_eq!(writer.write(), ErrorCode::NONE);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut writer = Writer::new(true);
    writer.write();
    let timeout = u64::try_from(TIMEOUT_MS).unwrap();
    writer.script.pass_ms(timeout - 1);
    assert!(writer.script.cluster.has_open_transaction("x"));
    writer.script.pass_ms(1);
    assert!(!writer.script.cluster.has_open_transaction("x"));
    assert_eq!(writer.markers(), [(ControlKind::Abort, 1)]);
    assert_eq!(writer.end(true), ErrorCode::PRODUCER_FENCED);
}

#[test]
fn offsets_are_held_back_until_the_end() {
    for version_2 in [true, false] {
        let mut writer = Writer::new(version_2);
        if !version_2 {
            assert_eq!(writer.commit_offset(5), ErrorCode::TRANSACTION_ABORTABLE);
            let request = AddOffsetsToTxnRequest::default()
                .with_transactional_id(transactional_id())
                .with_producer_id(ProducerId(writer.id))
                .with_producer_epoch(writer.epoch)
                .with_group_id(group());
            assert_eq!(writer.script.call(1, 3, &request).error_code, 0);
        }
        assert_eq!(writer.commit_offset(5), ErrorCode::NONE);
        assert_eq!(writer.committed(), None);
        assert_eq!(
            writer.offset_fetch(true),
            (ErrorCode::UNSTABLE_OFFSET_COMMIT, -1)
        );
        assert_eq!(writer.offset_fetch(false), (ErrorCode::NONE, -1));
        assert_eq!(writer.end(true), ErrorCode::NONE);
        assert_eq!(writer.committed(), Some(5));
        assert_eq!(writer.offset_fetch(true), (ErrorCode::NONE, 5));
    }
}

#[test]
fn offsets_of_an_aborted_transaction_are_forgotten() {
    let mut writer = Writer::new(true);
    assert_eq!(writer.commit_offset(5), ErrorCode::NONE);
    assert_eq!(writer.end(false), ErrorCode::NONE);
    assert_eq!(writer.committed(), None);
    assert_eq!(writer.offset_fetch(true), (ErrorCode::NONE, -1));
}

#[test]
fn markers_wait_for_a_leader_and_for_its_followers() {
    let mut writer = Writer::new(true);
    writer.write();
    writer.script.cluster.hold_replication("t", 0).unwrap();
    assert_eq!(writer.end(true), ErrorCode::NONE);
    assert!(writer.script.cluster.has_open_transaction("x"));
    // The new leader never got the marker: it is written again.
    let now = writer.script.now;
    writer
        .script
        .cluster
        .move_leader(now, "t", 0, NodeId(2))
        .unwrap();
    assert!(!writer.script.cluster.has_open_transaction("x"));
    assert_eq!(writer.markers(), [(ControlKind::Commit, 1)]);
    assert_eq!(writer.script.cluster.last_stable_offset("t", 0), Ok(2));
}

#[test]
fn the_wrong_node_and_strangers_are_told_so() {
    let mut writer = Writer::new(true);
    writer.script.cluster.move_coordinator("x", NodeId(2));
    assert_eq!(writer.end(true), ErrorCode::NOT_COORDINATOR);
    assert_eq!(writer.init(-1, -1), ErrorCode::NOT_COORDINATOR);
    writer.script.cluster.move_coordinator("x", NodeId(1));
    assert_eq!(writer.end(true), ErrorCode::INVALID_TXN_STATE);
    writer.script.cluster.forget_transactional_id("x");
    assert_eq!(writer.end(true), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    assert_eq!(writer.write(), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
}
