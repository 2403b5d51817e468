//! ListGroups (16), versions 0 to 5.

use super::{Api, Call, Outcome, code_of};
use crate::state::{State, wire};
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::list_groups_response::ListedGroup;
use tidewatch_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};

/// Groups that only commit have no members, so this is their state.
const STATE: &str = "Empty";
const TYPE: &str = "classic";

impl Api for ListGroupsRequest {
    fn handle(self, state: &mut State, call: &Call) -> Outcome<ListGroupsResponse> {
        let named = |filter: &[StrBytes], value: &str| {
            filter.is_empty()
                || filter
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let wanted = named(&self.states_filter, STATE) && named(&self.types_filter, TYPE);
        let checked = call.on_whole(|| Ok::<_, ErrorCode>(()));
        let own = state
            .groups
            .by_id
            .keys()
            .filter(|_| wanted && checked.is_ok())
            .filter(|group| state.coordinator(group) == Some(call.node));
        let groups = own.map(|group| {
            ListedGroup::default()
                .with_group_id(GroupId(wire(group)))
                .with_group_state(StrBytes::from_static_str(STATE))
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
