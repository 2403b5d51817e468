//! What every run stands on: the cluster, the network, the clients that are driven over it, the time,
//! and what goes wrong.

mod strikes;

use crate::simulation::check::Violation;
use crate::simulation::client::{SimulatedClient, body_of};
use crate::simulation::faults::{Counts, Kind};
use crate::simulation::network::{Arrival, LinkId, Network};
use core::net::{Ipv4Addr, SocketAddr};
use std::fmt;
use std::sync::Arc;
use tidewatch_broker::{Cluster, FaultId, NodeId, Options, Output};
use tidewatch_client_core::Now;
use tidewatch_client_core::call::{Outcome, RequestId, TopicPartition};
use tidewatch_client_core::client::{Action, Command};
use tidewatch_client_core::error::Error;
use tidewatch_client_core::fetch;
use tidewatch_client_core::fetch::inbox::Inbox;
use tidewatch_client_core::options::{ClientOptions, ConsumerOptions};
use tidewatch_protocol::messages::ApiKey;

pub(super) const TOPIC: &str = "t";
const START_WALL_MS: i64 = 1_700_000_000_000;

/// What a run consists of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Decides everything else.
    pub seed: u64,
    /// Brokers.
    pub nodes: u8,
    /// Partitions of the one topic, each with three replicas.
    pub partitions: u16,
    /// Clients that produce.
    pub producers: usize,
    /// Records of all producers together.
    pub records: u32,
    /// Things that go wrong.
    pub faults: usize,
    /// Keeps a log of what happened.
    pub log: bool,
}

impl Plan {
    /// The smallest run that counts.
    pub fn of_seed(seed: u64) -> Self {
        Self {
            seed,
            nodes: 3,
            partitions: 4,
            producers: 2,
            records: 500,
            faults: 24,
            log: false,
        }
    }
}

/// A run that broke a promise or stalled.
#[derive(Debug)]
pub struct Failure {
    /// The seed that plays it again.
    pub seed: u64,
    /// What was broken.
    pub why: Violation,
    /// What happened, if the plan asked for it.
    pub log: Vec<String>,
    /// The test that plays seeds of its kind.
    pub test: &'static str,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.log {
            writeln!(f, "{line}")?;
        }
        write!(
            f,
            "seed {}: {}\nreplay: TIDEWATCH_SEED={} cargo test -p tidewatch-it --test {} -- --nocapture replay",
            self.seed, self.why, self.seed, self.test
        )
    }
}

/// Cluster, network, clients, time and faults of a run.
pub(super) struct Stage {
    pub(super) plan: Plan,
    pub(super) now: Now,
    pub(super) random: fastrand::Rng,
    pub(super) cluster: Cluster,
    pub(super) network: Network,
    pub(super) clients: Vec<SimulatedClient>,
    /// Ends of users' requests: whose, which, how.
    pub(super) finished: Vec<(usize, RequestId, Result<Outcome, Error>)>,
    /// What faults may be about; the first one is struck as often as all others together.
    pub(super) targets: Vec<ApiKey>,
    /// When what goes wrong, soonest last.
    schedule: Vec<(u64, Kind)>,
    injected: Vec<(FaultId, Kind)>,
    pub(super) stopped: Vec<(u64, NodeId)>,
    slow_links: Vec<(u64, LinkId)>,
    pub(super) counts: Counts,
    pub(super) log: Vec<String>,
}

impl Stage {
    /// The cluster and its topic; nobody is there yet.
    pub(super) fn new(plan: Plan) -> Self {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let now = Now {
            monotonic_us: 1_000_000,
            wall_ms: START_WALL_MS,
        };
        let mut options = Options::with_nodes(plan.nodes);
        options.seed = random.u64(..);
        options.failover_us = random.u64(0..300_000);
        options.transaction_marker_delay_us = random.u64(0..30_000);
        let level = random.i16(1..=2);
        options
            .features
            .insert(tidewatch_broker::TRANSACTION_VERSION.to_owned(), level);
        let mut cluster = Cluster::new(options);
        let replicas = 3.min(plan.nodes);
        cluster
            .create_topic(broker_now(now), TOPIC, plan.partitions, replicas, &[])
            .expect("a fresh topic");
        Self {
            plan,
            now,
            random,
            cluster,
            network: Network::default(),
            clients: Vec::new(),
            finished: Vec::new(),
            targets: vec![ApiKey::Produce, ApiKey::Fetch],
            schedule: Vec::new(),
            injected: Vec::new(),
            stopped: Vec::new(),
            slow_links: Vec::new(),
            counts: Counts::default(),
            log: Vec::new(),
        }
    }

    pub(super) fn schedule_strikes(&mut self) {
        self.schedule = strikes::schedule(self.plan, self.now.monotonic_us, &mut self.random);
    }

