//! One consumer's group: committed offsets, and membership.
//!
//! Requests about offsets go to the coordinator one after another in the order in which they were
//! asked for; a member's own look-ups have a line of their own, because a commit may wait for what
//! they are part of.

pub mod assignor;
mod classic;
mod line;
mod offsets;
mod requests;
mod rewind;
pub mod subscription;
#[cfg(test)]
mod tests;

pub(crate) use offsets::shape_offset_fetch;
pub(crate) use requests::{shape_join_group, shape_leave_group, shape_sync_group};

use crate::call::{
    Call, CallId, Coordinated, Destination, Fact, Lane, OffsetAndMetadata, Outcome, Permits, Reply,
    RequestId, Response, Room, RoomId, Serve, TopicPartition,
};
use crate::error::{CallError, CallErrorKind, Error};
use crate::metadata::Cluster;
use crate::options::ConsumerOptions;
use crate::pulse::Pulse;
use crate::time::{Now, Timer};
use classic::{Errand, Member, Stamp};
use line::{Line, Origin, Queued, UnderWay};
use offsets::{Job, Step, is_of_generation};
use rewind::Rewind;
use std::collections::VecDeque;
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;

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
    /// Becomes a member of the group that reads these topics, or changes which.
    Subscribe(Vec<Arc<str>>),
    /// Gives all partitions up, commits what was delivered if `enable.auto.commit` says so, and
    /// leaves the group. A static member keeps its place in it.
    Unsubscribe,
}

/// One consumer's group: committed offsets, and membership.
#[derive(Debug)]
pub struct GroupRoom {
    room: u32,
    options: ConsumerOptions,
    group: Option<Arc<str>>,
    random: fastrand::Rng,
    member: Member,
    cluster: Arc<Cluster>,
    /// What the user asked for, and the member's own commits.
    asked: Line,
    /// What the member looks up, and what its reader goes back to.
    own: Line,
    rewind: Option<Rewind>,
    facts: VecDeque<Fact>,
    finished: VecDeque<(RequestId, Result<Outcome, Error>)>,
    next_number: u64,
}

impl GroupRoom {
    /// Starts with nothing to do. `pulse` is the reader's.
    pub fn new(room: u32, options: ConsumerOptions, seed: u64, pulse: Arc<Pulse>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            room,
            group: options.group_id.as_deref().map(Arc::from),
            member: Member::new(room, options.clone(), pulse, random.u64(..)),
            random,
            cluster: Arc::default(),
            asked: Line::new(options.retry_backoff_ms),
            own: Line::new(options.retry_backoff_ms),
            rewind: None,
            options,
            facts: VecDeque::new(),
            finished: VecDeque::new(),
            next_number: 0,
        }
    }
}

impl Serve<Command> for GroupRoom {
    fn handle_command(&mut self, now: Now, request: RequestId, command: Command) {
        let job = match command {
            Command::Commit(offsets) => Job::commit(offsets),
            Command::Committed(partitions) => Job::committed(partitions),
            Command::Subscribe(topics) => {
                let end = self.member.subscribe(now, topics).map(|()| Outcome::Done);
                return self.finished.push_back((request, end));
            }
            Command::Unsubscribe => return self.member.unsubscribe(request),
        };
        if let Some(end) = self.refuse(&job) {
            return self.finished.push_back((request, end));
        }
        let queued = self.queued(now, Origin::User(request), job);
        self.asked.queue.push_back(queued);
    }

    /// The group need not wait for the end of the session to know. What was read is not committed,
    /// because nobody says whether it was dealt with.
    fn handle_parting(&mut self) {
        self.member.close();
    }

    fn has_parted(&self) -> bool {
        self.member.is_settled()
    }
}

impl GroupRoom {
    fn queued(&mut self, now: Now, origin: Origin, job: Job) -> Queued {
        let limit_us = self.options.default_api_timeout_ms.saturating_mul(1000);
        self.next_number += 1;
        Queued {
            number: self.next_number,
            origin,
            deadline_us: now.monotonic_us.saturating_add(limit_us),
            job,
            asked: self.member.changes(),
            waits_for: "it waits for the requests before it (default.api.timeout.ms)".to_owned(),
        }
    }

    /// The end of a request that no broker need be asked about.
    fn refuse(&self, job: &Job) -> Option<Result<Outcome, Error>> {
        let doing = job.doing(self.group.as_deref().unwrap_or_default());
        if self.group.is_none() {
            let why = format!("failed to {doing}: the consumer has no group.id");
            return Some(Err(Error::Usage(why)));
        }
        if self.asked.queue.len() >= MAX_QUEUED_REQUESTS {
            let why = format!(
                "failed to {doing}: {MAX_QUEUED_REQUESTS} requests of this group wait already; \
                 await each before the next"
            );
            return Some(Err(Error::Usage(why)));
        }
        job.outcome_of_nothing().map(Ok)
    }

