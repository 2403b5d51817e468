//! How users' requests end.

use super::verdict::FatalCause;
use super::{FatalEnd, Goal, State, TransactionRoom, Waiting};
use crate::call::{Outcome, RequestId, TransactionEnd};
use crate::error::Error;
use crate::time::Now;
use std::sync::Arc;

impl TransactionRoom {
    /// Goes on where no broker need be asked, and finishes what is done.
    pub(super) fn resolve(&mut self, now: Now) {
        if matches!(self.state, State::Broken(_)) && self.is_given_up() {
            self.abort("");
        }
        self.end_what_is_empty();
        if self.state == State::Renewing && !self.renewable {
            self.fail(FatalEnd::Cause(FatalCause::TooOld));
        }
        let waiting = std::mem::take(&mut self.waiting);
        for one in waiting {
            match self.resolved(&one, now) {
                Some(end) => self.finished.push_back((one.request, end)),
                None => self.waiting.push(one),
            }
        }
    }

    /// Whether the user has asked for the end of a transaction that is broken meanwhile.
    pub(super) fn is_given_up(&self) -> bool {
        let goal = Goal::Abort(self.content.number);
        self.closing || self.waiting.iter().any(|waiting| waiting.goal == goal)
    }

    /// Nothing was ever added: it ends without a request (line 18).
    pub(super) fn end_what_is_empty(&mut self) {
        let idle = self.in_flight.is_none() && self.drained;
        let empty = !self.content.touched && self.content.offsets.is_empty();
        match self.state {
            State::Committing { asked: false } if idle && empty => {
                self.end(TransactionEnd::Committed);
            }
            State::Aborting if idle && (empty || self.unknown) => self.end_aborted(false),
            _ => {}
        }
    }

    pub(super) fn resolved(&mut self, one: &Waiting, now: Now) -> Option<Result<Outcome, Error>> {
        if let State::Fatal(end) = &self.state
            && !matches!(one.goal, Goal::Abort(_))
        {
            return Some(Err(self.fatal_error(one.goal, end)));
        }
        let ended = match one.goal {
            Goal::Init => self.identity.is_some().then_some(Ok(Outcome::Done)),
            Goal::Begin(number) => self.resolved_begin(number),
            Goal::Offsets => self.resolved_offsets(one),
            Goal::Commit(number) => self.resolved_commit(number),
            Goal::Abort(number) => {
                let under_way = number == self.content.number
                    && !matches!(self.state, State::Unready | State::Ready | State::Fatal(_));
                (!under_way).then_some(Ok(Outcome::Done))
            }
            Goal::Settle => {
                let under_way = matches!(
                    self.state,
                    State::Committing { .. } | State::Aborting | State::Renewing
                );
                (!under_way).then_some(Ok(Outcome::Transaction(self.last_end)))
            }
        };
        if ended.is_some() || one.deadline_us > now.monotonic_us {
            return ended;
        }
        // Whoever gives up on offsets must not commit without them.
        if one.goal == Goal::Offsets {
            self.break_off(Arc::from("offsets were not taken in time"));
        }
        Some(Err(self.overdue(one.goal)))
    }

    pub(super) fn resolved_begin(&mut self, number: u64) -> Option<Result<Outcome, Error>> {
        match &self.state {
            State::Ready => {
                self.open(number);
                Some(Ok(Outcome::Done))
            }
            State::Open | State::Broken(_) => {
                let doing = self.doing(Goal::Begin(number));
                let why = format!("failed to {doing}: the one before has not ended");
                Some(Err(Error::Usage(why)))
            }
            _ => None,
        }
    }

    /// A job ends by its answers; where it is not there any more, the transaction is not open.
    pub(super) fn resolved_offsets(&self, one: &Waiting) -> Option<Result<Outcome, Error>> {
        let mut jobs = self.content.offsets.iter();
        match jobs.any(|job| job.request == one.request) {
            true => None,
            false => Some(Err(self.must_abort(one.goal))),
        }
    }

    pub(super) fn resolved_commit(&self, number: u64) -> Option<Result<Outcome, Error>> {
        let is_current = number == self.content.number;
        match (&self.state, self.last_end) {
            (State::Ready, Some(TransactionEnd::Committed)) if is_current => {
                Some(Ok(Outcome::Done))
            }
            (State::Open | State::Committing { .. }, _) if is_current => None,
            _ => Some(Err(self.must_abort(Goal::Commit(number)))),
        }
    }

    pub(super) fn finish(&mut self, request: RequestId, end: Result<Outcome, Error>) {
        self.waiting.retain(|waiting| waiting.request != request);
        self.finished.push_back((request, end));
    }

    pub(super) fn must_abort(&self, goal: Goal) -> Error {
        let why = match &self.state {
            State::Broken(why) => why.to_string(),
            _ => "it is not open any more".to_owned(),
        };
        let doing = self.doing(goal);
        Error::MustAbort { doing, why }
    }

    pub(super) fn fatal_error(&self, goal: Goal, end: &FatalEnd) -> Error {
        let doing = self.doing(goal);
        match end {
            FatalEnd::Fenced(code) => Error::Fenced {
                doing,
                transactional_id: self.id.to_string(),
                code: *code,
            },
            FatalEnd::Cause(FatalCause::Broker(code)) => Error::Broker {
                doing,
                code: *code,
                message: None,
            },
            FatalEnd::Cause(FatalCause::Call(source)) => Error::Call {
                doing,
                source: source.clone(),
            },
            FatalEnd::Cause(FatalCause::TooOld) => Error::Usage(format!(
                "failed to {doing}: a batch may turn up late, and brokers before Kafka 2.5 cannot \
                 keep it out of the next transaction (KIP-360); open a producer anew"
            )),
        }
    }

    pub(super) fn overdue(&self, goal: Goal) -> Error {
        let trouble = self.trouble.as_deref().unwrap_or("nothing failed");
        let unknown = matches!(
            (goal, &self.state),
            (Goal::Commit(_), State::Committing { asked: true })
        );
        let outcome = match unknown {
            true => "; whether it is committed is not known yet, and is being asked for",
            false => "",
        };
        Error::TimedOut {
            doing: self.doing(goal),
            limit_ms: self.options.max_block_ms,
            why: format!("{trouble} (max.block.ms){outcome}"),
        }
    }

    pub(super) fn doing(&self, goal: Goal) -> String {
        let id = &self.id;
        match goal {
            Goal::Init => format!("initialise transactions of {id}"),
            Goal::Begin(_) => format!("begin a transaction of {id}"),
            Goal::Offsets => format!("send offsets to a transaction of {id}"),
            Goal::Commit(_) => format!("commit a transaction of {id}"),
            Goal::Abort(_) => format!("abort a transaction of {id}"),
            Goal::Settle => format!("learn how the last transaction of {id} ended"),
        }
    }
}
