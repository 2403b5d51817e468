//! What every run has: a cluster, clients, the network between them, and simulated time.

use crate::simulation::client::{SimulatedClient, body_of};
use crate::simulation::network::{Arrival, LinkId, Network};
use core::net::{Ipv4Addr, SocketAddr};
use tidewatch_broker::{Cluster, NodeId, Output};
use tidewatch_client_core::Now;
use tidewatch_client_core::call::{Outcome, RequestId};
use tidewatch_client_core::client::Action;
use tidewatch_client_core::error::Error;

const START_WALL_MS: i64 = 1_700_000_000_000;

/// The stage of a run.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) now: Now,
    pub(crate) random: fastrand::Rng,
    pub(crate) cluster: Cluster,
    pub(crate) network: Network,
    pub(crate) clients: Vec<SimulatedClient>,
    /// Connections that answer late, and until when.
    pub(crate) slow_links: Vec<(u64, LinkId)>,
    /// Processes that stand still, and until when.
    frozen: Vec<(u64, usize)>,
    /// Requests of the clients that have ended.
    pub(crate) ended: Vec<(usize, RequestId, Result<Outcome, Error>)>,
    /// What happened, if that is asked for.
    pub(crate) log: Option<Vec<String>>,
}

impl Stage {
    /// Empty, at its first moment.
    pub(crate) fn new(cluster: Cluster, random: fastrand::Rng, with_log: bool) -> Self {
        Self {
            now: first_moment(),
            random,
            cluster,
            network: Network::default(),
            clients: Vec::new(),
            slow_links: Vec::new(),
            frozen: Vec::new(),
            ended: Vec::new(),
            log: with_log.then(Vec::new),
        }
    }

    /// The time for the broker.
    pub(crate) fn broker_now(&self) -> tidewatch_broker::Now {
        broker_now(self.now)
    }

    /// Lets cluster and clients do what is due.
    pub(crate) fn handle_timeouts(&mut self) {
        self.cluster.handle_timeout(broker_now(self.now));
        self.frozen
            .retain(|(at_us, _)| *at_us > self.now.monotonic_us);
        for client in &mut self.clients {
            if self
                .frozen
                .iter()
                .any(|(_, frozen)| *frozen == client.number)
            {
                continue;
            }
            let timeout_us = client.timeout_us();
            if timeout_us.is_some_and(|at_us| at_us <= self.now.monotonic_us) {
                client.core().handle_timeout(self.now);
            }
        }
    }

    /// Delivers what has arrived; true if something had.
    pub(crate) fn deliver(&mut self) -> bool {
        let mut moved = false;
        while let Some((link, arrival)) = self.network.pop(self.now.monotonic_us) {
            let until_us = self.frozen_until_us(link.client);
            match until_us.filter(|_| arrival.is_for_client()) {
                Some(until_us) => self.network.put_off(until_us, link, arrival),
                None => self.arrive(link, arrival),
            }
            moved = true;
        }
        moved
    }

    /// A process stands still: what is for it waits at its door, and it knows of no time passing.
    pub(crate) fn freeze(&mut self, client: usize, until_us: u64) {
        self.frozen.push((until_us, client));
    }

    /// It goes on, or is no more.
    pub(crate) fn thaw(&mut self, client: usize) {
        self.frozen.retain(|(_, frozen)| *frozen != client);
    }

    /// Until when a process stands still.
    pub(crate) fn frozen_until_us(&self, client: usize) -> Option<u64> {
        let mut frozen = self.frozen.iter();
        let found = frozen.find(|(_, frozen)| *frozen == client);
        found.map(|(until_us, _)| *until_us)
    }

    /// Carries out what clients and cluster want by now; true if that was something.
    pub(crate) fn drive(&mut self) -> bool {
        self.drive_clients() | self.drive_cluster()
    }

    /// When something happens next by itself.
    pub(crate) fn next_us(&self) -> Option<u64> {
        let awake = |client: &&SimulatedClient| self.frozen_until_us(client.number).is_none();
        let clients = self.clients.iter().filter(awake);
        let clients = clients.filter_map(|client| client.timeout_us());
        let wakes = self.frozen.iter().map(|(until_us, _)| *until_us);
        let clients = clients.chain(wakes);
        let cluster = self.cluster.poll_timeout().map(|at| at.monotonic_us);
        clients.chain(cluster).chain(self.network.next_us()).min()
    }

    /// Moves both clocks.
    pub(crate) fn advance_to(&mut self, at_us: u64) {
        let passed_ms = i64::try_from((at_us - self.now.monotonic_us) / 1000).unwrap_or(i64::MAX);
        self.now = Now {
            monotonic_us: at_us,
            wall_ms: self.now.wall_ms.saturating_add(passed_ms),
        };
    }

