//! DeleteRecords (21), versions 0 to 2.

use super::{Api, Call, Outcome, code_of};
use crate::state::State;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use tidewatch_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

/// Means the high watermark.
const EVERYTHING: i64 = -1;

impl Api for DeleteRecordsRequest {
    fn topics(&self, _state: &State) -> Vec<String> {
        self.topics
            .iter()
            .map(|topic| topic.name.to_string())
            .collect()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<DeleteRecordsResponse> {
        let topics = self.topics.into_iter().map(|topic| {
            let answers = topic.partitions.iter().map(|asked| {
                let index = asked.partition_index;
                let low = call.on_partition(&topic.name, index, || {
                    delete(state, call, &topic.name, index, asked.offset)
                });
                DeleteRecordsPartitionResult::default()
                    .with_partition_index(index)
                    .with_error_code(code_of(&low))
                    .with_low_watermark(*low.as_ref().unwrap_or(&-1))
            });
            let answers = answers.collect();
            DeleteRecordsTopicResult::default()
                .with_name(topic.name)
                .with_partitions(answers)
        });
        let topics = topics.collect();
        Outcome::Answer(
            DeleteRecordsResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_topics(topics),
        )
    }
}

fn delete(
    state: &mut State,
    call: &Call,
    topic: &str,
    index: i32,
    offset: i64,
) -> Result<i64, ErrorCode> {
    let end = state.led_by(call.node, topic, index, -1)?.high_watermark();
    let before = match offset {
        EVERYTHING => end,
        offset if (0..=end).contains(&offset) => offset,
        _ => return Err(ErrorCode::OFFSET_OUT_OF_RANGE),
    };
    let log = &mut state.partition_mut(topic, index)?.log;
    log.delete_before(before);
    let low = log.start_offset();
    state.touch();
    Ok(low)
}
