//! The transactions of one transactional id: who the producer is, what belongs to the open
//! transaction, and how it ends (KIP-98, KIP-360, KIP-447, KIP-890).
//!
//! The room speaks with the coordinators and tells its producer, by [`SendPermit`], whether and
//! under which identity it may send. It does one step at a time; the producer sends meanwhile.

mod ends;
mod requests;
mod steps;
mod verdict;

use crate::backoff::Backoff;
use crate::call::{
    Call, CallId, Destination, Fact, GroupMetadata, Lane, OffsetAndMetadata, Outcome, Permits,
    Reply, RequestId, Room, RoomId, SendPermit, Serve, TopicPartition, TransactionEnd,
};
use crate::error::{CallError, Error};
use crate::options::ProducerOptions;
use crate::time::{Now, Timer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;
use verdict::FatalCause;

/// Requests of the user that may wait; one producer needs two or three.
pub const MAX_WAITING_REQUESTS: usize = 64;
/// From this version of InitProducerId on a producer may say who it was (KIP-360).
const FIRST_INIT_WITH_IDENTITY: i16 = 3;
/// From this version of EndTxn on the answer gives the next identity (KIP-890).
const FIRST_END_WITH_IDENTITY: i16 = 5;
/// Transaction version 1 goes with EndTxn and TxnOffsetCommit up to here (line 15).
const LAST_OF_VERSION_1: i16 = 4;

/// What a user asks of this room. Transactions are numbered by the user, each number once, so that
/// what comes late never meets the next one.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Fences every other producer of the transactional id, and aborts what it left open.
    Init,
    /// Opens a transaction, once the one before has ended.
    Begin(u64),
    /// Commits a consumer's offsets with the transaction.
    SendOffsets {
        /// The transaction.
        transaction: u64,
        /// Each the next one to read.
        offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
        /// Whose.
        group: GroupMetadata,
    },
    /// Commits, once every record sent is acknowledged; refuses if one was not.
    Commit(u64),
    /// Aborts, unless the coordinator was asked to commit already. A transaction that has ended is
    /// left as it ended.
    Abort(u64),
    /// Waits until no end is under way; finishes with [`Outcome::Transaction`].
    Settle,
}

/// What the hall needs of the room beyond commands.
pub trait Transact: Serve<Command> {
    /// The producer is not used any more: what is open is aborted.
    fn handle_close(&mut self, now: Now);
    /// When the brokers abort what is open now by themselves, if they were not reached before.
    fn close_deadline_us(&self, now: Now) -> u64;
    /// Whether nothing is open and nothing under way.
    fn is_settled(&self) -> bool;
}

/// A producer id with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    id: i64,
    epoch: i16,
}

