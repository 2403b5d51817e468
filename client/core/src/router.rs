//! A call's destination (a broker, the controller, a coordinator, any) to a connection.
//!
//! A call to a certain broker fails as soon as that broker cannot be reached: its room decides what
//! next. A call to a coordinator, the controller or any broker goes on to the next candidate until
//! its `give_up_us`. When every known broker fails, the bootstrap addresses are candidates again,
//! resolved anew (KIP-899).

mod choice;
mod coordinators;
mod hedge;

use crate::call::{
    BrokerId, Call, CallId, Coordinated, Destination, Fact, Lane, Permits, Reply, RoomId,
};
use crate::client::{Action, ConnectionId};
use crate::connection::{
    Address, Connection, Context, Key, Names, Output, Peer, Unsent, explain, whom,
};
use crate::error::{CallError, CallErrorKind, SecurityError};
use crate::metadata::Cluster;
use crate::options::ClientOptions;
use crate::time::{Now, Timer};
use crate::token::{Token, TokenError};
use bytes::Bytes;
use coordinators::{Coordinators, Found};
use core::net::SocketAddr;
use hedge::Hedges;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Calls that wait for a route or on a connection, all together; the next one fails at once. Rooms
/// stay far below it, because they heed their permits.
const MAX_CALLS: usize = 4096;

/// All connections, and what is known about where to find whom.
#[derive(Debug)]
pub(crate) struct Router {
    options: ClientOptions,
    random: fastrand::Rng,
    // Boxed: a node of a map has room for eleven values.
    peers: BTreeMap<BrokerId, Box<Peer>>,
    connections: BTreeMap<Key, Box<Connection>>,
    names: Names,
    coordinators: Coordinators,
    cluster: Arc<Cluster>,
    waiting: VecDeque<Call>,
    hedges: Hedges,
    permits: Permits,
    /// The newest features that a broker told of: epoch and `transaction.version`.
    features: (i64, i16),
    /// As told last, and whether it has to be looked at again.
    silent: (Arc<BTreeSet<BrokerId>>, bool),
    facts: VecDeque<Fact>,
    ended: VecDeque<(CallId, Result<Reply, CallError>)>,
    out: Output,
}

impl Router {
    /// Knows the bootstrap addresses and nothing else.
    pub(crate) fn new(options: ClientOptions, seed: u64) -> Self {
        let numbered = (1..).zip(&options.bootstrap_servers);
        let peers = numbered.filter_map(|(number, server)| {
            let (host, port) = crate::options::parse_host_port(server)?;
            let host = host.into();
            let address = Address { host, port };
            Some((BrokerId(-number), new_peer(address)))
        });
        Self {
            peers: peers.collect(),
            options,
            random: fastrand::Rng::with_seed(seed),
            connections: BTreeMap::new(),
            names: Names::default(),
            coordinators: Coordinators::default(),
            cluster: Arc::default(),
            waiting: VecDeque::new(),
            hedges: Hedges::default(),
            permits: Permits::default(),
            features: (-1, 0),
            silent: Default::default(),
            facts: VecDeque::new(),
            ended: VecDeque::new(),
            out: Output::default(),
        }
    }

    /// Which connections can take another call now.
    pub(crate) fn permits(&self) -> &Permits {
        &self.permits
    }

    /// The newest features that a broker told of.
    pub(crate) fn features(&self) -> Fact {
        let (epoch, transaction_version) = self.features;
        Fact::FeaturesFinalised {
            epoch,
            transaction_version,
        }
    }

    /// A room's call.
    pub(crate) fn handle_call(&mut self, now: Now, call: Call) {
        let queued: usize = self.connections.values().map(|c| c.load()).sum();
        if queued + self.waiting.len() >= MAX_CALLS {
            self.refuse(call, "too many calls wait already");
            return;
        }
        self.route(now, call);
        self.settle(now);
    }

    /// What rooms say that concerns routes.
    pub(crate) fn handle_fact(&mut self, now: Now, fact: &Fact) {
        match fact {
            Fact::ClusterChanged(cluster) => self.handle_cluster(now, cluster),
            Fact::CoordinatorLost(what) => self.coordinators.forget(what),
            _ => {}
        }
    }

    /// See [`crate::client::Client::handle_resolved`].
    pub(crate) fn handle_resolved(
        &mut self,
        now: Now,
        id: ConnectionId,
        addresses: Result<Vec<SocketAddr>, String>,
    ) {
        self.with_named(now, id, |connection, ctx| {
            connection.handle_resolved(addresses, ctx);
        });
    }

