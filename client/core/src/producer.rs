//! One producer: drains the accumulator into Produce calls, in order and once.
//!
//! Records come in through [`accumulator`], on callers' threads. The room looks at the partitions
//! that have news and asks each what it would send (`producer/partition.rs`); per leader, everything that is
//! due goes into one request. A batch's stamp (producer id, epoch, sequence) is set when it is sent
//! first and kept through every retry.

pub mod accumulator;
pub mod delivery;
pub mod partitioner;

mod drain;
mod memory;
mod partition;
mod queue;
mod response;
mod sequence;
mod topics;
mod transacting;
mod usage;

use crate::backoff::Backoff;
use crate::call::{
    Body, BrokerId, Call, CallId, Destination, Fact, Lane, Outcome, Permits, Reply, RequestId,
    Response, Room, RoomId,
};
use crate::error::{CallError, CallErrorKind, Error};
use crate::metadata::Cluster;
use crate::options::ProducerOptions;
use crate::time::{Now, Timer};
use accumulator::Accumulator;
use delivery::{DeliveryCause, Written};
use partition::{Part, Terms};
use queue::PartitionQueue;
use response::{Answers, End, Named};
use sequence::{BUMPABLE_FROM, Identity, IdentityState};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use transacting::{Transacting, permitted};
use usage::Usage;

/// What a user asks of this room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Sends what was appended so far without lingering; done when the fate of each is known.
    Flush,
    /// Takes no more records and flushes; done when the fate of every record is known. What is left
    /// at `deadline_us` fails.
    Close {
        /// Monotonic microseconds.
        deadline_us: u64,
    },
}

/// Sequences of this many batches are all that a broker remembers per partition and producer
/// (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
const MAX_IDEMPOTENT_IN_FLIGHT: usize = 5;

/// One producer: drains the accumulator into Produce calls, in order and once.
#[derive(Debug)]
pub struct ProducerRoom {
    room: u32,
    options: ProducerOptions,
    accumulator: Arc<Accumulator>,
    random: fastrand::Rng,
    cluster: Arc<Cluster>,
    identity: IdentityState,
    identity_backoff: Backoff,
    /// `None` where it sends without transactions.
    transaction: Option<Transacting>,
    parts: BTreeMap<u32, Part>,
    usage: Usage,
    /// By leader, the partitions that have something for it now.
    due: BTreeMap<BrokerId, BTreeSet<u32>>,
    timers: BTreeSet<(u64, u32, Timer)>,
    calls: BTreeMap<u64, InCall>,
    /// Produce calls under way by broker.
    in_flight: BTreeMap<BrokerId, usize>,
    /// The last partition of the last request to a broker: the next one starts behind it.
    filled_to: BTreeMap<BrokerId, u32>,
    next_call: u64,
    facts: VecDeque<Fact>,
    exhausted: bool,
    flushes: Vec<Flush>,
    closings: Vec<Closing>,
    finished: VecDeque<(RequestId, Result<Outcome, Error>)>,
}

/// A Produce call under way.
#[derive(Debug)]
struct InCall {
    broker: BrokerId,
    batches: Vec<Named>,
}

#[derive(Debug)]
struct Flush {
    request: RequestId,
    /// Batches with lower numbers hold records from before the flush.
    below: u64,
}

#[derive(Debug)]
struct Closing {
    request: RequestId,
    deadline_us: u64,
}

impl ProducerRoom {
    /// Starts with nothing to do; `accumulator` must have been made with the same options.
    pub fn new(
        room: u32,
        options: ProducerOptions,
        accumulator: Arc<Accumulator>,
        seed: u64,
    ) -> Self {
        accumulator.seed(seed);
        let (initial_ms, max_ms) = options.retry_backoff_ms;
        let transaction = options.transactional_id.as_deref().map(Transacting::new);
        let usage = Usage::new(options.metadata_max_idle_ms);
        Self {
            room,
            transaction,
            options,
            accumulator,
            random: fastrand::Rng::with_seed(seed),
            cluster: Arc::default(),
            identity: IdentityState::Unknown { retry_at_us: 0 },
            identity_backoff: Backoff::new(initial_ms, max_ms),
            parts: BTreeMap::new(),
            usage,
            due: BTreeMap::new(),
            timers: BTreeSet::new(),
            calls: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            filled_to: BTreeMap::new(),
            next_call: 0,
            facts: VecDeque::new(),
            exhausted: false,
            flushes: Vec::new(),
            closings: Vec::new(),
            finished: VecDeque::new(),
        }
    }