/// Where the transactional id stands.
///
/// ```text
///             Init              Begin            Commit, drained
///  Unready ─────────▶ Ready ───────────▶ Open ───────────────────▶ Committing ──EndTxn──▶ Ready
///                       ▲                 │ a step or a send fails     │ refused
///                       │                 ▼                            │
///                       │               Broken ◀───────────────────────┘
///                       │                 │ Abort (from Open too)
///                       │                 ▼
///                       ├───EndTxn───── Aborting
///                       │                 │ version 1, and a batch may turn up late
///                       └─InitProducerId─ Renewing
///
///  any ──fenced, not authorised──▶ Fatal
/// ```
#[derive(Debug, Clone, PartialEq)]
enum State {
    Unready,
    Ready,
    Open,
    Broken(Arc<str>),
    /// `asked`: an EndTxn may have reached the coordinator; from there on only it knows the end.
    Committing {
        asked: bool,
    },
    Aborting,
    Renewing,
    Fatal(FatalEnd),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum FatalEnd {
    Fenced(ErrorCode),
    Cause(FatalCause),
}

/// A call under way.
#[derive(Debug)]
enum Step {
    Init,
    AddPartitions(BTreeSet<TopicPartition>),
    AddOffsets(Arc<str>),
    CommitOffsets,
    End(TransactionEnd),
}

/// What the open transaction consists of.
#[derive(Debug, Default)]
struct Content {
    number: u64,
    /// Version 2: brokers add what is written to.
    implicit: bool,
    /// To be added before it is written to.
    wanted: BTreeSet<TopicPartition>,
    added: Arc<BTreeSet<TopicPartition>>,
    groups: BTreeSet<Arc<str>>,
    offsets: VecDeque<OffsetsJob>,
    /// Something may have reached the coordinator: the transaction needs an end.
    touched: bool,
    /// Something did.
    joined: bool,
}

/// One `send_offsets`.
#[derive(Debug)]
struct OffsetsJob {
    request: RequestId,
    group: GroupMetadata,
    left: BTreeMap<TopicPartition, OffsetAndMetadata>,
}

#[derive(Debug)]
struct Waiting {
    request: RequestId,
    deadline_us: u64,
    goal: Goal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Init,
    Begin(u64),
    Offsets,
    Commit(u64),
    Abort(u64),
    Settle,
}

/// The transactions of one producer.
#[derive(Debug)]
pub struct TransactionRoom {
    room: u32,
    id: Arc<str>,
    options: ProducerOptions,
    random: fastrand::Rng,
    state: State,
    identity: Option<Identity>,
    /// The broker takes the identity of a producer that wants its next epoch.
    renewable: bool,
    /// No end can be asked for: the coordinator does not know the producer id.
    unknown: bool,
    features_epoch: i64,
    transaction_version: i16,
    content: Content,
    turn: u64,
    drained: bool,
    gap: bool,
    last_end: Option<TransactionEnd>,
    in_flight: Option<(u64, Step)>,
    next_call: u64,
    retry_at_us: u64,
    backoff: Backoff,
    /// What stands in the way, for the error of who waits too long.
    trouble: Option<Arc<str>>,
    waiting: Vec<Waiting>,
    closing: bool,
    facts: VecDeque<Fact>,
    finished: VecDeque<(RequestId, Result<Outcome, Error>)>,
}

impl TransactionRoom {
    /// The transactions of the producer with the same room number, whose options name the id.
    pub fn new(room: u32, options: ProducerOptions, seed: u64) -> Self {
        let (initial_ms, max_ms) = options.retry_backoff_ms;
        let id = Arc::from(options.transactional_id.as_deref().unwrap_or_default());
        Self {
            room,
            id,
            options,
            random: fastrand::Rng::with_seed(seed),
            state: State::Unready,
            identity: None,
            renewable: false,
            unknown: false,
            features_epoch: -1,
            transaction_version: 0,
            content: Content::default(),
            turn: 0,
            drained: false,
            gap: false,
            last_end: None,
            in_flight: None,
            next_call: 0,
            retry_at_us: 0,
            backoff: Backoff::new(initial_ms, max_ms),
            trouble: None,
            waiting: Vec::new(),
            closing: false,
            facts: VecDeque::new(),
            finished: VecDeque::new(),
        }
    }
}

impl Serve<Command> for TransactionRoom {
    fn handle_command(&mut self, now: Now, request: RequestId, command: Command) {
        let limit_us = self.options.max_block_ms.saturating_mul(1000);
        let deadline_us = now.monotonic_us.saturating_add(limit_us);
        let goal = match &command {
            Command::Init => Goal::Init,
            Command::Begin(number) => Goal::Begin(*number),
            Command::SendOffsets { .. } => Goal::Offsets,
            Command::Commit(number) => Goal::Commit(*number),
            Command::Abort(number) => Goal::Abort(*number),
            Command::Settle => Goal::Settle,
        };
        if self.waiting.len() >= MAX_WAITING_REQUESTS {
            let doing = self.doing(goal);
            let why = format!(
                "failed to {doing}: {MAX_WAITING_REQUESTS} requests wait already; await each"
            );
            return self.finished.push_back((request, Err(Error::Usage(why))));
        }
        self.waiting.push(Waiting {
            request,
            deadline_us,
            goal,
        });
        match command {
            Command::SendOffsets {
                transaction,
                offsets,
                group,
            } => self.take_offsets(request, transaction, offsets, group),
            Command::Commit(number) if self.is_open(number) && self.state == State::Open => {
                self.state = State::Committing { asked: false };
                self.grant(false);
            }
            Command::Abort(number) if self.is_open(number) => self.abort("it was aborted"),
            _ => {}
        }
        self.resolve(now);
    }
}

impl Transact for TransactionRoom {
    fn handle_close(&mut self, now: Now) {
        self.closing = true;
        if self.is_open(self.content.number) {
            self.abort("the producer was closed");
        }
        self.resolve(now);
    }

