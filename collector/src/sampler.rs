//! Turns what procfs says at a tick into readings. Pure: bytes in, readings out.

use crate::cpu;
use crate::memory::{self, MemoryFormula};
use crate::proc::{Meminfo, MeminfoError, Stat, StatError};
use std::num::NonZeroU32;
use tidewatch_sample::{Metric, Number, RunId, SampleTag};

/// One value, ready to be sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    pub(crate) metric: Metric,
    /// In percent, from 0 to 100.
    pub(crate) value: Number,
    /// The tick that it was read for, in milliseconds since 1970.
    pub(crate) tick_ms: i64,
    pub(crate) tag: SampleTag,
}

/// One run of the agent: its tag, and the counters that the next CPU reading is compared with.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    run: RunId,
    interval_ms: NonZeroU32,
    formula: MemoryFormula,
    before: Option<Stat>,
    cpu_sequence: u64,
    memory_sequence: u64,
}

impl Sampler {
    pub(crate) fn new(run: RunId, interval_ms: NonZeroU32, formula: MemoryFormula) -> Self {
        Self {
            run,
            interval_ms,
            formula,
            before: None,
            cpu_sequence: 0,
            memory_sequence: 0,
        }
    }

    /// From the bytes of /proc/stat: the mean since they were read last. `None` at the first
    /// tick, and where no CPU can be compared with what it was then.
    pub(crate) fn sample_cpu(
        &mut self,
        tick_ms: i64,
        stat: &[u8],
    ) -> Result<Option<Reading>, StatError> {
        let now = Stat::parse(stat)?;
        let value = self
            .before
            .as_ref()
            .and_then(|before| cpu::utilisation(before, &now));
        self.before = Some(now);
        Ok(value.map(|value| {
            let sequence = next(&mut self.cpu_sequence);
            self.reading(Metric::Cpu, value, tick_ms, sequence)
        }))
    }

    /// From the bytes of /proc/meminfo; and whether it is an estimate.
    pub(crate) fn sample_memory(
        &mut self,
        tick_ms: i64,
        meminfo: &[u8],
    ) -> Result<(Reading, bool), MeminfoError> {
        let used = memory::utilisation(&Meminfo::parse(meminfo)?, self.formula)?;
        let sequence = next(&mut self.memory_sequence);
        Ok((
            self.reading(Metric::Memory, used.percent, tick_ms, sequence),
            used.estimated,
        ))
    }

    fn reading(&self, metric: Metric, value: Number, tick_ms: i64, sequence: u64) -> Reading {
        let tag = SampleTag {
            run: self.run,
            sequence,
            interval_ms: self.interval_ms,
        };
        Reading {
            metric,
            value,
            tick_ms,
            tag,
        }
    }
}

/// Counts on, and gives the number that was next.
fn next(sequence: &mut u64) -> u64 {
    let this = *sequence;
    *sequence = this.saturating_add(1);
    this
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &[u8] = b"MemTotal: 1000 kB\nMemAvailable: 750 kB\n";

    fn sampler() -> Sampler {
        let interval_ms = NonZeroU32::new(2_000).unwrap();
        Sampler::new(RunId(7), interval_ms, MemoryFormula::Available)
    }

    #[test]
    fn the_first_tick_gives_memory_and_no_cpu() {
        let mut sampler = sampler();
        assert_eq!(sampler.sample_cpu(2_000, b"cpu0 9 0 0 9\n"), Ok(None));
        let (memory, estimated) = sampler.sample_memory(2_000, MEMINFO).unwrap();
        assert_eq!(
            (memory.metric, memory.value.get(), estimated),
            (Metric::Memory, 25.0, false)
        );
        assert_eq!((memory.tick_ms, memory.tag.sequence), (2_000, 0));
    }

    #[test]
    fn each_metric_counts_its_own_samples_from_0() {
        let mut sampler = sampler();
        let mut tags = Vec::new();
        for (tick_ms, stat) in [
            (2_000, "cpu0 0 0 0 0\n"),
            (4_000, "cpu0 1 0 0 3\n"),
            (6_000, "cpu0 4 0 0 4\n"),
        ] {
            let cpu = sampler.sample_cpu(tick_ms, stat.as_bytes()).unwrap();
            let (memory, _) = sampler.sample_memory(tick_ms, MEMINFO).unwrap();
            tags.extend(cpu.into_iter().chain([memory]).map(|reading| {
                format!(
                    "{} {} {}",
                    reading.metric.topic(),
                    reading.value,
                    reading.tag
                )
            }));
        }
        assert_eq!(
            tags,
            [
                "mem-monitor 25.0 0000000000000007.0.2000",
                "cpu-monitor 25.0 0000000000000007.0.2000",
                "mem-monitor 25.0 0000000000000007.1.2000",
                "cpu-monitor 75.0 0000000000000007.1.2000",
                "mem-monitor 25.0 0000000000000007.2.2000",
            ]
        );
    }

    #[test]
    fn after_an_unreadable_tick_the_next_value_spans_both() {
        let mut sampler = sampler();
        assert_eq!(sampler.sample_cpu(2_000, b"cpu0 0 0 0 0\n"), Ok(None));
        assert!(sampler.sample_cpu(4_000, b"cpu0 x\n").is_err());
        let cpu = sampler
            .sample_cpu(6_000, b"cpu0 1 0 0 3\n")
            .unwrap()
            .unwrap();
        assert_eq!((cpu.value.get(), cpu.tag.sequence), (25.0, 0));
    }
}
