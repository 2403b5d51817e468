//! Committed offsets, and which node coordinates a group.

use std::collections::BTreeMap;

/// Offsets kept for all groups together; commits beyond it are refused.
pub(crate) const MAX_COMMITTED_OFFSETS: usize = 100_000;
/// Kafka's `offset.metadata.max.bytes`.
pub(crate) const MAX_METADATA_BYTES: usize = 4096;

/// What was committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// Epoch of the last record read, -1 where the client did not say.
    pub leader_epoch: i32,
    /// The client's own words; empty where it gave none.
    pub metadata: String,
}

/// The offsets of one group by topic and partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) offsets: BTreeMap<String, BTreeMap<i32, Committed>>,
}

/// All groups. A group exists from its first commit on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups {
    pub(crate) by_id: BTreeMap<String, Group>,
    count: usize,
}

impl Groups {
    /// Keeps `committed`; `false` where there is no room for another.
    pub(crate) fn commit(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        committed: Committed,
    ) -> bool {
        let known = self.committed(group, topic, partition).is_some();
        if !known && self.count >= MAX_COMMITTED_OFFSETS {
            return false;
        }
        let offsets = &mut self.by_id.entry(group.to_owned()).or_default().offsets;
        offsets
            .entry(topic.to_owned())
            .or_default()
            .insert(partition, committed);
        if !known {
            self.count = self.count.saturating_add(1);
        }
        true
    }

    pub(crate) fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.by_id.get(group)?.offsets.get(topic)?.get(&partition)
    }

    /// Kafka drops the offsets of a deleted topic.
    pub(crate) fn forget_topic(&mut self, topic: &str) {
        for group in self.by_id.values_mut() {
            if let Some(offsets) = group.offsets.remove(topic) {
                self.count = self.count.saturating_sub(offsets.len());
            }
        }
    }
}

/// Java's `String.hashCode`, by which Kafka spreads groups over coordinators.
pub(crate) fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Committed {
        Committed {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        }
    }

    #[test]
    fn the_hash_is_javas() {
        for (text, hash) in [
            ("", 0),
            ("a", 97),
            ("tidewatch", 660_673_753),
            ("grüße", 98_768_023),
        ] {
            assert_eq!(java_hash(text), hash, "{text:?}");
        }
    }

    #[test]
    fn offsets_are_bounded_and_known_ones_can_still_be_moved() {
        let mut groups = Groups::default();
        for partition in 0..i32::try_from(MAX_COMMITTED_OFFSETS).unwrap() {
            assert!(groups.commit("g", "t", partition, at(1)));
        }
        assert!(!groups.commit("h", "t", 0, at(1)));
        assert!(groups.commit("g", "t", 0, at(2)));

        groups.forget_topic("t");
        assert!(groups.commit("h", "t", 0, at(1)));
    }
}
