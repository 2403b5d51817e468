//! The requests of a member, and when each is due.

use super::super::requests;
use super::super::subscription::Subscription;
use super::{Flight, Member, State};
use crate::call::{Body, Coordinated, Destination, Lane, TopicPartition};
use crate::time::Now;
use bytes::Bytes;
use std::sync::Arc;

/// A JoinGroup is answered when the rebalance is over; how much later than its timeout that may be
/// (Java's own slack, line 32).
const JOIN_SLACK_MS: u64 = 5_000;

/// A request of a member.
pub(in super::super) struct Request {
    pub(in super::super) destination: Destination,
    pub(in super::super) body: Body,
    pub(in super::super) lane: Lane,
    pub(in super::super) timeout_us: u64,
}

impl Member {
    /// The next request, to be sent under `number`.
    pub(in super::super) fn poll_request(&mut self, now: Now, number: u64) -> Option<Request> {
        let group = Coordinated::Group(Arc::clone(&self.standing.group_id));
        let request_us = self.options.request_timeout_ms.saturating_mul(1000);
        let request = |body, lane, timeout_us| Request {
            destination: Destination::Coordinator(group),
            body,
            lane,
            timeout_us,
        };
        let lane = Lane::Group(self.consumer);
        if self.leave_flight.is_none()
            && let Some(leave) = self.leave.take()
        {
            self.leave_flight = Some(number);
            return Some(request(
                Body::LeaveGroup(leave.into()),
                Lane::General,
                request_us,
            ));
        }
        let flight = Flight {
            number,
            generation_id: self.standing.generation_id,
            member_id: Arc::clone(&self.standing.member_id),
        };
        if self.flight.is_none() && self.retry_at_us.is_none() {
            let slack_ms = self
                .options
                .max_poll_interval_ms
                .saturating_add(JOIN_SLACK_MS);
            let join_us = slack_ms.saturating_mul(1000).max(request_us);
            let body = match &self.state {
                State::Joining if self.revoking.is_none() => Some(self.join_body()),
                State::Syncing(assignments) => Some(self.sync_body(assignments.clone())),
                _ => None,
            };
            if let Some(body) = body {
                // What is wanted from now on needs another rebalance.
                self.rejoin
                    .take_if(|_| matches!(self.state, State::Joining));
                self.flight = Some(flight);
                return Some(request(body, lane, join_us));
            }
        }
        if self.beats() && self.beat.is_none() && self.next_beat_us <= now.monotonic_us {
            self.beat = Some(flight);
            let session_us = self.options.session_timeout_ms.saturating_mul(1000);
            let body = Body::Heartbeat(requests::heartbeat(&self.standing).into());
            return Some(request(body, lane, request_us.min(session_us)));
        }
        None
    }

    /// Heartbeats go on while the reader is slow and while partitions are given up (line 31).
    pub(super) fn beats(&self) -> bool {
        let is_in = matches!(
            self.state,
            State::Member | State::Assigning { .. } | State::Leaving(_)
        );
        is_in && self.standing.generation_id >= 0
    }

    fn join_body(&self) -> Body {
        let owned: Vec<TopicPartition> = self.owned.keys().cloned().collect();
        let generation = Some(self.standing.generation_id).filter(|generation| *generation >= 0);
        let protocols = self.assignors.iter().map(|assignor| {
            let subscription = Subscription {
                topics: self.topics.clone(),
                user_data: assignor.user_data(&self.topics),
                owned: owned.clone(),
                generation,
                rack: Some(self.options.rack.clone()).filter(|rack| !rack.is_empty()),
            };
            (assignor.name().to_owned(), subscription.encode())
        });
        let body = requests::join_group(
            &self.standing,
            wire_ms(self.options.session_timeout_ms),
            wire_ms(self.options.max_poll_interval_ms),
            protocols.collect(),
            self.rejoin.unwrap_or_default(),
        );
        Body::JoinGroup(body.into())
    }

    fn sync_body(&self, assignments: Vec<(String, Bytes)>) -> Body {
        let body = requests::sync_group(&self.standing, &self.strategy, assignments);
        Body::SyncGroup(body.into())
    }
}

fn wire_ms(ms: u64) -> i32 {
    i32::try_from(ms).unwrap_or(i32::MAX)
}
