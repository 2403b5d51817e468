//! What the room and the reader's thread share: pieces that wait to be read, whose turn it is, and
//! how each partition fares. Its lock is held for moments, never while records are read.

mod progress;
mod rebalance;

pub use progress::Progress;
pub use rebalance::{Rebalance, Revocation};

use crate::call::{GroupMetadata, TopicPartition};
use crate::error::Error;
use crate::fetch::buffer::Buffer;
use crate::fetch::position::{Cursor, FetchPosition};
use crate::fetch::records::{Fetched, Piece};
use crate::options::ConsumerOptions;
use crate::pulse::Pulse;
use crate::time::Now;
use rebalance::Notice;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a consumer's reader is given.
#[derive(Debug)]
pub enum Event {
    /// Records of one partition.
    Records(Fetched),
    /// The partition was read to its end, as of a fetch that succeeded. Comes once, and again after
    /// there was something to read or a failure in between; [`PartitionStatus::caught_up`] tells
    /// for how long it has been so.
    CaughtUp(TopicPartition),
    /// The consumer's group gives it partitions or takes them. Only after a subscription.
    Rebalance(Rebalance),
}

/// How one partition fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStatus {
    /// The next offset to be delivered; `None` while it is being looked up.
    pub position: Option<i64>,
    /// The epoch of the leader that appended the record before the position, -1 where unknown. A
    /// commit carries it (KIP-320).
    pub leader_epoch: i32,
    /// What the last successful fetch said; `None` before there was one.
    pub watermarks: Option<Watermarks>,
    /// The offset that this consumer can read up to: the last stable one under `read_committed`,
    /// else the high watermark.
    pub end_offset: Option<i64>,
    /// Whether it is paused.
    pub is_paused: bool,
    /// Nothing is left to read, by fetches that succeeded.
    pub caught_up: Option<CaughtUp>,
    /// Why the last attempt failed; `None` once one has succeeded.
    pub failure: Option<Error>,
}

impl PartitionStatus {
    /// Offsets between position and end; `None` where either is not known.
    pub fn lag(&self) -> Option<i64> {
        Some(self.end_offset?.saturating_sub(self.position?).max(0))
    }
}

/// The marks of a partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset that the log still has, -1 where the broker is too old to say.
    pub log_start: i64,
    /// The offset after the last decided record, -1 where the broker does not say.
    pub last_stable: i64,
    /// The offset after the last fully replicated record.
    pub high: i64,
}

/// A time in which every fetch of a partition succeeded and its position stood at the end. Both ends
/// are moments of successful fetches, so an unreachable broker never looks like an idle topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaughtUp {
    /// The first of these fetches, monotonic microseconds.
    pub since_us: u64,
    /// The latest.
    pub confirmed_us: u64,
}

impl CaughtUp {
    /// How long it has been so, microseconds, as far as is confirmed.
    pub fn lasted_us(&self) -> u64 {
        self.confirmed_us.saturating_sub(self.since_us)
    }
}

/// A batch that the reader could not read: the room fetches again from the cursor.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) partition: TopicPartition,
    pub(crate) epoch: u64,
}

/// What a consumer's room and its reader share.
#[derive(Debug)]
pub struct Inbox {
    read_committed: bool,
    group: Arc<str>,
    auto_commit: bool,
    pub(crate) buffer: Arc<Buffer>,
    pulse: Arc<Pulse>,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    slots: BTreeMap<TopicPartition, Slot>,
    /// Who is next: each partition stands in it at most once for each kind of turn.
    turns: VecDeque<Turn>,
    /// At most one for each partition's epoch.
    unreadable: Vec<Unreadable>,
    /// What the reader is told before anything else.
    notices: VecDeque<Notice>,
    /// Rounds of giving partitions up that the reader has seen to.
    given_up: Vec<u64>,
    /// Partitions of which a piece went out since they were last settled.
    lent: Vec<TopicPartition>,
    /// The member that the reader knows itself to be.
    member: Option<GroupMetadata>,
    /// What the group took while records of it were delivered and in no transaction's offsets.
    forfeited: Option<TopicPartition>,
    reader: Option<Waker>,
    closed: bool,
}

