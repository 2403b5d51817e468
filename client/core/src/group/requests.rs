//! The requests of a member, and their older shapes: the caller cannot know the version.

use crate::call::GroupMetadata;
use bytes::Bytes;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use tidewatch_protocol::messages::leave_group_request::MemberIdentity;
use tidewatch_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use tidewatch_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest,
};

/// The protocol type of consumers.
pub(super) const CONSUMER: &str = "consumer";
/// JoinGroup says why from here on (KIP-800).
const JOIN_WITH_REASON: i16 = 8;
/// SyncGroup repeats the protocol from here on (KIP-559).
const SYNC_WITH_PROTOCOL: i16 = 5;
/// LeaveGroup carries a list of members from here on (KIP-345), and says why from 5 on.
const LEAVE_BATCHED: i16 = 3;
const LEAVE_WITH_REASON: i16 = 5;
/// What brokers keep of a reason.
const MAX_REASON_BYTES: usize = 255;

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn instance(of: &GroupMetadata) -> Option<StrBytes> {
    of.group_instance_id.as_deref().map(text)
}

fn reason(why: &str) -> Option<StrBytes> {
    let mut end = why.len().min(MAX_REASON_BYTES);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.get(..end).map(text)
}

pub(super) fn join_group(
    of: &GroupMetadata,
    session_timeout_ms: i32,
    rebalance_timeout_ms: i32,
    protocols: Vec<(String, Bytes)>,
    why: &str,
) -> JoinGroupRequest {
    let protocols = protocols.into_iter().map(|(name, metadata)| {
        JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_string(name))
            .with_metadata(metadata)
    });
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(&of.group_id)))
        .with_session_timeout_ms(session_timeout_ms)
        .with_rebalance_timeout_ms(rebalance_timeout_ms)
        .with_member_id(text(&of.member_id))
        .with_group_instance_id(instance(of))
        .with_protocol_type(StrBytes::from_static_str(CONSUMER))
        .with_protocols(protocols.collect())
        .with_reason(reason(why))
}

pub(super) fn sync_group(
    of: &GroupMetadata,
    protocol: &str,
    assignments: Vec<(String, Bytes)>,
) -> SyncGroupRequest {
    let assignments = assignments.into_iter().map(|(member, assignment)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(StrBytes::from_string(member))
            .with_assignment(assignment)
    });
    SyncGroupRequest::default()
        .with_group_id(GroupId(text(&of.group_id)))
        .with_generation_id(of.generation_id)
        .with_member_id(text(&of.member_id))
        .with_group_instance_id(instance(of))
        .with_protocol_type(Some(StrBytes::from_static_str(CONSUMER)))
        .with_protocol_name(Some(text(protocol)))
        .with_assignments(assignments.collect())
}

pub(super) fn heartbeat(of: &GroupMetadata) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(GroupId(text(&of.group_id)))
        .with_generation_id(of.generation_id)
        .with_member_id(text(&of.member_id))
        .with_group_instance_id(instance(of))
}

/// A farewell, in the shape of version 3 and up.
pub(super) type Leave = LeaveGroupRequest;

pub(super) fn leave_group(of: &GroupMetadata, why: &str) -> Leave {
    let leaving = MemberIdentity::default()
        .with_member_id(text(&of.member_id))
        .with_group_instance_id(instance(of))
        .with_reason(reason(why));
    LeaveGroupRequest::default()
        .with_group_id(GroupId(text(&of.group_id)))
        .with_members(vec![leaving])
}

/// Drops what `version` has no place for and can do without.
pub(crate) fn shape_join_group(request: &JoinGroupRequest, version: i16) -> JoinGroupRequest {
    let mut shaped = request.clone();
    if version < JOIN_WITH_REASON {
        shaped.reason = None;
    }
    shaped
}

/// As [`shape_join_group`].
pub(crate) fn shape_sync_group(request: &SyncGroupRequest, version: i16) -> SyncGroupRequest {
    let mut shaped = request.clone();
    if version < SYNC_WITH_PROTOCOL {
        shaped.protocol_type = None;
        shaped.protocol_name = None;
    }
    shaped
}

/// The one member moves to where `version` keeps it.
pub(crate) fn shape_leave_group(request: &LeaveGroupRequest, version: i16) -> LeaveGroupRequest {
    let mut shaped = request.clone();
    if version < LEAVE_BATCHED {
        if let Some(member) = shaped.members.drain(..).next() {
            shaped.member_id = member.member_id;
        }
        return shaped;
    }
    if version < LEAVE_WITH_REASON {
        for member in &mut shaped.members {
            member.reason = None;
        }
    }
    shaped
}
