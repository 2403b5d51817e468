//! How a member leaves its group.

use super::super::requests;
use super::{Member, Out, State};
use crate::call::{Fact, Outcome, RequestId, RevokeHow};
use std::sync::Arc;

impl Member {
    /// Gives everything up and leaves; `request` ends when that is done or cannot be.
    pub(in super::super) fn unsubscribe(&mut self, request: RequestId) {
        for topic in std::mem::take(&mut self.topics) {
            self.facts.push_back(Fact::TopicUnwanted(topic));
        }
        if matches!(self.state, State::Out(_)) {
            self.state = State::Out(Out::Unsubscribed);
            return self.finished.push_back((request, Ok(Outcome::Done)));
        }
        if let State::Leaving(earlier) = self.state {
            self.finished.push_back((earlier, Ok(Outcome::Done)));
        }
        self.state = State::Leaving(request);
        self.flight = None;
        self.retry_at_us = None;
        self.rejoin = None;
        let told = self.told();
        self.looking_up = None;
        // Whoever closes may not come for news any more: that is not waited for.
        self.revoking = None;
        self.revoke(told, RevokeHow::Silently);
    }

    /// Leaves without giving anything up first: nobody reads any more. A farewell that is under way
    /// goes on.
    pub(in super::super) fn close(&mut self) {
        if matches!(self.state, State::Out(_) | State::Leaving(_)) {
            return;
        }
        self.say_goodbye("the consumer was dropped");
        self.lose(true);
        self.revoking = None;
        self.rejoin = None;
        self.retry_at_us = None;
        self.state = State::Out(Out::Unsubscribed);
    }

    /// Whether there is nothing more to tell the group.
    pub(in super::super) fn is_settled(&self) -> bool {
        let is_out = matches!(self.state, State::Out(_));
        is_out && self.leave.is_none() && self.leave_flight.is_none()
    }

    /// A LeaveGroup, where there is somebody to leave: a static member keeps its place (line 34).
    pub(super) fn say_goodbye(&mut self, why: &'static str) {
        let is_known = !self.standing.member_id.is_empty();
        if is_known && self.standing.group_instance_id.is_none() {
            self.leave = Some(requests::leave_group(&self.standing, why));
        }
    }

    pub(super) fn poll_leaving(&mut self) {
        let State::Leaving(request) = self.state else {
            return;
        };
        if self.revoking.is_some() || self.committing > 0 || self.leave_flight.is_some() {
            return;
        }
        if self.leave.is_none() && !self.standing.member_id.is_empty() {
            self.say_goodbye("the consumer was closed or has unsubscribed");
            self.standing.generation_id = -1;
            self.standing.member_id = Arc::from("");
            self.owned.clear();
            self.changes += 1;
        }
        if self.leave.is_none() {
            self.standing.generation_id = -1;
            self.owned.clear();
            self.finished.push_back((request, Ok(Outcome::Done)));
            // It may have subscribed anew meanwhile.
            match self.topics.is_empty() {
                true => self.state = State::Out(Out::Unsubscribed),
                false => self.start_joining(),
            }
        }
    }
}