#[derive(Debug)]
enum Turn {
    Records(TopicPartition),
    CaughtUp(TopicPartition),
    Failed(TopicPartition),
}

/// One partition's place in the inbox.
#[derive(Debug)]
struct Slot {
    cursor: Arc<Cursor>,
    pieces: VecDeque<Box<Piece>>,
    /// A `Fetched` is out.
    is_lent: bool,
    /// Something could not be read: nothing is taken in before the room restarts it.
    is_broken: bool,
    /// It is being given up: nothing more is given out.
    is_leaving: bool,
    /// Position and leader epoch when the reader last came for more after a piece of it.
    settled: Option<(i64, i32)>,
    has_turn: bool,
    has_end_turn: bool,
    watermarks: Option<Watermarks>,
    succeeded_us: u64,
    caught_up_since_us: Option<u64>,
    /// `Event::CaughtUp` was given, or has its turn, for the present run.
    was_told: bool,
    failure: Option<Error>,
    /// To be given to the reader.
    error: Option<Error>,
}

impl Inbox {
    /// Empty; `driver` is woken when the reader makes room or meets something unreadable.
    pub fn new(options: &ConsumerOptions, driver: Waker) -> Arc<Self> {
        Arc::new(Self {
            read_committed: options.read_committed,
            group: Arc::from(options.group_id.as_deref().unwrap_or_default()),
            auto_commit: options.auto_commit,
            buffer: Buffer::new(driver.clone()),
            pulse: Pulse::new(driver),
            shared: Mutex::default(),
        })
    }

