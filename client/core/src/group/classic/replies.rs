//! What the coordinator's answers mean for a member.

use super::super::subscription::Assignment;
use super::{Errand, Flight, Member, Out, State, leading};
use crate::call::{Coordinated, Fact, Response, RevokeHow, TopicPartition};
use crate::error::{CallError, CallErrorKind, Error};
use crate::group::assignor::RebalanceProtocol;
use crate::time::Now;
use std::collections::BTreeSet;
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::{JoinGroupResponse, SyncGroupResponse};

impl Member {
    /// The end of a request; `false` where it was none of this member's.
    pub(in super::super) fn handle_reply(
        &mut self,
        now: Now,
        number: u64,
        reply: Result<Response, CallError>,
    ) -> bool {
        if self
            .leave_flight
            .take_if(|flight| *flight == number)
            .is_some()
        {
            // Left, or so unreachable that the session ends by itself.
            return true;
        }
        if let Some(beat) = self.beat.take_if(|beat| beat.number == number) {
            self.handle_beat(now, &beat, reply);
            return true;
        }
        let Some(flight) = self.flight.take_if(|flight| flight.number == number) else {
            // An answer to what is not wanted any more.
            return false;
        };
        match reply {
            Ok(Response::JoinGroup(response)) => self.handle_joined(now, &response),
            Ok(Response::SyncGroup(response)) => self.handle_synced(now, &flight, &response),
            Ok(_) => self.back_off(now),
            Err(error) => self.handle_call_error(now, "join group", error),
        }
        true
    }

