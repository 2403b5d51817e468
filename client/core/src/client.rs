//! The hall: takes what the rooms want to call, gives it to the router, and gives replies back.
//!
//! A shell drives it like this, and a simulation in the same way:
//!
//! ```text
//! loop {
//!     while let Some(action) = client.poll_action(now) { carry it out }
//!     wait for news or until client.poll_timeout()
//!     client.handle_*(now, news) or client.handle_timeout(now)
//! }
//! ```

use crate::admin::{self, Administer};
use crate::call::{Call, CallId, Fact, Lane, Outcome, Reply, RequestId, Room, RoomId, Serve};
use crate::error::{CallError, Error, SecurityError};
use crate::fetch::inbox::Inbox;
use crate::fetch::{self, FetchRoom};
use crate::group::{self, GroupRoom};
use crate::metadata::MetadataRoom;
use crate::options::{ClientOptions, ConsumerOptions, ProducerOptions};
use crate::producer::ProducerRoom;
use crate::producer::accumulator::Accumulator;
use crate::router::Router;
use crate::time::{Now, Timer};
use crate::token::{Token, TokenError};
use crate::transaction::{Transact, TransactionRoom};
use bytes::Bytes;
use core::net::SocketAddr;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tidewatch_protocol::frame::Frame;

/// Names a connection, chosen by the core, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What the shell must do. To be polled until there is none.
#[derive(Debug)]
pub enum Action {
    /// Look up the addresses of a host; answer with `handle_resolved`.
    Resolve {
        /// For this connection.
        connection: ConnectionId,
        /// Host name or IP literal.
        host: String,
        /// Port.
        port: u16,
    },
    /// Open a TCP connection; answer with `handle_connected` or `handle_closed`.
    Connect {
        /// For this connection.
        connection: ConnectionId,
        /// Where to.
        address: SocketAddr,
        /// The name by which the address was found; a certificate must be valid for it.
        host: Arc<str>,
        /// The largest frame that may be read from it.
        max_frame_bytes: usize,
    },
    /// Bring a bearer token for SASL/OAUTHBEARER; answer with `handle_token`.
    WantToken(ConnectionId),
    /// Write a frame, whole and in order; answer with `handle_written`.
    Send(ConnectionId, Frame),
    /// Close, dropping what was not written; no `handle_closed` is expected.
    Close {
        /// This connection, or the attempt to open it.
        connection: ConnectionId,
        /// For the log.
        why: String,
    },
    /// A user's request is finished.
    Finished(RequestId, Result<Outcome, Error>),
}

/// What a user's handle asks of the core: values, so that a simulation can make them.
#[derive(Debug)]
pub enum Command {
    /// To a producer.
    Producer(u32, crate::producer::Command),
    /// To a transactional producer's transactions.
    Transaction(u32, crate::transaction::Command),
    /// To a consumer's fetching.
    Fetch(u32, fetch::Command),
    /// To a consumer's group.
    Group(u32, group::Command),
    /// Topic administration.
    Admin(Administer),
    /// Finishes with [`Outcome::Cluster`] once these topics are known. A topic that the brokers do
    /// not know (it may just have been created, line 48) is asked for again for two seconds and then
    /// stands in the cluster with its error. No topics: as soon as the brokers are known.
    Cluster {
        /// The topics.
        topics: Vec<Arc<str>>,
        /// How long it may take, microseconds.
        timeout_us: u64,
    },
}

/// How often the rooms may answer one another within one turn. They settle after two or three
/// rounds; what is left after this many waits for the next event.
const MAX_ROUNDS: usize = 64;

/// How long a consumer that was dropped may take to say goodbye.
const FAREWELL_US: u64 = 5_000_000;

/// The client's core.
#[derive(Debug)]
pub struct Client {
    router: Router,
    metadata: MetadataRoom,
    /// There from the first command on.
    admin: Option<Box<dyn Serve<admin::Command>>>,
    admin_seed: u64,
    options: ClientOptions,
    producers: BTreeMap<u32, Box<ProducerRoom>>,
    /// Of those producers that have a transactional id, by their numbers.
    transactions: BTreeMap<u32, Box<dyn Transact>>,
    /// Producers that are to be closed once their transactions are aborted, and consumers once their
    /// groups and brokers know; or then.
    closing: BTreeMap<u32, u64>,
    fetches: BTreeMap<u32, Box<dyn Serve<fetch::Command>>>,
    groups: BTreeMap<u32, Box<dyn Serve<group::Command>>>,
    last_number: u32,
    /// What each room wants topics for, to be taken back when it closes.
    wanted: BTreeMap<RoomId, Vec<Arc<str>>>,
    facts: VecDeque<(RoomId, Fact)>,
    finished: VecDeque<Action>,
    /// Whose call went out last, of the producers and of the other rooms: the others come first.
    last_producer: Option<RoomId>,
    last_other: Option<RoomId>,
    random: fastrand::Rng,
    /// Something happened since the rooms were polled last.
    dirty: bool,
}

