//! A group in a run of its own: members come, go, crash and hang, the coordinator moves, requests fail
//! at every step; and in the end every record was delivered, each to a member that had its partition,
//! and everything is committed.

mod strikes;

use crate::simulation::check::Violation;
use crate::simulation::client::SimulatedClient;
use crate::simulation::stage::{Stage, broker_now, first_moment};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use strikes::Strike;
use tidewatch_broker::{Cluster, NodeId, Options};
use tidewatch_client_core::call::{RequestId, TopicPartition};
use tidewatch_client_core::client::Command;
use tidewatch_client_core::fetch::inbox::{Event, Inbox, Rebalance, Revocation};
use tidewatch_client_core::group;
use tidewatch_client_core::group::assignor::Strategy;
use tidewatch_client_core::group::subscription::Assignment;
use tidewatch_client_core::options::{
    ClientOptions, ConsumerOptions, OffsetReset, ProducerOptions,
};
use tidewatch_client_core::producer::accumulator::{Accumulator, RecordRef};

const TOPIC: &str = "t";
const GROUP: &str = "g";
const NODES: u8 = 3;
/// Longer than all timeouts of a run together: beyond it the run has stalled.
const STALL_US: u64 = 300_000_000;
/// Nothing in a run takes more events than this; a core that spins is caught.
const MAX_STEPS: u64 = 500_000;
/// How long things go wrong.
const SPAN_US: u64 = 60_000_000;
const SESSION_MS: u64 = 3_000;
const MAX_POLL_MS: u64 = 8_000;

/// What a run consists of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Decides everything else.
    pub seed: u64,
    /// Partitions of the one topic.
    pub partitions: u16,
    /// Members at the start.
    pub members: usize,
    /// Records, spread over the run.
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
            partitions: 5,
            members: 3,
            records: 300,
            faults: 20,
            log: false,
        }
    }
}

/// What a good run tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How often what went wrong, by its name.
    pub faults: BTreeMap<&'static str, u64>,
    /// How long it took, in simulated microseconds.
    pub simulated_us: u64,
    /// Generations that the group has been through.
    pub generations: i32,
    /// Deliveries beyond one for each record.
    pub repeated: usize,
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
            "seed {}: {}\nreplay: TIDEWATCH_SEED={} cargo test -p tidewatch-it --test sim_groups -- --nocapture replay",
            self.seed, self.why, self.seed
        )
    }
}

/// Runs a plan to its end.
pub fn run(plan: Plan) -> Result<Report, Failure> {
    let mut world = World::new(plan);
    let result = world.run_to_end();
    let log = world.stage.log.take().unwrap_or_default();
    result.map_err(|why| Failure {
        seed: plan.seed,
        why,
        log,
    })?;
    let deliveries: usize = world.delivered.values().sum();
    Ok(Report {
        faults: world.counts.clone(),
        simulated_us: world.stage.now.monotonic_us,
        generations: world.generation,
        repeated: deliveries - world.delivered.len(),
    })
}

/// A member, with its reader.
struct Member {
    client: usize,
    room: u32,
    inbox: Arc<Inbox>,
    has: BTreeSet<i32>,
    /// Partitions that it takes its time to give up, and until when.
    giving_up: Option<(u64, Revocation)>,
    /// Its reader does not come before then.
    hangs_until_us: u64,
    /// It was told to leave by this request.
    leaving: Option<RequestId>,
}

