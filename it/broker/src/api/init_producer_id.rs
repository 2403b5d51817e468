//! InitProducerId (22), versions 0 to 5, for idempotent and transactional producers.

use super::{Api, Call, Outcome, code_of, fenced_before};
use crate::state::State;
use crate::transactions::Producer;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

/// From here on a fenced producer is told so (KIP-588).
const FIRST_VERSION_WITH_FENCED: i16 = 4;

impl Api for InitProducerIdRequest {
    /// Without a transactional id Kafka gives out a new id every time, whatever id and epoch the
    /// producer had.
    fn handle(self, state: &mut State, call: &Call) -> Outcome<InitProducerIdResponse> {
        let producer = call.on_whole(|| match &self.transactional_id {
            None => Ok(Producer {
                id: state.next_producer_id(),
                epoch: 0,
            }),
            Some(id) if id.is_empty() => Err(ErrorCode::INVALID_REQUEST),
            Some(id) => {
                let named = Producer {
                    id: self.producer_id.0,
                    epoch: self.producer_epoch,
                };
                let expected = (named.id >= 0).then_some(named);
                state.init_transactions(call, id, self.transaction_timeout_ms, expected)
            }
        });
        let producer = fenced_before(FIRST_VERSION_WITH_FENCED, call, producer);
        let (id, epoch) = producer
            .as_ref()
            .map_or((-1, -1), |producer| (producer.id, producer.epoch));
        Outcome::Answer(
            InitProducerIdResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_error_code(code_of(&producer))
                .with_producer_id(ProducerId(id))
                .with_producer_epoch(epoch),
        )
    }
}
