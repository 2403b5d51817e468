//! The broker by its wire: frames and time in, frames out, one file per subject.

mod api_versions;
mod faults;
mod fetch;
mod fetch_sessions;
mod groups;
mod hostile;
mod membership;
mod nodes;
mod offsets;
mod produce;
mod script;
mod topics;
mod transactions;
mod versions;
