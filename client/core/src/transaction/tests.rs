//! The room alone: commands, facts and replies in; calls, permits and ends out.

use super::{Command, Transact, TransactionRoom};
use crate::call::{
    Body, Call, Coordinated, Destination, Fact, GroupMetadata, OffsetAndMetadata, Outcome, Permits,
    Reply, RequestId, Response, Room, SendPermit, Serve, TopicPartition, TransactionEnd,
};
use crate::error::{CallError, CallErrorKind, Error};
use crate::options::ProducerOptions;
use crate::time::Now;
use std::sync::Arc;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use tidewatch_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use tidewatch_protocol::messages::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnResponse, EndTxnResponse, InitProducerIdResponse,
    ProducerId, TopicName, TxnOffsetCommitResponse,
};

const BACKOFF_US: u64 = 200_000;

struct Scene {
    room: TransactionRoom,
    now: Now,
    requests: u64,
    /// The last permit.
    turn: u64,
    permit: Option<SendPermit>,
}

impl Scene {
    fn new() -> Self {
        let options = ProducerOptions {
            retry_backoff_ms: (100, 100),
            ..ProducerOptions::default()
        };
        let room = TransactionRoom::new(1, options.transactional("x").unwrap(), 1);
        Self {
            room,
            now: Now::default(),
            requests: 0,
            turn: 0,
            permit: None,
        }
    }

    /// Producer id 7, epoch 3, a transaction open.
    fn open(transaction_version: i16) -> Self {
        let mut scene = Self::new();
        scene.finalise(1, transaction_version);
        let init = scene.command(Command::Init);
        scene.answer_init(7, 3, 5);
        assert!(scene.ended(init).is_ok());
        scene.begin(1);
        scene
    }

    fn finalise(&mut self, epoch: i64, transaction_version: i16) {
        self.fact(Fact::FeaturesFinalised {
            epoch,
            transaction_version,
        });
    }

    fn fact(&mut self, fact: Fact) {
        self.room.handle_fact(self.now, &fact);
    }

