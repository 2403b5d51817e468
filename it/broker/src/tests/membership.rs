//! Members of classic groups: joining, rebalances, sessions, static members, commits.

use super::script::{Script, name};
use crate::{ConnectionId, NodeId, Options};
use bytes::Bytes;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use tidewatch_protocol::messages::leave_group_request::MemberIdentity;
use tidewatch_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidewatch_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use tidewatch_protocol::messages::{
    DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, SyncGroupRequest, SyncGroupResponse,
};

const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 30_000;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group() -> GroupId {
    GroupId(text("g"))
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn join_with(id: &str, protocols: &[&str]) -> JoinGroupRequest {
    let protocols = protocols.iter().map(|name| {
        JoinGroupRequestProtocol::default()
            .with_name(text(name))
            .with_metadata(bytes(name))
    });
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_member_id(text(id))
        .with_session_timeout_ms(SESSION_MS)
        .with_rebalance_timeout_ms(REBALANCE_MS)
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.collect())
}

fn join(id: &str) -> JoinGroupRequest {
    join_with(id, &["range"])
}

fn sync(id: &str, generation: i32, assignments: &[(&str, &str)]) -> SyncGroupRequest {
    let assignments = assignments.iter().map(|(member, assignment)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member))
            .with_assignment(bytes(assignment))
    });
    SyncGroupRequest::default()
        .with_group_id(group())
        .with_member_id(text(id))
        .with_generation_id(generation)
        .with_assignments(assignments.collect())
}

fn beat(id: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text(id))
        .with_generation_id(generation)
}

fn leave(id: &str, instance: Option<&str>) -> LeaveGroupRequest {
    let member = MemberIdentity::default()
        .with_member_id(text(id))
        .with_group_instance_id(instance.map(text));
    LeaveGroupRequest::default()
        .with_group_id(group())
        .with_members(vec![member])
}

/// A group on three nodes, its coordinator on node 1.
struct Group {
    script: Script,
}

impl Group {
    fn with_delay(initial_delay_ms: i32) -> Self {
        let mut options = Options::with_nodes(3);
        options.group_initial_rebalance_delay_ms = initial_delay_ms;
        let mut script = Script::with(options);
        script.topic("t", 2, &[]);
        script.cluster.move_coordinator("g", NodeId(1));
        Self { script }
    }

    fn new() -> Self {
        Self::with_delay(0)
    }

    fn start(&mut self, request: &JoinGroupRequest) -> ConnectionId {
        let connection = self.script.connect(1);
        self.script.send(connection, 9, request);
        connection
    }

    fn joined(&mut self, connection: ConnectionId) -> Option<JoinGroupResponse> {
        self.script.take::<JoinGroupRequest>(connection, 9)
    }

    /// Asks for an id.
    fn knock(&mut self) -> String {
        let response = self.script.call(1, 9, &join(""));
        assert_eq!(response.error_code, ErrorCode::MEMBER_ID_REQUIRED.0);
        response.member_id.to_string()
    }

    /// The first member, leader of generation 1 with its assignment.
    fn founded() -> (Self, String) {
        let mut group = Self::new();
        let id = group.knock();
        let connection = group.start(&join(&id));
        let joined = group
            .joined(connection)
            .expect("alone, it waits for nobody");
        assert_eq!((joined.error_code, joined.generation_id), (0, 1));
        assert_eq!((&*joined.leader, joined.members.len()), (&*id, 1));
        let synced = group.script.call(1, 5, &sync(&id, 1, &[(&id, "all")]));
        assert_eq!((synced.error_code, synced.assignment), (0, bytes("all")));
        (group, id)
    }

    fn heartbeat(&mut self, id: &str, generation: i32) -> ErrorCode {
        ErrorCode(self.script.call(1, 4, &beat(id, generation)).error_code)
    }

    fn commit(&mut self, id: &str, generation: i32) -> ErrorCode {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(7);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group())
            .with_member_id(text(id))
            .with_generation_id_or_member_epoch(generation)
            .with_topics(vec![topic]);
        let response = self.script.call(1, 9, &request);
        ErrorCode(response.topics[0].partitions[0].error_code)
    }

    fn state(&mut self) -> String {
        let request = DescribeGroupsRequest::default().with_groups(vec![group()]);
        let response = self.script.call(1, 5, &request);
        response.groups[0].group_state.to_string()
    }
}

