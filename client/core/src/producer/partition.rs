//! One partition in the room: which batches are with a broker, and what may go out next.

mod pieces;

use super::delivery::{DeliveryCause, Failure, Written};
use super::queue::{Batch, FrontState, PartitionQueue};
use super::response::{End, Refusal};
use super::sequence::{Identity, IdentityState, Sequence};
use crate::backoff::Backoff;
use crate::call::{BrokerId, TopicPartition};
use crate::metadata::Cluster;
use crate::time::Timer;
use std::collections::VecDeque;
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::records::ProducerStamp;
use uuid::Uuid;

/// How long a broker is trusted to remember what it acknowledged. Without state of a producer it
/// takes any sequence (Kafka's `ProducerAppendInfo.checkSequence`), so that a second batch could
/// stand where the first, lost on its way, belonged. Far below `producer.id.expiration.ms`, a day.
const REMEMBERED_US: u64 = 60_000_000;

/// A partition that records were sent to.
///
/// Batches leave the queue in order and stay in `sent`, in sequence order, until their fate is
/// known. While one of them waits to be sent again, only the first may go out: so nothing overtakes
/// a failed batch.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) queue: Arc<PartitionQueue>,
    pub(crate) name: TopicPartition,
    sent: VecDeque<Sent>,
    /// That the sequences in `sent` and `next` belong to.
    identity: Option<Identity>,
    next: Sequence,
    next_ordinal: u64,
    /// When a batch was last acknowledged under `identity`.
    acknowledged_us: Option<u64>,
    /// A numbered batch was given up: the broker may never accept what follows it, and its number
    /// must not be used again. The next batch needs a new epoch.
    gap: bool,
    /// The broker has lost count: everything in `sent` needs a new epoch, once none is in flight.
    restamp: bool,
    pub(crate) leader: Option<(BrokerId, i32)>,
    pub(crate) topic_id: Option<Uuid>,
    backoff: Backoff,
    retry_at_us: u64,
    /// What stood in the way last, for the error of an expired batch.
    trouble: Option<String>,
    pub(crate) timer: Option<(u64, Timer)>,
    pub(crate) due_at: Option<BrokerId>,
}

/// A batch that was sent at least once.
#[derive(Debug)]
struct Sent {
    batch: Batch,
    sequence: Option<Sequence>,
    /// Counts the partition's batches as they were sent first.
    ordinal: u64,
    state: SentState,
    /// A later batch of the same identity was acknowledged: brokers take none out of order, so this
    /// one is in the log, whatever they have said about it since.
    proven: bool,
    /// An attempt may have been written although nobody said so.
    possibly_written: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SentState {
    /// Part of a call. `first`: nothing of this partition was before it when it went out.
    InFlight {
        call: u64,
        broker: BrokerId,
        first: bool,
    },
    /// To be sent again.
    Retry,
}

/// The rules of a moment, the same for every partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) now_us: u64,
    pub(crate) linger_us: u64,
    pub(crate) delivery_us: u64,
    /// Open batches with lower numbers do not linger: a flush waits for them.
    pub(crate) flush_below: u64,
    /// No open batch lingers: memory is short.
    pub(crate) exhausted: bool,
    pub(crate) idempotent: bool,
    /// Identities come from a transaction; this room never takes the next one by itself.
    pub(crate) transactional: bool,
    pub(crate) max_in_flight: u64,
    pub(crate) split_bytes: usize,
}

/// What a partition would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Nothing,
    /// The first of `sent` again.
    Resend,
    /// A batch from the queue; `full` where it could not take more records.
    Fresh {
        full: bool,
    },
}

impl Part {
    pub(crate) fn new(queue: Arc<PartitionQueue>, backoff: Backoff) -> Self {
        let name = TopicPartition {
            topic: Arc::clone(&queue.topic),
            partition: queue.partition,
        };
        Self {
            queue,
            name,
            sent: VecDeque::new(),
            identity: None,
            next: Sequence::default(),
            next_ordinal: 0,
            acknowledged_us: None,
            gap: false,
            restamp: false,
            leader: None,
            topic_id: None,
            backoff,
            retry_at_us: 0,
            trouble: None,
            timer: None,
            due_at: None,
        }
    }