    fn close_deadline_us(&self, now: Now) -> u64 {
        let limit_us = self.options.transaction_timeout_ms.saturating_mul(1000);
        now.monotonic_us.saturating_add(limit_us)
    }

    fn is_settled(&self) -> bool {
        let at_rest = matches!(self.state, State::Unready | State::Ready | State::Fatal(_));
        at_rest && self.in_flight.is_none()
    }
}

impl TransactionRoom {
    /// Whether transaction `number` can still be committed or aborted.
    fn is_open(&self, number: u64) -> bool {
        number == self.content.number
            && matches!(
                self.state,
                State::Open | State::Broken(_) | State::Committing { asked: false }
            )
    }

    fn take_offsets(
        &mut self,
        request: RequestId,
        transaction: u64,
        offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
        group: GroupMetadata,
    ) {
        if self.state != State::Open || transaction != self.content.number {
            return;
        }
        if offsets.is_empty() {
            self.finish(request, Ok(Outcome::Done));
        } else {
            self.content.offsets.push_back(OffsetsJob {
                request,
                group,
                left: offsets.into_iter().collect(),
            });
        }
    }

    fn open(&mut self, number: u64) {
        self.state = State::Open;
        self.content = Content {
            number,
            implicit: self.transaction_version >= 2,
            ..Content::default()
        };
        self.turn += 1;
        self.drained = false;
        self.gap = false;
        self.grant(true);
    }

    /// Lets the producer send; without lingering once a commit waits for it.
    fn grant(&mut self, lingers: bool) {
        let Some(identity) = self.identity else {
            return;
        };
        let implicit = self.content.implicit;
        self.tell(SendPermit::Granted {
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            added: (!implicit).then(|| Arc::clone(&self.content.added)),
            lingers,
        });
    }

    fn refuse(&mut self, why: &str) {
        self.turn += 1;
        self.drained = false;
        self.tell(SendPermit::Refused(Arc::from(why)));
    }

    fn tell(&mut self, permit: SendPermit) {
        self.facts.push_back(Fact::SendPermit {
            producer: self.room,
            turn: self.turn,
            permit,
        });
    }

    /// The open transaction can only be aborted from here on.
    fn break_off(&mut self, why: Arc<str>) {
        if matches!(self.state, State::Open | State::Committing { .. }) {
            self.refuse(&why);
            self.content.offsets.clear();
            self.state = State::Broken(why);
        }
    }

    fn abort(&mut self, why: &str) {
        if !matches!(self.state, State::Broken(_)) {
            self.refuse(why);
        }
        self.content.offsets.clear();
        self.content.wanted.clear();
        self.state = State::Aborting;
    }

    fn fail(&mut self, end: FatalEnd) {
        self.refuse("the producer has failed for good");
        self.content.offsets.clear();
        self.state = State::Fatal(end);
    }

    fn end(&mut self, end: TransactionEnd) {
        self.last_end = Some(end);
        if end == TransactionEnd::Committed {
            self.refuse("it was committed already");
        }
        self.state = State::Ready;
    }

    /// After an abort on version 1 a batch that was given up may turn up late; only another epoch
    /// keeps it out of the next transaction.
    fn end_aborted(&mut self, renewed: bool) {
        self.end(TransactionEnd::Aborted);
        if !renewed && (self.gap || self.unknown || !self.settled_by_end()) {
            self.state = State::Renewing;
        }
    }

