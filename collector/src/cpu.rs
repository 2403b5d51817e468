//! CPU utilisation: the share of its time that the host was busy, between two readings.
//!
//! Idle and iowait are not busy. Steal is: the host had work and was kept from it. A guest's time
//! is busy too; user and nice hold it already, so it is taken out of them and counted once.

use crate::proc::{CpuTicks, Stat};
use tidewatch_sample::Number;

/// In percent, from 0 to 100, over the CPUs that are in both readings and whose counters went
/// forward; `None` where there is no such CPU or no tick has passed.
pub(crate) fn utilisation(before: &Stat, now: &Stat) -> Option<Number> {
    let mut sum = Spent::default();
    for (id, ticks) in &now.cpus {
        // A CPU that came since `before` has counters from before its time.
        let spent = before.cpus.get(id).and_then(|before| spent(before, ticks));
        if let Some(spent) = spent {
            sum.busy = sum.busy.saturating_add(spent.busy);
            sum.total = sum.total.saturating_add(spent.total);
        }
    }
    if sum.total == 0 {
        return None;
    }
    Number::new(sum.busy as f64 / sum.total as f64 * 100.0)
}

/// Ticks between two readings; 128 bits, because counters are whatever the file says.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Spent {
    busy: u128,
    total: u128,
}

/// What one CPU spent its time on; `None` where a counter went backwards, because then the CPU
/// was reset (taken offline and back, or migrated) and its counters cannot be compared.
///
/// Only iowait goes backwards by itself (proc_stat(5)): that counts as no iowait.
fn spent(before: &CpuTicks, now: &CpuTicks) -> Option<Spent> {
    let user = now.user.checked_sub(before.user)?;
    let nice = now.nice.checked_sub(before.nice)?;
    let guest = now.guest.checked_sub(before.guest)?;
    let guest_nice = now.guest_nice.checked_sub(before.guest_nice)?;
    let busy = [
        // The kernel adds a guest's tick to both, not at once.
        user.saturating_sub(guest),
        nice.saturating_sub(guest_nice),
        guest,
        guest_nice,
        now.system.checked_sub(before.system)?,
        now.irq.checked_sub(before.irq)?,
        now.softirq.checked_sub(before.softirq)?,
        now.steal.checked_sub(before.steal)?,
    ];
    let idle = [
        now.idle.checked_sub(before.idle)?,
        now.iowait.saturating_sub(before.iowait),
    ];
    let busy: u128 = busy.into_iter().map(u128::from).sum();
    let idle: u128 = idle.into_iter().map(u128::from).sum();
    Some(Spent {
        busy,
        total: busy + idle,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stat(text: &str) -> Stat {
        Stat::parse(text.as_bytes()).unwrap()
    }

    fn percent(before: &str, now: &str) -> Option<f64> {
        utilisation(&stat(before), &stat(now)).map(Number::get)
    }

    const ZERO: &str = "cpu0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn idle_and_iowait_are_not_busy_and_everything_else_is() {
        assert_eq!(percent(ZERO, "cpu0 0 0 0 60 40 0 0 0 0 0\n"), Some(0.0));
        for busy in ["50 0 0", "0 50 0", "0 0 50"] {
            assert_eq!(
                percent(ZERO, &format!("cpu0 {busy} 100 50 0 0 0\n")),
                Some(25.0),
                "{busy}"
            );
        }
        for busy in ["50 0 0", "0 50 0", "0 0 50"] {
            assert_eq!(
                percent(ZERO, &format!("cpu0 0 0 0 100 50 {busy}\n")),
                Some(25.0),
                "{busy}"
            );
        }
    }

    #[test]
    fn a_guests_time_is_busy_once() {
        assert_eq!(percent(ZERO, "cpu0 30 10 0 60 0 0 0 0 20 10\n"), Some(40.0));
        // Read between the kernel's two additions.
        assert_eq!(percent(ZERO, "cpu0 19 0 0 60 0 0 0 0 20 0\n"), Some(25.0));
    }

    #[test]
    fn every_cpu_has_its_weight_in_ticks() {
        let before = "cpu0 100 0 0 100\ncpu1 0 0 0 500\n";
        let now = "cpu0 200 0 0 100\ncpu1 0 0 0 800\n";
        assert_eq!(percent(before, now), Some(25.0));
    }

    #[test]
    fn a_cpu_that_came_or_went_is_left_out_of_that_tick() {
        let one = "cpu0 10 0 0 10\n";
        let both = "cpu0 20 0 0 40\ncpu1 9000 0 0 0\n";
        assert_eq!(percent(one, both), Some(25.0));
        assert_eq!(percent(both, "cpu0 30 0 0 70\n"), Some(25.0));
        assert_eq!(percent(one, "cpu7 9000 0 0 0\n"), None);
    }

    #[test]
    fn iowait_that_goes_backwards_counts_as_none() {
        assert_eq!(
            percent("cpu0 10 0 0 10 50\n", "cpu0 20 0 0 40 20\n"),
            Some(25.0)
        );
    }

    #[test]
    fn a_cpu_whose_counters_were_reset_is_left_out() {
        let before = "cpu0 10 0 0 10\ncpu1 10 0 0 9000\n";
        assert_eq!(
            percent(before, "cpu0 20 0 0 40\ncpu1 500 0 0 3\n"),
            Some(25.0)
        );
        assert_eq!(percent("cpu0 10 0 0 9000\n", "cpu0 500 0 0 3\n"), None);
    }

    #[test]
    fn without_a_tick_there_is_no_value() {
        assert_eq!(percent(ZERO, ZERO), None);
    }

    fn any_stat() -> impl Strategy<Value = Stat> {
        let counter = prop_oneof![any::<u64>(), 0..1_000_u64];
        let counters = prop::collection::vec(counter.prop_map(|n| n.to_string()), 10);
        let cpus = prop::collection::btree_map(0..6_u32, counters, 1..6);
        cpus.prop_map(|cpus| {
            let lines = cpus.iter();
            let lines = lines.map(|(id, counters)| format!("cpu{id} {}\n", counters.join(" ")));
            stat(&lines.collect::<String>())
        })
    }

    proptest! {
        #[test]
        fn it_is_always_from_0_to_100(before in any_stat(), now in any_stat()) {
            if let Some(percent) = utilisation(&before, &now) {
                prop_assert!((0.0..=100.0).contains(&percent.get()), "{percent}");
            }
        }
    }
}