#[test]
fn a_second_member_rebalances_the_group_and_the_leader_assigns() {
    let (mut group, first) = Group::founded();
    let second = group.knock();
    let waiting = group.start(&join(&second));
    assert!(group.joined(waiting).is_none(), "it waits for the first");
    assert_eq!(group.heartbeat(&first, 1), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(group.commit(&first, 1), ErrorCode::NONE);

    let rejoining = group.start(&join(&first));
    let of_leader = group.joined(rejoining).unwrap();
    let of_second = group.joined(waiting).unwrap();
    assert_eq!((of_leader.generation_id, of_second.generation_id), (2, 2));
    assert_eq!((of_leader.members.len(), of_second.members.len()), (2, 0));
    assert_eq!(
        (&*of_second.leader, &*of_second.member_id),
        (&*first, &*second)
    );
    assert_eq!(group.state(), "CompletingRebalance");
    assert_eq!(group.commit(&first, 2), ErrorCode::REBALANCE_IN_PROGRESS);

    let syncing = group.script.connect(1);
    group.script.send(syncing, 5, &sync(&second, 2, &[]));
    assert!(group.script.take::<SyncGroupRequest>(syncing, 5).is_none());
    let assignments = [(&*first, "one"), (&*second, "two")];
    let synced = group.script.call(1, 5, &sync(&first, 2, &assignments));
    assert_eq!(synced.assignment, bytes("one"));
    let synced: SyncGroupResponse = group.script.take::<SyncGroupRequest>(syncing, 5).unwrap();
    assert_eq!(synced.assignment, bytes("two"));
    assert_eq!(synced.protocol_name.as_deref(), Some("range"));
    assert_eq!(group.heartbeat(&second, 2), ErrorCode::NONE);
    assert_eq!(group.state(), "Stable");
}

#[test]
fn who_is_silent_for_its_session_is_out() {
    let (mut group, first) = Group::founded();
    group.script.pass_ms(9_000);
    assert_eq!(group.heartbeat(&first, 1), ErrorCode::NONE);
    group.script.pass_ms(9_999);
    assert_eq!(group.state(), "Stable");
    group.script.pass_ms(1);
    assert_eq!(group.state(), "Empty");
    assert_eq!(group.heartbeat(&first, 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn who_does_not_rejoin_in_time_is_left_behind() {
    let (mut group, first) = Group::founded();
    let second = group.knock();
    let waiting = group.start(&join(&second));
    for _ in 0..3 {
        group.script.pass_ms(9_000);
        assert_eq!(group.heartbeat(&first, 1), ErrorCode::REBALANCE_IN_PROGRESS);
    }
    group.script.pass_ms(3_000);
    let joined = group
        .joined(waiting)
        .expect("the rebalance timeout is over");
    assert_eq!((&*joined.leader, joined.members.len()), (&*second, 1));
    assert_eq!(group.heartbeat(&first, 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_leader_that_never_assigns_is_out_after_the_rebalance_timeout() {
    let mut group = Group::new();
    let id = group.knock();
    let connection = group.start(&join(&id));
    assert!(group.joined(connection).is_some());
    for _ in 0..3 {
        group.script.pass_ms(9_000);
        assert_eq!(group.heartbeat(&id, 1), ErrorCode::NONE);
    }
    group.script.pass_ms(3_000);
    assert_eq!(group.heartbeat(&id, 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn the_first_members_wait_for_more_as_long_as_more_come() {
    let mut group = Group::with_delay(3_000);
    let first = group.knock();
    let waiting = group.start(&join(&first));
    group.script.pass_ms(2_000);
    let second = group.knock();
    let also_waiting = group.start(&join(&second));
    group.script.pass_ms(1_000);
    assert!(
        group.joined(waiting).is_none(),
        "one more came: another delay"
    );
    group.script.pass_ms(3_000);
    assert_eq!(group.joined(waiting).unwrap().generation_id, 1);
    assert_eq!(group.joined(also_waiting).unwrap().generation_id, 1);
}

#[test]
fn a_lost_answer_to_a_join_is_given_again() {
    let mut group = Group::new();
    let id = group.knock();
    let lost = group.start(&join(&id));
    assert!(group.joined(lost).is_some());
    let again = group.start(&join(&id));
    let joined = group.joined(again).expect("no rebalance");
    assert_eq!((joined.generation_id, joined.members.len()), (1, 1));
}

#[test]
fn protocols_are_voted_for_among_those_that_all_have() {
    let mut group = Group::new();
    let first = group.knock();
    let founding = group.start(&join_with(&first, &["a", "b", "c"]));
    assert!(group.joined(founding).is_some());
    let stranger = group.script.call(1, 9, &join_with("", &["d"]));
    assert_eq!(
        stranger.error_code,
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL.0
    );
    let second = {
        let response = group.script.call(1, 9, &join_with("", &["c", "b"]));
        response.member_id.to_string()
    };
    let third = {
        let response = group.script.call(1, 9, &join_with("", &["c", "b"]));
        response.member_id.to_string()
    };
    let waiting = group.start(&join_with(&second, &["c", "b"]));
    group.start(&join_with(&third, &["c", "b"]));
    group.start(&join_with(&first, &["a", "b", "c"]));
    let joined = group.joined(waiting).unwrap();
    assert_eq!(joined.protocol_name.as_deref(), Some("c"));
}

#[test]
fn line_34_a_static_member_takes_its_place_again_and_fences_its_ghost() {
    let mut group = Group::new();
    let request = |id: &str| join(id).with_group_instance_id(Some(text("i")));
    let connection = group.start(&request(""));
    let old = group.joined(connection).unwrap().member_id.to_string();
    assert!(old.starts_with("i-"), "{old}");
    let synced = group.script.call(1, 5, &sync(&old, 1, &[(&old, "all")]));
    assert_eq!(synced.assignment, bytes("all"));

    let connection = group.start(&request(""));
    let joined = group.joined(connection).expect("no rebalance");
    assert_eq!((joined.generation_id, joined.skip_assignment), (1, true));
    let new = joined.member_id.to_string();
    assert_ne!(new, old);
    let synced = group.script.call(1, 5, &sync(&new, 1, &[]));
    assert_eq!(synced.assignment, bytes("all"));

    let ghost = beat(&old, 1).with_group_instance_id(Some(text("i")));
    let answer = group.script.call(1, 4, &ghost);
    assert_eq!(answer.error_code, ErrorCode::FENCED_INSTANCE_ID.0);
    let fenced = group.start(&request(&old));
    assert_eq!(
        group.joined(fenced).unwrap().error_code,
        ErrorCode::FENCED_INSTANCE_ID.0
    );
    let left = group.script.call(1, 5, &leave("", Some("i")));
    assert_eq!(left.members[0].error_code, 0);
    assert_eq!(group.state(), "Empty");
}

#[test]
fn a_member_that_leaves_is_not_waited_for() {
    let (mut group, first) = Group::founded();
    let second = group.knock();
    let waiting = group.start(&join(&second));
    let left = group.script.call(1, 5, &leave(&first, None));
    assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
    assert_eq!(&*group.joined(waiting).unwrap().leader, &*second);
    let unknown = group.script.call(1, 5, &leave(&first, None));
    assert_eq!(
        unknown.members[0].error_code,
        ErrorCode::UNKNOWN_MEMBER_ID.0
    );
}

#[test]
fn line_29_only_a_member_in_the_present_generation_commits() {
    let (mut group, first) = Group::founded();
    assert_eq!(group.commit(&first, 1), ErrorCode::NONE);
    assert_eq!(group.commit(&first, 0), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(group.commit("nobody", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(group.commit("", -1), ErrorCode::UNKNOWN_MEMBER_ID);
    group.script.call(1, 5, &leave(&first, None));
    assert_eq!(group.commit("", -1), ErrorCode::NONE);
}

#[test]
fn line_30_a_coordinator_that_moves_lets_its_waits_go_and_keeps_the_members() {
    let (mut group, first) = Group::founded();
    let second = group.knock();
    let waiting = group.start(&join(&second));
    group.script.cluster.move_coordinator("g", NodeId(2));
    group.script.pass_ms(1);
    group.script.cluster.handle_timeout(group.script.now);
    group.script.collect();
    let moved = group.joined(waiting).unwrap();
    assert_eq!(moved.error_code, ErrorCode::NOT_COORDINATOR.0);
    assert_eq!(group.heartbeat(&first, 1), ErrorCode::NOT_COORDINATOR);
    let there = group.script.call(2, 4, &beat(&first, 1));
    assert_eq!(there.error_code, ErrorCode::REBALANCE_IN_PROGRESS.0);
}

#[test]
fn every_version_of_every_message_is_served() {
    for version in 0..=9 {
        let mut group = Group::new();
        let mut request = join("");
        if version == 0 {
            request.rebalance_timeout_ms = -1;
        }
        let first = group.script.call(1, version, &request);
        let joined = match version {
            0..=3 => first,
            _ => group.script.call(1, version, &join(&first.member_id)),
        };
        assert_eq!(
            (joined.error_code, joined.generation_id),
            (0, 1),
            "{version}"
        );
        let id = joined.member_id.to_string();
        let synced = group
            .script
            .call(1, version.min(5), &sync(&id, 1, &[(&id, "x")]));
        assert_eq!(synced.assignment, bytes("x"), "{version}");
        let beaten = group.script.call(1, version.min(4), &beat(&id, 1));
        assert_eq!(beaten.error_code, 0, "{version}");
        let mut leaving = leave(&id, None);
        if version < 3 {
            leaving.members.clear();
            leaving.member_id = text(&id);
        }
        assert_eq!(
            group.script.call(1, version.min(5), &leaving).error_code,
            0,
            "{version}"
        );
        assert_eq!(group.state(), "Empty", "{version}");
    }
}

#[test]
fn members_are_described_and_groups_listed_with_their_state() {
    let (mut group, first) = Group::founded();
    let request = DescribeGroupsRequest::default().with_groups(vec![super::membership::group()]);
    let described = group.script.call(1, 6, &request).groups[0].clone();
    assert_eq!(
        (&*described.protocol_type, &*described.protocol_data),
        ("consumer", "range")
    );
    let member = &described.members[0];
    assert_eq!(
        (&*member.member_id, &*member.client_id),
        (&*first, "script")
    );
    assert_eq!(
        (&member.member_metadata, &member.member_assignment),
        (&bytes("range"), &bytes("all"))
    );
    let listed = group.script.call(1, 5, &ListGroupsRequest::default());
    let listed = &listed.groups[0];
    assert_eq!(
        (&*listed.group_state, &*listed.protocol_type),
        ("Stable", "consumer")
    );
}
