//! One consumer's group: committed offsets; membership comes to live here.
//!
//! Requests go to the coordinator one after another in the order in which they were asked for, so
//! that a commit that is retried never overwrites a newer one.

pub mod assignor;
mod offsets;
mod requests;
pub mod subscription;
#[cfg(test)]
mod tests;

pub(crate) use offsets::shape_offset_fetch;
pub(crate) use requests::{shape_join_group, shape_leave_group, shape_sync_group};

use crate::backoff::Backoff;
use crate::call::{
    Call, CallId, Coordinated, Destination, Fact, Lane, OffsetAndMetadata, Outcome, Permits, Reply,
    RequestId, Response, Room, RoomId, TopicPartition,
};
use crate::error::{CallError, CallErrorKind, Error};
use crate::options::ConsumerOptions;
use crate::time::{Now, Timer};
use offsets::{Job, Step};
use std::collections::VecDeque;
use std::sync::Arc;

/// Commits and look-ups that may wait for the ones before them; more are refused.
pub const MAX_QUEUED_REQUESTS: usize = 1024;

/// What a user asks of this room.
#[derive(Debug)]
pub enum Command {
    /// Commits these offsets: each is the next one to read.
    Commit(Vec<(TopicPartition, OffsetAndMetadata)>),
    /// Looks up what is committed of these. Finishes with [`Outcome::Offsets`], offset -1 where
    /// there is none. Under `read_committed` it waits until no transaction is about to change it.
    Committed(Vec<TopicPartition>),
}

/// One consumer's group: committed offsets; membership comes to live here.
#[derive(Debug)]
pub struct GroupRoom {
    room: u32,
    options: ConsumerOptions,
    group: Option<Arc<str>>,
    random: fastrand::Rng,
    /// The first is under way or waits to be tried again.
    queue: VecDeque<Queued>,
    /// The call under way. Its request may have passed its deadline: the next waits even so.
    in_flight: Option<(u64, RequestId)>,
    retry_at_us: Option<u64>,
    backoff: Backoff,
    facts: VecDeque<Fact>,
    finished: VecDeque<(RequestId, Result<Outcome, Error>)>,
    next_call: u64,
}

#[derive(Debug)]
struct Queued {
    request: RequestId,
    deadline_us: u64,
    job: Job,
    /// Why it is not finished yet, for the error when it never is.
    waits_for: String,
}

impl GroupRoom {
    /// Starts with nothing to do.
    pub fn new(room: u32, options: ConsumerOptions, seed: u64) -> Self {
        let (initial_ms, max_ms) = options.retry_backoff_ms;
        Self {
            room,
            group: options.group_id.as_deref().map(Arc::from),
            options,
            random: fastrand::Rng::with_seed(seed),
            queue: VecDeque::new(),
            in_flight: None,
            retry_at_us: None,
            backoff: Backoff::new(initial_ms, max_ms),
            facts: VecDeque::new(),
            finished: VecDeque::new(),
            next_call: 0,
        }
    }

    /// Takes up a user's request; its end comes out of `poll_finished` under `request`.
    pub fn handle_command(&mut self, now: Now, request: RequestId, command: Command) {
        let job = match command {
            Command::Commit(offsets) => Job::commit(offsets),
            Command::Committed(partitions) => Job::committed(partitions),
        };
        if let Some(end) = self.refuse(&job) {
            return self.finished.push_back((request, end));
        }
        let limit_us = self.options.default_api_timeout_ms.saturating_mul(1000);
        self.queue.push_back(Queued {
            request,
            deadline_us: now.monotonic_us.saturating_add(limit_us),
            job,
            waits_for: "it waits for the requests before it (default.api.timeout.ms)".to_owned(),
        });
    }

    /// The end of a request that no broker need be asked about.
    fn refuse(&self, job: &Job) -> Option<Result<Outcome, Error>> {
        let doing = job.doing(self.group.as_deref().unwrap_or_default());
        if self.group.is_none() {
            let why = format!("failed to {doing}: the consumer has no group.id");
            return Some(Err(Error::Usage(why)));
        }
        if self.queue.len() >= MAX_QUEUED_REQUESTS {
            let why = format!(
                "failed to {doing}: {MAX_QUEUED_REQUESTS} requests of this group wait already; \
                 await each before the next"
            );
            return Some(Err(Error::Usage(why)));
        }
        job.outcome_of_nothing().map(Ok)
    }