    fn command(&mut self, command: Command) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.room.handle_command(self.now, request, command);
        request
    }

    fn begin(&mut self, number: u64) {
        let begin = self.command(Command::Begin(number));
        assert!(self.ended(begin).is_ok());
        assert!(matches!(
            self.permit(),
            SendPermit::Granted { lingers: true, .. }
        ));
    }

    /// Takes up the facts; what holds for the producer now.
    fn permit(&mut self) -> SendPermit {
        while let Some(fact) = self.room.poll_fact(self.now) {
            if let Fact::SendPermit { turn, permit, .. } = fact {
                (self.turn, self.permit) = (turn, Some(permit));
            }
        }
        self.permit.clone().unwrap()
    }

    fn want(&mut self, partition: i32) {
        self.fact(Fact::PartitionWanted {
            producer: 1,
            partition: TopicPartition::new("t", partition),
        });
    }

    fn drain(&mut self, gap: bool) {
        self.permit();
        let turn = self.turn;
        self.fact(Fact::Drained {
            producer: 1,
            turn,
            gap,
        });
    }

    fn fail_send(&mut self, code: ErrorCode) {
        self.fact(Fact::SendFailed {
            producer: 1,
            code: Some(code),
            why: Arc::from("refused"),
        });
    }

    fn call(&mut self) -> Option<Call> {
        self.room.poll_call(self.now, &Permits::all())
    }

    fn only_call(&mut self) -> Call {
        let call = self.call().expect("a call");
        assert!(self.call().is_none(), "one step at a time");
        call
    }

    fn reply(&mut self, call: &Call, response: Response, version: i16) {
        let reply = Reply {
            response,
            version,
            broker: crate::call::BrokerId(1),
        };
        self.room.handle_reply(self.now, call.id, Ok(reply));
    }

    fn lose(&mut self, call: &Call, written: bool) {
        let kind = CallErrorKind::Disconnected {
            address: "b1:9092".to_owned(),
            why: "reset".to_owned(),
        };
        let error = CallError {
            kind,
            written,
            broker: None,
        };
        self.room.handle_reply(self.now, call.id, Err(error));
    }

    fn answer_init(&mut self, id: i64, epoch: i16, version: i16) {
        let call = self.only_call();
        assert!(matches!(call.body, Body::InitProducerId(_)), "{call:?}");
        let answer = InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch);
        self.reply(&call, Response::InitProducerId(answer), version);
    }

    fn refuse_init(&mut self, code: ErrorCode) {
        let call = self.only_call();
        let answer = InitProducerIdResponse::default().with_error_code(code.0);
        self.reply(&call, Response::InitProducerId(answer), 5);
    }

    fn answer_added(&mut self, call: &Call, codes: &[(i32, ErrorCode)]) {
        let results = codes.iter().map(|(partition, code)| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(code.0)
        });
        let topic = AddPartitionsToTxnTopicResult::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_results_by_partition(results.collect());
        let answer =
            AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(vec![topic]);
        self.reply(call, Response::AddPartitionsToTxn(answer), 3);
    }

    fn answer_offsets(&mut self, call: &Call, code: ErrorCode) {
        let partition = TxnOffsetCommitResponsePartition::default().with_error_code(code.0);
        let topic = TxnOffsetCommitResponseTopic::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_partitions(vec![partition]);
        let answer = TxnOffsetCommitResponse::default().with_topics(vec![topic]);
        self.reply(call, Response::TxnOffsetCommit(answer), 5);
    }

    /// The EndTxn that the room makes now: whether it commits, and the highest version for it.
    fn end_txn(&mut self) -> (Call, bool) {
        let call = self.only_call();
        let Body::EndTxn(request) = &call.body else {
            panic!("not an EndTxn: {call:?}");
        };
        let committed = request.committed;
        (call, committed)
    }

    fn answer_end(&mut self, call: &Call, code: ErrorCode, next: Option<(i64, i16)>) {
        let (id, epoch) = next.unwrap_or((-1, -1));
        let answer = EndTxnResponse::default()
            .with_error_code(code.0)
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch);
        let version = if next.is_some() { 5 } else { 4 };
        self.reply(call, Response::EndTxn(answer), version);
    }

    fn ended(&mut self, request: RequestId) -> Result<Outcome, Error> {
        let (ended, end) = self.room.poll_finished().expect("a request has ended");
        assert_eq!(ended, request);
        end
    }

    fn pass(&mut self, us: u64) {
        self.now.monotonic_us += us;
    }

    /// Aborts, with everything drained, down to the EndTxn.
    fn abort(&mut self, number: u64, gap: bool) -> RequestId {
        let abort = self.command(Command::Abort(number));
        self.drain(gap);
        abort
    }

    fn stamp(&mut self) -> (i64, i16) {
        match self.permit() {
            SendPermit::Granted {
                producer_id,
                producer_epoch,
                ..
            } => (producer_id, producer_epoch),
            SendPermit::Refused(why) => panic!("refused: {why}"),
        }
    }
}

fn offsets(transaction: u64) -> Command {
    Command::SendOffsets {
        transaction,
        offsets: vec![(TopicPartition::new("t", 0), OffsetAndMetadata::new(42, 3))],
        group: GroupMetadata {
            group_id: Arc::from("g"),
            generation_id: 5,
            member_id: Arc::from("m"),
            group_instance_id: None,
        },
    }
}

fn added(permit: &SendPermit) -> Option<Vec<i32>> {
    let SendPermit::Granted { added, .. } = permit else {
        panic!("not granted: {permit:?}");
    };
    let added = added.as_ref()?;
    Some(added.iter().map(|partition| partition.partition).collect())
}

