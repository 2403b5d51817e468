//! What a cluster is made from: its nodes, its defaults, and the Kafka that it poses as.

mod release;

pub use release::{Apis, Release};

use std::collections::BTreeMap;
use std::fmt;

/// A broker's id within the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub i32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// One node and the address that Metadata gives for it, right or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The node.
    pub node: NodeId,
    /// Host name or address literal, as clients are told.
    pub host: String,
    /// Port, as clients are told.
    pub port: u16,
}

/// What a cluster is made from. The defaults are Kafka's but for retention, which is bounded.
#[derive(Debug, Clone)]
pub struct Options {
    /// At least one node, each id once.
    pub nodes: Vec<Endpoint>,
    /// Topic ids, the cluster id and producer ids come from it.
    pub seed: u64,
    /// Which versions of which APIs are advertised and served.
    pub apis: Apis,
    /// Finalised features by name, for ApiVersions; level 0 is left out, as Kafka does.
    pub features: BTreeMap<String, i16>,
    /// `auto.create.topics.enable`; a client must ask for it as well (KIP-361).
    pub auto_create_topics: bool,
    /// `num.partitions`.
    pub default_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// Topic configuration that applies where a topic sets nothing, by Kafka's names for topics
    /// (`max.message.bytes` for the broker's `message.max.bytes`). One that Kafka would refuse makes
    /// every CreateTopics fail with INVALID_CONFIG.
    pub topic_defaults: BTreeMap<String, String>,
    /// A partition that holds more refuses writes with KAFKA_STORAGE_ERROR: what bounds the memory
    /// of topics that are never trimmed.
    pub max_log_bytes: usize,
    /// `max.incremental.fetch.session.cache.slots`: fetch sessions that a node keeps (KIP-227).
    pub fetch_session_slots: usize,
    /// `group.initial.rebalance.delay.ms`: how long the first member of a group waits for more.
    pub group_initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`; the longest is Kafka's 30 minutes.
    pub group_min_session_timeout_ms: i32,
    /// How long after a transaction's end is decided its markers are written.
    pub transaction_marker_delay_us: u64,
    /// How long after a node stops its partitions get other leaders.
    pub failover_us: u64,
}

/// The feature that decides how transactions are spoken (KIP-890): 1 or 2.
pub const TRANSACTION_VERSION: &str = "transaction.version";
/// `retention.bytes` where nobody sets it: a long demonstration must not grow.
pub const DEFAULT_RETENTION_BYTES: u32 = 64 << 20;
const DEFAULT_MAX_LOG_BYTES: usize = 256 << 20;

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: vec![Endpoint {
                node: NodeId(1),
                host: "127.0.0.1".to_owned(),
                port: 9092,
            }],
            seed: 0,
            apis: Apis::of(Release::V4_3),
            features: BTreeMap::from([(TRANSACTION_VERSION.to_owned(), 2)]),
            auto_create_topics: true,
            default_partitions: 1,
            default_replication_factor: 1,
            topic_defaults: BTreeMap::from([(
                "retention.bytes".to_owned(),
                DEFAULT_RETENTION_BYTES.to_string(),
            )]),
            max_log_bytes: DEFAULT_MAX_LOG_BYTES,
            fetch_session_slots: 1000,
            group_initial_rebalance_delay_ms: 3000,
            group_min_session_timeout_ms: 6000,
            transaction_marker_delay_us: 0,
            failover_us: 0,
        }
    }
}

impl Options {
    /// The defaults with nodes 1 to `count` on consecutive ports from 9092.
    #[must_use]
    pub fn with_nodes(count: u8) -> Self {
        let nodes = (1..=i32::from(count).max(1))
            .zip(9092..)
            .map(|(id, port)| Endpoint {
                node: NodeId(id),
                host: "127.0.0.1".to_owned(),
                port,
            })
            .collect();
        Self {
            nodes,
            ..Self::default()
        }
    }
}
