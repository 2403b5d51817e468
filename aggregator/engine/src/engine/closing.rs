//! Which windows close, other than by a sample of their own host: those of hosts that fell silent.
//!
//! A silent host's clock is taken to go on at the pace of the partition's quiet clock, or, where a
//! whole partition is silent, of the wall clock. So a host whose clock is ahead or behind gets the
//! same time as any other. The windows it closes are closed for good; later ones open as ever.

use super::{Engine, sort_rows};
use crate::host::{Host, HostNumber, NEVER};
use crate::metadata::{DECISIONS_MAX_BYTES, Decision};
use crate::output::{Output, Row};
use crate::pane::Pane;
use crate::partition_clock::{Ballot, Vote};
use std::collections::VecDeque;
use std::sync::Arc;
use tidewatch_sample::{Emit, Reason, Window};

/// Marks kept of a time as long as hosts may be silent: closings are late by a 32nd of it.
const MARKS: i64 = 32;

/// Closes a host's windows that end at or before a time.
pub(super) struct Closing {
    pub(super) size_ms: i64,
    pub(super) through_ms: i64,
    /// The delay, where it is not the host's own clock that closes them.
    pub(super) cuts_short: Option<i64>,
}

impl Closing {
    pub(super) fn close(
        self,
        host: &mut Host,
        panes: &mut [Pane],
        mut rows: Option<&mut Vec<Row>>,
    ) {
        let mut next_end_ms = i64::MAX;
        for pane in panes.iter_mut().filter(|pane| pane.is_open()) {
            let end_ms = pane.start_ms + self.size_ms;
            if end_ms > self.through_ms {
                next_end_ms = next_end_ms.min(end_ms);
                continue;
            }
            if let Some(rows) = rows.as_deref_mut() {
                rows.push(row(host, pane, self.size_ms, Emit::Final));
            }
            if let Some(delay_ms) = self.cuts_short {
                cut_short(host, end_ms, pane.first_offset, delay_ms);
            }
            *pane = Pane::CLOSED;
        }
        host.next_end_ms = next_end_ms;
    }
}

/// Notes a window closed ahead of its host's clock. One that was cut short before and still is
/// needs the earlier window read again as well.
fn cut_short(host: &mut Host, end_ms: i64, first_offset: i64, delay_ms: i64) {
    host.reopen_offset = if host.is_cut_short(delay_ms) {
        host.reopen_offset.min(first_offset)
    } else {
        first_offset
    };
    host.closed_ms = host.closed_ms.max(end_ms);
}

pub(super) fn row(host: &Host, pane: &Pane, size_ms: i64, emit: Emit) -> Row {
    Row {
        host: Arc::clone(&host.name),
        window: Window::Span {
            start_ms: pane.start_ms,
            end_ms: pane.start_ms + size_ms,
        },
        totals: pane.totals,
        expected: pane.expected(size_ms),
        emit,
    }
}

/// Which offset the partition had come to when, in time that runs only while there is nothing to
/// read.
#[derive(Debug, Default)]
pub(super) struct CaughtUp {
    marks: VecDeque<(i64, i64)>,
    looked_before: i64,
}

impl CaughtUp {
    /// Marks the position; gives that of `silent_ms` ago, where it is known and new.
    fn mark(&mut self, caught_up_ms: i64, position: i64, silent_ms: i64) -> Option<i64> {
        if self
            .marks
            .back()
            .is_some_and(|(at_ms, _)| caught_up_ms < *at_ms)
        {
            self.marks.clear();
        }
        let last = self.marks.back();
        let apart_ms = (silent_ms / MARKS).max(1);
        if last.is_none_or(|(at_ms, _)| caught_up_ms.saturating_sub(*at_ms) >= apart_ms) {
            self.marks.push_back((caught_up_ms, position));
        }
        let silent_since_ms = caught_up_ms.saturating_sub(silent_ms);
        let past = self
            .marks
            .partition_point(|(at_ms, _)| *at_ms <= silent_since_ms);
        self.marks.drain(..past.saturating_sub(1));
        let (_, before) = *self.marks.front().filter(|_| past > 0)?;
        let new = before > self.looked_before;
        self.looked_before = self.looked_before.max(before);
        new.then_some(before)
    }
}

