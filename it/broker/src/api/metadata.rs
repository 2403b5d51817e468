//! Metadata (3), versions 0 to 13.

use super::{Api, Call, Outcome};
use crate::options::NodeId;
use crate::state::{NewTopic, State, wire};
use crate::topic::{Partition, Topic, is_valid_name};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::metadata_request::MetadataRequestTopic;
use tidewatch_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use tidewatch_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use uuid::Uuid;

impl Api for MetadataRequest {
    fn topics(&self, state: &State) -> Vec<String> {
        let named = |topic: &MetadataRequestTopic| match &topic.name {
            Some(name) => Some(name.to_string()),
            None => state.name_of(topic.topic_id).map(str::to_owned),
        };
        match &self.topics {
            Some(topics) => topics.iter().filter_map(named).collect(),
            None => state.topics.keys().cloned().collect(),
        }
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<MetadataResponse> {
        // Below version 4 a client cannot say no.
        let may_create = self.allow_auto_topic_creation || call.version < 4;
        let wants_all = match &self.topics {
            None => true,
            Some(topics) => topics.is_empty() && call.version == 0,
        };
        let topics = if wants_all {
            let names: Vec<String> = state.topics.keys().cloned().collect();
            names
                .iter()
                .map(|name| by_name(state, call, name, false))
                .collect()
        } else {
            let asked = self.topics.unwrap_or_default();
            asked
                .iter()
                .map(|topic| find(state, call, topic, may_create))
                .collect()
        };
        let brokers = state.brokers().map(|endpoint| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(endpoint.node.0))
                .with_host(wire(&endpoint.host))
                .with_port(i32::from(endpoint.port))
        });
        Outcome::Answer(
            MetadataResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_brokers(brokers.collect())
                .with_cluster_id(Some(wire(&state.cluster_id)))
                .with_controller_id(BrokerId(state.controller()))
                .with_topics(topics),
        )
    }
}

fn find(
    state: &mut State,
    call: &Call,
    asked: &MetadataRequestTopic,
    may_create: bool,
) -> MetadataResponseTopic {
    if let Some(name) = &asked.name {
        return by_name(state, call, name, may_create);
    }
    match state.name_of(asked.topic_id).map(str::to_owned) {
        Some(name) => by_name(state, call, &name, false),
        None => MetadataResponseTopic::default()
            .with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.0)
            // Before version 12 the name cannot be null.
            .with_name((call.version < 12).then(TopicName::default))
            .with_topic_id(asked.topic_id),
    }
}

fn by_name(state: &mut State, call: &Call, name: &str, may_create: bool) -> MetadataResponseTopic {
    let found = call.on_topic(name, || {
        if !state.topics.contains_key(name) {
            return Err(missing(state, name, may_create));
        }
        state
            .topics
            .get(name)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    });
    let answer = MetadataResponseTopic::default().with_name(Some(TopicName(wire(name))));
    match found {
        Ok(topic) => describe(answer, topic),
        Err(code) => answer.with_error_code(code.0).with_topic_id(Uuid::nil()),
    }
}

/// Kafka creates the topic in the background, so this answer does not have it yet.
fn missing(state: &mut State, name: &str, may_create: bool) -> ErrorCode {
    if !is_valid_name(name) {
        return ErrorCode::INVALID_TOPIC_EXCEPTION;
    }
    if may_create && state.options.auto_create_topics {
        let partitions = usize::try_from(state.options.default_partitions).unwrap_or(1);
        let factor = usize::try_from(state.options.default_replication_factor).unwrap_or(1);
        let allowed = state
            .check_new_name(name)
            .and_then(|()| state.check_room_for(partitions));
        match allowed.and_then(|()| state.topic_config([])) {
            Ok(config) => {
                let assignment = state.assign(partitions, factor);
                state.create_topic(NewTopic {
                    name: name.to_owned(),
                    assignment,
                    config,
                });
            }
            Err(refused) => return refused.code,
        }
    }
    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
}

fn describe(answer: MetadataResponseTopic, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| {
        MetadataResponsePartition::default()
            .with_error_code(leader_error(partition).0)
            .with_partition_index(index)
            .with_leader_id(BrokerId(partition.leader.map_or(-1, |node| node.0)))
            .with_leader_epoch(partition.leader_epoch)
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(&partition.in_sync))
            .with_offline_replicas(ids(&partition.offline()))
    });
    answer
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

pub(super) fn leader_error(partition: &Partition) -> ErrorCode {
    match partition.leader {
        Some(_) => ErrorCode::NONE,
        None => ErrorCode::LEADER_NOT_AVAILABLE,
    }
}

pub(super) fn ids(nodes: &[NodeId]) -> Vec<BrokerId> {
    nodes.iter().map(|node| BrokerId(node.0)).collect()
}
