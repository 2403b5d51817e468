//! The group room alone, its coordinator scripted, its time simulated.

mod member;

use super::*;
use crate::by_topic::topic_name;
use crate::call::{Body, BrokerId};
use crate::options::OffsetReset;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use tidewatch_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use tidewatch_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};

fn options() -> ConsumerOptions {
    ConsumerOptions {
        group_id: Some("g".to_owned()),
        offset_reset: OffsetReset::Earliest,
        retry_backoff_ms: (100, 1000),
        request_timeout_ms: 30_000,
        default_api_timeout_ms: 60_000,
        ..ConsumerOptions::default()
    }
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

struct Script {
    room: GroupRoom,
    now: Now,
    requests: u64,
}

impl Script {
    fn new(options: ConsumerOptions) -> Self {
        Self {
            room: GroupRoom::new(
                0,
                options,
                1,
                crate::pulse::Pulse::new(std::task::Waker::noop().clone()),
            ),
            now: Now::default(),
            requests: 0,
        }
    }

    fn command(&mut self, command: Command) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.room.handle_command(self.now, request, command);
        request
    }

    fn commit(&mut self, offsets: &[(i32, i64)]) -> RequestId {
        let offsets = offsets.iter().map(|(partition, offset)| {
            let offset = OffsetAndMetadata::new(*offset, 5).with_metadata("m");
            (tp(*partition), offset)
        });
        self.command(Command::Commit(offsets.collect()))
    }

    fn call(&mut self) -> Option<Call> {
        self.room.poll_call(self.now, &Permits::all())
    }

    fn commit_call(&mut self) -> (Call, OffsetCommitRequest) {
        let call = self.call().expect("a commit is due");
        let Body::OffsetCommit(request) = &call.body else {
            panic!("not a commit: {:?}", call.body)
        };
        let request = (**request).clone();
        (call, request)
    }

    fn look_up_call(&mut self) -> (Call, OffsetFetchRequest) {
        let call = self.call().expect("a look-up is due");
        let Body::OffsetFetch(request) = &call.body else {
            panic!("not a look-up: {:?}", call.body)
        };
        let request = (**request).clone();
        (call, request)
    }

    fn reply(&mut self, call: &Call, response: Response) {
        let reply = Reply {
            response,
            version: 9,
            broker: BrokerId(1),
        };
        self.room.handle_reply(self.now, call.id, Ok(reply));
    }

    fn reply_commit(&mut self, call: &Call, codes: &[(i32, ErrorCode)]) {
        let partitions = codes.iter().map(|(partition, code)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(*partition)
                .with_error_code(code.0)
        });
        let topic = OffsetCommitResponseTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(partitions.collect());
        let response = OffsetCommitResponse::default().with_topics(vec![topic]);
        self.reply(call, Response::OffsetCommit(response));
    }

    fn lose(&mut self, call: &Call) {
        let error = CallError {
            kind: CallErrorKind::Disconnected {
                address: "b:9092".to_owned(),
                why: "end of file".to_owned(),
            },
            written: true,
            broker: None,
        };
        self.room.handle_reply(self.now, call.id, Err(error));
    }

    fn finished(&mut self) -> Option<(RequestId, Result<Outcome, Error>)> {
        self.room.poll_finished()
    }

    fn error(&mut self) -> String {
        self.finished().unwrap().1.unwrap_err().to_string()
    }

    fn coordinator_was_lost(&mut self) -> bool {
        let group = Coordinated::Group(Arc::from("g"));
        match self.room.poll_fact(self.now) {
            Some(Fact::CoordinatorLost(lost)) => lost == group,
            _ => false,
        }
    }

    fn wait_for_timer(&mut self) {
        let (at_us, _) = self.room.poll_timeout().expect("a timer runs");
        assert!(at_us > self.now.monotonic_us, "it would spin");
        self.now.monotonic_us = at_us;
    }
}

fn found(partition: i32, offset: i64, code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(5)
        .with_metadata(Some(StrBytes::from_static_str("m")))
        .with_error_code(code.0)
}

fn found_in_group(partitions: Vec<OffsetFetchResponsePartitions>) -> Response {
    let topic = OffsetFetchResponseTopics::default()
        .with_name(topic_name("t"))
        .with_partitions(partitions);
    let group = OffsetFetchResponseGroup::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_topics(vec![topic]);
    Response::OffsetFetch(OffsetFetchResponse::default().with_groups(vec![group]))
}