struct World {
    plan: Plan,
    stage: Stage,
    strategy: &'static str,
    accumulator: Arc<Accumulator>,
    written: u32,
    next_write_us: u64,
    members: Vec<Member>,
    /// How often each offset of each partition was delivered.
    delivered: BTreeMap<(i32, i64), usize>,
    generation: i32,
    schedule: Vec<(u64, Strike)>,
    stopped: Vec<(u64, NodeId)>,
    counts: BTreeMap<&'static str, u64>,
    requests: u64,
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let now = first_moment();
        let mut options = Options::with_nodes(NODES);
        options.seed = random.u64(..);
        options.failover_us = random.u64(0..300_000);
        options.group_min_session_timeout_ms = 1_000;
        options.group_initial_rebalance_delay_ms = random.i32(0..500);
        let mut cluster = Cluster::new(options);
        cluster
            .create_topic(broker_now(now), TOPIC, plan.partitions, NODES, &[])
            .expect("a fresh topic");
        let strategies = ["range", "roundrobin", "sticky", "cooperative-sticky"];
        let strategy = strategies[random.usize(0..strategies.len())];
        let schedule = strikes::schedule(plan.faults, now.monotonic_us, &mut random);
        let mut stage = Stage::new(cluster, random, plan.log);
        let accumulator = open_producer(&mut stage);
        let mut world = Self {
            plan,
            stage,
            strategy,
            accumulator,
            written: 0,
            next_write_us: now.monotonic_us,
            members: Vec::new(),
            delivered: BTreeMap::new(),
            generation: 0,
            schedule,
            stopped: Vec::new(),
            counts: BTreeMap::new(),
            requests: 0,
        };
        for _ in 0..plan.members {
            world.come();
        }
        world
    }

    /// A member more: on a client of its own, or on one that others share.
    fn come(&mut self) {
        let shared = self.members.last().map(|member| member.client);
        let client = match shared {
            Some(client) if self.stage.random.u8(..3) == 0 => client,
            _ => {
                let number = self.stage.clients.len();
                let seed = self.stage.random.u64(..);
                let client = SimulatedClient::new(number, client_options(), seed);
                self.stage.clients.push(client);
                number
            }
        };
        let options = ConsumerOptions {
            group_id: Some(GROUP.to_owned()),
            offset_reset: OffsetReset::Earliest,
            fetch_max_wait_ms: 200,
            request_timeout_ms: 2_000,
            max_partition_fetch_bytes: self.stage.random.i32(200..5_000),
            session_timeout_ms: SESSION_MS,
            heartbeat_interval_ms: 500,
            max_poll_interval_ms: MAX_POLL_MS,
            auto_commit_interval_ms: self.stage.random.u64(100..3_000),
            assignors: vec![Strategy::named(self.strategy).expect("one of Kafka's")],
            ..ConsumerOptions::default()
        };
        let now = self.stage.now;
        let inbox = Inbox::new(&options, self.stage.clients[client].waker());
        let core = &mut self.stage.clients[client].core;
        let room = core.open_consumer(now, options, Arc::clone(&inbox));
        self.members.push(Member {
            client,
            room,
            inbox,
            has: BTreeSet::new(),
            giving_up: None,
            hangs_until_us: 0,
            leaving: None,
        });
        let subscribe = group::Command::Subscribe(vec![Arc::from(TOPIC)]);
        self.command(self.members.len() - 1, subscribe);
        self.stage
            .note(|| format!("member {room} comes on client {client}"));
    }

    fn command(&mut self, member: usize, command: group::Command) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        let member = &self.members[member];
        let core = &mut self.stage.clients[member.client].core;
        core.handle_command(
            self.stage.now,
            request,
            Command::Group(member.room, command),
        );
        request
    }

    fn run_to_end(&mut self) -> Result<(), Violation> {
        let deadline = self.stage.now.monotonic_us + SPAN_US + STALL_US;
        for _ in 0..MAX_STEPS {
            self.settle()?;
            if self.is_done() {
                return Ok(());
            }
            let next = self.next_us();
            if next > deadline {
                return Err(Violation(format!("stalled: {}", self.describe_wait())));
            }
            self.stage.advance_to(next.max(self.stage.now.monotonic_us));
        }
        let wait = self.describe_wait();
        Err(Violation(format!("no end after {MAX_STEPS} steps: {wait}")))
    }

    /// Carries out everything that is due now, until nothing moves.
    fn settle(&mut self) -> Result<(), Violation> {
        self.strike_due();
        self.start_due();
        self.stage.handle_timeouts();
        loop {
            let mut moved = self.stage.deliver();
            moved |= self.write();
            for member in 0..self.members.len() {
                moved |= self.read(member)?;
            }
            moved |= self.stage.drive();
            self.let_go();
            self.check_assignments()?;
            if !moved {
                return Ok(());
            }
        }
    }

    fn next_us(&self) -> u64 {
        let write = (self.written < self.plan.records).then_some(self.next_write_us);
        let now_us = self.stage.now.monotonic_us;
        let readers = self.members.iter().flat_map(|member| {
            let hangs_until_us = member.hangs_until_us;
            let giving_up = member.giving_up.as_ref();
            let gives_up_us = giving_up.map(|(until_us, _)| hangs_until_us.max(*until_us));
            let hangs = Some(hangs_until_us).filter(|until_us| *until_us > now_us);
            gives_up_us.into_iter().chain(hangs)
        });
        let strikes = self.schedule.last().map(|(at_us, _)| *at_us);
        let starts = self.stopped.iter().map(|(at_us, _)| *at_us);
        let soonest = readers
            .chain(write)
            .chain(strikes)
            .chain(starts)
            .chain(self.stage.next_us())
            .min();
        soonest.unwrap_or(u64::MAX)
    }

    fn write(&mut self) -> bool {
        let mut moved = false;
        let now_us = self.stage.now.monotonic_us;
        while self.written < self.plan.records && self.next_write_us <= now_us {
            let partition = self.stage.random.i32(0..i32::from(self.plan.partitions));
            let record = RecordRef {
                topic: TOPIC,
                partition: Some(partition),
                timestamp_ms: None,
                key: None,
                value: Some(b"record"),
                headers: &[],
            };
            moved = true;
            // Until metadata is there it is refused: again a little later.
            let spread_us = SPAN_US / u64::from(self.plan.records);
            match self.accumulator.append(self.stage.now, record) {
                Ok(_) => {
                    self.written += 1;
                    self.next_write_us += self.stage.random.u64(0..spread_us * 2);
                }
                Err(_) => self.next_write_us = now_us + 10_000,
            }
        }
        moved
    }

    /// A member's reader takes whatever is there.
    fn read(&mut self, at: usize) -> Result<bool, Violation> {
        let now_us = self.stage.now.monotonic_us;
        let mut context = Context::from_waker(Waker::noop());
        let mut moved = false;
        loop {
            let member = &mut self.members[at];
            if member.hangs_until_us > now_us || member.leaving.is_some() {
                return Ok(moved);
            }
            match &member.giving_up {
                Some((until_us, _)) if *until_us > now_us => return Ok(moved),
                _ => member.giving_up = None,
            }
            let Poll::Ready(event) = member.inbox.poll_event(&mut context) else {
                return Ok(moved);
            };
            moved = true;
            let event =
                event.map_err(|e| Violation(format!("member {} failed: {e}", member.room)))?;
            self.handle_event(at, event)?;
        }
    }

    fn handle_event(&mut self, at: usize, event: Event) -> Result<(), Violation> {
        let now_us = self.stage.now.monotonic_us;
        let member = &mut self.members[at];
        let room = member.room;
        match event {
            Event::Records(records) => {
                let partition = records.topic_partition().partition;
                if !member.has.contains(&partition) {
                    let why = format!("member {room} got records of {partition}, not its own");
                    return Err(Violation(why));
                }
                for record in records {
                    let record = record.map_err(|e| Violation(format!("cannot be read: {e}")))?;
                    *self
                        .delivered
                        .entry((partition, record.offset))
                        .or_default() += 1;
                }
            }
            Event::Rebalance(Rebalance::Assigned(partitions)) => {
                self.stage
                    .note(|| format!("member {room} gets {}", numbers(&partitions)));
                member.has.extend(partitions.iter().map(|p| p.partition));
            }
            Event::Rebalance(Rebalance::Revoking(revocation)) => {
                let partitions = revocation.partitions().to_vec();
                self.stage
                    .note(|| format!("member {room} gives up {}", numbers(&partitions)));
                for partition in &partitions {
                    member.has.remove(&partition.partition);
                }
                let takes_us = match self.stage.random.u8(..4) {
                    0 => self.stage.random.u64(0..2_000_000),
                    _ => 0,
                };
                member.giving_up = Some((now_us + takes_us, revocation));
            }
            Event::Rebalance(Rebalance::Lost(partitions)) => {
                self.stage
                    .note(|| format!("member {room} lost {}", numbers(&partitions)));
                for partition in &partitions {
                    member.has.remove(&partition.partition);
                }
            }
            Event::CaughtUp(_) => {}
        }
        Ok(())
    }

    /// Members whose farewell is over are gone.
    fn let_go(&mut self) {
        let now = self.stage.now;
        for (client, request, _) in std::mem::take(&mut self.stage.ended) {
            let leaves = |m: &Member| m.client == client && m.leaving == Some(request);
            if let Some(at) = self.members.iter().position(leaves) {
                let member = self.members.remove(at);
                let core = &mut self.stage.clients[client].core;
                core.close_consumer(now, member.room);
            }
        }
    }

    /// In one generation no partition is two members'.
    fn check_assignments(&mut self) -> Result<(), Violation> {
        let Some((generation, assignments)) = self.stage.cluster.assignments(GROUP) else {
            return Ok(());
        };
        self.generation = self.generation.max(generation);
        let mut taken: BTreeMap<TopicPartition, String> = BTreeMap::new();
        for (id, bytes) in assignments {
            for partition in read_assignment(&bytes)? {
                if let Some(other) = taken.insert(partition.clone(), id.clone()) {
                    let why =
                        format!("generation {generation}: {partition} is {id}'s and {other}'s");
                    return Err(Violation(why));
                }
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.written == self.plan.records
            && self.schedule.is_empty()
            && self.stopped.is_empty()
            && self.is_flushed()
            && self.left().is_empty()
    }

    /// Everything written is in the log.
    fn is_flushed(&self) -> bool {
        let ends = (0..i32::from(self.plan.partitions)).map(|p| self.end_of(p));
        ends.sum::<i64>() >= i64::from(self.plan.records)
    }

    fn end_of(&self, partition: i32) -> i64 {
        let view = self.stage.cluster.view(TOPIC, partition);
        view.map_or(0, |view| view.high_watermark)
    }

    /// What was not delivered, and what is not committed.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for partition in 0..i32::from(self.plan.partitions) {
            let end = self.end_of(partition);
            let missing =
                (0..end).find(|offset| !self.delivered.contains_key(&(partition, *offset)));
            let committed = self.stage.cluster.committed(GROUP, TOPIC, partition);
            let committed = committed.map_or(0, |committed| committed.offset);
            if let Some(missing) = missing {
                left.push(format!("{partition}: {missing} of {end} was not delivered"));
            } else if committed < end {
                left.push(format!("{partition}: {committed} of {end} is committed"));
            }
        }
        left
    }

    fn describe_wait(&self) -> String {
        let members = self.members.iter().map(|member| {
            let timer = self.stage.clients[member.client].core.poll_timeout();
            format!(
                "member {} has {:?}, waits for {timer:?}",
                member.room, member.has
            )
        });
        let members: Vec<_> = members.collect();
        format!("{:?}; {members:?}", self.left())
    }
}

fn numbers(partitions: &[TopicPartition]) -> String {
    let numbers: Vec<i32> = partitions.iter().map(|p| p.partition).collect();
    format!("{numbers:?}")
}

fn read_assignment(bytes: &Bytes) -> Result<Vec<TopicPartition>, Violation> {
    let assignment = Assignment::decode(bytes);
    assignment
        .map(|assignment| assignment.partitions)
        .map_err(|error| Violation(error.to_string()))
}

fn client_options() -> ClientOptions {
    let ports = (0..u16::from(NODES)).map(|node| 9092 + node);
    ClientOptions {
        bootstrap_servers: ports.map(|port| format!("127.0.0.1:{port}")).collect(),
        request_timeout_ms: 2_000,
        ..ClientOptions::default()
    }
}

fn open_producer(stage: &mut Stage) -> Arc<Accumulator> {
    let seed = stage.random.u64(..);
    let mut client = SimulatedClient::new(0, client_options(), seed);
    let options = ProducerOptions {
        request_timeout_ms: 2_000,
        ..ProducerOptions::default()
    };
    let accumulator = Accumulator::new(&options, client.waker());
    client
        .core
        .open_producer(stage.now, options, Arc::clone(&accumulator));
    stage.clients.push(client);
    accumulator
}
