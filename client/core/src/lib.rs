//! The whole Kafka client as pure state machines: no sockets, no clock, no randomness of its own.
//!
//! [`client::Client`] is the hall; the rooms around it (metadata, admin, producers, fetch, group)
//! do not know each other and meet through the values of [`call`]. A shell feeds it with `handle_*`
//! and asks it with `poll_*`; time comes in as [`Now`] with every call.

pub mod admin;
pub mod backoff;
pub mod call;
pub mod client;
pub mod error;
pub mod fetch;
pub mod group;
pub mod metadata;
pub mod options;
pub mod producer;
pub mod pulse;
pub mod time;
pub mod token;
pub mod transaction;

mod body;
mod by_topic;
mod connection;
mod router;

pub use time::Now;

#[cfg(test)]
mod tests;
