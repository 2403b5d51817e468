//! ListGroups (16), versions 0 to 5.

use super::{Api, Call, Outcome, code_of};
use crate::state::{State, wire};
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::list_groups_response::ListedGroup;
use tidewatch_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};

const TYPE: &str = "classic";

impl Api for ListGroupsRequest {
    fn handle(self, state: &mut State, call: &Call) -> Outcome<ListGroupsResponse> {
        let named = |filter: &[StrBytes], value: &str| {
            filter.is_empty()
                || filter
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let wanted = named(&self.types_filter, TYPE);
        let checked = call.on_whole(|| Ok::<_, ErrorCode>(()));
        let own = state
            .groups
            .by_id
            .iter()
            .filter(|(_, group)| named(&self.states_filter, group.classic.phase.name()))
            .filter(|_| wanted && checked.is_ok())
            .filter(|(id, _)| state.coordinator(id) == Some(call.node));
        let groups = own.map(|(id, group)| {
            let group = &group.classic;
            ListedGroup::default()
                .with_group_id(GroupId(wire(id)))
                .with_protocol_type(wire(group.protocol_type.as_deref().unwrap_or_default()))
                .with_group_state(StrBytes::from_static_str(group.phase.name()))
                .with_group_type(StrBytes::from_static_str(TYPE))
        });
        Outcome::Answer(
            ListGroupsResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_error_code(code_of(&checked))
                .with_groups(groups.collect()),
        )
    }
}
