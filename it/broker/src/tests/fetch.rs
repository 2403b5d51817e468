//! Fetch: what comes back, and when.

use super::script::{Script, fetch, name, only, produce, records};
use crate::{ConnectionId, NodeId, Options};
use bytes::Bytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::fetch_request::FetchPartition;
use tidewatch_protocol::messages::fetch_response::PartitionData;
use tidewatch_protocol::messages::{BrokerId, FetchRequest, MetadataRequest};
use tidewatch_protocol::records::Batches;

/// A fetch of t/0 from its end that waits for `min_bytes` up to 500 ms.
fn long_poll(script: &mut Script, min_bytes: i32) -> ConnectionId {
    let connection = script.connect(1);
    let end = script.cluster.view("t", 0).unwrap().end_offset;
    let request = fetch("t", 0, end)
        .with_max_wait_ms(500)
        .with_min_bytes(min_bytes);
    script.send(connection, 12, &request);
    connection
}

fn taken(script: &mut Script, connection: ConnectionId) -> Option<PartitionData> {
    Some(only(&script.take::<FetchRequest>(connection, 12)?))
}

#[test]
fn a_long_poll_ends_with_the_first_record() {
    let mut script = Script::three_nodes();
    let connection = long_poll(&mut script, 1);
    script.pass_ms(499);
    assert_eq!(taken(&mut script, connection), None);
    script.produce(records(1).bytes());
    let data = taken(&mut script, connection).unwrap();
    assert_eq!((data.error_code, data.high_watermark), (0, 1));
    assert_eq!(data.records.unwrap().len(), records(1).bytes().len());
}

#[test]
fn a_long_poll_ends_empty_when_its_time_is_up() {
    let mut script = Script::three_nodes();
    let connection = long_poll(&mut script, 1);
    script.pass_ms(500);
    let data = taken(&mut script, connection).unwrap();
    assert_eq!((data.error_code, data.records), (0, Some(Bytes::new())));
    assert_eq!(script.cluster.poll_timeout(), None);
}

#[test]
fn a_long_poll_waits_for_as_many_bytes_as_were_asked_for() {
    let mut script = Script::three_nodes();
    let size = records(1).bytes().len();
    let connection = long_poll(&mut script, i32::try_from(2 * size).unwrap());
    script.produce(records(1).bytes());
    assert_eq!(taken(&mut script, connection), None);
    script.produce(records(1).bytes());
    assert_eq!(
        taken(&mut script, connection)
            .unwrap()
            .records
            .unwrap()
            .len(),
        2 * size
    );
}

#[test]
fn a_long_poll_does_not_wait_behind_unreplicated_records() {
    let mut script = Script::three_nodes();
    script.cluster.hold_replication("t", 0).unwrap();
    let connection = long_poll(&mut script, 1);
    script.call(1, 12, &produce("t", 0, records(1).bytes()).with_acks(1));
    assert_eq!(taken(&mut script, connection), None);
    script
        .cluster
        .release_replication(script.now, "t", 0)
        .unwrap();
    script.collect();
    assert!(taken(&mut script, connection).is_some());
}

#[test]
fn what_happens_to_a_partition_ends_a_long_poll() {
    type Act = fn(&mut Script);
    let acts: [(&str, Act, ErrorCode); 2] = [
        (
            "the leader moves",
            |script| {
                script
                    .cluster
                    .move_leader(script.now, "t", 0, NodeId(2))
                    .unwrap()
            },
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ),
        (
            "the topic is deleted",
            |script| assert!(script.cluster.delete_topic(script.now, "t").is_some()),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ),
    ];
    for (what, act, error) in acts {
        let mut script = Script::three_nodes();
        let connection = long_poll(&mut script, 1);
        act(&mut script);
        script.collect();
        let data = taken(&mut script, connection).expect(what);
        assert_eq!(data.error_code, error.0, "{what}");
    }
}