    /// The next event, in turns, so that no partition starves another. An error concerns one
    /// partition; the others go on, and so does it after a backoff where that can help.
    ///
    /// # Errors
    /// A partition's failure that waiting does not cure, or [`Error::Closed`] at the end.
    pub fn poll_event(self: &Arc<Self>, context: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        self.pulse.beat();
        let mut shared = self.lock();
        shared.settle();
        if let Some(notice) = shared.notices.pop_front() {
            drop(shared);
            return Poll::Ready(self.give(notice));
        }
        while let Some(turn) = shared.turns.pop_front() {
            if let Some(event) = shared.take_turn(turn) {
                drop(shared);
                return Poll::Ready(event.map(|event| event.into_event(self)));
            }
        }
        if shared.closed {
            return Poll::Ready(Err(Error::Closed {
                doing: "fetch".to_owned(),
            }));
        }
        shared.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// What the consumer's group judges its reader by.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// How `partition` fares; `None` where it is not assigned.
    pub fn status(&self, partition: &TopicPartition) -> Option<PartitionStatus> {
        let shared = self.lock();
        let slot = shared.slots.get(partition)?;
        Some(slot.status(self.read_committed))
    }

    /// How every assigned partition fares.
    pub fn statuses(&self) -> Vec<(TopicPartition, PartitionStatus)> {
        let shared = self.lock();
        let statuses = shared.slots.iter();
        statuses
            .map(|(partition, slot)| (partition.clone(), slot.status(self.read_committed)))
            .collect()
    }

    /// Ends it: nothing is delivered any more, the reader gets [`Error::Closed`].
    pub fn close(&self) {
        let mut shared = self.lock();
        shared.closed = true;
        let slots = std::mem::take(&mut shared.slots);
        for slot in slots.values() {
            slot.cursor.restart(u64::MAX, None);
        }
        let reader = shared.reader.take();
        drop(shared);
        drop(slots);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// A reader is done with a piece, or gives it back half read.
    pub(crate) fn handle_returned(&self, piece: Box<Piece>) {
        let mut shared = self.lock();
        let partition = piece.place.partition.clone();
        let mut done = VecDeque::new();
        if let Some(slot) = shared.slots.get_mut(&partition)
            && slot.cursor.standing().epoch == piece.place.epoch
            && !slot.is_broken
        {
            slot.is_lent = false;
            if piece.place.broken {
                slot.is_broken = true;
                done = std::mem::take(&mut slot.pieces);
                shared.unreadable.push(Unreadable {
                    partition: partition.clone(),
                    epoch: piece.place.epoch,
                });
            } else if piece.is_read() {
                done.push_back(piece);
            } else {
                slot.pieces.push_front(piece);
            }
            shared.plan_turns(&partition, self.read_committed);
        }
        let must_report = !shared.unreadable.is_empty();
        drop(shared);
        drop(done);
        self.buffer.handle_change(must_report);
    }

    /// A partition is assigned, or begins anew elsewhere: whatever was fetched is dropped.
    pub(crate) fn restart(
        &self,
        partition: &TopicPartition,
        cursor: &Arc<Cursor>,
        epoch: u64,
        position: Option<FetchPosition>,
    ) {
        let mut shared = self.lock();
        cursor.restart(epoch, position);
        cursor.set_unread(0);
        let fresh = Slot::new(Arc::clone(cursor));
        let old = shared.slots.insert(partition.clone(), fresh);
        if let Some(old) = &old
            && let Some(slot) = shared.slots.get_mut(partition)
        {
            slot.is_leaving = old.is_leaving;
        }
        shared.turns.retain(|turn| turn.partition() != partition);
        drop(shared);
        drop(old);
    }

    /// The position is known now: the cursor's epoch goes on from there.
    pub(crate) fn handle_position(&self, cursor: &Cursor, epoch: u64, offset: i64) {
        let _order = self.lock();
        cursor.restart(epoch, Some(FetchPosition::at(offset)));
    }

    /// A partition is no longer assigned.
    pub(crate) fn remove(&self, partition: &TopicPartition, cursor: &Cursor, epoch: u64) {
        let mut shared = self.lock();
        if cursor.standing().owes {
            shared.forfeit(partition);
        }
        cursor.restart(epoch, None);
        let removed = shared.slots.remove(partition);
        shared.turns.retain(|turn| turn.partition() != partition);
        drop(shared);
        drop(removed);
    }

    pub(crate) fn set_paused(&self, partition: &TopicPartition, cursor: &Cursor, paused: bool) {
        let mut shared = self.lock();
        cursor.set_paused(paused);
        shared.plan_turns(partition, self.read_committed);
        shared.wake_reader();
    }

    /// A fetch of `partition` succeeded, with or without something to read.
    pub(crate) fn handle_fetched(
        &self,
        now: Now,
        partition: &TopicPartition,
        watermarks: Watermarks,
        piece: Option<Piece>,
    ) {
        let mut shared = self.lock();
        let Some(slot) = shared.slots.get_mut(partition) else {
            return;
        };
        if slot.is_broken {
            return;
        }
        slot.watermarks = Some(watermarks);
        slot.succeeded_us = now.monotonic_us;
        slot.failure = None;
        if let Some(piece) = piece {
            slot.pieces.push_back(Box::new(piece));
            slot.caught_up_since_us = None;
            slot.was_told = false;
        }
        shared.plan_turns(partition, self.read_committed);
        shared.wake_reader();
    }

    /// A fetch of `partition` failed and will be tried again.
    pub(crate) fn handle_failed(&self, partition: &TopicPartition, why: &Error) {
        let mut shared = self.lock();
        if let Some(slot) = shared.slots.get_mut(partition) {
            slot.caught_up_since_us = None;
            slot.was_told = false;
            slot.failure = Some(why.clone());
        }
    }

    /// Something that the reader must know. A later error of the same partition replaces one that
    /// it has not seen.
    pub(crate) fn tell(&self, partition: &TopicPartition, error: Error) {
        self.handle_failed(partition, &error);
        let mut shared = self.lock();
        let Some(slot) = shared.slots.get_mut(partition) else {
            return;
        };
        if slot.error.replace(error).is_none() {
            shared.turns.push_back(Turn::Failed(partition.clone()));
        }
        shared.wake_reader();
    }

    /// What the reader could not read.
    pub(crate) fn take_unreadable(&self) -> Vec<Unreadable> {
        std::mem::take(&mut self.lock().unreadable)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a turn yields.
enum Given {
    Piece(Box<Piece>),
    CaughtUp(TopicPartition),
}

impl Shared {
    fn take_turn(&mut self, turn: Turn) -> Option<Result<Given, Error>> {
        match turn {
            Turn::Records(partition) => {
                let slot = self.slots.get_mut(&partition)?;
                slot.has_turn = false;
                if slot.is_lent || slot.is_leaving || slot.cursor.is_paused() {
                    return None;
                }
                let piece = slot.pieces.pop_front()?;
                slot.is_lent = true;
                self.note_lent(&partition);
                Some(Ok(Given::Piece(piece)))
            }
            Turn::CaughtUp(partition) => {
                let slot = self.slots.get_mut(&partition)?;
                slot.has_end_turn = false;
                slot.caught_up_since_us
                    .map(|_| Ok(Given::CaughtUp(partition)))
            }
            Turn::Failed(partition) => {
                let error = self.slots.get_mut(&partition)?.error.take()?;
                Some(Err(error))
            }
        }
    }

    /// After a change to a partition: what the reader is to be given of it.
    fn plan_turns(&mut self, partition: &TopicPartition, read_committed: bool) {
        let Some(slot) = self.slots.get_mut(partition) else {
            return;
        };
        slot.cursor
            .set_unread(slot.pieces.len() + usize::from(slot.is_lent));
        let is_free = !slot.is_lent && !slot.is_leaving;
        let may_give = is_free && !slot.cursor.is_paused() && !slot.pieces.is_empty();
        if may_give && !slot.has_turn {
            slot.has_turn = true;
            self.turns.push_back(Turn::Records(partition.clone()));
        }
        if slot.is_at_end(read_committed) {
            slot.caught_up_since_us.get_or_insert(slot.succeeded_us);
            let must_tell = !slot.was_told && !slot.has_end_turn;
            slot.was_told = true;
            if must_tell {
                slot.has_end_turn = true;
                self.turns.push_back(Turn::CaughtUp(partition.clone()));
            }
        }
    }

    fn wake_reader(&mut self) {
        if !(self.turns.is_empty() && self.notices.is_empty())
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
    }
}

impl Slot {
    fn new(cursor: Arc<Cursor>) -> Self {
        Self {
            cursor,
            pieces: VecDeque::new(),
            is_lent: false,
            is_broken: false,
            is_leaving: false,
            settled: None,
            has_turn: false,
            has_end_turn: false,
            watermarks: None,
            succeeded_us: 0,
            caught_up_since_us: None,
            was_told: false,
            failure: None,
            error: None,
        }
    }

    fn end_offset(&self, read_committed: bool) -> Option<i64> {
        self.watermarks.map(|marks| match marks.last_stable {
            last_stable if read_committed && last_stable >= 0 => last_stable,
            _ => marks.high,
        })
    }

    /// Judged by position, never by the last record: behind it there may be markers and gaps.
    fn is_at_end(&self, read_committed: bool) -> bool {
        let Some(end_offset) = self.end_offset(read_committed) else {
            return false;
        };
        let all_read = self.pieces.is_empty() && !self.is_lent && !self.is_broken;
        let position = self.cursor.standing().position;
        all_read
            && self.failure.is_none()
            && position.is_some_and(|position| position >= end_offset)
    }

    fn status(&self, read_committed: bool) -> PartitionStatus {
        let standing = self.cursor.standing();
        PartitionStatus {
            position: standing.position,
            leader_epoch: standing.leader_epoch,
            watermarks: self.watermarks,
            end_offset: self.end_offset(read_committed),
            is_paused: self.cursor.is_paused(),
            caught_up: self.caught_up_since_us.map(|since_us| CaughtUp {
                since_us,
                confirmed_us: self.succeeded_us,
            }),
            failure: self.failure.clone(),
        }
    }
}

impl Turn {
    fn partition(&self) -> &TopicPartition {
        match self {
            Self::Records(partition) | Self::CaughtUp(partition) | Self::Failed(partition) => {
                partition
            }
        }
    }
}
