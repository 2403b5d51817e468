//! What the engine hands out: results, rejects, counts.

use crate::totals::Totals;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidewatch_sample::{Emit, Reason, Samples, Window, WindowResult};

/// One host's result for one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The host.
    pub host: Arc<str>,
    /// The window.
    pub window: Window,
    /// What the mean is made of.
    pub totals: Totals,
    /// How many samples the window should hold; unknown where none carried a tag.
    pub expected: Option<u64>,
    /// Whether the window may still change.
    pub emit: Emit,
}

impl Row {
    /// The record to write. `None` of a row without values, which the engine never hands out.
    pub fn result(&self) -> Option<WindowResult<'_>> {
        Some(WindowResult {
            host: &self.host,
            window: self.window,
            mean: self.totals.mean()?,
            count: self.totals.count(),
            min: self.totals.min()?,
            max: self.totals.max()?,
            samples: Samples {
                seen: self.totals.count(),
                expected: self.expected,
            },
            emit: self.emit,
        })
    }
}

/// A record that was not counted because it could not be read or believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Why.
    pub reason: Reason,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, milliseconds since 1970, or -1.
    pub timestamp_ms: i64,
    /// Its key, or as much of it as is kept.
    pub key: Option<Bytes>,
    /// Its value, or as much of it as is kept.
    pub value: Option<Bytes>,
    /// The key's length where not all of it is kept.
    pub truncated_key_bytes: Option<u64>,
    /// The value's length where not all of it is kept.
    pub truncated_bytes: Option<u64>,
    /// The partition's clock, a timestamp for the copy that a broker takes; `None` before the
    /// first sample.
    pub clock_ms: Option<i64>,
}

/// Where the engine puts what it hands out; taken and cleared by the caller, and used again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Windows that closed. Those closed by one record stand in the order (window, host), and after
    /// those closed by earlier records: the order does not depend on how the input was cut.
    pub rows: Vec<Row>,
    /// Records rejected, in the order in which that was decided.
    pub rejects: Vec<RejectedRecord>,
}

impl Output {
    /// Forgets everything and keeps the room.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.rejects.clear();
    }
}

/// What became of the records read since the engine started, those of an earlier engine that were
/// read again left out. Accepted, late, duplicates and rejected add up to the records read, less
/// the few that are held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Counted in a window.
    pub accepted: u64,
    /// Too late for their window; counted in the running mean alone.
    pub late: u64,
    /// Counted before.
    pub duplicates: u64,
    /// Not counted, by reason.
    pub rejected: BTreeMap<Reason, u64>,
    /// Times that a window was left open although its host is silent, because noting one more such
    /// decision would not fit a commit's metadata.
    pub closings_put_off: u64,
}