impl Client {
    /// A client that has not connected yet. Everything random comes from `seed`.
    pub fn new(options: ClientOptions, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            router: Router::new(options.clone(), random.u64(..)),
            metadata: MetadataRoom::new(options.clone(), random.u64(..)),
            admin: None,
            admin_seed: random.u64(..),
            options,
            producers: BTreeMap::new(),
            transactions: BTreeMap::new(),
            closing: BTreeMap::new(),
            fetches: BTreeMap::new(),
            groups: BTreeMap::new(),
            last_number: 0,
            wanted: BTreeMap::new(),
            facts: VecDeque::new(),
            finished: VecDeque::new(),
            last_producer: None,
            last_other: None,
            random,
            dirty: false,
        }
    }

    /// Opens a producer that drains `accumulator`, and returns its number.
    ///
    /// It has no transactions: see [`open_transactional_producer`](Self::open_transactional_producer).
    pub fn open_producer(
        &mut self,
        now: Now,
        options: ProducerOptions,
        accumulator: Arc<Accumulator>,
    ) -> u32 {
        let number = self.next_number();
        let seed = self.random.u64(..);
        let mut room = ProducerRoom::new(number, options, accumulator, seed);
        room.handle_fact(now, &self.cluster_fact());
        self.producers.insert(number, Box::new(room));
        self.dirty = true;
        number
    }

    /// Opens a producer that sends only within transactions of `options.transactional_id`, and
    /// returns its number: one for its sending and its transactions.
    pub fn open_transactional_producer(
        &mut self,
        now: Now,
        options: ProducerOptions,
        accumulator: Arc<Accumulator>,
    ) -> u32 {
        let number = self.open_producer(now, options.clone(), accumulator);
        let seed = self.random.u64(..);
        let mut room = TransactionRoom::new(number, options, seed);
        room.handle_fact(now, &self.router.features());
        self.transactions.insert(number, Box::new(room));
        number
    }

    /// Opens a consumer that fills `inbox`, and returns its number: one for its fetching and its
    /// group.
    pub fn open_consumer(&mut self, now: Now, options: ConsumerOptions, inbox: Arc<Inbox>) -> u32 {
        let number = self.next_number();
        let (fetch_seed, group_seed) = (self.random.u64(..), self.random.u64(..));
        let pulse = Arc::clone(inbox.pulse());
        let mut fetch = FetchRoom::new(number, options.clone(), inbox, fetch_seed);
        let mut group = GroupRoom::new(number, options, group_seed, pulse);
        fetch.handle_fact(now, &self.cluster_fact());
        group.handle_fact(now, &self.cluster_fact());
        self.fetches.insert(number, Box::new(fetch));
        self.groups.insert(number, Box::new(group));
        self.dirty = true;
        number
    }

    /// Drops a producer's room with all that it still holds; calls under way end unheard. A
    /// transaction that is open is aborted first, for as long as brokers would wait for its end.
    pub fn close_producer(&mut self, now: Now, number: u32) {
        self.dirty = true;
        let Some(room) = self.transactions.get_mut(&number) else {
            return self.drop_producer(number);
        };
        room.handle_close(now);
        let deadline_us = room.close_deadline_us(now);
        self.closing.insert(number, deadline_us);
    }

    fn drop_producer(&mut self, number: u32) {
        self.producers.remove(&number);
        self.transactions.remove(&number);
        self.closing.remove(&number);
        self.unwant(RoomId::Producer(number));
    }

    fn drop_closed(&mut self, now: Now) {
        let is_settled = |number: &u32| {
            let transaction = self.transactions.get(number);
            let (group, fetch) = (self.groups.get(number), self.fetches.get(number));
            transaction.is_none_or(|room| room.is_settled())
                && group.is_none_or(|room| room.has_parted())
                && fetch.is_none_or(|room| room.has_parted())
        };
        let closing = self.closing.iter();
        let done = closing.filter(|(number, deadline_us)| {
            **deadline_us <= now.monotonic_us || is_settled(number)
        });
        let done: Vec<u32> = done.map(|(number, _)| *number).collect();
        for number in done {
            match self.fetches.contains_key(&number) {
                true => self.drop_consumer(now, number),
                false => self.drop_producer(number),
            }
        }
    }

    /// Closes a consumer in the background: it leaves its group, where it is no static member, and its
    /// fetch sessions are closed. What takes longer than five seconds is left to the brokers.
    pub fn close_consumer(&mut self, now: Now, number: u32) {
        let (Some(group), Some(fetch)) =
            (self.groups.get_mut(&number), self.fetches.get_mut(&number))
        else {
            return;
        };
        self.dirty = true;
        group.handle_parting();
        fetch.handle_parting();
        let deadline_us = now.monotonic_us.saturating_add(FAREWELL_US);
        self.closing.insert(number, deadline_us);
    }

    /// Whether nothing is being closed any more.
    pub fn is_settled(&self) -> bool {
        self.closing.is_empty()
    }

    /// Drops a consumer's rooms at once, as the end of its process would; calls under way end unheard.
    pub fn drop_consumer(&mut self, now: Now, number: u32) {
        self.closing.remove(&number);
        self.fetches.remove(&number);
        self.groups.remove(&number);
        self.router.close_lane(now, Lane::Fetch(number));
        self.router.close_lane(now, Lane::Group(number));
        self.unwant(RoomId::Fetch(number));
        self.unwant(RoomId::Group(number));
    }

    /// A user's request; `Action::Finished` ends it.
    pub fn handle_command(&mut self, now: Now, request: RequestId, command: Command) {
        self.dirty = true;
        let taken = match command {
            Command::Producer(number, command) => {
                let room = self.producers.get_mut(&number);
                room.map(|room| room.handle_command(now, request, command))
                    .is_some()
            }
            Command::Transaction(number, command) => {
                let room = self.transactions.get_mut(&number);
                room.map(|room| room.handle_command(now, request, command))
                    .is_some()
            }
            Command::Fetch(number, command) => {
                let room = self.fetches.get_mut(&number);
                room.map(|room| room.handle_command(now, request, command))
                    .is_some()
            }
            Command::Group(number, command) => {
                let room = self.groups.get_mut(&number);
                room.map(|room| room.handle_command(now, request, command))
                    .is_some()
            }
            Command::Admin(Administer { command, open }) => {
                let options = &self.options;
                let open = || open(options.clone(), self.admin_seed);
                let room = self.admin.get_or_insert_with(open);
                room.handle_command(now, request, command);
                true
            }
            Command::Cluster { topics, timeout_us } => {
                let deadline_us = now.monotonic_us.saturating_add(timeout_us);
                self.metadata
                    .handle_command(now, request, topics, deadline_us);
                true
            }
        };
        if !taken {
            let doing = "use a producer or consumer".to_owned();
            let closed = Action::Finished(request, Err(Error::Closed { doing }));
            self.finished.push_back(closed);
        }
    }

    /// The addresses of a host, or why there are none.
    pub fn handle_resolved(
        &mut self,
        now: Now,
        connection: ConnectionId,
        addresses: Result<Vec<SocketAddr>, String>,
    ) {
        self.dirty = true;
        self.router.handle_resolved(now, connection, addresses);
    }

    /// The TCP connection is up.
    pub fn handle_connected(&mut self, now: Now, connection: ConnectionId) {
        self.dirty = true;
        self.router.handle_connected(now, connection);
    }

    /// The oldest frame not yet reported was written to the socket, whole.
    pub fn handle_written(&mut self, now: Now, connection: ConnectionId) {
        self.dirty = true;
        self.router.handle_written(now, connection);
    }

    /// A whole frame came, without its length prefix.
    pub fn handle_frame(&mut self, now: Now, connection: ConnectionId, frame: Bytes) {
        self.dirty = true;
        self.router.handle_frame(now, connection, frame);
    }

    /// The connection could not be opened, was closed, or broke.
    pub fn handle_closed(&mut self, now: Now, connection: ConnectionId, why: String) {
        self.dirty = true;
        self.router.handle_closed(now, connection, why);
    }

    /// The connection, or the attempt to open it, ended because it cannot be secured as the options
    /// ask. Instead of `handle_closed`.
    pub fn handle_unsecured(&mut self, now: Now, connection: ConnectionId, error: SecurityError) {
        self.dirty = true;
        self.router.handle_unsecured(now, connection, error);
    }

    /// The token that `Action::WantToken` asked for, or why there is none.
    pub fn handle_token(
        &mut self,
        now: Now,
        connection: ConnectionId,
        token: Result<Token, TokenError>,
    ) {
        self.dirty = true;
        self.router.handle_token(now, connection, token);
    }

    /// Something shared with callers' threads (an accumulator, an inbox) changed: their wakers say
    /// so.
    pub fn handle_wake(&mut self, _now: Now) {
        self.dirty = true;
    }

    /// The time that `poll_timeout` named has come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.dirty = true;
        self.router.handle_timeout(now);
    }

    /// What to do next; `None` until something happens.
    pub fn poll_action(&mut self, now: Now) -> Option<Action> {
        if self.dirty {
            self.dirty = false;
            let mut rounds = 0..MAX_ROUNDS;
            while self.poll_rooms(now) && rounds.next().is_some() {}
            self.drop_closed(now);
        }
        self.finished
            .pop_front()
            .or_else(|| self.router.poll_action())
    }

    /// When to call `handle_timeout`: monotonic microseconds, and why.
    pub fn poll_timeout(&self) -> Option<(u64, Timer)> {
        let rooms = self.room_ids();
        let rooms = rooms.filter_map(|id| self.room(id)?.poll_timeout());
        let closing = self.closing.values().map(|at_us| (*at_us, Timer::Delivery));
        rooms.chain(self.router.poll_timeout()).chain(closing).min()
    }

    /// One round: replies in, facts around, calls out. Returns whether anything moved.
    fn poll_rooms(&mut self, now: Now) -> bool {
        let mut moved = false;
        while let Some((id, reply)) = self.router.poll_ended() {
            self.give_reply(now, id, reply);
            moved = true;
        }
        let ids: Vec<RoomId> = self.room_ids().collect();
        for id in &ids {
            while let Some(fact) = self.room_mut(*id).and_then(|room| room.poll_fact(now)) {
                self.note_wanted(*id, &fact);
                self.facts.push_back((*id, fact));
            }
        }
        while let Some(fact) = self.router.poll_fact() {
            self.facts.push_back((RoomId::Router, fact));
        }
        while let Some((from, fact)) = self.facts.pop_front() {
            self.spread(now, from, &fact, &ids);
            moved = true;
        }
        moved |= self.route_calls(now, &ids);
        for id in &ids {
            while let Some((request, outcome)) = self.room_mut(*id).and_then(|r| r.poll_finished())
            {
                self.finished.push_back(Action::Finished(request, outcome));
                moved = true;
            }
        }
        moved
    }

    /// Calls out, one room after the other: rooms that want the same connection share its places,
    /// now and from one round to the next. Returns whether there were any.
    ///
    /// Producers take turns among themselves. A consumer calls again with every answer, and if that
    /// counted as a turn, the first producer behind it would be next each time.
    fn route_calls(&mut self, now: Now, ids: &[RoomId]) -> bool {
        let mut moved = false;
        loop {
            let next = self.poll_turn(now, ids, false);
            let Some((id, call)) = next.or_else(|| self.poll_turn(now, ids, true)) else {
                return moved;
            };
            let last = match id {
                RoomId::Producer(_) => &mut self.last_producer,
                _ => &mut self.last_other,
            };
            *last = Some(id);
            self.router.handle_call(now, call);
            moved = true;
        }
    }

    /// The next call of a producer, or of another room, beginning behind the one that called last.
    fn poll_turn(&mut self, now: Now, ids: &[RoomId], of_producer: bool) -> Option<(RoomId, Call)> {
        let last = match of_producer {
            true => self.last_producer,
            false => self.last_other,
        };
        let last = ids.iter().position(|id| Some(*id) == last);
        let turn = ids.iter().cycle().skip(last.map_or(0, |last| last + 1));
        let turn = turn.take(ids.len()).copied();
        turn.filter(|id| matches!(id, RoomId::Producer(_)) == of_producer)
            .find_map(|id| Some((id, self.poll_call(now, id)?)))
    }

    fn poll_call(&mut self, now: Now, id: RoomId) -> Option<Call> {
        let permits = self.router.permits();
        match id {
            RoomId::Router => None,
            RoomId::Metadata => self.metadata.poll_call(now, permits),
            RoomId::Admin => self.admin.as_mut()?.poll_call(now, permits),
            RoomId::Producer(n) => self.producers.get_mut(&n)?.poll_call(now, permits),
            RoomId::Transaction(n) => self.transactions.get_mut(&n)?.poll_call(now, permits),
            RoomId::Fetch(n) => self.fetches.get_mut(&n)?.poll_call(now, permits),
            RoomId::Group(n) => self.groups.get_mut(&n)?.poll_call(now, permits),
        }
    }

    fn give_reply(&mut self, now: Now, id: CallId, reply: Result<Reply, CallError>) {
        // A room that closed meanwhile has no use for it.
        if let Some(room) = self.room_mut(id.room) {
            room.handle_reply(now, id, reply);
        }
    }

    fn spread(&mut self, now: Now, from: RoomId, fact: &Fact, ids: &[RoomId]) {
        for id in ids.iter().filter(|id| **id != from) {
            if let Some(room) = self.room_mut(*id) {
                room.handle_fact(now, fact);
            }
        }
        self.router.handle_fact(now, fact);
    }

    fn cluster_fact(&self) -> Fact {
        Fact::ClusterChanged(self.metadata.cluster().clone())
    }

    fn note_wanted(&mut self, id: RoomId, fact: &Fact) {
        match fact {
            Fact::TopicsWanted(topics) => {
                self.wanted
                    .entry(id)
                    .or_default()
                    .extend(topics.iter().cloned());
            }
            Fact::TopicUnwanted(topic) => {
                if let Some(topics) = self.wanted.get_mut(&id)
                    && let Some(at) = topics.iter().position(|wanted| wanted == topic)
                {
                    topics.swap_remove(at);
                }
            }
            _ => {}
        }
    }

    fn unwant(&mut self, id: RoomId) {
        let topics = self.wanted.remove(&id).unwrap_or_default();
        let facts = topics
            .into_iter()
            .map(|topic| (id, Fact::TopicUnwanted(topic)));
        self.facts.extend(facts);
        self.dirty = true;
    }

    fn next_number(&mut self) -> u32 {
        self.last_number += 1;
        self.last_number
    }

    fn room_ids(&self) -> impl Iterator<Item = RoomId> {
        let producers = self.producers.keys().map(|n| RoomId::Producer(*n));
        let transactions = self.transactions.keys().map(|n| RoomId::Transaction(*n));
        let fetches = self.fetches.keys().map(|n| RoomId::Fetch(*n));
        let groups = self.groups.keys().map(|n| RoomId::Group(*n));
        let own = [RoomId::Metadata, RoomId::Admin].into_iter();
        own.chain(producers)
            .chain(transactions)
            .chain(fetches)
            .chain(groups)
    }

    fn room(&self, id: RoomId) -> Option<&dyn Room> {
        match id {
            RoomId::Router => None,
            RoomId::Metadata => Some(&self.metadata),
            RoomId::Admin => self.admin.as_ref().map(|room| &**room as &dyn Room),
            RoomId::Producer(n) => self.producers.get(&n).map(|room| &**room as &dyn Room),
            RoomId::Transaction(n) => self.transactions.get(&n).map(|room| &**room as &dyn Room),
            RoomId::Fetch(n) => self.fetches.get(&n).map(|room| &**room as &dyn Room),
            RoomId::Group(n) => self.groups.get(&n).map(|room| &**room as &dyn Room),
        }
    }

    fn room_mut(&mut self, id: RoomId) -> Option<&mut dyn Room> {
        match id {
            RoomId::Router => None,
            RoomId::Metadata => Some(&mut self.metadata),
            RoomId::Admin => self.admin.as_mut().map(|room| &mut **room as &mut dyn Room),
            RoomId::Producer(n) => self
                .producers
                .get_mut(&n)
                .map(|room| &mut **room as &mut dyn Room),
            RoomId::Transaction(n) => {
                let room = self.transactions.get_mut(&n);
                room.map(|room| &mut **room as &mut dyn Room)
            }
            RoomId::Fetch(n) => self
                .fetches
                .get_mut(&n)
                .map(|room| &mut **room as &mut dyn Room),
            RoomId::Group(n) => self
                .groups
                .get_mut(&n)
                .map(|room| &mut **room as &mut dyn Room),
        }
    }
}
