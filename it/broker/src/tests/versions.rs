//! Every advertised version of every API is answered, with every field set that could be refused
//! at a version that lacks it.

use super::script::{Script, fetch, name, produce, records};
use crate::{Apis, Effect, Match, NodeId, Release, Times};
use std::collections::BTreeSet;
use tidewatch_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use tidewatch_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use tidewatch_protocol::messages::create_topics_request::CreatableTopic;
use tidewatch_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use tidewatch_protocol::messages::delete_topics_request::DeleteTopicState;
use tidewatch_protocol::messages::describe_configs_request::DescribeConfigsResource;
use tidewatch_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tidewatch_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidewatch_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use tidewatch_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use tidewatch_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use tidewatch_protocol::messages::{self, ApiKey, GroupId};
use tidewatch_protocol::{Request, StrBytes};

/// The lowest version that is served, where a lower one is advertised.
fn served_from(api: ApiKey, advertised: i16) -> i16 {
    match api {
        ApiKey::Produce => 3,
        _ => advertised,
    }
}

/// Asks every node in every version that is served.
fn sweep<R: Request>(script: &mut Script, request: impl Fn(i16) -> R) {
    let api = ApiKey::try_from(R::KEY).unwrap();
    let range = Apis::of(Release::V4_3).range(R::KEY).unwrap();
    for version in served_from(api, range.min)..=range.max {
        for node in 1..=3 {
            // `call` panics where the connection is closed instead, or the answer does not decode.
            script.call(node, version, &request(version));
        }
    }
}

/// A topic in epoch 1 with records, a committed offset, and a throttle time in every answer.
fn lived_in() -> Script {
    let mut script = Script::three_nodes();
    script.produce(records(3).bytes());
    script
        .cluster
        .move_leader(script.now, "t", 0, NodeId(1))
        .unwrap();
    script
        .cluster
        .inject(Match::any(), Effect::Throttle(7), Times::Always);
    script
}

fn data_apis(script: &mut Script) -> Vec<ApiKey> {
    let id = script.cluster.topic_id("t").unwrap();
    sweep(script, |version| {
        let mut request = produce("t", 0, records(1).bytes());
        request.topic_data[0].topic_id = if version < 13 { uuid::Uuid::nil() } else { id };
        request
    });
    sweep(script, |version| {
        let mut request = fetch("t", 0, 0);
        request.topics[0].topic_id = if version < 13 { uuid::Uuid::nil() } else { id };
        request
    });
    sweep(script, |_| {
        let partition = ListOffsetsPartition::default().with_timestamp(-1);
        let topic = ListOffsetsTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition]);
        messages::ListOffsetsRequest::default().with_topics(vec![topic])
    });
    sweep(script, |_| {
        let partition = OffsetForLeaderPartition::default();
        let topic = OffsetForLeaderTopic::default()
            .with_topic(name("t"))
            .with_partitions(vec![partition]);
        messages::OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    });
    sweep(script, |_| {
        messages::InitProducerIdRequest::default().with_transactional_id(None)
    });
    sweep(script, |_| {
        let partition = DeleteRecordsPartition::default().with_offset(1);
        let topic = DeleteRecordsTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition]);
        messages::DeleteRecordsRequest::default().with_topics(vec![topic])
    });
    vec![
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::OffsetForLeaderEpoch,
        ApiKey::InitProducerId,
        ApiKey::DeleteRecords,
    ]
}

