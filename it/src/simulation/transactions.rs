//! Transactional producers, each killed now and then between any two of its steps and succeeded under
//! the same transactional id, and one reader of committed data.

use crate::simulation::check::{RecordName, Violation};
use crate::simulation::plan::{Failure, Plan, Report};
use crate::simulation::play::{World, play};
use crate::simulation::records::{append, read_names};
use crate::simulation::transactor::Transactor;
use crate::simulation::trial::{OF_TRANSACTIONS, TOPIC, Trial, partition_of};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidewatch_client_core::call::{GroupMetadata, OffsetAndMetadata, Outcome, RequestId};
use tidewatch_client_core::error::Error;
use tidewatch_client_core::fetch::inbox::Inbox;
use tidewatch_client_core::options::ConsumerOptions;
use tidewatch_client_core::transaction::Command;
use tidewatch_protocol::messages::ApiKey;

const TRANSACTION_TIMEOUT_MS: u64 = 20_000;
/// Records of a transaction, on average.
const EACH: u32 = 10;

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
    process: Transactor,
    phase: Phase,
    request: RequestId,
    record: u32,
    /// The transaction's place among the stories.
    story: usize,
    next_us: u64,
}

struct Transactions {
    trial: Trial,
    start_us: u64,
    writers: Vec<Writer>,
    stories: Vec<Story>,
    inbox: Arc<Inbox>,
    /// In the order in which the reader got them.
    read: Vec<Vec<RecordName>>,
    transactions_each: u64,
}

/// Runs a plan of transactions to its end.
///
/// # Errors
/// A promise that was broken, or a stall.
pub fn run_transactions(plan: Plan) -> Result<Report, Failure> {
    play(Transactions::new(plan))
}

impl World for Transactions {
    const STALL_US: u64 = 900_000_000;

    fn trial(&mut self) -> &mut Trial {
        &mut self.trial
    }

    fn begin_turn(&mut self) -> Result<(), Violation> {
        for kind in self.trial.begin_turn() {
            let number = self.trial.stage.random.usize(0..self.writers.len());
            if self.writers[number].phase != Phase::Done {
                self.kill(number);
            }
            self.trial.counts.add(kind);
        }
        Ok(())
    }

    fn step(&mut self) -> Result<bool, Violation> {
        let mut moved = self.trial.stage.deliver();
        moved |= self.write();
        let read = &mut self.read;
        moved |= read_names(&self.inbox, |partition, _, name| read[partition].push(name))?;
        moved |= self.trial.stage.drive();
        for (client, request, result) in std::mem::take(&mut self.trial.stage.ended) {
            moved = true;
            self.finish(client, request, result)?;
        }
        Ok(moved)
    }

    fn next_us(&self) -> Option<u64> {
        let sending = |writer: &&Writer| matches!(writer.phase, Phase::Sending { .. });
        let writes = self.writers.iter().filter(sending).map(|w| w.next_us);
        self.trial.next_us().into_iter().chain(writes).min()
    }

    fn progress_us(&self) -> u64 {
        self.start_us
    }

    fn is_done(&mut self) -> bool {
        let written = self.writers.iter().all(|w| w.phase == Phase::Done);
        let cluster = &self.trial.stage.cluster;
        let mut ids = (0..self.writers.len()).map(transactional_id);
        let ended = ids.all(|id| !cluster.has_open_transaction(&id));
        let settled = written && ended && self.trial.is_up();
        settled
            && self
                .trial
                .partitions()
                .all(|partition| self.is_read(partition))
    }

    fn check(&mut self) -> Result<BTreeMap<&'static str, u64>, Violation> {
        self.check_records()?;
        self.check_offsets()?;
        let committed = self.read.iter().map(Vec::len).sum::<usize>();
        Ok(BTreeMap::from([("records committed", committed as u64)]))
    }

    fn describe_wait(&self) -> String {
        let phases: Vec<Phase> = self.writers.iter().map(|writer| writer.phase).collect();
        let stuck = self.trial.partitions().filter(|p| !self.is_read(*p));
        let stuck: Vec<String> = stuck
            .map(|partition| {
                let status = self.inbox.status(&partition_of(partition));
                let cluster = &self.trial.stage.cluster;
                let stable = cluster.last_stable_offset(TOPIC, partition);
                let view = cluster.view(TOPIC, partition);
                format!("{partition}: {status:?}, stable {stable:?}, {view:?}")
            })
            .collect();
        format!("writers {phases:?}, not read {stuck:?}")
    }
}

impl Transactions {
    fn new(plan: Plan) -> Self {
        let mut trial = Trial::new(plan);
        trial.targets = vec![ApiKey::Produce; 6];
        trial.targets.push(ApiKey::Fetch);
        trial.targets.extend(OF_TRANSACTIONS);
        trial.groups = (0..plan.clients).map(group).collect();
        trial.transactional_ids = (0..plan.clients).map(transactional_id).collect();
        let start_us = trial.stage.now.monotonic_us;
        let writers = (0..plan.clients).map(|number| open_writer(&mut trial, number));
        let writers = writers.collect();
        let inbox = trial.open_reader(ConsumerOptions {
            read_committed: true,
            ..ConsumerOptions::default()
        });
        trial.schedule_strikes();
        Self {
            trial,
            start_us,
            writers,
            stories: Vec::new(),
            inbox,
            read: (0..plan.partitions).map(|_| Vec::new()).collect(),
            transactions_each: u64::from(plan.records / EACH) / plan.clients as u64,
        }
    }

