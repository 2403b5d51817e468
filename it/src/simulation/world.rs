//! A run: cluster, network, clients and what they do, stepped from event to event.

mod strikes;

use crate::simulation::check::{Fate, Partition, RecordName, Violation};
use crate::simulation::client::{SimulatedClient, body_of};
use crate::simulation::faults::{Counts, Kind};
use crate::simulation::network::{Arrival, LinkId, Network};
use core::net::{Ipv4Addr, SocketAddr};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tidewatch_broker::{Cluster, FaultId, NodeId, Options, Output};
use tidewatch_client_core::Now;
use tidewatch_client_core::call::{RequestId, TopicPartition};
use tidewatch_client_core::client::{Action, Command};
use tidewatch_client_core::fetch;
use tidewatch_client_core::fetch::inbox::{Event, Inbox};
use tidewatch_client_core::options::{ClientOptions, ConsumerOptions, ProducerOptions};
use tidewatch_client_core::producer::accumulator::{Accumulator, RecordRef, Refused};
use tidewatch_client_core::producer::delivery::Delivery;
use tidewatch_protocol::compression::Compression;

const TOPIC: &str = "t";
const START_WALL_MS: i64 = 1_700_000_000_000;
/// Longer than all timeouts of a run together: beyond it the run has stalled.
const STALL_US: u64 = 600_000_000;
/// Nothing in a run takes more events than this; a core that spins is caught.
const MAX_STEPS: u64 = 2_000_000;

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

/// What a good run tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Faults that struck, by kind.
    pub faults: Counts,
    /// How long it took, in simulated microseconds.
    pub simulated_us: u64,
    /// Records acknowledged.
    pub acknowledged: usize,
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
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.log {
            writeln!(f, "{line}")?;
        }
        write!(
            f,
            "seed {}: {}\nreplay: TIDEWATCH_SEED={} cargo test -p tidewatch-it --test sim_delivery -- --nocapture replay",
            self.seed, self.why, self.seed
        )
    }
}

/// Runs a plan to its end.
pub fn run(plan: Plan) -> Result<Report, Failure> {
    let mut world = World::new(plan);
    let result = world.run_to_end();
    let log = std::mem::take(&mut world.log);
    result.map_err(|why| Failure {
        seed: plan.seed,
        why,
        log,
    })?;
    Ok(Report {
        faults: world.counts.clone(),
        simulated_us: world.now.monotonic_us,
        acknowledged: world.acknowledged(),
    })
}

struct Producer {
    accumulator: Arc<Accumulator>,
    next: u32,
    next_append_us: u64,
    waiting: Vec<(usize, usize, Delivery)>,
}

