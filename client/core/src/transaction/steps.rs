//! The steps towards the coordinators: which comes next, and what its answer means.

use super::requests;
use super::verdict::{self, FatalCause, Kind, Verdict};
use super::{FIRST_END_WITH_IDENTITY, FIRST_INIT_WITH_IDENTITY, FatalEnd, Goal, Identity};
use super::{OffsetsJob, State, Step, TransactionRoom, Waiting};
use crate::call::TransactionEnd;
use crate::call::{Body, Coordinated, Fact, Outcome, Reply, Response, TopicPartition};
use crate::error::CallError;
use crate::time::Now;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;

impl TransactionRoom {
    /// What to ask next.
    pub(super) fn plan_step(&self) -> Option<Step> {
        let content = &self.content;
        match &self.state {
            State::Unready => {
                let wanted =
                    |waiting: &Waiting| matches!(waiting.goal, Goal::Init | Goal::Begin(_));
                self.waiting.iter().any(wanted).then_some(Step::Init)
            }
            State::Renewing => Some(Step::Init),
            State::Open | State::Committing { .. } => {
                if !content.implicit && !content.wanted.is_empty() {
                    return Some(Step::AddPartitions(content.wanted.clone()));
                }
                if let Some(job) = content.offsets.front() {
                    let group = &job.group.group_id;
                    let added = content.implicit || content.groups.contains(group);
                    return Some(match added {
                        true => Step::CommitOffsets,
                        false => Step::AddOffsets(Arc::clone(group)),
                    });
                }
                let commits = self.state != State::Open && self.drained;
                commits.then_some(Step::End(TransactionEnd::Committed))
            }
            State::Aborting => self.drained.then_some(Step::End(TransactionEnd::Aborted)),
            State::Ready | State::Broken(_) | State::Fatal(_) => None,
        }
    }

    pub(super) fn body(&self, step: &Step) -> Option<Body> {
        if matches!(step, Step::Init) {
            let was = self.identity.filter(|_| self.renewable);
            let timeout_ms = self.options.transaction_timeout_ms;
            return Some(requests::init(&self.id, timeout_ms, was));
        }
        let (id, identity) = (&self.id, self.identity?);
        Some(match step {
            Step::Init => return None,
            Step::AddPartitions(wanted) => requests::add_partitions(id, identity, wanted),
            Step::AddOffsets(group) => requests::add_offsets(id, identity, group),
            Step::CommitOffsets => {
                requests::commit_offsets(id, identity, self.content.offsets.front()?)
            }
            Step::End(end) => requests::end(id, identity, *end == TransactionEnd::Committed),
        })
    }

    pub(super) fn coordinator(&self, step: &Step) -> Coordinated {
        match (step, self.content.offsets.front()) {
            (Step::CommitOffsets, Some(job)) => Coordinated::Group(Arc::clone(&job.group.group_id)),
            _ => Coordinated::Transaction(Arc::clone(&self.id)),
        }
    }

    /// What sending a step means before its answer is known.
    pub(super) fn note_sent(&mut self, step: &Step) {
        match step {
            Step::Init => {}
            Step::End(TransactionEnd::Committed) => self.state = State::Committing { asked: true },
            Step::End(TransactionEnd::Aborted) => {}
            Step::AddPartitions(_) | Step::AddOffsets(_) | Step::CommitOffsets => {
                self.content.touched = true;
            }
        }
    }

    pub(super) fn handle_answer(&mut self, now: Now, step: Step, reply: Reply) {
        let version = reply.version;
        match (step, reply.response) {
            (Step::Init, Response::InitProducerId(answer)) => {
                let identity = Identity {
                    id: answer.producer_id.0,
                    epoch: answer.producer_epoch,
                };
                self.handle_code(now, &Step::Init, answer.error_code, |room| {
                    room.identity = Some(identity);
                    room.renewable = version >= FIRST_INIT_WITH_IDENTITY;
                    room.unknown = false;
                    room.state = State::Ready;
                });
            }
            (Step::AddPartitions(_), Response::AddPartitionsToTxn(answer)) => {
                let topics = answer.results_by_topic_v3_and_below.iter();
                let results = topics.flat_map(|topic| {
                    let name: Arc<str> = Arc::from(topic.name.as_str());
                    let results = topic.results_by_partition.iter();
                    results.map(move |result| {
                        let partition =
                            TopicPartition::new(Arc::clone(&name), result.partition_index);
                        (partition, ErrorCode(result.partition_error_code))
                    })
                });
                let results: Vec<_> = results.collect();
                self.handle_added(now, results);
            }
            (Step::AddOffsets(group), Response::AddOffsetsToTxn(answer)) => {
                let step = Step::AddOffsets(Arc::clone(&group));
                self.handle_code(now, &step, answer.error_code, |room| {
                    room.content.groups.insert(group);
                    room.content.joined = true;
                });
            }
            (Step::CommitOffsets, Response::TxnOffsetCommit(answer)) => {
                let topics = answer.topics.iter();
                let results = topics.flat_map(|topic| {
                    let name: Arc<str> = Arc::from(topic.name.as_str());
                    let results = topic.partitions.iter();
                    results.map(move |result| {
                        let partition =
                            TopicPartition::new(Arc::clone(&name), result.partition_index);
                        (partition, ErrorCode(result.error_code))
                    })
                });
                let results: Vec<_> = results.collect();
                self.handle_committed_offsets(now, results);
            }
            (Step::End(end), Response::EndTxn(answer)) => {
                let next = (version >= FIRST_END_WITH_IDENTITY && answer.producer_id.0 >= 0)
                    .then_some(Identity {
                        id: answer.producer_id.0,
                        epoch: answer.producer_epoch,
                    });
                self.handle_ended(now, end, ErrorCode(answer.error_code), next);
            }
            // The hall hands back responses to the request that was made.
            _ => {}
        }
    }