#[test]
fn a_commit_of_hand_assigned_partitions_has_no_member() {
    let mut script = Script::new(options());
    let request = script.commit(&[(0, 42), (1, 43)]);
    let (call, body) = script.commit_call();
    assert_eq!(
        call.destination,
        Destination::Coordinator(Coordinated::Group(Arc::from("g")))
    );
    assert_eq!(&*body.group_id.0, "g");
    assert_eq!(body.generation_id_or_member_epoch, -1);
    assert_eq!((&*body.member_id, &body.group_instance_id), ("", &None));
    assert_eq!(body.retention_time_ms, -1);
    let partition = &body.topics[0].partitions[0];
    assert_eq!(
        (partition.partition_index, partition.committed_offset),
        (0, 42)
    );
    assert_eq!(partition.committed_leader_epoch, 5);
    assert_eq!(partition.committed_metadata.as_deref(), Some("m"));
    script.reply_commit(&call, &[(0, ErrorCode::NONE), (1, ErrorCode::NONE)]);
    let (finished, end) = script.finished().unwrap();
    assert_eq!(finished, request);
    assert!(matches!(end, Ok(Outcome::Done)));
}

#[test]
fn line_29_a_commit_that_is_retried_never_overwrites_a_newer_one() {
    let mut script = Script::new(options());
    let older = script.commit(&[(0, 10)]);
    let newer = script.commit(&[(0, 20)]);
    let mut committed = Vec::new();
    let (call, _) = script.commit_call();
    assert!(script.call().is_none(), "the newer one waits for the older");
    script.lose(&call);
    assert!(script.call().is_none(), "it backs off");
    let mut ended = Vec::new();
    while ended.len() < 2 {
        script.wait_for_timer();
        while let Some(call) = script.call() {
            let Body::OffsetCommit(body) = &call.body else {
                panic!("not a commit")
            };
            committed.push(body.topics[0].partitions[0].committed_offset);
            script.reply_commit(&call, &[(0, ErrorCode::NONE)]);
            ended.push(script.finished().unwrap().0);
        }
    }
    assert_eq!(committed, [10, 20]);
    assert_eq!(ended, [older, newer]);
}

#[test]
fn line_29_a_commit_past_its_deadline_still_keeps_its_place() {
    let mut script = Script::new(options());
    script.commit(&[(0, 10)]);
    let (stuck, _) = script.commit_call();
    script.now.monotonic_us = 59_000_000;
    script.commit(&[(0, 20)]);
    script.now.monotonic_us = 60_000_000;
    assert!(script.call().is_none(), "the call may still be carried out");
    let error = script.error();
    assert!(
        error.starts_with("failed to commit t/0 at 10 in group g within 60000 ms"),
        "{error}"
    );
    script.reply_commit(&stuck, &[(0, ErrorCode::NONE)]);
    assert!(script.finished().is_none());
    let (_, body) = script.commit_call();
    assert_eq!(body.topics[0].partitions[0].committed_offset, 20);
}

#[test]
fn line_29_what_members_are_told_is_explained_to_a_consumer_that_is_none() {
    for code in [
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::REBALANCE_IN_PROGRESS,
    ] {
        let mut script = Script::new(options());
        script.commit(&[(0, 10)]);
        let (call, _) = script.commit_call();
        script.reply_commit(&call, &[(0, code)]);
        let error = script.error();
        assert!(
            error.contains("the group has members that subscribe"),
            "{error}"
        );
    }
}

#[test]
fn line_30_the_coordinator_is_looked_up_again() {
    for code in [
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
    ] {
        let mut script = Script::new(options());
        script.commit(&[(0, 10)]);
        let (call, _) = script.commit_call();
        script.reply_commit(&call, &[(0, code)]);
        assert!(script.coordinator_was_lost(), "{code}");
        assert!(script.call().is_none(), "{code}");
        script.wait_for_timer();
        let (call, _) = script.commit_call();
        script.reply_commit(&call, &[(0, ErrorCode::NONE)]);
        assert!(script.finished().unwrap().1.is_ok(), "{code}");
    }
}

#[test]
fn line_30_a_dead_broker_or_a_timeout_clears_the_coordinator() {
    let mut script = Script::new(options());
    script.command(Command::Committed(vec![tp(0)]));
    let (call, _) = script.look_up_call();
    script.lose(&call);
    assert!(script.coordinator_was_lost());
    script.wait_for_timer();
    let (call, _) = script.look_up_call();
    let error = CallError {
        kind: CallErrorKind::TimedOut {
            address: "b:9092".to_owned(),
            timeout_ms: 30_000,
        },
        written: true,
        broker: None,
    };
    script.room.handle_reply(script.now, call.id, Err(error));
    assert!(script.coordinator_was_lost());
}

