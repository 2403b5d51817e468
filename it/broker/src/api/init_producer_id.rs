//! InitProducerId (22), versions 0 to 5, for idempotent producers.

use super::{Api, Call, Outcome, code_of};
use crate::state::State;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

impl Api for InitProducerIdRequest {
    /// Without a transactional id Kafka gives out a new id every time, whatever id and epoch the
    /// producer had.
    fn handle(self, state: &mut State, call: &Call) -> Outcome<InitProducerIdResponse> {
        let id = call.on_whole(|| match self.transactional_id {
            None => Ok(state.next_producer_id()),
            Some(id) if id.is_empty() => Err(ErrorCode::INVALID_REQUEST),
            // Transactions are not served yet.
            Some(_) => Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        });
        Outcome::Answer(
            InitProducerIdResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_error_code(code_of(&id))
                .with_producer_id(ProducerId(*id.as_ref().unwrap_or(&-1)))
                .with_producer_epoch(if id.is_ok() { 0 } else { -1 }),
        )
    }
}
