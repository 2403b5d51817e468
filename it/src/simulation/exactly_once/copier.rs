//! One process of the loop: it reads, transforms, writes, sends its positions and commits, as a user
//! of the client's handles would; and after whatever failed it aborts and rewinds.

use super::{GROUP, MAX_POLL_MS, OUTPUT, SESSION_MS, TRANSACTION_TIMEOUT_MS, model::transform};
use crate::simulation::check::Violation;
use crate::simulation::client::Flag;
use crate::simulation::records::append;
use crate::simulation::transactor::Transactor;
use crate::simulation::trial::{REQUEST_MS, TOPIC, Trial, cannot};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use tidewatch_client_core::call::{Outcome, RequestId};
use tidewatch_client_core::client::Command;
use tidewatch_client_core::error::Error;
use tidewatch_client_core::fetch::inbox::{Event, Inbox, Rebalance, Revocation};
use tidewatch_client_core::fetch::{self, records::Fetched};
use tidewatch_client_core::group;
use tidewatch_client_core::group::assignor::Strategy;
use tidewatch_client_core::options::{ConsumerOptions, OffsetReset};
use tidewatch_client_core::pulse::Waiting;
use tidewatch_client_core::transaction;

/// What is to become of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    /// It has closed.
    Left,
    /// It was fenced, or never got as far as that.
    MustBeSucceeded,
}

/// What it is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Initialising,
    /// It waits for events, in a transaction or out of one.
    Reading,
    Beginning,
    Copying,
    SendingPositions,
    Committing,
    Aborting,
    Rewinding,
    Leaving,
}

/// A process of the loop.
pub(super) struct Copier {
    /// Of its transactional id.
    pub(super) id: usize,
    pub(super) fate: Fate,
    /// Another process has its transactional id.
    pub(super) is_zombie: bool,
    process: Transactor,
    consumer: u32,
    inbox: Arc<Inbox>,
    /// Its reader's task: it runs when it is woken, and not otherwise.
    woken: Arc<Flag>,
    /// While its reader sleeps.
    waiting: Option<Waiting>,
    phase: Phase,
    /// What it awaits.
    request: RequestId,
    is_open: bool,
    /// Records that it copies, and the one that was not taken yet.
    held: Option<Fetched>,
    unsent: Option<(i32, String, String)>,
    revocation: Option<Revocation>,
    /// When it ends the open transaction.
    commit_at_us: u64,
    /// It does nothing before.
    busy_until_us: u64,
    commits: u64,
    rewinds: u64,
    /// How often partitions went while a transaction was open.
    interrupted: u64,
}

impl Copier {
    /// A process that takes the transactional id over, in its first step.
    pub(super) fn open(trial: &mut Trial, id: usize, strategy: &str) -> Self {
        let client = trial.open_client();
        let name = transactional_id(id);
        let process = Transactor::open(trial, client, &name, TRANSACTION_TIMEOUT_MS);
        let options = ConsumerOptions {
            group_id: Some(GROUP.to_owned()),
            offset_reset: OffsetReset::Earliest,
            read_committed: true,
            auto_commit: false,
            fetch_max_wait_ms: 500,
            request_timeout_ms: REQUEST_MS,
            max_partition_fetch_bytes: trial.stage.random.i32(200..5_000),
            session_timeout_ms: SESSION_MS,
            heartbeat_interval_ms: 1_000,
            max_poll_interval_ms: MAX_POLL_MS,
            assignors: vec![Strategy::named(strategy).expect("one of Kafka's")],
            ..ConsumerOptions::default()
        };
        let (consumer, inbox) = trial.open_consumer(client, options);
        let request = process.init(trial);
        trial
            .stage
            .note(|| format!("{name} is opened on client {client}"));
        Self {
            id,
            fate: Fate::Lives,
            is_zombie: false,
            process,
            consumer,
            inbox,
            woken: Flag::raised(),
            waiting: None,
            phase: Phase::Initialising,
            request,
            is_open: false,
            held: None,
            unsent: None,
            revocation: None,
            commit_at_us: 0,
            busy_until_us: 0,
            commits: 0,
            rewinds: 0,
            interrupted: 0,
        }
    }

    pub(super) fn client(&self) -> usize {
        self.process.client
    }

    /// It stands under its transactional id, and stays.
    pub(super) fn is_member(&self) -> bool {
        self.fate == Fate::Lives && !self.is_zombie && self.phase != Phase::Leaving
    }

    pub(super) fn is_asked(&self, client: usize, request: RequestId) -> bool {
        self.client() == client && self.request == request
    }

    pub(super) fn hold_up_until(&mut self, until_us: u64) {
        self.busy_until_us = until_us;
    }

    /// When it has something to do by itself.
    pub(super) fn next_us(&self, trial: &Trial) -> Option<u64> {
        let at_us = match self.phase {
            Phase::Copying => self.busy_until_us,
            Phase::Reading if self.revocation.is_some() => self.busy_until_us,
            Phase::Reading if self.is_open => self.busy_until_us.max(self.commit_at_us),
            Phase::Reading if self.busy_until_us > trial.stage.now.monotonic_us => {
                self.busy_until_us
            }
            _ => return None,
        };
        let frozen_until_us = trial.stage.frozen_until_us(self.client());
        Some(at_us.max(frozen_until_us.unwrap_or(0)))
    }

