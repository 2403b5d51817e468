//! FindCoordinator (10), versions 0 to 6. Version 0 is listed because librdkafka sends lz4 batches
//! uncompressed to a broker without it.

use super::{Api, Call, Outcome};
use crate::options::Endpoint;
use crate::state::{State, wire};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::find_coordinator_response::Coordinator;
use tidewatch_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};

/// From here on one request asks for several keys (KIP-699).
const FIRST_VERSION_WITH_LISTS: i16 = 4;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

impl Api for FindCoordinatorRequest {
    fn handle(self, state: &mut State, call: &Call) -> Outcome<FindCoordinatorResponse> {
        let answer = FindCoordinatorResponse::default().with_throttle_time_ms(call.throttle_ms);
        let find = |key: &str| call.on_whole(|| find(state, self.key_type, key));
        if call.version >= FIRST_VERSION_WITH_LISTS {
            let found = self.coordinator_keys.iter().map(|key| {
                let coordinator = Coordinator::default().with_key(key.clone());
                match find(key) {
                    Ok(endpoint) => coordinator
                        .with_node_id(BrokerId(endpoint.node.0))
                        .with_host(wire(&endpoint.host))
                        .with_port(i32::from(endpoint.port)),
                    Err(code) => coordinator
                        .with_node_id(BrokerId(-1))
                        .with_port(-1)
                        .with_error_code(code.0)
                        .with_error_message(Some(wire(code.meaning().says))),
                }
            });
            return Outcome::Answer(answer.with_coordinators(found.collect()));
        }
        Outcome::Answer(match find(&self.key) {
            Ok(endpoint) => answer
                .with_node_id(BrokerId(endpoint.node.0))
                .with_host(wire(&endpoint.host))
                .with_port(i32::from(endpoint.port)),
            Err(code) => answer
                .with_node_id(BrokerId(-1))
                .with_port(-1)
                .with_error_code(code.0)
                .with_error_message((call.version >= 1).then(|| wire(code.meaning().says))),
        })
    }
}

fn find<'a>(state: &'a State, key_type: i8, key: &str) -> Result<&'a Endpoint, ErrorCode> {
    if !matches!(key_type, GROUP | TRANSACTION) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let node = state
        .coordinator(key)
        .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
    let found = state.nodes.get(&node).map(|node| &node.endpoint);
    found.ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)
}
