//! When to look at which host for silence: once a second of the partition's quiet clock.

use crate::host::HostNumber;
use std::collections::BTreeMap;

/// Silence is looked for when the quiet clock has moved by so much, in milliseconds.
const STEP_MS: i64 = 1000;

/// Hosts by the step at which to look at them. An entry whose host is due at another step is stale
/// and passed over, so that a host can be moved without being searched for.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    due: BTreeMap<i64, Vec<HostNumber>>,
    step: i64,
}

impl Schedule {
    /// A schedule that has looked at everything due until `quiet_ms`.
    pub(crate) fn starting_at(quiet_ms: i64) -> Self {
        Self {
            due: BTreeMap::new(),
            step: quiet_ms.div_euclid(STEP_MS),
        }
    }

    /// The step at which to look at a host that has to be looked at when the quiet clock shows
    /// `quiet_ms`; never one that is past.
    pub(crate) fn step_of(&self, quiet_ms: i64) -> i64 {
        quiet_ms
            .div_euclid(STEP_MS)
            .max(self.step.saturating_add(1))
    }

    pub(crate) fn add(&mut self, host: HostNumber, step: i64) {
        self.due.entry(step).or_default().push(host);
    }

    /// Whether the quiet clock has come to another step.
    pub(crate) fn is_due(&self, quiet_ms: i64) -> bool {
        quiet_ms.div_euclid(STEP_MS) > self.step
    }

    /// Moves to the step of `quiet_ms` and takes out the hosts of all steps until then.
    pub(crate) fn take_due(&mut self, quiet_ms: i64) -> Vec<(i64, HostNumber)> {
        self.step = quiet_ms.div_euclid(STEP_MS);
        let later = self.due.split_off(&self.step.saturating_add(1));
        let due = std::mem::replace(&mut self.due, later);
        due.into_iter()
            .flat_map(|(step, hosts)| hosts.into_iter().map(move |host| (step, host)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_comes_up_once_at_its_step() {
        let mut schedule = Schedule::starting_at(500);
        schedule.add(HostNumber(1), schedule.step_of(2_100));
        schedule.add(HostNumber(2), schedule.step_of(9_000));
        assert_eq!(schedule.step_of(0), 1, "the past is the next step");
        assert!(!schedule.is_due(999));
        assert!(schedule.is_due(1_000));
        assert_eq!(schedule.take_due(1_999), []);
        assert_eq!(schedule.take_due(5_000), [(2, HostNumber(1))]);
        assert_eq!(schedule.take_due(60_000), [(9, HostNumber(2))]);
    }
}