    /// Does what it can do now; true if that was something.
    pub(super) fn step(&mut self, trial: &mut Trial) -> Result<bool, Violation> {
        let mut moved = false;
        let now_us = trial.stage.now.monotonic_us;
        while self.busy_until_us <= now_us && trial.stage.frozen_until_us(self.client()).is_none() {
            let went_on = match self.phase {
                Phase::Reading if self.is_open && self.commit_at_us <= now_us => {
                    self.send_positions(trial);
                    true
                }
                Phase::Reading => self.read(trial)?,
                Phase::Copying => self.copy(trial)?,
                _ => false,
            };
            if !went_on {
                break;
            }
            moved = true;
        }
        Ok(moved)
    }

    fn read(&mut self, trial: &mut Trial) -> Result<bool, Violation> {
        // It was at what the revocation is about, and is through with it.
        self.revocation = None;
        if !self.woken.take() {
            return Ok(false);
        }
        let waker = self.woken.waker();
        let Poll::Ready(event) = self.inbox.poll_event(&mut Context::from_waker(&waker)) else {
            let pulse = self.inbox.pulse();
            self.waiting.get_or_insert_with(|| pulse.wait());
            return Ok(false);
        };
        self.waiting = None;
        self.woken.raise();
        let event = event.map_err(|e| cannot("read", e))?;
        self.note(trial, || event_name(&event));
        let goes = matches!(
            event,
            Event::Rebalance(Rebalance::Revoking(_) | Rebalance::Lost(_))
        );
        self.interrupted += u64::from(self.is_open && goes);
        match event {
            Event::Records(records) => {
                self.held = Some(records);
                match self.is_open {
                    true => self.phase = Phase::Copying,
                    false => self.begin(trial),
                }
            }
            Event::Rebalance(Rebalance::Revoking(revocation)) => {
                self.revocation = Some(revocation);
                self.meet_revocation(trial);
            }
            // It may as well not mind: then its positions are refused.
            Event::Rebalance(Rebalance::Lost(_)) if self.is_open && trial.stage.random.bool() => {
                self.go_back(trial);
            }
            _ => {}
        }
        Ok(true)
    }

    /// Partitions are to be given up: the transaction is ended first, in one way or the other, or,
    /// which is wrong, left open.
    fn meet_revocation(&mut self, trial: &mut Trial) {
        let random = &mut trial.stage.random;
        match random.u8(0..4) {
            0 if self.is_open => self.go_back(trial),
            1 if self.is_open => {}
            _ if self.is_open => self.send_positions(trial),
            0 => {
                let takes_us = random.u64(0..1_000_000);
                self.busy_until_us = trial.stage.now.monotonic_us + takes_us;
            }
            _ => {}
        }
    }

    fn begin(&mut self, trial: &mut Trial) {
        self.phase = Phase::Beginning;
        self.request = self.process.begin(trial);
    }

    /// One record.
    fn copy(&mut self, trial: &mut Trial) -> Result<bool, Violation> {
        if self.unsent.is_none() {
            let Some(records) = &mut self.held else {
                self.phase = Phase::Reading;
                return Ok(true);
            };
            let partition = records.topic_partition().partition;
            match records.next() {
                Some(Ok(record)) => self.unsent = Some(transform(trial, partition, &record)?),
                Some(Err(error)) => return Err(cannot("read a record", error)),
                None => {
                    self.held = None;
                    return Ok(true);
                }
            }
        }
        let (now, Some((to, key, value))) = (trial.stage.now, &self.unsent) else {
            return Ok(true);
        };
        let accumulator = &self.process.accumulator;
        let sent = append(accumulator, now, OUTPUT, *to, (Some(key), value));
        let pause_us = match sent {
            None => 5_000,
            Some(_) => {
                self.unsent = None;
                match trial.stage.random.u8(0..8) {
                    0 => trial.stage.random.u64(0..20_000),
                    _ => 0,
                }
            }
        };
        self.busy_until_us = now.monotonic_us + pause_us;
        Ok(true)
    }

    fn send_positions(&mut self, trial: &mut Trial) {
        match self.inbox.take_progress() {
            Ok(progress) => {
                self.note(trial, || {
                    let positions = progress.positions.iter();
                    let positions = positions.map(|(p, at)| (p.partition, at.offset));
                    let positions: Vec<_> = positions.collect();
                    let generation = progress.member.generation_id;
                    format!("sends {positions:?} of generation {generation}")
                });
                let command = transaction::Command::SendOffsets {
                    transaction: self.process.transaction,
                    offsets: progress.positions,
                    group: progress.member,
                };
                self.phase = Phase::SendingPositions;
                self.request = self.process.ask(trial, command);
            }
            Err(error) => {
                self.note(trial, || format!("{error}"));
                self.go_back(trial);
            }
        }
    }

