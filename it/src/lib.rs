//! Tidewatch's integration tests: launchers for real brokers and for our own binaries, simulation
//! and benches. Nothing here is part of the product.

pub mod commands;
pub mod configuration;
pub mod kafka;
pub mod lines;
pub mod member;
pub mod ports;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod simulation;
pub mod suite;
pub mod wire;
