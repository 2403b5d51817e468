//! The engine of one input partition: records in the order of their offsets in, results out.

#[cfg(test)]
mod behaviour;
mod closing;
mod future;
mod progress;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod scenario;

use crate::duplicates::MoreRuns;
use crate::held::Held;
use crate::host::{HostNumber, Hosts};
use crate::metadata::{Decision, MetadataError};
use crate::output::{Counters, Output, RejectedRecord, Row};
use crate::partition_clock::PartitionClock;
use crate::record::{InputRecord, ReadSample};
use crate::running::Running;
use crate::schedule::Schedule;
use crate::settings::{Settings, SettingsError};
use crate::sip::HashSeed;
use closing::{CaughtUp, Closing};
use progress::Checkpoints;
pub use progress::Progress;
use std::collections::VecDeque;
use std::sync::Arc;
use thiserror::Error;
use tidewatch_sample::{Emit, Reason, Window};

/// Windows of one input partition.
///
/// Everything is a function of the records in the order of their offsets, and of
/// [`handle_caught_up`](Self::handle_caught_up) and [`finish`](Self::finish), whose effects are
/// noted in [`progress`](Self::progress).
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    panes_per_host: i64,
    hosts: Hosts,
    clock: PartitionClock,
    more_runs: MoreRuns,
    held: Held,
    schedule: Schedule,
    running: Option<Running>,
    counters: Counters,
    /// The offset of the next record.
    position: i64,
    /// What earlier records lead to was handed out by an earlier engine.
    emit_from: i64,
    /// Decisions of an earlier engine that are still ahead.
    ahead: VecDeque<Decision>,
    /// Decisions since the oldest checkpoint.
    decisions: Vec<Decision>,
    checkpoints: Checkpoints,
    caught_up: CaughtUp,
}