    /// The transaction is dropped, and what it was made of is read again.
    fn go_back(&mut self, trial: &mut Trial) {
        self.rewinds += 1;
        self.drop_transaction();
        let request = self.process.abort(trial);
        if trial.stage.random.bool() {
            (self.phase, self.request) = (Phase::Aborting, request);
        } else {
            self.rewind(trial);
        }
    }

    fn drop_transaction(&mut self) {
        self.is_open = false;
        self.held = None;
        self.unsent = None;
    }

    fn rewind(&mut self, trial: &mut Trial) {
        self.phase = Phase::Rewinding;
        let rewind = Command::Fetch(self.consumer, fetch::Command::Rewind);
        self.request = trial.command(self.client(), rewind);
    }

    /// Its user closes it, whatever it is at.
    pub(super) fn leave(&mut self, trial: &mut Trial) {
        self.note(trial, || "closes".to_owned());
        self.drop_transaction();
        self.process.abort(trial);
        self.revocation = None;
        self.inbox.settle();
        self.phase = Phase::Leaving;
        let leave = Command::Group(self.consumer, group::Command::Unsubscribe);
        self.request = trial.command(self.client(), leave);
    }

    /// What it has awaited is there.
    pub(super) fn finish(
        &mut self,
        trial: &mut Trial,
        end: Result<Outcome, Error>,
    ) -> Result<(), Violation> {
        match (self.phase, end) {
            (Phase::Initialising, Ok(_)) => {
                let topics = vec![Arc::from(TOPIC)];
                let subscribe = group::Command::Subscribe(topics);
                trial.command(self.client(), Command::Group(self.consumer, subscribe));
                self.phase = Phase::Reading;
            }
            (Phase::Beginning, Ok(_)) => {
                self.is_open = true;
                let for_us = trial.stage.random.u64(20_000..400_000);
                self.commit_at_us = trial.stage.now.monotonic_us + for_us;
                self.phase = Phase::Copying;
            }
            (Phase::SendingPositions, Ok(_)) => {
                self.phase = Phase::Committing;
                self.request = self.process.commit(trial);
            }
            (Phase::Committing, Ok(_)) => {
                self.commits += 1;
                self.is_open = false;
                self.phase = Phase::Reading;
            }
            (Phase::Aborting, Ok(_)) => self.rewind(trial),
            (Phase::Rewinding, Ok(_)) => self.phase = Phase::Reading,
            (Phase::Leaving, _) => {
                let now = trial.stage.now;
                let client = self.client();
                let core = trial.stage.clients[client].core();
                core.close_consumer(now, self.consumer);
                core.close_producer(now, self.process.room());
                self.fate = Fate::Left;
            }
            (_, Err(error)) if error.is_fenced() => self.fate = Fate::MustBeSucceeded,
            (Phase::Initialising, Err(Error::TimedOut { .. })) => {
                self.fate = Fate::MustBeSucceeded;
            }
            (
                Phase::Beginning | Phase::SendingPositions | Phase::Committing | Phase::Aborting,
                Err(Error::MustAbort { .. } | Error::TimedOut { .. }),
            ) => self.go_back(trial),
            (phase, end) => {
                let id = self.id;
                return Err(Violation(format!("{id}, {phase:?}: ended with {end:?}")));
            }
        }
        Ok(())
    }

    /// Counts what it did.
    pub(super) fn tally(&self, tally: &mut BTreeMap<&'static str, u64>) {
        *tally.entry("commits").or_default() += self.commits;
        *tally.entry("rewinds").or_default() += self.rewinds;
        let interrupted = "rebalances inside a transaction";
        *tally.entry(interrupted).or_default() += self.interrupted;
    }

    pub(super) fn describe(&self, trial: &Trial) -> String {
        let client = &trial.stage.clients[self.client()];
        format!(
            "{} on client {}: {:?}, open {}, busy until {}, positions {:?}, next timer {:?}",
            transactional_id(self.id),
            self.client(),
            self.phase,
            self.is_open,
            self.busy_until_us,
            self.inbox.statuses(),
            client.timeout_us()
        )
    }

    fn note(&self, trial: &mut Trial, what: impl FnOnce() -> String) {
        let (id, client) = (self.id, self.client());
        let note = || format!("{} on client {client}: {}", transactional_id(id), what());
        trial.stage.note(note);
    }
}

/// Of the process number `id`.
pub(super) fn transactional_id(id: usize) -> String {
    format!("copier-{id}")
}

fn event_name(event: &Event) -> String {
    match event {
        Event::Records(records) => format!("is given records of {}", records.topic_partition()),
        Event::CaughtUp(partition) => format!("has caught up with {partition}"),
        Event::Rebalance(Rebalance::Assigned(partitions)) => format!("gets {partitions:?}"),
        Event::Rebalance(Rebalance::Lost(partitions)) => format!("has lost {partitions:?}"),
        Event::Rebalance(Rebalance::Revoking(revocation)) => {
            format!("gives up {:?}", revocation.partitions())
        }
    }
}
