//! One host's window while it is open.

use crate::number::Value;
use crate::totals::Totals;
use tidewatch_sample::SampleTag;

/// A window's totals and how complete they are. A host has as many as can be open at once, whether
/// they are or not, so it takes one cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct Pane {
    pub(crate) totals: Totals,
    pub(crate) start_ms: i64,
    /// The offset of the first record counted: a restart must read again from here.
    pub(crate) first_offset: i64,
    /// The samples' interval, the smallest where they differ; 0 where no sample carries a tag.
    interval_ms: u32,
    /// From the window's start to the first tick of the oldest run in it.
    lead_ms: u32,
}

impl Pane {
    /// Room for a window.
    pub(crate) const CLOSED: Self = Self {
        totals: Totals::EMPTY,
        start_ms: 0,
        first_offset: 0,
        interval_ms: 0,
        lead_ms: u32::MAX,
    };

    pub(crate) fn is_open(&self) -> bool {
        self.totals.count() > 0
    }

    /// Counts a sample of the time `time_ms`, which lies in the window.
    pub(crate) fn add(&mut self, value: Value, time_ms: i64, tag: Option<SampleTag>) {
        self.totals.add(value);
        if let Some(tag) = tag {
            self.note_ticks(time_ms, tag);
        }
    }

    /// A run takes a sample at every tick, so its sequence tells when it began. Reckoned from each
    /// sample alone, the order of samples, and those from before a restart, cannot matter.
    fn note_ticks(&mut self, time_ms: i64, tag: SampleTag) {
        let interval_ms = tag.interval_ms.get();
        let before = i64::try_from(tag.sequence)
            .unwrap_or(i64::MAX)
            .saturating_mul(i64::from(interval_ms));
        let first_tick_ms = time_ms.saturating_sub(before);
        let lead_ms = first_tick_ms.saturating_sub(self.start_ms).max(0);
        self.lead_ms = self.lead_ms.min(u32::try_from(lead_ms).unwrap_or(u32::MAX));
        self.interval_ms = match self.interval_ms {
            0 => interval_ms,
            known => known.min(interval_ms),
        };
    }

    /// How many ticks the window holds, from its first run's first on; unknown without tags.
    pub(crate) fn expected(&self, size_ms: i64) -> Option<u64> {
        let interval_ms = i64::from(self.interval_ms);
        let from_ms = self.start_ms.checked_add(i64::from(self.lead_ms))?;
        let before = |time_ms: i64| time_ms.checked_sub(1)?.checked_div_euclid(interval_ms);
        let ticks = before(self.start_ms.checked_add(size_ms)?)?.checked_sub(before(from_ms)?)?;
        u64::try_from(ticks.max(0)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;
    use tidewatch_sample::RunId;

    const SIZE_MS: i64 = 10_000;

    fn expected(start_ms: i64, samples: &[(i64, u64, u32)]) -> Option<u64> {
        let mut pane = Pane {
            start_ms,
            ..Pane::CLOSED
        };
        for &(time_ms, sequence, interval_ms) in samples {
            let tag = NonZeroU32::new(interval_ms).map(|interval_ms| SampleTag {
                run: RunId(1),
                sequence,
                interval_ms,
            });
            pane.add(Value::whole(1), time_ms, tag);
        }
        pane.expected(SIZE_MS)
    }

    #[test]
    fn a_pane_takes_one_cache_line() {
        assert_eq!((size_of::<Pane>(), align_of::<Pane>()), (64, 64));
    }

    #[test]
    fn a_run_that_began_earlier_owes_every_tick() {
        assert_eq!(expected(20_000, &[(24_000, 4711, 2000)]), Some(5));
        assert_eq!(expected(-20_000, &[(-12_000, 4711, 2000)]), Some(5));
        assert_eq!(
            expected(20_000, &[(21_000, 9, 3000)]),
            Some(3),
            "21, 24, 27"
        );
        assert_eq!(
            expected(20_000, &[(20_000, 9, 60_000)]),
            Some(0),
            "none is due"
        );
    }

    #[test]
    fn a_run_owes_nothing_before_its_first_tick() {
        assert_eq!(expected(20_000, &[(24_000, 0, 2000)]), Some(3));
        assert_eq!(expected(20_000, &[(28_000, 2, 2000)]), Some(3));
        let restarted = [(20_000, 7, 2000), (28_000, 0, 2000)];
        assert_eq!(
            expected(20_000, &restarted),
            Some(5),
            "the older run's count"
        );
    }

    #[test]
    fn without_a_tag_nothing_is_known() {
        assert_eq!(expected(20_000, &[(24_000, 0, 0)]), None);
        assert_eq!(
            expected(20_000, &[(24_000, 0, 0), (26_000, 40, 2000)]),
            Some(5)
        );
    }

    #[test]
    fn hostile_tags_overflow_nothing() {
        assert!(expected(20_000, &[(24_000, u64::MAX, u32::MAX)]).is_some());
        assert!(expected(i64::MAX - 5, &[(i64::MAX, 0, 1)]).is_none());
    }
}
