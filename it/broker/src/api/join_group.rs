//! JoinGroup (11), versions 0 to 9.

use super::member_wait::MemberWait;
use super::{Api, Call, Outcome, Served, Wait, answer};
use crate::groups::{JoinRefused, JoinStep, Joined, Joining, Knock};
use crate::now::Now;
use crate::state::{State, wire};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::join_group_response::JoinGroupResponseMember;
use tidewatch_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

/// From here on the rebalance timeout is a field of its own.
const FIRST_VERSION_WITH_REBALANCE_TIMEOUT: i16 = 1;
/// From here on a member joins with an id that it was given (KIP-394).
const FIRST_VERSION_WITH_REQUIRED_ID: i16 = 4;
/// From here on the protocol's name may be null.
const FIRST_VERSION_WITH_NULL_NAME: i16 = 7;
/// From here on a returning static leader is told to skip the assignment (KIP-814).
const FIRST_VERSION_WITH_SKIP: i16 = 9;
/// Kafka's `group.max.session.timeout.ms`.
const MAX_SESSION_TIMEOUT_MS: i32 = 1_800_000;

/// A member that waits for the others.
#[derive(Debug)]
pub(crate) struct JoinWait(MemberWait);

impl Api for JoinGroupRequest {
    fn handle(self, state: &mut State, call: &Call) -> Outcome<JoinGroupResponse> {
        let group = self.group_id.to_string();
        let member_id = self.member_id.to_string();
        let instance_id = self.group_instance_id.as_ref().map(ToString::to_string);
        let mut refused_id = None;
        let step = call.on_whole(|| {
            join(self, state, call).map_err(|refused| {
                refused_id = Some(refused.member_id);
                refused.code
            })
        });
        state.touch();
        match step {
            Ok(JoinStep::Answer(joined)) => Outcome::Answer(respond(call, Ok(joined))),
            Ok(JoinStep::Wait(member_id, ticket)) => {
                let wait = JoinWait(MemberWait {
                    call: call.clone(),
                    group,
                    member_id,
                    instance_id,
                    ticket,
                });
                // It may have been the last that the group waited for.
                match wait.look(state, call.now) {
                    Some(joined) => Outcome::Answer(wait.respond(joined)),
                    None => Outcome::Wait(Wait::Join(Box::new(wait))),
                }
            }
            Err(code) => {
                let given = refused_id.filter(|id| !id.is_empty());
                let id = given.unwrap_or(member_id);
                let response = respond(call, Err(code));
                Outcome::Answer(response.with_member_id(wire(&id)))
            }
        }
    }
}

fn join(
    request: JoinGroupRequest,
    state: &mut State,
    call: &Call,
) -> Result<JoinStep, JoinRefused> {
    let group = request.group_id.to_string();
    state.check_coordinator(call.node, &group)?;
    let min_ms = state.options.group_min_session_timeout_ms;
    if !(min_ms..=MAX_SESSION_TIMEOUT_MS).contains(&request.session_timeout_ms) {
        return Err(ErrorCode::INVALID_SESSION_TIMEOUT.into());
    }
    let prefix = request.group_instance_id.as_ref().map(ToString::to_string);
    let fresh_id = state.new_member_id(prefix.as_deref().unwrap_or(&call.client_id));
    let protocols = request.protocols.into_iter();
    let joining = Joining {
        client_id: call.client_id.clone(),
        instance_id: prefix,
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols
            .map(|p| (p.name.to_string(), p.metadata))
            .collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match call.version >= FIRST_VERSION_WITH_REBALANCE_TIMEOUT {
            true => request.rebalance_timeout_ms.max(0),
            false => request.session_timeout_ms,
        },
    };
    let knock = Knock {
        member_id: request.member_id.to_string(),
        fresh_id,
        must_know_id: call.version >= FIRST_VERSION_WITH_REQUIRED_ID,
        can_skip: call.version >= FIRST_VERSION_WITH_SKIP,
        joining,
    };
    let groups = &mut state.groups;
    let members = match knock.member_id.is_empty() {
        true => groups
            .classic_or_new(call.now, call.node, &group)
            .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?,
        false => groups
            .classic(call.now, call.node, &group)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?,
    };
    members.join(call.now, knock)
}

impl JoinWait {
    pub(crate) fn deadline(&self) -> Now {
        self.0.deadline()
    }

    /// The answer, once the group has come together.
    pub(crate) fn poll(&mut self, state: &mut State, now: Now) -> Option<Served> {
        let joined = self.look(state, now)?;
        let joined = self.0.call.on_whole(|| joined);
        let response = self.respond(joined);
        Some(answer::<JoinGroupRequest>(&response, &self.0.call))
    }

    fn respond(&self, joined: Result<Joined, ErrorCode>) -> JoinGroupResponse {
        respond(&self.0.call, joined).with_member_id(wire(&self.0.member_id))
    }

    fn look(&self, state: &mut State, now: Now) -> Option<Result<Joined, ErrorCode>> {
        match self.0.member(state, now) {
            Ok(member) => {
                let answer = member.join.take(self.0.ticket)?;
                Some(answer.ok_or(ErrorCode::REBALANCE_IN_PROGRESS))
            }
            Err(code) => Some(Err(code)),
        }
    }
}

fn respond(call: &Call, joined: Result<Joined, ErrorCode>) -> JoinGroupResponse {
    let response = JoinGroupResponse::default().with_throttle_time_ms(call.throttle_ms);
    let no_name = (call.version < FIRST_VERSION_WITH_NULL_NAME).then(|| wire(""));
    match joined {
        Ok(joined) => {
            let members = joined.members.into_iter().map(|(id, instance, metadata)| {
                JoinGroupResponseMember::default()
                    .with_member_id(wire(&id))
                    .with_group_instance_id(instance.as_deref().map(wire))
                    .with_metadata(metadata)
            });
            response
                .with_generation_id(joined.generation)
                .with_protocol_type(joined.protocol_type.as_deref().map(wire))
                .with_protocol_name(joined.protocol.as_deref().map(wire).or(no_name))
                .with_leader(wire(&joined.leader))
                .with_member_id(wire(&joined.member_id))
                .with_skip_assignment(joined.skip_assignment)
                .with_members(members.collect())
        }
        Err(code) => response
            .with_error_code(code.0)
            .with_generation_id(-1)
            .with_protocol_name(no_name),
    }
}
