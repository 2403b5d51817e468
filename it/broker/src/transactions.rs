//! Transactions as their coordinator keeps them (KIP-98, KIP-360, KIP-890): who may go on under a
//! transactional id, what belongs to its transaction, and how that ends. The rules are those of
//! Kafka's `TransactionCoordinator` and `TransactionMetadata`.

use crate::groups::Committed;
use crate::now::Now;
use std::collections::{BTreeMap, BTreeSet};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::records::{ControlKind, EndMarker};

/// Kafka's `transaction.max.timeout.ms`.
const MAX_TIMEOUT_MS: i32 = 900_000;
/// Transactional ids kept; a new one beyond it is refused, where Kafka forgets by
/// `transactional.id.expiration.ms`.
const MAX_TRANSACTIONAL_IDS: usize = 10_000;
/// Offsets that one transaction may hold back.
const MAX_PENDING_OFFSETS: usize = 10_000;
/// Epochs end before the last number, which a fence may still take.
const LAST_EPOCH: i16 = i16::MAX - 1;
const NO_EPOCH: i16 = -1;

/// A producer id with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Commit,
    Abort,
}

/// Where the transactions of one id stand.
///
/// ```text
///              add                  end, timeout,             every marker written
///   Empty ───────────▶ Ongoing ─────────────────▶ Preparing ──────────────────────▶ Completed
///     │                   ▲        successor          ▲                                 │
///     │                   └──────────── add ──────────┼─────────────────────────────────┤
///     └───────── abort of nothing (KIP-890) ──────────┴─────────────────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    Ongoing {
        until: Now,
    },
    Preparing {
        end: End,
        /// When the markers are written; `None` once that was tried and a partition had no leader.
        due: Option<Now>,
    },
    Completed(End),
}

/// What one partition still lacks before its transaction is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marking {
    Unwritten,
    /// To be replicated up to this offset by the leader of this epoch.
    Written {
        next_offset: i64,
        leader_epoch: i32,
    },
}

/// Everything about one transactional id.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    producer: Producer,
    /// Of the same id: what a retry may still name.
    last_epoch: i16,
    /// The id before this one, whose epochs were used up.
    previous_id: i64,
    /// Takes over when the transaction is completed (KIP-890).
    next_id: Option<i64>,
    timeout_ms: i32,
    state: State,
    partitions: BTreeMap<(String, i32), Marking>,
    groups: BTreeSet<String>,
    offsets: BTreeMap<(String, String, i32), Committed>,
}

/// All transactional ids.
#[derive(Debug, Clone)]
pub(crate) struct Transactions {
    by_id: BTreeMap<String, Transaction>,
    /// From the decision to the markers.
    marker_delay_us: u64,
}

/// A transaction whose markers are due.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) transactional_id: String,
    pub(crate) marker: EndMarker,
    pub(crate) partitions: BTreeMap<(String, i32), Marking>,
}

impl Transactions {
    pub(crate) fn new(marker_delay_us: u64) -> Self {
        Self {
            by_id: BTreeMap::new(),
            marker_delay_us,
        }
    }