struct World {
    plan: Plan,
    now: Now,
    random: fastrand::Rng,
    cluster: Cluster,
    network: Network,
    clients: Vec<SimulatedClient>,
    producers: Vec<Producer>,
    inbox: Arc<Inbox>,
    partitions: Vec<Partition>,
    /// When what goes wrong, soonest last.
    schedule: Vec<(u64, Kind)>,
    injected: Vec<(FaultId, Kind)>,
    stopped: Vec<(u64, NodeId)>,
    slow_links: Vec<(u64, LinkId)>,
    counts: Counts,
    log: Vec<String>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let now = Now {
            monotonic_us: 1_000_000,
            wall_ms: START_WALL_MS,
        };
        let mut options = Options::with_nodes(plan.nodes);
        options.seed = random.u64(..);
        options.failover_us = random.u64(0..300_000);
        let mut cluster = Cluster::new(options);
        cluster
            .create_topic(
                broker_now(now),
                TOPIC,
                plan.partitions,
                3.min(plan.nodes),
                &[],
            )
            .expect("a fresh topic");
        let opened =
            (0..plan.producers).map(|number| open_producer(plan, number, now, &mut random));
        let (mut clients, producers): (Vec<_>, Vec<_>) = opened.unzip();
        let (reader, inbox) = open_reader(plan, now, &mut random);
        clients.push(reader);
        let schedule = strikes::schedule(plan, now.monotonic_us, &mut random);
        Self {
            plan,
            now,
            random,
            cluster,
            network: Network::default(),
            clients,
            producers,
            inbox,
            partitions: (0..plan.partitions).map(|_| Partition::default()).collect(),
            schedule,
            injected: Vec::new(),
            stopped: Vec::new(),
            slow_links: Vec::new(),
            counts: Counts::default(),
            log: Vec::new(),
        }
    }

    fn run_to_end(&mut self) -> Result<(), Violation> {
        let deadline = self.now.monotonic_us + STALL_US;
        for _ in 0..MAX_STEPS {
            self.settle()?;
            if self.is_done() {
                return self.check();
            }
            let next = self.next_us();
            if next > deadline {
                return Err(Violation(format!("stalled: {}", self.describe_wait())));
            }
            self.advance_to(next.max(self.now.monotonic_us));
        }
        Err(Violation(format!(
            "no end after {MAX_STEPS} steps: {}",
            self.describe_wait()
        )))
    }

    /// Carries out everything that is due now, until nothing moves.
    fn settle(&mut self) -> Result<(), Violation> {
        self.strike_due();
        self.start_due();
        self.cluster.handle_timeout(broker_now(self.now));
        for client in &mut self.clients {
            if client
                .core
                .poll_timeout()
                .is_some_and(|(at, _)| at <= self.now.monotonic_us)
            {
                client.core.handle_timeout(self.now);
            }
        }
        loop {
            let mut moved = false;
            while let Some((link, arrival)) = self.network.pop(self.now.monotonic_us) {
                self.arrive(link, arrival);
                moved = true;
            }
            moved |= self.append();
            moved |= self.poll_deliveries()?;
            moved |= self.read()?;
            moved |= self.drive_clients();
            moved |= self.drive_cluster();
            if !moved {
                return Ok(());
            }
        }
    }

    fn next_us(&self) -> u64 {
        let clients = self
            .clients
            .iter()
            .filter_map(|c| c.core.poll_timeout())
            .map(|(at, _)| at);
        let cluster = self.cluster.poll_timeout().map(|at| at.monotonic_us);
        let appends = self
            .producers
            .iter()
            .filter(|p| p.next < self.records_each())
            .map(|p| p.next_append_us);
        let faults = self.schedule.last().map(|(at, _)| *at);
        let starts = self.stopped.iter().map(|(at, _)| *at);
        let soonest = clients
            .chain(cluster)
            .chain(appends)
            .chain(faults)
            .chain(starts)
            .chain(self.network.next_us())
            .min();
        soonest.unwrap_or(u64::MAX)
    }

    fn advance_to(&mut self, at_us: u64) {
        let passed_ms = i64::try_from((at_us - self.now.monotonic_us) / 1000).unwrap_or(i64::MAX);
        self.now = Now {
            monotonic_us: at_us,
            wall_ms: self.now.wall_ms.saturating_add(passed_ms),
        };
    }

    fn records_each(&self) -> u32 {
        self.plan.records / u32::try_from(self.plan.producers).unwrap_or(1)
    }

    fn append(&mut self) -> bool {
        let each = self.records_each();
        let mut moved = false;
        for (number, producer) in self.producers.iter_mut().enumerate() {
            while producer.next < each && producer.next_append_us <= self.now.monotonic_us {
                let partition = self.random.usize(0..self.partitions.len());
                let name = RecordName {
                    producer: number,
                    number: producer.next,
                };
                let mut value = name.encode();
                value.extend(std::iter::repeat_n('x', self.random.usize(0..200)));
                let record = RecordRef {
                    topic: TOPIC,
                    partition: Some(i32::try_from(partition).expect("few partitions")),
                    timestamp_ms: None,
                    key: None,
                    value: Some(value.as_bytes()),
                    headers: &[],
                };
                match producer.accumulator.append(self.now, record) {
                    Ok(appended) => {
                        let story = &mut self.partitions[partition];
                        story.sent.push((name, None));
                        producer
                            .waiting
                            .push((partition, story.sent.len() - 1, appended.delivery));
                        producer.next += 1;
                        producer.next_append_us =
                            self.now.monotonic_us + self.random.u64(0..40_000);
                        moved = true;
                    }
                    Err(Refused::UnknownTopic | Refused::Full) => {
                        producer.next_append_us = self.now.monotonic_us + 5_000
                    }
                    Err(refused) => unreachable!("a small record was refused: {refused:?}"),
                }
            }
        }
        moved
    }

    fn poll_deliveries(&mut self) -> Result<bool, Violation> {
        let mut context = Context::from_waker(Waker::noop());
        let mut moved = false;
        for producer in &mut self.producers {
            let mut still = Vec::new();
            for (partition, index, mut delivery) in producer.waiting.drain(..) {
                match Pin::new(&mut delivery).poll(&mut context) {
                    Poll::Pending => still.push((partition, index, delivery)),
                    Poll::Ready(outcome) => {
                        moved = true;
                        let fate = match outcome {
                            Ok(told) => Fate::Acknowledged(told.offset),
                            Err(error) if error.possibly_written => Fate::PossiblyWritten,
                            Err(_) => Fate::NotWritten,
                        };
                        self.partitions[partition].sent[index].1 = Some(fate);
                    }
                }
            }
            producer.waiting = still;
        }
        Ok(moved)
    }

    fn read(&mut self) -> Result<bool, Violation> {
        let mut context = Context::from_waker(Waker::noop());
        let mut moved = false;
        loop {
            match self.inbox.poll_event(&mut context) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(Event::Records(records))) => {
                    moved = true;
                    let partition =
                        usize::try_from(records.topic_partition().partition).expect("not negative");
                    for record in records {
                        let record = record
                            .map_err(|e| Violation(format!("the consumer cannot read: {e}")))?;
                        let name = record.value.as_deref().and_then(RecordName::parse);
                        let name =
                            name.ok_or_else(|| Violation("a record that nobody sent".to_owned()))?;
                        self.partitions[partition].read.push((record.offset, name));
                    }
                }
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Ready(Err(error)) => {
                    return Err(Violation(format!("the consumer failed: {error}")));
                }
            }
        }
    }

    fn drive_clients(&mut self) -> bool {
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
            // Simulated brokers authenticate nobody.
            Action::WantToken(_) => {}
            Action::Close { connection, why } => {
                let link = self.clients[client].link(connection);
                self.note(|| format!("client {client} closes {connection:?}: {why}"));
                self.network.close_by_client(now.monotonic_us, link);
            }
            Action::Finished(request, result) => {
                self.note(|| format!("client {client}: {request:?} ended with {result:?}"))
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

    fn is_done(&self) -> bool {
        let each = self.records_each();
        let sent = self
            .producers
            .iter()
            .all(|p| p.next == each && p.waiting.is_empty());
        sent && self.stopped.is_empty() && (0..self.partitions.len()).all(|p| self.is_read(p))
    }

    fn is_read(&self, partition: usize) -> bool {
        let number = i32::try_from(partition).unwrap_or(0);
        let end = self
            .cluster
            .view(TOPIC, number)
            .map_or(0, |view| view.high_watermark);
        let read = self.partitions[partition]
            .read
            .last()
            .map_or(0, |(offset, _)| offset + 1);
        read >= end
    }

    fn check(&mut self) -> Result<(), Violation> {
        for (id, kind) in std::mem::take(&mut self.injected) {
            if self.cluster.struck(id) > 0 {
                self.counts.add(kind);
            }
        }
        for at in 0..self.partitions.len() {
            let number = i32::try_from(at).unwrap_or(0);
            let batches = self
                .cluster
                .batches(TOPIC, number)
                .map_err(|e| Violation(e.to_string()))?;
            for batch in batches {
                let records = batch
                    .records(1 << 20)
                    .map_err(|e| Violation(e.to_string()))?;
                for record in records {
                    let record = record.map_err(|e| Violation(e.to_string()))?;
                    let name = record.value.as_deref().and_then(RecordName::parse);
                    let name = name.ok_or_else(|| {
                        Violation("the log has a record that nobody sent".to_owned())
                    })?;
                    self.partitions[at].log.push((record.offset, name));
                }
            }
            self.partitions[at].check(at)?;
        }
        Ok(())
    }

    fn acknowledged(&self) -> usize {
        let sent = self.partitions.iter().flat_map(|p| &p.sent);
        sent.filter(|(_, fate)| matches!(fate, Some(Fate::Acknowledged(_))))
            .count()
    }

    fn describe_wait(&self) -> String {
        let unresolved: usize = self.producers.iter().map(|p| p.waiting.len()).sum();
        let stuck = (0..self.partitions.len())
            .filter(|p| !self.is_read(*p))
            .map(|partition| {
                let number = i32::try_from(partition).unwrap_or(0);
                let status = self.inbox.status(&partition_of(number));
                let view = self.cluster.view(TOPIC, number);
                format!("partition {partition} is not read to its end: {status:?}, {view:?}")
            });
        let stuck: Vec<_> = stuck.collect();
        let timers: Vec<_> = self.clients.iter().map(|c| c.core.poll_timeout()).collect();
        format!("{unresolved} deliveries unresolved, {stuck:?}, clients' timers: {timers:?}")
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.plan.log {
            self.log
                .push(format!("{:>10} µs  {}", self.now.monotonic_us, what()));
        }
    }
}

fn broker_now(now: Now) -> tidewatch_broker::Now {
    tidewatch_broker::Now {
        monotonic_us: now.monotonic_us,
        wall_ms: now.wall_ms,
    }
}

fn partition_of(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TOPIC.into(),
        partition,
    }
}

