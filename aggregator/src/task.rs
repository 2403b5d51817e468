//! One input partition: its engine, and what of it is committed.

use std::time::Duration;
use tidewatch_client::{CaughtUp, Fetched, OffsetAndMetadata};
use tidewatch_engine::{Engine, HashSeed, InputRecord, Output, Progress, Settings, StartError};
use tidewatch_sample::TAG_HEADER;

/// An input partition and its engine.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) engine: Engine,
    /// With `--available-now`: the offset at which the work is done.
    pub(crate) end: Option<i64>,
    committed: Option<Progress>,
    idle: IdleTime,
}

impl Task {
    /// Goes on where `committed` says, or starts anew at `start`.
    pub(crate) fn new(
        settings: Settings,
        seed: HashSeed,
        committed: Option<&OffsetAndMetadata>,
        start: i64,
    ) -> Result<Self, StartError> {
        let engine = match committed {
            Some(found) => Engine::resume(settings, seed, found.offset, &found.metadata)?,
            None => Engine::new(settings, seed, start)?,
        };
        Ok(Self {
            engine,
            end: None,
            committed: None,
            idle: IdleTime::default(),
        })
    }

    /// Takes in fetched records; what they lead to goes to `output`.
    pub(crate) fn handle_fetched(
        &mut self,
        mut fetched: Fetched,
        output: &mut Output,
    ) -> Result<(), tidewatch_client::Error> {
        while let Some(record) = fetched.next_ref() {
            let record = record?;
            let tag = record.headers.last_named(TAG_HEADER);
            let input = InputRecord {
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                key: record.key,
                value: record.value,
                tag,
            };
            self.engine.handle_records(&[input], output);
        }
        Ok(())
    }

    /// There was nothing more to read at `position`, in fetches that succeeded.
    pub(crate) fn handle_caught_up(
        &mut self,
        position: i64,
        caught_up: CaughtUp,
        output: &mut Output,
    ) {
        let spent = self.idle.spent(caught_up);
        let spent_ms = i64::try_from(spent.as_millis()).unwrap_or(i64::MAX);
        self.engine.handle_caught_up(position, spent_ms, output);
    }

    /// What is to be committed, if it is not yet.
    pub(crate) fn uncommitted(&mut self) -> Option<Progress> {
        self.engine
            .progress()
            .filter(|progress| self.committed.as_ref() != Some(progress))
    }

    pub(crate) fn handle_committed(&mut self, progress: Progress) {
        self.committed = Some(progress);
    }

    /// Whether `--available-now` is done here, the consumer standing at `position`.
    pub(crate) fn is_done(&self, position: Option<i64>) -> bool {
        self.end
            .is_some_and(|end| position.is_some_and(|position| position >= end))
    }
}

/// Time spent with nothing to read, summed over the spells of it.
#[derive(Debug, Default)]
struct IdleTime {
    earlier_us: u64,
    current: Option<CaughtUp>,
}

impl IdleTime {
    fn spent(&mut self, caught_up: CaughtUp) -> Duration {
        let length = |spell: &CaughtUp| spell.confirmed_us.saturating_sub(spell.since_us);
        if let Some(last) = self
            .current
            .as_ref()
            .filter(|last| last.since_us != caught_up.since_us)
        {
            self.earlier_us = self.earlier_us.saturating_add(length(last));
        }
        let spent_us = self.earlier_us.saturating_add(length(&caught_up));
        self.current = Some(caught_up);
        Duration::from_micros(spent_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_stands_still_between_spells() {
        let mut idle = IdleTime::default();
        let spell = |since_us, until_us| CaughtUp {
            since_us,
            confirmed_us: until_us,
        };
        assert_eq!(idle.spent(spell(100, 150)), Duration::from_micros(50));
        assert_eq!(idle.spent(spell(100, 200)), Duration::from_micros(100));
        assert_eq!(idle.spent(spell(900, 900)), Duration::from_micros(100));
        assert_eq!(idle.spent(spell(900, 930)), Duration::from_micros(130));
    }
}
