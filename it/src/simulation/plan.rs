//! What a run consists of, and what comes of it.

use crate::simulation::check::Violation;
use crate::simulation::faults::{Counts, Kind};
use std::collections::BTreeMap;
use std::fmt;

/// What a run consists of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Decides everything else.
    pub seed: u64,
    /// Brokers.
    pub nodes: u8,
    /// Partitions of each topic, with three replicas.
    pub partitions: u16,
    /// Producers, or members of a group at the start.
    pub clients: usize,
    /// Records of all producers together.
    pub records: u32,
    /// Things that go wrong.
    pub faults: usize,
    /// Of these kinds; of each once, as far as that goes.
    pub kinds: &'static [&'static [Kind]],
    /// In this time.
    pub span_us: u64,
    /// Keeps a log of what happened.
    pub log: bool,
    /// The test that plays such plans.
    pub test: &'static str,
}

impl Plan {
    /// Producers, and one reader.
    pub fn delivery(seed: u64) -> Self {
        Self {
            seed,
            nodes: 3,
            partitions: 4,
            clients: 2,
            records: 500,
            // Twenty have to strike, and some wait for a request that does not come any more.
            faults: 28,
            kinds: &[&Kind::OF_WIRE, &Kind::OF_RECORDS],
            span_us: 5_000_000,
            log: false,
            test: "sim_delivery",
        }
    }

    /// Transactional producers, and one reader of committed data.
    pub fn transactions(seed: u64) -> Self {
        Self {
            faults: 40,
            kinds: &[&Kind::OF_WIRE, &Kind::OF_RECORDS, &Kind::OF_TRANSACTIONS],
            test: "sim_transactions",
            ..Self::delivery(seed)
        }
    }

    /// One producer, and a group that reads.
    pub fn groups(seed: u64) -> Self {
        Self {
            partitions: 5,
            clients: 3,
            records: 300,
            faults: 20,
            kinds: &[&Kind::OF_WIRE, &Kind::OF_GROUPS],
            span_us: 60_000_000,
            test: "sim_groups",
            ..Self::delivery(seed)
        }
    }

    /// A group whose members copy from topic to topic, exactly once.
    pub fn exactly_once(seed: u64) -> Self {
        Self {
            partitions: 3,
            faults: 30,
            kinds: &[
                &Kind::OF_WIRE,
                &Kind::OF_RECORDS,
                &Kind::OF_GROUPS,
                &Kind::OF_LOOPS,
            ],
            span_us: 10_000_000,
            test: "sim_exactly_once",
            ..Self::delivery(seed)
        }
    }

    /// What may go wrong.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.kinds.iter().flat_map(|kinds| kinds.iter().copied())
    }
}

/// What a good run tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Faults that struck, by kind.
    pub faults: Counts,
    /// How long it took, in simulated microseconds.
    pub simulated_us: u64,
    /// The longest time in which it did not get on and no trouble began or ended; the whole of it
    /// where a world does not say.
    pub longest_us: u64,
    /// What else there was, by what it is.
    pub tally: BTreeMap<&'static str, u64>,
}

impl Report {
    /// Joins another run's.
    pub fn merge(&mut self, other: &Self) {
        self.faults.merge(&other.faults);
        self.simulated_us += other.simulated_us;
        self.longest_us = self.longest_us.max(other.longest_us);
        for (what, count) in &other.tally {
            *self.tally.entry(what).or_default() += count;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (simulated_s, longest_ms) = (self.simulated_us / 1_000_000, self.longest_us / 1000);
        write!(
            f,
            "{simulated_s} simulated seconds, at most {longest_ms} ms without progress"
        )?;
        for (what, count) in &self.tally {
            write!(f, ", {count} {what}")?;
        }
        write!(f, "; faults: {}", self.faults)
    }
}

/// A run that broke a promise or stalled.
#[derive(Debug)]
pub struct Failure {
    /// What was played.
    pub plan: Plan,
    /// What was broken.
    pub why: Violation,
    /// What happened, if the plan asked for it.
    pub log: Vec<String>,
}

/// Of a trace, so much is shown where nobody asked for all of it.
const TRACE_LINES: usize = 100;

impl Failure {
    /// With the end of its log.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        let early = self.log.len().saturating_sub(TRACE_LINES);
        self.log.drain(..early);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.log {
            writeln!(f, "{line}")?;
        }
        let (seed, test) = (self.plan.seed, self.plan.test);
        write!(
            f,
            "seed {seed}: {}\nreplay: TIDEWATCH_SEED={seed} cargo test -p tidewatch-it --test {test} -- --nocapture replay",
            self.why
        )
    }
}
