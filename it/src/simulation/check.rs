//! What must hold of every run: each acknowledged record exactly once and in order per partition.

use std::collections::BTreeMap;
use std::fmt;

/// Names a record: which producer sent it, as its how-manieth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordName {
    /// The producer.
    pub producer: usize,
    /// Its own count, from 0.
    pub number: u32,
}

impl RecordName {
    /// As a record's value begins.
    pub fn encode(self) -> String {
        format!("{}/{};", self.producer, self.number)
    }

    /// Reads it back.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (producer, rest) = text.split_once('/')?;
        let (number, _) = rest.split_once(';')?;
        Some(Self {
            producer: producer.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of producer {}", self.number, self.producer)
    }
}

/// What the producer was told about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stands at this offset.
    Acknowledged(i64),
    /// It failed, and may stand in the log all the same.
    PossiblyWritten,
    /// It failed and does not stand in the log.
    NotWritten,
}

/// A promise that a run broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One partition's story: what was sent to it and what became of it, and what was read from it.
#[derive(Debug, Default)]
pub struct Partition {
    /// In the order in which each producer sent them.
    pub sent: Vec<(RecordName, Option<Fate>)>,
    /// In the order in which the consumer got them, with their offsets.
    pub read: Vec<(i64, RecordName)>,
    /// In the broker's log.
    pub log: Vec<(i64, RecordName)>,
}

impl Partition {
    /// Holds the story to the promises.
    pub fn check(&self, partition: usize) -> Result<(), Violation> {
        let broken = |what: String| Err(Violation(format!("partition {partition}: {what}")));
        let mut places: BTreeMap<RecordName, i64> = BTreeMap::new();
        for (offset, name) in &self.log {
            if let Some(first) = places.insert(*name, *offset) {
                return broken(format!("{name} stands at {first} and again at {offset}"));
            }
        }
        let mut last: BTreeMap<usize, (RecordName, i64)> = BTreeMap::new();
        for (name, fate) in &self.sent {
            let place = places.get(name).copied();
            match (fate, place) {
                (None, _) => return broken(format!("{name} was never resolved")),
                (Some(Fate::Acknowledged(told)), Some(found)) if *told != found => {
                    return broken(format!(
                        "{name} was acknowledged at {told} and stands at {found}"
                    ));
                }
                (Some(Fate::Acknowledged(told)), None) => {
                    return broken(format!("{name} was acknowledged at {told} and is lost"));
                }
                (Some(Fate::NotWritten), Some(found)) => {
                    return broken(format!(
                        "{name} failed as not written and stands at {found}"
                    ));
                }
                _ => {}
            }
            let Some(place) = place else { continue };
            if let Some((before, earlier)) = last.insert(name.producer, (*name, place))
                && earlier > place
            {
                return broken(format!("{name} at {place} overtook {before} at {earlier}"));
            }
        }
        for (at, want) in self.log.iter().enumerate() {
            match self.read.get(at) {
                Some(got) if got == want => {}
                got => {
                    return broken(format!(
                        "the consumer's {at}th record is {got:?}, the log has {want:?}"
                    ));
                }
            }
        }
        if self.read.len() > self.log.len() {
            return broken(format!(
                "the consumer got {} records more than the log has",
                self.read.len() - self.log.len()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> RecordName {
        RecordName {
            producer: 0,
            number,
        }
    }

    fn story() -> Partition {
        Partition {
            sent: vec![
                (name(0), Some(Fate::Acknowledged(0))),
                (name(1), Some(Fate::Acknowledged(1))),
            ],
            read: vec![(0, name(0)), (1, name(1))],
            log: vec![(0, name(0)), (1, name(1))],
        }
    }

    #[track_caller]
    fn assert_broken(change: impl FnOnce(&mut Partition), why: &str) {
        let mut story = story();
        change(&mut story);
        let violation = story.check(0).expect_err("a broken promise");
        assert!(violation.0.contains(why), "{violation}");
    }

    #[test]
    fn each_broken_promise_is_seen() {
        assert_eq!(story().check(0), Ok(()));
        assert_broken(|s| s.sent[0].1 = None, "never resolved");
        assert_broken(|s| s.log.push((2, name(0))), "again");
        assert_broken(
            |s| s.sent.push((name(2), Some(Fate::Acknowledged(2)))),
            "lost",
        );
        assert_broken(|s| s.sent[1].1 = Some(Fate::NotWritten), "not written");
        assert_broken(|s| s.sent.swap(0, 1), "overtook");
        assert_broken(|s| s.read.truncate(1), "consumer's 1th");
        assert_broken(|s| s.read.push((1, name(1))), "more than the log");
        assert_broken(
            |s| s.sent[1].1 = Some(Fate::Acknowledged(7)),
            "acknowledged at 7",
        );
    }
}
