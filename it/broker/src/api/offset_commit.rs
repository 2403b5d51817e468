//! OffsetCommit (8), versions 2 to 9, for groups without members.

use super::{Api, Call, Outcome, code_of};
use crate::groups::{Committed, MAX_METADATA_BYTES};
use crate::state::State;
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
        let allowed = check(&self, state, call);
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
fn check(request: &OffsetCommitRequest, state: &State, call: &Call) -> Result<(), ErrorCode> {
    if state.coordinator(&request.group_id) != Some(call.node) {
        return Err(ErrorCode::NOT_COORDINATOR);
    }
    if request.generation_id_or_member_epoch < 0 {
        return Ok(());
    }
    match state.groups.by_id.contains_key(request.group_id.as_str()) {
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
    let metadata = asked
        .committed_metadata
        .map(|text| text.to_string())
        .unwrap_or_default();
    if metadata.len() > MAX_METADATA_BYTES {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    let committed = Committed {
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata,
    };
    if state
        .groups
        .commit(group, topic, asked.partition_index, committed)
    {
        Ok(())
    } else {
        Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)
    }
}
