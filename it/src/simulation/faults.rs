//! What goes wrong in a run, drawn from its seed, and how often each kind did.

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
    /// A request is refused with a retriable error.
    Error,
    /// A request is carried out and answered with an error.
    ErrorAfter,
    /// A partition gets another leader.
    LeaderMove,
    /// A node stops and starts again.
    Restart,
    /// A broker asks to be spared.
    Throttle,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::LostFrames,
        Self::LateFrames,
        Self::CutBefore,
        Self::CutAfter,
        Self::Error,
        Self::ErrorAfter,
        Self::LeaderMove,
        Self::Restart,
        Self::Throttle,
    ];
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

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{kind:?} {}", self.of(kind))?;
        }
        Ok(())
    }
}