    /// See [`crate::client::Client::handle_connected`].
    pub(crate) fn handle_connected(&mut self, now: Now, id: ConnectionId) {
        self.with_named(now, id, Connection::handle_connected);
    }

    /// See [`crate::client::Client::handle_written`].
    pub(crate) fn handle_written(&mut self, now: Now, id: ConnectionId) {
        self.with_named(now, id, Connection::handle_written);
    }

    /// See [`crate::client::Client::handle_frame`].
    pub(crate) fn handle_frame(&mut self, now: Now, id: ConnectionId, frame: Bytes) {
        self.with_named(now, id, |connection, ctx| {
            connection.handle_frame(frame, ctx)
        });
    }

    /// See [`crate::client::Client::handle_closed`].
    pub(crate) fn handle_closed(&mut self, now: Now, id: ConnectionId, why: String) {
        self.with_named(now, id, |connection, ctx| {
            connection.handle_closed(why, ctx)
        });
    }

    /// Closes the connections of a lane that nobody uses any more, to every broker.
    pub(crate) fn close_lane(&mut self, now: Now, lane: Lane) {
        let keys = self.connections.keys().copied();
        let keys: Vec<Key> = keys.filter(|(_, other)| *other == lane).collect();
        for key in keys {
            self.with(now, key, Connection::handle_abandoned);
            self.connections.remove(&key);
            self.permits.set_busy(key.0, key.1, false);
        }
        self.forget_departed();
    }

    /// See [`crate::client::Client::handle_unsecured`].
    pub(crate) fn handle_unsecured(&mut self, now: Now, id: ConnectionId, error: SecurityError) {
        self.with_named(now, id, |connection, ctx| {
            connection.handle_unsecured(error, ctx);
        });
    }