    pub(super) fn handle_code(
        &mut self,
        now: Now,
        step: &Step,
        code: i16,
        succeed: impl FnOnce(&mut Self),
    ) {
        let code = ErrorCode(code);
        if code.is_ok() {
            self.succeed();
            succeed(self);
        } else {
            self.handle_verdict(now, step, verdict::of_code(code, kind(step)));
        }
    }

    /// Keeps what was added, whatever became of the rest (line 17).
    pub(super) fn handle_added(&mut self, now: Now, results: Vec<(TopicPartition, ErrorCode)>) {
        let mut failure = None;
        let mut added = (*self.content.added).clone();
        for (partition, code) in results {
            if code.is_ok() {
                self.content.wanted.remove(&partition);
                added.insert(partition);
            } else if code != ErrorCode::OPERATION_NOT_ATTEMPTED {
                failure.get_or_insert(code);
            }
        }
        if added.len() > self.content.added.len() {
            self.content.joined = true;
            self.content.added = Arc::new(added);
            if self.is_open(self.content.number) && !matches!(self.state, State::Broken(_)) {
                self.grant(self.state == State::Open);
            }
        }
        match failure {
            None => self.succeed(),
            Some(code) => {
                let step = Step::AddPartitions(BTreeSet::new());
                self.handle_verdict(now, &step, verdict::of_code(code, Kind::Content));
            }
        }
    }

    pub(super) fn handle_committed_offsets(
        &mut self,
        now: Now,
        results: Vec<(TopicPartition, ErrorCode)>,
    ) {
        let mut failure = None;
        let Some(job) = self.content.offsets.front_mut() else {
            return;
        };
        for (partition, code) in results {
            if code.is_ok() {
                job.left.remove(&partition);
                self.content.joined = true;
            } else {
                failure.get_or_insert(code);
            }
        }
        if let Some(code) = failure {
            let verdict = verdict::of_code(code, Kind::Content);
            return self.handle_verdict(now, &Step::CommitOffsets, verdict);
        }
        self.succeed();
        if job_is_done(&self.content.offsets)
            && let Some(job) = self.content.offsets.pop_front()
        {
            self.finish(job.request, Ok(Outcome::Done));
        }
    }

    pub(super) fn handle_ended(
        &mut self,
        now: Now,
        end: TransactionEnd,
        code: ErrorCode,
        next: Option<Identity>,
    ) {
        let aborts = end == TransactionEnd::Aborted;
        // The coordinator never got what was to be added, so there is nothing to abort.
        let nothing = aborts && code == ErrorCode::INVALID_TXN_STATE && !self.content.joined;
        if !code.is_ok() && !nothing {
            return self.handle_verdict(now, &Step::End(end), verdict::of_code(code, Kind::Frame));
        }
        self.succeed();
        self.identity = next.or(self.identity);
        match end {
            TransactionEnd::Committed => self.end(end),
            TransactionEnd::Aborted => self.end_aborted(next.is_some()),
        }
    }

    pub(super) fn succeed(&mut self) {
        self.backoff.reset();
        self.trouble = None;
    }

    pub(super) fn handle_verdict(&mut self, now: Now, step: &Step, verdict: Verdict) {
        match verdict {
            Verdict::Retry { why, lost } => {
                if lost {
                    let lost = Fact::CoordinatorLost(self.coordinator(step));
                    self.facts.push_back(lost);
                }
                let wait_us = self.backoff.next_us(&mut self.random);
                self.retry_at_us = now.monotonic_us.saturating_add(wait_us);
                self.trouble = Some(why);
            }
            Verdict::Abort(why) => self.break_off(why),
            Verdict::Renew(_) if matches!(step, Step::Init) => {
                let code = ErrorCode::INVALID_PRODUCER_ID_MAPPING;
                self.fail(FatalEnd::Cause(FatalCause::Broker(code)));
            }
            // Aborting goes on without an EndTxn.
            Verdict::Renew(why) => {
                self.unknown = true;
                self.break_off(why);
            }
            Verdict::Fenced(code) => self.fail(FatalEnd::Fenced(code)),
            Verdict::Fatal(cause) => self.fail(FatalEnd::Cause(cause)),
        }
    }

    pub(super) fn handle_lost(&mut self, now: Now, step: &Step, error: CallError) {
        // A commit that never left can still be taken back.
        if matches!(step, Step::End(TransactionEnd::Committed)) && !error.written {
            let first = self.trouble.is_none();
            if first && error.kind.is_retriable() {
                self.state = State::Committing { asked: false };
            }
        }
        self.handle_verdict(now, step, verdict::of_call(error, kind(step)));
    }
}

fn job_is_done(offsets: &VecDeque<OffsetsJob>) -> bool {
    offsets.front().is_some_and(|job| job.left.is_empty())
}

fn kind(step: &Step) -> Kind {
    match step {
        Step::Init | Step::End(_) => Kind::Frame,
        Step::AddPartitions(_) | Step::AddOffsets(_) | Step::CommitOffsets => Kind::Content,
    }
}
