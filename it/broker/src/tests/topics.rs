//! Topics: metadata, creation, deletion, configuration.

use super::script::{Script, name, records};
use crate::{NodeId, Options};
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use tidewatch_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use tidewatch_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use tidewatch_protocol::messages::delete_topics_request::DeleteTopicState;
use tidewatch_protocol::messages::describe_configs_request::DescribeConfigsResource;
use tidewatch_protocol::messages::describe_topic_partitions_request::TopicRequest;
use tidewatch_protocol::messages::metadata_request::MetadataRequestTopic;
use tidewatch_protocol::messages::metadata_response::MetadataResponseTopic;
use tidewatch_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeTopicPartitionsRequest, MetadataRequest,
};

fn about(topic: &str, create: bool) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
    MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(create)
}

fn metadata(script: &mut Script, version: i16, request: &MetadataRequest) -> MetadataResponseTopic {
    script.call(1, version, request).topics[0].clone()
}

#[test]
fn metadata_tells_brokers_leaders_epochs_and_ids() {
    let mut script = Script::three_nodes();
    for version in 0..=13 {
        let response = script.call(2, version, &about("t", true));
        assert_eq!(response.brokers.len(), 3, "{version}");
        let topic = &response.topics[0];
        let leaders: Vec<i32> = topic.partitions.iter().map(|p| p.leader_id.0).collect();
        assert_eq!((topic.error_code, leaders), (0, vec![1, 2]), "{version}");
        if version >= 7 {
            assert_eq!(topic.partitions[0].leader_epoch, 0);
        }
        if version >= 10 {
            assert_eq!(Some(topic.topic_id), script.cluster.topic_id("t"));
        }
    }
}

#[test]
fn all_topics_are_asked_for_by_null_and_none_by_an_empty_list() {
    let mut script = Script::three_nodes();
    let all = MetadataRequest::default().with_topics(None);
    let none = MetadataRequest::default().with_topics(Some(Vec::new()));
    assert_eq!(script.call(1, 1, &all).topics.len(), 1);
    assert_eq!(script.call(1, 1, &none).topics.len(), 0);
    assert_eq!(
        script.call(1, 0, &none).topics.len(),
        1,
        "version 0 knows no null"
    );
}

#[test]
fn line_48_a_topic_is_created_only_if_broker_and_client_want_it() {
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
    for (what, broker, client, version, created) in [
        ("both", true, true, 12, true),
        ("the client does not", true, false, 12, false),
        ("the broker does not", false, true, 12, false),
        ("a client that cannot say no", true, false, 3, true),
    ] {
        let mut script = Script::with(Options {
            auto_create_topics: broker,
            ..Options::default()
        });
        // The flag is not on the wire before version 4, so it must have its default there.
        let request = about("new", client || version < 4);
        let first = metadata(&mut script, version, &request);
        assert_eq!(
            first.error_code, unknown,
            "{what}: never in the same answer"
        );
        let second = metadata(&mut script, version, &request);
        assert_eq!(second.error_code == 0, created, "{what}");
    }
}

#[test]
fn names_and_ids_that_are_not_there() {
    let mut script = Script::three_nodes();
    let invalid = metadata(&mut script, 12, &about("no spaces", true));
    assert_eq!(invalid.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION.0);

    let by_id = |id| {
        let topic = MetadataRequestTopic::default()
            .with_name(None)
            .with_topic_id(id);
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    let id = script.cluster.topic_id("t").unwrap();
    assert_eq!(metadata(&mut script, 12, &by_id(id)).name, Some(name("t")));
    let unknown = metadata(&mut script, 12, &by_id(uuid::Uuid::from_u128(77)));
    assert_eq!(
        (unknown.error_code, unknown.name),
        (ErrorCode::UNKNOWN_TOPIC_ID.0, None)
    );
}

#[test]
fn line_43_a_partition_without_a_leader_says_so() {
    let mut script = Script::with(Options::with_nodes(3));
    script
        .cluster
        .create_topic(script.now, "alone", 3, 1, &[])
        .unwrap();
    script.cluster.stop_node(script.now, NodeId(3)).unwrap();
    let topic = metadata(&mut script, 12, &about("alone", false));
    let told: Vec<_> = topic
        .partitions
        .iter()
        .map(|p| (p.error_code, p.leader_id.0, p.leader_epoch))
        .collect();
    let none = ErrorCode::LEADER_NOT_AVAILABLE.0;
    assert_eq!(told, [(0, 1, 0), (0, 2, 0), (none, -1, 1)]);
    assert_eq!(topic.partitions[2].offline_replicas, [BrokerId(3)]);
}

fn new(topic: &str) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(2)
        .with_replication_factor(3)
}

fn with_config(topic: CreatableTopic, key: &str, value: &str) -> CreatableTopic {
    let config = CreatableTopicConfig::default()
        .with_name(StrBytes::from_string(key.to_owned()))
        .with_value(Some(StrBytes::from_string(value.to_owned())));
    topic.with_configs(vec![config])
}