    /// Takes up a user's request; its end comes out of `poll_finished` under `request`.
    pub fn handle_command(&mut self, now: Now, request: RequestId, command: Command) {
        match command {
            Command::Flush => {
                let below = self.accumulator.memory().next_batch();
                self.flushes.push(Flush { request, below });
            }
            Command::Close { deadline_us } => {
                self.accumulator.refuse();
                self.closings.push(Closing {
                    request,
                    deadline_us,
                });
            }
        }
        self.touch_all(now);
    }

    fn terms(&self, now: Now) -> Terms {
        // Without sequences nothing but waiting keeps a retried batch before the next one.
        let in_flight = match self.options.idempotence {
            true => self
                .options
                .max_in_flight
                .clamp(1, MAX_IDEMPOTENT_IN_FLIGHT),
            false => 1,
        };
        let flush_below = match self.closings.is_empty() {
            true => self
                .flushes
                .iter()
                .map(|flush| flush.below)
                .max()
                .unwrap_or(0),
            false => u64::MAX,
        };
        Terms {
            now_us: now.monotonic_us,
            linger_us: self.options.linger_ms.saturating_mul(1000),
            delivery_us: self.options.delivery_timeout_ms.saturating_mul(1000),
            flush_below: match self
                .transaction
                .as_ref()
                .is_some_and(Transacting::is_ending)
            {
                true => u64::MAX,
                false => flush_below,
            },
            exhausted: self.exhausted,
            idempotent: self.options.idempotence,
            transactional: self.transaction.is_some(),
            max_in_flight: u64::try_from(in_flight).unwrap_or(1),
            split_bytes: self.options.batch_size,
        }
    }

    /// Takes up what callers' threads and time have brought.
    fn observe(&mut self, now: Now) {
        for queue in self.accumulator.take_news() {
            queue.unlist();
            let number = queue.number;
            self.part(&queue);
            if !self.usage.note(now.monotonic_us, &queue.topic) {
                // It was forgotten while the record was on its way here.
                self.accumulator.topics().announce(&queue.topic);
            }
            self.touch(now, number);
        }
        self.forget_unused(now);
        let exhausted = self.accumulator.memory().is_exhausted();
        if exhausted && !self.exhausted {
            self.exhausted = true;
            self.touch_all(now);
        }
        self.exhausted = exhausted;
        while let Some((at_us, number, timer)) = self.timers.first().copied() {
            if at_us > now.monotonic_us {
                break;
            }
            self.timers.remove(&(at_us, number, timer));
            if let Some(part) = self.parts.get_mut(&number) {
                part.timer = None;
            }
            self.touch(now, number);
        }
        self.close_overdue(now);
    }

    fn part(&mut self, queue: &Arc<PartitionQueue>) {
        let (initial_ms, max_ms) = self.options.retry_backoff_ms;
        self.parts.entry(queue.number).or_insert_with(|| {
            let mut part = Part::new(Arc::clone(queue), Backoff::new(initial_ms, max_ms));
            part.handle_cluster(&self.cluster);
            part
        });
    }

    /// Topics that nothing was sent to for `metadata.max.idle.ms` need no metadata (KIP-526).
    fn forget_unused(&mut self, now: Now) {
        if !self.usage.is_due(now.monotonic_us) {
            return;
        }
        // A record may take longer than that to be delivered.
        for part in self.parts.values().filter(|part| !part.is_idle()) {
            self.usage.note(now.monotonic_us, &part.name.topic);
        }
        let unused = self.usage.take_unused(now.monotonic_us);
        if !unused.is_empty() {
            self.accumulator.topics().forget(&unused);
            self.facts
                .extend(unused.into_iter().map(Fact::TopicUnwanted));
        }
    }

    fn touch_all(&mut self, now: Now) {
        let numbers: Vec<u32> = self.parts.keys().copied().collect();
        for number in numbers {
            self.touch(now, number);
        }
    }

    /// Brings one partition's expiry, identity, dueness and timer up to date.
    fn touch(&mut self, now: Now, number: u32) {
        let terms = self.terms(now);
        let Some(part) = self.parts.get_mut(&number) else {
            return;
        };
        part.expire(&terms);
        match &mut self.transaction {
            Some(transaction) => transaction.settle(part, self.identity.known()),
            None if terms.idempotent => part.settle(&mut self.identity),
            None => {}
        }
        let known = permitted(&self.identity, &self.transaction, &part.name);
        let next = part.plan_next(&terms, known);
        let leader = part.leader.map(|(leader, _)| leader);
        let due_at = leader.filter(|_| next != partition::Next::Nothing);
        if due_at != part.due_at {
            if let Some(due) = part.due_at.and_then(|old| self.due.get_mut(&old)) {
                due.remove(&number);
            }
            if let Some(broker) = due_at {
                self.due.entry(broker).or_default().insert(number);
            }
            part.due_at = due_at;
        }
        let timer = part.next_timer(&terms);
        if timer != part.timer {
            if let Some((at_us, old)) = part.timer {
                self.timers.remove(&(at_us, number, old));
            }
            if let Some((at_us, new)) = timer {
                self.timers.insert((at_us, number, new));
            }
            part.timer = timer;
        }
    }

