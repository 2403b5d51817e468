//! The time, as whoever drives the broker tells it.

/// One moment on two clocks. It is a value of our own, so that a simulation can make it from a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// Microseconds since some start; never goes back. Waits are measured by it.
    pub monotonic_us: u64,
    /// Milliseconds since 1970; may jump. Records are stamped by it.
    pub wall_ms: i64,
}

impl Now {
    /// The moment `us` microseconds later, both clocks moving alike.
    #[must_use]
    pub fn after_us(self, us: u64) -> Self {
        Self {
            monotonic_us: self.monotonic_us.saturating_add(us),
            wall_ms: self
                .wall_ms
                .saturating_add(i64::try_from(us / 1000).unwrap_or(i64::MAX)),
        }
    }

    /// The moment `ms` milliseconds later; negative waits are none.
    #[must_use]
    pub fn after_ms(self, ms: i32) -> Self {
        self.after_us(u64::try_from(ms).unwrap_or(0).saturating_mul(1000))
    }

    /// Whether `deadline` has come, by the monotonic clock.
    #[must_use]
    pub fn reached(self, deadline: Self) -> bool {
        self.monotonic_us >= deadline.monotonic_us
    }
}
