//! A member, its coordinator played by the test, and the clock.

use super::super::*;
use crate::call::{GroupMetadata, RevokeHow};
use crate::group::assignor::Strategy;
use crate::group::subscription::Assignment;
use crate::metadata::{Cluster, Partition, Topic};
use crate::pulse::Pulse;
use bytes::Bytes;
use std::task::Waker;
use tidewatch_protocol::messages::join_group_response::JoinGroupResponseMember;
use tidewatch_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    SyncGroupRequest, SyncGroupResponse,
};

pub(super) const CONSUMER: u32 = 7;

pub(super) struct Group {
    pub(super) room: GroupRoom,
    pub(super) pulse: Arc<Pulse>,
    pub(super) now: Now,
    pub(super) facts: Vec<Fact>,
    pub(super) requests: u64,
}

pub(super) fn cooperative() -> ConsumerOptions {
    ConsumerOptions {
        assignors: vec![Strategy::named("cooperative-sticky").unwrap()],
        ..by_hand()
    }
}

/// Range alone, and nothing committed by itself.
pub(super) fn by_hand() -> ConsumerOptions {
    ConsumerOptions {
        assignors: vec![Strategy::named("range").unwrap()],
        auto_commit: false,
        ..options()
    }
}

pub(super) fn assignment(partitions: &[i32]) -> Bytes {
    Assignment::of(partitions.iter().map(|p| tp(*p)).collect()).encode()
}

impl Group {
    pub(super) fn new(options: ConsumerOptions) -> Self {
        let pulse = Pulse::new(Waker::noop().clone());
        let mut group = Self {
            room: GroupRoom::new(CONSUMER, options, 1, Arc::clone(&pulse)),
            pulse,
            now: Now::default(),
            facts: Vec::new(),
            requests: 0,
        };
        group.learn_partitions(4);
        group
    }

    pub(super) fn learn_partitions(&mut self, count: usize) {
        let partition = Partition {
            leader: Some(BrokerId(1)),
            leader_epoch: 0,
            replicas: Vec::new(),
            in_sync_replicas: Vec::new(),
        };
        let topic = Topic {
            id: uuid::Uuid::nil(),
            error: ErrorCode::NONE,
            partitions: vec![partition; count],
        };
        let mut cluster = Cluster::default();
        cluster.topics.insert(Arc::from("t"), topic);
        self.room
            .handle_fact(self.now, &Fact::ClusterChanged(Arc::new(cluster)));
    }