#[test]
fn only_what_failed_is_committed_again() {
    let mut script = Script::new(options());
    script.commit(&[(0, 10), (1, 11), (2, 12)]);
    let (call, _) = script.commit_call();
    // Partition 2 is not answered at all.
    let codes = [
        (0, ErrorCode::NONE),
        (1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    ];
    script.reply_commit(&call, &codes);
    assert!(script.finished().is_none());
    script.wait_for_timer();
    let (_, body) = script.commit_call();
    let again = body.topics[0].partitions.iter().map(|p| p.partition_index);
    assert_eq!(again.collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_partition_that_cannot_be_committed_is_named_once_the_others_are() {
    let mut script = Script::new(options());
    script.commit(&[(0, 10), (1, 11)]);
    let (call, _) = script.commit_call();
    let codes = [
        (0, ErrorCode::OFFSET_METADATA_TOO_LARGE),
        (1, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
    ];
    script.reply_commit(&call, &codes);
    script.wait_for_timer();
    let (call, body) = script.commit_call();
    assert_eq!(body.topics[0].partitions.len(), 1);
    script.reply_commit(&call, &[(1, ErrorCode::NONE)]);
    let error = script.error();
    assert!(
        error.starts_with("failed to commit t/0 at 10 in group g: OFFSET_METADATA_TOO_LARGE"),
        "{error}"
    );
    assert!(
        error.ends_with("raise the broker's offset.metadata.max.bytes"),
        "{error}"
    );
}

#[test]
fn committed_offsets_come_in_the_order_asked() {
    let read_committed = ConsumerOptions {
        read_committed: true,
        ..options()
    };
    let mut script = Script::new(read_committed);
    script.command(Command::Committed(vec![tp(1), tp(0)]));
    let (call, body) = script.look_up_call();
    assert!(body.require_stable);
    assert_eq!(
        body.groups[0].topics.as_ref().unwrap()[0].partition_indexes,
        [1, 0]
    );
    let answers = vec![found(0, 7, ErrorCode::NONE), found(1, -1, ErrorCode::NONE)];
    script.reply(&call, found_in_group(answers));
    let Some((_, Ok(Outcome::Offsets(offsets)))) = script.finished() else {
        panic!("no offsets")
    };
    assert_eq!(offsets[0].0, tp(1));
    assert_eq!(offsets[0].1.offset, -1);
    let seven = OffsetAndMetadata::new(7, 5).with_metadata("m");
    assert_eq!(offsets[1], (tp(0), seven));
}

#[test]
fn line_19_unstable_offsets_are_asked_for_again() {
    let mut script = Script::new(options());
    script.command(Command::Committed(vec![tp(0)]));
    let (call, _) = script.look_up_call();
    let unstable = vec![found(0, -1, ErrorCode::UNSTABLE_OFFSET_COMMIT)];
    script.reply(&call, found_in_group(unstable));
    assert!(script.finished().is_none());
    script.wait_for_timer();
    let (call, _) = script.look_up_call();
    script.reply(&call, found_in_group(vec![found(0, 7, ErrorCode::NONE)]));
    assert!(script.finished().unwrap().1.is_ok());
}

impl Script {
    fn rewind(&mut self, round: u64) {
        let fact = Fact::CommittedWanted {
            consumer: 0,
            partitions: Arc::from([tp(0), tp(1)]),
            round,
        };
        self.room.handle_fact(self.now, &fact);
    }

    /// What the reader is told of where the group stands, and in which round.
    fn rewound(&mut self) -> Option<(u64, Vec<Option<i64>>)> {
        let facts = std::iter::from_fn(|| self.room.poll_fact(self.now));
        let told = facts.filter_map(|fact| match fact {
            Fact::Committed {
                committed, round, ..
            } => {
                let offsets = committed.iter();
                let offsets = offsets.map(|(_, at)| at.as_ref().map(|at| at.offset));
                Some((round, offsets.collect()))
            }
            _ => None,
        });
        told.last()
    }
}

#[test]
fn line_19_a_reader_that_goes_back_waits_until_transactions_are_decided() {
    let mut script = Script::new(ConsumerOptions {
        read_committed: true,
        ..options()
    });
    script.rewind(7);
    let (call, request) = script.look_up_call();
    assert!(request.require_stable);
    let undecided = found(0, -1, ErrorCode::UNSTABLE_OFFSET_COMMIT);
    let nothing = found(1, -1, ErrorCode::NONE);
    script.reply(&call, found_in_group(vec![undecided, nothing.clone()]));
    assert_eq!(script.rewound(), None);
    script.wait_for_timer();
    let (call, _) = script.look_up_call();
    let decided = found(0, 5, ErrorCode::NONE);
    script.reply(&call, found_in_group(vec![decided, nothing]));
    assert_eq!(script.rewound(), Some((7, vec![Some(5), None])));
}

#[test]
fn where_a_reader_goes_back_to_is_asked_until_it_is_known() {
    let mut script = Script::new(options());
    script.rewind(1);
    let (call, _) = script.look_up_call();
    let refused = found(0, -1, ErrorCode::GROUP_AUTHORIZATION_FAILED);
    script.reply(&call, found_in_group(vec![refused]));
    assert!(matches!(
        script.room.poll_fact(script.now),
        Some(Fact::MembershipFailed { .. })
    ));
    assert!(script.call().is_none(), "not at once");
    script.wait_for_timer();
    let (call, _) = script.look_up_call();
    // A later one takes its place.
    script.rewind(2);
    let offsets = || {
        let offsets = [(0, 5), (1, 6)].map(|(p, at)| found(p, at, ErrorCode::NONE));
        found_in_group(offsets.to_vec())
    };
    script.reply(&call, offsets());
    assert_eq!(script.rewound(), None);
    let (call, _) = script.look_up_call();
    script.reply(&call, offsets());
    assert_eq!(script.rewound(), Some((2, vec![Some(5), Some(6)])));
    assert!(script.call().is_none());
}

#[test]
fn older_brokers_are_asked_and_understood_in_their_own_shape() {
    let mut script = Script::new(options());
    script.command(Command::Committed(vec![tp(0)]));
    let (call, mut body) = script.look_up_call();
    body.require_stable = true;
    let at_9 = shape_offset_fetch(&body, 9);
    assert_eq!(at_9, body);
    for (version, stable) in [(7, true), (1, false)] {
        let shaped = shape_offset_fetch(&body, version);
        assert_eq!((&*shaped.group_id.0, shaped.groups.len()), ("g", 0));
        assert_eq!(shaped.topics.as_ref().unwrap()[0].partition_indexes, [0]);
        assert_eq!(shaped.require_stable, stable);
        let as_body = Body::OffsetFetch(body.clone().into());
        assert!(as_body.encode(version, 1, "c").is_ok(), "version {version}");
    }
    let partition = OffsetFetchResponsePartition::default()
        .with_committed_offset(7)
        .with_metadata(None);
    let topic = OffsetFetchResponseTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let response = OffsetFetchResponse::default().with_topics(vec![topic]);
    script.reply(&call, Response::OffsetFetch(response));
    let Some((_, Ok(Outcome::Offsets(offsets)))) = script.finished() else {
        panic!("no offsets")
    };
    assert_eq!(offsets[0].1.offset, 7);
}

#[test]
fn without_a_group_nothing_is_sent() {
    let without = ConsumerOptions {
        group_id: None,
        ..options()
    };
    let mut script = Script::new(without);
    script.commit(&[(0, 10)]);
    assert!(script.call().is_none());
    let error = script.error();
    assert!(error.contains("the consumer has no group.id"), "{error}");
}

#[test]
fn the_queue_is_bounded() {
    let mut script = Script::new(options());
    for _ in 0..MAX_QUEUED_REQUESTS {
        script.commit(&[(0, 10)]);
    }
    assert!(script.finished().is_none());
    script.commit(&[(0, 10)]);
    assert!(
        script
            .error()
            .contains("1024 requests of this group wait already")
    );
}

#[test]
fn an_empty_commit_is_done_at_once() {
    let mut script = Script::new(options());
    script.commit(&[]);
    assert!(script.call().is_none());
    assert!(matches!(script.finished().unwrap().1, Ok(Outcome::Done)));
}

#[test]
fn what_cannot_succeed_is_an_error_at_once() {
    let mut script = Script::new(options());
    script.command(Command::Committed(vec![tp(0)]));
    let (call, _) = script.look_up_call();
    let denied = vec![found(0, -1, ErrorCode::TOPIC_AUTHORIZATION_FAILED)];
    script.reply(&call, found_in_group(denied));
    let error = script.error();
    assert!(error.contains("TOPIC_AUTHORIZATION_FAILED"), "{error}");
}
