//! What all runs have in common: a plan, the stage that it is played on, and what goes wrong.

mod errors;
mod strikes;

use crate::simulation::check::Violation;
use crate::simulation::client::SimulatedClient;
use crate::simulation::faults::{Counts, Kind, schedule};
use crate::simulation::plan::Plan;
use crate::simulation::stage::{Stage, broker_now, first_moment};
use std::sync::Arc;
use tidewatch_broker::{Cluster, FaultId, NodeId, Options};
use tidewatch_client_core::call::{RequestId, TopicPartition};
use tidewatch_client_core::client::Command;
use tidewatch_client_core::fetch;
use tidewatch_client_core::fetch::inbox::Inbox;
use tidewatch_client_core::options::{ClientOptions, ConsumerOptions, ProducerOptions};
use tidewatch_client_core::producer::accumulator::Accumulator;
use tidewatch_protocol::compression::Compression;
use tidewatch_protocol::messages::ApiKey;

pub(super) const TOPIC: &str = "t";
/// `request.timeout.ms` of every client.
pub(super) const REQUEST_MS: u64 = 2_000;

/// What transactional producers ask of coordinators.
pub(super) const OF_TRANSACTIONS: [ApiKey; 5] = [
    ApiKey::EndTxn,
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::TxnOffsetCommit,
];
/// What members of a group ask of coordinators.
pub(super) const OF_GROUPS: [ApiKey; 5] = [
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::Heartbeat,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
];

/// A plan on its stage, and its faults.
pub(super) struct Trial {
    pub(super) plan: Plan,
    pub(super) stage: Stage,
    /// What faults may be about; what stands in it more often is struck more often.
    pub(super) targets: Vec<ApiKey>,
    /// What may get another coordinator.
    pub(super) groups: Vec<String>,
    pub(super) transactional_ids: Vec<String>,
    /// When what goes wrong, soonest last.
    schedule: Vec<(u64, Kind)>,
    injected: Vec<(FaultId, Kind)>,
    /// Nodes that are stopped, and until when.
    stopped: Vec<(u64, NodeId)>,
    /// Nodes that answer nothing, and until when.
    hung: Vec<(u64, FaultId)>,
    pub(super) counts: Counts,
    /// When the last trouble began or ended.
    pub(super) troubled_us: u64,
    requests: u64,
}

impl Trial {
    /// The cluster and its topic; nobody is there yet.
    pub(super) fn new(plan: Plan) -> Self {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let mut options = Options::with_nodes(plan.nodes);
        options.seed = random.u64(..);
        options.failover_us = random.u64(0..300_000);
        options.transaction_marker_delay_us = random.u64(0..30_000);
        options.group_min_session_timeout_ms = 1_000;
        options.group_initial_rebalance_delay_ms = random.i32(0..500);
        let level = random.i16(1..=2);
        options
            .features
            .insert(tidewatch_broker::TRANSACTION_VERSION.to_owned(), level);
        let mut trial = Self {
            plan,
            stage: Stage::new(Cluster::new(options), random, plan.log),
            targets: vec![ApiKey::Produce, ApiKey::Fetch],
            groups: Vec::new(),
            transactional_ids: Vec::new(),
            schedule: Vec::new(),
            injected: Vec::new(),
            stopped: Vec::new(),
            hung: Vec::new(),
            counts: Counts::default(),
            troubled_us: first_moment().monotonic_us,
            requests: 1_000,
        };
        trial.create_topic(TOPIC);
        trial
    }

    pub(super) fn create_topic(&mut self, topic: &str) {
        let plan = self.plan;
        let now = broker_now(self.stage.now);
        self.stage
            .cluster
            .create_topic(now, topic, plan.partitions, 3.min(plan.nodes), &[])
            .expect("a fresh topic");
    }

    pub(super) fn schedule_strikes(&mut self) {
        let start_us = self.stage.now.monotonic_us;
        self.schedule = schedule(self.plan, start_us, &mut self.stage.random);
    }

    /// What time brings: troubles that end, timers of the cluster and of clients, and new troubles.
    /// Those that befall members are handed back, for the world to carry out.
    pub(super) fn begin_turn(&mut self) -> Vec<Kind> {
        let of_members = self.strike_due();
        self.end_due();
        self.stage.handle_timeouts();
        of_members
    }

    /// When something happens by itself.
    pub(super) fn next_us(&self) -> Option<u64> {
        let faults = self.schedule.last().map(|(at, _)| *at);
        let starts = self.stopped.iter().map(|(at, _)| *at);
        let ends = starts.chain(self.hung.iter().map(|(at, _)| *at));
        ends.chain(faults).chain(self.stage.next_us()).min()
    }

    /// Nothing more goes wrong by itself.
    pub(super) fn is_calm(&self) -> bool {
        self.schedule.is_empty() && self.is_up()
    }

    /// Every node runs and answers.
    pub(super) fn is_up(&self) -> bool {
        self.stopped.is_empty() && self.hung.is_empty()
    }

