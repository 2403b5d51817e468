//! What the cluster knows and stores: nodes, topics, committed offsets. The APIs read and change it.

mod transactions;

use crate::fetch_sessions::FetchSessions;
use crate::groups::{Groups, java_hash};
use crate::options::{Endpoint, NodeId, Options};
use crate::topic::{self, Partition, Topic, TopicConfig};
use crate::transactions::Transactions;
use std::collections::{BTreeMap, BTreeSet};
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use uuid::Uuid;

/// Partitions of all topics together.
pub(crate) const MAX_PARTITIONS: usize = 10_000;

/// Why a topic was not created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

/// A topic to be created, after its defaults were filled in.
#[derive(Debug, Clone)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    pub(crate) assignment: Vec<Vec<NodeId>>,
    pub(crate) config: TopicConfig,
}

/// A node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) endpoint: Endpoint,
    pub(crate) is_running: bool,
    /// The others count on it: until its failover, that of a stopped node too.
    pub(crate) is_registered: bool,
}

/// Everything but connections and faults.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) cluster_id: String,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) groups: Groups,
    pub(crate) transactions: Transactions,
    pub(crate) denied_writes: BTreeSet<String>,
    /// Coordinators that a test chose; the others follow from the hash of their key.
    pub(crate) coordinators: BTreeMap<String, NodeId>,
    names_by_id: BTreeMap<Uuid, String>,
    fetch_sessions: BTreeMap<NodeId, FetchSessions>,
    rng: fastrand::Rng,
    next_producer_id: i64,
    /// Rises with every change that a waiting request may have waited for.
    revision: u64,
}

impl State {
    pub(crate) fn new(options: Options) -> Self {
        let mut rng = fastrand::Rng::with_seed(options.seed);
        let nodes = options
            .nodes
            .iter()
            .map(|endpoint| {
                let endpoint = endpoint.clone();
                (
                    endpoint.node,
                    Node {
                        endpoint,
                        is_running: true,
                        is_registered: true,
                    },
                )
            })
            .collect();
        Self {
            cluster_id: cluster_id(&mut rng),
            nodes,
            topics: BTreeMap::new(),
            groups: Groups::new(options.group_initial_rebalance_delay_ms),
            transactions: Transactions::new(options.transaction_marker_delay_us),
            denied_writes: BTreeSet::new(),
            coordinators: BTreeMap::new(),
            names_by_id: BTreeMap::new(),
            fetch_sessions: BTreeMap::new(),
            next_producer_id: rng.i64(1000..1_000_000),
            rng,
            revision: 0,
            options,
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Something changed that a waiting request may have waited for.
    pub(crate) fn touch(&mut self) {
        self.revision = self.revision.wrapping_add(1);
    }

    pub(crate) fn next_producer_id(&mut self) -> i64 {
        let id = self.next_producer_id;
        self.next_producer_id = id.wrapping_add(1).max(0);
        id
    }

    /// The fetch sessions of one node.
    pub(crate) fn fetch_sessions(&mut self, node: NodeId) -> &mut FetchSessions {
        let options = &self.options;
        self.fetch_sessions.entry(node).or_insert_with(|| {
            let seed = options.seed.wrapping_add(u64::from(node.0.unsigned_abs()));
            FetchSessions::new(options.fetch_session_slots, seed)
        })
    }

    /// A node that stops remembers nothing of them.
    pub(crate) fn forget_fetch_sessions(&mut self, node: NodeId) {
        if let Some(sessions) = self.fetch_sessions.get_mut(&node) {
            sessions.forget_all();
        }
    }

    /// The nodes that Metadata lists.
    pub(crate) fn brokers(&self) -> impl Iterator<Item = &Endpoint> {
        self.nodes
            .values()
            .filter(|node| node.is_registered)
            .map(|node| &node.endpoint)
    }

    pub(crate) fn is_running(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.is_running)
    }

    /// The node that coordinates a group or a transactional id: chosen by a test, or by the hash of its name.
    pub(crate) fn coordinator(&self, key: &str) -> Option<NodeId> {
        if let Some(node) = self.coordinators.get(key)
            && self.brokers().any(|broker| broker.node == *node)
        {
            return Some(*node);
        }
        let brokers: Vec<NodeId> = self.brokers().map(|endpoint| endpoint.node).collect();
        let slot = java_hash(key).unsigned_abs() as usize;
        slot.checked_rem(brokers.len())
            .and_then(|index| brokers.get(index))
            .copied()
    }

    /// Refuses what only the coordinator of `group` may answer.
    pub(crate) fn check_coordinator(&self, node: NodeId, group: &str) -> Result<(), ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        match self.coordinator(group) == Some(node) {
            true => Ok(()),
            false => Err(ErrorCode::NOT_COORDINATOR),
        }
    }

    /// An id for a member, as Kafka makes them.
    pub(crate) fn new_member_id(&mut self, prefix: &str) -> String {
        let id = uuid::Builder::from_random_bytes(self.rng.u128(..).to_be_bytes());
        format!("{prefix}-{}", id.into_uuid())
    }

    /// The broker with the lowest id plays the controller.
    pub(crate) fn controller(&self) -> i32 {
        self.brokers().next().map_or(-1, |endpoint| endpoint.node.0)
    }

    pub(crate) fn name_of(&self, id: Uuid) -> Option<&str> {
        self.names_by_id.get(&id).map(String::as_str)
    }

