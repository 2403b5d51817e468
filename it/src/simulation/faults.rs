//! What goes wrong in a run, drawn from its seed, and how often each kind did.

use crate::simulation::plan::Plan;
use std::collections::BTreeMap;
use std::fmt;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Frames vanish on one connection, both ways, and nobody is told.
    LostFrames,
    /// One connection answers late.
    LateFrames,
    /// A connection is cut before a request is carried out.
    CutBefore,
    /// A connection is cut after a request was carried out: its answer is lost.
    CutAfter,
    /// A request is refused with an error that comes and goes.
    Error,
    /// A request is carried out and answered with an error.
    ErrorAfter,
    /// A partition gets another leader.
    LeaderMove,
    /// A node stops and starts again.
    Restart,
    /// A broker asks to be spared.
    Throttle,
    /// A node takes connections and requests, and answers nothing for a while.
    Hung,
    /// A group gets another coordinator.
    GroupMove,
    /// A transactional id gets another coordinator.
    TransactionMove,
    /// A transaction is ended, and its writer is not told.
    LostEnd,
    /// A process is gone without a word.
    Crash,
    /// A process is succeeded while it lives on.
    Zombie,
    /// A process stands still for a while, and knows nothing of it.
    Pause,
    /// A member comes.
    Join,
    /// A member closes.
    Leave,
    /// A member's reader does not come for a while, at times longer than it may.
    Slow,
}

impl Kind {
    /// What befalls connections and nodes.
    pub const OF_WIRE: [Self; 7] = [
        Self::LostFrames,
        Self::LateFrames,
        Self::CutBefore,
        Self::CutAfter,
        Self::Error,
        Self::ErrorAfter,
        Self::Restart,
    ];

    /// What befalls those who send records and read them.
    pub const OF_RECORDS: [Self; 2] = [Self::LeaderMove, Self::Throttle];

    /// What befalls members of a group.
    pub const OF_GROUPS: [Self; 5] = [
        Self::GroupMove,
        Self::Crash,
        Self::Join,
        Self::Leave,
        Self::Slow,
    ];

    /// What befalls transactional producers.
    pub const OF_TRANSACTIONS: [Self; 3] = [Self::TransactionMove, Self::GroupMove, Self::Crash];

    /// What befalls those who are both.
    pub const OF_LOOPS: [Self; 5] = [
        Self::TransactionMove,
        Self::LostEnd,
        Self::Hung,
        Self::Zombie,
        Self::Pause,
    ];
}

/// Every kind once, then at random, spread over the time of the plan; soonest last.
pub(super) fn schedule(plan: Plan, start_us: u64, random: &mut fastrand::Rng) -> Vec<(u64, Kind)> {
    let all: Vec<Kind> = plan.kinds().collect();
    let mut kinds: Vec<_> = all.iter().copied().take(plan.faults).collect();
    while kinds.len() < plan.faults {
        kinds.push(all[random.usize(0..all.len())]);
    }
    let mut schedule: Vec<_> = kinds
        .into_iter()
        .map(|kind| (start_us + random.u64(0..plan.span_us), kind))
        .collect();
    schedule.sort_by_key(|(at_us, _)| std::cmp::Reverse(*at_us));
    schedule
}

/// How often each kind struck.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<Kind, u64>);

impl Counts {
    /// One more of a kind.
    pub fn add(&mut self, kind: Kind) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// Joins another run's counts.
    pub fn merge(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(*kind).or_default() += count;
        }
    }

    /// How often.
    pub fn of(&self, kind: Kind) -> u64 {
        self.0.get(&kind).copied().unwrap_or(0)
    }

    /// How many kinds.
    pub fn kinds(&self) -> usize {
        self.0.len()
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (kind, count)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{kind:?} {count}")?;
        }
        Ok(())
    }
}