    /// Whether it is known what the coordinator has of the transaction.
    fn settled_by_end(&self) -> bool {
        self.content.joined || !self.content.touched
    }

    fn handle_wanted(&mut self, partition: &TopicPartition) {
        if !matches!(self.state, State::Open | State::Committing { asked: false }) {
            return;
        }
        if self.content.implicit {
            (self.content.touched, self.content.joined) = (true, true);
        } else if !self.content.added.contains(partition) {
            self.content.wanted.insert(partition.clone());
        }
    }

    fn handle_send_failed(&mut self, code: Option<ErrorCode>, why: &Arc<str>) {
        match code {
            Some(code @ ErrorCode::PRODUCER_FENCED) => self.fail(FatalEnd::Fenced(code)),
            Some(ErrorCode::INVALID_PRODUCER_ID_MAPPING) => {
                self.unknown = true;
                self.break_off(Arc::clone(why));
            }
            _ => self.break_off(Arc::clone(why)),
        }
    }
}

impl Room for TransactionRoom {
    fn handle_fact(&mut self, now: Now, fact: &Fact) {
        match fact {
            Fact::FeaturesFinalised {
                epoch,
                transaction_version,
            } if *epoch > self.features_epoch => {
                // Taken up by the next transaction.
                self.features_epoch = *epoch;
                self.transaction_version = *transaction_version;
            }
            Fact::PartitionWanted {
                producer,
                partition,
            } if *producer == self.room => self.handle_wanted(partition),
            Fact::SendFailed {
                producer,
                code,
                why,
            } if *producer == self.room => self.handle_send_failed(*code, why),
            Fact::Drained {
                producer,
                turn,
                gap,
            } if *producer == self.room && *turn == self.turn => {
                self.drained = true;
                self.gap |= *gap;
            }
            _ => return,
        }
        self.resolve(now);
    }

    fn handle_reply(&mut self, now: Now, id: CallId, reply: Result<Reply, CallError>) {
        let in_flight = self.in_flight.take_if(|(number, _)| *number == id.number);
        let Some((_, step)) = in_flight else {
            return;
        };
        match reply {
            Ok(reply) => self.handle_answer(now, step, reply),
            Err(error) => self.handle_lost(now, &step, error),
        }
        self.resolve(now);
    }

    fn poll_call(&mut self, now: Now, _permits: &Permits) -> Option<Call> {
        self.resolve(now);
        if self.in_flight.is_some() || self.retry_at_us > now.monotonic_us {
            return None;
        }
        let step = self.plan_step()?;
        let body = self.body(&step)?;
        let destination = Destination::Coordinator(self.coordinator(&step));
        let capped = matches!(step, Step::CommitOffsets | Step::End(_)) && !self.content.implicit;
        self.note_sent(&step);
        self.next_call += 1;
        self.in_flight = Some((self.next_call, step));
        let timeout_us = self.options.request_timeout_ms.saturating_mul(1000);
        Some(Call {
            id: CallId {
                room: RoomId::Transaction(self.room),
                number: self.next_call,
            },
            destination,
            lane: Lane::General,
            body,
            version_cap: capped.then_some(LAST_OF_VERSION_1),
            timeout_us,
            give_up_us: now.monotonic_us.saturating_add(timeout_us),
        })
    }

    fn poll_fact(&mut self, _now: Now) -> Option<Fact> {
        self.facts.pop_front()
    }

    fn poll_finished(&mut self) -> Option<(RequestId, Result<Outcome, Error>)> {
        self.finished.pop_front()
    }

    fn poll_timeout(&self) -> Option<(u64, Timer)> {
        let deadlines = self.waiting.iter().map(|waiting| waiting.deadline_us);
        let retries = self.in_flight.is_none() && self.plan_step().is_some();
        let retry = Some(self.retry_at_us).filter(|_| retries);
        deadlines
            .chain(retry)
            .min()
            .map(|at_us| (at_us, Timer::Retry))
    }
}

#[cfg(test)]
mod tests;