    /// InitProducerId: who goes on under `transactional_id`. A transaction of a predecessor that is
    /// open is aborted first, under an epoch that nobody is given, and the caller asks again.
    pub(crate) fn init(
        &mut self,
        now: Now,
        transactional_id: &str,
        timeout_ms: i32,
        expected: Option<Producer>,
        new_id: i64,
    ) -> Result<Producer, ErrorCode> {
        if !(1..=MAX_TIMEOUT_MS).contains(&timeout_ms) {
            return Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT);
        }
        if !self.by_id.contains_key(transactional_id) {
            if self.by_id.len() >= MAX_TRANSACTIONAL_IDS {
                return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
            }
            let fresh = Transaction::new(new_id, timeout_ms);
            self.by_id.insert(transactional_id.to_owned(), fresh);
        }
        let markers_at = now.after_us(self.marker_delay_us);
        let known = self.by_id.get_mut(transactional_id);
        let known = known.ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        if !expected.is_none_or(|expected| known.may_go_on(expected)) {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match known.state {
            State::Preparing { .. } => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            State::Ongoing { .. } => {
                known.fence(markers_at);
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            State::Empty | State::Completed(_) => {
                known.timeout_ms = timeout_ms;
                known.take_over(expected.map(|expected| expected.epoch), new_id)
            }
        }
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn, or what Produce 12 and TxnOffsetCommit 5 imply.
    pub(crate) fn add(
        &mut self,
        now: Now,
        transactional_id: &str,
        producer: Producer,
        partitions: impl IntoIterator<Item = (String, i32)>,
        groups: impl IntoIterator<Item = String>,
    ) -> Result<(), ErrorCode> {
        let known = self.of(transactional_id, producer)?;
        match known.state {
            State::Preparing { .. } => return Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            State::Ongoing { .. } => {}
            State::Empty | State::Completed(_) => {
                known.clear();
                let until = now.after_ms(known.timeout_ms);
                known.state = State::Ongoing { until };
            }
        }
        for partition in partitions {
            known.partitions.insert(partition, Marking::Unwritten);
        }
        known.groups.extend(groups);
        Ok(())
    }

    /// Whether a partition was added to the producer's open transaction.
    pub(crate) fn verify_partition(
        &mut self,
        transactional_id: &str,
        producer: Producer,
        topic: &str,
        partition: i32,
    ) -> Result<(), ErrorCode> {
        let known = self.verifiable(transactional_id, producer)?;
        let key = (topic.to_owned(), partition);
        let added = known.is_ongoing() && known.partitions.contains_key(&key);
        added.then_some(()).ok_or(ErrorCode::TRANSACTION_ABORTABLE)
    }

    /// Whether a group's offsets were added to the producer's open transaction.
    pub(crate) fn verify_group(
        &mut self,
        transactional_id: &str,
        producer: Producer,
        group: &str,
    ) -> Result<(), ErrorCode> {
        let known = self.verifiable(transactional_id, producer)?;
        let added = known.is_ongoing() && known.groups.contains(group);
        added.then_some(()).ok_or(ErrorCode::TRANSACTION_ABORTABLE)
    }

    /// Holds an offset back until the transaction ends; `false` where there is no room for another.
    pub(crate) fn hold_offset(
        &mut self,
        transactional_id: &str,
        (group, topic, partition): (&str, &str, i32),
        committed: Committed,
    ) -> bool {
        let Some(known) = self.by_id.get_mut(transactional_id) else {
            return false;
        };
        let key = (group.to_owned(), topic.to_owned(), partition);
        if known.offsets.len() >= MAX_PENDING_OFFSETS && !known.offsets.contains_key(&key) {
            return false;
        }
        known.offsets.insert(key, committed);
        true
    }

    /// Whether an open transaction may still change what the group committed for a partition.
    pub(crate) fn holds_offset(&self, group: &str, topic: &str, partition: i32) -> bool {
        let key = (group.to_owned(), topic.to_owned(), partition);
        let mut all = self.by_id.values();
        all.any(|known| known.offsets.contains_key(&key))
    }

    /// EndTxn; `bumps` from version 5 on, where each transaction has an epoch of its own (KIP-890).
    /// Returns who the producer is from now on.
    pub(crate) fn end(
        &mut self,
        now: Now,
        transactional_id: &str,
        producer: Producer,
        end: End,
        bumps: bool,
        new_id: i64,
    ) -> Result<Producer, ErrorCode> {
        let markers_at = now.after_us(self.marker_delay_us);
        let known = self.by_id.get_mut(transactional_id);
        let known = known.ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        match known.plan_end(producer, end, bumps)? {
            Planned::Done => Ok(known.producer),
            Planned::Begin => {
                if bumps && known.producer.epoch >= LAST_EPOCH {
                    known.next_id = Some(new_id);
                }
                if bumps {
                    known.last_epoch = known.producer.epoch;
                    known.producer.epoch = known.producer.epoch.saturating_add(1);
                }
                known.prepare(end, markers_at);
                let next = known.next_id.map(|id| Producer { id, epoch: 0 });
                Ok(next.unwrap_or(known.producer))
            }
        }
    }

    /// Aborts what has been open for longer than its producer allowed.
    pub(crate) fn expire(&mut self, now: Now) {
        let markers_at = now.after_us(self.marker_delay_us);
        for known in self.by_id.values_mut() {
            if matches!(known.state, State::Ongoing { until } if now.reached(until)) {
                known.fence(markers_at);
            }
        }
    }

    /// The transactions whose markers can be written now.
    pub(crate) fn due(&self, now: Now) -> Vec<Due> {
        let due = self.by_id.iter().filter_map(|(id, known)| {
            let State::Preparing { end, due } = known.state else {
                return None;
            };
            if due.is_some_and(|at| !now.reached(at)) {
                return None;
            }
            let kind = match end {
                End::Commit => ControlKind::Commit,
                End::Abort => ControlKind::Abort,
            };
            Some(Due {
                transactional_id: id.clone(),
                marker: EndMarker {
                    kind,
                    producer_id: known.producer.id,
                    producer_epoch: known.producer.epoch,
                    coordinator_epoch: 0,
                },
                partitions: known.partitions.clone(),
            })
        });
        due.collect()
    }

    /// What is left of a transaction after its markers were tried; nothing left completes it, and
    /// returns the offsets to commit.
    pub(crate) fn settle(
        &mut self,
        transactional_id: &str,
        left: BTreeMap<(String, i32), Marking>,
    ) -> Option<BTreeMap<(String, String, i32), Committed>> {
        let known = self.by_id.get_mut(transactional_id)?;
        let State::Preparing { end, .. } = known.state else {
            return None;
        };
        if !left.is_empty() {
            known.partitions = left;
            known.state = State::Preparing { end, due: None };
            return None;
        }
        let offsets = std::mem::take(&mut known.offsets);
        known.clear();
        known.state = State::Completed(end);
        if let Some(id) = known.next_id.take() {
            known.previous_id = known.producer.id;
            known.producer = Producer { id, epoch: 0 };
        }
        Some(match end {
            End::Commit => offsets,
            End::Abort => BTreeMap::new(),
        })
    }

    /// When a transaction is aborted for its age, or markers are due, at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        let deadlines = self.by_id.values().filter_map(|known| match known.state {
            State::Ongoing { until } => Some(until),
            State::Preparing { due, .. } => due,
            State::Empty | State::Completed(_) => None,
        });
        deadlines.min_by_key(|at| at.monotonic_us)
    }

    /// Forgets a transactional id, as `transactional.id.expiration.ms` would.
    pub(crate) fn forget(&mut self, transactional_id: &str) {
        self.by_id.remove(transactional_id);
    }

    /// Whether a transaction is open or not completed yet.
    pub(crate) fn is_open(&self, transactional_id: &str) -> bool {
        let known = self.by_id.get(transactional_id);
        known.is_some_and(|known| {
            matches!(known.state, State::Ongoing { .. } | State::Preparing { .. })
        })
    }

    fn of(
        &mut self,
        transactional_id: &str,
        producer: Producer,
    ) -> Result<&mut Transaction, ErrorCode> {
        let known = self.by_id.get_mut(transactional_id);
        let known = known.ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        if known.producer.id != producer.id {
            Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
        } else if known.producer.epoch != producer.epoch {
            Err(ErrorCode::PRODUCER_FENCED)
        } else {
            Ok(known)
        }
    }

    fn verifiable(
        &mut self,
        transactional_id: &str,
        producer: Producer,
    ) -> Result<&mut Transaction, ErrorCode> {
        let known = self.of(transactional_id, producer)?;
        match known.state {
            State::Preparing { .. } => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            _ => Ok(known),
        }
    }
}

