//! Readings that wait to be sent: bounded, and where they do not fit the oldest are dropped.
//!
//! The client's own buffer cannot drop what it has taken, so it is given only a little at a time
//! and the rest waits here, where a reading takes less room than its record.

use crate::sampler::Reading;
use std::collections::VecDeque;
use tidewatch_sample::Metric;

/// What a record takes beside its host's name, at most, in bytes: a percentage (26), the tag and
/// its name (48), lengths and deltas (30), rounded up.
const RECORD_BYTES: usize = 112;

/// One tick's readings, however small the buffer.
const FEWEST: usize = 2;

/// The readings that no one has taken yet, oldest first.
#[derive(Debug)]
pub(crate) struct Backlog {
    waiting: VecDeque<Reading>,
    limit: usize,
    dropped: Dropped,
}

/// How many readings did not fit since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) cpu: u64,
    pub(crate) memory: u64,
}

impl Backlog {
    /// For as many readings as `buffer_bytes` hold as records of `host`.
    pub(crate) fn new(buffer_bytes: usize, host: &str) -> Self {
        let limit = (buffer_bytes / (RECORD_BYTES + host.len())).max(FEWEST);
        Self {
            waiting: VecDeque::new(),
            limit,
            dropped: Dropped::default(),
        }
    }

    /// Takes a reading in, and gives back the oldest where there is no room for both.
    pub(crate) fn push(&mut self, reading: Reading) -> Option<Reading> {
        let oldest = if self.waiting.len() >= self.limit {
            self.waiting.pop_front()
        } else {
            None
        };
        self.waiting.push_back(reading);
        if let Some(oldest) = &oldest {
            let count = match oldest.metric {
                Metric::Cpu => &mut self.dropped.cpu,
                Metric::Memory => &mut self.dropped.memory,
            };
            *count = count.saturating_add(1);
        }
        oldest
    }

    /// Offers readings to `take`, oldest first, until it refuses one: that one stays the oldest.
    /// Gives how many were taken.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(&Reading) -> bool) -> usize {
        let mut taken = 0;
        while self.waiting.front().is_some_and(&mut take) {
            self.waiting.pop_front();
            taken += 1;
        }
        taken
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many did not fit.
    pub(crate) fn dropped(&self) -> Dropped {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU32;
    use tidewatch_sample::{Number, RunId, SampleTag};

    fn reading(metric: Metric, sequence: u64) -> Reading {
        let interval_ms = NonZeroU32::new(2_000).unwrap();
        let tag = SampleTag {
            run: RunId(1),
            sequence,
            interval_ms,
        };
        Reading {
            metric,
            value: Number::new(50.0).unwrap(),
            tick_ms: 0,
            tag,
        }
    }

    /// With room for `limit` readings of a host without a name.
    fn backlog(limit: usize) -> Backlog {
        Backlog::new(limit * RECORD_BYTES, "")
    }

    fn sequences(backlog: &mut Backlog) -> Vec<u64> {
        let mut taken = Vec::new();
        backlog.drain(|reading| {
            taken.push(reading.tag.sequence);
            true
        });
        taken
    }

    #[test]
    fn what_fits_is_kept_in_order() {
        let mut backlog = backlog(3);
        for sequence in 0..3 {
            assert_eq!(backlog.push(reading(Metric::Cpu, sequence)), None);
        }
        assert_eq!(sequences(&mut backlog), [0, 1, 2]);
        assert_eq!((backlog.len(), backlog.dropped()), (0, Dropped::default()));
    }

    #[test]
    fn what_does_not_fit_drops_the_oldest_and_is_counted() {
        let mut backlog = backlog(3);
        for sequence in 0..5 {
            let metric = if sequence == 0 {
                Metric::Memory
            } else {
                Metric::Cpu
            };
            backlog.push(reading(metric, sequence));
        }
        assert_eq!(backlog.dropped(), Dropped { cpu: 1, memory: 1 });
        assert_eq!(sequences(&mut backlog), [2, 3, 4]);
    }

    #[test]
    fn what_is_refused_stays_the_oldest() {
        let mut backlog = backlog(4);
        for sequence in 0..4 {
            backlog.push(reading(Metric::Cpu, sequence));
        }
        assert_eq!(backlog.drain(|reading| reading.tag.sequence < 2), 2);
        assert_eq!(backlog.len(), 2);
        assert_eq!(sequences(&mut backlog), [2, 3]);
    }

    #[test]
    fn the_default_buffer_holds_days_of_samples() {
        // 32 MiB, two samples each 2 s.
        let backlog = Backlog::new(32 << 20, "web-1.example.org");
        assert!(backlog.limit / 86_400 >= 3, "{}", backlog.limit);
        assert_eq!(Backlog::new(0, "web-1").limit, FEWEST);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_unsaid_and_order_is_kept(
            limit in 2..20_usize,
            acts in prop::collection::vec((0..15_u64, 0..15_usize), 1..40),
        ) {
            let mut backlog = backlog(limit);
            let (mut pushed, mut taken) = (0_u64, Vec::new());
            for (pushes, room) in acts {
                for _ in 0..pushes {
                    backlog.push(reading(Metric::Cpu, pushed));
                    pushed += 1;
                }
                let mut room = room;
                backlog.drain(|reading| {
                    let fits = room > 0;
                    if fits {
                        room -= 1;
                        taken.push(reading.tag.sequence);
                    }
                    fits
                });
                prop_assert!(backlog.len() <= limit);
            }
            prop_assert!(taken.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(pushed, taken.len() as u64 + backlog.len() as u64 + backlog.dropped().cpu);
        }
    }
}
