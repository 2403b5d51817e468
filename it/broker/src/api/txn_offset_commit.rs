//! TxnOffsetCommit (28), versions 0 to 5. Its offsets are held back until the transaction ends.

use super::offset_commit::{Committer, check, read_committed_offset};
use super::{Api, Call, Outcome, code_of};
use crate::state::State;
use crate::transactions::Producer;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use tidewatch_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

/// From here on a client understands TRANSACTION_ABORTABLE (KIP-890).
const FIRST_VERSION_WITH_ABORTABLE: i16 = 4;
/// From here on the group need not be added before (KIP-890).
const FIRST_VERSION_THAT_ADDS: i16 = 5;

impl Api for TxnOffsetCommitRequest {
    fn topics(&self, _state: &State) -> Vec<String> {
        let topics = self.topics.iter();
        topics.map(|topic| topic.name.to_string()).collect()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<TxnOffsetCommitResponse> {
        let allowed = join(&self, state, call);
        let (id, group) = (self.transactional_id, self.group_id);
        let topics = self.topics.into_iter().map(|topic| {
            let answers = topic.partitions.into_iter().map(|asked| {
                let index = asked.partition_index;
                let held = call.on_partition(&topic.name, index, || {
                    allowed?;
                    state.partition(&topic.name, index)?;
                    let committed = read_committed_offset(
                        asked.committed_offset,
                        asked.committed_leader_epoch,
                        asked.committed_metadata,
                    )?;
                    let place = (group.as_str(), topic.name.as_str(), index);
                    match state.transactions.hold_offset(&id, place, committed) {
                        true => Ok(()),
                        false => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
                    }
                });
                TxnOffsetCommitResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(code_of(&held))
            });
            let answers = answers.collect();
            TxnOffsetCommitResponseTopic::default()
                .with_name(topic.name)
                .with_partitions(answers)
        });
        let topics = topics.collect();
        Outcome::Answer(
            TxnOffsetCommitResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_topics(topics),
        )
    }
}

/// What concerns the request as a whole: the coordinator, the member, the transaction.
fn join(request: &TxnOffsetCommitRequest, state: &mut State, call: &Call) -> Result<(), ErrorCode> {
    let committer = Committer {
        group: &request.group_id,
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    // Who says nothing of a membership is believed, members or not (`ClassicGroup` of Kafka).
    let is_silent = committer.generation < 0 && committer.member_id.is_empty();
    if is_silent && committer.instance_id.is_none() {
        state.check_coordinator(call.node, committer.group)?;
    } else {
        check(state, call, &committer)?;
    }
    let producer = Producer {
        id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let (id, group) = (&request.transactional_id, &request.group_id);
    let joined = if call.version >= FIRST_VERSION_THAT_ADDS {
        let groups = [group.to_string()];
        state.transactions.add(call.now, id, producer, [], groups)
    } else {
        state.transactions.verify_group(id, producer, group)
    };
    joined.map_err(|code| match code {
        // A group's coordinator asks the transaction's, and tells it in the words of a log.
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::TRANSACTION_ABORTABLE if call.version < FIRST_VERSION_WITH_ABORTABLE => {
            ErrorCode::INVALID_TXN_STATE
        }
        code => code,
    })
}