    fn handle_call_error(&mut self, now: Now, doing: &str, source: CallError) {
        if source.kind.is_retriable() {
            self.lose_coordinator();
            return self.back_off(now);
        }
        if source.kind != CallErrorKind::Closed {
            let doing = self.doing(doing);
            self.fail(Error::Call { doing, source });
        }
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} {}", self.standing.group_id)
    }

    fn lose_coordinator(&mut self) {
        let group = Coordinated::Group(Arc::clone(&self.standing.group_id));
        self.facts.push_back(Fact::CoordinatorLost(group));
    }

    fn back_off(&mut self, now: Now) {
        let wait_us = self.backoff.next_us(&mut self.random);
        self.retry_at_us = Some(now.monotonic_us.saturating_add(wait_us));
    }

    fn handle_joined(&mut self, now: Now, response: &JoinGroupResponse) {
        let code = ErrorCode(response.error_code);
        match code {
            ErrorCode::NONE => return self.take_place(now, response),
            // The first of two steps (KIP-394).
            ErrorCode::MEMBER_ID_REQUIRED => {
                self.standing.member_id = Arc::from(response.member_id.as_str());
                return;
            }
            ErrorCode::UNKNOWN_MEMBER_ID => self.lose(true),
            ErrorCode::ILLEGAL_GENERATION => self.lose(false),
            ErrorCode::REBALANCE_IN_PROGRESS => {}
            _ if code.meaning().find_coordinator => self.lose_coordinator(),
            _ if code.meaning().retriable => {}
            _ => return self.refuse("join group", code),
        }
        self.back_off(now);
    }

    fn take_place(&mut self, now: Now, response: &JoinGroupResponse) {
        self.backoff.reset();
        self.standing.generation_id = response.generation_id;
        self.standing.member_id = Arc::from(response.member_id.as_str());
        self.strategy = response
            .protocol_name
            .as_deref()
            .unwrap_or_default()
            .to_owned();
        self.schedule_beat(now);
        self.is_leader = response.leader == response.member_id;
        if !self.is_leader {
            self.want_foreign(&[]);
            self.state = State::Syncing(Vec::new());
            return;
        }
        let members = leading::read_members(response);
        self.want_foreign(&members);
        if response.skip_assignment {
            self.state = State::Syncing(Vec::new());
            return;
        }
        let limit_us = self.options.request_timeout_ms.saturating_mul(1000);
        self.state = State::Assigning {
            members,
            until_us: now.monotonic_us.saturating_add(limit_us),
        };
    }

    fn handle_synced(&mut self, now: Now, flight: &Flight, response: &SyncGroupResponse) {
        if flight.generation_id != self.standing.generation_id {
            return;
        }
        let code = ErrorCode(response.error_code);
        match code {
            ErrorCode::NONE => match Assignment::decode(&response.assignment) {
                Ok(assignment) => return self.take_assignment(now, assignment),
                Err(_) => self.want_rejoin("the assignment cannot be read"),
            },
            ErrorCode::REBALANCE_IN_PROGRESS => {
                return self.want_rejoin("the group rebalances again");
            }
            ErrorCode::UNKNOWN_MEMBER_ID => self.lose(true),
            ErrorCode::ILLEGAL_GENERATION => self.lose(false),
            _ if code.meaning().find_coordinator => {
                self.lose_coordinator();
                self.want_rejoin("the coordinator moved");
            }
            _ if code.meaning().retriable => {}
            _ => return self.refuse("sync group", code),
        }
        self.back_off(now);
    }

    fn take_assignment(&mut self, now: Now, assignment: Assignment) {
        self.state = State::Member;
        self.schedule_beat(now);
        self.commit_at_us = now.monotonic_us.saturating_add(self.auto_commit_us());
        let assigned: BTreeSet<TopicPartition> = assignment.partitions.iter().cloned().collect();
        if assigned
            .iter()
            .any(|partition| !self.topics.contains(&partition.topic))
        {
            return self.want_rejoin("the subscription changed");
        }
        let strategy = &self.strategy;
        let generation = self.standing.generation_id;
        let assignor = self.assignors.iter_mut().find(|a| a.name() == strategy);
        if let Some(assignor) = assignor {
            assignor.handle_assignment(&assignment, generation);
        }
        let leaving = self
            .owned
            .keys()
            .filter(|partition| !assigned.contains(partition));
        let leaving: Vec<TopicPartition> = leaving.cloned().collect();
        self.changes += 1;
        let mut added = Vec::new();
        for partition in assigned {
            if !self.owned.contains_key(&partition) {
                self.owned.insert(partition.clone(), self.changes);
                added.push(partition);
            }
        }
        // What others are to have is given up first, and then the group comes together again.
        if !leaving.is_empty() && self.protocol == RebalanceProtocol::Cooperative {
            self.revoke(leaving, RevokeHow::Ask);
            self.want_rejoin("partitions were given up");
        }
        if added.is_empty() {
            return self.hand_on(Vec::new());
        }
        self.look_ups += 1;
        self.errands
            .push_back(Errand::LookUp(self.look_ups, added.clone()));
        self.looking_up = Some(added);
    }

    fn schedule_beat(&mut self, now: Now) {
        let interval_us = self.options.heartbeat_interval_ms.saturating_mul(1000);
        self.next_beat_us = now.monotonic_us.saturating_add(interval_us);
    }

    fn handle_beat(&mut self, now: Now, beat: &Flight, reply: Result<Response, CallError>) {
        self.schedule_beat(now);
        let is_current = beat.generation_id == self.standing.generation_id
            && beat.member_id == self.standing.member_id;
        let code = match reply {
            Ok(Response::Heartbeat(response)) => ErrorCode(response.error_code),
            Ok(_) => return,
            Err(error) => {
                self.beat_soon(now);
                return match error.kind.is_retriable() {
                    true => self.lose_coordinator(),
                    false => self.handle_call_error(now, "send a heartbeat to group", error),
                };
            }
        };
        if code.meaning().find_coordinator {
            self.lose_coordinator();
            return self.beat_soon(now);
        }
        if is_current {
            self.handle_membership_code("send a heartbeat to group", code);
        }
    }

    /// A heartbeat that nobody took is sent again after a backoff.
    fn beat_soon(&mut self, now: Now) {
        let wait_us = self.backoff.next_us(&mut self.random);
        self.next_beat_us = now.monotonic_us.saturating_add(wait_us);
    }

    /// What the coordinator says of this member's place, in answer to a heartbeat or a commit.
    pub(in super::super) fn handle_membership_code(&mut self, doing: &str, code: ErrorCode) {
        match code {
            ErrorCode::REBALANCE_IN_PROGRESS => self.want_rejoin("the group rebalances"),
            ErrorCode::UNKNOWN_MEMBER_ID => self.lose(true),
            ErrorCode::ILLEGAL_GENERATION => self.lose(false),
            ErrorCode::NONE => self.backoff.reset(),
            _ if code.meaning().retriable => {}
            _ => self.refuse(doing, code),
        }
    }

    /// Nothing that trying again cures: the reader is told, and subscribes again if it likes.
    fn refuse(&mut self, doing: &str, code: ErrorCode) {
        if matches!(self.state, State::Out(Out::Failed)) {
            return;
        }
        let error = Error::Broker {
            doing: self.doing(doing),
            code,
            message: remedy(code),
        };
        self.fail(error);
    }
}

fn remedy(code: ErrorCode) -> Option<String> {
    let remedy = match code {
        ErrorCode::FENCED_INSTANCE_ID => {
            "another consumer has joined with the same group.instance.id; give each its own"
        }
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL => {
            "set partition.assignment.strategy to what the group's other members have"
        }
        ErrorCode::INVALID_SESSION_TIMEOUT => {
            "choose session.timeout.ms between the broker's group.min.session.timeout.ms and \
             group.max.session.timeout.ms"
        }
        _ => return None,
    };
    Some(remedy.to_owned())
}