fn with_assignment(topic: CreatableTopic, partitions: &[&[i32]]) -> CreatableTopic {
    let assignments = partitions.iter().zip(0..).map(|(nodes, index)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(index)
            .with_broker_ids(nodes.iter().map(|id| BrokerId(*id)).collect())
    });
    let assignments = assignments.collect();
    topic
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(assignments)
}

#[test]
fn topics_are_created_or_refused_as_kafka_would() {
    let at = |topic: &str, partitions, factor| {
        new(topic)
            .with_num_partitions(partitions)
            .with_replication_factor(factor)
    };
    for (what, topic, code) in [
        ("plain", new("a"), ErrorCode::NONE),
        ("defaults", at("a", -1, -1), ErrorCode::NONE),
        ("exists", new("t"), ErrorCode::TOPIC_ALREADY_EXISTS),
        ("no name", new(""), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (
            "no partitions",
            at("a", 0, 1),
            ErrorCode::INVALID_PARTITIONS,
        ),
        (
            "too many partitions",
            at("a", i32::MAX, 1),
            ErrorCode::POLICY_VIOLATION,
        ),
        (
            "more replicas than nodes",
            at("a", 1, 4),
            ErrorCode::INVALID_REPLICATION_FACTOR,
        ),
        (
            "no replicas",
            at("a", 1, 0),
            ErrorCode::INVALID_REPLICATION_FACTOR,
        ),
        (
            "a config",
            with_config(new("a"), "retention.bytes", "5"),
            ErrorCode::NONE,
        ),
        (
            "no such config",
            with_config(new("a"), "colour", "red"),
            ErrorCode::INVALID_CONFIG,
        ),
        (
            "an assignment",
            with_assignment(new("a"), &[&[3, 1], &[2, 3]]),
            ErrorCode::NONE,
        ),
        (
            "an assignment to nobody",
            with_assignment(new("a"), &[&[9]]),
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        ),
        (
            "an assignment to one node twice",
            with_assignment(new("a"), &[&[1, 1]]),
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        ),
    ] {
        for version in [4, 7] {
            let mut script = Script::three_nodes();
            let request = CreateTopicsRequest::default().with_topics(vec![topic.clone()]);
            let answer = script.call(1, version, &request).topics[0].clone();
            assert_eq!(answer.error_code, code.0, "{what}, version {version}");
            assert_eq!(
                answer.error_message.is_some(),
                code != ErrorCode::NONE,
                "{what}"
            );
            let there = script.cluster.topic_id(&topic.name).is_some();
            assert_eq!(there, code.is_ok() || what == "exists", "{what}");
        }
    }
}

#[test]
fn a_created_topic_is_described_in_the_answer_and_a_dry_run_leaves_nothing() {
    let mut script = Script::three_nodes();
    let topic = with_config(new("a"), "cleanup.policy", "compact");
    let request = CreateTopicsRequest::default().with_topics(vec![topic]);
    let dry = script
        .call(1, 7, &request.clone().with_validate_only(true))
        .topics[0]
        .clone();
    assert_eq!((dry.error_code, dry.num_partitions), (0, 2));
    assert_eq!(script.cluster.topic_id("a"), None);

    let made = script.call(1, 7, &request).topics[0].clone();
    assert_eq!((made.num_partitions, made.replication_factor), (2, 3));
    assert_eq!(Some(made.topic_id), script.cluster.topic_id("a"));
    let configs = made.configs.unwrap();
    let policy = configs
        .iter()
        .find(|config| config.name.as_str() == "cleanup.policy")
        .unwrap();
    assert_eq!(policy.value.as_deref(), Some("compact"));

    let twice = CreateTopicsRequest::default().with_topics(vec![new("b"), new("b")]);
    let answer = script.call(1, 7, &twice);
    assert!(
        answer
            .topics
            .iter()
            .all(|topic| topic.error_code == ErrorCode::INVALID_REQUEST.0)
    );
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    let mut script = Script::three_nodes();
    let by_name = DeleteTopicsRequest::default().with_topic_names(vec![name("t"), name("x")]);
    let answer = script.call(1, 5, &by_name);
    let codes: Vec<i16> = answer
        .responses
        .iter()
        .map(|topic| topic.error_code)
        .collect();
    assert_eq!(codes, [0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0]);

    script.topic("t", 1, &[]);
    let id = script.cluster.topic_id("t").unwrap();
    let state = DeleteTopicState::default()
        .with_name(None)
        .with_topic_id(id);
    let by_id = DeleteTopicsRequest::default().with_topics(vec![state]);
    let answer = script.call(1, 6, &by_id);
    assert_eq!(answer.responses[0].name, Some(name("t")));
    let again = script.call(1, 6, &by_id);
    assert_eq!(again.responses[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID.0);
}

#[test]
fn partitions_are_only_ever_added() {
    let mut script = Script::three_nodes();
    let grow = |script: &mut Script, count| {
        let topic = CreatePartitionsTopic::default()
            .with_name(name("t"))
            .with_count(count);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]);
        script.call(1, 3, &request).results[0].error_code
    };
    script.produce(records(3).bytes());
    assert_eq!(grow(&mut script, 2), ErrorCode::INVALID_PARTITIONS.0);
    assert_eq!(grow(&mut script, 4), 0);
    assert_eq!(script.cluster.view("t", 3).unwrap().replicas.len(), 3);
    assert_eq!(script.cluster.view("t", 0).unwrap().end_offset, 3);
}