    /// Fails what is left when a close has waited long enough.
    fn close_overdue(&mut self, now: Now) {
        let overdue = |closing: &Closing| closing.deadline_us <= now.monotonic_us;
        if self.closings.iter().any(overdue) {
            self.fail_everything();
            self.touch_all(now);
        }
    }

    fn fail_everything(&mut self) {
        self.accumulator.close();
        for part in self.parts.values_mut() {
            part.fail_all(&DeliveryCause::Closed);
        }
    }

    fn next_call_id(&mut self) -> CallId {
        let number = self.next_call;
        self.next_call = number.wrapping_add(1);
        CallId {
            room: RoomId::Producer(self.room),
            number,
        }
    }

    /// A call whose timeouts are the producer's.
    fn call(&self, now: Now, id: CallId, destination: Destination, lane: Lane, body: Body) -> Call {
        let timeout_us = self.options.request_timeout_ms.saturating_mul(1000);
        let give_up_us = now.monotonic_us.saturating_add(timeout_us);
        Call {
            id,
            destination,
            lane,
            body,
            version_cap: None,
            timeout_us,
            give_up_us,
        }
    }

    /// Asks for a producer id, once there is something to number.
    fn poll_identity(&mut self, now: Now) -> Option<Call> {
        let IdentityState::Unknown { retry_at_us } = self.identity else {
            return None;
        };
        if !self.wants_identity() || retry_at_us > now.monotonic_us {
            return None;
        }
        let id = self.next_call_id();
        self.identity = IdentityState::Asked { call: id.number };
        // A new id every time. The generated default is an empty transactional id, not none.
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX);
        let body = Body::InitProducerId(request.into());
        Some(self.call(now, id, Destination::AnyBroker, Lane::General, body))
    }

    fn wants_identity(&self) -> bool {
        self.options.idempotence
            && self.transaction.is_none()
            && self.parts.values().any(|part| !part.is_idle())
    }

    fn handle_identity(&mut self, now: Now, reply: Result<Reply, CallError>) {
        let (why, retriable) = match reply {
            Ok(Reply {
                response: Response::InitProducerId(answer),
                version,
                ..
            }) => {
                let code = ErrorCode(answer.error_code);
                if code.is_ok() {
                    return self.adopt_identity(now, &answer, version);
                }
                (
                    DeliveryCause::Broker {
                        code,
                        message: None,
                    },
                    code.meaning().retriable,
                )
            }
            Ok(_) => return,
            Err(error) => {
                let may_pass = error.kind.may_pass();
                (DeliveryCause::Call(error), may_pass)
            }
        };
        let wait_us = self.identity_backoff.next_us(&mut self.random);
        let retry_at_us = now.monotonic_us.saturating_add(wait_us);
        self.identity = IdentityState::Unknown { retry_at_us };
        let trouble = format!("no producer id: {why}");
        for part in self.parts.values_mut() {
            part.note_trouble(&trouble);
            if !retriable {
                part.fail_unsent(&why);
            }
        }
        self.touch_all(now);
    }

    fn adopt_identity(&mut self, now: Now, answer: &InitProducerIdResponse, version: i16) {
        self.identity_backoff.reset();
        let identity = Identity {
            id: answer.producer_id.0,
            epoch: answer.producer_epoch,
        };
        self.identity = IdentityState::Known {
            identity,
            bumpable: version >= BUMPABLE_FROM,
        };
        self.touch_all(now);
    }

    fn handle_produced(&mut self, now: Now, call: u64, reply: Result<Reply, CallError>) {
        let Some(InCall { broker, batches }) = self.calls.remove(&call) else {
            return;
        };
        if let Some(count) = self.in_flight.get_mut(&broker) {
            *count = count.saturating_sub(1);
        }
        let mut ends = Ends::new(reply, self.options.acks, broker);
        let terms = self.terms(now);
        let mut stale = false;
        for named in batches {
            let (end, hint) = ends.take(&named);
            if let Some(part) = self.parts.get_mut(&named.number) {
                stale |= part.handle_end(&terms, call, end, &mut self.random) && hint.is_none();
            }
            self.facts.extend(hint);
            self.touch(now, named.number);
        }
        if stale {
            self.facts.push_back(Fact::MetadataStale);
        }
    }

    fn finish(&mut self, request: RequestId) {
        self.finished.push_back((request, Ok(Outcome::Done)));
    }

    /// Ends flushes and closings whose records are all resolved.
    fn finish_waiting(&mut self) {
        if self.flushes.is_empty() && self.closings.is_empty() {
            return;
        }
        let oldest = self.accumulator.memory().oldest_unresolved();
        let waits = |flush: &Flush| oldest.is_some_and(|oldest| oldest < flush.below);
        let (waiting, done) = self.flushes.drain(..).partition(waits);
        self.flushes = waiting;
        let done: Vec<Flush> = done;
        done.into_iter()
            .for_each(|flush| self.finish(flush.request));
        if oldest.is_none() {
            let closed = std::mem::take(&mut self.closings);
            if !closed.is_empty() {
                self.accumulator.close();
            }
            closed
                .into_iter()
                .for_each(|closing| self.finish(closing.request));
        }
    }
}

