//! Groups: their members and committed offsets, and which node coordinates them.

mod classic;
mod member;

pub(crate) use classic::{ClassicGroup, JoinRefused, JoinStep, Knock, Phase, SyncStep};
pub(crate) use member::{Joined, Joining, Member, Ticket};

use crate::now::Now;
use crate::options::NodeId;
use std::collections::BTreeMap;

/// Offsets kept for all groups together; commits beyond it are refused.
pub(crate) const MAX_COMMITTED_OFFSETS: usize = 100_000;
/// Groups; those without members and offsets make room for others, else more are refused.
pub(crate) const MAX_GROUPS: usize = 1000;
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

/// One group: its members, and its offsets by topic and partition.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) classic: ClassicGroup,
    pub(crate) offsets: BTreeMap<String, BTreeMap<i32, Committed>>,
    /// Who had it when its members were last heard of.
    coordinator: Option<NodeId>,
}

/// All groups. A group exists from its first commit or its first member on.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    pub(crate) by_id: BTreeMap<String, Group>,
    count: usize,
    initial_delay_ms: i32,
}

impl Groups {
    /// None yet. The first members of each wait `initial_delay_ms` for more.
    pub(crate) fn new(initial_delay_ms: i32) -> Self {
        Self {
            by_id: BTreeMap::new(),
            count: 0,
            initial_delay_ms,
        }
    }

    /// The members of `group` as `node`, its coordinator, knows them; `None` where there is no such
    /// group.
    pub(crate) fn classic(
        &mut self,
        now: Now,
        node: NodeId,
        group: &str,
    ) -> Option<&mut ClassicGroup> {
        let group = self.by_id.get_mut(group)?;
        if group
            .coordinator
            .replace(node)
            .is_some_and(|old| old != node)
        {
            group.classic.move_over(now);
        }
        Some(&mut group.classic)
    }

    /// The same for whoever joins: the group is there from now on. `None` where there is no room.
    pub(crate) fn classic_or_new(
        &mut self,
        now: Now,
        node: NodeId,
        group: &str,
    ) -> Option<&mut ClassicGroup> {
        if !self.by_id.contains_key(group) && self.by_id.len() >= MAX_GROUPS {
            self.by_id
                .retain(|_, group| !group.classic.is_deserted() || !group.offsets.is_empty());
            if self.by_id.len() >= MAX_GROUPS {
                return None;
            }
        }
        self.group_or_new(group);
        self.classic(now, node, group)
    }

    fn group_or_new(&mut self, group: &str) -> &mut Group {
        let initial_delay_ms = self.initial_delay_ms;
        self.by_id.entry(group.to_owned()).or_insert_with(|| Group {
            classic: ClassicGroup::new(initial_delay_ms),
            offsets: BTreeMap::new(),
            coordinator: None,
        })
    }

    /// Ends sessions and waits that are over; whether anything changed.
    pub(crate) fn handle_time(&mut self, now: Now) -> bool {
        let groups = self.by_id.values_mut();
        groups.fold(false, |changed, group| {
            group.classic.handle_time(now) | changed
        })
    }

    /// When [`handle_time`](Self::handle_time) has something to do at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        let timeouts = self
            .by_id
            .values()
            .filter_map(|group| group.classic.poll_timeout());
        timeouts.min_by_key(|at| at.monotonic_us)
    }

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
        self.group_or_new(group)
            .offsets
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
        let mut groups = Groups::new(0);
        for partition in 0..i32::try_from(MAX_COMMITTED_OFFSETS).unwrap() {
            assert!(groups.commit("g", "t", partition, at(1)));
        }
        assert!(!groups.commit("h", "t", 0, at(1)));
        assert!(groups.commit("g", "t", 0, at(2)));

        groups.forget_topic("t");
        assert!(groups.commit("h", "t", 0, at(1)));
    }
}