#[test]
fn line_15_version_1_adds_partitions_before_they_are_written_to_and_caps_what_it_speaks() {
    let mut scene = Scene::open(1);
    assert_eq!(added(&scene.permit()), Some(vec![]));
    scene.want(0);
    let add = scene.only_call();
    assert!(matches!(add.body, Body::AddPartitionsToTxn(_)));
    assert_eq!(added(&scene.permit()), Some(vec![]));
    scene.answer_added(&add, &[(0, ErrorCode::NONE)]);
    assert_eq!(added(&scene.permit()), Some(vec![0]));

    let sent = scene.command(offsets(1));
    let add = scene.only_call();
    assert!(matches!(add.body, Body::AddOffsetsToTxn(_)));
    let answer = AddOffsetsToTxnResponse::default();
    scene.reply(&add, Response::AddOffsetsToTxn(answer), 3);
    let commit_offsets = scene.only_call();
    assert_eq!(commit_offsets.version_cap, Some(4));
    scene.answer_offsets(&commit_offsets, ErrorCode::NONE);
    assert!(scene.ended(sent).is_ok());

    scene.command(Command::Commit(1));
    scene.drain(false);
    assert_eq!(scene.end_txn().0.version_cap, Some(4));
}

#[test]
fn line_15_version_2_leaves_adding_to_the_brokers() {
    let mut scene = Scene::open(2);
    assert_eq!(added(&scene.permit()), None);
    scene.want(0);
    assert!(scene.call().is_none());
    let sent = scene.command(offsets(1));
    let commit_offsets = scene.only_call();
    assert!(matches!(commit_offsets.body, Body::TxnOffsetCommit(_)));
    assert_eq!(commit_offsets.version_cap, None);
    scene.answer_offsets(&commit_offsets, ErrorCode::NONE);
    assert!(scene.ended(sent).is_ok());
    scene.command(Command::Commit(1));
    scene.drain(false);
    assert_eq!(scene.end_txn().0.version_cap, None);
}

#[test]
fn line_15_the_newest_finalised_feature_decides_for_the_next_transaction() {
    let mut scene = Scene::open(2);
    scene.finalise(3, 1);
    // An old broker's word comes late.
    scene.finalise(2, 2);
    assert_eq!(added(&scene.permit()), None);
    let commit = scene.command(Command::Commit(1));
    scene.drain(false);
    assert!(scene.ended(commit).is_ok());
    scene.begin(2);
    assert_eq!(added(&scene.permit()), Some(vec![]));
}

#[test]
fn line_16_a_lost_end_is_asked_for_again_and_the_next_transaction_waits() {
    let mut scene = Scene::open(2);
    scene.want(0);
    let commit = scene.command(Command::Commit(1));
    assert!(matches!(
        scene.permit(),
        SendPermit::Granted { lingers: false, .. }
    ));
    assert!(scene.call().is_none(), "records are under way");
    scene.drain(false);
    let (end, committed) = scene.end_txn();
    assert!(committed);
    scene.lose(&end, true);
    // Whoever drops the transaction now does not take the commit back.
    scene.command(Command::Abort(1));
    let begin = scene.command(Command::Begin(2));
    assert!(scene.call().is_none(), "not at once");
    scene.pass(BACKOFF_US);
    let (again, committed) = scene.end_txn();
    assert!(committed);
    assert!(scene.room.poll_finished().is_none());
    scene.answer_end(&again, ErrorCode::NONE, Some((7, 4)));
    assert!(scene.ended(commit).is_ok());
    assert!(scene.room.poll_finished().is_some());
    assert!(scene.ended(begin).is_ok());
    assert_eq!(scene.stamp(), (7, 4));
}

#[test]
fn line_16_a_commit_that_has_no_answer_in_time_says_that_its_outcome_is_open() {
    let mut scene = Scene::open(2);
    scene.want(0);
    let commit = scene.command(Command::Commit(1));
    scene.drain(false);
    let (end, _) = scene.end_txn();
    scene.pass(60_000_000);
    scene.lose(&end, true);
    let error = scene.ended(commit).unwrap_err();
    assert!(error.to_string().contains("not known yet"), "{error}");

    let settle = scene.command(Command::Settle);
    scene.pass(BACKOFF_US);
    let (end, _) = scene.end_txn();
    scene.answer_end(&end, ErrorCode::NONE, Some((7, 4)));
    assert!(matches!(
        scene.ended(settle),
        Ok(Outcome::Transaction(Some(TransactionEnd::Committed)))
    ));
}

