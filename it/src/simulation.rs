//! The pure client against the pure broker, in simulated time and over a simulated network, with
//! faults at every step. One seed decides everything; the same seed gives the same run.

pub mod check;
pub mod client;
pub mod delivery;
pub mod exactly_once;
pub mod faults;
pub mod groups;
pub mod network;
pub mod plan;
mod play;
mod records;
mod stage;
pub mod suite;
pub mod transactions;
mod transactor;
mod trial;

pub use suite::Suite;