    /// The topic that a request means: by id where its version has ids, by name where it has names.
    pub(crate) fn resolve(&self, by_id: bool, id: Uuid, name: &str) -> Result<String, ErrorCode> {
        if by_id {
            self.name_of(id)
                .map(str::to_owned)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
        } else if self.topics.contains_key(name) {
            Ok(name.to_owned())
        } else {
            Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        }
    }

    pub(crate) fn partition(&self, topic: &str, index: i32) -> Result<&Partition, ErrorCode> {
        self.topics
            .get(topic)
            .and_then(|topic| topic.partition(index))
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }

    pub(crate) fn partition_mut(
        &mut self,
        topic: &str,
        index: i32,
    ) -> Result<&mut Partition, ErrorCode> {
        self.topics
            .get_mut(topic)
            .and_then(|topic| topic.partition_mut(index))
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }

    /// The partition, if `node` leads it and the client's leader epoch (-1 where it has none) is the
    /// present one. A node that holds no replica knows no epochs, so it only says that it does not
    /// lead (Kafka's `Partition.localLogWithEpochOrThrow`).
    pub(crate) fn led_by(
        &self,
        node: NodeId,
        topic: &str,
        index: i32,
        client_epoch: i32,
    ) -> Result<&Partition, ErrorCode> {
        let partition = self.partition(topic, index)?;
        if !partition.replicas.contains(&node) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        if client_epoch >= 0 && client_epoch < partition.leader_epoch {
            return Err(ErrorCode::FENCED_LEADER_EPOCH);
        }
        if client_epoch > partition.leader_epoch {
            return Err(ErrorCode::UNKNOWN_LEADER_EPOCH);
        }
        if partition.leader == Some(node) {
            Ok(partition)
        } else {
            Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)
        }
    }

    /// Replicas for `partitions` partitions, going round the brokers.
    pub(crate) fn assign(&self, partitions: usize, factor: usize) -> Vec<Vec<NodeId>> {
        let brokers: Vec<NodeId> = self.brokers().map(|endpoint| endpoint.node).collect();
        (0..partitions)
            .map(|first| brokers.iter().cycle().skip(first % brokers.len().max(1)))
            .map(|replicas| replicas.take(factor.min(brokers.len())).copied().collect())
            .collect()
    }

    pub(crate) fn partition_count(&self) -> usize {
        self.topics
            .values()
            .map(|topic| topic.partitions.len())
            .sum()
    }

    /// A topic configuration over this cluster's defaults.
    pub(crate) fn topic_config<'a>(
        &self,
        set: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<TopicConfig, Refused> {
        let defaults = self
            .options
            .topic_defaults
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        TopicConfig::parse(set, defaults).map_err(|message| Refused {
            code: ErrorCode::INVALID_CONFIG,
            message,
        })
    }

    /// Whether a topic of that name could be created.
    pub(crate) fn check_new_name(&self, name: &str) -> Result<(), Refused> {
        let refused = |code, message: String| Err(Refused { code, message });
        if !topic::is_valid_name(name) {
            let message = format!("Topic name is invalid: {name:?}");
            return refused(ErrorCode::INVALID_TOPIC_EXCEPTION, message);
        }
        if self.topics.contains_key(name) {
            let message = format!("Topic '{name}' already exists.");
            return refused(ErrorCode::TOPIC_ALREADY_EXISTS, message);
        }
        if let Some(other) = self
            .topics
            .keys()
            .find(|other| topic::collides(other, name))
        {
            let message = format!("Topic '{name}' collides with existing topic: {other}");
            return refused(ErrorCode::INVALID_TOPIC_EXCEPTION, message);
        }
        Ok(())
    }

    pub(crate) fn check_room_for(&self, partitions: usize) -> Result<(), Refused> {
        if self.partition_count().saturating_add(partitions) <= MAX_PARTITIONS {
            return Ok(());
        }
        let message = format!("The cluster would hold more than {MAX_PARTITIONS} partitions");
        Err(Refused {
            code: ErrorCode::POLICY_VIOLATION,
            message,
        })
    }

    /// Creates a topic that was checked, and returns its id.
    pub(crate) fn create_topic(&mut self, new: NewTopic) -> Uuid {
        let id = self.new_topic_id();
        let partitions = new
            .assignment
            .into_iter()
            .map(|replicas| {
                let running = replicas.iter().filter(|node| self.is_running(**node));
                let in_sync = running.copied().collect();
                Partition::new(replicas, in_sync)
            })
            .collect();
        self.names_by_id.insert(id, new.name.clone());
        self.topics.insert(
            new.name,
            Topic {
                id,
                config: new.config,
                partitions,
            },
        );
        self.touch();
        id
    }

    pub(crate) fn delete_topic(&mut self, name: &str) -> Option<Uuid> {
        let topic = self.topics.remove(name)?;
        self.names_by_id.remove(&topic.id);
        self.groups.forget_topic(name);
        self.touch();
        Some(topic.id)
    }

    /// Kafka never hands out the two reserved ids, nor one whose text begins with a dash.
    fn new_topic_id(&mut self) -> Uuid {
        loop {
            let id = Uuid::from_u128(self.rng.u128(2..));
            let begins_with_dash = id.as_bytes().first().is_some_and(|byte| byte >> 2 == 62);
            if !begins_with_dash && !self.names_by_id.contains_key(&id) {
                return id;
            }
        }
    }
}

/// 22 characters of base64url, as Kafka's own.
fn cluster_id(rng: &mut fastrand::Rng) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..21)
        .filter_map(|_| rng.choice(ALPHABET))
        .map(|byte| char::from(*byte))
        .chain(['Q'])
        .collect()
}

/// A string for the wire.
pub(crate) fn wire(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
