//! When to sample: at the multiples of the interval since 1970 by the wall clock, so that every
//! host samples at the same moments and windows hold the same number of samples.
//!
//! Pure: the clock's reading is passed in, and the caller waits.

use std::num::NonZeroU32;

/// The longest wait before the wall clock is looked at again, which may step meanwhile.
const LOOK_AGAIN_MS: i64 = 10_000;

/// How far the clock may step back and be waited for, so that no tick is sampled twice. After a
/// longer step the ticks follow the clock: rather some ticks twice than an hour of silence.
const WAIT_OUT_MS: i64 = 60_000;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Come back after so many milliseconds.
    Wait { wait_ms: u64 },
    /// Sample for this tick.
    Sample { tick_ms: i64 },
    /// So many ticks have passed unsampled: the host slept or was too busy, or its clock stepped
    /// forward. Come back at once.
    Missed { ticks: u64 },
    /// The clock went back by so much; the ticks follow it. Come back at once.
    WentBack { by_ms: u64 },
}

/// The ticks of one interval.
#[derive(Debug)]
pub(crate) struct Ticks {
    interval_ms: i64,
    next_ms: Option<i64>,
}

impl Ticks {
    pub(crate) fn new(interval_ms: NonZeroU32) -> Self {
        Self {
            interval_ms: i64::from(interval_ms.get()),
            next_ms: None,
        }
    }

    /// What to do, the wall clock showing `now_ms`.
    pub(crate) fn poll_step(&mut self, now_ms: i64) -> Step {
        let next_ms = *self
            .next_ms
            .get_or_insert_with(|| first_at(now_ms, self.interval_ms));
        let late_ms = now_ms.saturating_sub(next_ms);
        if late_ms < 0 {
            let early_ms = late_ms.saturating_neg();
            // Up to one interval early is what a wait is.
            let back_ms = early_ms.saturating_sub(self.interval_ms);
            if back_ms > WAIT_OUT_MS {
                self.next_ms = None;
                return Step::WentBack {
                    by_ms: back_ms.unsigned_abs(),
                };
            }
            return Step::Wait {
                wait_ms: early_ms.min(LOOK_AGAIN_MS).unsigned_abs(),
            };
        }
        // Past the middle a reading would tell more of the next tick than of this one.
        if late_ms >= (self.interval_ms + 1) / 2 {
            self.next_ms = Some(first_at(now_ms.saturating_add(1), self.interval_ms));
            return Step::Missed {
                ticks: (late_ms / self.interval_ms).unsigned_abs() + 1,
            };
        }
        self.next_ms = Some(next_ms.saturating_add(self.interval_ms));
        Step::Sample { tick_ms: next_ms }
    }
}

/// The first multiple of the interval at or after `now_ms`.
fn first_at(now_ms: i64, interval_ms: i64) -> i64 {
    match now_ms.rem_euclid(interval_ms) {
        0 => now_ms,
        past => now_ms.saturating_add(interval_ms - past),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticks(interval_ms: u32) -> Ticks {
        Ticks::new(NonZeroU32::new(interval_ms).unwrap())
    }

    #[test]
    fn ticks_are_the_multiples_of_the_interval() {
        let mut ticks = ticks(2_000);
        assert_eq!(ticks.poll_step(10_500), Step::Wait { wait_ms: 1_500 });
        assert_eq!(ticks.poll_step(11_999), Step::Wait { wait_ms: 1 });
        assert_eq!(ticks.poll_step(12_003), Step::Sample { tick_ms: 12_000 });
        assert_eq!(ticks.poll_step(12_004), Step::Wait { wait_ms: 1_996 });
        assert_eq!(ticks.poll_step(14_000), Step::Sample { tick_ms: 14_000 });
    }

    #[test]
    fn a_start_on_a_tick_samples_it() {
        assert_eq!(
            ticks(2_000).poll_step(12_000),
            Step::Sample { tick_ms: 12_000 }
        );
    }

    #[test]
    fn a_long_wait_looks_at_the_clock_in_between() {
        assert_eq!(
            ticks(3_600_000).poll_step(1),
            Step::Wait { wait_ms: 10_000 }
        );
    }

    #[test]
    fn missed_ticks_are_skipped_and_never_bunched() {
        let mut ticks = ticks(2_000);
        assert_eq!(ticks.poll_step(12_000), Step::Sample { tick_ms: 12_000 });
        // A little late is still this tick; past the middle it is missed.
        assert_eq!(ticks.poll_step(14_999), Step::Sample { tick_ms: 14_000 });
        assert_eq!(ticks.poll_step(17_000), Step::Missed { ticks: 1 });
        assert_eq!(ticks.poll_step(17_000), Step::Wait { wait_ms: 1_000 });
        assert_eq!(ticks.poll_step(18_000), Step::Sample { tick_ms: 18_000 });
        // An hour asleep.
        assert_eq!(ticks.poll_step(3_618_700), Step::Missed { ticks: 1_800 });
        assert_eq!(ticks.poll_step(3_618_700), Step::Wait { wait_ms: 1_300 });
    }

    #[test]
    fn a_small_step_back_is_waited_out_so_that_no_tick_comes_twice() {
        let mut ticks = ticks(2_000);
        assert_eq!(ticks.poll_step(100_000), Step::Sample { tick_ms: 100_000 });
        assert_eq!(ticks.poll_step(99_700), Step::Wait { wait_ms: 2_300 });
        assert_eq!(ticks.poll_step(42_000), Step::Wait { wait_ms: 10_000 });
        assert_eq!(ticks.poll_step(102_000), Step::Sample { tick_ms: 102_000 });
    }

    #[test]
    fn a_large_step_back_is_followed() {
        let mut ticks = ticks(2_000);
        assert_eq!(ticks.poll_step(100_000), Step::Sample { tick_ms: 100_000 });
        assert_eq!(ticks.poll_step(39_000), Step::WentBack { by_ms: 61_000 });
        assert_eq!(ticks.poll_step(39_000), Step::Wait { wait_ms: 1_000 });
        assert_eq!(ticks.poll_step(40_000), Step::Sample { tick_ms: 40_000 });
    }

    proptest! {
        #[test]
        fn whatever_the_clock_does_ticks_are_multiples_and_waits_are_bounded(
            interval_ms in 1..=86_400_000_u32,
            clock in prop::collection::vec(prop_oneof![any::<i64>(), -5_000..5_000_i64], 1..50),
        ) {
            let mut ticks = ticks(interval_ms);
            for now_ms in clock {
                match ticks.poll_step(now_ms) {
                    Step::Sample { tick_ms } if tick_ms != i64::MAX => {
                        prop_assert_eq!(tick_ms.rem_euclid(i64::from(interval_ms)), 0);
                        prop_assert!(now_ms >= tick_ms);
                    }
                    Step::Wait { wait_ms } => prop_assert!((1..=10_000).contains(&wait_ms)),
                    Step::Sample { .. } | Step::Missed { .. } | Step::WentBack { .. } => {}
                }
            }
        }

        #[test]
        fn a_clock_that_goes_forward_never_gives_a_tick_twice(
            interval_ms in 1..=10_000_u32,
            steps in prop::collection::vec(0..30_000_i64, 1..100),
        ) {
            let mut ticks = ticks(interval_ms);
            let (mut now_ms, mut last) = (-50_000, None);
            for step in steps {
                now_ms += step;
                if let Step::Sample { tick_ms } = ticks.poll_step(now_ms) {
                    prop_assert!(last < Some(tick_ms));
                    last = Some(tick_ms);
                }
            }
        }
    }
}
