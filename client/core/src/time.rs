//! Time as a value, so that a simulation can make it.

/// A moment as the shell reads it: one clock that only goes forward, and the wall's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Now {
    /// Microseconds on a clock that never goes back. Every deadline is on this one.
    pub monotonic_us: u64,
    /// Milliseconds since the Unix epoch; only for record timestamps.
    pub wall_ms: i64,
}

/// Time that is read only where it is needed: reading a clock costs more than encoding a record.
pub trait ReadTime {
    /// As [`Now::monotonic_us`].
    fn monotonic_us(&self) -> u64;
    /// As [`Now::wall_ms`]; may lag by some milliseconds.
    fn wall_ms(&self) -> i64;
}

impl ReadTime for Now {
    fn monotonic_us(&self) -> u64 {
        self.monotonic_us
    }

    fn wall_ms(&self) -> i64 {
        self.wall_ms
    }
}

/// Why a timer runs; printed when someone asks what the client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A connection attempt takes too long.
    Connect,
    /// A connection may be tried again.
    Reconnect,
    /// A request's response is overdue.
    Request,
    /// A call waits too long for a route.
    Route,
    /// A call that any broker may answer goes to another one too.
    Hedge,
    /// A broker asked us to be slower (`throttle_time_ms`).
    Throttle,
    /// An idle connection is closed.
    Idle,
    /// The picture of the cluster grows old.
    MetadataAge,
    /// A room tries again.
    Retry,
    /// A member of a group shows that it is alive.
    Heartbeat,
    /// A consumer's reader has not come for `max.poll.interval.ms`.
    MaxPollInterval,
    /// What was delivered is committed.
    AutoCommit,
    /// An open batch has lingered long enough.
    Linger,
    /// A batch's delivery timeout.
    Delivery,
}