    /// Learns leader and topic id. A new leader ends the backoff; a new topic id means a new log,
    /// which knows none of our numbers.
    pub(crate) fn handle_cluster(&mut self, cluster: &Cluster) {
        let leader = cluster.leader(&self.name.topic, self.name.partition);
        if leader.is_some() && leader != self.leader {
            self.retry_at_us = 0;
        }
        self.leader = leader;
        let topic_id = cluster.topic_id(&self.name.topic);
        if self.topic_id.is_some() && topic_id.is_some() && self.topic_id != topic_id {
            self.restamp = true;
        }
        self.topic_id = topic_id.or(self.topic_id);
    }

    /// Fails batches whose delivery timeout has passed, in order, but none that is in flight: its
    /// response may still say that it was written.
    pub(crate) fn expire(&mut self, terms: &Terms) {
        let Some(until_us) = terms.now_us.checked_sub(terms.delivery_us) else {
            return;
        };
        while let Some(first) = self.sent.front() {
            if first.state != SentState::Retry || first.batch.opened_us > until_us {
                break;
            }
            let why = self.expired(terms);
            self.give_up(0, |possibly_written| Failure::new(why, possibly_written));
        }
        if self
            .queue
            .front()
            .is_some_and(|front| front.opened_us <= until_us)
        {
            let failure = Failure::new(self.expired(terms), false);
            self.queue.fail_until(until_us, &failure);
        }
    }

    /// Takes the next epoch where this partition needs one, and numbers what waits under it.
    pub(crate) fn settle(&mut self, state: &mut IdentityState) {
        if self.in_flight().next().is_some() {
            return;
        }
        if self.restamp {
            self.resolve_proven();
        }
        if self.restamp || (self.gap && self.sent.is_empty()) {
            if let Some(used) = self.identity.take() {
                state.bump(used);
            }
            (self.restamp, self.gap) = (false, false);
            for sent in &mut self.sent {
                sent.sequence = None;
            }
        }
        let unnumbered = self
            .sent
            .front()
            .is_none_or(|first| first.sequence.is_none());
        let known = state
            .known()
            .filter(|known| unnumbered && self.identity != Some(*known));
        if let Some(known) = known {
            self.identity = Some(known);
            self.next = Sequence::default();
            self.acknowledged_us = None;
            for sent in &mut self.sent {
                sent.sequence = Some(self.next);
                self.next = self.next.plus(sent.batch.sealed.count());
            }
        }
    }

    /// Takes the identity that the transaction gives, once nothing hangs on the one before.
    pub(crate) fn adopt(&mut self, given: Option<Identity>) {
        // A log that was made anew takes any sequence; what was lost with the old one is lost.
        self.restamp = false;
        if self.sent.is_empty() && given.is_some() && self.identity != given {
            self.identity = given;
            self.next = Sequence::default();
            self.acknowledged_us = None;
            self.gap = false;
        }
    }

    /// Fails everything that is not in flight.
    pub(crate) fn abandon(&mut self, why: &DeliveryCause) {
        let in_flight = |sent: &Sent| sent.state != SentState::Retry;
        while let Some(at) = self.sent.iter().position(|sent| !in_flight(sent)) {
            self.give_up(at, |possibly| Failure::new(why.clone(), possibly));
        }
        self.fail_unsent(why);
    }

    /// Whether a numbered batch was given up under the present identity.
    pub(crate) fn has_gap(&self) -> bool {
        self.gap
    }

