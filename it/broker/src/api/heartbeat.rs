//! Heartbeat (12), versions 0 to 4.

use super::{Api, Call, Outcome, code_of};
use crate::state::State;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

impl Api for HeartbeatRequest {
    fn handle(self, state: &mut State, call: &Call) -> Outcome<HeartbeatResponse> {
        let beaten = call.on_whole(|| {
            let group = self.group_id.to_string();
            state.check_coordinator(call.node, &group)?;
            let group = state
                .groups
                .classic(call.now, call.node, &group)
                .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            let instance_id = self.group_instance_id.as_ref().map(ToString::to_string);
            group.check_member(&self.member_id, instance_id.as_deref())?;
            group.heartbeat(call.now, &self.member_id, self.generation_id)
        });
        Outcome::Answer(
            HeartbeatResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_error_code(code_of(&beaten)),
        )
    }
}
