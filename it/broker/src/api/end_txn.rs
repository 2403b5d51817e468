//! EndTxn (26), versions 0 to 5. It is answered once the end is decided; the markers come after.

use super::{Api, Call, Outcome, code_of, fenced_before};
use crate::state::State;
use crate::transactions::{End, Producer};
use tidewatch_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};

/// From here on a fenced producer is told so (KIP-588).
const FIRST_VERSION_WITH_FENCED: i16 = 2;
/// From here on the next transaction has another epoch (KIP-890).
const FIRST_VERSION_WITH_EPOCHS: i16 = 5;

impl Api for EndTxnRequest {
    fn handle(self, state: &mut State, call: &Call) -> Outcome<EndTxnResponse> {
        let producer = Producer {
            id: self.producer_id.0,
            epoch: self.producer_epoch,
        };
        let end = match self.committed {
            true => End::Commit,
            false => End::Abort,
        };
        let bumps = call.version >= FIRST_VERSION_WITH_EPOCHS;
        let ended = call.on_whole(|| {
            let id = &self.transactional_id;
            state.end_transaction(call, id, producer, end, bumps)
        });
        let ended = fenced_before(FIRST_VERSION_WITH_FENCED, call, ended);
        let answer = EndTxnResponse::default()
            .with_throttle_time_ms(call.throttle_ms)
            .with_error_code(code_of(&ended));
        Outcome::Answer(match ended {
            Ok(next) if bumps => answer
                .with_producer_id(ProducerId(next.id))
                .with_producer_epoch(next.epoch),
            _ => answer,
        })
    }
}
