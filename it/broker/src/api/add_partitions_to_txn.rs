//! AddPartitionsToTxn (24), versions 0 to 3; 4 and 5 are between brokers (KIP-890).

use super::{Api, Call, Outcome, fenced_before};
use crate::state::State;
use crate::transactions::Producer;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use tidewatch_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

/// From here on a fenced producer is told so (KIP-588).
const FIRST_VERSION_WITH_FENCED: i16 = 2;

impl Api for AddPartitionsToTxnRequest {
    fn topics(&self, _state: &State) -> Vec<String> {
        let topics = self.v3_and_below_topics.iter();
        topics.map(|topic| topic.name.to_string()).collect()
    }

    /// All partitions are added or none.
    fn handle(self, state: &mut State, call: &Call) -> Outcome<AddPartitionsToTxnResponse> {
        let asked = self.v3_and_below_topics.iter();
        let asked = asked.flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|index| (topic.name.to_string(), *index))
        });
        let asked: Vec<(String, i32)> = asked.collect();
        let unknown = |(topic, index): &(String, i32)| state.partition(topic, *index).is_err();
        let whole = if asked.iter().any(unknown) {
            Err(ErrorCode::OPERATION_NOT_ATTEMPTED)
        } else {
            let producer = Producer {
                id: self.v3_and_below_producer_id.0,
                epoch: self.v3_and_below_producer_epoch,
            };
            let id = self.v3_and_below_transactional_id.as_str();
            call.on_whole(|| state.add_to_transaction(call, id, producer, asked, []))
        };
        let whole = fenced_before(FIRST_VERSION_WITH_FENCED, call, whole);
        let topics = self.v3_and_below_topics.iter().map(|topic| {
            let results = topic.partitions.iter().map(|index| {
                let added = call.on_partition(&topic.name, *index, || {
                    state.partition(&topic.name, *index)?;
                    whole
                });
                AddPartitionsToTxnPartitionResult::default()
                    .with_partition_index(*index)
                    .with_partition_error_code(super::code_of(&added))
            });
            AddPartitionsToTxnTopicResult::default()
                .with_name(topic.name.clone())
                .with_results_by_partition(results.collect())
        });
        let topics = topics.collect();
        Outcome::Answer(
            AddPartitionsToTxnResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_results_by_topic_v3_and_below(topics),
        )
    }
}