    /// Notes what happened, if that is asked for.
    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>10} µs  {}", self.now.monotonic_us, what()));
        }
    }

    fn drive_clients(&mut self) -> bool {
        let mut moved = false;
        for at in 0..self.clients.len() {
            if self.frozen_until_us(at).is_some() {
                continue;
            }
            moved |= self.clients[at].take_wake(self.now);
            while let Some(action) = self.clients[at].poll(self.now) {
                moved = true;
                self.act(at, action);
            }
        }
        moved
    }

    fn act(&mut self, client: usize, action: Action) {
        let now = self.now;
        match action {
            Action::Resolve {
                connection, port, ..
            } => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                self.clients[client]
                    .core()
                    .handle_resolved(now, connection, Ok(vec![address]));
            }
            Action::Connect {
                connection,
                address,
                ..
            } => {
                let link = self.clients[client].link(connection);
                let delay = self.delay_us();
                self.network.open(now.monotonic_us, delay, link, address);
            }
            Action::Send(connection, frame) => {
                let link = self.clients[client].link(connection);
                let delay = self.delay_on(link);
                self.network
                    .send_to_broker(now.monotonic_us, delay, link, body_of(&frame));
                self.clients[client].core().handle_written(now, connection);
            }
            // Simulated brokers authenticate nobody.
            Action::WantToken(_) => {}
            Action::Close { connection, why } => {
                let link = self.clients[client].link(connection);
                self.note(|| format!("client {client} closes {connection:?}: {why}"));
                self.network.close_by_client(now.monotonic_us, link);
            }
            Action::Finished(request, result) => {
                self.note(|| format!("client {client}: {request:?} ended with {result:?}"));
                self.ended.push((client, request, result));
            }
        }
    }

    fn drive_cluster(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.cluster.poll_output() {
            moved = true;
            let delay = self.delay_us();
            match output {
                Output::Send(to, frame) => {
                    self.network
                        .send_to_client(self.now.monotonic_us, delay, to, body_of(&frame));
                }
                Output::Close(to, why) => {
                    self.note(|| format!("broker closes {to:?}: {why:?}"));
                    self.network
                        .close_by_broker(self.now.monotonic_us, delay, to);
                }
            }
        }
        moved
    }

    fn arrive(&mut self, link: LinkId, arrival: Arrival) {
        let now = self.now;
        let client = &mut self.clients[link.client];
        match arrival {
            Arrival::Syn(address) => {
                let node = NodeId(i32::from(address.port()) - 9091);
                let accepted = self.cluster.handle_connected(node);
                let delay = self.random.u64(100..2_000);
                match accepted {
                    Some(broker) => self.network.accept(now.monotonic_us, delay, link, broker),
                    None => self.network.refuse(now.monotonic_us, delay, link),
                }
            }
            Arrival::Connected => client.core().handle_connected(now, link.connection),
            Arrival::ToBroker(frame) => {
                if let Some(broker) = self.network.broker_of(link) {
                    self.cluster.handle_frame(broker_now(now), broker, frame);
                }
            }
            Arrival::ToClient(frame) => client.core().handle_frame(now, link.connection, frame),
            Arrival::ClosedByBroker(why) => {
                self.network.forget(link);
                client.core().handle_closed(now, link.connection, why);
            }
            Arrival::ClosedByClient => {
                if let Some(broker) = self.network.broker_of(link) {
                    self.cluster.handle_disconnected(broker);
                }
                self.network.forget(link);
            }
        }
    }

    /// One way's delay: a local network with a long tail.
    fn delay_us(&mut self) -> u64 {
        if self.random.u8(0..20) == 0 {
            self.random.u64(1_000..30_000)
        } else {
            self.random.u64(50..1_000)
        }
    }

    fn delay_on(&mut self, link: LinkId) -> u64 {
        let slow = self
            .slow_links
            .iter()
            .any(|(until, slow)| *slow == link && *until > self.now.monotonic_us);
        self.delay_us()
            + if slow {
                self.random.u64(100_000..1_500_000)
            } else {
                0
            }
    }
}

/// When every run begins.
pub(crate) fn first_moment() -> Now {
    Now {
        monotonic_us: 1_000_000,
        wall_ms: START_WALL_MS,
    }
}

pub(crate) fn broker_now(now: Now) -> tidewatch_broker::Now {
    tidewatch_broker::Now {
        monotonic_us: now.monotonic_us,
        wall_ms: now.wall_ms,
    }
}
