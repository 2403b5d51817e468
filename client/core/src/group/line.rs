//! Requests to the group about offsets, one after another in the order in which they were asked for,
//! so that a commit that is retried never overwrites a newer one (line 29).

use super::classic::Stamp;
use super::offsets::Job;
use crate::backoff::Backoff;
use crate::call::{GroupMetadata, RequestId};
use crate::time::Now;
use std::collections::VecDeque;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    User(RequestId),
    /// The member itself, to commit what was delivered.
    Commit,
    /// The member itself, by the number of its look-up.
    LookUp(u64),
    /// The reader, by the round of going back.
    Rewind(u64),
}

/// One request.
#[derive(Debug)]
pub(super) struct Queued {
    /// Unique within the room.
    pub(super) number: u64,
    pub(super) origin: Origin,
    pub(super) deadline_us: u64,
    pub(super) job: Job,
    /// At which change of the member's partitions it was asked for.
    pub(super) asked: u64,
    /// Why it is not finished yet, for the error when it never is.
    pub(super) waits_for: String,
}

/// A call under way. Its request may have passed its deadline: the next waits even so.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) call: u64,
    pub(super) request: u64,
    /// As whom it commits.
    pub(super) member: GroupMetadata,
}

/// The requests that wait for one another.
#[derive(Debug)]
pub(super) struct Line {
    /// The first is under way or waits to be tried again.
    pub(super) queue: VecDeque<Queued>,
    pub(super) in_flight: Option<UnderWay>,
    pub(super) retry_at_us: Option<u64>,
    pub(super) backoff: Backoff,
}

impl Line {
    pub(super) fn new((initial_ms, max_ms): (u64, u64)) -> Self {
        Self {
            queue: VecDeque::new(),
            in_flight: None,
            retry_at_us: None,
            backoff: Backoff::new(initial_ms, max_ms),
        }
    }

    /// Takes out what has passed its deadline.
    pub(super) fn expire(&mut self, now: Now) -> Vec<Queued> {
        self.retry_at_us.take_if(|at_us| *at_us <= now.monotonic_us);
        let is_late = |queued: &Queued| queued.deadline_us <= now.monotonic_us;
        let queue = std::mem::take(&mut self.queue).into_iter();
        let (late, rest): (Vec<Queued>, Vec<Queued>) = queue.partition(is_late);
        self.queue = rest.into();
        late
    }

    /// Tries the first request again, not at once.
    pub(super) fn back_off(&mut self, now: Now, random: &mut fastrand::Rng, why: String) {
        let wait_us = self.backoff.next_us(random);
        self.retry_at_us = Some(now.monotonic_us.saturating_add(wait_us));
        if let Some(first) = self.queue.front_mut() {
            first.waits_for = why;
        }
    }

    /// The first request, if it may be made now.
    pub(super) fn due(&self) -> Option<&Queued> {
        let is_free = self.in_flight.is_none() && self.retry_at_us.is_none();
        self.queue.front().filter(|_| is_free)
    }

    /// The call under way that `call` names, if its request is still wanted.
    pub(super) fn take_flight(&mut self, call: u64) -> Option<(UnderWay, bool)> {
        let flight = self.in_flight.take_if(|flight| flight.call == call)?;
        let first = self.queue.front();
        let is_wanted = first.is_some_and(|first| first.number == flight.request);
        Some((flight, is_wanted))
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let deadlines = self.queue.iter().map(|queued| queued.deadline_us);
        deadlines.chain(self.retry_at_us).min()
    }
}

impl Queued {
    /// As whom it may be made.
    pub(super) fn stamp(&self, member: &super::classic::Member) -> Stamp {
        let partitions = self.job.commits();
        if partitions.is_empty() {
            return Stamp::As(member.standing().clone());
        }
        member.stamp(&partitions, self.asked, self.origin == Origin::Commit)
    }
}
