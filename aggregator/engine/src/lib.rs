//! Windows, clocks and exact means over samples: batches and time in, rows out.
//!
//! An [`Engine`] takes in one partition's records and hands out each host's windows as they close.
//! Between two calls it can be asked what to commit; another engine goes on from there as if
//! nothing had happened.
//!
//! ```
//! use tidewatch_engine::{Engine, HashSeed, InputRecord, Output, Settings};
//!
//! let sample = |offset, timestamp_ms, value: &'static str| InputRecord {
//!     offset,
//!     timestamp_ms,
//!     key: Some(b"web-1"),
//!     value: Some(value.as_bytes()),
//!     tag: None,
//! };
//! let mut engine = Engine::new(Settings::default(), HashSeed([1, 2]), 0)?;
//! let mut output = Output::default();
//! let records = [sample(0, 2_000, "12.5"), sample(1, 4_000, "13.5"), sample(2, 14_000, "99")];
//! engine.handle_records(&records, &mut output);
//!
//! let row = output.rows[0].result().ok_or("a closed window has values")?;
//! assert_eq!(row.window.to_string(), "0/10000");
//! assert_eq!((row.host, row.encode_value().as_str(), row.count), ("web-1", "13.0", 2));
//!
//! let progress = engine.progress().ok_or("nothing to commit")?;
//! assert_eq!(progress.offset, 2, "the window that 14 s is in is open");
//! let resumed = Engine::resume(Settings::default(), HashSeed([3, 4]), progress.offset, &progress.metadata)?;
//! assert_eq!(resumed.position(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod duplicates;
mod engine;
mod held;
mod host;
mod metadata;
mod number;
mod output;
mod pane;
mod partition_clock;
mod record;
mod running;
mod schedule;
mod settings;
mod sip;
mod totals;

pub use engine::{Engine, Progress, StartError};
pub use metadata::MetadataError;
pub use number::{SCALE, TEXT_MAX_BYTES, Value};
pub use output::{Counters, Output, RejectedRecord, Row};
pub use record::InputRecord;
pub use settings::{Settings, SettingsError};
pub use sip::HashSeed;
pub use totals::Totals;
