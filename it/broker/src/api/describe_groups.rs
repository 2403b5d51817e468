//! DescribeGroups (15), versions 0 to 6.

use super::{Api, Call, Outcome};
use crate::groups::{ClassicGroup, Phase};
use crate::state::{State, wire};
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::describe_groups_response::{
    DescribedGroup, DescribedGroupMember,
};
use tidewatch_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

/// From here on a group that is not there is an error, before it was a dead group (KIP-1043).
const FIRST_VERSION_WITH_NOT_FOUND: i16 = 6;
/// From here on static members are named by their instance.
const FIRST_VERSION_WITH_INSTANCES: i16 = 4;
/// The cluster knows no addresses; its clients sit on the same host.
const CLIENT_HOST: &str = "/127.0.0.1";

impl Api for DescribeGroupsRequest {
    fn handle(self, state: &mut State, call: &Call) -> Outcome<DescribeGroupsResponse> {
        let groups = self.groups.into_iter().map(|group| {
            let found = call.on_whole(|| {
                if state.coordinator(&group) != Some(call.node) {
                    return Err(ErrorCode::NOT_COORDINATOR);
                }
                Ok(state
                    .groups
                    .by_id
                    .get(group.as_str())
                    .map(|group| &group.classic))
            });
            let answer = DescribedGroup::default().with_group_id(group);
            match found {
                Ok(Some(group)) => describe(answer, group, call.version),
                Ok(None) => dead(answer, call.version),
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

fn describe(answer: DescribedGroup, group: &ClassicGroup, version: i16) -> DescribedGroup {
    let is_stable = group.phase == Phase::Stable;
    let protocol = group.protocol.as_deref().unwrap_or_default();
    let members = group.members.iter().map(|(id, member)| {
        let described = DescribedGroupMember::default()
            .with_member_id(wire(id))
            .with_client_id(wire(&member.joining.client_id))
            .with_client_host(StrBytes::from_static_str(CLIENT_HOST));
        let described = match version >= FIRST_VERSION_WITH_INSTANCES {
            true => {
                described.with_group_instance_id(member.joining.instance_id.as_deref().map(wire))
            }
            false => described,
        };
        // Before that nobody has agreed on a protocol.
        if !is_stable {
            return described;
        }
        described
            .with_member_metadata(member.metadata(protocol))
            .with_member_assignment(member.assignment.clone())
    });
    let answer = answer
        .with_group_state(StrBytes::from_static_str(group.phase.name()))
        .with_protocol_type(wire(group.protocol_type.as_deref().unwrap_or_default()))
        .with_members(members.collect());
    match is_stable {
        true => answer.with_protocol_data(wire(protocol)),
        false => answer,
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