fn client_options(plan: Plan) -> ClientOptions {
    let ports = (0..u16::from(plan.nodes)).map(|node| 9092 + node);
    ClientOptions {
        bootstrap_servers: ports.map(|port| format!("127.0.0.1:{port}")).collect(),
        request_timeout_ms: 2_000,
        ..ClientOptions::default()
    }
}

fn open_producer(
    plan: Plan,
    number: usize,
    now: Now,
    random: &mut fastrand::Rng,
) -> (SimulatedClient, Producer) {
    let mut client = SimulatedClient::new(number, client_options(plan), random.u64(..));
    let options = producer_options(random);
    let accumulator = Accumulator::new(&options, client.waker());
    client
        .core
        .open_producer(now, options, Arc::clone(&accumulator));
    let producer = Producer {
        accumulator,
        next: 0,
        next_append_us: now.monotonic_us,
        waiting: Vec::new(),
    };
    (client, producer)
}

/// A client that reads all partitions from their beginning.
fn open_reader(plan: Plan, now: Now, random: &mut fastrand::Rng) -> (SimulatedClient, Arc<Inbox>) {
    let mut client = SimulatedClient::new(plan.producers, client_options(plan), random.u64(..));
    let options = ConsumerOptions {
        fetch_max_wait_ms: 200,
        request_timeout_ms: 2_000,
        max_partition_fetch_bytes: random.i32(200..20_000),
        ..ConsumerOptions::default()
    };
    let inbox = Inbox::new(&options, client.waker());
    let room = client.core.open_consumer(now, options, Arc::clone(&inbox));
    let partitions = 0..i32::from(plan.partitions);
    let starts = partitions.map(|partition| (partition_of(partition), fetch::Start::Earliest));
    let assign = fetch::Command::Assign(starts.collect());
    client
        .core
        .handle_command(now, RequestId(1), Command::Fetch(room, assign));
    (client, inbox)
}

fn producer_options(random: &mut fastrand::Rng) -> ProducerOptions {
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    ProducerOptions {
        compression: codecs[random.usize(0..codecs.len())],
        linger_ms: random.u64(0..20),
        batch_size: random.usize(200..4_000),
        request_timeout_ms: 2_000,
        max_in_flight: random.usize(1..=5),
        ..ProducerOptions::default()
    }
}
