//! What runs of producers have in common: a plan, the stage that it is played on, and what goes wrong.

mod strikes;

use crate::simulation::check::Violation;
use crate::simulation::client::SimulatedClient;
use crate::simulation::faults::{Counts, Kind};
use crate::simulation::stage::{Stage, broker_now, first_moment};
use std::fmt;
use std::sync::Arc;
use tidewatch_broker::{Cluster, FaultId, NodeId, Options};
use tidewatch_client_core::Now;
use tidewatch_client_core::call::{RequestId, TopicPartition};
use tidewatch_client_core::client::Command;
use tidewatch_client_core::fetch;
use tidewatch_client_core::fetch::inbox::Inbox;
use tidewatch_client_core::options::{ClientOptions, ConsumerOptions};
use tidewatch_protocol::messages::ApiKey;

pub(super) const TOPIC: &str = "t";

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
            // Twenty have to strike, and some wait for a request that does not come any more.
            faults: 28,
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

/// A plan on its stage, and its faults.
pub(super) struct Trial {
    pub(super) plan: Plan,
    pub(super) stage: Stage,
    /// What faults may be about; the first one is struck as often as all others together.
    pub(super) targets: Vec<ApiKey>,
    /// When what goes wrong, soonest last.
    schedule: Vec<(u64, Kind)>,
    injected: Vec<(FaultId, Kind)>,
    pub(super) stopped: Vec<(u64, NodeId)>,
    pub(super) counts: Counts,
}

impl Trial {
    /// The cluster and its topic; nobody is there yet.
    pub(super) fn new(plan: Plan) -> Self {
        let mut random = fastrand::Rng::with_seed(plan.seed);
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
        let now = broker_now(first_moment());
        cluster
            .create_topic(now, TOPIC, plan.partitions, replicas, &[])
            .expect("a fresh topic");
        Self {
            plan,
            stage: Stage::new(cluster, random, plan.log),
            targets: vec![ApiKey::Produce, ApiKey::Fetch],
            schedule: Vec::new(),
            injected: Vec::new(),
            stopped: Vec::new(),
            counts: Counts::default(),
        }
    }

    pub(super) fn schedule_strikes(&mut self) {
        let start_us = self.stage.now.monotonic_us;
        self.schedule = strikes::schedule(self.plan, start_us, &mut self.stage.random);
    }

    /// What time brings: faults, nodes that start again, timers of the cluster and of clients.
    pub(super) fn begin_turn(&mut self) {
        self.strike_due();
        self.start_due();
        self.stage.handle_timeouts();
    }

    /// When something happens by itself.
    pub(super) fn next_us(&self) -> Option<u64> {
        let faults = self.schedule.last().map(|(at, _)| *at);
        let starts = self.stopped.iter().map(|(at, _)| *at);
        starts.chain(faults).chain(self.stage.next_us()).min()
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