    /// What may go to the leader now.
    pub(crate) fn plan_next(&self, terms: &Terms, current: Option<Identity>) -> Next {
        let Some((leader, _)) = self.leader else {
            return Next::Nothing;
        };
        let elsewhere = self.in_flight().any(|broker| broker != leader);
        if self.retry_at_us > terms.now_us || elsewhere || self.restamp {
            return Next::Nothing;
        }
        if self.sent.iter().any(|sent| sent.state == SentState::Retry) {
            let first = self
                .sent
                .front()
                .filter(|first| first.state == SentState::Retry);
            let ready = first.is_some_and(|first| !terms.idempotent || first.sequence.is_some());
            return if ready { Next::Resend } else { Next::Nothing };
        }
        // Counted from the first unresolved one, acknowledged ones included: a broker knows a
        // duplicate only among the last five batches.
        let oldest = self
            .sent
            .front()
            .map_or(self.next_ordinal, |first| first.ordinal);
        if self.next_ordinal.saturating_sub(oldest) >= self.window(terms) {
            return Next::Nothing;
        }
        if terms.idempotent && (self.gap || current.is_none() || self.identity != current) {
            return Next::Nothing;
        }
        match self.queue.front() {
            Some(front) if front.state == FrontState::Ended => Next::Fresh { full: true },
            Some(front) if front.state == FrontState::Open => {
                let lingered = front.opened_us.saturating_add(terms.linger_us) <= terms.now_us;
                let pushed = terms.exhausted || front.number < terms.flush_below;
                if lingered || pushed {
                    Next::Fresh { full: false }
                } else {
                    Next::Nothing
                }
            }
            _ => Next::Nothing,
        }
    }

    /// How many batches may be in flight: one until the broker is known to count with us.
    fn window(&self, terms: &Terms) -> u64 {
        let remembers = |at: u64| terms.now_us.saturating_sub(at) < REMEMBERED_US;
        match self.acknowledged_us {
            Some(at) if remembers(at) => terms.max_in_flight,
            _ => 1,
        }
    }

    /// When this partition wants attention without news, and why.
    pub(crate) fn next_timer(&self, terms: &Terms) -> Option<(u64, Timer)> {
        let front = self.queue.front();
        let first = self
            .sent
            .front()
            .filter(|first| first.state == SentState::Retry);
        let waits = front.is_some() || !self.sent.is_empty();
        let retry =
            Some((self.retry_at_us, Timer::Retry)).filter(|(at, _)| waits && *at > terms.now_us);
        let open = front.filter(|front| front.state == FrontState::Open);
        let linger = open.map(|open| {
            (
                open.opened_us.saturating_add(terms.linger_us),
                Timer::Linger,
            )
        });
        let linger = linger.filter(|(at, _)| *at > terms.now_us);
        let queued = front.filter(|front| front.state != FrontState::Sealing);
        let opened = [
            first.map(|first| first.batch.opened_us),
            queued.map(|front| front.opened_us),
        ];
        let deadline = opened.into_iter().flatten().min();
        let delivery = deadline.map(|at| (at.saturating_add(terms.delivery_us), Timer::Delivery));
        [retry, linger, delivery].into_iter().flatten().min()
    }

    /// Bytes of the batch that would be sent again.
    pub(crate) fn resend_bytes(&self) -> usize {
        self.sent
            .front()
            .map_or(0, |first| first.batch.sealed.size_bytes())
    }

    /// Sends the first batch again; its pieces for the wire.
    pub(crate) fn resend(&mut self, call: u64, terms: &Terms) -> Option<[bytes::Bytes; 2]> {
        let (broker, _) = self.leader?;
        let identity = self.identity;
        let first = self.sent.front_mut()?;
        first.state = SentState::InFlight {
            call,
            broker,
            first: true,
        };
        let stamp = stamp(identity, first.sequence, terms.transactional);
        Some(first.batch.sealed.stamp(stamp))
    }

