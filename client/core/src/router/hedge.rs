//! Calls that any broker may answer, while they wait for one: a broker that hangs still accepts them,
//! so another is asked as well, and the first answer counts (a hedged request).
//!
//! Without it a Metadata request that happens to be with the broker that hangs keeps everybody from
//! the new leaders for a request timeout more.

use crate::call::{BrokerId, Call, CallId, Destination};
use crate::error::CallError;
use crate::time::{Now, Timer};
use std::collections::BTreeMap;

/// How long one broker has before another is asked as well. Any of these calls is answered from
/// memory: who takes longer is stopped, overloaded or far away.
const PATIENCE_US: u64 = 1_000_000;
/// Brokers that are asked the same thing at once.
const MAX_ASKED: usize = 3;

/// What was asked and is not answered yet.
#[derive(Debug, Default)]
pub(super) struct Hedges {
    asked: BTreeMap<CallId, Asked>,
}

#[derive(Debug)]
struct Asked {
    /// To be made again.
    call: Call,
    /// In turn.
    brokers: Vec<BrokerId>,
    /// Copies of the call that have not ended.
    open: usize,
    /// The room has its answer: what else comes is nobody's.
    answered: bool,
    /// When another is asked.
    next_us: u64,
}

impl Asked {
    fn may_ask(&self) -> bool {
        !self.answered && self.brokers.len() < MAX_ASKED
    }
}

impl Hedges {
    /// A call goes to `broker`, for the first time or because another gave it back.
    pub(super) fn note(&mut self, now: Now, broker: BrokerId, call: &Call) {
        if call.destination != Destination::AnyBroker {
            return;
        }
        let next_us = now.monotonic_us.saturating_add(PATIENCE_US);
        let asked = self.asked.entry(call.id).or_insert_with(|| Asked {
            call: call.clone(),
            brokers: Vec::new(),
            open: 1,
            answered: false,
            next_us,
        });
        asked.brokers.retain(|other| *other != broker);
        asked.brokers.push(broker);
    }

    /// Whether a copy that `from` has not got may go elsewhere; it ends where the answer came
    /// meanwhile.
    pub(super) fn is_wanted(&mut self, id: CallId, from: BrokerId) -> bool {
        let Some(asked) = self.asked.get_mut(&id) else {
            return true;
        };
        asked.brokers.retain(|broker| *broker != from);
        let is_wanted = !asked.answered;
        if !is_wanted {
            self.end_copy(id);
        }
        is_wanted
    }

    /// A copy ended: whether that is how the call ends for its room. The first answer is; a failure
    /// only where no other copy is under way.
    pub(super) fn ends<T>(&mut self, id: CallId, result: &Result<T, CallError>) -> bool {
        let Some(asked) = self.asked.get_mut(&id) else {
            return true;
        };
        let was_answered = asked.answered;
        asked.answered |= result.is_ok();
        let is_last = self.end_copy(id);
        !was_answered && (result.is_ok() || is_last)
    }

    fn end_copy(&mut self, id: CallId) -> bool {
        let Some(asked) = self.asked.get_mut(&id) else {
            return true;
        };
        asked.open = asked.open.saturating_sub(1);
        let is_last = asked.open == 0;
        if is_last {
            self.asked.remove(&id);
        }
        is_last
    }

    /// A lane of this broker failed: what waits on its others is asked of another now.
    pub(super) fn handle_lost(&mut self, now: Now, broker: BrokerId) {
        for asked in self.asked.values_mut() {
            if asked.brokers.last() == Some(&broker) {
                asked.next_us = now.monotonic_us;
            }
        }
    }

    /// The next call of which another copy is due, and who has it already. `choose` says whom to ask;
    /// where there is nobody, it is looked again after a while.
    pub(super) fn poll_again(
        &mut self,
        now: Now,
        mut choose: impl FnMut(&Call, &[BrokerId]) -> Option<BrokerId>,
    ) -> Option<(BrokerId, Call)> {
        for asked in self.asked.values_mut() {
            if !asked.may_ask() || asked.next_us > now.monotonic_us {
                continue;
            }
            asked.next_us = now.monotonic_us.saturating_add(PATIENCE_US);
            if let Some(broker) = choose(&asked.call, &asked.brokers) {
                asked.open += 1;
                return Some((broker, asked.call.clone()));
            }
        }
        None
    }

    /// When another broker is asked, at the earliest.
    pub(super) fn poll_timeout(&self) -> Option<(u64, Timer)> {
        let waiting = self.asked.values().filter(|asked| asked.may_ask());
        waiting.map(|asked| (asked.next_us, Timer::Hedge)).min()
    }
}