#[test]
fn line_45_requests_behind_a_long_poll_wait_for_it_and_keep_their_order() {
    let mut script = Script::three_nodes();
    let connection = long_poll(&mut script, 1);
    script.send(
        connection,
        12,
        &MetadataRequest::default().with_topics(None),
    );
    script.send(connection, 12, &fetch("t", 0, 0));
    assert!(script.cluster.is_busy(connection));
    assert_eq!(script.take_bytes(connection), None);
    script.pass_ms(500);
    assert!(taken(&mut script, connection).is_some());
    assert!(script.take::<MetadataRequest>(connection, 12).is_some());
    assert!(taken(&mut script, connection).is_some());
    assert!(!script.cluster.is_busy(connection));
}

#[test]
fn a_client_that_is_gone_leaves_no_wait_behind() {
    let mut script = Script::three_nodes();
    let connection = long_poll(&mut script, 1);
    script.cluster.handle_disconnected(connection);
    assert_eq!(script.cluster.poll_timeout(), None);
}

#[test]
fn line_21_a_first_batch_over_the_limits_is_whole_and_a_last_one_is_cut() {
    let mut script = Script::three_nodes();
    let size = records(5).bytes().len();
    script.produce(records(5).bytes());
    script.produce(records(5).bytes());
    let fetched = |script: &mut Script, partition_limit: usize, limit: usize| {
        let mut request = fetch("t", 0, 0).with_max_bytes(i32::try_from(limit).unwrap());
        request.topics[0].partitions[0].partition_max_bytes =
            i32::try_from(partition_limit).unwrap();
        only(&script.call(1, 12, &request)).records.unwrap().len()
    };
    assert_eq!(fetched(&mut script, 1, 1 << 20), size);
    assert_eq!(fetched(&mut script, 1 << 20, 1), size);
    assert_eq!(fetched(&mut script, 0, 0), size);
    assert_eq!(fetched(&mut script, size, 1 << 20), size);
    assert_eq!(fetched(&mut script, size + 30, 1 << 20), size + 30);
    assert_eq!(fetched(&mut script, 1 << 20, 1 << 20), 2 * size);
}

#[test]
fn only_the_first_partition_with_records_may_exceed_the_limits() {
    let mut script = Script::with(Options::default());
    script.topic("t", 3, &[]);
    let size = records(5).bytes().len();
    for partition in [1, 2] {
        script.call(1, 12, &produce("t", partition, records(5).bytes()));
    }
    let mut request = fetch("t", 0, 0).with_max_bytes(10);
    request.topics[0].partitions = (0..3)
        .map(|index| {
            FetchPartition::default()
                .with_partition(index)
                .with_partition_max_bytes(1 << 20)
        })
        .collect();
    let response = script.call(1, 12, &request);
    let sizes: Vec<usize> = response.responses[0]
        .partitions
        .iter()
        .map(|data| data.records.as_ref().unwrap().len())
        .collect();
    assert_eq!(sizes, [0, size, 0]);
}

#[test]
fn line_20_a_fetch_inside_a_batch_begins_with_the_whole_batch() {
    let mut script = Script::three_nodes();
    script.produce(records(5).bytes());
    script.produce(records(5).bytes());
    let set = script.fetch(7).records.unwrap();
    let offsets: Vec<i64> = Batches::new(set)
        .map(|b| b.unwrap().header.base_offset)
        .collect();
    assert_eq!(offsets, [5]);
}

#[test]
fn offsets_outside_the_log_are_out_of_range_and_its_end_is_not() {
    let mut script = Script::three_nodes();
    script.produce(records(5).bytes());
    script.produce(records(5).bytes());
    script
        .cluster
        .delete_records(script.now, "t", 0, 5)
        .unwrap();
    let out = ErrorCode::OFFSET_OUT_OF_RANGE.0;
    for (offset, code) in [(-1, out), (4, out), (5, 0), (10, 0), (11, out)] {
        let data = script.fetch(offset);
        assert_eq!(data.error_code, code, "{offset}");
        assert_eq!(
            data.log_start_offset,
            if code == 0 { 5 } else { -1 },
            "{offset}"
        );
    }
}

