//! Exponential backoff with jitter (KIP-580), the seed passed in.

/// Waits that double from `initial_ms` to `max_ms`, each spread by ±20 %.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial_ms: u64,
    max_ms: u64,
    failures: u32,
}

impl Backoff {
    /// Not failed yet.
    pub fn new(initial_ms: u64, max_ms: u64) -> Self {
        Self {
            initial_ms,
            max_ms,
            failures: 0,
        }
    }

    /// Counts a failure and returns how long to wait, in microseconds.
    pub fn next_us(&mut self, random: &mut fastrand::Rng) -> u64 {
        let doubled = self.initial_ms.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        let base_us = doubled.min(self.max_ms).saturating_mul(1000);
        let spread = base_us / 5;
        (base_us - spread).saturating_add(random.u64(0..=spread.saturating_mul(2)))
    }

    /// Something worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}
