//! Where a consumer stands in a partition: the room's own fetch position, which runs ahead and is
//! provisional, and the cursor, which moves as records are delivered.

use crate::backoff::Backoff;
use crate::call::{BrokerId, OffsetAndMetadata};
use crate::time::Now;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where to begin to read a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the log's start.
    Earliest,
    /// At the log's end; at the last stable offset under `read_committed`.
    Latest,
    /// At the first record that is not older than this, milliseconds since the epoch; at the end
    /// where there is none.
    Timestamp(i64),
    /// At this offset.
    Offset(i64),
    /// At a committed offset. With a leader epoch it is noticed if the log has lost what was read
    /// before it (KIP-320).
    Committed {
        /// The next offset to read.
        offset: i64,
        /// The epoch of the leader that appended the record before it, -1 where unknown.
        leader_epoch: i32,
    },
    /// As `auto.offset.reset` says.
    Reset,
}

impl Start {
    /// Where a group has committed.
    pub(crate) fn of_group(committed: &OffsetAndMetadata) -> Self {
        Self::Committed {
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
        }
    }
}

/// What ListOffsets can be asked for (Kafka's `OffsetSpec`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log's start.
    Earliest,
    /// The log's end; the last stable offset under `read_committed`.
    Latest,
    /// The first record that is not older than this, milliseconds since the epoch.
    Timestamp(i64),
}

impl OffsetSpec {
    /// As the wire has it.
    pub(crate) fn timestamp(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::Timestamp(ms) => ms,
        }
    }
}

/// An offset to fetch from, and the epoch of the leader that appended the record before it: -1 where
/// that is not known, and then nothing can be validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FetchPosition {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
}

impl FetchPosition {
    /// Of no known epoch.
    pub(crate) fn at(offset: i64) -> Self {
        Self {
            offset,
            leader_epoch: -1,
        }
    }
}

/// Where a partition's reader stands. The room and the reader share it; the room alone begins a new
/// epoch, and nothing that was fetched under an older one is delivered.
#[derive(Debug)]
pub(crate) struct Cursor {
    standing: Mutex<Standing>,
    paused: AtomicBool,
    /// Pieces that were handed over and are not read to their end.
    unread: AtomicUsize,
}

/// A moment of a [`Cursor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Grows with every seek, every assignment and its end.
    pub(crate) epoch: u64,
    /// The next offset to deliver; `None` while it is being looked up.
    pub(crate) position: Option<i64>,
    /// The epoch of the leader that appended the last record delivered, -1 where there is none.
    pub(crate) leader_epoch: i32,
    /// Records were delivered whose positions no transaction has taken yet.
    pub(crate) owes: bool,
}

impl Cursor {
    pub(crate) fn new(epoch: u64) -> Self {
        Self {
            standing: Mutex::new(Standing {
                epoch,
                position: None,
                leader_epoch: -1,
                owes: false,
            }),
            paused: AtomicBool::new(false),
            unread: AtomicUsize::new(0),
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins `epoch` at `position`: what is left of older epochs is never delivered.
    pub(crate) fn restart(&self, epoch: u64, position: Option<FetchPosition>) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        *standing = Standing {
            epoch,
            position: position.map(|position| position.offset),
            leader_epoch: position.map_or(-1, |position| position.leader_epoch),
            owes: false,
        };
    }

    /// Moves to `next_offset`, if `epoch` still holds: over a record that is delivered, or over what
    /// cannot be seen.
    #[inline]
    pub(crate) fn advance(
        &self,
        epoch: u64,
        next_offset: i64,
        leader_epoch: i32,
        delivers: bool,
    ) -> bool {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.epoch != epoch {
            return false;
        }
        standing.position = Some(next_offset);
        standing.leader_epoch = leader_epoch;
        standing.owes |= delivers;
        true
    }

    /// A transaction has taken the position as it is now.
    pub(crate) fn take_owed(&self) -> Standing {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = *standing;
        standing.owes = false;
        taken
    }

    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    pub(crate) fn unread(&self) -> usize {
        self.unread.load(Ordering::SeqCst)
    }

    pub(crate) fn set_unread(&self, pieces: usize) {
        self.unread.store(pieces, Ordering::SeqCst);
    }
}

/// What the room knows of a partition that it fetches.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) cursor: Arc<Cursor>,
    /// The cursor's, as this room set it.
    pub(crate) epoch: u64,
    pub(crate) state: State,
    /// The call that carries this partition; it is in one at a time.
    pub(crate) in_flight: Option<u64>,
    /// Not before then (monotonic microseconds).
    pub(crate) retry_at_us: Option<u64>,
    pub(crate) backoff: Backoff,
    /// The leader, or that there was none, when the last call was refused: another one lifts the
    /// backoff.
    pub(crate) refused_by: Option<Option<(BrokerId, i32)>>,
    /// Where the partition was begun to be read: an abort goes back to there while nothing is
    /// committed.
    pub(crate) origin: Option<FetchPosition>,
    /// The leader, with its epoch, whose log is known to hold what was read before the position.
    pub(crate) validated_by: Option<(BrokerId, i32)>,
    /// The replica that the leader told us to fetch from (KIP-392).
    pub(crate) follower: Option<Follower>,
    /// Since when the topic or partition has been unknown to the brokers.
    pub(crate) missing_since_us: Option<u64>,
    /// Where the reader last met something that it could not read.
    pub(crate) broken_at: Option<i64>,
    /// Grows with every answer that held records: who waited longest comes first in a request.
    pub(crate) served: u64,
}