#[test]
fn a_commit_dropped_before_its_end_was_asked_for_aborts() {
    let mut scene = Scene::open(2);
    scene.want(0);
    scene.command(Command::Commit(1));
    scene.command(Command::Abort(1));
    scene.drain(false);
    assert!(!scene.end_txn().1);
}

#[test]
fn a_late_abort_never_meets_the_next_transaction() {
    let mut scene = Scene::open(2);
    let commit = scene.command(Command::Commit(1));
    scene.drain(false);
    assert!(scene.ended(commit).is_ok());
    scene.begin(2);
    let late = scene.command(Command::Abort(1));
    assert!(scene.ended(late).is_ok());
    assert!(matches!(scene.permit(), SendPermit::Granted { .. }));
}

#[test]
fn line_17_what_was_added_stays_added_and_the_rest_is_tried_again() {
    let mut scene = Scene::open(1);
    scene.want(0);
    scene.want(1);
    let add = scene.only_call();
    let busy = ErrorCode::CONCURRENT_TRANSACTIONS;
    scene.answer_added(&add, &[(0, ErrorCode::NONE), (1, busy)]);
    assert_eq!(added(&scene.permit()), Some(vec![0]));
    assert!(scene.call().is_none(), "not at once");
    scene.pass(BACKOFF_US);
    let Body::AddPartitionsToTxn(again) = scene.only_call().body else {
        panic!("it is tried again");
    };
    assert_eq!(again.v3_and_below_topics[0].partitions, [1]);
}

#[test]
fn line_17_a_failed_send_makes_commit_refuse_and_only_abort_goes_on() {
    let mut scene = Scene::open(2);
    scene.want(0);
    scene.fail_send(ErrorCode::MESSAGE_TOO_LARGE);
    assert!(matches!(scene.permit(), SendPermit::Refused(_)));
    let commit = scene.command(Command::Commit(1));
    let error = scene.ended(commit).unwrap_err();
    assert!(matches!(error, Error::MustAbort { .. }), "{error}");
    assert!(scene.call().is_none());
    let abort = scene.abort(1, true);
    let (end, committed) = scene.end_txn();
    assert!(!committed);
    scene.answer_end(&end, ErrorCode::NONE, Some((7, 4)));
    assert!(scene.ended(abort).is_ok());
    scene.begin(2);
    assert_eq!(scene.stamp(), (7, 4));
}

#[test]
fn line_17_a_send_that_fails_while_a_commit_waits_makes_it_refuse() {
    let mut scene = Scene::open(2);
    scene.want(0);
    let commit = scene.command(Command::Commit(1));
    scene.fail_send(ErrorCode::INVALID_PRODUCER_EPOCH);
    scene.drain(false);
    let error = scene.ended(commit).unwrap_err();
    assert!(matches!(error, Error::MustAbort { .. }), "{error}");
    assert!(scene.call().is_none(), "nothing is committed");
}

#[test]
fn line_18_a_fenced_producer_fails_at_once_and_for_good() {
    for code in [
        ErrorCode::PRODUCER_FENCED,
        ErrorCode::INVALID_PRODUCER_EPOCH,
    ] {
        let mut scene = Scene::open(2);
        scene.want(0);
        let commit = scene.command(Command::Commit(1));
        scene.drain(false);
        let (end, _) = scene.end_txn();
        scene.answer_end(&end, code, None);
        assert!(scene.ended(commit).unwrap_err().is_fenced());
        let begin = scene.command(Command::Begin(2));
        assert!(scene.ended(begin).unwrap_err().is_fenced());
        assert!(scene.call().is_none());
        assert!(matches!(scene.permit(), SendPermit::Refused(_)));
    }
}

