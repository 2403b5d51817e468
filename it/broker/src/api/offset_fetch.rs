//! OffsetFetch (9), versions 1 to 9: one group until version 7, several from 8 on (KIP-709).

use super::{Api, Call, Outcome, code_of};
use crate::groups::Committed;
use crate::state::{State, wire};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use tidewatch_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};

const FIRST_VERSION_WITH_GROUPS: i16 = 8;
/// Below it there is no error for the whole group, so every partition carries it.
const FIRST_VERSION_WITH_GROUP_ERROR: i16 = 2;

/// What was asked or found of one topic.
type Asked = (String, Vec<i32>);
type Found = (String, Vec<(i32, Result<Option<Committed>, ErrorCode>)>);

impl Api for OffsetFetchRequest {
    fn topics(&self, _state: &State) -> Vec<String> {
        let single = self
            .topics
            .iter()
            .flatten()
            .map(|topic| topic.name.to_string());
        let several = self
            .groups
            .iter()
            .flat_map(|group| group.topics.iter().flatten());
        single
            .chain(several.map(|topic| topic.name.to_string()))
            .collect()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<OffsetFetchResponse> {
        let response = OffsetFetchResponse::default().with_throttle_time_ms(call.throttle_ms);
        let stable = self.require_stable;
        if call.version >= FIRST_VERSION_WITH_GROUPS {
            let groups = self.groups.into_iter().map(|group| {
                let asked: Option<Vec<Asked>> = group.topics.map(|topics| {
                    let asked = topics.into_iter();
                    asked
                        .map(|topic| (topic.name.to_string(), topic.partition_indexes))
                        .collect()
                });
                let found = look_up(state, call, &group.group_id, stable, asked.as_deref());
                let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
                match found {
                    Ok(topics) => answer.with_topics(topics.into_iter().map(group_topic).collect()),
                    Err(code) => answer.with_error_code(code.0),
                }
            });
            return Outcome::Answer(response.with_groups(groups.collect()));
        }
        let asked: Option<Vec<Asked>> = self.topics.map(|topics| {
            let asked = topics.into_iter();
            asked
                .map(|topic| (topic.name.to_string(), topic.partition_indexes))
                .collect()
        });
        Outcome::Answer(
            match look_up(state, call, &self.group_id, stable, asked.as_deref()) {
                Ok(topics) => response.with_topics(topics.into_iter().map(topic).collect()),
                Err(code) if call.version >= FIRST_VERSION_WITH_GROUP_ERROR => {
                    response.with_error_code(code.0)
                }
                Err(code) => {
                    let unknown = asked
                        .unwrap_or_default()
                        .into_iter()
                        .map(|(name, indexes)| {
                            let found = (
                                name,
                                indexes
                                    .into_iter()
                                    .map(|index| (index, Err(code)))
                                    .collect(),
                            );
                            topic(found)
                        });
                    response.with_topics(unknown.collect())
                }
            },
        )
    }
}

fn look_up(
    state: &State,
    call: &Call,
    group: &str,
    stable: bool,
    asked: Option<&[Asked]>,
) -> Result<Vec<Found>, ErrorCode> {
    call.on_whole(|| {
        if state.coordinator(group) != Some(call.node) {
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        let Some(asked) = asked else {
            let known = state.groups.by_id.get(group).map(|group| &group.offsets);
            let all = known.into_iter().flatten().map(|(topic, offsets)| {
                let offsets = offsets.iter();
                let found = offsets.map(|(index, committed)| {
                    let is_held = state.transactions.holds_offset(group, topic, *index);
                    (
                        *index,
                        unless_held(stable && is_held, Some(committed.clone())),
                    )
                });
                (topic.clone(), found.collect())
            });
            return Ok(all.collect());
        };
        let found = asked.iter().map(|(topic, indexes)| {
            let find = |index: &i32| {
                let is_held = state.transactions.holds_offset(group, topic, *index);
                let committed = state.groups.committed(group, topic, *index).cloned();
                unless_held(stable && is_held, committed)
            };
            (
                topic.clone(),
                indexes.iter().map(|index| (*index, find(index))).collect(),
            )
        });
        Ok(found.collect())
    })
}

/// KIP-447: who asks for stable offsets waits for the transaction that may still change this one.
fn unless_held(held: bool, committed: Option<Committed>) -> Result<Option<Committed>, ErrorCode> {
    match held {
        true => Err(ErrorCode::UNSTABLE_OFFSET_COMMIT),
        false => Ok(committed),
    }
}

/// Nothing committed is offset -1, without an error.
fn or_nothing(found: Result<Option<Committed>, ErrorCode>) -> Committed {
    found.ok().flatten().unwrap_or(Committed {
        offset: -1,
        leader_epoch: -1,
        metadata: String::new(),
    })
}

fn topic((name, partitions): Found) -> OffsetFetchResponseTopic {
    let partitions = partitions.into_iter().map(|(index, found)| {
        let error_code = code_of(&found);
        let committed = or_nothing(found);
        OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(wire(&committed.metadata)))
            .with_error_code(error_code)
    });
    OffsetFetchResponseTopic::default()
        .with_name(TopicName(wire(&name)))
        .with_partitions(partitions.collect())
}

fn group_topic((name, partitions): Found) -> OffsetFetchResponseTopics {
    let partitions = partitions.into_iter().map(|(index, found)| {
        let error_code = code_of(&found);
        let committed = or_nothing(found);
        OffsetFetchResponsePartitions::default()
            .with_error_code(error_code)
            .with_partition_index(index)
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(wire(&committed.metadata)))
    });
    OffsetFetchResponseTopics::default()
        .with_name(TopicName(wire(&name)))
        .with_partitions(partitions.collect())
}
