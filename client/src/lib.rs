//! An async Kafka client in pure Rust: an idempotent producer, transactions, consumers by hand and in
//! groups, TLS and SASL, with the guarantees of Kafka's own Java client and no C anywhere.
//!
//! It speaks to brokers from Kafka 2.1 on. Its protocol is a state machine without sockets or clock
//! (`tidewatch-client-core`), held to real brokers and run through simulated faults; this crate gives
//! it both and is what programs use.
//!
//! # Start
//!
//! ```no_run
//! use tidewatch_client::{Client, Event, ProducerRecord, StartAt, options::Options};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut options = Options::default();
//!     options.set("bootstrap.servers", "localhost:9092")?;
//!     let client = Client::spawn(options)?;
//!
//!     let producer = client.producer().await?;
//!     let delivery = producer.send(ProducerRecord::to("readings").key("web-1").value("14.5")).await?;
//!     let written = delivery.await?;
//!     println!("{} at {}", written.partition, written.offset);
//!
//!     let mut consumer = client.consumer().await?;
//!     consumer.assign([("readings", written.partition.partition, StartAt::Earliest)]).await?;
//!     if let Event::Records(mut records) = consumer.next().await? {
//!         while let Some(record) = records.next_ref() {
//!             println!("{:?}", record?.value);
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Programs to copy from; they are in the folder `examples` of this crate, and on one page in
//! [`examples`]:
//!
//! | example | shows |
//! |---|---|
//! | `produce` | sending many records, and what became of each |
//! | `consume_in_a_group` | sharing a topic's partitions, committing before they are given up |
//! | `exactly_once_loop` | reading, working, writing and committing in one transaction |
//! | `error_handling` | what can fail, and whether to wait, send again, skip or stop |
//!
//! # The shape of it
//!
//! A [`Client`] holds the connections and the picture of the cluster; it is cheap to clone, and
//! everything else is made by it.
//!
//! | | made by | for |
//! |---|---|---|
//! | [`Producer`] | [`Client::producer`] | records that stand alone; cheap to clone, used from any thread |
//! | [`TransactionalProducer`] | [`Client::transactional_producer`] | records and offsets that are committed together in a [`Transaction`] |
//! | [`Consumer`] | [`Client::consumer`] | partitions that are [assigned](Consumer::assign) by hand, or by the group after a [subscription](Consumer::subscribe) |
//! | [`Driver`] | [`Client::build`] | running the client on the program's own task |
//!
//! **Sending has two steps.** [`Producer::send`] encodes the record into its partition's batch and
//! returns: it waits only for a topic to become known or for room in `buffer.memory`, never for a
//! broker. The [`Delivery`] that it returns is what becomes of the record. Await it, keep it for later,
//! or drop it.
//!
//! **Reading is a stream of events.** [`Consumer::next`] gives [`Event::Records`], the records of one
//! partition out of one response; [`Event::CaughtUp`], when there is nothing more for now; and
//! [`Event::Rebalance`], when the group gives or takes partitions. [`Fetched::next_ref`] borrows each
//! record from the response, [`Fetched::next_shared`] slices it, and as an iterator it copies.
//! [`Consumer::events`] and [`Consumer::records`] are the same as `Stream`s.
//!
//! **A transaction is a value.** [`TransactionalProducer::begin`] lends it out;
//! [`commit`](Transaction::commit) and [`abort`](Transaction::abort) take it; dropped, it is aborted.
//! The compiler sees to it that there is one at a time. What a consumer has delivered goes into it by
//! [`send_positions`](Transaction::send_positions), and comes again by [`Consumer::rewind`] if it fails.
//!
//! **The client runs on a thread of its own** after [`Client::spawn`], so that heartbeats go on while the
//! program's runtime is busy. With [`Client::build`] nothing is started: the program polls the
//! [`Driver`] itself.
//!
//! # What can be relied on
//!
//! - **No record twice, none out of order**, in its partition, whatever is retried: idempotence is the
//!   default (`enable.idempotence`).
//! - **No doubt kept quiet.** A [`DeliveryError`] says whether the record is
//!   [possibly written](DeliveryError::possibly_written) all the same.
//! - **A position moves only on delivery.** What a reader did not take comes again, and auto-commit never
//!   passes a record that it is still at work on.
//! - **Nothing of a partition is delivered after it was given up.** A [`Revocation`] is an event: until it
//!   is dropped, the group waits, and committing works.
//! - **Futures may be dropped at any moment.** The client stays whole; a request that was under way, such
//!   as a commit, may still happen. [`Producer::send`] dropped before it is ready has sent nothing.
//! - **Everything is bounded:** memory by `buffer.memory` and `fetch.max.buffered.bytes`, waits by the
//!   options whose names end in `timeout.ms` and by `max.block.ms`, retries by the same.
//! - **Nothing that a broker sends** makes the client panic, hang, or take more than a small multiple of
//!   the frame.
//! - **When the last handle is dropped** the thread, the tasks and the sockets end. Records that were not
//!   delivered are lost: [`Producer::flush`] or [`Producer::close`] before. A consumer that is dropped
//!   leaves its group in the background, within five seconds, and commits nothing; [`Consumer::close`]
//!   commits first.
//!
//! [`behaviours`] lists what a Kafka client has to get right, with the tests that hold it.
//!
//! # Errors
//!
//! | | from | says |
//! |---|---|---|
//! | [`SendError`] | [`Producer::send`] | the record was not taken, and why ([`Refused`]) |
//! | [`DeliveryError`] | awaiting a [`Delivery`] | it was taken and not delivered; [`remedy`](DeliveryError::remedy) says what an operator can do |
//! | [`Error`] | everything else | what was being done, to what, why it failed |
//! | [`OptionError`](options::OptionError) | [`Options::set`](options::Options::set) | an unknown name with the nearest known one, a value with its range |
//!
//! The client has tried again by itself, as long as an option allowed, before it tells an error.
//! [`Error::is_retriable`] and [`DeliveryError::is_retriable`] say whether doing the same again can help
//! at all. A certificate, a password or a port that is wrong is a [`SecurityError`], told at once and
//! without a storm of attempts. A consumer's error is of one partition; the others go on.
//!
//! # Configuration
//!
//! By Kafka's names, with Java's defaults: [`Options::set`](options::Options::set) takes the lines of any
//! client's properties file, whose serializers and reporters are ignored with a warning. What is not
//! known or would not be obeyed is refused, with what to do instead. [`configuration`] is the table of
//! every property of Kafka's producer, consumer and admin client.
//!
//! # Features
//!
//! All but the last are on by default.
//!
//! | feature | brings |
//! |---|---|
//! | `tls` | `security.protocol` `SSL` and `SASL_SSL`, on x86_64 and aarch64 |
//! | `gzip`, `snappy`, `lz4`, `zstd` | that codec, for reading and writing |
//! | `zstd-small` | zstd again, 2.6 MB smaller and slower; instead of `zstd` |
//!
//! # What it does not do
//!
//! - The group protocol of KIP-848 and share groups (KIP-932): groups are classic ones.
//! - Subscriptions by pattern: topics are named.
//! - Serialisation, schemas, interceptors: keys and values are bytes.
//! - Administration beyond creating and deleting topics.
//! - Kerberos, whose implementations are in C, and Java's key stores: keys and certificates are PEM.
//! - Metrics: [`Consumer::status`] has positions and lag, and `tracing` tells what the client does.

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

#[cfg(doc)]
#[doc = include_str!("../BEHAVIOURS.md")]
pub mod behaviours {}

#[cfg(doc)]
#[doc = include_str!("../CONFIGURATION.md")]
pub mod configuration {}

#[cfg(doc)]
pub mod examples;

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
