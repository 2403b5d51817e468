//! OffsetCommit (8), versions 2 to 9, for groups without members.

use super::{Api, Call, Outcome, code_of};
use crate::groups::{Committed, MAX_METADATA_BYTES};
use crate::state::State;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use tidewatch_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use tidewatch_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

impl Api for OffsetCommitRequest {
    fn topics(&self, _state: &State) -> Vec<String> {
        self.topics
            .iter()
            .map(|topic| topic.name.to_string())
            .collect()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<OffsetCommitResponse> {
        let generation = self.generation_id_or_member_epoch;
        let allowed = check(state, call, &self.group_id, generation);
        let group = self.group_id.to_string();
        let topics = self.topics.into_iter().map(|topic| {
            let answers = topic.partitions.into_iter().map(|asked| {
                let index = asked.partition_index;
                let committed = call.on_partition(&topic.name, index, || {
                    allowed?;
                    commit(state, &group, &topic.name, asked)
                });
                OffsetCommitResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(code_of(&committed))
            });
            let answers = answers.collect();
            OffsetCommitResponseTopic::default()
                .with_name(topic.name)
                .with_partitions(answers)
        });
        let topics = topics.collect();
        Outcome::Answer(
            OffsetCommitResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_topics(topics),
        )
    }
}

/// What Kafka answers when the group has no members: a generation or a member id is a stranger's.
pub(super) fn check(
    state: &State,
    call: &Call,
    group: &str,
    generation: i32,
) -> Result<(), ErrorCode> {
    if state.coordinator(group) != Some(call.node) {
        return Err(ErrorCode::NOT_COORDINATOR);
    }
    if generation < 0 {
        return Ok(());
    }
    match state.groups.by_id.contains_key(group) {
        true => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        false => Err(ErrorCode::ILLEGAL_GENERATION),
    }
}

fn commit(
    state: &mut State,
    group: &str,
    topic: &str,
    asked: OffsetCommitRequestPartition,
) -> Result<(), ErrorCode> {
    state.partition(topic, asked.partition_index)?;
    let committed = read_committed_offset(
        asked.committed_offset,
        asked.committed_leader_epoch,
        asked.committed_metadata,
    )?;
    if state
        .groups
        .commit(group, topic, asked.partition_index, committed)
    {
        Ok(())
    } else {
        Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)
    }
}

/// An offset as a request carries it.
pub(super) fn read_committed_offset(
    offset: i64,
    leader_epoch: i32,
    metadata: Option<StrBytes>,
) -> Result<Committed, ErrorCode> {
    let metadata = metadata.map(|text| text.to_string()).unwrap_or_default();
    if metadata.len() > MAX_METADATA_BYTES {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    Ok(Committed {
        offset,
        leader_epoch,
        metadata,
    })
}