    /// See [`crate::client::Client::handle_token`].
    pub(crate) fn handle_token(
        &mut self,
        now: Now,
        id: ConnectionId,
        token: Result<Token, TokenError>,
    ) {
        self.with_named(now, id, |connection, ctx| {
            connection.handle_token(token, ctx);
        });
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) named has come.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        let due = |connection: &Connection, options: &ClientOptions| {
            let timeout = connection.poll_timeout(options);
            timeout.is_some_and(|(at, _)| at <= now.monotonic_us)
        };
        let connections = self.connections.iter();
        let keys: Vec<Key> = connections
            .filter(|(_, connection)| due(connection, &self.options))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.with(now, key, Connection::handle_timeout);
        }
        self.route_waiting(now);
        self.coordinators.handle_timeout(now);
        self.settle(now);
        // A failure is remembered for its backoff.
        let permits = &mut self.permits;
        self.connections.retain(|key, connection| {
            let is_kept = !connection.is_idle() || connection.failures() > 0;
            if !is_kept {
                permits.set_busy(key.0, key.1, false);
            }
            is_kept
        });
    }

    /// The earliest moment at which something has to be done.
    pub(crate) fn poll_timeout(&self) -> Option<(u64, Timer)> {
        let connections = self.connections.values();
        let connections = connections.filter_map(|c| c.poll_timeout(&self.options));
        let give_up = self
            .waiting
            .iter()
            .map(|call| (call.give_up_us, Timer::Route));
        let own = self.coordinators.poll_timeout().into_iter();
        let own = own.chain(self.hedges.poll_timeout());
        connections.chain(give_up).chain(own).min()
    }

    /// What the shell must do.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.out.actions.pop_front()
    }

    /// What the other rooms should know.
    pub(crate) fn poll_fact(&mut self) -> Option<Fact> {
        self.facts.pop_front()
    }

    /// The end of a room's call.
    pub(crate) fn poll_ended(&mut self) -> Option<(CallId, Result<Reply, CallError>)> {
        self.collect_ended();
        self.ended.pop_front()
    }

    /// Of a call that several brokers were asked, one end is the room's.
    fn collect_ended(&mut self) {
        for (id, result) in std::mem::take(&mut self.out.ended) {
            if self.hedges.ends(id, &result) {
                self.ended.push_back((id, result));
            }
        }
    }

    fn route(&mut self, now: Now, call: Call) {
        match self.destined(now, &call) {
            Some(broker) => self.push(now, broker, call),
            None => match self.unsecured(now, call.lane) {
                Some(kind) => self.end_unwritten(call.id, kind, None),
                None => self.waiting.push_back(call),
            },
        }
    }

    /// Why no broker can be dealt with, where every one that is known was tried and fails for want of
    /// security: time alone will not change that, so calls need not wait (line 40).
    fn unsecured(&mut self, now: Now, lane: Lane) -> Option<CallErrorKind> {
        if self.choose_any(now, lane).is_some() || self.choose_any(now, Lane::General).is_some() {
            return None;
        }
        let failed = self.connections.values().filter(|c| c.is_backing_off());
        let mut kinds = failed.map(|c| c.unsecured());
        let first = kinds.next()??;
        kinds.all(|kind| kind.is_some()).then(|| first.clone())
    }

    /// Ends what waits for a route although there is none to come.
    fn fail_unsecured(&mut self, now: Now) {
        if let Some(kind) = self.unsecured(now, Lane::General) {
            let why = kind.to_string().into();
            self.facts.push_back(Fact::NoBrokerSecure { why });
            for call in std::mem::take(&mut self.waiting) {
                self.end_unwritten(call.id, kind.clone(), None);
            }
        }
    }

    /// The broker that a call goes to, if that can be said now.
    fn destined(&mut self, now: Now, call: &Call) -> Option<BrokerId> {
        match &call.destination {
            Destination::Broker(broker) => Some(*broker),
            Destination::AnyBroker => self.choose_any(now, call.lane),
            Destination::Controller if self.cluster.brokers.is_empty() => {
                self.ask_for_metadata();
                None
            }
            // Without a controller any broker can tell so, or forward (KIP-590).
            Destination::Controller => {
                let controller = self.cluster.controller;
                controller.or_else(|| self.choose_any(now, call.lane))
            }
            Destination::Coordinator(what) => {
                let known = self.coordinators.get(what);
                if known.is_none()
                    && let Some(lookup) = self.coordinators.look_up(now, what, &self.options)
                {
                    self.route(now, lookup);
                }
                known
            }
        }
    }

    fn push(&mut self, now: Now, broker: BrokerId, call: Call) {
        if !self.peers.contains_key(&broker) {
            self.ask_for_metadata();
            self.refuse(call, "the cluster's metadata does not list it");
            return;
        }
        self.hedges.note(now, broker, &call);
        let key = (broker, call.lane);
        let options = &self.options;
        self.connections
            .entry(key)
            .or_insert_with(|| Box::new(Connection::new(key, options)));
        self.with(now, key, |connection, ctx| connection.push(call, ctx));
    }

    fn ask_for_metadata(&mut self) {
        if !matches!(self.facts.back(), Some(Fact::MetadataStale)) {
            self.facts.push_back(Fact::MetadataStale);
        }
    }

    /// Ends a call that was not written.
    fn refuse(&mut self, call: Call, why: &str) {
        let broker = match call.destination {
            Destination::Broker(broker) => Some(broker),
            _ => None,
        };
        let kind = CallErrorKind::NoRoute {
            whom: self.describe(&call.destination),
            why: why.to_owned(),
        };
        self.end_unwritten(call.id, kind, broker);
    }

    fn end_unwritten(&mut self, id: CallId, kind: CallErrorKind, broker: Option<BrokerId>) {
        let error = CallError {
            kind,
            written: false,
            broker,
        };
        self.out.ended.push_back((id, Err(error)));
    }

    fn with_named(
        &mut self,
        now: Now,
        id: ConnectionId,
        act: impl FnOnce(&mut Connection, &mut Context<'_>),
    ) {
        // News of a connection that was closed meanwhile is old news.
        if let Some(key) = self.names.key(id) {
            self.with(now, key, act);
            self.settle(now);
        }
    }

    /// Every change of a connection passes here, so that permits are always right.
    fn with(&mut self, now: Now, key: Key, act: impl FnOnce(&mut Connection, &mut Context<'_>)) {
        let peer = self.peers.get_mut(&key.0);
        let Some((connection, peer)) = self.connections.get_mut(&key).zip(peer) else {
            return;
        };
        let silence =
            |connection: &Connection, peer: &Peer| (peer.is_suspect, connection.is_silent(peer));
        let before = silence(connection, peer);
        let mut context = Context {
            now,
            options: &self.options,
            random: &mut self.random,
            names: &mut self.names,
            peer,
            out: &mut self.out,
        };
        act(connection, &mut context);
        self.silent.1 |= silence(connection, peer) != before;
        self.permits.set_busy(key.0, key.1, connection.is_busy(now));
        let told = self.out.features.take();
        if let Some(newer) = told.filter(|(epoch, _)| *epoch > self.features.0) {
            self.features = newer;
            let fact = self.features();
            self.facts.push_back(fact);
        }
    }

    /// Carries on what connections left: calls they could not send, brokers they lost, lookups.
    fn settle(&mut self, now: Now) {
        loop {
            if std::mem::take(&mut self.out.unsecured) {
                self.fail_unsecured(now);
            }
            self.collect_ended();
            for broker in std::mem::take(&mut self.out.lost) {
                self.coordinators.forget_broker(broker);
                self.hedges.handle_lost(now, broker);
                if broker.0 >= 0 {
                    self.ask_for_metadata();
                }
            }
            if let Some(unsent) = self.out.unsent.pop_front() {
                self.handle_unsent(now, unsent);
            } else if !self.ask_another(now) && !self.settle_lookup(now) {
                break;
            }
        }
        self.tell_silent();
    }

    /// Makes a call again that another broker may answer sooner, if there is one.
    fn ask_another(&mut self, now: Now) -> bool {
        let mut hedges = std::mem::take(&mut self.hedges);
        let again = hedges.poll_again(now, |call, asked| {
            self.choose_another(now, call.lane, asked)
        });
        self.hedges = hedges;
        again
            .map(|(broker, call)| self.push(now, broker, call))
            .is_some()
    }

    fn tell_silent(&mut self) {
        if !std::mem::take(&mut self.silent.1) {
            return;
        }
        let silent = self.connections.iter().filter(|((broker, _), connection)| {
            let peer = self.peers.get(broker);
            broker.0 >= 0 && peer.is_some_and(|peer| connection.is_silent(peer))
        });
        let silent: BTreeSet<BrokerId> = silent.map(|((broker, _), _)| *broker).collect();
        if silent != *self.silent.0 {
            self.silent.0 = Arc::new(silent);
            let fact = Fact::BrokersSilent(self.silent.0.clone());
            self.facts.push_back(fact);
        }
    }

    fn handle_unsent(&mut self, now: Now, unsent: Unsent) {
        let Unsent {
            call,
            from,
            why,
            unreachable,
        } = unsent;
        if !self.hedges.is_wanted(call.id, from) {
            return;
        }
        let certain = matches!(call.destination, Destination::Broker(_));
        let connection = self.connections.get(&(from, call.lane));
        let unsecured = connection.and_then(|c| c.unsecured()).cloned();
        if unreachable && certain {
            match unsecured {
                Some(kind) => self.end_unwritten(call.id, kind, Some(from)),
                None => self.refuse(call, &self.explain(from, &why)),
            }
        } else {
            self.route(now, call);
            if unreachable {
                self.report_unreachable(now, from, &why);
            }
        }
    }

    /// Takes the ends of the router's own calls out of the rooms' way.
    fn settle_lookup(&mut self, now: Now) -> bool {
        self.collect_ended();
        let mut ended = self.ended.iter();
        let Some(at) = ended.position(|(id, _)| id.room == RoomId::Router) else {
            return false;
        };
        let Some((id, reply)) = self.ended.remove(at) else {
            return false;
        };
        let random = &mut self.random;
        match self
            .coordinators
            .handle_reply(now, id.number, reply, random)
        {
            Found::Coordinator(broker, address) => {
                // The cluster's own picture of that broker wins where there is one.
                self.peers
                    .entry(broker)
                    .or_insert_with(|| new_peer(address));
                self.route_waiting(now);
            }
            Found::NotYet => {}
            Found::Never(what, code) => {
                let whom = self.describe(&Destination::Coordinator(what.clone()));
                self.fail_coordinated(&what, &CallErrorKind::NoCoordinator { whom, code });
            }
            Found::Unsecured(what, kind) => self.fail_coordinated(&what, &kind),
        }
        true
    }

    fn fail_coordinated(&mut self, what: &Coordinated, kind: &CallErrorKind) {
        let waiting = std::mem::take(&mut self.waiting);
        for call in waiting {
            match &call.destination {
                Destination::Coordinator(wanted) if wanted == what => {
                    self.end_unwritten(call.id, kind.clone(), None);
                }
                _ => self.waiting.push_back(call),
            }
        }
    }

    /// Tries every waiting call again, and gives up those that waited too long.
    fn route_waiting(&mut self, now: Now) {
        for call in std::mem::take(&mut self.waiting) {
            if call.give_up_us <= now.monotonic_us {
                let why = self.why_waiting(&call.destination);
                self.refuse(call, &why);
            } else {
                self.route(now, call);
            }
        }
    }

    fn why_waiting(&self, destination: &Destination) -> String {
        let coordinated = match destination {
            Destination::Coordinator(what) => self.coordinators.last_failure(what),
            _ => None,
        };
        let general = || {
            let failures = self.connections.iter();
            let mut failures = failures.filter_map(|((id, _), c)| Some((*id, c.last_failure()?)));
            failures.next().map(|(id, why)| self.explain(id, &why))
        };
        coordinated
            .map(|why| why.to_string())
            .or_else(general)
            .unwrap_or_else(|| "no broker answered in time".to_owned())
    }

    /// Told once no candidate is left that has not failed.
    fn report_unreachable(&mut self, now: Now, from: BrokerId, why: &str) {
        if self.choose_any(now, Lane::General).is_none() {
            let whom = self.describe(&Destination::Broker(from));
            let why = format!("no connection to {whom}: {}", self.explain(from, why));
            self.facts
                .push_back(Fact::NoBrokerReachable { why: why.into() });
        }
    }

    fn explain(&self, broker: BrokerId, why: &str) -> String {
        let peer = self.peers.get(&broker);
        peer.map_or_else(
            || why.to_owned(),
            |peer| explain(broker, peer, &self.options, why),
        )
    }

    fn describe(&self, destination: &Destination) -> String {
        let bootstrap = || {
            format!(
                "bootstrap.servers {}",
                self.options.bootstrap_servers.join(",")
            )
        };
        match destination {
            Destination::Broker(broker) => match self.peers.get(broker) {
                Some(peer) => whom(*broker, peer),
                None => format!("broker {}", broker.0),
            },
            Destination::AnyBroker if self.cluster.brokers.is_empty() => bootstrap(),
            Destination::AnyBroker => "any broker of the cluster".to_owned(),
            Destination::Controller => "the controller".to_owned(),
            Destination::Coordinator(Coordinated::Group(id)) => {
                format!("the coordinator of group {id}")
            }
            Destination::Coordinator(Coordinated::Transaction(id)) => {
                format!("the coordinator of transactional id {id}")
            }
        }
    }

    fn handle_cluster(&mut self, now: Now, cluster: &Arc<Cluster>) {
        self.cluster = cluster.clone();
        self.silent.1 = true;
        for (id, broker) in &cluster.brokers {
            let address = Address {
                host: broker.host.clone(),
                port: broker.port,
            };
            let peer = self.peers.get(id);
            if peer.is_some_and(|peer| peer.address == address) {
                continue;
            }
            let moved = peer.is_some();
            self.peers.insert(*id, new_peer(address));
            if moved {
                self.handle_moved(now, *id);
            }
        }
        self.forget_departed();
        let connections: Vec<Key> = self.connections.keys().copied().collect();
        for key in connections {
            self.with(now, key, Connection::handle_cluster);
        }
        self.route_waiting(now);
        self.settle(now);
    }

    fn handle_moved(&mut self, now: Now, broker: BrokerId) {
        let lanes = self.connections.keys().copied();
        let lanes: Vec<Key> = lanes.filter(|(id, _)| *id == broker).collect();
        for key in lanes {
            self.with(now, key, Connection::handle_moved);
        }
    }

    /// A broker that left the cluster is kept only while a connection to it is.
    fn forget_departed(&mut self) {
        let listed = &self.cluster.brokers;
        self.connections
            .retain(|(id, _), c| id.0 < 0 || listed.contains_key(id) || !c.is_idle());
        let connections = &self.connections;
        self.peers.retain(|id, _| {
            let lanes = connections.range((*id, Lane::General)..);
            let mut lanes = lanes.take_while(|((broker, _), _)| broker == id);
            id.0 < 0 || listed.contains_key(id) || lanes.next().is_some()
        });
    }
}

fn new_peer(address: Address) -> Box<Peer> {
    Box::new(Peer {
        address,
        versions: Default::default(),
        reached: false,
        is_suspect: false,
    })
}
