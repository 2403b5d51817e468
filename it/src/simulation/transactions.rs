//! Runs of transactional producers, each killed now and then between any two of its steps and
//! succeeded under the same transactional id, and of one reader of committed data.

use crate::simulation::check::{RecordName, Violation};
use crate::simulation::client::SimulatedClient;
use crate::simulation::trial::{Failure, Plan, TOPIC, Trial, client_options, open_reader_with};
use crate::simulation::world::{Report, partition_of, producer_options};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tidewatch_broker::NodeId;
use tidewatch_client_core::call::{GroupMetadata, OffsetAndMetadata, Outcome, RequestId};
use tidewatch_client_core::client::Command;
use tidewatch_client_core::error::Error;
use tidewatch_client_core::fetch::inbox::{Event, Inbox};
use tidewatch_client_core::options::{ConsumerOptions, ProducerOptions};
use tidewatch_client_core::producer::accumulator::{Accumulator, RecordRef, Refused};
use tidewatch_client_core::transaction::Command as TransactionCommand;
use tidewatch_protocol::messages::ApiKey;

/// Longer than all timeouts of a run together: beyond it the run has stalled.
const STALL_US: u64 = 900_000_000;
const MAX_STEPS: u64 = 2_000_000;
const TRANSACTION_TIMEOUT_MS: u64 = 20_000;

/// What a transaction should come to, as far as its writer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Committed,
    Aborted,
    /// The writer never learnt it: all of it or nothing.
    Either,
}

/// One transaction's story.
#[derive(Debug)]
struct Story {
    writer: usize,
    transaction: i64,
    records: Vec<(usize, RecordName)>,
    with_offsets: bool,
    expected: Expected,
}

/// Where a writer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Initialising,
    Beginning,
    Sending { left: u32 },
    SendingOffsets,
    Committing,
    Aborting,
    Done,
}

/// One transactional id, and the process that has it now.
struct Writer {
    client: usize,
    room: u32,
    accumulator: Arc<Accumulator>,
    phase: Phase,
    request: RequestId,
    /// Numbered over all its processes.
    transaction: u64,
    record: u32,
    /// The transaction's place among the stories.
    story: usize,
    next_us: u64,
}

struct World {
    trial: Trial,
    writers: Vec<Writer>,
    stories: Vec<Story>,
    inbox: Arc<Inbox>,
    /// In the order in which the reader got them.
    read: Vec<Vec<RecordName>>,
    /// When a writer is killed or a coordinator moves, soonest last.
    kills: Vec<u64>,
    moves: Vec<u64>,
    transactions_each: u64,
    requests: u64,
}

