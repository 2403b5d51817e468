//! The programs of the folder `examples`, to read.
//!
//! # Producing
#![doc = concat!("```rust,ignore\n", include_str!("../examples/produce.rs"), "```")]
//!
//! # Consuming in a group
#![doc = concat!("```rust,ignore\n", include_str!("../examples/consume_in_a_group.rs"), "```")]
//!
//! # Exactly once
#![doc = concat!("```rust,ignore\n", include_str!("../examples/exactly_once_loop.rs"), "```")]
//!
//! # Errors
#![doc = concat!("```rust,ignore\n", include_str!("../examples/error_handling.rs"), "```")]
