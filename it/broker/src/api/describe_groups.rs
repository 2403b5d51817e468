//! DescribeGroups (15), versions 0 to 6, for groups without members.

use super::{Api, Call, Outcome};
use crate::state::{State, wire};
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::describe_groups_response::DescribedGroup;
use tidewatch_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

/// From here on a group that is not there is an error, before it was a dead group (KIP-1043).
const FIRST_VERSION_WITH_NOT_FOUND: i16 = 6;

impl Api for DescribeGroupsRequest {
    fn handle(self, state: &mut State, call: &Call) -> Outcome<DescribeGroupsResponse> {
        let groups = self.groups.into_iter().map(|group| {
            let found = call.on_whole(|| {
                if state.coordinator(&group) != Some(call.node) {
                    return Err(ErrorCode::NOT_COORDINATOR);
                }
                Ok(state.groups.by_id.contains_key(group.as_str()))
            });
            let answer = DescribedGroup::default().with_group_id(group);
            match found {
                Ok(true) => answer.with_group_state(StrBytes::from_static_str("Empty")),
                Ok(false) => dead(answer, call.version),
                Err(code) => answer.with_error_code(code.0),
            }
        });
        Outcome::Answer(
            DescribeGroupsResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_groups(groups.collect()),
        )
    }
}

fn dead(answer: DescribedGroup, version: i16) -> DescribedGroup {
    let answer = answer.with_group_state(StrBytes::from_static_str("Dead"));
    if version < FIRST_VERSION_WITH_NOT_FOUND {
        return answer;
    }
    let code = ErrorCode::GROUP_ID_NOT_FOUND;
    answer
        .with_error_code(code.0)
        .with_error_message(Some(wire(code.meaning().says)))
}