/// What an EndTxn does.
enum Planned {
    /// It is a retry of one that was carried out.
    Done,
    Begin,
}

impl Transaction {
    fn new(id: i64, timeout_ms: i32) -> Self {
        Self {
            producer: Producer {
                id,
                epoch: NO_EPOCH,
            },
            last_epoch: NO_EPOCH,
            previous_id: -1,
            next_id: None,
            timeout_ms,
            state: State::Empty,
            partitions: BTreeMap::new(),
            groups: BTreeSet::new(),
            offsets: BTreeMap::new(),
        }
    }

    fn is_ongoing(&self) -> bool {
        matches!(self.state, State::Ongoing { .. })
    }

    fn clear(&mut self) {
        self.partitions.clear();
        self.groups.clear();
        self.offsets.clear();
    }

    /// Whether a producer that says who it was may be the one that is known (KIP-360). Its epoch is
    /// looked at when the next one is given out.
    fn may_go_on(&self, expected: Producer) -> bool {
        self.producer.epoch == NO_EPOCH
            || expected.id == self.producer.id
            || (expected.id == self.previous_id && expected.epoch >= LAST_EPOCH)
    }

    /// The next epoch, or a new id where there is none.
    fn take_over(
        &mut self,
        expected_epoch: Option<i16>,
        new_id: i64,
    ) -> Result<Producer, ErrorCode> {
        let epoch = self.producer.epoch;
        let is_current = epoch == NO_EPOCH || expected_epoch.is_none_or(|e| e == epoch);
        if !is_current {
            // A retry of what was carried out gets the same answer again.
            return match expected_epoch == Some(self.last_epoch) {
                true => Ok(self.producer),
                false => Err(ErrorCode::PRODUCER_FENCED),
            };
        }
        self.last_epoch = match expected_epoch {
            Some(_) => epoch,
            None => NO_EPOCH,
        };
        self.producer = if epoch >= LAST_EPOCH {
            self.previous_id = self.producer.id;
            Producer {
                id: new_id,
                epoch: 0,
            }
        } else {
            Producer {
                epoch: epoch.saturating_add(1),
                ..self.producer
            }
        };
        self.clear();
        self.state = State::Empty;
        Ok(self.producer)
    }