    /// Whatever time brings, and what the member wants by now.
    fn handle_time(&mut self, now: Now) {
        self.expire(now);
        self.retry_rewind(now);
        let cluster = Arc::clone(&self.cluster);
        self.member.handle_time(now, &cluster);
        while let Some(errand) = self.member.poll_errand() {
            match errand {
                Errand::LookUp(number, partitions) => {
                    let job = Job::committed(partitions);
                    let queued = self.queued(now, Origin::LookUp(number), job);
                    self.own.queue.push_back(queued);
                }
                Errand::Commit(offsets) => {
                    let queued = self.queued(now, Origin::Commit, Job::commit(offsets));
                    self.asked.queue.push_back(queued);
                }
            }
        }
        self.refuse_given_up(now);
    }

    fn expire(&mut self, now: Now) {
        let late = [self.asked.expire(now), self.own.expire(now)];
        for queued in late.into_iter().flatten() {
            let error = Error::TimedOut {
                doing: queued.job.doing(self.group.as_deref().unwrap_or_default()),
                limit_ms: self.options.default_api_timeout_ms,
                why: queued.waits_for.clone(),
            };
            self.finish(now, queued, Err(error));
        }
    }

    /// Commits of what the member has given up meanwhile: its new owner goes on from what was
    /// committed before (line 29).
    fn refuse_given_up(&mut self, now: Now) {
        while let Some(first) = self.asked.due()
            && first.stamp(&self.member) == Stamp::Gone
        {
            let error = Error::Broker {
                doing: first.job.doing(self.group.as_deref().unwrap_or_default()),
                code: ErrorCode::ILLEGAL_GENERATION,
                message: Some(
                    "the group has taken these partitions from this consumer; who has them now \
                     reads on from the last commit before"
                        .to_owned(),
                ),
            };
            let Some(first) = self.asked.queue.pop_front() else {
                return;
            };
            self.finish(now, first, Err(error));
        }
    }

    fn finish(&mut self, now: Now, queued: Queued, end: Result<Outcome, Error>) {
        match queued.origin {
            Origin::User(request) => self.finished.push_back((request, end)),
            Origin::Commit => {
                let committed = end.is_ok().then(|| queued.job.asked().to_vec());
                self.member.handle_committed(committed);
            }
            Origin::LookUp(number) => self.member.handle_looked_up(now, number, end),
            Origin::Rewind(round) => self.handle_rewound(now, round, end),
        }
    }

    fn lose_coordinator(&mut self) {
        if let Some(group) = &self.group {
            let lost = Coordinated::Group(Arc::clone(group));
            self.facts.push_back(Fact::CoordinatorLost(lost));
        }
    }

    fn line(&mut self, is_own: bool) -> &mut Line {
        match is_own {
            true => &mut self.own,
            false => &mut self.asked,
        }
    }

    fn back_off(&mut self, now: Now, is_own: bool, why: String) {
        let line = match is_own {
            true => &mut self.own,
            false => &mut self.asked,
        };
        line.back_off(now, &mut self.random, why);
    }

    fn handle_call_error(&mut self, now: Now, is_own: bool, source: CallError) {
        if source.kind.is_retriable() {
            self.lose_coordinator();
            return self.back_off(now, is_own, source.to_string());
        }
        let Some(first) = self.line(is_own).queue.pop_front() else {
            return;
        };
        let doing = first.job.doing(self.group.as_deref().unwrap_or_default());
        let end = match source.kind {
            CallErrorKind::Closed => Error::Closed { doing },
            _ => Error::Call { doing, source },
        };
        self.finish(now, first, Err(end));
    }

    fn handle_response(&mut self, now: Now, is_own: bool, flight: &UnderWay, response: &Response) {
        let group = self.group.clone().unwrap_or_default();
        let as_member = flight.member.generation_id >= 0;
        let line = self.line(is_own);
        let Some(first) = line.queue.front_mut() else {
            return;
        };
        match first.job.handle_response(response, &group, as_member) {
            Step::Finished(end) => {
                let first = line.queue.pop_front();
                line.backoff.reset();
                if let Err(Error::Broker { code, .. }) = &end
                    && *code == ErrorCode::FENCED_INSTANCE_ID
                    && flight.member == *self.member.standing()
                {
                    self.member.handle_membership_code("commit in group", *code);
                }
                if let Some(first) = first {
                    self.finish(now, first, end);
                }
            }
            Step::Retry(code) => {
                if code.meaning().find_coordinator {
                    self.lose_coordinator();
                }
                if as_member && is_of_generation(code) && flight.member == *self.member.standing() {
                    self.member.handle_membership_code("commit in group", code);
                }
                self.back_off(now, is_own, code.to_string());
            }
        }
    }

