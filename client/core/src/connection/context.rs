//! What connections are given and what they leave behind.

use super::AgreedVersions;
use crate::call::{BrokerId, Call, CallId, Lane, Reply};
use crate::client::{Action, ConnectionId};
use crate::error::{CallError, CallErrorKind};
use crate::options::ClientOptions;
use crate::time::Now;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A broker, or a bootstrap address: what all its lanes share.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: Address,
    pub(crate) versions: AgreedVersions,
    /// A handshake succeeded once.
    pub(crate) reached: bool,
    /// A lane of it failed, and it has answered on none since: a broker that hangs keeps its other
    /// connections open.
    pub(crate) is_suspect: bool,
}

/// Names a lane of a broker.
pub(crate) type Key = (BrokerId, Lane);

/// What a connection leaves behind for the router to carry on.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) actions: VecDeque<Action>,
    pub(crate) ended: VecDeque<(CallId, Result<Reply, CallError>)>,
    /// Calls that were not written because the connection could not be had.
    pub(crate) unsent: VecDeque<Unsent>,
    /// What a broker has just said of its features: epoch and `transaction.version`.
    pub(crate) features: Option<(i64, i16)>,
    /// Brokers that could not be reached or went away while in use.
    pub(crate) lost: Vec<BrokerId>,
    /// One of them for want of security.
    pub(crate) unsecured: bool,
}

/// A call that a connection gives back.
#[derive(Debug)]
pub(crate) struct Unsent {
    pub(crate) call: Call,
    pub(crate) from: BrokerId,
    pub(crate) why: Arc<str>,
    /// Opening failed, as against a connection that was open and broke.
    pub(crate) unreachable: bool,
}

/// The names of open connections and of attempts.
#[derive(Debug, Default)]
pub(crate) struct Names {
    last: u64,
    pub(super) open: BTreeMap<ConnectionId, Key>,
}

impl Names {
    pub(crate) fn key(&self, id: ConnectionId) -> Option<Key> {
        self.open.get(&id).copied()
    }

    pub(super) fn fresh(&mut self, key: Key) -> ConnectionId {
        self.last += 1;
        self.open.insert(ConnectionId(self.last), key);
        ConnectionId(self.last)
    }
}

/// What a connection needs from around it.
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) options: &'a ClientOptions,
    pub(crate) random: &'a mut fastrand::Rng,
    pub(crate) names: &'a mut Names,
    pub(crate) peer: &'a mut Peer,
    pub(crate) out: &'a mut Output,
}

impl Context<'_> {
    /// Ends a call of the connection `key` of which nothing was written.
    pub(super) fn end_unwritten(&mut self, key: Key, id: CallId, kind: CallErrorKind) {
        let error = CallError {
            kind,
            written: false,
            broker: Some(key.0),
        };
        self.out.ended.push_back((id, Err(error)));
    }
}

/// How an error names a broker.
pub(crate) fn whom(broker: BrokerId, peer: &Peer) -> String {
    match broker.0 {
        0.. => format!("broker {} at {}", broker.0, peer.address),
        _ => format!("{} of bootstrap.servers", peer.address),
    }
}

/// Why a broker cannot be reached. An address that only the cluster knows and that never worked is
/// most often a wrong `advertised.listeners` (line 49): says so.
pub(crate) fn explain(broker: BrokerId, peer: &Peer, options: &ClientOptions, why: &str) -> String {
    if broker.0 < 0 || peer.reached {
        return why.to_owned();
    }
    format!(
        "{why}; the cluster reached through bootstrap.servers {} advertises that address: check \
         advertised.listeners of broker {}, and that this host can reach it",
        options.bootstrap_servers.join(","),
        broker.0
    )
}
