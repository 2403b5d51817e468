//! What a run cost and what it moved, as the line of JSON that the harness of the peers reads.

use crate::workload::{Workload, word_sum};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    Produce,
    Consume,
    Latency,
}

/// Counts a run. Its CPU is measured from outside, where a program cannot misreport it.
pub(crate) struct Meter {
    role: Role,
    started: Instant,
    /// Since the harness started this process.
    first_ms: Option<f64>,
    records: u64,
    bytes: u64,
    sum: u64,
    errors: u64,
    latencies: Vec<Duration>,
}

impl Meter {
    pub(crate) fn start(role: Role) -> Self {
        Self {
            role,
            started: Instant::now(),
            first_ms: None,
            records: 0,
            bytes: 0,
            sum: 0,
            errors: 0,
            latencies: Vec::new(),
        }
    }

    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// A record's delivery has ended.
    pub(crate) fn resolved(&mut self, is_ok: bool) {
        if is_ok {
            self.count();
        } else {
            self.errors += 1;
        }
    }

    /// A paced record's delivery has ended.
    pub(crate) fn acknowledged(&mut self, is_ok: bool, took: Duration) {
        self.resolved(is_ok);
        self.latencies.push(took);
    }

    /// A record was read.
    #[inline]
    pub(crate) fn read(&mut self, key: &[u8], value: &[u8]) {
        self.count();
        self.bytes += (key.len() + value.len()) as u64;
        self.sum = self
            .sum
            .wrapping_add(word_sum(key))
            .wrapping_add(word_sum(value));
    }

    pub(crate) fn failed(&mut self) {
        self.errors += 1;
    }

    #[inline]
    fn count(&mut self) {
        if self.records == 0 {
            self.first_ms = since_start_ms();
        }
        self.records += 1;
    }

    /// Prints the line. What was written is summed up here, outside the measured part.
    pub(crate) fn finish(mut self, written: Option<&Workload>) {
        let wall_s = self.started.elapsed().as_secs_f64();
        let peak_kb = peak_rss_kb();
        if let Some(workload) = written {
            (self.bytes, self.sum) = workload.totals(self.records);
        }
        let mode = format!("{:?}", self.role).to_lowercase();
        let mut line = serde_json::json!({
            "peer": "tidewatch",
            "version": env!("CARGO_PKG_VERSION"),
            "mode": mode,
            "records": self.records,
            "bytes": self.bytes,
            "errors": self.errors,
            "sum": format!("{:016x}", self.sum),
            "wall_s": wall_s,
            "hwm_kb": peak_kb,
            "first_ms": self.first_ms.unwrap_or(-1.0),
        });
        self.latencies.sort_unstable();
        for (name, share) in [
            ("p50_us", 0.5),
            ("p99_us", 0.99),
            ("p999_us", 0.999),
            ("max_us", 1.0),
        ] {
            if let Some(last) = self.latencies.len().checked_sub(1) {
                let at = (self.latencies.len() as f64 * share) as usize;
                line[name] = (self.latencies[at.min(last)].as_micros() as u64).into();
            }
        }
        println!("{line}");
    }
}

/// Milliseconds since `BENCH_T0`, seconds since 1970, which the harness sets as it starts us.
fn since_start_ms() -> Option<f64> {
    let started: f64 = std::env::var("BENCH_T0").ok()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some((now.as_secs_f64() - started) * 1e3)
}

/// The greatest resident set so far, VmHWM of proc(5).
fn peak_rss_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = peak.and_then(|peak| peak.split_whitespace().next()?.parse().ok());
    kb.unwrap_or(0)
}
