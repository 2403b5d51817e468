//! CreatePartitions (37), versions 0 to 3.

use super::{Api, Call, Outcome};
use crate::state::{MAX_PARTITIONS, Refused, State, wire};
use crate::topic::Partition;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use tidewatch_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use tidewatch_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

impl Api for CreatePartitionsRequest {
    fn topics(&self, _state: &State) -> Vec<String> {
        self.topics
            .iter()
            .map(|topic| topic.name.to_string())
            .collect()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<CreatePartitionsResponse> {
        let results = self.topics.iter().map(|topic| {
            let added = call.on_topic(&topic.name, || add(state, topic, self.validate_only));
            let answer = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
            match added {
                Ok(()) => answer,
                Err(refused) => answer
                    .with_error_code(refused.code.0)
                    .with_error_message(Some(wire(&refused.message))),
            }
        });
        let results = results.collect();
        Outcome::Answer(
            CreatePartitionsResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_results(results),
        )
    }
}

/// Assignments that the client chose itself are not followed: brokers take turns.
fn add(state: &mut State, asked: &CreatePartitionsTopic, dry: bool) -> Result<(), Refused> {
    let refuse = |code, message: String| Err(Refused { code, message });
    let topic = state.topics.get(asked.name.as_str());
    let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let present = topic.partitions.len();
    let factor = topic
        .partitions
        .first()
        .map_or(1, |partition| partition.replicas.len());
    let wanted = match usize::try_from(asked.count) {
        Ok(wanted) if wanted > present => wanted.min(MAX_PARTITIONS + 1),
        Ok(_) | Err(_) => {
            let message = format!(
                "The topic {} currently has {present} partition(s); {} would not be an increase.",
                asked.name.as_str(),
                asked.count
            );
            return refuse(ErrorCode::INVALID_PARTITIONS, message);
        }
    };
    state.check_room_for(wanted.saturating_sub(present))?;
    if dry {
        return Ok(());
    }
    let added: Vec<Partition> = state
        .assign(wanted, factor)
        .into_iter()
        .skip(present)
        .map(|replicas| {
            let running = replicas
                .iter()
                .copied()
                .filter(|node| state.is_running(*node));
            let in_sync = running.collect();
            Partition::new(replicas, in_sync)
        })
        .collect();
    if let Some(topic) = state.topics.get_mut(asked.name.as_str()) {
        topic.partitions.extend(added);
    }
    state.touch();
    Ok(())
}
