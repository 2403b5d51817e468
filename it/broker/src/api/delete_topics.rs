//! DeleteTopics (20), versions 1 to 6.

use super::{Api, Call, Outcome};
use crate::state::State;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::delete_topics_request::DeleteTopicState;
use tidewatch_protocol::messages::delete_topics_response::DeletableTopicResult;
use tidewatch_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};

/// From here on topics can be named by id.
const FIRST_VERSION_WITH_IDS: i16 = 6;

impl Api for DeleteTopicsRequest {
    fn topics(&self, state: &State) -> Vec<String> {
        let by_id = self.topics.iter().filter_map(|topic| match &topic.name {
            Some(name) => Some(name.to_string()),
            None => state.name_of(topic.topic_id).map(str::to_owned),
        });
        by_id
            .chain(self.topic_names.iter().map(|name| name.to_string()))
            .collect()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<DeleteTopicsResponse> {
        let asked = if call.version >= FIRST_VERSION_WITH_IDS {
            self.topics
        } else {
            let named = |name| DeleteTopicState::default().with_name(Some(name));
            self.topic_names.into_iter().map(named).collect()
        };
        let responses = asked
            .into_iter()
            .map(|topic| delete(state, call, topic))
            .collect();
        Outcome::Answer(
            DeleteTopicsResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_responses(responses),
        )
    }
}

fn delete(state: &mut State, call: &Call, asked: DeleteTopicState) -> DeletableTopicResult {
    let by_id = asked.name.is_none();
    let asked_name = asked.name.clone().unwrap_or_default();
    let resolved = state.resolve(by_id, asked.topic_id, &asked_name);
    let name = resolved.clone().unwrap_or_else(|_| asked_name.to_string());
    let deleted = call.on_topic(&name, || {
        let name = resolved?;
        state
            .delete_topic(&name)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    });
    let known_name = TopicName(crate::state::wire(&name));
    let answer = DeletableTopicResult::default().with_topic_id(asked.topic_id);
    match deleted {
        Ok(id) => answer.with_name(Some(known_name)).with_topic_id(id),
        Err(code) => answer
            .with_name((!by_id).then_some(known_name))
            .with_error_code(code.0)
            .with_error_message(Some(crate::state::wire(code.meaning().says))),
    }
}