    pub(super) fn command(&mut self, command: Command) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.room.handle_command(self.now, request, command);
        request
    }

    pub(super) fn subscribe(&mut self) {
        self.command(Command::Subscribe(vec![Arc::from("t")]));
        assert!(self.room.poll_finished().unwrap().1.is_ok());
    }

    pub(super) fn commit(&mut self, offset: i64) -> RequestId {
        self.command(Command::Commit(vec![(
            tp(0),
            OffsetAndMetadata::new(offset, 5),
        )]))
    }

    pub(super) fn call(&mut self) -> Option<Call> {
        while let Some(fact) = self.room.poll_fact(self.now) {
            self.facts.push(fact);
        }
        self.room.poll_call(self.now, &Permits::all())
    }

    #[track_caller]
    pub(super) fn idle(&mut self) {
        let call = self.call();
        assert!(call.is_none(), "{call:?}");
    }

    #[track_caller]
    pub(super) fn join_call(&mut self) -> (Call, JoinGroupRequest) {
        let call = self.call().expect("a JoinGroup is due");
        match &call.body {
            Body::JoinGroup(body) => {
                let body = (**body).clone();
                (call, body)
            }
            other => panic!("not a JoinGroup: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn sync_call(&mut self) -> (Call, SyncGroupRequest) {
        let call = self.call().expect("a SyncGroup is due");
        match &call.body {
            Body::SyncGroup(body) => {
                let body = (**body).clone();
                (call, body)
            }
            other => panic!("not a SyncGroup: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn beat_call(&mut self) -> (Call, HeartbeatRequest) {
        let call = self.call().expect("a heartbeat is due");
        match &call.body {
            Body::Heartbeat(body) => {
                let body = (**body).clone();
                (call, body)
            }
            other => panic!("not a heartbeat: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn commit_call(&mut self) -> (Call, OffsetCommitRequest) {
        let call = self.call().expect("a commit is due");
        match &call.body {
            Body::OffsetCommit(body) => {
                let body = (**body).clone();
                (call, body)
            }
            other => panic!("not a commit: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn leave_call(&mut self) -> (Call, LeaveGroupRequest) {
        let call = self.call().expect("a LeaveGroup is due");
        match &call.body {
            Body::LeaveGroup(body) => {
                let body = (**body).clone();
                (call, body)
            }
            other => panic!("not a LeaveGroup: {other:?}"),
        }
    }

    pub(super) fn reply(&mut self, call: &Call, response: Response) {
        let reply = Reply {
            response,
            version: 9,
            broker: BrokerId(1),
        };
        self.room.handle_reply(self.now, call.id, Ok(reply));
    }

    pub(super) fn reply_joined(
        &mut self,
        call: &Call,
        generation: i32,
        leader: &str,
        members: &[(&str, Bytes)],
    ) {
        let members = members.iter().map(|(id, metadata)| {
            JoinGroupResponseMember::default()
                .with_member_id(StrBytes::from_string((*id).to_owned()))
                .with_metadata(metadata.clone())
        });
        let Body::JoinGroup(asked) = &call.body else {
            panic!("not a JoinGroup")
        };
        let response = JoinGroupResponse::default()
            .with_generation_id(generation)
            .with_protocol_name(Some(asked.protocols[0].name.clone()))
            .with_member_id(StrBytes::from_static_str("me"))
            .with_leader(StrBytes::from_string(leader.to_owned()))
            .with_members(members.collect());
        self.reply(call, Response::JoinGroup(response));
    }

    pub(super) fn refuse_join(&mut self, call: &Call, code: ErrorCode, member_id: &str) {
        let response = JoinGroupResponse::default()
            .with_error_code(code.0)
            .with_member_id(StrBytes::from_string(member_id.to_owned()));
        self.reply(call, Response::JoinGroup(response));
    }

    pub(super) fn reply_beat(&mut self, call: &Call, code: ErrorCode) {
        let response = HeartbeatResponse::default().with_error_code(code.0);
        self.reply(call, Response::Heartbeat(response));
    }

    pub(super) fn reply_commit(&mut self, call: &Call, code: ErrorCode) {
        let partition = OffsetCommitResponsePartition::default().with_error_code(code.0);
        let topic = OffsetCommitResponseTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let response = OffsetCommitResponse::default().with_topics(vec![topic]);
        self.reply(call, Response::OffsetCommit(response));
    }

    /// Syncs as a follower and has the offsets looked up.
    pub(super) fn assign(&mut self, partitions: &[i32]) {
        let (sync, body) = self.sync_call();
        assert!(body.assignments.is_empty());
        let response = SyncGroupResponse::default().with_assignment(assignment(partitions));
        self.reply(&sync, Response::SyncGroup(response));
        if let Some(look_up) = self.call() {
            let Body::OffsetFetch(body) = &look_up.body else {
                panic!("not a look-up: {:?}", look_up.body)
            };
            let wanted = body.groups[0].topics.clone().unwrap_or_default();
            let wanted = wanted[0].partition_indexes.iter();
            let found = wanted.map(|p| found(*p, 10, ErrorCode::NONE)).collect();
            self.reply(&look_up, found_in_group(found));
        }
        self.idle();
    }

    /// A member of generation 1 that follows and has these partitions.
    pub(super) fn member(options: ConsumerOptions, partitions: &[i32]) -> Self {
        let mut group = Self::new(options);
        group.subscribe();
        let (join, _) = group.join_call();
        group.reply_joined(&join, 1, "other", &[]);
        group.assign(partitions);
        group.facts.clear();
        group
    }

    pub(super) fn pass_ms(&mut self, ms: u64) {
        self.now.monotonic_us += ms * 1000;
    }

    /// A heartbeat brings the news.
    pub(super) fn hear(&mut self, code: ErrorCode) {
        self.pass_ms(3_000);
        let (beat, _) = self.beat_call();
        self.reply_beat(&beat, code);
    }

    /// What was asked to be given up, in which way, and the round.
    pub(super) fn revoking(&mut self) -> Option<(Vec<i32>, RevokeHow, u64)> {
        self.idle();
        let facts = self.facts.iter().rev();
        let mut found = facts.filter_map(|fact| match fact {
            Fact::Revoking {
                partitions,
                how,
                round,
                consumer: CONSUMER,
            } => Some((
                partitions.iter().map(|p| p.partition).collect(),
                *how,
                *round,
            )),
            _ => None,
        });
        let first = found.next();
        self.facts.clear();
        first
    }

    pub(super) fn revoked(&mut self, round: u64) {
        let consumer = CONSUMER;
        self.room
            .handle_fact(self.now, &Fact::Revoked { consumer, round });
    }

    pub(super) fn delivered(&mut self, partition: i32, offset: i64) {
        let positions = [(tp(partition), OffsetAndMetadata::new(offset, 5))];
        let fact = Fact::Delivered {
            consumer: CONSUMER,
            positions: Arc::from(positions),
        };
        self.room.handle_fact(self.now, &fact);
    }

    pub(super) fn error(&mut self) -> String {
        self.room
            .poll_finished()
            .unwrap()
            .1
            .unwrap_err()
            .to_string()
    }

    pub(super) fn metadata(&self) -> GroupMetadata {
        self.room.member.standing().clone()
    }
}