fn topic_apis(script: &mut Script) -> Vec<ApiKey> {
    sweep(script, |version| {
        let topic = CreatableTopic::default()
            .with_name(name(&format!("made-{version}")))
            .with_num_partitions(1)
            .with_replication_factor(1);
        messages::CreateTopicsRequest::default().with_topics(vec![topic])
    });
    sweep(script, |version| match version {
        ..6 => messages::DeleteTopicsRequest::default().with_topic_names(vec![name("made-2")]),
        _ => {
            let state = DeleteTopicState::default().with_name(Some(name("made-3")));
            messages::DeleteTopicsRequest::default().with_topics(vec![state])
        }
    });
    sweep(script, |version| {
        let count = i32::from(version) + 3;
        let topic = CreatePartitionsTopic::default()
            .with_name(name("t"))
            .with_count(count);
        messages::CreatePartitionsRequest::default().with_topics(vec![topic])
    });
    sweep(script, |_| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(StrBytes::from_static_str("t"));
        messages::DescribeConfigsRequest::default().with_resources(vec![resource])
    });
    sweep(script, |_| {
        messages::MetadataRequest::default().with_topics(Some(Vec::new()))
    });
    sweep(script, |_| messages::DescribeClusterRequest::default());
    sweep(script, |_| {
        messages::DescribeTopicPartitionsRequest::default()
    });
    sweep(script, |_| messages::ApiVersionsRequest::default());
    vec![
        ApiKey::CreateTopics,
        ApiKey::DeleteTopics,
        ApiKey::CreatePartitions,
        ApiKey::DescribeConfigs,
        ApiKey::Metadata,
        ApiKey::DescribeCluster,
        ApiKey::DescribeTopicPartitions,
        ApiKey::ApiVersions,
    ]
}

fn group_apis(script: &mut Script) -> Vec<ApiKey> {
    let group = || GroupId(StrBytes::from_static_str("g"));
    sweep(script, |_| {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition]);
        messages::OffsetCommitRequest::default()
            .with_group_id(group())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic])
    });
    sweep(script, |version| match version {
        1 => messages::OffsetFetchRequest::default().with_group_id(group()),
        2..8 => messages::OffsetFetchRequest::default()
            .with_group_id(group())
            .with_topics(None),
        _ => messages::OffsetFetchRequest::default().with_groups(vec![
            OffsetFetchRequestGroup::default()
                .with_group_id(group())
                .with_topics(None),
        ]),
    });
    sweep(script, |version| match version {
        ..4 => messages::FindCoordinatorRequest::default().with_key(group().0),
        _ => messages::FindCoordinatorRequest::default().with_coordinator_keys(vec![group().0]),
    });
    sweep(script, |_| {
        messages::DescribeGroupsRequest::default().with_groups(vec![group()])
    });
    sweep(script, |_| messages::ListGroupsRequest::default());
    sweep(script, |_| {
        messages::JoinGroupRequest::default().with_group_id(group())
    });
    sweep(script, |_| {
        messages::SyncGroupRequest::default().with_group_id(group())
    });
    sweep(script, |_| {
        messages::HeartbeatRequest::default().with_group_id(group())
    });
    sweep(script, |_| {
        messages::LeaveGroupRequest::default().with_group_id(group())
    });
    vec![
        ApiKey::JoinGroup,
        ApiKey::SyncGroup,
        ApiKey::Heartbeat,
        ApiKey::LeaveGroup,
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
        ApiKey::FindCoordinator,
        ApiKey::DescribeGroups,
        ApiKey::ListGroups,
    ]
}

fn transaction_apis(script: &mut Script) -> Vec<ApiKey> {
    sweep(script, |_| {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![0]);
        messages::AddPartitionsToTxnRequest::default().with_v3_and_below_topics(vec![topic])
    });
    sweep(script, |_| messages::AddOffsetsToTxnRequest::default());
    sweep(script, |_| messages::EndTxnRequest::default());
    sweep(script, |_| {
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(1);
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition]);
        messages::TxnOffsetCommitRequest::default().with_topics(vec![topic])
    });
    vec![
        ApiKey::AddPartitionsToTxn,
        ApiKey::AddOffsetsToTxn,
        ApiKey::EndTxn,
        ApiKey::TxnOffsetCommit,
    ]
}

#[test]
fn every_advertised_version_is_answered_by_every_node() {
    let mut script = lived_in();
    let mut swept = data_apis(&mut script);
    swept.extend(topic_apis(&mut script));
    swept.extend(group_apis(&mut script));
    swept.extend(transaction_apis(&mut script));
    let swept: BTreeSet<i16> = swept.into_iter().map(|api| api as i16).collect();
    let advertised: BTreeSet<i16> = Apis::of(Release::V4_3).iter().map(|(key, _)| key).collect();
    assert_eq!(swept, advertised);
}
