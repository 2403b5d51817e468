//! After a change of leader: does the new one's log hold what was read? (KIP-320)
//!
//! A clean election loses nothing that a consumer has seen, an unclean one may. The position carries
//! the epoch of the leader that appended the record before it; the new leader tells where that epoch
//! ended in its log. Java's consumer does the same, and like it this one leaves `last_fetched_epoch`
//! out of its Fetch requests: a leader that no longer knows that epoch, because retention has removed
//! it, would answer OFFSET_OUT_OF_RANGE where nothing was lost.

use super::request::asked;
use super::response::doing;
use super::{Asked, Asks, FetchRoom, Flight};
use crate::by_topic::{by_topic, topic_name};
use crate::call::{Body, BrokerId, Call, Lane, Permits};
use crate::error::{CallError, CallErrorKind, Error};
use crate::fetch::position::{FetchPosition, State};
use crate::options::OffsetReset;
use crate::time::Now;
use std::collections::BTreeMap;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use tidewatch_protocol::messages::offset_for_leader_epoch_response::EpochEndOffset;
use tidewatch_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

/// A consumer, as against a replica (its node id) or a debugging tool (-2).
const CONSUMER_REPLICA_ID: i32 = -1;

impl FetchRoom {
    /// Asks one leader where the epochs of positions ended.
    pub(super) fn poll_validation(&mut self, now: Now, permits: &Permits) -> Option<Call> {
        let mut wanted: BTreeMap<BrokerId, Vec<(Asked, i32)>> = BTreeMap::new();
        for (partition, entry) in &self.partitions {
            if let State::Validating(position) = entry.state
                && entry.is_idle()
                && let Some(leader) = self.cluster.leader(&partition.topic, partition.partition)
                && permits.may_send(leader.0, Lane::General)
            {
                let offset = position.offset;
                let asked = asked(&self.cluster, partition, entry.epoch, offset, leader);
                let of_broker = wanted.entry(leader.0).or_default();
                of_broker.push((asked, position.leader_epoch));
            }
        }
        let (broker, wanted) = wanted.pop_first()?;
        let body = Body::OffsetForLeaderEpoch(epoch_request(&wanted).into());
        let flight = Flight {
            broker,
            asks: Asks::OffsetForLeaderEpoch,
            asked: wanted.into_iter().map(|(asked, _)| asked).collect(),
        };
        let timeout_ms = self.options.request_timeout_ms;
        Some(self.call(now, flight, Lane::General, body, None, timeout_ms))
    }

    pub(super) fn handle_epoch_ends(
        &mut self,
        now: Now,
        asked: &[Asked],
        response: &OffsetForLeaderEpochResponse,
    ) {
        let mut answers: BTreeMap<(&str, i32), &EpochEndOffset> = BTreeMap::new();
        for topic in &response.topics {
            for end in &topic.partitions {
                answers
                    .entry((&*topic.topic.0 as &str, end.partition))
                    .or_insert(end);
            }
        }
        for asked in asked {
            let key = (&*asked.partition.topic, asked.partition.partition);
            match answers.get(&key) {
                Some(end) => self.handle_epoch_end(now, asked, end),
                None => self.handle_unanswered(now, [asked.clone()]),
            }
        }
    }

    fn handle_epoch_end(&mut self, now: Now, asked: &Asked, end: &EpochEndOffset) {
        let code = ErrorCode(end.error_code);
        let may_not_ask = code == ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
        if !code.is_ok() && !may_not_ask {
            return self.handle_refusal(now, &asked.partition, Some(asked), code);
        }
        // A leader that knows nothing of that epoch does not say that anything is lost: if the
        // offset is gone, the next Fetch will.
        let is_undefined = may_not_ask || end.leader_epoch < 0 || end.end_offset < 0;
        if is_undefined || end.end_offset >= asked.offset {
            return self.handle_validated(asked);
        }
        self.handle_truncated(asked, end);
    }

    /// Brokers before 2.1 do not know the request: nothing can be validated there.
    pub(super) fn handle_lost_validation(&mut self, now: Now, asked: &[Asked], error: &CallError) {
        if matches!(error.kind, CallErrorKind::Version(_)) {
            asked.iter().for_each(|asked| self.handle_validated(asked));
        } else {
            self.handle_call_error(now, asked, error);
        }
    }

    /// The leader sees by itself that its log went another way.
    pub(super) fn handle_diverging(&mut self, now: Now, asked: &Asked) {
        if let Some(entry) = self.partitions.get_mut(&asked.partition) {
            entry.validated_by = None;
            entry.back_off(now, &mut self.random);
        }
        self.metadata_is_stale = true;
    }

    fn handle_validated(&mut self, asked: &Asked) {
        if let Some(entry) = self.partitions.get_mut(&asked.partition)
            && let State::Validating(position) = entry.state
        {
            entry.state = State::Fetching(position);
            entry.validated_by = Some(asked.leader);
            entry.handle_success();
        }
    }

    /// What was read from the end of the common part on is lost. What of it waits to be read is
    /// dropped, and reading goes on where the logs part.
    fn handle_truncated(&mut self, asked: &Asked, end: &EpochEndOffset) {
        let Some(entry) = self.partitions.get(&asked.partition) else {
            return;
        };
        let error = Error::Truncated {
            doing: doing(asked),
            end_offset: end.end_offset,
        };
        if self.options.offset_reset == OffsetReset::None {
            self.restart(&asked.partition, State::Parked);
            return self.inbox.tell(&asked.partition, error);
        }
        let delivered = entry.cursor.standing();
        let position = match delivered.position {
            Some(offset) if offset <= end.end_offset => FetchPosition {
                offset,
                leader_epoch: delivered.leader_epoch,
            },
            _ => FetchPosition {
                offset: end.end_offset,
                leader_epoch: end.leader_epoch,
            },
        };
        self.restart(&asked.partition, State::Fetching(position));
        if let Some(entry) = self.partitions.get_mut(&asked.partition) {
            entry.validated_by = Some(asked.leader);
        }
        self.inbox.handle_failed(&asked.partition, &error);
    }
}

fn epoch_request(wanted: &[(Asked, i32)]) -> OffsetForLeaderEpochRequest {
    let partitions = wanted.iter().map(|(asked, leader_epoch)| {
        let wire = OffsetForLeaderPartition::default()
            .with_partition(asked.partition.partition)
            .with_current_leader_epoch(asked.leader.1)
            .with_leader_epoch(*leader_epoch);
        (asked.partition.clone(), wire)
    });
    let topics = by_topic(partitions).into_iter().map(|(topic, partitions)| {
        OffsetForLeaderTopic::default()
            .with_topic(topic_name(&topic))
            .with_partitions(partitions.into_iter().map(|(_, wire)| wire).collect())
    });
    OffsetForLeaderEpochRequest::default()
        .with_replica_id(CONSUMER_REPLICA_ID.into())
        .with_topics(topics.collect())
}