/// Why an engine cannot start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartError {
    /// By its settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// By what was committed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl Engine {
    /// An engine that knows nothing and reads from `start` on.
    pub fn new(settings: Settings, seed: HashSeed, start: i64) -> Result<Self, StartError> {
        settings.check()?;
        let panes_per_host = settings.open_windows();
        let room = usize::try_from(panes_per_host).unwrap_or(1);
        Ok(Self {
            hosts: Hosts::new(seed, room, settings.hosts_max),
            panes_per_host,
            clock: PartitionClock::default(),
            more_runs: MoreRuns::default(),
            held: Held::default(),
            schedule: Schedule::starting_at(0),
            running: settings.running.then(Running::default),
            counters: Counters::default(),
            position: start,
            emit_from: start,
            ahead: VecDeque::new(),
            decisions: Vec::new(),
            checkpoints: Checkpoints::starting_at(start, PartitionClock::default()),
            caught_up: CaughtUp::default(),
            settings,
        })
    }

    /// Takes in records of the partition, in the order of their offsets. Records below the
    /// position were taken in before and are passed over.
    pub fn handle_records(&mut self, records: &[InputRecord<'_>], output: &mut Output) {
        for record in records {
            self.handle_record(record, output);
        }
    }

    fn handle_record(&mut self, record: &InputRecord<'_>, output: &mut Output) {
        if record.offset < self.position {
            return;
        }
        self.repeat_decisions(record.offset, output);
        self.note_checkpoint(record.offset);
        self.position = record.offset;
        let first_row = output.rows.len();
        match ReadSample::parse(record, &self.settings) {
            Ok(sample) => self.judge(&sample, output),
            Err(reason) => {
                if self.is_emitting() {
                    let clock_ms = self.clock.now_ms;
                    self.reject(RejectedRecord::of(record, reason, clock_ms), output);
                }
            }
        }
        let next = record.offset.saturating_add(1);
        self.close_silent(next, output);
        sort_rows(output, first_row);
        self.position = next;
        self.repeat_decisions(self.position, output);
    }

    /// Whether what the record at the position leads to is still to be handed out.
    fn is_emitting(&self) -> bool {
        self.position >= self.emit_from
    }

    fn reject(&mut self, rejected: RejectedRecord, output: &mut Output) {
        if self.is_emitting() {
            let count = self.counters.rejected.entry(rejected.reason).or_default();
            *count = count.saturating_add(1);
            output.rejects.push(rejected);
        }
    }

    /// Counts a sample whose time is believed.
    fn count(&mut self, sample: &ReadSample<'_>, output: &mut Output) {
        let Some(number) = self.host_number(sample.host) else {
            return self.reject_sample(sample, Reason::TooManyHosts, output);
        };
        self.clock
            .vote(number, sample.time_ms, self.settings.size_ms);
        let fate = self.count_once(number, sample, output);
        if let Some(host) = self.hosts.get_mut(number) {
            host.talks = !matches!(fate, Fate::Accepted);
        }
        if self.is_emitting() {
            let counter = match fate {
                Fate::Accepted => &mut self.counters.accepted,
                Fate::Late => &mut self.counters.late,
                Fate::Duplicate => &mut self.counters.duplicates,
            };
            *counter = counter.saturating_add(1);
        }
    }

    fn count_once(
        &mut self,
        number: HostNumber,
        sample: &ReadSample<'_>,
        output: &mut Output,
    ) -> Fate {
        let emitting = self.is_emitting();
        let Some((host, panes)) = self.hosts.with_panes(number) else {
            return Fate::Late;
        };
        if self.position < host.begin_offset {
            return Fate::Late;
        }
        if let Some(tag) = sample.tag
            && !host.runs.mark(tag, number, &mut self.more_runs)
        {
            return Fate::Duplicate;
        }
        if let Some(running) = &mut self.running {
            running.add(number, sample.value, sample.time_ms);
        }
        let (size_ms, delay_ms) = (self.settings.size_ms, self.settings.delay_ms);
        let index = sample.time_ms.div_euclid(size_ms);
        let start_ms = index * size_ms;
        let end_ms = start_ms + size_ms;
        if end_ms <= host.clock_ms(delay_ms).max(host.closed_ms) {
            return Fate::Late;
        }
        if sample.time_ms > host.newest_ms {
            host.newest_ms = sample.time_ms;
            let clock_ms = host.clock_ms(delay_ms);
            if host.next_end_ms <= clock_ms {
                let rows = emitting.then_some(&mut output.rows);
                let closing = Closing {
                    size_ms,
                    through_ms: clock_ms,
                    cuts_short: None,
                };
                closing.close(host, panes, rows);
            }
        }
        let slot = usize::try_from(index.rem_euclid(self.panes_per_host)).unwrap_or(0);
        let Some(pane) = panes.get_mut(slot) else {
            return Fate::Late;
        };
        host.heard_ms = host.heard_ms.max(self.clock.quiet_ms);
        host.heard_offset = host.heard_offset.max(sample.offset);
        if !pane.is_open() {
            pane.start_ms = start_ms;
            pane.first_offset = sample.offset;
            host.next_end_ms = host.next_end_ms.min(end_ms);
            let look_ms = host.heard_ms.saturating_add(self.settings.silence_ms);
            let step = self.schedule.step_of(look_ms);
            if host.due_step > step {
                host.due_step = step;
                self.schedule.add(number, step);
            }
        }
        pane.add(sample.value, sample.time_ms, sample.tag);
        Fate::Accepted
    }

    /// The host's number, a new one if need be; `None` where there are too many.
    fn host_number(&mut self, name: &str) -> Option<HostNumber> {
        if let Some(number) = self.hosts.find(name) {
            return Some(number);
        }
        let number = self.hosts.insert(name)?;
        let heard_ms = self.clock.quiet_ms;
        let forget_ms = heard_ms.saturating_add(self.settings.forget_after_ms);
        let step = self.schedule.step_of(forget_ms);
        let host = self.hosts.get_mut(number)?;
        host.heard_ms = heard_ms;
        if self.running.is_none() {
            host.due_step = step;
            self.schedule.add(number, step);
        }
        Some(number)
    }

    /// The offset of the next record.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The partition's clock, milliseconds since 1970: what most hosts have come to.
    pub fn clock_ms(&self) -> Option<i64> {
        self.clock.now_ms
    }

    /// Hosts known, silent ones for as long as they are not forgotten.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// What became of the records.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The windows that are open, as they stand, in the order (window, host).
    pub fn open_windows(&self) -> Vec<Row> {
        let size_ms = self.settings.size_ms;
        let mut rows: Vec<Row> = self
            .hosts
            .iter()
            .flat_map(|(_, host, panes)| {
                let open = panes.iter().filter(|pane| pane.is_open());
                open.map(move |pane| closing::row(host, pane, size_ms, Emit::Update))
            })
            .collect();
        rows.sort_by(|a, b| (a.window, &a.host).cmp(&(b.window, &b.host)));
        rows
    }

    /// The running means that changed since they were last taken, by host; nothing unless the
    /// settings ask for them. They rest on what this engine has read, so a job that wants those of
    /// all time begins at the partition's first record.
    pub fn take_running(&mut self) -> Vec<Row> {
        let changed = self.running.as_mut().map(Running::take_changed);
        let mut rows: Vec<Row> = changed
            .into_iter()
            .flatten()
            .filter_map(|(number, totals, newest_ms)| {
                Some(Row {
                    host: Arc::clone(&self.hosts.get(number)?.name),
                    window: Window::All { newest_ms },
                    totals,
                    expected: None,
                    emit: Emit::Update,
                })
            })
            .collect();
        rows.sort_by(|a, b| a.host.cmp(&b.host));
        rows
    }
}

/// What a sample did.
enum Fate {
    Accepted,
    Late,
    Duplicate,
}

/// One record's rows in their order, wherever the input was cut.
fn sort_rows(output: &mut Output, first: usize) {
    if let Some(rows) = output.rows.get_mut(first..)
        && rows.len() > 1
    {
        rows.sort_by(|a, b| (a.window, &a.host).cmp(&(b.window, &b.host)));
    }
}