/// Where a partition's fetching stands.
///
/// ```text
///            offset found                 out of range           unread pieces read
///  Seeking ────────────────▶ Fetching ────────────────▶ OutOfRange ─────────────▶ Seeking
///     ▲                       │    ▲                                              or Parked
///     └── seek, assign ───────┤ ▲  └── the reader has reported the batch ◀─┐
///                             │ │                                          │
///                  new leader │ │ its log holds     bytes that             │
///                             ▼ │ the position      cannot be read ──▶ Unreadable
///                         Validating
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The offset to begin at is asked for.
    Seeking(OffsetSpec),
    /// Read up to here: provisional until the reader has checked the batches' CRC.
    Fetching(FetchPosition),
    /// A new leader is asked whether its log holds what was read up to here (KIP-320).
    Validating(FetchPosition),
    /// The broker no longer has, or does not have yet, this offset.
    OutOfRange(i64),
    /// The reader will come upon something unreadable and report it.
    Unreadable,
    /// The group is asked where it has committed (this round of asking); where it has not, the
    /// partition begins where it began before.
    Rewinding(u64, Option<FetchPosition>),
    /// Nothing is done before a seek; the reader was told why.
    Parked,
}

/// A lease on a replica that is not the leader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Follower {
    pub(crate) broker: BrokerId,
    /// Then the leader is asked again (monotonic microseconds).
    pub(crate) until_us: u64,
}

impl Partition {
    /// Of no epoch yet.
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self {
            cursor: Arc::new(Cursor::new(0)),
            epoch: 0,
            state: State::Parked,
            in_flight: None,
            retry_at_us: None,
            backoff,
            refused_by: None,
            origin: None,
            validated_by: None,
            follower: None,
            missing_since_us: None,
            broken_at: None,
            served: 0,
        }
    }

    /// Begins `epoch`. A call that is under way stays so: its answer is dropped when it comes.
    pub(crate) fn restart(&mut self, epoch: u64, state: State) {
        self.epoch = epoch;
        self.state = state;
        self.retry_at_us = None;
        self.validated_by = None;
        self.broken_at = None;
        self.handle_success();
    }

    /// Whether a call may carry it now.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.retry_at_us.is_none()
    }

    /// Whether `leader`'s log is known to hold what was read before `position`; if it has to be asked
    /// for that, the partition is validated next. Without an epoch nothing can be.
    pub(crate) fn is_valid_at(&mut self, position: FetchPosition, leader: (BrokerId, i32)) -> bool {
        if self.validated_by == Some(leader) {
            return true;
        }
        if position.leader_epoch >= 0 && leader.1 >= 0 {
            self.state = State::Validating(position);
            return false;
        }
        self.validated_by = Some(leader);
        true
    }

    /// Something worked: forgets past failures.
    pub(crate) fn handle_success(&mut self) {
        self.backoff.reset();
        self.refused_by = None;
        self.missing_since_us = None;
    }

    /// Waits, longer with every failure in a row.
    pub(crate) fn back_off(&mut self, now: Now, random: &mut fastrand::Rng) {
        let wait_us = self.backoff.next_us(random);
        self.retry_at_us = Some(now.monotonic_us.saturating_add(wait_us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_older_epoch_moves_the_cursor() {
        let cursor = Cursor::new(1);
        cursor.restart(2, Some(FetchPosition::at(10)));
        assert!(!cursor.advance(1, 99, 0, true));
        assert!(cursor.advance(2, 11, 7, true));
        assert_eq!(
            cursor.standing(),
            Standing {
                epoch: 2,
                position: Some(11),
                leader_epoch: 7,
                owes: true,
            }
        );
        cursor.restart(3, Some(FetchPosition::at(5)));
        assert_eq!(cursor.standing().leader_epoch, -1);
    }
}