impl Engine {
    /// Says that all records below `position` were taken in and there is nothing more to read.
    /// `caught_up_ms` is the wall-clock time spent so, in milliseconds from any zero: it stands
    /// still while there is a backlog or the broker does not answer. Hosts from which nothing came
    /// in window + delay + silence of that time have their windows closed.
    pub fn handle_caught_up(&mut self, position: i64, caught_up_ms: i64, output: &mut Output) {
        if position < self.emit_from {
            // The log lost records that an earlier engine had read; others take their offsets.
            self.ahead.retain(|decision| decision.at <= position);
            self.emit_from = position;
        }
        self.repeat_decisions(position, output);
        self.position = self.position.max(position);
        let settings = &self.settings;
        let silent_ms = settings.size_ms + settings.delay_ms + settings.silence_ms;
        let mark = self.caught_up.mark(caught_up_ms, self.position, silent_ms);
        if let Some(heard_before) = mark {
            self.close_unheard(heard_before, output);
        }
    }

    /// Ends the input as far as it was read: what is still held is rejected, and with `close_open`
    /// every open window closes. To be committed like everything else.
    pub fn finish(&mut self, close_open: bool, output: &mut Output) {
        let decision = Decision {
            at: self.position,
            heard_before: if close_open { i64::MAX } else { NEVER },
            rejects_held: true,
            ballot: None,
        };
        self.decide(decision, output);
    }

    /// Closes the windows of hosts not heard of since an offset, and takes them out of the clock's
    /// ballot: else two silent hosts among four would stop it for ever.
    pub(super) fn close_unheard(&mut self, heard_before: i64, output: &mut Output) {
        let unheard = |host: &Host| host.heard_offset < heard_before;
        let closes = self
            .hosts
            .iter()
            .any(|(_, host, _)| host.has_open_windows() && unheard(host));
        let believes = self.clock.now_ms.is_none() && !self.held.is_empty();
        let ballot = self.plan_ballot(heard_before);
        if !closes && !believes && ballot.is_none() {
            return;
        }
        let decision = Decision {
            at: self.position,
            heard_before,
            rejects_held: false,
            ballot,
        };
        let Some(clock) = self.named_clock() else {
            return;
        };
        let size: usize = self
            .decisions
            .iter()
            .chain([&decision])
            .map(|decision| decision.size_bytes(&clock))
            .sum();
        if size > DECISIONS_MAX_BYTES {
            self.counters.closings_put_off = self.counters.closings_put_off.saturating_add(1);
            return;
        }
        self.decide(decision, output);
    }

    /// The ballot of those hosts that were heard of, if one has a vote that was not.
    fn plan_ballot(&self, heard_before: i64) -> Option<Ballot<Arc<str>>> {
        let heard = |number: HostNumber| {
            self.hosts
                .get(number)
                .is_some_and(|host| host.heard_offset >= heard_before)
        };
        if self.clock.ballot.votes.iter().all(|vote| heard(vote.host)) {
            return None;
        }
        let hosts = self
            .hosts
            .iter()
            .filter(|(_, host, _)| host.heard_offset >= heard_before);
        let votes = hosts.map(|(_, host, _)| Vote {
            host: Arc::clone(&host.name),
            first_ms: host.newest_ms,
            newest_ms: host.newest_ms,
        });
        let ballot = Ballot::of(votes.collect());
        (!ballot.votes.is_empty()).then_some(ballot)
    }

    fn decide(&mut self, decision: Decision, output: &mut Output) {
        let first_row = output.rows.len();
        self.apply(decision, output);
        sort_rows(output, first_row);
    }

    /// Repeats an earlier engine's decisions up to a position. What they led to was handed out.
    pub(super) fn repeat_decisions(&mut self, position: i64, output: &mut Output) {
        while let Some(decision) = self.ahead.pop_front_if(|decision| decision.at <= position) {
            self.position = self.position.max(decision.at);
            let (rows, rejects) = (output.rows.len(), output.rejects.len());
            let counters = self.counters.clone();
            self.apply(decision, output);
            self.counters = counters;
            output.rows.truncate(rows);
            output.rejects.truncate(rejects);
        }
    }

    fn apply(&mut self, decision: Decision, output: &mut Output) {
        self.believe_first(output);
        if decision.rejects_held {
            for held in self.held.take(|_| true) {
                self.reject_held(held, Reason::Future, output);
            }
        }
        self.close_hosts(decision.heard_before, output);
        let ballot = decision.ballot.as_ref();
        if let Some(ballot) = ballot.and_then(|ballot| ballot.map(|name| self.host_number(name))) {
            self.clock.replace_ballot(ballot, self.settings.size_ms);
        }
        self.decisions.push(decision);
        self.close_silent(self.position, output);
        self.replace_checkpoint();
    }

