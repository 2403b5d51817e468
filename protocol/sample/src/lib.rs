//! How a Tidewatch sample and a result are written into a Kafka record and read back.
//!
//! A sample is one reading of one metric of one host. The tutorial that Tidewatch replaces can
//! read it, because everything beyond its record stands in a header:
//!
//! ```
//! use std::num::NonZeroU32;
//! use tidewatch_sample::{Metric, Number, RunId, Sample, SampleTag, TAG_HEADER};
//!
//! let tag = SampleTag {
//!     run: RunId(0x9f3c_2a7e_41d0_b865),
//!     sequence: 4711,
//!     interval_ms: NonZeroU32::new(2000).ok_or("zero")?,
//! };
//! let value = Number::new(14.163090128755364).ok_or("not finite")?.to_string();
//! assert_eq!(Metric::Cpu.topic(), "cpu-monitor");
//! assert_eq!(tag.to_string(), "9f3c2a7e41d0b865.4711.2000");
//!
//! // Reading: `header` finds a record's last header of a name, as Kafka's `lastHeader` does.
//! let header = |name: &str| (name == TAG_HEADER).then(|| Some(tag.to_string().into()));
//! let read = Sample::parse(Some(b"web-1"), Some(value.as_bytes()), 1_700_000_000_000, header)?;
//! assert_eq!((read.host, read.value, read.tag), ("web-1", value.as_bytes(), Some(tag)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod header;
mod host;
mod number;
mod reject;
mod result;
mod sample;
mod tag;
mod topic;

pub use header::{EncodedHeader, HeaderError};
pub use host::{HOST_MAX_BYTES, HostError, parse_host};
pub use number::{Number, NumberError};
pub use reject::{REJECT_KEY_MAX_BYTES, REJECT_VALUE_MAX_BYTES, Reason, Reject, RejectError};
pub use result::{Emit, Samples, Window, WindowResult, WindowResultError};
pub use sample::{NO_TIMESTAMP, Sample, SampleError};
pub use tag::{RunId, SampleTag, TAG_HEADER, TagError};
pub use topic::{Metric, late_topic, rejected_topic, results_topic};
