//! The two clocks that the broker is told.

use rustix::time::{ClockId, clock_gettime};
use tidewatch_broker::Now;

/// This moment.
pub(crate) fn now() -> Now {
    let monotonic = clock_gettime(ClockId::Monotonic);
    let wall = clock_gettime(ClockId::Realtime);
    let micros = monotonic
        .tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(monotonic.tv_nsec / 1000);
    Now {
        monotonic_us: u64::try_from(micros).unwrap_or(0),
        wall_ms: wall
            .tv_sec
            .saturating_mul(1000)
            .saturating_add(wall.tv_nsec / 1_000_000),
    }
}
