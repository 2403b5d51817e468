//! An async Kafka client in pure Rust.
//!
//! ```no_run
//! use tidewatch_client::{Client, Event, NewTopic, StartAt, options::Options};
//!
//! # async fn first_page() -> Result<(), tidewatch_client::Error> {
//! let mut options = Options::default();
//! options.set("bootstrap.servers", "localhost:9092")?;
//! options.set("group.id", "readers")?;
//! let client = Client::spawn(options)?;
//! client.create_topics(vec![NewTopic::new("cpu-monitor", 1)]).await?;
//!
//! let mut consumer = client.consumer().await?;
//! consumer.assign([("cpu-monitor", 0, StartAt::Committed)]).await?;
//! if let Event::Records(mut records) = consumer.next().await? {
//!     while let Some(record) = records.next_ref() {
//!         println!("{:?}", record?.value);
//!     }
//!     consumer.commit_positions().await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The protocol's logic is in `tidewatch-client-core`, without sockets or clock; this crate gives it
//! both. Futures of this crate can be dropped at any moment; what they asked for may still happen.

mod client;
mod clock;
mod connection;
mod consumer;
mod driver;
mod handle;
mod producer;
mod token;
mod transaction;
mod transport;
mod wake;

pub use client::{Client, TopicResults};
pub use consumer::{Consumer, ConsumerRecord, Events, OffsetAndTimestamp, Records, StartAt};
pub use driver::Driver;
pub use producer::{Producer, ProducerRecord, SendError};
pub use tidewatch_client_core::admin::NewTopic;
pub use tidewatch_client_core::call::{
    BrokerId, GroupMetadata, OffsetAndMetadata, TopicPartition, TransactionEnd,
};
pub use tidewatch_client_core::error::{CallError, CallErrorKind, Error, SecurityError};
pub use tidewatch_client_core::fetch::inbox::{
    CaughtUp, Event, PartitionStatus, Rebalance, Revocation, Watermarks,
};
pub use tidewatch_client_core::fetch::records::Fetched;
pub use tidewatch_client_core::group::assignor;
pub use tidewatch_client_core::group::subscription::{Assignment, Subscription};
pub use tidewatch_client_core::metadata::{Cluster, Partition, Topic};
pub use tidewatch_client_core::options;
pub use tidewatch_client_core::producer::accumulator::Refused;
pub use tidewatch_client_core::producer::delivery::{
    Delivery, DeliveryCause, DeliveryError, RecordMetadata,
};
pub use tidewatch_client_core::producer::partitioner::Partitioner;
pub use tidewatch_client_core::token::{Token, TokenError};
pub use tidewatch_protocol::compression::Compression;
pub use tidewatch_protocol::error_code::ErrorCode;
pub use tidewatch_protocol::records::{Header, Headers, HeadersRef, Record, RecordRef};
pub use token::{BoxFuture, TokenProvider};
pub use transaction::{Transaction, TransactionalProducer};
