//! Whether a sample's time can be believed. That depends on the partition clock, its ballot and
//! what is held, and on nothing that is known of hosts: so an engine that starts anew at a
//! checkpoint judges alike.

use super::Engine;
use crate::held::HeldSample;
use crate::host::HostNumber;
use crate::output::{Output, RejectedRecord};
use crate::record::ReadSample;
use bytes::Bytes;
use tidewatch_sample::Reason;

impl Engine {
    /// Counts the sample, or holds it, and settles what its coming settles.
    pub(super) fn judge(&mut self, sample: &ReadSample<'_>, output: &mut Output) {
        let max_future_ms = self.settings.max_future_ms;
        let Some(now_ms) = self.clock.now_ms else {
            return self.judge_first(sample, output);
        };
        if self.held.is_empty() && sample.time_ms <= now_ms.saturating_add(max_future_ms) {
            return self.count(sample, output);
        }
        if self.is_future(sample.host, sample.time_ms) {
            self.held.push(hold(sample), now_ms);
        } else {
            for held in self.held.take(|held| *held.host == *sample.host) {
                self.reject_held(held, Reason::Future, output);
            }
            self.count(sample, output);
        }
        self.settle(output);
    }

    /// Without a clock nothing tells a future time. The first sample waits for the second, and the
    /// lesser of their times sets the clock.
    fn judge_first(&mut self, sample: &ReadSample<'_>, output: &mut Output) {
        let alone = self.held.is_empty();
        self.held.push(hold(sample), sample.time_ms);
        if !alone {
            self.believe_first(output);
        }
    }

    /// Sets a clock that nothing has set yet by the least time that is held.
    pub(super) fn believe_first(&mut self, output: &mut Output) {
        if self.clock.now_ms.is_some() {
            return;
        }
        let Some(least) = self.held.take_least() else {
            return;
        };
        self.count_held(&least, output);
        let before = |held: &HeldSample| held.host == least.host && held.offset < least.offset;
        for held in self.held.take(before) {
            if self.is_future(&held.host, held.time_ms) {
                self.reject_held(held, Reason::Future, output);
            } else {
                self.count_held(&held, output);
            }
        }
        self.settle(output);
    }

    /// Counts what is held and believed by now, and rejects what is refuted.
    fn settle(&mut self, output: &mut Output) {
        while !self.held.is_empty() {
            let (clock, hosts) = (&self.clock, &self.hosts);
            let max_future_ms = self.settings.max_future_ms;
            let within = |held: &HeldSample| {
                let host = hosts.find(&held.host);
                clock
                    .bound_ms(host.as_ref(), max_future_ms)
                    .is_some_and(|bound_ms| held.time_ms <= bound_ms)
            };
            if let Some(held) = self.held.take_first(within) {
                self.count_held(&held, output);
                continue;
            }
            let believed = self.held.take_believed();
            if believed.is_empty() {
                break;
            }
            for held in &believed {
                self.count_held(held, output);
            }
        }
        let now_ms = self.clock.now_ms.unwrap_or(i64::MIN);
        for held in self
            .held
            .take_refuted(now_ms, self.position, self.settings.max_future_ms)
        {
            self.reject_held(held, Reason::Future, output);
        }
    }

    fn is_future(&self, host: &str, time_ms: i64) -> bool {
        let host: Option<HostNumber> = self.hosts.find(host);
        let bound_ms = self
            .clock
            .bound_ms(host.as_ref(), self.settings.max_future_ms);
        bound_ms.is_some_and(|bound_ms| time_ms > bound_ms)
    }

    fn count_held(&mut self, held: &HeldSample, output: &mut Output) {
        let sample = ReadSample {
            offset: held.offset,
            time_ms: held.time_ms,
            host: &held.host,
            value: held.value,
            text: &held.text,
            tag: held.tag,
        };
        self.count(&sample, output);
    }

    pub(super) fn reject_sample(
        &mut self,
        sample: &ReadSample<'_>,
        reason: Reason,
        output: &mut Output,
    ) {
        self.reject_held(hold(sample), reason, output);
    }

    pub(super) fn reject_held(&mut self, held: HeldSample, reason: Reason, output: &mut Output) {
        let rejected = RejectedRecord {
            reason,
            offset: held.offset,
            timestamp_ms: held.time_ms,
            key: Some(Bytes::copy_from_slice(held.host.as_bytes())),
            value: Some(Bytes::from(held.text)),
            truncated_key_bytes: None,
            truncated_bytes: None,
            clock_ms: self.clock.now_ms,
        };
        self.reject(rejected, output);
    }
}

fn hold(sample: &ReadSample<'_>) -> HeldSample {
    HeldSample {
        offset: sample.offset,
        time_ms: sample.time_ms,
        host: sample.host.into(),
        value: sample.value,
        text: sample.text.into(),
        tag: sample.tag,
    }
}