/// Runs a plan of transactions to its end.
///
/// # Errors
/// A promise that was broken, or a stall.
pub fn run_transactions(plan: Plan) -> Result<Report, Failure> {
    let mut world = World::new(plan);
    let result = world.run_to_end();
    let log = world.trial.stage.log.take().unwrap_or_default();
    result.map_err(|why| Failure {
        seed: plan.seed,
        why,
        log,
        test: "sim_transactions",
    })?;
    let committed = world.read.iter().map(Vec::len).sum();
    Ok(Report {
        faults: world.trial.counts.clone(),
        simulated_us: world.trial.stage.now.monotonic_us,
        acknowledged: committed,
    })
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut trial = Trial::new(plan);
        trial.targets = vec![
            ApiKey::Produce,
            ApiKey::Fetch,
            ApiKey::EndTxn,
            ApiKey::InitProducerId,
            ApiKey::AddPartitionsToTxn,
            ApiKey::AddOffsetsToTxn,
            ApiKey::TxnOffsetCommit,
        ];
        let mut writers = Vec::new();
        for number in 0..plan.producers {
            writers.push(open_writer(&mut trial, number));
        }
        let options = ConsumerOptions {
            read_committed: true,
            ..ConsumerOptions::default()
        };
        let (mut reader, inbox) =
            open_reader_with(options, plan, trial.stage.now, &mut trial.stage.random);
        reader.number = trial.stage.clients.len();
        trial.stage.clients.push(reader);
        trial.schedule_strikes();
        let transactions_each = u64::from(plan.records) / 10 / plan.producers as u64;
        let span_us = transactions_each * 200_000;
        let start_us = trial.stage.now.monotonic_us;
        let mut times = |count: u64| {
            let mut times: Vec<u64> = (0..count)
                .map(|_| start_us + trial.stage.random.u64(0..span_us))
                .collect();
            times.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
            times
        };
        let (kills, moves) = (times(6), times(6));
        Self {
            trial,
            writers,
            stories: Vec::new(),
            inbox,
            read: (0..plan.partitions).map(|_| Vec::new()).collect(),
            kills,
            moves,
            transactions_each,
            requests: 1000,
        }
    }

    fn run_to_end(&mut self) -> Result<(), Violation> {
        let deadline = self.trial.stage.now.monotonic_us + STALL_US;
        for number in 0..self.writers.len() {
            self.ask(number, Phase::Initialising, TransactionCommand::Init);
        }
        for _ in 0..MAX_STEPS {
            self.settle()?;
            if self.is_done() {
                self.trial.count_strikes();
                return self.check();
            }
            let next = self.next_us();
            if next > deadline {
                return Err(Violation(format!("stalled: {}", self.describe_wait())));
            }
            self.trial
                .stage
                .advance_to(next.max(self.trial.stage.now.monotonic_us));
        }
        Err(Violation(format!("no end: {}", self.describe_wait())))
    }

    fn settle(&mut self) -> Result<(), Violation> {
        self.trial.begin_turn();
        self.disturb();
        loop {
            let mut moved = self.trial.stage.deliver();
            moved |= self.write();
            moved |= self.read()?;
            moved |= self.trial.stage.drive();
            for (client, request, result) in std::mem::take(&mut self.trial.stage.ended) {
                moved = true;
                self.finish(client, request, result)?;
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn next_us(&self) -> u64 {
        let sending = |writer: &&Writer| matches!(writer.phase, Phase::Sending { .. });
        let writes = self.writers.iter().filter(sending).map(|w| w.next_us);
        let due = [self.kills.last(), self.moves.last()];
        let due = due.into_iter().flatten().copied();
        let all = self.trial.next_us().into_iter().chain(writes).chain(due);
        all.min().unwrap_or(u64::MAX)
    }

    /// Kills writers and moves coordinators when it is time to.
    fn disturb(&mut self) {
        let now_us = self.trial.stage.now.monotonic_us;
        while self.kills.pop_if(|at| *at <= now_us).is_some() {
            let number = self.trial.stage.random.usize(0..self.writers.len());
            self.kill(number);
        }
        while self.moves.pop_if(|at| *at <= now_us).is_some() {
            let writer = self.trial.stage.random.usize(0..self.writers.len());
            let node = NodeId(
                self.trial
                    .stage
                    .random
                    .i32(1..=i32::from(self.trial.plan.nodes)),
            );
            let key = match self.trial.stage.random.bool() {
                true => transactional_id(writer),
                false => group(writer),
            };
            self.trial
                .stage
                .note(|| format!("{key} is coordinated by {node}"));
            self.trial.stage.cluster.move_coordinator(&key, node);
        }
    }

    fn kill(&mut self, number: usize) {
        if self.writers[number].phase == Phase::Done {
            return;
        }
        let killed = &self.writers[number];
        let (phase, client, story) = (killed.phase, killed.client, killed.story);
        let (transaction, record) = (killed.transaction, killed.record);
        self.trial
            .stage
            .note(|| format!("writer {number} is killed, {phase:?}"));
        if phase == Phase::Committing {
            self.stories[story].expected = Expected::Either;
        }
        self.trial.kill(client);
        let random = &mut self.trial.stage.random;
        let idle = client_options(self.trial.plan);
        self.trial.stage.clients[client] = SimulatedClient::new(client, idle, random.u64(..));
        self.writers[number] = Writer {
            transaction,
            record,
            story,
            ..open_writer(&mut self.trial, number)
        };
        self.ask(number, Phase::Initialising, TransactionCommand::Init);
    }

    fn ask(&mut self, number: usize, phase: Phase, command: TransactionCommand) {
        self.requests += 1;
        let request = RequestId(self.requests);
        let writer = &mut self.writers[number];
        (writer.phase, writer.request) = (phase, request);
        let (client, command) = (writer.client, Command::Transaction(writer.room, command));
        let core = &mut self.trial.stage.clients[client].core;
        core.handle_command(self.trial.stage.now, request, command);
    }

    fn begin(&mut self, number: usize) {
        let writer = &mut self.writers[number];
        if writer.transaction >= self.transactions_each {
            writer.phase = Phase::Done;
            return;
        }
        writer.transaction += 1;
        let begin = TransactionCommand::Begin(writer.transaction);
        self.ask(number, Phase::Beginning, begin);
    }

    /// Sends what is due, and goes on to the end where all is sent.
    fn write(&mut self) -> bool {
        let mut moved = false;
        for number in 0..self.writers.len() {
            while let Phase::Sending { left } = self.writers[number].phase {
                if self.writers[number].next_us > self.trial.stage.now.monotonic_us {
                    break;
                }
                moved |= match left {
                    0 => self.end(number),
                    _ => self.send(number, left),
                };
            }
        }
        moved
    }

    fn send(&mut self, number: usize, left: u32) -> bool {
        let writer = &mut self.writers[number];
        let partition = self.trial.stage.random.usize(0..self.read.len());
        let name = RecordName {
            producer: number,
            number: writer.record,
        };
        let value = name.encode();
        let record = RecordRef {
            topic: TOPIC,
            partition: Some(i32::try_from(partition).expect("few partitions")),
            timestamp_ms: None,
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        };
        match writer.accumulator.append(self.trial.stage.now, record) {
            Ok(_) => {
                self.stories[writer.story].records.push((partition, name));
                writer.record += 1;
                writer.phase = Phase::Sending { left: left - 1 };
                writer.next_us =
                    self.trial.stage.now.monotonic_us + self.trial.stage.random.u64(0..10_000);
                true
            }
            Err(Refused::UnknownTopic | Refused::Full) => {
                writer.next_us = self.trial.stage.now.monotonic_us + 5_000;
                false
            }
            Err(refused) => unreachable!("a small record was refused: {refused:?}"),
        }
    }

    /// Offsets perhaps, then a commit or an abort.
    fn end(&mut self, number: usize) -> bool {
        let writer = &self.writers[number];
        let (transaction, story) = (writer.transaction, writer.story);
        if self.trial.stage.random.bool() && !self.stories[story].with_offsets {
            self.stories[story].with_offsets = true;
            let next = i64::try_from(transaction).expect("few transactions");
            let offsets = vec![(partition_of(0), OffsetAndMetadata::new(next, -1))];
            let command = TransactionCommand::SendOffsets {
                transaction,
                offsets,
                group: GroupMetadata::without_membership(group(number)),
            };
            self.ask(number, Phase::SendingOffsets, command);
        } else if self.trial.stage.random.u8(0..4) == 0 {
            self.ask(
                number,
                Phase::Aborting,
                TransactionCommand::Abort(transaction),
            );
        } else {
            self.ask(
                number,
                Phase::Committing,
                TransactionCommand::Commit(transaction),
            );
        }
        true
    }

    fn finish(
        &mut self,
        client: usize,
        request: RequestId,
        result: Result<Outcome, Error>,
    ) -> Result<(), Violation> {
        let asked = |writer: &Writer| writer.client == client && writer.request == request;
        let Some(number) = self.writers.iter().position(asked) else {
            return Ok(());
        };
        let (phase, story) = (self.writers[number].phase, self.writers[number].story);
        let transaction = self.writers[number].transaction;
        match (phase, result) {
            (_, Err(error)) if error.is_fenced() => {
                // Open for longer than transaction.timeout.ms: whoever goes on begins anew.
                self.kill(number);
            }
            (Phase::Initialising, Ok(_)) => self.begin(number),
            (Phase::Beginning, Ok(_)) => {
                self.writers[number].story = self.stories.len();
                self.stories.push(Story {
                    writer: number,
                    transaction: i64::try_from(transaction).expect("few transactions"),
                    records: Vec::new(),
                    with_offsets: false,
                    expected: Expected::Aborted,
                });
                let left = self.trial.stage.random.u32(0..20);
                self.writers[number].phase = Phase::Sending { left };
            }
            (Phase::SendingOffsets, Ok(_)) => {
                self.writers[number].phase = Phase::Sending { left: 0 };
            }
            (Phase::Committing, Ok(_)) => {
                self.stories[story].expected = Expected::Committed;
                self.begin(number);
            }
            (Phase::Aborting, _) => self.begin(number),
            (Phase::Committing, Err(Error::TimedOut { .. })) => {
                self.stories[story].expected = Expected::Either;
                let abort = TransactionCommand::Abort(transaction);
                self.ask(number, Phase::Aborting, abort);
            }
            (Phase::Initialising | Phase::Beginning, Err(Error::TimedOut { .. })) => {
                self.kill(number);
            }
            (Phase::Committing | Phase::SendingOffsets, Err(_)) => {
                let abort = TransactionCommand::Abort(transaction);
                self.ask(number, Phase::Aborting, abort);
            }
            (phase, end) => {
                return Err(Violation(format!(
                    "writer {number}, {phase:?}: it ended with {end:?}"
                )));
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<bool, Violation> {
        let mut context = Context::from_waker(Waker::noop());
        let mut moved = false;
        loop {
            match self.inbox.poll_event(&mut context) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(Event::Records(records))) => {
                    moved = true;
                    let partition = records.topic_partition().partition;
                    let partition = usize::try_from(partition).expect("not negative");
                    for record in records {
                        let record = record.map_err(|e| Violation(format!("unreadable: {e}")))?;
                        let name = record.value.as_deref().and_then(RecordName::parse);
                        let name = name.ok_or_else(|| Violation("a stranger".to_owned()))?;
                        self.read[partition].push(name);
                    }
                }
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Ready(Err(error)) => {
                    return Err(Violation(format!("the reader failed: {error}")));
                }
            }
        }
    }

    fn is_done(&self) -> bool {
        let written = self.writers.iter().all(|w| w.phase == Phase::Done);
        let mut ids = (0..self.writers.len()).map(transactional_id);
        let ended = ids.all(|id| !self.trial.stage.cluster.has_open_transaction(&id));
        let settled = written && ended && self.trial.stopped.is_empty();
        settled && (0..self.read.len()).all(|partition| self.is_read(partition))
    }

    fn is_read(&self, partition: usize) -> bool {
        let number = i32::try_from(partition).unwrap_or(0);
        let end = self.trial.stage.cluster.view(TOPIC, number);
        let end = end.map_or(0, |view| view.end_offset);
        let stable = self.trial.stage.cluster.last_stable_offset(TOPIC, number);
        let status = self.inbox.status(&partition_of(number));
        let position = status.and_then(|status| status.position);
        stable == Ok(end) && position == Some(end)
    }

    /// The reader has seen exactly what was committed, once and in order.
    fn check(&self) -> Result<(), Violation> {
        let mut seen: BTreeMap<RecordName, usize> = BTreeMap::new();
        for (partition, names) in self.read.iter().enumerate() {
            let mut last: BTreeMap<usize, u32> = BTreeMap::new();
            for name in names {
                if seen.insert(*name, partition).is_some() {
                    return Err(Violation(format!("{name} was read twice")));
                }
                let before = last.insert(name.producer, name.number);
                if before.is_some_and(|before| before >= name.number) {
                    return Err(Violation(format!("{name} came out of order")));
                }
            }
        }
        for (at, story) in self.stories.iter().enumerate() {
            let found =
                |(partition, name): &&(usize, RecordName)| seen.get(name) == Some(partition);
            let read = story.records.iter().filter(found).count();
            let is_good = match story.expected {
                Expected::Committed => read == story.records.len(),
                Expected::Aborted => read == 0,
                Expected::Either => read == 0 || read == story.records.len(),
            };
            if !is_good {
                let expected = story.expected;
                let of = story.records.len();
                return Err(Violation(format!(
                    "transaction {at} should be {expected:?}: {read} of {of} records were read"
                )));
            }
        }
        self.check_offsets()
    }

    /// A group's offset is that of the last transaction that was committed with one.
    fn check_offsets(&self) -> Result<(), Violation> {
        for number in 0..self.writers.len() {
            let mut possible: Vec<Option<i64>> = vec![None];
            for story in self.stories.iter().filter(|story| story.writer == number) {
                match (story.with_offsets, story.expected) {
                    (true, Expected::Committed) => possible = vec![Some(story.transaction)],
                    (true, Expected::Either) => possible.push(Some(story.transaction)),
                    _ => {}
                }
            }
            let committed = self.trial.stage.cluster.committed(&group(number), TOPIC, 0);
            let committed = committed.map(|committed| committed.offset);
            if !possible.contains(&committed) {
                return Err(Violation(format!(
                    "writer {number}: its group stands at {committed:?}, not at {possible:?}"
                )));
            }
        }
        Ok(())
    }

    fn describe_wait(&self) -> String {
        let phases: Vec<Phase> = self.writers.iter().map(|writer| writer.phase).collect();
        let stuck = (0..self.read.len()).filter(|p| !self.is_read(*p));
        let stuck: Vec<String> = stuck
            .map(|partition| {
                let number = i32::try_from(partition).unwrap_or(0);
                let status = self.inbox.status(&partition_of(number));
                let stable = self.trial.stage.cluster.last_stable_offset(TOPIC, number);
                let view = self.trial.stage.cluster.view(TOPIC, number);
                format!("{partition}: {status:?}, stable {stable:?}, {view:?}")
            })
            .collect();
        format!("writers {phases:?}, not read {stuck:?}")
    }
}

fn transactional_id(writer: usize) -> String {
    format!("x{writer}")
}

fn group(writer: usize) -> String {
    format!("g{writer}")
}

/// A process for the transactional id of writer `number`.
fn open_writer(trial: &mut Trial, number: usize) -> Writer {
    let client = trial.stage.clients.len();
    let options = ProducerOptions {
        transaction_timeout_ms: TRANSACTION_TIMEOUT_MS,
        ..producer_options(&mut trial.stage.random)
    };
    let options = options
        .transactional(&transactional_id(number))
        .expect("the options go with transactions");
    let seed = trial.stage.random.u64(..);
    let mut simulated = SimulatedClient::new(client, client_options(trial.plan), seed);
    let accumulator = Accumulator::new(&options, simulated.waker());
    let room = simulated
        .core
        .open_producer(trial.stage.now, options, Arc::clone(&accumulator));
    trial.stage.clients.push(simulated);
    Writer {
        client,
        room,
        accumulator,
        phase: Phase::Initialising,
        request: RequestId(0),
        transaction: 0,
        record: 0,
        story: 0,
        next_us: 0,
    }
}