#[test]
fn line_18_an_old_epoch_told_by_a_leader_is_no_fencing() {
    let mut scene = Scene::open(2);
    scene.want(0);
    scene.fail_send(ErrorCode::INVALID_PRODUCER_EPOCH);
    scene.abort(1, true);
    let (end, _) = scene.end_txn();
    scene.answer_end(&end, ErrorCode::NONE, Some((7, 4)));
    assert!(scene.room.poll_finished().is_some());
    scene.begin(2);
}

#[test]
fn line_18_a_new_producer_id_told_by_the_end_is_adopted() {
    let mut scene = Scene::open(2);
    scene.want(0);
    let commit = scene.command(Command::Commit(1));
    scene.drain(false);
    let (end, _) = scene.end_txn();
    scene.answer_end(&end, ErrorCode::NONE, Some((8, 0)));
    assert!(scene.ended(commit).is_ok());
    scene.begin(2);
    assert_eq!(scene.stamp(), (8, 0));
}

#[test]
fn line_18_an_empty_transaction_ends_without_a_request() {
    for version in [1, 2] {
        let mut scene = Scene::open(version);
        let commit = scene.command(Command::Commit(1));
        scene.drain(false);
        assert!(scene.call().is_none());
        assert!(scene.ended(commit).is_ok());
        scene.begin(2);
        let abort = scene.abort(2, false);
        assert!(scene.call().is_none());
        assert!(scene.ended(abort).is_ok());
    }
}

#[test]
fn line_19_offsets_go_with_member_and_generation_to_the_groups_coordinator() {
    let mut scene = Scene::open(2);
    let sent = scene.command(offsets(1));
    let call = scene.only_call();
    let group = Coordinated::Group(Arc::from("g"));
    assert_eq!(call.destination, Destination::Coordinator(group));
    let Body::TxnOffsetCommit(request) = &call.body else {
        panic!("not a TxnOffsetCommit: {call:?}");
    };
    assert_eq!(request.generation_id, 5);
    assert_eq!(request.member_id.as_str(), "m");
    assert_eq!(request.topics[0].partitions[0].committed_offset, 42);
    // A rebalance has given the partitions to somebody else.
    scene.answer_offsets(&call, ErrorCode::ILLEGAL_GENERATION);
    let error = scene.ended(sent).unwrap_err();
    assert!(matches!(error, Error::MustAbort { .. }), "{error}");
    let commit = scene.command(Command::Commit(1));
    assert!(scene.ended(commit).is_err());
}

#[test]
fn line_52_an_abortable_transaction_is_aborted() {
    let mut scene = Scene::open(1);
    scene.want(0);
    let add = scene.only_call();
    scene.answer_added(&add, &[(0, ErrorCode::NONE)]);
    let commit = scene.command(Command::Commit(1));
    scene.drain(false);
    let (end, _) = scene.end_txn();
    scene.answer_end(&end, ErrorCode::TRANSACTION_ABORTABLE, None);
    let error = scene.ended(commit).unwrap_err();
    assert!(matches!(error, Error::MustAbort { .. }), "{error}");
    scene.abort(1, false);
    assert!(!scene.end_txn().1);
}

#[test]
fn line_52_an_unknown_producer_id_aborts_without_an_end_and_initialises_again() {
    let mut scene = Scene::open(1);
    scene.want(0);
    let add = scene.only_call();
    scene.answer_added(&add, &[(0, ErrorCode::INVALID_PRODUCER_ID_MAPPING)]);
    let abort = scene.abort(1, false);
    let call = scene.only_call();
    let Body::InitProducerId(request) = &call.body else {
        panic!("not an InitProducerId: {call:?}");
    };
    assert_eq!((request.producer_id.0, request.producer_epoch), (7, 3));
    let answer = InitProducerIdResponse::default()
        .with_producer_id(ProducerId(9))
        .with_producer_epoch(0);
    scene.reply(&call, Response::InitProducerId(answer), 5);
    assert!(scene.ended(abort).is_ok());
    scene.begin(2);
    assert_eq!(scene.stamp(), (9, 0));
}

