//! ListOffsets and OffsetForLeaderEpoch: offsets by time and by epoch.

use super::script::{START_MS, Script, name, produce, records};
use crate::NodeId;
use tidewatch_protocol::compression::Compression;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tidewatch_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use tidewatch_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use tidewatch_protocol::messages::{ListOffsetsRequest, OffsetForLeaderEpochRequest};

fn list(script: &mut Script, version: i16, timestamp: i64) -> ListOffsetsPartitionResponse {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    script.call(1, version, &request).topics[0].partitions[0].clone()
}

/// t/0 with timestamps 10, 30, 20 (compressed), 40, 40 after the start, in two batches, then one
/// more batch that begins epoch 1.
fn five_and_one() -> Script {
    let mut script = Script::three_nodes();
    let at = |times: &[i64]| {
        times.iter().fold(records(0), |batch, ms| {
            batch.add(START_MS + ms, Some(b"k"), b"v")
        })
    };
    script.produce(at(&[10, 30, 20]).compressed(Compression::Gzip).bytes());
    script.produce(at(&[40, 40]).bytes());
    script
        .cluster
        .move_leader(script.now, "t", 0, NodeId(1))
        .unwrap();
    script.produce(at(&[35]).bytes());
    script
}

#[test]
fn offsets_are_found_by_time() {
    let mut script = five_and_one();
    for (what, timestamp, offset, found_at, epoch) in [
        ("latest", -1, 6, -1, 1),
        ("earliest", -2, 0, -1, 0),
        ("the first of the greatest", -3, 3, START_MS + 40, 0),
        ("earliest local", -4, 0, -1, 0),
        ("latest tiered", -5, -1, -1, -1),
        ("before all", START_MS, 0, START_MS + 10, 0),
        ("exactly", START_MS + 30, 1, START_MS + 30, 0),
        ("between", START_MS + 31, 3, START_MS + 40, 0),
        ("the time of the epoch", 0, 0, START_MS + 10, 0),
        ("after all", START_MS + 41, -1, -1, -1),
    ] {
        let found = list(&mut script, 9, timestamp);
        assert_eq!(found.error_code, 0, "{what}");
        let seen = (found.offset, found.timestamp, found.leader_epoch);
        assert_eq!(seen, (offset, found_at, epoch), "{what}");
    }
}

#[test]
fn line_26_an_empty_partition_has_no_offset_for_a_time() {
    let mut script = Script::three_nodes();
    for (timestamp, offset) in [(-1, 0), (-2, 0), (-3, -1), (START_MS, -1)] {
        assert_eq!(
            list(&mut script, 7, timestamp).offset,
            offset,
            "{timestamp}"
        );
    }
}

#[test]
fn special_times_need_the_version_that_brought_them() {
    let mut script = five_and_one();
    let unsupported = ErrorCode::UNSUPPORTED_VERSION.0;
    for (timestamp, version, code) in [
        (-3, 6, unsupported),
        (-3, 7, 0),
        (-4, 7, unsupported),
        (-4, 8, 0),
        (-5, 8, unsupported),
        (-6, 9, unsupported),
    ] {
        assert_eq!(
            list(&mut script, version, timestamp).error_code,
            code,
            "{timestamp} {version}"
        );
    }
}

#[test]
fn the_latest_offset_is_the_high_watermark() {
    let mut script = Script::three_nodes();
    script.produce(records(2).bytes());
    script.cluster.hold_replication("t", 0).unwrap();
    script.call(1, 12, &produce("t", 0, records(2).bytes()).with_acks(1));
    assert_eq!(list(&mut script, 7, -1).offset, 2);
}

#[test]
fn epochs_end_where_the_next_one_began() {
    let mut script = five_and_one();
    let mut ask = |current: i32, epoch: i32| {
        let partition = OffsetForLeaderPartition::default()
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(name("t"))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let answer = script.call(1, 4, &request).topics[0].partitions[0].clone();
        (answer.error_code, answer.leader_epoch, answer.end_offset)
    };
    assert_eq!(ask(-1, 0), (0, 0, 5));
    assert_eq!(ask(1, 1), (0, 1, 6));
    assert_eq!(ask(1, 2), (0, -1, -1));
    assert_eq!(ask(0, 0), (ErrorCode::FENCED_LEADER_EPOCH.0, -1, -1));
    assert_eq!(ask(2, 0), (ErrorCode::UNKNOWN_LEADER_EPOCH.0, -1, -1));
}
