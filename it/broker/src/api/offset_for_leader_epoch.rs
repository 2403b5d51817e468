//! OffsetForLeaderEpoch (23), versions 2 to 4 (KIP-320).

use super::{Api, Call, Outcome, code_of};
use crate::log::{EpochEnd, UNDEFINED};
use crate::state::State;
use tidewatch_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use tidewatch_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

const UNKNOWN: EpochEnd = EpochEnd {
    epoch: UNDEFINED,
    end_offset: -1,
};

impl Api for OffsetForLeaderEpochRequest {
    fn topics(&self, _state: &State) -> Vec<String> {
        self.topics
            .iter()
            .map(|topic| topic.topic.to_string())
            .collect()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<OffsetForLeaderEpochResponse> {
        let topics = self.topics.into_iter().map(|topic| {
            let answers = topic.partitions.iter().map(|asked| {
                let found = call.on_partition(&topic.topic, asked.partition, || {
                    let epoch = asked.current_leader_epoch;
                    let partition =
                        state.led_by(call.node, &topic.topic, asked.partition, epoch)?;
                    let log = &partition.log;
                    Ok(log.epochs().end_of(asked.leader_epoch, log.end_offset()))
                });
                let end = *found.as_ref().unwrap_or(&UNKNOWN);
                EpochEndOffset::default()
                    .with_error_code(code_of(&found))
                    .with_partition(asked.partition)
                    .with_leader_epoch(end.epoch)
                    .with_end_offset(end.end_offset)
            });
            let answers = answers.collect();
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic)
                .with_partitions(answers)
        });
        let topics = topics.collect();
        Outcome::Answer(
            OffsetForLeaderEpochResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_topics(topics),
        )
    }
}