#[test]
fn line_04_on_version_1_a_batch_that_may_turn_up_late_costs_an_epoch() {
    let mut scene = Scene::open(1);
    scene.want(0);
    let add = scene.only_call();
    scene.answer_added(&add, &[(0, ErrorCode::NONE)]);
    scene.fail_send(ErrorCode::REQUEST_TIMED_OUT);
    let abort = scene.abort(1, true);
    let (end, _) = scene.end_txn();
    scene.answer_end(&end, ErrorCode::NONE, None);
    assert!(scene.room.poll_finished().is_none());
    scene.answer_init(7, 4, 5);
    assert!(scene.ended(abort).is_ok());
    scene.begin(2);
    assert_eq!(scene.stamp(), (7, 4));
}

#[test]
fn line_04_below_init_producer_id_3_that_is_fatal() {
    let mut scene = Scene::new();
    scene.command(Command::Init);
    scene.answer_init(7, 3, 2);
    assert!(scene.room.poll_finished().is_some());
    scene.begin(1);
    scene.want(0);
    let add = scene.only_call();
    scene.answer_added(&add, &[(0, ErrorCode::NONE)]);
    scene.fail_send(ErrorCode::REQUEST_TIMED_OUT);
    scene.abort(1, true);
    let (end, _) = scene.end_txn();
    scene.answer_end(&end, ErrorCode::NONE, None);
    assert!(scene.room.poll_finished().is_some());
    let begin = scene.command(Command::Begin(2));
    let error = scene.ended(begin).unwrap_err();
    assert!(error.to_string().contains("KIP-360"), "{error}");
}

#[test]
fn initialising_waits_for_the_predecessors_transaction_and_for_the_coordinator() {
    let mut scene = Scene::new();
    let init = scene.command(Command::Init);
    for code in [
        ErrorCode::CONCURRENT_TRANSACTIONS,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::NOT_COORDINATOR,
    ] {
        scene.refuse_init(code);
        assert!(scene.call().is_none(), "not at once");
        scene.pass(BACKOFF_US);
    }
    let lost = Coordinated::Transaction(Arc::from("x"));
    let facts: Vec<Fact> = std::iter::from_fn(|| scene.room.poll_fact(scene.now)).collect();
    let is_lost = |fact: &Fact| matches!(fact, Fact::CoordinatorLost(what) if *what == lost);
    assert!(!facts.is_empty() && facts.iter().all(is_lost));
    scene.answer_init(7, 3, 5);
    assert!(scene.ended(init).is_ok());
}

#[test]
fn what_cannot_be_initialised_says_why() {
    let mut scene = Scene::new();
    let init = scene.command(Command::Init);
    scene.refuse_init(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    let error = scene.ended(init).unwrap_err();
    assert!(matches!(error, Error::Broker { .. }), "{error}");

    let mut scene = Scene::new();
    let init = scene.command(Command::Init);
    let call = scene.only_call();
    scene.pass(60_000_000);
    scene.lose(&call, false);
    let error = scene.ended(init).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
}

#[test]
fn a_producer_that_is_closed_aborts_what_is_open() {
    let mut scene = Scene::open(2);
    scene.want(0);
    scene.room.handle_close(scene.now);
    assert!(!scene.room.is_settled());
    scene.drain(false);
    let (end, committed) = scene.end_txn();
    assert!(!committed);
    scene.answer_end(&end, ErrorCode::NONE, Some((7, 4)));
    assert!(scene.room.is_settled());
}

#[test]
fn an_abort_whose_partitions_may_never_have_been_added_is_an_abort_of_nothing() {
    let mut scene = Scene::open(1);
    scene.want(0);
    let add = scene.only_call();
    scene.lose(&add, true);
    let abort = scene.abort(1, false);
    scene.pass(BACKOFF_US);
    let (end, _) = scene.end_txn();
    scene.answer_end(&end, ErrorCode::INVALID_TXN_STATE, None);
    // It may still arrive: another epoch keeps it out.
    scene.answer_init(7, 4, 5);
    assert!(scene.ended(abort).is_ok());
}