#[test]
fn records_are_deleted_up_to_an_offset_or_all() {
    let mut script = Script::three_nodes();
    script.produce(records(5).bytes());
    script.produce(records(5).bytes());
    let delete = |script: &mut Script, offset| {
        let partition = DeleteRecordsPartition::default().with_offset(offset);
        let topic = DeleteRecordsTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
        let answer = script.call(1, 2, &request).topics[0].partitions[0].clone();
        (answer.error_code, answer.low_watermark)
    };
    assert_eq!(delete(&mut script, 7), (0, 7));
    assert_eq!(delete(&mut script, 3), (0, 7), "it never goes back");
    assert_eq!(
        delete(&mut script, 11),
        (ErrorCode::OFFSET_OUT_OF_RANGE.0, -1)
    );
    assert_eq!(delete(&mut script, -1), (0, 10));
}

#[test]
fn configs_tell_where_they_come_from() {
    let mut script = Script::with(Options::with_nodes(3));
    script.topic("t", 1, &[("segment.bytes", "1048576")]);
    let describe = |script: &mut Script, topic: &str| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(StrBytes::from_string(topic.to_owned()))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        script.call(1, 4, &request).results[0].clone()
    };
    let result = describe(&mut script, "t");
    let source = |key: &str| {
        let found = result
            .configs
            .iter()
            .find(|config| config.name.as_str() == key);
        found.map(|config| {
            (
                config.value.as_deref().unwrap().to_owned(),
                config.config_source,
            )
        })
    };
    assert_eq!(source("segment.bytes"), Some(("1048576".to_owned(), 1)));
    assert_eq!(source("retention.bytes"), Some(("67108864".to_owned(), 4)));
    assert_eq!(source("retention.ms"), Some(("604800000".to_owned(), 5)));
    let missing = describe(&mut script, "x");
    assert_eq!(missing.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
}

#[test]
fn described_partitions_come_in_pages() {
    let mut script = Script::three_nodes();
    script.topic("u", 3, &[]);
    let mut cursor = None;
    let mut pages = Vec::new();
    loop {
        let mut request =
            DescribeTopicPartitionsRequest::default().with_response_partition_limit(2);
        request.topics = vec![
            TopicRequest::default().with_name(name("u")),
            TopicRequest::default().with_name(name("t")),
        ];
        request.cursor = cursor.take().map(|at: (StrBytes, i32)| {
            tidewatch_protocol::messages::describe_topic_partitions_request::Cursor::default()
                .with_topic_name(at.0.into())
                .with_partition_index(at.1)
        });
        let answer = script.call(1, 0, &request);
        pages.push(
            answer
                .topics
                .iter()
                .flat_map(|topic| {
                    let topic_name = topic.name.clone().unwrap().to_string();
                    topic
                        .partitions
                        .iter()
                        .map(move |p| format!("{topic_name}/{}", p.partition_index))
                })
                .collect::<Vec<_>>(),
        );
        match answer.next_cursor {
            Some(next) => cursor = Some((next.topic_name.0, next.partition_index)),
            None => break,
        }
    }
    assert_eq!(pages, [vec!["t/0", "t/1"], vec!["u/0", "u/1"], vec!["u/2"]]);
}

#[test]
fn a_cluster_describes_itself() {
    let mut script = Script::three_nodes();
    let answer = script.call(3, 1, &DescribeClusterRequest::default());
    assert_eq!(
        (answer.brokers.len(), answer.controller_id),
        (3, BrokerId(1))
    );
    assert_eq!(answer.cluster_id.len(), 22);
    let controllers = DescribeClusterRequest::default().with_endpoint_type(2);
    let refused = script.call(3, 1, &controllers);
    assert_eq!(refused.error_code, ErrorCode::MISMATCHED_ENDPOINT_TYPE.0);
}

#[test]
fn the_same_seed_makes_the_same_ids_and_another_makes_others() {
    let ids = |seed| {
        let mut script = Script::with(Options {
            seed,
            ..Options::with_nodes(3)
        });
        script.topic("t", 1, &[]);
        let id = script.cluster.topic_id("t").unwrap();
        let init = tidewatch_protocol::messages::InitProducerIdRequest::default()
            .with_transactional_id(None);
        let cluster = script
            .call(1, 1, &DescribeClusterRequest::default())
            .cluster_id;
        (id, script.call(1, 4, &init).producer_id, cluster)
    };
    assert_eq!(ids(7), ids(7));
    assert_ne!(ids(7), ids(8));
}
