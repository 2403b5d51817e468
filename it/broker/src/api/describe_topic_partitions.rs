//! DescribeTopicPartitions (75), version 0 (KIP-966).

use super::metadata::{ids, leader_error};
use super::{Api, Call, Outcome};
use crate::state::{State, wire};
use std::collections::BTreeSet;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use tidewatch_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};

/// Kafka's `max.request.partition.size.limit`.
const MAX_PARTITIONS_PER_ANSWER: usize = 2000;

impl Api for DescribeTopicPartitionsRequest {
    fn topics(&self, _state: &State) -> Vec<String> {
        self.topics
            .iter()
            .map(|topic| topic.name.to_string())
            .collect()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<DescribeTopicPartitionsResponse> {
        let asked: BTreeSet<String> = if self.topics.is_empty() {
            state.topics.keys().cloned().collect()
        } else {
            self.topics
                .iter()
                .map(|topic| topic.name.to_string())
                .collect()
        };
        let limit = usize::try_from(self.response_partition_limit).unwrap_or(0);
        let mut room = limit.clamp(1, MAX_PARTITIONS_PER_ANSWER);
        let cursor = self
            .cursor
            .map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
        let mut response =
            DescribeTopicPartitionsResponse::default().with_throttle_time_ms(call.throttle_ms);
        for name in asked {
            let first = match &cursor {
                Some((topic, _)) if name < *topic => continue,
                Some((topic, index)) if name == *topic => usize::try_from(*index).unwrap_or(0),
                Some(_) | None => 0,
            };
            if room == 0 {
                response.next_cursor = Some(cursor_at(&name, first));
                break;
            }
            let topic = describe(state, call, &name, first, room);
            let told = topic.partitions.len();
            let all = state
                .topics
                .get(&name)
                .map_or(0, |topic| topic.partitions.len());
            response.topics.push(topic);
            room = room.saturating_sub(told);
            let next = first.saturating_add(told);
            if next < all {
                response.next_cursor = Some(cursor_at(&name, next));
                break;
            }
        }
        Outcome::Answer(response)
    }
}

fn cursor_at(topic: &str, partition: usize) -> Cursor {
    Cursor::default()
        .with_topic_name(TopicName(wire(topic)))
        .with_partition_index(i32::try_from(partition).unwrap_or(i32::MAX))
}

fn describe(
    state: &State,
    call: &Call,
    name: &str,
    first: usize,
    room: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let answer =
        DescribeTopicPartitionsResponseTopic::default().with_name(Some(TopicName(wire(name))));
    let found = call.on_topic(name, || {
        state
            .topics
            .get(name)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    });
    let topic = match found {
        Ok(topic) => topic,
        Err(code) => return answer.with_error_code(code.0),
    };
    let partitions = topic.partitions.iter().zip(0..).skip(first).take(room);
    let partitions = partitions.map(|(partition, index)| {
        DescribeTopicPartitionsResponsePartition::default()
            .with_error_code(leader_error(partition).0)
            .with_partition_index(index)
            .with_leader_id(BrokerId(partition.leader.map_or(-1, |node| node.0)))
            .with_leader_epoch(partition.leader_epoch)
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(&partition.in_sync))
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
            .with_offline_replicas(ids(&partition.offline()))
    });
    answer
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}
