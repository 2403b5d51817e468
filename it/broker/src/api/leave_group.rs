//! LeaveGroup (13), versions 0 to 5: one member until version 2, several from 3 on (KIP-345).

use super::{Api, Call, Outcome, code_of};
use crate::state::State;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::leave_group_response::MemberResponse;
use tidewatch_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

const FIRST_VERSION_WITH_SEVERAL: i16 = 3;

impl Api for LeaveGroupRequest {
    fn handle(self, state: &mut State, call: &Call) -> Outcome<LeaveGroupResponse> {
        let group = self.group_id.to_string();
        let mut members = Vec::new();
        let left = call.on_whole(|| {
            state.check_coordinator(call.node, &group)?;
            if call.version < FIRST_VERSION_WITH_SEVERAL {
                return leave(state, call, &group, &self.member_id, None);
            }
            for member in self.members {
                let instance = member.group_instance_id.as_ref().map(ToString::to_string);
                let left = leave(state, call, &group, &member.member_id, instance.as_deref());
                let answer = MemberResponse::default()
                    .with_member_id(member.member_id)
                    .with_group_instance_id(member.group_instance_id)
                    .with_error_code(code_of(&left));
                members.push(answer);
            }
            Ok(())
        });
        state.touch();
        Outcome::Answer(
            LeaveGroupResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_error_code(code_of(&left))
                .with_members(members),
        )
    }
}

fn leave(
    state: &mut State,
    call: &Call,
    group: &str,
    member_id: &str,
    instance_id: Option<&str>,
) -> Result<(), ErrorCode> {
    let group = state
        .groups
        .classic(call.now, call.node, group)
        .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
    group.leave(call.now, member_id, instance_id)
}