impl Room for ProducerRoom {
    fn handle_fact(&mut self, now: Now, fact: &Fact) {
        match fact {
            Fact::ClusterChanged(cluster) => {
                self.cluster = Arc::clone(cluster);
                self.accumulator.update(cluster);
                for part in self.parts.values_mut() {
                    part.handle_cluster(cluster);
                }
                self.touch_all(now);
            }
            Fact::SendPermit {
                producer,
                turn,
                permit,
            } if *producer == self.room => self.handle_permit(now, *turn, permit),
            Fact::NoBrokerSecure { why } => self.accumulator.topics().handle_unsecured(why),
            Fact::NoBrokerReachable { why } => {
                for part in self.parts.values_mut().filter(|part| !part.is_idle()) {
                    part.note_trouble(why);
                }
            }
            _ => {}
        }
    }

    fn handle_reply(&mut self, now: Now, id: CallId, reply: Result<Reply, CallError>) {
        match self.identity {
            IdentityState::Asked { call } if call == id.number => self.handle_identity(now, reply),
            _ => self.handle_produced(now, id.number, reply),
        }
    }

    fn poll_call(&mut self, now: Now, permits: &Permits) -> Option<Call> {
        self.observe(now);
        self.poll_identity(now)
            .or_else(|| self.poll_produce(now, permits))
    }

    fn poll_fact(&mut self, now: Now) -> Option<Fact> {
        self.observe(now);
        let wanted = self.accumulator.topics().take_announced();
        if !wanted.is_empty() {
            self.usage.begin(now.monotonic_us, &wanted);
            // They may stand in the picture already, for another room's sake.
            self.accumulator.update(&self.cluster);
            return Some(Fact::TopicsWanted(wanted));
        }
        let fact = self.facts.pop_front();
        fact.or_else(|| self.poll_transaction())
    }

    fn poll_finished(&mut self) -> Option<(RequestId, Result<Outcome, Error>)> {
        self.finish_waiting();
        self.finished.pop_front()
    }

    fn poll_timeout(&self) -> Option<(u64, Timer)> {
        let part = self
            .timers
            .first()
            .map(|(at_us, _, timer)| (*at_us, *timer));
        let closing = self
            .closings
            .iter()
            .map(|closing| (closing.deadline_us, Timer::Delivery));
        let identity = match self.identity {
            IdentityState::Unknown { retry_at_us } if self.wants_identity() => {
                Some((retry_at_us, Timer::Retry))
            }
            _ => None,
        };
        let unused = self.usage.poll_timeout();
        let rooms = part.into_iter().chain(closing).chain(identity);
        rooms.chain(unused).min()
    }
}

impl Drop for ProducerRoom {
    /// No record is left without an answer, however the room ends.
    fn drop(&mut self) {
        self.fail_everything();
    }
}

/// A call's end, batch by batch.
#[derive(Debug)]
enum Ends {
    Answered(Answers, BrokerId),
    Same(End),
}

impl Ends {
    fn new(reply: Result<Reply, CallError>, acks: i16, broker: BrokerId) -> Self {
        match reply {
            Ok(Reply {
                response: Response::Produce(response),
                ..
            }) => Self::Answered(Answers::new(response), broker),
            Ok(Reply {
                response: Response::ProduceUnacknowledged,
                ..
            }) => Self::Same(End::Written(Written::UNPLACED)),
            // The hall answers a Produce with nothing else.
            Ok(_) => Self::Same(End::Lost(CallError {
                kind: CallErrorKind::Closed,
                written: true,
                broker: Some(broker),
            })),
            Err(error) if acks == 0 && error.written => Self::Same(End::Unacknowledged(error)),
            Err(error) => Self::Same(End::Lost(error)),
        }
    }

    fn take(&mut self, named: &Named) -> (End, Option<Fact>) {
        match self {
            Self::Answered(answers, broker) => answers.take(named, *broker),
            Self::Same(end) => (end.clone(), None),
        }
    }
}

#[cfg(test)]
mod tests;