    /// The next call about offsets: of the member's own look-ups, then of what was asked for.
    fn poll_offsets(&mut self, now: Now) -> Option<Call> {
        self.poll_line(now, true)
            .or_else(|| self.poll_line(now, false))
    }

    fn poll_line(&mut self, now: Now, is_own: bool) -> Option<Call> {
        let group = Arc::clone(self.group.as_ref()?);
        let line = match is_own {
            true => &self.own,
            false => &self.asked,
        };
        let first = line.due()?;
        let Stamp::As(member) = first.stamp(&self.member) else {
            return None;
        };
        let body = first.job.body(&member, self.options.read_committed);
        let (request, deadline_us) = (first.number, first.deadline_us);
        self.next_number += 1;
        let call = self.next_number;
        self.line(is_own).in_flight = Some(UnderWay {
            call,
            request,
            member,
        });
        let timeout_us = self.options.request_timeout_ms.saturating_mul(1000);
        let give_up_us = now.monotonic_us.saturating_add(timeout_us);
        Some(Call {
            id: self.call_id(call),
            destination: Destination::Coordinator(Coordinated::Group(group)),
            lane: Lane::General,
            body,
            version_cap: None,
            timeout_us,
            give_up_us: give_up_us.min(deadline_us),
        })
    }

    fn poll_member(&mut self, now: Now) -> Option<Call> {
        let number = self.next_number + 1;
        let request = self.member.poll_request(now, number)?;
        self.next_number = number;
        let patience_us = self.options.request_timeout_ms.saturating_mul(1000);
        Some(Call {
            id: self.call_id(number),
            destination: request.destination,
            lane: request.lane,
            body: request.body,
            version_cap: None,
            timeout_us: request.timeout_us,
            give_up_us: now.monotonic_us.saturating_add(patience_us),
        })
    }

    fn call_id(&self, number: u64) -> CallId {
        CallId {
            room: RoomId::Group(self.room),
            number,
        }
    }
}

impl Room for GroupRoom {
    fn handle_fact(&mut self, now: Now, fact: &Fact) {
        match fact {
            Fact::ClusterChanged(cluster) => self.cluster = Arc::clone(cluster),
            Fact::CommittedWanted {
                consumer,
                partitions,
                round,
            } if *consumer == self.room => self.start_rewind(now, *round, partitions.to_vec()),
            _ => {}
        }
        self.member.handle_fact(fact);
    }

    fn handle_reply(&mut self, now: Now, id: CallId, reply: Result<Reply, CallError>) {
        for is_own in [true, false] {
            let Some((flight, is_wanted)) = self.line(is_own).take_flight(id.number) else {
                continue;
            };
            // Otherwise it passed its deadline meanwhile.
            if is_wanted {
                match reply {
                    Ok(reply) => self.handle_response(now, is_own, &flight, &reply.response),
                    Err(error) => self.handle_call_error(now, is_own, error),
                }
            }
            return;
        }
        let reply = reply.map(|reply| reply.response);
        self.member.handle_reply(now, id.number, reply);
    }

    fn poll_call(&mut self, now: Now, _permits: &Permits) -> Option<Call> {
        self.handle_time(now);
        self.poll_member(now).or_else(|| self.poll_offsets(now))
    }

    fn poll_fact(&mut self, now: Now) -> Option<Fact> {
        self.handle_time(now);
        self.facts.pop_front().or_else(|| self.member.poll_fact())
    }

    fn poll_finished(&mut self) -> Option<(RequestId, Result<Outcome, Error>)> {
        self.finished
            .pop_front()
            .or_else(|| self.member.poll_finished())
    }

    fn poll_timeout(&self) -> Option<(u64, Timer)> {
        let lines = self
            .asked
            .poll_timeout()
            .into_iter()
            .chain(self.own.poll_timeout());
        let rewind = self.rewind.as_ref().and_then(|rewind| rewind.retry_at_us);
        let lines = lines.chain(rewind).map(|at_us| (at_us, Timer::Retry));
        lines.chain(self.member.poll_timeout()).min()
    }
}
