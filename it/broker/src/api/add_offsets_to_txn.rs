//! AddOffsetsToTxn (25), versions 0 to 4.

use super::{Api, Call, Outcome, code_of, fenced_before};
use crate::state::State;
use crate::transactions::Producer;
use tidewatch_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

/// From here on a fenced producer is told so (KIP-588).
const FIRST_VERSION_WITH_FENCED: i16 = 2;

impl Api for AddOffsetsToTxnRequest {
    fn handle(self, state: &mut State, call: &Call) -> Outcome<AddOffsetsToTxnResponse> {
        let producer = Producer {
            id: self.producer_id.0,
            epoch: self.producer_epoch,
        };
        let group = self.group_id.to_string();
        let added = call.on_whole(|| {
            let id = &self.transactional_id;
            state.add_to_transaction(call, id, producer, [], [group])
        });
        let added = fenced_before(FIRST_VERSION_WITH_FENCED, call, added);
        Outcome::Answer(
            AddOffsetsToTxnResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_error_code(code_of(&added)),
        )
    }
}