    /// Counts the faults that waited for a request and got one.
    pub(super) fn count_strikes(&mut self) {
        for (id, kind) in std::mem::take(&mut self.injected) {
            if self.stage.cluster.struck(id) > 0 {
                self.counts.add(kind);
            }
        }
    }

    /// A client's process is killed: its connections break, and what it sent is on its way still.
    pub(super) fn kill(&mut self, client: usize) {
        let links = self.stage.network.connected();
        for link in links.into_iter().filter(|link| link.client == client) {
            let now_us = self.stage.now.monotonic_us;
            self.stage.network.close_by_client(now_us, link);
        }
        self.stage.thaw(client);
        self.stage.clients[client].kill();
    }

    pub(super) fn client_options(&self) -> ClientOptions {
        let ports = (0..u16::from(self.plan.nodes)).map(|node| 9092 + node);
        ClientOptions {
            bootstrap_servers: ports.map(|port| format!("127.0.0.1:{port}")).collect(),
            request_timeout_ms: REQUEST_MS,
            ..ClientOptions::default()
        }
    }

    /// A process more, by its number.
    pub(super) fn open_client(&mut self) -> usize {
        let number = self.stage.clients.len();
        let seed = self.stage.random.u64(..);
        let client = SimulatedClient::new(number, self.client_options(), seed);
        self.stage.clients.push(client);
        number
    }

    pub(super) fn open_producer(
        &mut self,
        client: usize,
        options: ProducerOptions,
    ) -> (u32, Arc<Accumulator>) {
        let now = self.stage.now;
        let client = &mut self.stage.clients[client];
        let accumulator = Accumulator::new(&options, client.waker());
        let core = client.core();
        let shared = Arc::clone(&accumulator);
        let room = match options.transactional_id {
            Some(_) => core.open_transactional_producer(now, options, shared),
            None => core.open_producer(now, options, shared),
        };
        (room, accumulator)
    }

    pub(super) fn open_consumer(
        &mut self,
        client: usize,
        options: ConsumerOptions,
    ) -> (u32, Arc<Inbox>) {
        let now = self.stage.now;
        let client = &mut self.stage.clients[client];
        let inbox = Inbox::new(&options, client.waker());
        let core = client.core();
        let room = core.open_consumer(now, options, Arc::clone(&inbox));
        (room, inbox)
    }

    /// A request of a user; its end comes among the stage's.
    pub(super) fn command(&mut self, client: usize, command: Command) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        let core = self.stage.clients[client].core();
        core.handle_command(self.stage.now, request, command);
        request
    }

    /// A client that reads all partitions from their beginning.
    pub(super) fn open_reader(&mut self, options: ConsumerOptions) -> Arc<Inbox> {
        let client = self.open_client();
        let options = ConsumerOptions {
            fetch_max_wait_ms: 200,
            request_timeout_ms: REQUEST_MS,
            max_partition_fetch_bytes: self.stage.random.i32(200..20_000),
            ..options
        };
        let (room, inbox) = self.open_consumer(client, options);
        let starts = (0..i32::from(self.plan.partitions)).map(|partition| {
            let partition = TopicPartition::new(TOPIC, partition);
            (partition, fetch::Start::Earliest)
        });
        let assign = fetch::Command::Assign(starts.collect());
        self.command(client, Command::Fetch(room, assign));
        inbox
    }

    pub(super) fn producer_options(&mut self) -> ProducerOptions {
        let codecs = [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        let random = &mut self.stage.random;
        ProducerOptions {
            compression: codecs[random.usize(0..codecs.len())],
            linger_ms: random.u64(0..20),
            batch_size: random.usize(200..4_000),
            request_timeout_ms: REQUEST_MS,
            max_in_flight: random.usize(1..=5),
            // Pauses as short as the network's: topics are forgotten and asked for all the time.
            metadata_max_idle_ms: random.u64(50..5_000),
            ..ProducerOptions::default()
        }
    }

    /// The offset after the last that is fully replicated.
    pub(super) fn high_watermark(&self, partition: i32) -> i64 {
        let view = self.stage.cluster.view(TOPIC, partition);
        view.map_or(0, |view| view.high_watermark)
    }

    /// Where a partition of `topic` ends, once no transaction is open in it.
    pub(super) fn settled_end(&self, topic: &str, partition: i32) -> Option<i64> {
        let cluster = &self.stage.cluster;
        let end = cluster.view(topic, partition).ok()?.end_offset;
        let stable = cluster.last_stable_offset(topic, partition).ok()?;
        (stable == end).then_some(end)
    }

    pub(super) fn partitions(&self) -> std::ops::Range<i32> {
        0..i32::from(self.plan.partitions)
    }
}

/// Partition `partition` of the topic that every run has.
pub(super) fn partition_of(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// What cannot be, said of something that a run met.
pub(super) fn cannot(doing: &str, why: impl std::fmt::Display) -> Violation {
    Violation(format!("failed to {doing}: {why}"))
}