    fn close_hosts(&mut self, heard_before: i64, output: &mut Output) {
        let unheard: Vec<HostNumber> = self
            .hosts
            .iter()
            .filter(|(_, host, _)| host.has_open_windows() && host.heard_offset < heard_before)
            .map(|(number, _, _)| number)
            .collect();
        for number in unheard {
            self.close_through(number, i64::MAX, output);
        }
    }

    fn close_through(&mut self, number: HostNumber, through_ms: i64, output: &mut Output) {
        let rows = self.is_emitting().then_some(&mut output.rows);
        let Some((host, panes)) = self.hosts.with_panes(number) else {
            return;
        };
        let closing = Closing {
            size_ms: self.settings.size_ms,
            through_ms,
            cuts_short: Some(self.settings.delay_ms),
        };
        closing.close(host, panes, rows);
    }

    /// Looks at the hosts that are due on the quiet clock, once all that a record leads to is done;
    /// `next` is the offset after it.
    pub(super) fn close_silent(&mut self, next: i64, output: &mut Output) {
        if !self.schedule.is_due(self.clock.quiet_ms) {
            return;
        }
        for (step, number) in self.schedule.take_due(self.clock.quiet_ms) {
            let due = self
                .hosts
                .get(number)
                .is_some_and(|host| host.due_step == step);
            if due && self.hosts.holds(number) {
                self.look_at(number, next, output);
            }
        }
    }

    fn look_at(&mut self, number: HostNumber, next: i64, output: &mut Output) {
        let quiet_ms = self.clock.quiet_ms;
        let Some(host) = self.hosts.get(number) else {
            return;
        };
        let grace_ms = self.settings.delay_ms + self.settings.silence_ms;
        let silent_ms = quiet_ms.saturating_sub(host.heard_ms);
        let through_ms = host
            .newest_ms
            .saturating_add(silent_ms)
            .saturating_sub(grace_ms);
        if host.next_end_ms <= through_ms {
            self.close_through(number, through_ms, output);
        }
        let Some(host) = self.hosts.get_mut(number) else {
            return;
        };
        let look_ms = if host.has_open_windows() {
            host.heard_ms.saturating_add(self.settings.silence_ms)
        } else if self.running.is_some() {
            host.due_step = i64::MAX;
            return;
        } else {
            host.heard_ms.saturating_add(self.settings.forget_after_ms)
        };
        if host.has_open_windows() || look_ms > quiet_ms {
            host.due_step = self.schedule.step_of(look_ms);
            self.schedule.add(number, host.due_step);
        } else {
            self.forget(number, next);
        }
    }

    /// Forgets a host. One that votes keeps its place, because the ballot names it. So does one that
    /// sends what its own clock made late: from here on it is a new host, and after a restart its
    /// earlier records must not count.
    fn forget(&mut self, number: HostNumber, next: i64) {
        self.more_runs.forget(number);
        let quiet_ms = self.clock.quiet_ms;
        let votes = self.clock.ballot.newest_of(&number).is_some();
        let Some(host) = self
            .hosts
            .get_mut(number)
            .filter(|host| votes || host.talks)
        else {
            return self.hosts.remove(number);
        };
        let begin_offset = if host.talks { next } else { host.begin_offset };
        *host = Host {
            heard_ms: quiet_ms,
            begin_offset,
            ..Host::new(Arc::clone(&host.name))
        };
        let forget_ms = quiet_ms.saturating_add(self.settings.forget_after_ms);
        host.due_step = self.schedule.step_of(forget_ms);
        self.schedule.add(number, host.due_step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_of_a_while_ago_is_told_once() {
        let mut caught_up = CaughtUp::default();
        assert_eq!(caught_up.mark(0, 5, 320), None);
        assert_eq!(caught_up.mark(9, 6, 320), None, "not yet another mark");
        assert_eq!(caught_up.mark(10, 7, 320), None);
        assert_eq!(caught_up.mark(320, 9, 320), Some(5));
        assert_eq!(caught_up.mark(325, 9, 320), None);
        assert_eq!(caught_up.mark(330, 9, 320), Some(7));
    }

    #[test]
    fn marks_are_bounded_and_a_clock_that_starts_again_starts_again() {
        let mut caught_up = CaughtUp::default();
        for ms in 0..10_000 {
            caught_up.mark(ms, ms, 320);
            assert!(caught_up.marks.len() <= 34);
        }
        assert_eq!(caught_up.mark(0, 20_000, 320), None);
        assert_eq!(caught_up.mark(319, 20_000, 320), None);
        assert_eq!(caught_up.mark(320, 20_000, 320), Some(20_000));
    }
}
