//! Who writes the inputs: in transactions too, of which some are aborted.

use super::{KEYS, TRANSACTION_TIMEOUT_MS};
use crate::simulation::check::{RecordName, Violation};
use crate::simulation::records::append;
use crate::simulation::transactor::Transactor;
use crate::simulation::trial::{TOPIC, Trial};
use tidewatch_client_core::call::{Outcome, RequestId};
use tidewatch_client_core::error::Error;

const ID: &str = "source";
/// Records between two pauses, on average.
const BURST: u64 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Initialising,
    Beginning,
    Sending { left: u32 },
    Committing,
    Aborting,
    Done,
}

/// The writer of inputs.
pub(super) struct Source {
    process: Transactor,
    phase: Phase,
    request: RequestId,
    /// Numbers the records, those that are never committed too.
    record: u32,
    /// Records of the open transaction.
    sent: u32,
    /// Known to be committed.
    committed: u32,
    /// How many there have to be.
    wanted: u32,
    /// For each record, on average.
    pause_us: u64,
    next_us: u64,
}

impl Source {
    pub(super) fn open(trial: &mut Trial) -> Self {
        trial.transactional_ids.push(ID.to_owned());
        let (process, request) = open_process(trial);
        let plan = trial.plan;
        Self {
            process,
            phase: Phase::Initialising,
            request,
            record: 0,
            sent: 0,
            committed: 0,
            wanted: plan.records,
            pause_us: plan.span_us / u64::from(plan.records),
            next_us: 0,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    pub(super) fn committed(&self) -> u32 {
        self.committed
    }

    pub(super) fn describe(&self) -> String {
        format!("source {:?}, {} committed", self.phase, self.committed)
    }

    pub(super) fn next_us(&self) -> Option<u64> {
        matches!(self.phase, Phase::Sending { .. }).then_some(self.next_us)
    }

    pub(super) fn is_asked(&self, client: usize, request: RequestId) -> bool {
        self.process.client == client && self.request == request
    }

    /// Sends what is due, and goes on to the end where all is sent.
    pub(super) fn step(&mut self, trial: &mut Trial) -> bool {
        let mut moved = false;
        while let Phase::Sending { left } = self.phase
            && self.next_us <= trial.stage.now.monotonic_us
        {
            moved = true;
            match left {
                0 => self.end(trial),
                _ => self.send(trial, left),
            }
        }
        moved
    }

    fn send(&mut self, trial: &mut Trial, left: u32) {
        let partition = trial.stage.random.i32(trial.partitions());
        let name = RecordName {
            producer: 0,
            number: self.record,
        };
        let key = format!("k{}", self.record % KEYS);
        let record = (Some(key.as_str()), name.encode());
        let now = trial.stage.now;
        let accumulator = &self.process.accumulator;
        let sent = append(accumulator, now, TOPIC, partition, (record.0, &record.1));
        if sent.is_none() {
            self.next_us = now.monotonic_us + 5_000;
            return;
        }
        self.record += 1;
        self.sent += 1;
        self.phase = Phase::Sending { left: left - 1 };
        // A few at once, and then a pause.
        let pause_us = match trial.stage.random.u64(0..BURST) {
            0 => trial.stage.random.u64(0..2 * BURST * self.pause_us),
            _ => 0,
        };
        self.next_us = now.monotonic_us + pause_us;
    }

    fn end(&mut self, trial: &mut Trial) {
        let aborts = trial.stage.random.u8(0..6) == 0;
        (self.phase, self.request) = match aborts {
            true => (Phase::Aborting, self.process.abort(trial)),
            false => (Phase::Committing, self.process.commit(trial)),
        };
    }

    fn begin(&mut self, trial: &mut Trial) {
        self.sent = 0;
        if self.committed >= self.wanted {
            self.phase = Phase::Done;
        } else {
            self.phase = Phase::Beginning;
            self.request = self.process.begin(trial);
        }
    }

    pub(super) fn finish(
        &mut self,
        trial: &mut Trial,
        end: Result<Outcome, Error>,
    ) -> Result<(), Violation> {
        match (self.phase, end) {
            (Phase::Initialising | Phase::Aborting, Ok(_)) => self.begin(trial),
            (Phase::Beginning, Ok(_)) => {
                let left = trial.stage.random.u32(1..40);
                self.phase = Phase::Sending { left };
            }
            (Phase::Committing, Ok(_)) => {
                self.committed += self.sent;
                self.begin(trial);
            }
            (Phase::Committing, Err(Error::MustAbort { .. } | Error::TimedOut { .. })) => {
                (self.phase, self.request) = (Phase::Aborting, self.process.abort(trial));
            }
            // Open for longer than transaction.timeout.ms.
            (_, Err(error)) if error.is_fenced() || matches!(error, Error::TimedOut { .. }) => {
                trial.kill(self.process.client);
                let transaction = self.process.transaction;
                (self.process, self.request) = open_process(trial);
                self.process.transaction = transaction;
                self.phase = Phase::Initialising;
            }
            (phase, end) => {
                return Err(Violation(format!("source, {phase:?}: ended with {end:?}")));
            }
        }
        Ok(())
    }
}

fn open_process(trial: &mut Trial) -> (Transactor, RequestId) {
    let client = trial.open_client();
    let process = Transactor::open(trial, client, ID, TRANSACTION_TIMEOUT_MS);
    let request = process.init(trial);
    (process, request)
}
