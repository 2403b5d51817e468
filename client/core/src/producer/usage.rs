//! Which topics a producer still sends to (KIP-526).

use crate::time::Timer;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The topics that metadata covers for a producer's sake, until nothing was sent to one for a while.
#[derive(Debug)]
pub(super) struct Usage {
    idle_us: u64,
    /// When each was sent to last, or asked for.
    used_us: BTreeMap<Arc<str>, u64>,
    /// Before this none can have been idle for long enough.
    due_us: u64,
}

impl Usage {
    pub(super) fn new(idle_ms: u64) -> Self {
        Self {
            idle_us: idle_ms.saturating_mul(1000),
            used_us: BTreeMap::new(),
            due_us: 0,
        }
    }

    /// Topics are covered from now on.
    pub(super) fn begin(&mut self, now_us: u64, topics: &[Arc<str>]) {
        if self.used_us.is_empty() {
            self.due_us = now_us.saturating_add(self.idle_us);
        }
        let begun = topics.iter().map(|topic| (Arc::clone(topic), now_us));
        self.used_us.extend(begun);
    }

    /// A topic is used; false where it is not covered.
    pub(super) fn note(&mut self, now_us: u64, topic: &str) -> bool {
        let known = self.used_us.get_mut(topic);
        known.map(|used_us| *used_us = now_us).is_some()
    }

    pub(super) fn poll_timeout(&self) -> Option<(u64, Timer)> {
        (!self.used_us.is_empty()).then_some((self.due_us, Timer::MetadataAge))
    }

    pub(super) fn is_due(&self, now_us: u64) -> bool {
        let due = self.poll_timeout();
        due.is_some_and(|(due_us, _)| due_us <= now_us)
    }

    /// The topics that were not used for long enough; they are covered no more.
    pub(super) fn take_unused(&mut self, now_us: u64) -> Vec<Arc<str>> {
        let is_unused = |used_us: u64| now_us.saturating_sub(used_us) >= self.idle_us;
        let all = std::mem::take(&mut self.used_us).into_iter();
        let (unused, used): (Vec<_>, Vec<_>) = all.partition(|(_, used_us)| is_unused(*used_us));
        self.used_us = used.into_iter().collect();
        let oldest_us = self.used_us.values().min().copied().unwrap_or(now_us);
        self.due_us = oldest_us.saturating_add(self.idle_us);
        unused.into_iter().map(|(topic, _)| topic).collect()
    }
}
