//! A Kafka cluster in memory, for tests and for trying things out: frames and time go in, frames
//! come out. It does no input or output and knows no clock, so a simulation can drive it from a
//! seed, and a shell can serve it on ports.
//!
//! ```
//! use tidewatch_broker::{Cluster, NodeId, Now, Options, Output};
//! use tidewatch_protocol::message::{decode_response, encode_request};
//! use tidewatch_protocol::messages::MetadataRequest;
//!
//! let now = Now::default();
//! let mut cluster = Cluster::new(Options::with_nodes(3));
//! cluster.create_topic(now, "cpu-monitor", 4, 3, &[]).unwrap();
//!
//! let connection = cluster.handle_connected(NodeId(2)).unwrap();
//! let request = encode_request(&MetadataRequest::default().with_topics(None), 12, 7, "me").unwrap();
//! cluster.handle_frame(now, connection, request.head.slice(4..));
//! let Some(Output::Send(_, frame)) = cluster.poll_output() else { panic!("no answer") };
//!
//! let response = decode_response::<MetadataRequest>(frame.head.slice(4..), 12);
//! let (correlation_id, metadata) = response.unwrap();
//! assert_eq!((correlation_id, metadata.brokers.len()), (7, 3));
//! assert_eq!(metadata.topics[0].partitions.len(), 4);
//! ```
//!
//! It tells the truth as Apache Kafka 4.3 does: what it cannot do it does not advertise, and where
//! Kafka closes a connection, so does it. What differs: there is one copy of each partition's log,
//! and followers are as far as the high watermark says; consumers are served by leaders only;
//! nothing is ever compacted or trimmed by time; a group that gets another coordinator keeps its
//! members, and a rebalance that was under way begins anew there.
//!
//! [`Cluster::inject`] and its neighbours make it misbehave the way real ones do.

mod api;
mod cluster;
mod connection;
mod control;
mod faults;
mod fetch_sessions;
mod groups;
mod log;
mod now;
mod options;
mod state;
mod topic;
mod transactions;

pub use cluster::{Cluster, Output};
pub use connection::{CloseReason, ConnectionId};
pub use control::{ControlError, PartitionView};
pub use faults::{Effect, FaultId, Match, Times};
pub use groups::Committed;
pub use now::Now;
pub use options::{
    Apis, DEFAULT_RETENTION_BYTES, Endpoint, NodeId, Options, Release, TRANSACTION_VERSION,
};

#[cfg(test)]
mod tests;
