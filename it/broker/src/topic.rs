//! A topic and its partitions: who leads, who follows, and how far the followers are.

mod config;

pub(crate) use config::{ConfigEntry, ConfigSource, ConfigType, TopicConfig};

use crate::log::Log;
use crate::options::NodeId;
use uuid::Uuid;

/// The longest topic name (Kafka's `Topic.MAX_NAME_LENGTH`).
const MAX_NAME_CHARS: usize = 249;

/// One topic. A topic that was deleted and created again has another id.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) id: Uuid,
    pub(crate) config: TopicConfig,
    pub(crate) partitions: Vec<Partition>,
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, index: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(index).ok()?)
    }
}

/// One partition. There is one copy of its log, the leader's; followers are as far as the high
/// watermark says.
#[derive(Debug, Clone)]
pub(crate) struct Partition {
    pub(crate) replicas: Vec<NodeId>,
    pub(crate) in_sync: Vec<NodeId>,
    pub(crate) leader: Option<NodeId>,
    pub(crate) leader_epoch: i32,
    pub(crate) log: Log,
    /// Followers fetch no further than this; `None` where they keep up.
    replicated_to: Option<i64>,
}

impl Partition {
    /// An empty one, led by its first replica.
    pub(crate) fn new(replicas: Vec<NodeId>, in_sync: Vec<NodeId>) -> Self {
        let mut log = Log::default();
        log.begin_epoch(0);
        Self {
            leader: replicas.iter().find(|node| in_sync.contains(node)).copied(),
            replicas,
            in_sync,
            leader_epoch: 0,
            log,
            replicated_to: None,
        }
    }

    /// Consumers read up to here.
    pub(crate) fn high_watermark(&self) -> i64 {
        let end = self.log.end_offset();
        self.replicated_to.map_or(end, |offset| offset.min(end))
    }

    /// Readers of committed data read up to here.
    pub(crate) fn last_stable_offset(&self) -> i64 {
        let transactions = self.log.transactions();
        transactions.last_stable_offset(self.high_watermark())
    }

    /// Replicas that are not in sync; here that is because their node does not run.
    pub(crate) fn offline(&self) -> Vec<NodeId> {
        let is_offline = |node: &&NodeId| {
            !self.in_sync.contains(node) || (self.leader.is_none() && self.replicas.contains(node))
        };
        self.replicas.iter().filter(is_offline).copied().collect()
    }

    /// Followers stop fetching where they are.
    pub(crate) fn hold_replication(&mut self) {
        self.replicated_to = Some(self.high_watermark());
    }

    /// Followers catch up.
    pub(crate) fn release_replication(&mut self) {
        self.replicated_to = None;
    }

    /// `node` leads from now on, in a new epoch, with a log that ends at `end_offset` at most. A
    /// leader other than the old one has only what was replicated.
    pub(crate) fn elect(&mut self, node: NodeId, end_offset: i64) {
        self.log.truncate(end_offset);
        self.leader = Some(node);
        self.leader_epoch = self.leader_epoch.saturating_add(1);
        self.log.begin_epoch(self.leader_epoch);
        self.replicated_to = None;
        if !self.in_sync.contains(&node) {
            self.in_sync.push(node);
        }
    }

    /// `node` is gone: another in-sync replica leads what it led, or nobody does. The last one in
    /// sync stays in the set, because only it may lead again.
    pub(crate) fn lose_node(&mut self, node: NodeId) {
        let others = |candidate: &&NodeId| **candidate != node;
        let successor = self.in_sync.iter().find(others).copied();
        if self.leader != Some(node) {
            if successor.is_some() {
                self.in_sync.retain(|candidate| *candidate != node);
            }
            return;
        }
        match successor {
            Some(successor) => {
                self.in_sync.retain(|candidate| *candidate != node);
                self.elect(successor, self.high_watermark());
            }
            None => {
                self.leader = None;
                self.leader_epoch = self.leader_epoch.saturating_add(1);
            }
        }
    }
}

/// Whether Kafka would take `name` for a topic.
pub(crate) fn is_valid_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=MAX_NAME_CHARS).contains(&name.len())
        && name != "."
        && name != ".."
        && name.chars().all(legal)
}

/// Whether two names would share a metric name, which Kafka refuses.
pub(crate) fn collides(one: &str, other: &str) -> bool {
    one.replace('.', "_") == other.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_kafka_judges_them() {
        for (name, valid) in [
            ("cpu-monitor", true),
            ("a.b_c-9", true),
            ("", false),
            (".", false),
            ("..", false),
            ("a b", false),
            ("zähler", false),
            (&"x".repeat(249), true),
            (&"x".repeat(250), false),
        ] {
            assert_eq!(is_valid_name(name), valid, "{name:?}");
        }
        assert!(collides("a.b", "a_b"));
        assert!(!collides("a.b", "a-b"));
    }
}
