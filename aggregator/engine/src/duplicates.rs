//! Which samples of a host were counted already, by run and sequence.

use std::collections::BTreeMap;

use crate::host::HostNumber;
use tidewatch_sample::{RunId, SampleTag};

/// Sequences below a run's highest that are told apart; older ones are duplicates.
const REMEMBERED: u64 = 64;

/// Runs of a host kept beyond the two beside it: an agent killed twice while it drains its spool
/// interleaves three.
const MORE_RUNS_MAX: usize = 8;

/// Hosts with more than two runs. Agents that restart leave two runs behind, so only a host that
/// keeps restarting, or a hostile one, takes a place here.
const HOSTS_WITH_MORE_RUNS_MAX: usize = 1024;

/// A run's highest sequence, and which of the 64 up to it were seen: bit i is `highest - i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    id: RunId,
    highest: u64,
    seen: u64,
}

impl Run {
    fn new(tag: SampleTag) -> Self {
        Self {
            id: tag.run,
            highest: tag.sequence,
            seen: 1,
        }
    }

    /// Marks a sequence; false if it was marked, or lies too far back to know.
    fn mark(&mut self, sequence: u64) -> bool {
        if let Some(ahead) = sequence.checked_sub(self.highest)
            && ahead > 0
        {
            self.seen = if ahead < REMEMBERED {
                self.seen << ahead | 1
            } else {
                1
            };
            self.highest = sequence;
            return true;
        }
        let back = self.highest - sequence;
        if back >= REMEMBERED {
            return false;
        }
        let bit = 1 << back;
        let new = self.seen & bit == 0;
        self.seen |= bit;
        new
    }
}

/// A host's two latest runs, the latest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    latest: Option<Run>,
    before: Option<Run>,
}

impl Runs {
    /// Marks a sample; false if it was counted before.
    pub(crate) fn mark(&mut self, tag: SampleTag, host: HostNumber, more: &mut MoreRuns) -> bool {
        if let Some(run) = &mut self.latest
            && run.id == tag.run
        {
            return run.mark(tag.sequence);
        }
        let displaced = match self.before.take() {
            Some(run) if run.id == tag.run => {
                self.before = self.latest.replace(run);
                return self.mark_latest(tag);
            }
            displaced => displaced,
        };
        let known = more.take(host, tag.run);
        if let Some(run) = displaced {
            more.put(host, run);
        }
        let known_before = known.is_some();
        self.before = self.latest.replace(known.unwrap_or(Run::new(tag)));
        !known_before || self.mark_latest(tag)
    }

    fn mark_latest(&mut self, tag: SampleTag) -> bool {
        self.latest
            .as_mut()
            .is_some_and(|run| run.mark(tag.sequence))
    }
}

/// The runs that found no place beside their host.
#[derive(Debug, Default)]
pub(crate) struct MoreRuns(BTreeMap<HostNumber, Vec<Run>>);

impl MoreRuns {
    fn take(&mut self, host: HostNumber, id: RunId) -> Option<Run> {
        let runs = self.0.get_mut(&host)?;
        let at = runs.iter().position(|run| run.id == id)?;
        Some(runs.remove(at))
    }

    fn put(&mut self, host: HostNumber, run: Run) {
        if self.0.len() >= HOSTS_WITH_MORE_RUNS_MAX && !self.0.contains_key(&host) {
            return;
        }
        let runs = self.0.entry(host).or_default();
        if runs.len() >= MORE_RUNS_MAX {
            runs.remove(0);
        }
        runs.push(run);
    }

    pub(crate) fn forget(&mut self, host: HostNumber) {
        self.0.remove(&host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::num::NonZeroU32;

    fn tag(run: u64, sequence: u64) -> SampleTag {
        SampleTag {
            run: RunId(run),
            sequence,
            interval_ms: NonZeroU32::MIN,
        }
    }

    #[derive(Default)]
    struct OneHost {
        runs: Runs,
        more: MoreRuns,
    }

    impl OneHost {
        fn mark(&mut self, run: u64, sequence: u64) -> bool {
            self.runs
                .mark(tag(run, sequence), HostNumber(0), &mut self.more)
        }
    }

    #[test]
    fn a_sequence_counts_once() {
        let mut host = OneHost::default();
        assert!(host.mark(1, 0));
        assert!(!host.mark(1, 0));
        assert!(host.mark(1, 2));
        assert!(host.mark(1, 1), "a gap may still be filled");
        assert!(!host.mark(1, 1));
    }

    #[test]
    fn what_lies_64_back_is_a_duplicate() {
        let mut host = OneHost::default();
        assert!(host.mark(1, 100));
        assert!(host.mark(1, 37));
        assert!(!host.mark(1, 36));
        assert!(host.mark(1, u64::MAX));
        assert!(!host.mark(1, 100));
    }

    #[test]
    fn three_runs_may_interleave() {
        let mut host = OneHost::default();
        for sequence in 0..10 {
            for run in 1..=3 {
                assert!(host.mark(run, sequence));
            }
        }
        for run in 1..=3 {
            assert!(!host.mark(run, 9));
        }
    }

    #[test]
    fn ten_runs_are_remembered_and_the_oldest_of_eleven_is_not() {
        let mut host = OneHost::default();
        for run in 1..=10 {
            assert!(host.mark(run, 5));
        }
        for run in 1..=10 {
            assert!(!host.mark(run, 5), "{run}");
        }
        assert!(host.mark(11, 5));
        assert!(host.mark(1, 5), "forgotten");
    }

    #[test]
    fn a_flood_of_runs_takes_bounded_room() {
        let mut more = MoreRuns::default();
        for host in 0..5000 {
            for run in 0..20 {
                more.put(HostNumber(host), Run::new(tag(run, 0)));
            }
        }
        assert_eq!(more.0.len(), HOSTS_WITH_MORE_RUNS_MAX);
        assert!(more.0.values().all(|runs| runs.len() <= MORE_RUNS_MAX));
    }

    proptest! {
        #[test]
        fn in_order_with_repeats_each_counts_once(steps in prop::collection::vec((0..3_u64, 0..8_u64), 1..200)) {
            let mut host = OneHost::default();
            let mut next = [0_u64; 3];
            let mut counted = BTreeSet::new();
            for (run, back) in steps {
                let next = &mut next[usize::try_from(run).unwrap()];
                let sequence = next.saturating_sub(back);
                *next = (*next).max(sequence + 1);
                prop_assert_eq!(host.mark(run, sequence), counted.insert((run, sequence)));
            }
        }
    }
}