    /// Aborts what is open under an epoch of its own, so that its producer can go on no more.
    fn fence(&mut self, markers_at: Now) {
        self.producer.epoch = self.producer.epoch.saturating_add(1);
        self.last_epoch = NO_EPOCH;
        self.prepare(End::Abort, markers_at);
    }

    fn prepare(&mut self, end: End, markers_at: Now) {
        self.state = State::Preparing {
            end,
            due: Some(markers_at),
        };
    }

    fn plan_end(&self, producer: Producer, end: End, bumps: bool) -> Result<Planned, ErrorCode> {
        let bumped = bumps && self.last_epoch == producer.epoch;
        let overflowed = bumps
            && self.previous_id == producer.id
            && producer.epoch >= LAST_EPOCH
            && self.producer.epoch == 0;
        let is_retry = bumped || overflowed;
        if self.producer.id != producer.id && !overflowed {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        let same_epoch = producer.epoch == self.producer.epoch;
        let may_end = match self.state {
            State::Empty | State::Ongoing { .. } => same_epoch,
            // With an epoch for each transaction, the present one is of the next.
            State::Preparing { .. } if bumps => bumped,
            State::Preparing { .. } => same_epoch,
            State::Completed(_) => same_epoch || is_retry,
        };
        if !may_end {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match self.state {
            State::Ongoing { .. } => Ok(Planned::Begin),
            State::Preparing { end: ending, .. } if ending == end => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            State::Completed(ended) if ended == end && (is_retry || !bumps) => Ok(Planned::Done),
            // Nothing to abort: but the epoch must go on, because something may be on its way.
            State::Empty | State::Completed(_) if bumps && end == End::Abort && !is_retry => {
                Ok(Planned::Begin)
            }
            State::Empty | State::Preparing { .. } | State::Completed(_) => {
                Err(ErrorCode::INVALID_TXN_STATE)
            }
        }
    }
}
