//! Each host's mean over all time.

use crate::host::{HostNumber, NEVER};
use crate::number::Value;
use crate::totals::Totals;

/// A host's totals since the beginning.
#[derive(Debug, Clone, Copy)]
struct RunningTotals {
    totals: Totals,
    newest_ms: i64,
    changed: bool,
}

/// The totals of all hosts, and which changed since they were last taken.
#[derive(Debug, Default)]
pub(crate) struct Running {
    by_host: Vec<RunningTotals>,
    changed: Vec<HostNumber>,
}

impl Running {
    const EMPTY: RunningTotals = RunningTotals {
        totals: Totals::EMPTY,
        newest_ms: NEVER,
        changed: false,
    };

    pub(crate) fn add(&mut self, host: HostNumber, value: Value, time_ms: i64) {
        let index = host.0 as usize;
        if index >= self.by_host.len() {
            self.by_host.resize(index + 1, Self::EMPTY);
        }
        let Some(running) = self.by_host.get_mut(index) else {
            return;
        };
        running.totals.add(value);
        running.newest_ms = running.newest_ms.max(time_ms);
        if !running.changed {
            running.changed = true;
            self.changed.push(host);
        }
    }

    /// Takes the hosts that changed, with their totals and their newest time.
    pub(crate) fn take_changed(&mut self) -> Vec<(HostNumber, Totals, i64)> {
        let mut taken = Vec::with_capacity(self.changed.len());
        for host in self.changed.drain(..) {
            if let Some(running) = self.by_host.get_mut(host.0 as usize) {
                running.changed = false;
                taken.push((host, running.totals, running.newest_ms));
            }
        }
        taken
    }
}
