//! The driver's clock: one origin for every `Now` of a client.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;
use tidewatch_client_core::Now;
use tidewatch_client_core::time::ReadTime;
use tokio::time::Instant;

/// Reads both clocks. Copies share the origin, so their readings can be compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Now {
        Now {
            monotonic_us: self.monotonic_us(),
            wall_ms: wall_ms(ClockId::Realtime),
        }
    }

    /// When the monotonic clock reads `monotonic_us`.
    pub(crate) fn instant(&self, monotonic_us: u64) -> Instant {
        let since = Duration::from_micros(monotonic_us);
        // Beyond what the platform can express: far enough not to matter.
        self.origin
            .checked_add(since)
            .unwrap_or_else(|| self.origin + Duration::from_secs(86_400 * 365))
    }
}

/// For stamping records as they are sent.
impl ReadTime for Clock {
    fn monotonic_us(&self) -> u64 {
        let elapsed = self.origin.elapsed().as_micros();
        u64::try_from(elapsed).unwrap_or(u64::MAX)
    }

    /// Linux keeps one that is read in a fraction of the time and lags by at most a tick (1-10 ms).
    fn wall_ms(&self) -> i64 {
        #[cfg(target_os = "linux")]
        let id = ClockId::RealtimeCoarse;
        #[cfg(not(target_os = "linux"))]
        let id = ClockId::Realtime;
        wall_ms(id)
    }
}

fn wall_ms(id: ClockId) -> i64 {
    let wall = clock_gettime(id);
    let seconds_ms = wall.tv_sec.saturating_mul(1000);
    seconds_ms.saturating_add(wall.tv_nsec / 1_000_000)
}