    /// Sends a batch from the queue; its pieces for the wire.
    pub(crate) fn send(
        &mut self,
        call: u64,
        batch: Batch,
        terms: &Terms,
    ) -> Option<[bytes::Bytes; 2]> {
        let (broker, _) = self.leader?;
        let sequence = Some(self.next).filter(|_| terms.idempotent);
        let stamp = stamp(
            self.identity.filter(|_| terms.idempotent),
            sequence,
            terms.transactional,
        );
        let pieces = batch.sealed.stamp(stamp);
        self.next = self.next.plus(batch.sealed.count());
        let ordinal = self.next_ordinal;
        self.next_ordinal = ordinal.saturating_add(1);
        let first = self.sent.is_empty();
        self.sent.push_back(Sent {
            batch,
            sequence,
            ordinal,
            state: SentState::InFlight {
                call,
                broker,
                first,
            },
            proven: false,
            possibly_written: false,
        });
        Some(pieces)
    }

    /// The end of an attempt. Returns whether the picture of the cluster seems stale.
    pub(crate) fn handle_end(
        &mut self,
        terms: &Terms,
        call: u64,
        end: End,
        random: &mut fastrand::Rng,
    ) -> bool {
        let in_call =
            |sent: &Sent| matches!(sent.state, SentState::InFlight { call: c, .. } if c == call);
        let Some(at) = self.sent.iter().position(in_call) else {
            return false;
        };
        match end {
            End::Written(written) => {
                self.backoff.reset();
                self.trouble = None;
                self.acknowledged_us = Some(terms.now_us);
                for earlier in self.sent.iter_mut().take(at) {
                    earlier.proven = earlier.sequence.is_some();
                }
                if let Some(sent) = self.sent.remove(at) {
                    sent.batch.written(written);
                }
                false
            }
            End::Lost(error) => {
                let possibly = error.written;
                let retriable = error.kind.may_pass();
                self.note(at, error.to_string(), possibly);
                if retriable {
                    self.retry(at, terms, random);
                } else {
                    self.give_up(at, |written| {
                        Failure::new(DeliveryCause::Call(error), written)
                    });
                }
                retriable
            }
            End::Unacknowledged(error) => {
                self.note(at, error.to_string(), true);
                self.give_up(at, |written| {
                    Failure::new(DeliveryCause::Call(error), written)
                });
                true
            }
            End::Refused(refusal) => {
                let code = refusal.code;
                self.note(at, code.to_string(), refusal.possibly_written());
                match refusal.plan(terms, self.was_first(at)) {
                    Plan::Split if self.split(at, terms.split_bytes) => {}
                    // A transaction stands whole or not at all.
                    Plan::GiveUp if !terms.transactional && self.sift(at, &refusal) => {}
                    Plan::Follow => self.set_retry(at),
                    Plan::Restamp => {
                        self.restamp = true;
                        self.retry(at, terms, random);
                    }
                    Plan::Retry => self.retry(at, terms, random),
                    Plan::Split | Plan::GiveUp => {
                        self.give_up(at, |written| refusal.failure_from(0, written));
                    }
                }
                code.meaning().refresh_metadata
            }
        }
    }

    /// Fails everything, sent or not.
    pub(crate) fn fail_all(&mut self, why: &DeliveryCause) {
        while let Some(first) = self.sent.front() {
            let in_flight = first.state != SentState::Retry;
            self.give_up(0, |possibly| {
                Failure::new(why.clone(), possibly || in_flight)
            });
        }
        self.fail_unsent(why);
    }

    /// Fails what waits in the queue.
    pub(crate) fn fail_unsent(&mut self, why: &DeliveryCause) {
        self.queue
            .fail_until(u64::MAX, &Failure::new(why.clone(), false));
    }

