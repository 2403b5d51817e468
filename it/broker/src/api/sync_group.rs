//! SyncGroup (14), versions 0 to 5.

use super::member_wait::MemberWait;
use super::{Api, Call, Outcome, Served, Wait, answer};
use crate::groups::SyncStep;
use crate::now::Now;
use crate::state::{State, wire};
use bytes::Bytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

/// A member that waits for the leader's assignment.
#[derive(Debug)]
pub(crate) struct SyncWait(MemberWait);

impl Api for SyncGroupRequest {
    fn handle(self, state: &mut State, call: &Call) -> Outcome<SyncGroupResponse> {
        let group = self.group_id.to_string();
        let member_id = self.member_id.to_string();
        let instance_id = self.group_instance_id.as_ref().map(ToString::to_string);
        let step = call.on_whole(|| sync(self, state, call));
        state.touch();
        match step {
            Ok(SyncStep::Answer(assignment)) => {
                Outcome::Answer(respond(state, call, &group, Ok(assignment)))
            }
            Ok(SyncStep::Wait(ticket)) => {
                let wait = SyncWait(MemberWait {
                    call: call.clone(),
                    group,
                    member_id,
                    instance_id,
                    ticket,
                });
                // The leader's own is answered at once.
                match wait.look(state, call.now) {
                    Some(synced) => Outcome::Answer(respond(state, call, &wait.0.group, synced)),
                    None => Outcome::Wait(Wait::Sync(Box::new(wait))),
                }
            }
            Err(code) => Outcome::Answer(respond(state, call, &group, Err(code))),
        }
    }
}

fn sync(request: SyncGroupRequest, state: &mut State, call: &Call) -> Result<SyncStep, ErrorCode> {
    let group = request.group_id.to_string();
    state.check_coordinator(call.node, &group)?;
    let group = state
        .groups
        .classic(call.now, call.node, &group)
        .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
    let instance_id = request.group_instance_id.as_ref().map(ToString::to_string);
    group.check_member(&request.member_id, instance_id.as_deref())?;
    if request.generation_id != group.generation {
        return Err(ErrorCode::ILLEGAL_GENERATION);
    }
    let differs = |said: &Option<_>, known: &Option<String>| {
        said.as_ref()
            .is_some_and(|said: &tidewatch_protocol::StrBytes| {
                known.as_deref() != Some(said.as_str())
            })
    };
    if differs(&request.protocol_type, &group.protocol_type)
        || differs(&request.protocol_name, &group.protocol)
    {
        return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    let assignments = request.assignments.into_iter();
    let assignments = assignments.map(|a| (a.member_id.to_string(), a.assignment));
    group.sync(call.now, &request.member_id, assignments.collect())
}

impl SyncWait {
    pub(crate) fn deadline(&self) -> Now {
        self.0.deadline()
    }

    /// The answer, once the leader has assigned or the group begins anew.
    pub(crate) fn poll(&mut self, state: &mut State, now: Now) -> Option<Served> {
        let synced = self.look(state, now)?;
        let synced = self.0.call.on_whole(|| synced);
        let response = respond(state, &self.0.call, &self.0.group, synced);
        Some(answer::<SyncGroupRequest>(&response, &self.0.call))
    }

    fn look(&self, state: &mut State, now: Now) -> Option<Result<Bytes, ErrorCode>> {
        match self.0.member(state, now) {
            Ok(member) => {
                let answer = member.sync.take(self.0.ticket)?;
                Some(answer.unwrap_or(Err(ErrorCode::REBALANCE_IN_PROGRESS)))
            }
            Err(code) => Some(Err(code)),
        }
    }
}

fn respond(
    state: &State,
    call: &Call,
    group: &str,
    synced: Result<Bytes, ErrorCode>,
) -> SyncGroupResponse {
    let response = SyncGroupResponse::default().with_throttle_time_ms(call.throttle_ms);
    match synced {
        Ok(assignment) => {
            let group = state.groups.by_id.get(group).map(|group| &group.classic);
            let name = |of: &Option<String>| of.as_deref().map(wire);
            response
                .with_assignment(assignment)
                .with_protocol_type(group.and_then(|group| name(&group.protocol_type)))
                .with_protocol_name(group.and_then(|group| name(&group.protocol)))
        }
        Err(code) => response.with_error_code(code.0),
    }
}
