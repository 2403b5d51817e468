//! The transactions of one transactional id: who the producer is, what belongs to the open
//! transaction, and how it ends (KIP-98, KIP-360, KIP-447, KIP-890).
//!
//! The room speaks with the coordinators and tells its producer, by [`SendPermit`], whether and
//! under which identity it may send. It does one step at a time; the producer sends meanwhile.

mod requests;
mod verdict;

use crate::backoff::Backoff;
use crate::call::{
    Body, Call, CallId, Coordinated, Destination, Fact, GroupMetadata, Lane, OffsetAndMetadata,
    Outcome, Permits, Reply, RequestId, Response, Room, RoomId, SendPermit, TopicPartition,
    TransactionEnd,
};
use crate::error::{CallError, Error};
use crate::options::ProducerOptions;
use crate::time::{Now, Timer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;
use verdict::{FatalCause, Kind, Verdict};

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

    /// Takes up a user's request; its end comes out of `poll_finished` under `request`.
    pub fn handle_command(&mut self, now: Now, request: RequestId, command: Command) {
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

    /// The producer is not used any more: what is open is aborted.
    pub fn handle_close(&mut self, now: Now) {
        self.closing = true;
        if self.is_open(self.content.number) {
            self.abort("the producer was closed");
        }
        self.resolve(now);
    }

    /// When the brokers abort what is open now by themselves, if they were not reached before.
    pub(crate) fn close_deadline_us(&self, now: Now) -> u64 {
        let limit_us = self.options.transaction_timeout_ms.saturating_mul(1000);
        now.monotonic_us.saturating_add(limit_us)
    }

    /// Whether nothing is open and nothing under way.
    pub fn is_settled(&self) -> bool {
        let at_rest = matches!(self.state, State::Unready | State::Ready | State::Fatal(_));
        at_rest && self.in_flight.is_none()
    }

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
}

/// Steps.
impl TransactionRoom {
    /// What to ask next.
    fn plan_step(&self) -> Option<Step> {
        let content = &self.content;
        match &self.state {
            State::Unready => {
                let wanted =
                    |waiting: &Waiting| matches!(waiting.goal, Goal::Init | Goal::Begin(_));
                self.waiting.iter().any(wanted).then_some(Step::Init)
            }
            State::Renewing => Some(Step::Init),
            State::Open | State::Committing { .. } => {
                if !content.implicit && !content.wanted.is_empty() {
                    return Some(Step::AddPartitions(content.wanted.clone()));
                }
                if let Some(job) = content.offsets.front() {
                    let group = &job.group.group_id;
                    let added = content.implicit || content.groups.contains(group);
                    return Some(match added {
                        true => Step::CommitOffsets,
                        false => Step::AddOffsets(Arc::clone(group)),
                    });
                }
                let commits = self.state != State::Open && self.drained;
                commits.then_some(Step::End(TransactionEnd::Committed))
            }
            State::Aborting => self.drained.then_some(Step::End(TransactionEnd::Aborted)),
            State::Ready | State::Broken(_) | State::Fatal(_) => None,
        }
    }

    fn body(&self, step: &Step) -> Option<Body> {
        if matches!(step, Step::Init) {
            let was = self.identity.filter(|_| self.renewable);
            let timeout_ms = self.options.transaction_timeout_ms;
            return Some(requests::init(&self.id, timeout_ms, was));
        }
        let (id, identity) = (&self.id, self.identity?);
        Some(match step {
            Step::Init => return None,
            Step::AddPartitions(wanted) => requests::add_partitions(id, identity, wanted),
            Step::AddOffsets(group) => requests::add_offsets(id, identity, group),
            Step::CommitOffsets => {
                requests::commit_offsets(id, identity, self.content.offsets.front()?)
            }
            Step::End(end) => requests::end(id, identity, *end == TransactionEnd::Committed),
        })
    }

    fn coordinator(&self, step: &Step) -> Coordinated {
        match (step, self.content.offsets.front()) {
            (Step::CommitOffsets, Some(job)) => Coordinated::Group(Arc::clone(&job.group.group_id)),
            _ => Coordinated::Transaction(Arc::clone(&self.id)),
        }
    }

    /// What sending a step means before its answer is known.
    fn note_sent(&mut self, step: &Step) {
        match step {
            Step::Init => {}
            Step::End(TransactionEnd::Committed) => self.state = State::Committing { asked: true },
            Step::End(TransactionEnd::Aborted) => {}
            Step::AddPartitions(_) | Step::AddOffsets(_) | Step::CommitOffsets => {
                self.content.touched = true;
            }
        }
    }

    fn handle_answer(&mut self, now: Now, step: Step, reply: Reply) {
        let version = reply.version;
        match (step, reply.response) {
            (Step::Init, Response::InitProducerId(answer)) => {
                let identity = Identity {
                    id: answer.producer_id.0,
                    epoch: answer.producer_epoch,
                };
                self.handle_code(now, &Step::Init, answer.error_code, |room| {
                    room.identity = Some(identity);
                    room.renewable = version >= FIRST_INIT_WITH_IDENTITY;
                    room.unknown = false;
                    room.state = State::Ready;
                });
            }
            (Step::AddPartitions(_), Response::AddPartitionsToTxn(answer)) => {
                let topics = answer.results_by_topic_v3_and_below.iter();
                let results = topics.flat_map(|topic| {
                    let name: Arc<str> = Arc::from(topic.name.as_str());
                    let results = topic.results_by_partition.iter();
                    results.map(move |result| {
                        let partition =
                            TopicPartition::new(Arc::clone(&name), result.partition_index);
                        (partition, ErrorCode(result.partition_error_code))
                    })
                });
                let results: Vec<_> = results.collect();
                self.handle_added(now, results);
            }
            (Step::AddOffsets(group), Response::AddOffsetsToTxn(answer)) => {
                let step = Step::AddOffsets(Arc::clone(&group));
                self.handle_code(now, &step, answer.error_code, |room| {
                    room.content.groups.insert(group);
                    room.content.joined = true;
                });
            }
            (Step::CommitOffsets, Response::TxnOffsetCommit(answer)) => {
                let topics = answer.topics.iter();
                let results = topics.flat_map(|topic| {
                    let name: Arc<str> = Arc::from(topic.name.as_str());
                    let results = topic.partitions.iter();
                    results.map(move |result| {
                        let partition =
                            TopicPartition::new(Arc::clone(&name), result.partition_index);
                        (partition, ErrorCode(result.error_code))
                    })
                });
                let results: Vec<_> = results.collect();
                self.handle_committed_offsets(now, results);
            }
            (Step::End(end), Response::EndTxn(answer)) => {
                let next = (version >= FIRST_END_WITH_IDENTITY && answer.producer_id.0 >= 0)
                    .then_some(Identity {
                        id: answer.producer_id.0,
                        epoch: answer.producer_epoch,
                    });
                self.handle_ended(now, end, ErrorCode(answer.error_code), next);
            }
            // The hall hands back responses to the request that was made.
            _ => {}
        }
    }

    fn handle_code(&mut self, now: Now, step: &Step, code: i16, succeed: impl FnOnce(&mut Self)) {
        let code = ErrorCode(code);
        if code.is_ok() {
            self.succeed();
            succeed(self);
        } else {
            self.handle_verdict(now, step, verdict::of_code(code, kind(step)));
        }
    }

    /// Keeps what was added, whatever became of the rest (line 17).
    fn handle_added(&mut self, now: Now, results: Vec<(TopicPartition, ErrorCode)>) {
        let mut failure = None;
        let mut added = (*self.content.added).clone();
        for (partition, code) in results {
            if code.is_ok() {
                self.content.wanted.remove(&partition);
                added.insert(partition);
            } else if code != ErrorCode::OPERATION_NOT_ATTEMPTED {
                failure.get_or_insert(code);
            }
        }
        if added.len() > self.content.added.len() {
            self.content.joined = true;
            self.content.added = Arc::new(added);
            if self.is_open(self.content.number) && !matches!(self.state, State::Broken(_)) {
                self.grant(self.state == State::Open);
            }
        }
        match failure {
            None => self.succeed(),
            Some(code) => {
                let step = Step::AddPartitions(BTreeSet::new());
                self.handle_verdict(now, &step, verdict::of_code(code, Kind::Content));
            }
        }
    }

    fn handle_committed_offsets(&mut self, now: Now, results: Vec<(TopicPartition, ErrorCode)>) {
        let mut failure = None;
        let Some(job) = self.content.offsets.front_mut() else {
            return;
        };
        for (partition, code) in results {
            if code.is_ok() {
                job.left.remove(&partition);
                self.content.joined = true;
            } else {
                failure.get_or_insert(code);
            }
        }
        if let Some(code) = failure {
            let verdict = verdict::of_code(code, Kind::Content);
            return self.handle_verdict(now, &Step::CommitOffsets, verdict);
        }
        self.succeed();
        if job_is_done(&self.content.offsets)
            && let Some(job) = self.content.offsets.pop_front()
        {
            self.finish(job.request, Ok(Outcome::Done));
        }
    }

    fn handle_ended(
        &mut self,
        now: Now,
        end: TransactionEnd,
        code: ErrorCode,
        next: Option<Identity>,
    ) {
        let aborts = end == TransactionEnd::Aborted;
        // The coordinator never got what was to be added, so there is nothing to abort.
        let nothing = aborts && code == ErrorCode::INVALID_TXN_STATE && !self.content.joined;
        if !code.is_ok() && !nothing {
            return self.handle_verdict(now, &Step::End(end), verdict::of_code(code, Kind::Frame));
        }
        self.succeed();
        self.identity = next.or(self.identity);
        match end {
            TransactionEnd::Committed => self.end(end),
            TransactionEnd::Aborted => self.end_aborted(next.is_some()),
        }
    }

    fn succeed(&mut self) {
        self.backoff.reset();
        self.trouble = None;
    }

    fn handle_verdict(&mut self, now: Now, step: &Step, verdict: Verdict) {
        match verdict {
            Verdict::Retry { why, lost } => {
                if lost {
                    let lost = Fact::CoordinatorLost(self.coordinator(step));
                    self.facts.push_back(lost);
                }
                let wait_us = self.backoff.next_us(&mut self.random);
                self.retry_at_us = now.monotonic_us.saturating_add(wait_us);
                self.trouble = Some(why);
            }
            Verdict::Abort(why) => self.break_off(why),
            Verdict::Renew(_) if matches!(step, Step::Init) => {
                let code = ErrorCode::INVALID_PRODUCER_ID_MAPPING;
                self.fail(FatalEnd::Cause(FatalCause::Broker(code)));
            }
            // Aborting goes on without an EndTxn.
            Verdict::Renew(why) => {
                self.unknown = true;
                self.break_off(why);
            }
            Verdict::Fenced(code) => self.fail(FatalEnd::Fenced(code)),
            Verdict::Fatal(cause) => self.fail(FatalEnd::Cause(cause)),
        }
    }

    fn handle_lost(&mut self, now: Now, step: &Step, error: CallError) {
        // A commit that never left can still be taken back.
        if matches!(step, Step::End(TransactionEnd::Committed)) && !error.written {
            let first = self.trouble.is_none();
            if first && error.kind.is_retriable() {
                self.state = State::Committing { asked: false };
            }
        }
        self.handle_verdict(now, step, verdict::of_call(error, kind(step)));
    }
}

/// Ends of users' requests.
impl TransactionRoom {
    /// Goes on where no broker need be asked, and finishes what is done.
    fn resolve(&mut self, now: Now) {
        if matches!(self.state, State::Broken(_)) && self.is_given_up() {
            self.abort("");
        }
        self.end_what_is_empty();
        if self.state == State::Renewing && !self.renewable {
            self.fail(FatalEnd::Cause(FatalCause::TooOld));
        }
        let waiting = std::mem::take(&mut self.waiting);
        for one in waiting {
            match self.resolved(&one, now) {
                Some(end) => self.finished.push_back((one.request, end)),
                None => self.waiting.push(one),
            }
        }
    }

    /// Whether the user has asked for the end of a transaction that is broken meanwhile.
    fn is_given_up(&self) -> bool {
        let goal = Goal::Abort(self.content.number);
        self.closing || self.waiting.iter().any(|waiting| waiting.goal == goal)
    }

    /// Nothing was ever added: it ends without a request (line 18).
    fn end_what_is_empty(&mut self) {
        let idle = self.in_flight.is_none() && self.drained;
        let empty = !self.content.touched && self.content.offsets.is_empty();
        match self.state {
            State::Committing { asked: false } if idle && empty => {
                self.end(TransactionEnd::Committed);
            }
            State::Aborting if idle && (empty || self.unknown) => self.end_aborted(false),
            _ => {}
        }
    }

    fn resolved(&mut self, one: &Waiting, now: Now) -> Option<Result<Outcome, Error>> {
        if let State::Fatal(end) = &self.state
            && !matches!(one.goal, Goal::Abort(_))
        {
            return Some(Err(self.fatal_error(one.goal, end)));
        }
        let ended = match one.goal {
            Goal::Init => self.identity.is_some().then_some(Ok(Outcome::Done)),
            Goal::Begin(number) => self.resolved_begin(number),
            Goal::Offsets => self.resolved_offsets(one),
            Goal::Commit(number) => self.resolved_commit(number),
            Goal::Abort(number) => {
                let under_way = number == self.content.number
                    && !matches!(self.state, State::Unready | State::Ready | State::Fatal(_));
                (!under_way).then_some(Ok(Outcome::Done))
            }
            Goal::Settle => {
                let under_way = matches!(
                    self.state,
                    State::Committing { .. } | State::Aborting | State::Renewing
                );
                (!under_way).then_some(Ok(Outcome::Transaction(self.last_end)))
            }
        };
        if ended.is_some() || one.deadline_us > now.monotonic_us {
            return ended;
        }
        // Whoever gives up on offsets must not commit without them.
        if one.goal == Goal::Offsets {
            self.break_off(Arc::from("offsets were not taken in time"));
        }
        Some(Err(self.overdue(one.goal)))
    }

    fn resolved_begin(&mut self, number: u64) -> Option<Result<Outcome, Error>> {
        match &self.state {
            State::Ready => {
                self.open(number);
                Some(Ok(Outcome::Done))
            }
            State::Open | State::Broken(_) => {
                let doing = self.doing(Goal::Begin(number));
                let why = format!("failed to {doing}: the one before has not ended");
                Some(Err(Error::Usage(why)))
            }
            _ => None,
        }
    }

    /// A job ends by its answers; where it is not there any more, the transaction is not open.
    fn resolved_offsets(&self, one: &Waiting) -> Option<Result<Outcome, Error>> {
        let mut jobs = self.content.offsets.iter();
        match jobs.any(|job| job.request == one.request) {
            true => None,
            false => Some(Err(self.must_abort(one.goal))),
        }
    }

    fn resolved_commit(&self, number: u64) -> Option<Result<Outcome, Error>> {
        let is_current = number == self.content.number;
        match (&self.state, self.last_end) {
            (State::Ready, Some(TransactionEnd::Committed)) if is_current => {
                Some(Ok(Outcome::Done))
            }
            (State::Open | State::Committing { .. }, _) if is_current => None,
            _ => Some(Err(self.must_abort(Goal::Commit(number)))),
        }
    }

    fn finish(&mut self, request: RequestId, end: Result<Outcome, Error>) {
        self.waiting.retain(|waiting| waiting.request != request);
        self.finished.push_back((request, end));
    }

    fn must_abort(&self, goal: Goal) -> Error {
        let why = match &self.state {
            State::Broken(why) => why.to_string(),
            _ => "it is not open any more".to_owned(),
        };
        let doing = self.doing(goal);
        Error::MustAbort { doing, why }
    }

    fn fatal_error(&self, goal: Goal, end: &FatalEnd) -> Error {
        let doing = self.doing(goal);
        match end {
            FatalEnd::Fenced(code) => Error::Fenced {
                doing,
                transactional_id: self.id.to_string(),
                code: *code,
            },
            FatalEnd::Cause(FatalCause::Broker(code)) => Error::Broker {
                doing,
                code: *code,
                message: None,
            },
            FatalEnd::Cause(FatalCause::Call(source)) => Error::Call {
                doing,
                source: source.clone(),
            },
            FatalEnd::Cause(FatalCause::TooOld) => Error::Usage(format!(
                "failed to {doing}: a batch may turn up late, and brokers before Kafka 2.5 cannot \
                 keep it out of the next transaction (KIP-360); open a producer anew"
            )),
        }
    }

    fn overdue(&self, goal: Goal) -> Error {
        let trouble = self.trouble.as_deref().unwrap_or("nothing failed");
        let unknown = matches!(
            (goal, &self.state),
            (Goal::Commit(_), State::Committing { asked: true })
        );
        let outcome = match unknown {
            true => "; whether it is committed is not known yet, and is being asked for",
            false => "",
        };
        Error::TimedOut {
            doing: self.doing(goal),
            limit_ms: self.options.max_block_ms,
            why: format!("{trouble} (max.block.ms){outcome}"),
        }
    }

    fn doing(&self, goal: Goal) -> String {
        let id = &self.id;
        match goal {
            Goal::Init => format!("initialise transactions of {id}"),
            Goal::Begin(_) => format!("begin a transaction of {id}"),
            Goal::Offsets => format!("send offsets to a transaction of {id}"),
            Goal::Commit(_) => format!("commit a transaction of {id}"),
            Goal::Abort(_) => format!("abort a transaction of {id}"),
            Goal::Settle => format!("learn how the last transaction of {id} ended"),
        }
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

fn job_is_done(offsets: &VecDeque<OffsetsJob>) -> bool {
    offsets.front().is_some_and(|job| job.left.is_empty())
}

fn kind(step: &Step) -> Kind {
    match step {
        Step::Init | Step::End(_) => Kind::Frame,
        Step::AddPartitions(_) | Step::AddOffsets(_) | Step::CommitOffsets => Kind::Content,
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