    /// Whether anything waits or is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.sent.is_empty() && self.queue.front().is_none()
    }

    /// Notes what keeps batches waiting although no attempt failed.
    pub(crate) fn note_trouble(&mut self, trouble: &str) {
        self.trouble = Some(trouble.to_owned());
    }

    fn in_flight(&self) -> impl Iterator<Item = BrokerId> {
        self.sent.iter().filter_map(|sent| match sent.state {
            SentState::InFlight { broker, .. } => Some(broker),
            SentState::Retry => None,
        })
    }

    fn was_first(&self, at: usize) -> bool {
        let sent = self.sent.get(at);
        sent.is_some_and(|sent| matches!(sent.state, SentState::InFlight { first: true, .. }))
    }

    fn note(&mut self, at: usize, trouble: String, possibly_written: bool) {
        self.trouble = Some(trouble);
        if let Some(sent) = self.sent.get_mut(at) {
            sent.possibly_written |= possibly_written;
        }
    }

    fn set_retry(&mut self, at: usize) {
        if let Some(sent) = self.sent.get_mut(at) {
            sent.state = SentState::Retry;
        }
    }

    /// Once more after a backoff; at once where another broker leads meanwhile, which has not failed
    /// (KIP-951).
    fn retry(&mut self, at: usize, terms: &Terms, random: &mut fastrand::Rng) {
        let leads_no_more = |sent: &Sent| match (sent.state, self.leader) {
            (SentState::InFlight { broker, .. }, Some((leader, _))) => broker != leader,
            _ => false,
        };
        let at_once = self.sent.get(at).is_some_and(leads_no_more);
        self.set_retry(at);
        // Several batches of one broken connection are one failure.
        if !at_once && self.retry_at_us <= terms.now_us {
            self.retry_at_us = terms.now_us.saturating_add(self.backoff.next_us(random));
        }
    }

    fn give_up(&mut self, at: usize, failure: impl FnOnce(bool) -> Failure) {
        if let Some(sent) = self.sent.remove(at) {
            if sent.proven {
                return sent.batch.written(Written::UNPLACED);
            }
            self.gap |= sent.sequence.is_some();
            sent.batch.failed(failure(sent.possibly_written));
        }
    }

    fn resolve_proven(&mut self) {
        while let Some(sent) = self.sent.pop_front_if(|first| first.proven) {
            sent.batch.written(Written::UNPLACED);
        }
    }

    fn expired(&self, terms: &Terms) -> DeliveryCause {
        let why = match (&self.trouble, self.leader) {
            (Some(trouble), _) => trouble.clone(),
            (None, None) => "the partition has no leader".to_owned(),
            (None, Some((leader, _))) => format!("broker {} was not ready for it", leader.0),
        };
        DeliveryCause::TimedOut {
            limit_ms: terms.delivery_us / 1000,
            why,
        }
    }
}

/// What to do about a refused batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Again, after a while.
    Retry,
    /// Again, right behind the batch that must come before it.
    Follow,
    /// Again, under a new epoch.
    Restamp,
    /// In pieces.
    Split,
    /// Not again; where the broker names the records that it will not take, only those.
    GiveUp,
}

impl Refusal {
    /// `first`: nothing of the partition was before the batch when it was sent, so the broker
    /// cannot have meant that an earlier one is missing.
    pub(crate) fn plan(&self, terms: &Terms, first: bool) -> Plan {
        match self.code {
            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => Plan::Split,
            // Line 18: the transaction is over, and its end brings the next epoch.
            ErrorCode::INVALID_PRODUCER_EPOCH if terms.transactional => Plan::GiveUp,
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            | ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::INVALID_PRODUCER_EPOCH
                if terms.idempotent =>
            {
                // Without a log start the broker does not say that it has forgotten us for good.
                let plain =
                    self.code == ErrorCode::UNKNOWN_PRODUCER_ID && self.log_start_offset < 0;
                match first {
                    false => Plan::Follow,
                    true if plain => Plan::Retry,
                    true if terms.transactional => Plan::GiveUp,
                    true => Plan::Restamp,
                }
            }
            code if code.meaning().retriable => Plan::Retry,
            _ => Plan::GiveUp,
        }
    }
}

fn stamp(
    identity: Option<Identity>,
    sequence: Option<Sequence>,
    transactional: bool,
) -> ProducerStamp {
    match (identity, sequence) {
        (Some(identity), Some(sequence)) => ProducerStamp {
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            base_sequence: sequence.get(),
            transactional,
        },
        _ => ProducerStamp::NONE,
    }
}
