//! Committed offsets and coordinators.

use super::script::{Script, name};
use crate::NodeId;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidewatch_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use tidewatch_protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, GroupId, ListGroupsRequest, OffsetCommitRequest,
    OffsetFetchRequest,
};

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

fn commit(partition: i32, offset: i64, metadata: Option<&str>) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(3)
        .with_committed_metadata(metadata.map(text));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group("g"))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

fn coordinator(script: &Script) -> i32 {
    script.cluster.coordinator("g").unwrap().0
}

fn code(script: &mut Script, version: i16, request: &OffsetCommitRequest) -> i16 {
    let node = coordinator(script);
    script.call(node, version, request).topics[0].partitions[0].error_code
}

#[test]
fn every_version_of_commit_keeps_the_offset() {
    let mut script = Script::three_nodes();
    for version in 2..=9 {
        let request = commit(0, i64::from(version) * 10, Some("note"));
        let request = if version < 6 {
            let mut request = request;
            request.topics[0].partitions[0].committed_leader_epoch = -1;
            request
        } else {
            request
        };
        assert_eq!(code(&mut script, version, &request), 0, "{version}");
        let kept = script.cluster.committed("g", "t", 0).unwrap();
        assert_eq!(
            (kept.offset, kept.metadata.as_str()),
            (i64::from(version) * 10, "note")
        );
        assert_eq!(kept.leader_epoch, if version < 6 { -1 } else { 3 });
    }
}

#[test]
fn commits_that_kafka_refuses_are_refused() {
    let mut script = Script::three_nodes();
    let long = "x".repeat(4097);
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
    assert_eq!(code(&mut script, 8, &commit(7, 1, None)), unknown);
    let too_large = ErrorCode::OFFSET_METADATA_TOO_LARGE.0;
    assert_eq!(code(&mut script, 8, &commit(0, 1, Some(&long))), too_large);
    let stranger = commit(0, 1, None).with_generation_id_or_member_epoch(4);
    assert_eq!(
        code(&mut script, 8, &stranger),
        ErrorCode::ILLEGAL_GENERATION.0
    );
    assert_eq!(script.cluster.committed("g", "t", 0), None);

    assert_eq!(code(&mut script, 8, &commit(0, 1, None)), 0);
    assert_eq!(
        code(&mut script, 8, &stranger),
        ErrorCode::UNKNOWN_MEMBER_ID.0
    );
}

#[test]
fn every_shape_of_offset_fetch_tells_what_was_committed() {
    let mut script = Script::three_nodes();
    assert_eq!(code(&mut script, 8, &commit(0, 42, Some("note"))), 0);
    let node = coordinator(&script);
    for version in 1..=7 {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(name("t"))
            .with_partition_indexes(vec![0, 1]);
        let asked = OffsetFetchRequest::default()
            .with_group_id(group("g"))
            .with_topics(Some(vec![topic]));
        let answer = script.call(node, version, &asked);
        let told: Vec<_> = answer.topics[0]
            .partitions
            .iter()
            .map(|p| (p.partition_index, p.committed_offset, p.error_code))
            .collect();
        assert_eq!(told, [(0, 42, 0), (1, -1, 0)], "{version}");
        assert_eq!(
            answer.topics[0].partitions[0].metadata.as_deref(),
            Some("note")
        );
        if version >= 2 {
            let all = script.call(node, version, &asked.with_topics(None));
            assert_eq!(all.topics.len(), 1, "{version}");
            assert_eq!(all.topics[0].partitions.len(), 1, "{version}");
        }
    }
    for version in 8..=9 {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(name("t"))
            .with_partition_indexes(vec![1, 0]);
        let known = OffsetFetchRequestGroup::default()
            .with_group_id(group("g"))
            .with_topics(Some(vec![topic]));
        let all = OffsetFetchRequestGroup::default()
            .with_group_id(group("g"))
            .with_topics(None);
        let asked = OffsetFetchRequest::default().with_groups(vec![known, all]);
        let answer = script.call(node, version, &asked);
        let told = |at: usize| -> Vec<i64> {
            let topics = &answer.groups[at].topics;
            topics[0]
                .partitions
                .iter()
                .map(|p| p.committed_offset)
                .collect()
        };
        assert_eq!((told(0), told(1)), (vec![-1, 42], vec![42]), "{version}");
    }
}

#[test]
fn line_30_only_the_coordinator_answers_and_it_moves_when_its_node_stops() {
    let mut script = Script::three_nodes();
    let find = |script: &mut Script, asked: i32| {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
        script.call(asked, 4, &request).coordinators[0].node_id.0
    };
    script.cluster.move_coordinator("g", NodeId(3));
    assert_eq!(find(&mut script, 1), 3);
    let elsewhere = script.call(1, 8, &commit(0, 1, None));
    let wrong = ErrorCode::NOT_COORDINATOR.0;
    assert_eq!(elsewhere.topics[0].partitions[0].error_code, wrong);
    let asked = OffsetFetchRequest::default()
        .with_group_id(group("g"))
        .with_topics(None);
    assert_eq!(script.call(1, 7, &asked).error_code, wrong);

    assert_eq!(code(&mut script, 8, &commit(0, 1, None)), 0);
    script.cluster.stop_node(script.now, NodeId(3)).unwrap();
    assert_ne!(find(&mut script, 1), 3);
    assert_eq!(script.cluster.committed("g", "t", 0).unwrap().offset, 1);
}

#[test]
fn one_key_at_a_time_before_version_4() {
    let mut script = Script::three_nodes();
    for version in 0..=3 {
        let request = FindCoordinatorRequest::default().with_key(text("g"));
        let answer = script.call(1, version, &request);
        assert_eq!(answer.error_code, 0);
        assert_eq!(answer.node_id.0, coordinator(&script));
    }
    let share = FindCoordinatorRequest::default()
        .with_key(text("g"))
        .with_key_type(2);
    assert_eq!(
        script.call(1, 3, &share).error_code,
        ErrorCode::INVALID_REQUEST.0
    );
}

#[test]
fn groups_are_listed_and_described_by_their_coordinator() {
    let mut script = Script::three_nodes();
    assert_eq!(code(&mut script, 8, &commit(0, 1, None)), 0);
    let node = coordinator(&script);
    let listed: Vec<usize> = (1..=3)
        .map(|node| {
            script
                .call(node, 5, &ListGroupsRequest::default())
                .groups
                .len()
        })
        .collect();
    assert_eq!(listed.iter().sum::<usize>(), 1);
    assert_eq!(listed[usize::try_from(node).unwrap() - 1], 1);

    let describe = |script: &mut Script, id: &str, version: i16| {
        let node = script.cluster.coordinator(id).unwrap().0;
        let request = DescribeGroupsRequest::default().with_groups(vec![group(id)]);
        let described = script.call(node, version, &request).groups[0].clone();
        (described.error_code, described.group_state.to_string())
    };
    assert_eq!(describe(&mut script, "g", 5), (0, "Empty".to_owned()));
    assert_eq!(describe(&mut script, "nobody", 5), (0, "Dead".to_owned()));
    let missing = ErrorCode::GROUP_ID_NOT_FOUND.0;
    assert_eq!(
        describe(&mut script, "nobody", 6),
        (missing, "Dead".to_owned())
    );
}

#[test]
fn the_offsets_of_a_deleted_topic_are_gone() {
    let mut script = Script::three_nodes();
    assert_eq!(code(&mut script, 8, &commit(0, 1, None)), 0);
    script.cluster.delete_topic(script.now, "t");
    assert_eq!(script.cluster.committed("g", "t", 0), None);
}
