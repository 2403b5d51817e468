//! OffsetCommit (8), versions 2 to 9.

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
        let committer = Committer {
            group: &self.group_id,
            member_id: &self.member_id,
            instance_id: self.group_instance_id.as_deref(),
            generation: self.generation_id_or_member_epoch,
        };
        let allowed = check(state, call, &committer);
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

/// Who commits.
pub(super) struct Committer<'a> {
    pub(super) group: &'a str,
    pub(super) member_id: &'a str,
    pub(super) instance_id: Option<&'a str>,
    /// -1 for nobody's member.
    pub(super) generation: i32,
}

/// A member commits in its generation; who is none commits only while the group has no members.
pub(super) fn check(
    state: &mut State,
    call: &Call,
    committer: &Committer<'_>,
) -> Result<(), ErrorCode> {
    let Committer {
        group,
        member_id,
        instance_id,
        generation,
    } = *committer;
    state.check_coordinator(call.node, group)?;
    let is_known = state.groups.by_id.contains_key(group);
    match state.groups.classic(call.now, call.node, group) {
        Some(group) => group.check_commit(call.now, member_id, instance_id, generation),
        None if generation < 0 => Ok(()),
        None if is_known => Err(ErrorCode::UNKNOWN_MEMBER_ID),
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
