//! A group in a run of its own: members come, go, crash and hang, the coordinator moves, requests fail
//! at every step; and in the end every record was delivered, each to a member that had its partition,
//! and everything is committed.

mod strikes;

use crate::simulation::check::Violation;
use crate::simulation::plan::{Failure, Plan, Report};
use crate::simulation::play::{World, play};
use crate::simulation::records::append;
use crate::simulation::trial::{OF_GROUPS, REQUEST_MS, TOPIC, Trial};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tidewatch_client_core::call::{RequestId, TopicPartition};
use tidewatch_client_core::client::Command;
use tidewatch_client_core::fetch::inbox::{Event, Inbox, Rebalance, Revocation};
use tidewatch_client_core::group;
use tidewatch_client_core::group::assignor::Strategy;
use tidewatch_client_core::group::subscription::Assignment;
use tidewatch_client_core::options::{ConsumerOptions, OffsetReset, ProducerOptions};
use tidewatch_client_core::producer::accumulator::Accumulator;
use tidewatch_protocol::messages::ApiKey;

const GROUP: &str = "g";
const SESSION_MS: u64 = 3_000;
const MAX_POLL_MS: u64 = 8_000;

/// Runs a plan to its end.
///
/// # Errors
/// A promise that was broken, or a stall.
pub fn run_groups(plan: Plan) -> Result<Report, Failure> {
    play(Group::new(plan))
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

struct Group {
    trial: Trial,
    start_us: u64,
    strategy: &'static str,
    accumulator: Arc<Accumulator>,
    written: u32,
    next_write_us: u64,
    members: Vec<Member>,
    /// How often each offset of each partition was delivered.
    delivered: BTreeMap<(i32, i64), usize>,
    generation: i32,
}

impl World for Group {
    const STALL_US: u64 = 360_000_000;

    fn trial(&mut self) -> &mut Trial {
        &mut self.trial
    }

    fn begin_turn(&mut self) -> Result<(), Violation> {
        for kind in self.trial.begin_turn() {
            self.strike(kind);
        }
        Ok(())
    }

    fn step(&mut self) -> Result<bool, Violation> {
        let mut moved = self.trial.stage.deliver();
        moved |= self.write();
        for member in 0..self.members.len() {
            moved |= self.read(member)?;
        }
        moved |= self.trial.stage.drive();
        self.let_go();
        self.check_assignments()?;
        Ok(moved)
    }

    fn next_us(&self) -> Option<u64> {
        let write = (self.written < self.trial.plan.records).then_some(self.next_write_us);
        let now_us = self.trial.stage.now.monotonic_us;
        let readers = self.members.iter().flat_map(|member| {
            let hangs_until_us = member.hangs_until_us;
            let giving_up = member.giving_up.as_ref();
            let gives_up_us = giving_up.map(|(until_us, _)| hangs_until_us.max(*until_us));
            let hangs = Some(hangs_until_us).filter(|until_us| *until_us > now_us);
            gives_up_us.into_iter().chain(hangs)
        });
        readers.chain(write).chain(self.trial.next_us()).min()
    }

    fn progress_us(&self) -> u64 {
        self.start_us
    }

    fn is_done(&mut self) -> bool {
        self.written == self.trial.plan.records
            && self.trial.is_calm()
            && self.is_flushed()
            && self.left().is_empty()
    }

    fn check(&mut self) -> Result<BTreeMap<&'static str, u64>, Violation> {
        let deliveries: usize = self.delivered.values().sum();
        let repeated = deliveries - self.delivered.len();
        let generations = u64::try_from(self.generation).unwrap_or(0);
        Ok(BTreeMap::from([
            ("generations", generations),
            ("records again", repeated as u64),
        ]))
    }

    fn describe_wait(&self) -> String {
        let members = self.members.iter().map(|member| {
            let timer = self.trial.stage.clients[member.client].timeout_us();
            format!(
                "member {} has {:?}, waits for {timer:?}",
                member.room, member.has
            )
        });
        let members: Vec<_> = members.collect();
        format!("{:?}; {members:?}", self.left())
    }
}

impl Group {
    fn new(plan: Plan) -> Self {
        let mut trial = Trial::new(plan);
        trial.targets = vec![ApiKey::OffsetCommit, ApiKey::Fetch];
        trial.targets.extend(OF_GROUPS);
        trial.groups = vec![GROUP.to_owned()];
        let strategies = ["range", "roundrobin", "sticky", "cooperative-sticky"];
        let strategy = strategies[trial.stage.random.usize(0..strategies.len())];
        let start_us = trial.stage.now.monotonic_us;
        let client = trial.open_client();
        let options = ProducerOptions {
            request_timeout_ms: REQUEST_MS,
            ..ProducerOptions::default()
        };
        let (_, accumulator) = trial.open_producer(client, options);
        trial.schedule_strikes();
        let mut world = Self {
            trial,
            start_us,
            strategy,
            accumulator,
            written: 0,
            next_write_us: start_us,
            members: Vec::new(),
            delivered: BTreeMap::new(),
            generation: 0,
        };
        for _ in 0..plan.clients {
            world.come();
        }
        world
    }