#[test]
fn line_25_leader_epochs_are_fenced_in_both_directions() {
    let mut script = Script::three_nodes();
    script
        .cluster
        .move_leader(script.now, "t", 0, NodeId(1))
        .unwrap();
    for (epoch, code) in [
        (-1, ErrorCode::NONE),
        (0, ErrorCode::FENCED_LEADER_EPOCH),
        (1, ErrorCode::NONE),
        (2, ErrorCode::UNKNOWN_LEADER_EPOCH),
    ] {
        let mut request = fetch("t", 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(
            only(&script.call(1, 12, &request)).error_code,
            code.0,
            "epoch {epoch}"
        );
    }
}

#[test]
fn line_25_a_client_whose_log_went_another_way_is_told_where() {
    let mut script = Script::three_nodes();
    script.produce(records(5).bytes());
    script.produce(records(5).bytes());
    script
        .cluster
        .elect_unclean(script.now, "t", 0, NodeId(1), 5)
        .unwrap();
    script.produce(records(1).bytes());
    let ask = |script: &mut Script, offset, epoch| {
        let mut request = fetch("t", 0, offset);
        request.topics[0].partitions[0].last_fetched_epoch = epoch;
        only(&script.call(1, 12, &request))
    };
    let diverging = ask(&mut script, 10, 0);
    assert_eq!(diverging.error_code, 0);
    assert_eq!(
        (
            diverging.diverging_epoch.epoch,
            diverging.diverging_epoch.end_offset
        ),
        (0, 5)
    );
    assert_eq!(diverging.records, Some(Bytes::new()));
    let agreeing = ask(&mut script, 5, 0);
    assert_eq!(agreeing.diverging_epoch.end_offset, -1);
    assert!(!agreeing.records.unwrap().is_empty());
    assert_eq!(
        ask(&mut script, 5, 9).error_code,
        ErrorCode::OFFSET_OUT_OF_RANGE.0
    );
}

#[test]
fn line_26_a_node_that_does_not_lead_says_who_does_from_version_16_on() {
    let mut script = Script::three_nodes();
    let mut request = fetch("t", 0, 0);
    request.topics[0].topic_id = script.cluster.topic_id("t").unwrap();
    for (version, leader, endpoints) in [(12, -1, 0), (15, -1, 0), (16, 1, 1)] {
        let response = script.call(3, version, &request);
        let data = only(&response);
        assert_eq!(data.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.0);
        assert_eq!(
            data.current_leader.leader_id,
            BrokerId(leader),
            "version {version}"
        );
        assert_eq!(
            response.node_endpoints.len(),
            endpoints,
            "version {version}"
        );
    }
}

#[test]
fn line_37_from_version_13_on_topics_go_by_id() {
    let mut script = Script::three_nodes();
    let mut request = fetch("t", 0, 0);
    let unknown = ErrorCode::UNKNOWN_TOPIC_ID.0;
    request.topics[0].topic_id = uuid::Uuid::from_u128(77);
    assert_eq!(only(&script.call(1, 13, &request)).error_code, unknown);
    request.topics[0].topic_id = script.cluster.topic_id("t").unwrap();
    assert_eq!(only(&script.call(1, 13, &request)).error_code, 0);
    let by_name = fetch("nowhere", 0, 0);
    let code = only(&script.call(1, 12, &by_name)).error_code;
    assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
}

#[test]
fn line_51_committed_readers_are_told_the_last_stable_offset_and_no_aborts() {
    let mut script = Script::three_nodes();
    script.produce(records(3).bytes());
    let committed = only(&script.call(1, 12, &fetch("t", 0, 0).with_isolation_level(1)));
    assert_eq!(
        (committed.last_stable_offset, committed.high_watermark),
        (3, 3)
    );
    assert_eq!(committed.aborted_transactions, Some(Vec::new()));
    assert_eq!(script.fetch(0).aborted_transactions, None);
}

#[test]
fn every_version_brings_the_same_records() {
    let mut script = Script::three_nodes();
    script.produce(records(3).bytes());
    let mut request = fetch("t", 0, 0);
    request.topics[0].topic_id = script.cluster.topic_id("t").unwrap();
    let expected = script.fetch(0).records;
    for version in 4..=18 {
        let mut request = request.clone();
        if version < 13 {
            request.topics[0].topic_id = uuid::Uuid::nil();
        } else {
            request.topics[0].topic = name("");
        }
        assert_eq!(
            only(&script.call(1, version, &request)).records,
            expected,
            "{version}"
        );
    }
}
