//! OffsetCommit (8), versions 2 to 9.

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

/// A member commits in its generation; who is none commits only while the group has no members.
fn check(request: &OffsetCommitRequest, state: &mut State, call: &Call) -> Result<(), ErrorCode> {
    state.check_coordinator(call.node, &request.group_id)?;
    let generation = request.generation_id_or_member_epoch;
    let instance = request.group_instance_id.as_ref().map(ToString::to_string);
    match state.groups.classic(call.now, call.node, &request.group_id) {
        Some(group) => group.check_commit(
            call.now,
            &request.member_id,
            instance.as_deref(),
            generation,
        ),
        None if generation < 0 => Ok(()),
        None => Err(ErrorCode::ILLEGAL_GENERATION),
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
