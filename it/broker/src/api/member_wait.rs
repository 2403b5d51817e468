//! A member that waits for its group: in JoinGroup for the others, in SyncGroup for the assignment.

use super::Call;
use crate::groups::{Member, Ticket};
use crate::now::Now;
use crate::state::State;
use tidewatch_protocol::error_code::ErrorCode;

/// A wait ends with the rebalance or with the next; this is a bound against slips, well beyond either.
const LONGEST_WAIT_MS: i32 = 3_600_000;

#[derive(Debug)]
pub(super) struct MemberWait {
    pub(super) call: Call,
    pub(super) group: String,
    pub(super) member_id: String,
    pub(super) instance_id: Option<String>,
    pub(super) ticket: Ticket,
}

impl MemberWait {
    pub(super) fn deadline(&self) -> Now {
        self.call.now.after_ms(LONGEST_WAIT_MS)
    }

    /// The member, unless it was removed or its group has gone to another node meanwhile.
    pub(super) fn member<'s>(
        &self,
        state: &'s mut State,
        now: Now,
    ) -> Result<&'s mut Member, ErrorCode> {
        state.check_coordinator(self.call.node, &self.group)?;
        let group = state
            .groups
            .classic(now, self.call.node, &self.group)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        group.check_member(&self.member_id, self.instance_id.as_deref())?;
        group
            .members
            .get_mut(&self.member_id)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)
    }
}