    fn expire(&mut self, now: Now) {
        self.retry_at_us.take_if(|at_us| *at_us <= now.monotonic_us);
        let group = self.group.as_deref().unwrap_or_default();
        let limit_ms = self.options.default_api_timeout_ms;
        let finished = &mut self.finished;
        self.queue.retain(|queued| {
            let is_alive = queued.deadline_us > now.monotonic_us;
            if !is_alive {
                let error = Error::TimedOut {
                    doing: queued.job.doing(group),
                    limit_ms,
                    why: queued.waits_for.clone(),
                };
                finished.push_back((queued.request, Err(error)));
            }
            is_alive
        });
    }

    /// Tries the first request again, not at once.
    fn back_off(&mut self, now: Now, why: String) {
        let wait_us = self.backoff.next_us(&mut self.random);
        self.retry_at_us = Some(now.monotonic_us.saturating_add(wait_us));
        if let Some(first) = self.queue.front_mut() {
            first.waits_for = why;
        }
    }

    fn lose_coordinator(&mut self) {
        if let Some(group) = &self.group {
            let lost = Coordinated::Group(Arc::clone(group));
            self.facts.push_back(Fact::CoordinatorLost(lost));
        }
    }

    fn handle_call_error(&mut self, now: Now, source: CallError) {
        if source.kind.is_retriable() {
            self.lose_coordinator();
            return self.back_off(now, source.to_string());
        }
        let Some(first) = self.queue.pop_front() else {
            return;
        };
        let doing = first.job.doing(self.group.as_deref().unwrap_or_default());
        let end = match source.kind {
            CallErrorKind::Closed => Error::Closed { doing },
            _ => Error::Call { doing, source },
        };
        self.finished.push_back((first.request, Err(end)));
    }

    fn handle_response(&mut self, now: Now, response: &Response) {
        let group = self.group.clone().unwrap_or_default();
        let Some(first) = self.queue.front_mut() else {
            return;
        };
        match first.job.handle_response(response, &group) {
            Step::Finished(end) => {
                let request = first.request;
                self.queue.pop_front();
                self.backoff.reset();
                self.finished.push_back((request, end));
            }
            Step::Retry(code) => {
                if code.meaning().find_coordinator {
                    self.lose_coordinator();
                }
                self.back_off(now, code.to_string());
            }
        }
    }
}

impl Room for GroupRoom {
    fn handle_fact(&mut self, _now: Now, _fact: &Fact) {}

    fn handle_reply(&mut self, now: Now, id: CallId, reply: Result<Reply, CallError>) {
        let Some((_, request)) = self.in_flight.take_if(|(number, _)| *number == id.number) else {
            return;
        };
        let is_first = |first: &Queued| first.request == request;
        if !self.queue.front().is_some_and(is_first) {
            // It passed its deadline meanwhile.
            return;
        }
        match reply {
            Ok(reply) => self.handle_response(now, &reply.response),
            Err(error) => self.handle_call_error(now, error),
        }
    }

    fn poll_call(&mut self, now: Now, _permits: &Permits) -> Option<Call> {
        self.expire(now);
        if self.in_flight.is_some() || self.retry_at_us.is_some() {
            return None;
        }
        let first = self.queue.front()?;
        let group = self.group.as_ref()?;
        let body = first.job.body(group, self.options.read_committed);
        self.next_call += 1;
        self.in_flight = Some((self.next_call, first.request));
        let timeout_us = self.options.request_timeout_ms.saturating_mul(1000);
        let give_up_us = now.monotonic_us.saturating_add(timeout_us);
        Some(Call {
            id: CallId {
                room: RoomId::Group(self.room),
                number: self.next_call,
            },
            destination: Destination::Coordinator(Coordinated::Group(Arc::clone(group))),
            lane: Lane::General,
            body,
            version_cap: None,
            timeout_us,
            give_up_us: give_up_us.min(first.deadline_us),
        })
    }

    fn poll_fact(&mut self, _now: Now) -> Option<Fact> {
        self.facts.pop_front()
    }

    fn poll_finished(&mut self) -> Option<(RequestId, Result<Outcome, Error>)> {
        self.finished.pop_front()
    }

    fn poll_timeout(&self) -> Option<(u64, Timer)> {
        let deadlines = self.queue.iter().map(|queued| queued.deadline_us);
        deadlines
            .chain(self.retry_at_us)
            .min()
            .map(|at_us| (at_us, Timer::Retry))
    }
}
