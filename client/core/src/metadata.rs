//! The picture of the cluster: brokers, topics with ids, leaders with epochs.

mod refresh;
mod update;

pub use refresh::MetadataRoom;

use crate::call::{BrokerId, TopicPartition};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;
use uuid::Uuid;

/// A snapshot, never changed once published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's id, once known.
    pub cluster_id: Option<Arc<str>>,
    /// The controller, if there is one.
    pub controller: Option<BrokerId>,
    /// Brokers by id.
    pub brokers: BTreeMap<BrokerId, BrokerAddress>,
    /// Topics by name: those in use, with their errors if they have one.
    pub topics: BTreeMap<Arc<str>, Topic>,
    /// Names by topic id, for Fetch 13 and Produce 13 responses.
    pub names: HashMap<Uuid, Arc<str>>,
}

/// Where a broker listens, as it advertises itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Host name or IP literal.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// For fetching from the nearest replica (KIP-392).
    pub rack: Option<Arc<str>>,
}

/// A topic as the brokers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Nil where the broker is too old to say.
    pub id: Uuid,
    /// Why the brokers would not tell (unknown, not authorised); the code, 0 for none.
    pub error: ErrorCode,
    /// Index is the partition; every partition from 0 on is there.
    pub partitions: Vec<Partition>,
}

/// One partition as the brokers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// `None` while there is no leader.
    pub leader: Option<BrokerId>,
    /// The leader's epoch, -1 where the broker is too old to say.
    pub leader_epoch: i32,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those that have what is committed: `min.insync.replicas` counts them.
    pub in_sync_replicas: Vec<BrokerId>,
}

impl Cluster {
    /// The leader of a partition and its epoch, if there is one now.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(BrokerId, i32)> {
        let entry = self.partition(topic, partition)?;
        Some((entry.leader?, entry.leader_epoch))
    }

    /// Why `partition` has no leader; `None` where it has one, or nothing is known of its topic yet.
    pub(crate) fn why_leaderless(&self, partition: &TopicPartition) -> Option<ErrorCode> {
        let topic = self.topics.get(&partition.topic)?;
        if !topic.error.is_ok() {
            return Some(topic.error);
        }
        match self.partition(&partition.topic, partition.partition) {
            None => Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Some(known) if known.leader.is_none() => Some(ErrorCode::LEADER_NOT_AVAILABLE),
            Some(_) => None,
        }
    }

    /// One partition.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.topics
            .get(topic)?
            .partitions
            .get(usize::try_from(partition).ok()?)
    }

    /// How many partitions `topic` has; `None` while it is not known.
    pub fn partition_count(&self, topic: &str) -> Option<usize> {
        self.topics
            .get(topic)
            .filter(|topic| topic.error.is_ok())
            .map(|topic| topic.partitions.len())
    }

    /// The topic's id; `None` where it is not known or nil.
    pub fn topic_id(&self, topic: &str) -> Option<Uuid> {
        self.topics
            .get(topic)
            .map(|topic| topic.id)
            .filter(|id| !id.is_nil())
    }
}