    /// A member more: on a client of its own, or on one that others share.
    fn come(&mut self) {
        let shared = self.members.last().map(|member| member.client);
        let client = match shared {
            Some(client) if self.trial.stage.random.u8(..3) == 0 => client,
            _ => self.trial.open_client(),
        };
        let random = &mut self.trial.stage.random;
        let options = ConsumerOptions {
            group_id: Some(GROUP.to_owned()),
            offset_reset: OffsetReset::Earliest,
            fetch_max_wait_ms: 200,
            request_timeout_ms: REQUEST_MS,
            max_partition_fetch_bytes: random.i32(200..5_000),
            session_timeout_ms: SESSION_MS,
            heartbeat_interval_ms: 500,
            max_poll_interval_ms: MAX_POLL_MS,
            auto_commit_interval_ms: random.u64(100..3_000),
            assignors: vec![Strategy::named(self.strategy).expect("one of Kafka's")],
            ..ConsumerOptions::default()
        };
        let (room, inbox) = self.trial.open_consumer(client, options);
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
        self.trial
            .stage
            .note(|| format!("member {room} comes on client {client}"));
    }

    fn command(&mut self, member: usize, command: group::Command) -> RequestId {
        let member = &self.members[member];
        self.trial
            .command(member.client, Command::Group(member.room, command))
    }

    fn write(&mut self) -> bool {
        let mut moved = false;
        let (plan, stage) = (self.trial.plan, &mut self.trial.stage);
        let now_us = stage.now.monotonic_us;
        while self.written < plan.records && self.next_write_us <= now_us {
            let partition = stage.random.i32(0..i32::from(plan.partitions));
            moved = true;
            // Until metadata is there it is refused: again a little later.
            let spread_us = plan.span_us / u64::from(plan.records);
            let sent = append(
                &self.accumulator,
                stage.now,
                TOPIC,
                partition,
                (None, "record"),
            );
            match sent {
                Some(_) => {
                    self.written += 1;
                    self.next_write_us += stage.random.u64(0..spread_us * 2);
                }
                None => self.next_write_us = now_us + 10_000,
            }
        }
        moved
    }

    /// A member's reader takes whatever is there.
    fn read(&mut self, at: usize) -> Result<bool, Violation> {
        let now_us = self.trial.stage.now.monotonic_us;
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
        let now_us = self.trial.stage.now.monotonic_us;
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
                self.trial
                    .stage
                    .note(|| format!("member {room} gets {}", numbers(&partitions)));
                member.has.extend(partitions.iter().map(|p| p.partition));
            }
            Event::Rebalance(Rebalance::Revoking(revocation)) => {
                let partitions = revocation.partitions().to_vec();
                self.trial
                    .stage
                    .note(|| format!("member {room} gives up {}", numbers(&partitions)));
                for partition in &partitions {
                    member.has.remove(&partition.partition);
                }
                let takes_us = match self.trial.stage.random.u8(..4) {
                    0 => self.trial.stage.random.u64(0..2_000_000),
                    _ => 0,
                };
                member.giving_up = Some((now_us + takes_us, revocation));
            }
            Event::Rebalance(Rebalance::Lost(partitions)) => {
                self.trial
                    .stage
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
        let now = self.trial.stage.now;
        for (client, request, _) in std::mem::take(&mut self.trial.stage.ended) {
            let leaves = |m: &Member| m.client == client && m.leaving == Some(request);
            if let Some(at) = self.members.iter().position(leaves) {
                let member = self.members.remove(at);
                let core = self.trial.stage.clients[client].core();
                core.close_consumer(now, member.room);
            }
        }
    }

    /// In one generation no partition is two members'.
    fn check_assignments(&mut self) -> Result<(), Violation> {
        let Some((generation, assignments)) = self.trial.stage.cluster.assignments(GROUP) else {
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

    /// Everything written is in the log.
    fn is_flushed(&self) -> bool {
        let ends = self
            .trial
            .partitions()
            .map(|p| self.trial.high_watermark(p));
        ends.sum::<i64>() >= i64::from(self.trial.plan.records)
    }

    /// What was not delivered, and what is not committed.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for partition in self.trial.partitions() {
            let end = self.trial.high_watermark(partition);
            let missing =
                (0..end).find(|offset| !self.delivered.contains_key(&(partition, *offset)));
            let cluster = &self.trial.stage.cluster;
            let committed = cluster.committed(GROUP, TOPIC, partition);
            let committed = committed.map_or(0, |committed| committed.offset);
            if let Some(missing) = missing {
                left.push(format!("{partition}: {missing} of {end} was not delivered"));
            } else if committed < end {
                left.push(format!("{partition}: {committed} of {end} is committed"));
            }
        }
        left
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
