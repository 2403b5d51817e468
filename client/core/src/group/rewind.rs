//! Where a reader that goes back finds what its group has committed: asked for until it is known, as
//! nothing can be read before.

use super::GroupRoom;
use super::line::Origin;
use super::offsets::Job;
use crate::backoff::Backoff;
use crate::call::{Fact, Outcome, TopicPartition};
use crate::error::Error;
use crate::time::Now;

/// The one look-up of this kind.
#[derive(Debug)]
pub(super) struct Rewind {
    round: u64,
    partitions: Vec<TopicPartition>,
    backoff: Backoff,
    /// It failed, and is asked for again then.
    pub(super) retry_at_us: Option<u64>,
}

impl GroupRoom {
    /// Takes the place of an earlier one.
    pub(super) fn start_rewind(&mut self, now: Now, round: u64, partitions: Vec<TopicPartition>) {
        let (initial_ms, max_ms) = self.options.retry_backoff_ms;
        self.own
            .queue
            .retain(|queued| !matches!(queued.origin, Origin::Rewind(_)));
        self.rewind = Some(Rewind {
            round,
            partitions,
            backoff: Backoff::new(initial_ms, max_ms),
            retry_at_us: None,
        });
        self.ask_rewind(now);
    }

    fn ask_rewind(&mut self, now: Now) {
        let Some(rewind) = &self.rewind else { return };
        let origin = Origin::Rewind(rewind.round);
        let job = Job::committed(rewind.partitions.clone());
        let queued = self.queued(now, origin, job);
        self.own.queue.push_back(queued);
    }

    pub(super) fn retry_rewind(&mut self, now: Now) {
        let retry_at_us = self.rewind.as_mut().map(|rewind| &mut rewind.retry_at_us);
        let is_due = |at_us: &mut u64| *at_us <= now.monotonic_us;
        if retry_at_us.is_some_and(|at_us| at_us.take_if(is_due).is_some()) {
            self.ask_rewind(now);
        }
    }

    /// The end of the look-up.
    pub(super) fn handle_rewound(&mut self, now: Now, round: u64, end: Result<Outcome, Error>) {
        let Some(rewind) = self.rewind.as_mut().filter(|r| r.round == round) else {
            return;
        };
        match end {
            Ok(Outcome::Offsets(offsets)) => {
                let known = offsets.into_iter().map(|(partition, offset)| {
                    let committed = (offset.offset >= 0).then_some(offset);
                    (partition, committed)
                });
                let committed = known.collect();
                self.rewind = None;
                self.facts.push_back(Fact::Committed {
                    consumer: self.room,
                    committed,
                    round,
                });
            }
            Ok(_) => {}
            Err(error) => {
                let wait_us = rewind.backoff.next_us(&mut self.random);
                rewind.retry_at_us = Some(now.monotonic_us.saturating_add(wait_us));
                if !error.is_retriable() {
                    self.facts.push_back(Fact::MembershipFailed {
                        consumer: self.room,
                        error,
                    });
                }
            }
        }
    }
}
