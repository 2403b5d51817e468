//! ListOffsets (2), versions 1 to 10.

use super::{Api, Call, Outcome};
use crate::log::{Timed, UNDEFINED};
use crate::state::State;
use crate::topic::Partition;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::list_offsets_request::ListOffsetsPartition;
use tidewatch_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use tidewatch_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// KIP-734.
const GREATEST_TIMESTAMP: i64 = -3;
/// KIP-405; nothing is tiered here, so it is the earliest.
const EARLIEST_LOCAL: i64 = -4;
/// KIP-1005; nothing is tiered here, so there is none.
const LATEST_TIERED: i64 = -5;

/// From here on an offset comes with the epoch that wrote it (KIP-320).
const FIRST_VERSION_WITH_EPOCHS: i16 = 4;
const READ_COMMITTED: i8 = 1;

const NOT_FOUND: Timed = Timed {
    offset: -1,
    timestamp_ms: -1,
    leader_epoch: UNDEFINED,
};

impl Api for ListOffsetsRequest {
    fn topics(&self, _state: &State) -> Vec<String> {
        self.topics
            .iter()
            .map(|topic| topic.name.to_string())
            .collect()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<ListOffsetsResponse> {
        let read_committed = self.isolation_level == READ_COMMITTED;
        let topics = self.topics.into_iter().map(|topic| {
            let answers = topic.partitions.iter().map(|asked| {
                let found = call.on_partition(&topic.name, asked.partition_index, || {
                    look_up(state, call, &topic.name, asked, read_committed)
                });
                let timed = *found.as_ref().unwrap_or(&NOT_FOUND);
                let has_epoch = call.version >= FIRST_VERSION_WITH_EPOCHS;
                let leader_epoch = if has_epoch {
                    timed.leader_epoch
                } else {
                    UNDEFINED
                };
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(asked.partition_index)
                    .with_error_code(super::code_of(&found))
                    .with_offset(timed.offset)
                    .with_timestamp(timed.timestamp_ms)
                    .with_leader_epoch(leader_epoch)
            });
            let answers = answers.collect();
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(answers)
        });
        let topics = topics.collect();
        Outcome::Answer(
            ListOffsetsResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_topics(topics),
        )
    }
}

fn look_up(
    state: &State,
    call: &Call,
    topic: &str,
    asked: &ListOffsetsPartition,
    read_committed: bool,
) -> Result<Timed, ErrorCode> {
    let index = asked.partition_index;
    let partition = state.led_by(call.node, topic, index, asked.current_leader_epoch)?;
    let until = if read_committed {
        partition.last_stable_offset()
    } else {
        partition.high_watermark()
    };
    let first_version = match asked.timestamp {
        GREATEST_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        _ => 1,
    };
    if call.version < first_version {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    match asked.timestamp {
        LATEST => Ok(at(partition, until)),
        EARLIEST | EARLIEST_LOCAL => Ok(at(partition, partition.log.start_offset())),
        GREATEST_TIMESTAMP => Ok(partition.log.greatest_timestamp(until).unwrap_or(NOT_FOUND)),
        LATEST_TIERED => Ok(NOT_FOUND),
        timestamp if timestamp < 0 => Err(ErrorCode::UNSUPPORTED_VERSION),
        timestamp => Ok(partition
            .log
            .find_timestamp(timestamp, until)
            .unwrap_or(NOT_FOUND)),
    }
}

fn at(partition: &Partition, offset: i64) -> Timed {
    Timed {
        offset,
        timestamp_ms: -1,
        leader_epoch: partition.log.epochs().at(offset),
    }
}
