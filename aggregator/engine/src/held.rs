//! Samples whose time is too far ahead to believe, kept until others confirm or refute them.

use crate::number::Value;
use tidewatch_sample::SampleTag;

/// Samples held at once; beyond, the oldest is rejected.
pub(crate) const HELD_MAX: usize = 16;

/// A host that stands beyond the bound this often in a row is believed: it alone was away.
const IN_A_ROW: usize = 3;

/// So many hosts beyond the bound are believed: they were away together.
const HOSTS: usize = 3;

/// Offsets after which what is still held is rejected, whatever the clock shows: a held sample
/// keeps the committed offset back.
const OFFSETS_MAX: i64 = 65_536;

/// A sample as read, with what a reject would have to show of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldSample {
    pub(crate) offset: i64,
    pub(crate) time_ms: i64,
    pub(crate) host: Box<str>,
    pub(crate) value: Value,
    pub(crate) text: Box<[u8]>,
    pub(crate) tag: Option<SampleTag>,
}

/// The samples held, in the order of their offsets.
#[derive(Debug, Default)]
pub(crate) struct Held {
    samples: Vec<HeldSample>,
    /// The partition clock and the offset when the first of them came.
    since: (i64, i64),
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    pub(crate) fn push(&mut self, sample: HeldSample, now_ms: i64) {
        if self.samples.is_empty() {
            self.since = (now_ms, sample.offset);
        }
        self.samples.push(sample);
    }

    /// Takes out the first that `wanted` picks.
    pub(crate) fn take_first(
        &mut self,
        wanted: impl FnMut(&HeldSample) -> bool,
    ) -> Option<HeldSample> {
        let at = self.samples.iter().position(wanted)?;
        Some(self.samples.remove(at))
    }

    /// Takes out the one with the least time, the first of them.
    pub(crate) fn take_least(&mut self) -> Option<HeldSample> {
        let least_ms = self.samples.iter().map(|held| held.time_ms).min()?;
        self.take_first(|held| held.time_ms == least_ms)
    }

    /// Takes out those that `wanted` picks.
    pub(crate) fn take(&mut self, wanted: impl Fn(&HeldSample) -> bool) -> Vec<HeldSample> {
        self.samples.extract_if(.., |held| wanted(held)).collect()
    }

    /// Takes out those that enough others agree with.
    pub(crate) fn take_believed(&mut self) -> Vec<HeldSample> {
        let same_host = |host: &str| {
            self.samples
                .iter()
                .filter(|held| *held.host == *host)
                .count()
        };
        let first_of_host = |at: &usize| {
            let host = self.samples.get(*at).map(|held| &held.host);
            self.samples
                .iter()
                .position(|held| Some(&held.host) == host)
                == Some(*at)
        };
        if (0..self.samples.len()).filter(first_of_host).count() >= HOSTS {
            return std::mem::take(&mut self.samples);
        }
        let in_a_row = self
            .samples
            .iter()
            .find(|held| same_host(&held.host) >= IN_A_ROW);
        match in_a_row.map(|held| held.host.clone()) {
            Some(host) => self.take(|held| held.host == host),
            None => Vec::new(),
        }
    }

    /// Takes out what has no room, or all once the partition has moved on without them.
    pub(crate) fn take_refuted(
        &mut self,
        now_ms: i64,
        offset: i64,
        max_future_ms: i64,
    ) -> Vec<HeldSample> {
        let (since_ms, since_offset) = self.since;
        let moved_on = now_ms.saturating_sub(since_ms) > max_future_ms
            || offset.saturating_sub(since_offset) > OFFSETS_MAX;
        if moved_on {
            return std::mem::take(&mut self.samples);
        }
        let excess = self.samples.len().saturating_sub(HELD_MAX);
        self.samples.drain(..excess).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(samples: &[(&str, i64)]) -> Held {
        let mut held = Held::default();
        for (offset, &(host, time_ms)) in (0..).zip(samples) {
            let sample = HeldSample {
                offset,
                time_ms,
                host: host.into(),
                value: Value::whole(1),
                text: b"1".as_slice().into(),
                tag: None,
            };
            held.push(sample, 0);
        }
        held
    }

    fn offsets(samples: &[HeldSample]) -> Vec<i64> {
        samples.iter().map(|held| held.offset).collect()
    }

    #[test]
    fn a_host_is_believed_at_its_third_sample() {
        assert!(
            held(&[("a", 1), ("b", 1), ("a", 2)])
                .take_believed()
                .is_empty()
        );
        let mut three = held(&[("a", 1), ("b", 1), ("a", 2), ("a", 3)]);
        assert_eq!(offsets(&three.take_believed()), [0, 2, 3]);
        assert!(!three.is_empty(), "b's is still held");
    }

    #[test]
    fn three_hosts_are_believed_together() {
        let mut three = held(&[("a", 1), ("a", 2), ("b", 1), ("c", 9)]);
        assert_eq!(offsets(&three.take_believed()), [0, 1, 2, 3]);
    }

    #[test]
    fn the_seventeenth_puts_out_the_first() {
        let mut many = held(&[("a", 1); HELD_MAX + 1]);
        assert_eq!(offsets(&many.take_refuted(0, 17, 100)), [0]);
        assert!(many.take_refuted(0, 17, 100).is_empty());
    }

    #[test]
    fn all_are_refuted_once_the_partition_has_moved_on() {
        let few = || held(&[("a", 1), ("b", 1)]);
        assert!(few().take_refuted(100, OFFSETS_MAX, 100).is_empty());
        assert_eq!(few().take_refuted(101, 1, 100).len(), 2);
        assert_eq!(few().take_refuted(0, OFFSETS_MAX + 1, 100).len(), 2);
    }

    #[test]
    fn the_least_time_goes_first() {
        let mut three = held(&[("a", 5), ("b", 3), ("c", 3)]);
        assert_eq!(three.take_least().map(|held| held.offset), Some(1));
    }
}
