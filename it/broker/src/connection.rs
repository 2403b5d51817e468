//! One connection: its requests are served one at a time and in order, as Kafka serves them.

use crate::api::Wait;
use crate::faults::Strike;
use crate::now::Now;
use crate::options::NodeId;
use bytes::Bytes;
use std::collections::VecDeque;
use tidewatch_protocol::frame::Frame;

/// Requests that a client may send ahead of their answers. A shell that stops reading while
/// [`Cluster::is_busy`](crate::Cluster::is_busy) never comes near it.
pub(crate) const MAX_QUEUED_REQUESTS: usize = 1000;
/// Bytes of the same.
pub(crate) const MAX_QUEUED_BYTES: usize = 128 << 20;

/// Names a connection; never used twice by one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What the request in service is doing.
#[derive(Debug)]
pub(crate) enum Progress {
    /// There is none.
    Idle,
    /// Delayed before it is looked at.
    Held {
        until: Now,
        frame: Bytes,
        strike: Strike,
    },
    /// Waiting for data, replicas or time.
    Waiting {
        wait: Wait,
        seen: u64,
        strike: Strike,
    },
    /// Done, its answer delayed.
    Answering { until: Now, frame: Frame },
    /// Nothing is ever answered again.
    Hung,
}

/// A client's connection to one node: the request in service, and those behind it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) node: NodeId,
    pub(crate) progress: Progress,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
}

impl Connection {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node,
            progress: Progress::Idle,
            queue: VecDeque::new(),
            queued_bytes: 0,
        }
    }

    /// `false` where the client sent too much ahead.
    pub(crate) fn push(&mut self, frame: Bytes) -> bool {
        self.queued_bytes = self.queued_bytes.saturating_add(frame.len());
        self.queue.push_back(frame);
        self.queue.len() <= MAX_QUEUED_REQUESTS && self.queued_bytes <= MAX_QUEUED_BYTES
    }

    /// The next request, if none is in service.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if !matches!(self.progress, Progress::Idle) {
            return None;
        }
        let frame = self.queue.pop_front()?;
        self.queued_bytes = self.queued_bytes.saturating_sub(frame.len());
        Some(frame)
    }

    pub(crate) fn is_busy(&self) -> bool {
        !matches!(self.progress, Progress::Idle) || !self.queue.is_empty()
    }

    /// When something happens here at the latest.
    pub(crate) fn deadline(&self) -> Option<Now> {
        match &self.progress {
            Progress::Idle | Progress::Hung => None,
            Progress::Held { until, .. } | Progress::Answering { until, .. } => Some(*until),
            Progress::Waiting { wait, .. } => Some(wait.deadline()),
        }
    }

    /// No request is served any more and what was queued is dropped.
    pub(crate) fn hang(&mut self) {
        self.progress = Progress::Hung;
        self.queue.clear();
        self.queued_bytes = 0;
    }
}

/// Why the cluster closes a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// Bytes that are no request, or one that Kafka refuses by closing.
    #[error("the request was refused: {0}")]
    Refused(String),
    /// More requests ahead of their answers than a connection may have.
    #[error(
        "the client sent more than {MAX_QUEUED_REQUESTS} requests or {MAX_QUEUED_BYTES} bytes ahead"
    )]
    TooFarAhead,
    /// Injected.
    #[error("a fault cut the connection")]
    Cut,
    /// Its node was stopped.
    #[error("the node was stopped")]
    NodeStopped,
}