    /// What time brings: faults, nodes that start again, timers of the cluster and of clients.
    pub(super) fn begin_turn(&mut self) {
        self.strike_due();
        self.start_due();
        self.cluster.handle_timeout(broker_now(self.now));
        for client in &mut self.clients {
            let timeout = client.core.poll_timeout();
            if timeout.is_some_and(|(at, _)| at <= self.now.monotonic_us) {
                client.core.handle_timeout(self.now);
            }
        }
    }

    /// Hands out what has arrived by now. True if something had.
    pub(super) fn deliver(&mut self) -> bool {
        let mut moved = false;
        while let Some((link, arrival)) = self.network.pop(self.now.monotonic_us) {
            self.arrive(link, arrival);
            moved = true;
        }
        moved
    }

    /// When something happens by itself.
    pub(super) fn next_us(&self) -> Option<u64> {
        let clients = self.clients.iter().filter_map(|c| c.core.poll_timeout());
        let clients = clients.map(|(at, _)| at);
        let cluster = self.cluster.poll_timeout().map(|at| at.monotonic_us);
        let faults = self.schedule.last().map(|(at, _)| *at);
        let starts = self.stopped.iter().map(|(at, _)| *at);
        let soonest = clients.chain(cluster).chain(faults).chain(starts);
        soonest.chain(self.network.next_us()).min()
    }

    /// Counts the faults that waited for a request and got one.
    pub(super) fn count_strikes(&mut self) {
        for (id, kind) in std::mem::take(&mut self.injected) {
            if self.cluster.struck(id) > 0 {
                self.counts.add(kind);
            }
        }
    }

    /// A client's process is killed: its connections break, and what it sent is on its way still.
    pub(super) fn kill(&mut self, client: usize) {
        let links = self.network.connected();
        for link in links.into_iter().filter(|link| link.client == client) {
            self.network.close_by_client(self.now.monotonic_us, link);
        }
    }

    pub(super) fn advance_to(&mut self, at_us: u64) {
        let passed_ms = i64::try_from((at_us - self.now.monotonic_us) / 1000).unwrap_or(i64::MAX);
        self.now = Now {
            monotonic_us: at_us,
            wall_ms: self.now.wall_ms.saturating_add(passed_ms),
        };
    }

    pub(super) fn drive_clients(&mut self) -> bool {
        let mut moved = false;
        for at in 0..self.clients.len() {
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
                    .core
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
                self.clients[client].core.handle_written(now, connection);
            }
            Action::Close { connection, why } => {
                let link = self.clients[client].link(connection);
                self.note(|| format!("client {client} closes {connection:?}: {why}"));
                self.network.close_by_client(now.monotonic_us, link);
            }
            Action::Finished(request, result) => {
                self.note(|| format!("client {client}: {request:?} ended with {result:?}"));
                self.finished.push((client, request, result));
            }
        }
    }

    pub(super) fn drive_cluster(&mut self) -> bool {
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
        let core = &mut self.clients[link.client].core;
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
            Arrival::Connected => core.handle_connected(now, link.connection),
            Arrival::ToBroker(frame) => {
                if let Some(broker) = self.network.broker_of(link) {
                    self.cluster.handle_frame(broker_now(now), broker, frame);
                }
            }
            Arrival::ToClient(frame) => core.handle_frame(now, link.connection, frame),
            Arrival::ClosedByBroker(why) => {
                self.network.forget(link);
                core.handle_closed(now, link.connection, why);
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

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.plan.log {
            self.log
                .push(format!("{:>10} µs  {}", self.now.monotonic_us, what()));
        }
    }
}

pub(super) fn broker_now(now: Now) -> tidewatch_broker::Now {
    tidewatch_broker::Now {
        monotonic_us: now.monotonic_us,
        wall_ms: now.wall_ms,
    }
}

pub(super) fn client_options(plan: Plan) -> ClientOptions {
    let ports = (0..u16::from(plan.nodes)).map(|node| 9092 + node);
    ClientOptions {
        bootstrap_servers: ports.map(|port| format!("127.0.0.1:{port}")).collect(),
        request_timeout_ms: 2_000,
        ..ClientOptions::default()
    }
}

/// A client that reads all partitions from their beginning.
pub(super) fn open_reader_with(
    options: ConsumerOptions,
    plan: Plan,
    now: Now,
    random: &mut fastrand::Rng,
) -> (SimulatedClient, Arc<Inbox>) {
    let mut client = SimulatedClient::new(plan.producers, client_options(plan), random.u64(..));
    let options = ConsumerOptions {
        fetch_max_wait_ms: 200,
        request_timeout_ms: 2_000,
        max_partition_fetch_bytes: random.i32(200..20_000),
        ..options
    };
    let inbox = Inbox::new(&options, client.waker());
    let room = client.core.open_consumer(now, options, Arc::clone(&inbox));
    let partitions = 0..i32::from(plan.partitions);
    let starts = partitions.map(|partition| {
        (
            TopicPartition::new(TOPIC, partition),
            fetch::Start::Earliest,
        )
    });
    let assign = fetch::Command::Assign(starts.collect());
    client
        .core
        .handle_command(now, RequestId(1), Command::Fetch(room, assign));
    (client, inbox)
}
