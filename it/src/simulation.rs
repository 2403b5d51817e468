//! The pure client against the pure broker, in simulated time and over a simulated network, with
//! faults at every step. One seed decides everything; the same seed gives the same run.

pub mod check;
pub mod client;
pub mod faults;
pub mod groups;
pub mod network;
mod stage;
pub mod transactions;
pub mod trial;
pub mod world;

pub use check::Violation;
pub use faults::{Counts, Kind};
pub use trial::{Failure, Plan};
pub use world::{Report, run};
