//! The two clocks: the wall's, which ticks and timestamps follow, and one that never steps.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Milliseconds since 1970 by the host's wall clock; it may step either way.
pub(crate) fn wall_ms() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec
        .saturating_mul(1_000)
        .saturating_add(now.tv_nsec / 1_000_000)
}

/// Time since some start; it never goes back.
pub(crate) fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0))
}
