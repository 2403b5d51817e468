//! The cluster as its driver sees it: frames and time go in, frames come out.

use crate::api::{self, Call, Served};
use crate::connection::{CloseReason, Connection, ConnectionId, Progress};
use crate::faults::{Break, Faults, Strike};
use crate::now::Now;
use crate::options::{NodeId, Options};
use crate::state::State;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use tidewatch_protocol::frame::Frame;
use tidewatch_protocol::header::decode_request_header;
use tidewatch_protocol::messages::ApiKey;

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a response.
    Send(ConnectionId, Frame),
    /// Close the connection; it is forgotten here.
    Close(ConnectionId, CloseReason),
}

/// A cluster of brokers in memory. Whatever happens is told by a `handle_` method; afterwards
/// [`poll_output`](Self::poll_output) is called until it gives nothing, and
/// [`poll_timeout`](Self::poll_timeout) tells when to call
/// [`handle_timeout`](Self::handle_timeout) if nothing else happens before.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) state: State,
    pub(crate) faults: Faults,
    pub(crate) failovers: Vec<(Now, NodeId)>,
    connections: BTreeMap<ConnectionId, Connection>,
    outputs: VecDeque<Output>,
    next_connection: u64,
}

impl Cluster {
    /// All nodes running, no topics.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            state: State::new(options),
            faults: Faults::default(),
            failovers: Vec::new(),
            connections: BTreeMap::new(),
            outputs: VecDeque::new(),
            next_connection: 0,
        }
    }

    /// A client connected to `node`; `None` where that node does not run and refuses it.
    pub fn handle_connected(&mut self, node: NodeId) -> Option<ConnectionId> {
        if !self.state.is_running(node) {
            return None;
        }
        let id = ConnectionId(self.next_connection);
        self.next_connection = self.next_connection.saturating_add(1);
        self.connections.insert(id, Connection::new(node));
        Some(id)
    }

    /// A whole request came in; `frame` is without its length prefix. Frames of connections that
    /// are closed are ignored.
    pub fn handle_frame(&mut self, now: Now, id: ConnectionId, frame: Bytes) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if matches!(connection.progress, Progress::Hung) {
            return;
        }
        if connection.push(frame) {
            self.serve_queue(now, id);
            self.settle(now);
        } else {
            self.close(id, CloseReason::TooFarAhead);
        }
    }

    /// The client is gone. What it asked for before and was not applied yet never will be.
    pub fn handle_disconnected(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.settle(now);
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Now> {
        let deadlines = self.connections.values().filter_map(Connection::deadline);
        let failovers = self.failovers.iter().map(|(at, _)| *at);
        let groups = self.state.groups.poll_timeout();
        let transactions = self.state.transactions.poll_timeout();
        let deadlines = deadlines.chain(failovers).chain(groups).chain(transactions);
        deadlines.min_by_key(|at| at.monotonic_us)
    }

    /// Whether a request of this connection is in service or queued. Kafka reads no further from
    /// such a connection; a driver that does the same needs no buffer of its own.
    #[must_use]
    pub fn is_busy(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(Connection::is_busy)
    }

    /// The connections of `node`, or of all nodes.
    pub fn connections(&self, node: Option<NodeId>) -> impl Iterator<Item = ConnectionId> + '_ {
        self.connections
            .iter()
            .filter(move |(_, connection)| node.is_none_or(|node| connection.node == node))
            .map(|(id, _)| *id)
    }

    pub(crate) fn close(&mut self, id: ConnectionId, why: CloseReason) {
        if self.connections.remove(&id).is_some() {
            self.outputs.push_back(Output::Close(id, why));
        }
    }

    /// Brings everything forward that time or a change of the state has made possible, until
    /// nothing moves. Each step ends a wait or takes a request off a bounded queue.
    pub(crate) fn settle(&mut self, now: Now) {
        self.fail_over(now);
        if self.state.groups.handle_time(now) {
            self.state.touch();
        }
        loop {
            self.state.settle_transactions(now);
            let revision = self.state.revision();
            let due: Vec<ConnectionId> = self
                .connections
                .iter()
                .filter(|(_, connection)| is_due(&connection.progress, revision, now))
                .map(|(id, _)| *id)
                .collect();
            if due.is_empty() {
                return;
            }
            for id in due {
                self.advance(now, id);
                self.serve_queue(now, id);
            }
        }
    }

    fn advance(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        match std::mem::replace(&mut connection.progress, Progress::Idle) {
            Progress::Held { frame, strike, .. } => self.serve(now, id, frame, strike),
            Progress::Answering { frame, .. } => {
                self.outputs.push_back(Output::Send(id, frame));
            }
            Progress::Waiting {
                mut wait, strike, ..
            } => match wait.poll(&mut self.state, now) {
                Some(served) => self.finish(now, id, served, strike),
                None => {
                    let seen = self.state.revision();
                    connection.progress = Progress::Waiting { wait, seen, strike };
                }
            },
            still @ (Progress::Idle | Progress::Hung) => connection.progress = still,
        }
    }

    fn serve_queue(&mut self, now: Now, id: ConnectionId) {
        while let Some(frame) = self.connections.get_mut(&id).and_then(Connection::pop) {
            self.begin(now, id, frame);
        }
    }

    /// Lets the faults strike a request, and serves what they leave of it.
    fn begin(&mut self, now: Now, id: ConnectionId, frame: Bytes) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let node = connection.node;
        let mut body = frame.clone();
        let header = match decode_request_header(&mut body) {
            Ok(header) => header,
            Err(error) => return self.close(id, CloseReason::Refused(error.to_string())),
        };
        let Ok(api) = ApiKey::try_from(header.api_key) else {
            let why = format!("API key {} is not known", header.api_key);
            return self.close(id, CloseReason::Refused(why));
        };
        let topics = if self.faults.ask_topics(api, node) {
            api::topics(&self.state, api, header.api_version, body)
        } else {
            Vec::new()
        };
        let mut strike = self.faults.strike(api, node, &topics);
        if let Some(broken) = strike.before.take() {
            return self.break_off(id, broken);
        }
        if strike.delay_before_us == 0 {
            return self.serve(now, id, frame, strike);
        }
        let until = now.after_us(strike.delay_before_us);
        connection.progress = Progress::Held {
            until,
            frame,
            strike,
        };
    }

    fn serve(&mut self, now: Now, id: ConnectionId, mut frame: Bytes, mut strike: Strike) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let served = match decode_request_header(&mut frame) {
            Ok(header) => {
                let mut call = Call::new(now, connection.node, &header);
                call.errors = std::mem::take(&mut strike.errors);
                call.throttle_ms = strike.throttle_ms;
                self.dispatch(&call, header.api_key, frame)
            }
            Err(error) => Served::Close(error.to_string()),
        };
        self.finish(now, id, served, strike);
    }

    fn dispatch(&mut self, call: &Call, api_key: i16, body: Bytes) -> Served {
        let range = self.state.options.apis.range(api_key);
        let in_range = range.is_some_and(|range| (range.min..=range.max).contains(&call.version));
        match ApiKey::try_from(api_key) {
            Ok(api) if in_range => api::serve(&mut self.state, call, api, body),
            Ok(ApiKey::ApiVersions) => api::encode_unsupported(&self.state, call),
            Ok(_) | Err(()) => Served::Close(format!(
                "API key {api_key} version {} is not served",
                call.version
            )),
        }
    }

    fn finish(&mut self, now: Now, id: ConnectionId, served: Served, strike: Strike) {
        let frame = match served {
            Served::Close(why) => return self.close(id, CloseReason::Refused(why)),
            Served::Wait(wait) if strike.after.is_none() => {
                let seen = self.state.revision();
                return self.set_progress(id, Progress::Waiting { wait, seen, strike });
            }
            Served::Wait(_) | Served::NoAnswer => None,
            Served::Answer(frame) => Some(frame),
        };
        if let Some(broken) = strike.after {
            return self.break_off(id, broken);
        }
        let Some(frame) = frame else { return };
        if strike.delay_after_us == 0 {
            self.outputs.push_back(Output::Send(id, frame));
        } else {
            let until = now.after_us(strike.delay_after_us);
            self.set_progress(id, Progress::Answering { until, frame });
        }
    }

    fn set_progress(&mut self, id: ConnectionId, progress: Progress) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.progress = progress;
        }
    }

    fn break_off(&mut self, id: ConnectionId, broken: Break) {
        match broken {
            Break::Cut => self.close(id, CloseReason::Cut),
            Break::Hang => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.hang();
                }
            }
        }
    }
}

fn is_due(progress: &Progress, revision: u64, now: Now) -> bool {
    match progress {
        Progress::Idle | Progress::Hung => false,
        Progress::Held { until, .. } | Progress::Answering { until, .. } => now.reached(*until),
        Progress::Waiting { wait, seen, .. } => *seen != revision || now.reached(wait.deadline()),
    }
}