    /// Another process takes the transactional id over.
    fn kill(&mut self, number: usize) {
        let killed = &self.writers[number];
        let (phase, client, story) = (killed.phase, killed.process.client, killed.story);
        let (transaction, record) = (killed.process.transaction, killed.record);
        let note = || format!("writer {number} is killed, {phase:?}");
        self.trial.stage.note(note);
        if phase == Phase::Committing {
            self.stories[story].expected = Expected::Either;
        }
        self.trial.kill(client);
        let mut writer = open_writer(&mut self.trial, number);
        writer.process.transaction = transaction;
        self.writers[number] = Writer {
            record,
            story,
            ..writer
        };
    }

    fn ask(&mut self, number: usize, phase: Phase, command: Command) {
        let writer = &mut self.writers[number];
        writer.phase = phase;
        writer.request = writer.process.ask(&mut self.trial, command);
    }

    fn begin(&mut self, number: usize) {
        let writer = &mut self.writers[number];
        // They go on for as long as something is to go wrong.
        if writer.process.transaction >= self.transactions_each && self.trial.is_calm() {
            writer.phase = Phase::Done;
            return;
        }
        writer.phase = Phase::Beginning;
        writer.request = writer.process.begin(&mut self.trial);
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
        let (writer, stage) = (&mut self.writers[number], &mut self.trial.stage);
        let partition = stage.random.usize(0..self.read.len());
        let name = RecordName {
            producer: number,
            number: writer.record,
        };
        let to = i32::try_from(partition).expect("few partitions");
        let accumulator = &writer.process.accumulator;
        let sent = append(accumulator, stage.now, TOPIC, to, (None, &name.encode()));
        let now_us = stage.now.monotonic_us;
        if sent.is_none() {
            writer.next_us = now_us + 5_000;
            return false;
        }
        self.stories[writer.story].records.push((partition, name));
        writer.record += 1;
        writer.phase = Phase::Sending { left: left - 1 };
        writer.next_us = now_us + stage.random.u64(0..10_000);
        true
    }

    /// Offsets perhaps, then a commit or an abort.
    fn end(&mut self, number: usize) -> bool {
        let writer = &self.writers[number];
        let (transaction, story) = (writer.process.transaction, writer.story);
        let random = &mut self.trial.stage.random;
        if random.bool() && !self.stories[story].with_offsets {
            self.stories[story].with_offsets = true;
            let next = i64::try_from(transaction).expect("few transactions");
            let offsets = vec![(partition_of(0), OffsetAndMetadata::new(next, -1))];
            let command = Command::SendOffsets {
                transaction,
                offsets,
                group: GroupMetadata::without_membership(group(number)),
            };
            self.ask(number, Phase::SendingOffsets, command);
        } else if random.u8(0..4) == 0 {
            self.ask(number, Phase::Aborting, Command::Abort(transaction));
        } else {
            self.ask(number, Phase::Committing, Command::Commit(transaction));
        }
        true
    }

    fn finish(
        &mut self,
        client: usize,
        request: RequestId,
        result: Result<Outcome, Error>,
    ) -> Result<(), Violation> {
        let asked = |writer: &Writer| writer.process.client == client && writer.request == request;
        let Some(number) = self.writers.iter().position(asked) else {
            return Ok(());
        };
        let (phase, story) = (self.writers[number].phase, self.writers[number].story);
        let transaction = self.writers[number].process.transaction;
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
                let abort = Command::Abort(transaction);
                self.ask(number, Phase::Aborting, abort);
            }
            (Phase::Initialising | Phase::Beginning, Err(Error::TimedOut { .. })) => {
                self.kill(number);
            }
            (Phase::Committing | Phase::SendingOffsets, Err(_)) => {
                let abort = Command::Abort(transaction);
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

    fn is_read(&self, partition: i32) -> bool {
        let status = self.inbox.status(&partition_of(partition));
        let position = status.and_then(|status| status.position);
        position.is_some() && position == self.trial.settled_end(TOPIC, partition)
    }

    /// The reader has seen exactly what was committed, once and in order.
    fn check_records(&self) -> Result<(), Violation> {
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
        Ok(())
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
}

fn transactional_id(writer: usize) -> String {
    format!("x{writer}")
}

fn group(writer: usize) -> String {
    format!("g{writer}")
}

/// A process for the transactional id of writer `number`, in its first step.
fn open_writer(trial: &mut Trial, number: usize) -> Writer {
    let client = trial.open_client();
    let id = transactional_id(number);
    let process = Transactor::open(trial, client, &id, TRANSACTION_TIMEOUT_MS);
    let request = process.init(trial);
    Writer {
        process,
        phase: Phase::Initialising,
        request,
        record: 0,
        story: 0,
        next_us: 0,
    }
}
