//! What is asked next: which partitions of which broker, in which order, and how much of them.

use super::{Asked, Asks, FetchRoom, Flight, MAX_UNREAD_PIECES};
use crate::by_topic::{by_topic, topic_name};
use crate::call::{Body, BrokerId, Call, Destination, Lane, Permits, TopicPartition};
use crate::fetch::listing::{ListedPartition, list_offsets_request};
use crate::fetch::position::State;
use crate::metadata::Cluster;
use crate::time::Now;
use std::collections::{BTreeMap, BTreeSet};
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::messages::FetchRequest;
use tidewatch_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use uuid::Uuid;

/// Up to this version a Fetch names its topics; from the next on it carries their ids, which must
/// then be known (KIP-516).
const LAST_FETCH_BY_NAME: i16 = 12;

impl FetchRoom {
    /// Partitions that want a call but have no leader to send it to: waits, and says why.
    pub(super) fn judge_leaderless(&mut self, now: Now) {
        let mut failed = Vec::new();
        for (partition, entry) in &self.partitions {
            let wants = matches!(
                entry.state,
                State::Seeking(_) | State::Fetching(_) | State::Validating(_)
            );
            if wants
                && entry.is_idle()
                && let Some(code) = self.cluster.why_leaderless(partition)
            {
                failed.push((partition.clone(), code));
            }
        }
        for (partition, code) in failed {
            self.handle_refusal(now, &partition, None, code);
        }
        let random = &mut self.random;
        self.listings.judge_leaderless(now, &self.cluster, random);
    }

    /// Asks one broker where to begin to read.
    pub(super) fn poll_seek(&mut self, now: Now, permits: &Permits) -> Option<Call> {
        let mut seeks: BTreeMap<BrokerId, Vec<(Asked, i64)>> = BTreeMap::new();
        for (partition, entry) in &self.partitions {
            if let State::Seeking(spec) = entry.state
                && entry.is_idle()
                && let Some(leader) = self.cluster.leader(&partition.topic, partition.partition)
                && permits.may_send(leader.0, Lane::General)
            {
                let asked = asked(&self.cluster, partition, entry.epoch, 0, leader);
                let of_broker = seeks.entry(leader.0).or_default();
                of_broker.push((asked, spec.timestamp()));
            }
        }
        let (broker, seeks) = seeks.pop_first()?;
        let listed = seeks.iter().map(|(asked, timestamp)| ListedPartition {
            partition: asked.partition.clone(),
            leader_epoch: asked.leader.1,
            timestamp: *timestamp,
        });
        let body = list_offsets_request(&self.options, listed);
        let asked = seeks.into_iter().map(|(asked, _)| asked).collect();
        let flight = Flight {
            broker,
            asks: Asks::ListOffsets,
            asked,
        };
        let timeout_ms = self.options.request_timeout_ms;
        let body = Body::ListOffsets(body.into());
        Some(self.call(now, flight, Lane::General, body, None, timeout_ms))
    }

    /// Asks one leader for offsets that a user wants.
    pub(super) fn poll_listing(&mut self, now: Now, permits: &Permits) -> Option<Call> {
        let number = self.next_call + 1;
        let cluster = &self.cluster;
        let (broker, request) = self.listings.poll_request(number, cluster, permits)?;
        let timeout_us = self.options.request_timeout_ms.saturating_mul(1000);
        Some(Call {
            id: self.take_call_number(),
            destination: Destination::Broker(broker),
            lane: Lane::General,
            body: Body::ListOffsets(request.into()),
            version_cap: None,
            timeout_us,
            give_up_us: now.monotonic_us.saturating_add(timeout_us),
        })
    }

    /// Asks one broker for records.
    pub(super) fn poll_fetch(&mut self, now: Now, permits: &Permits) -> Option<Call> {
        // Said before looking, so that what is read meanwhile is not missed.
        self.inbox.buffer.set_driver_waits(true);
        self.held_until_us = None;
        let mut wanted = self.wanted_by_broker();
        let in_flight = self.flights.values().map(|flight| flight.broker);
        let brokers: BTreeSet<_> = wanted.keys().copied().chain(in_flight).collect();
        let brokers = brokers.len();
        let mut waits = self
            .partitions
            .values()
            .any(|entry| matches!(entry.state, State::OutOfRange(_)) && entry.cursor.unread() > 0);
        let lane = Lane::Fetch(self.room);
        wanted.retain(|broker, _| permits.may_send(*broker, lane));
        self.held_since_us
            .retain(|broker, _| wanted.contains_key(broker));
        for (broker, mut asked) in wanted {
            if self.fetches_from(broker) {
                continue;
            }
            let wants = asked.len();
            asked.retain(|ask| !self.is_full(&ask.partition));
            if asked.len() < wants {
                waits = true;
                if asked.is_empty() || self.holds_back(now, broker) {
                    continue;
                }
            }
            let Some(max_bytes) = self.room_for_response(brokers) else {
                waits = true;
                continue;
            };
            self.held_since_us.remove(&broker);
            return Some(self.fetch_call(now, broker, max_bytes, asked));
        }
        self.inbox.buffer.set_driver_waits(waits);
        None
    }

    /// The partitions that are to be fetched from each broker, those served longest ago first. Those
    /// whose leader has changed are to be validated first.
    fn wanted_by_broker(&mut self) -> BTreeMap<BrokerId, Vec<Asked>> {
        let mut wanted: BTreeMap<BrokerId, Vec<(u64, Asked)>> = BTreeMap::new();
        let cluster = &self.cluster;
        for (partition, entry) in &mut self.partitions {
            let State::Fetching(position) = entry.state else {
                continue;
            };
            if !entry.is_idle() || entry.cursor.is_paused() {
                continue;
            }
            let Some(leader) = cluster.leader(&partition.topic, partition.partition) else {
                continue;
            };
            if !entry.is_valid_at(position, leader) {
                continue;
            }
            let from = match entry.follower {
                Some(follower) if cluster.brokers.contains_key(&follower.broker) => follower.broker,
                _ => leader.0,
            };
            let asked = asked(cluster, partition, entry.epoch, position.offset, leader);
            let of_broker = wanted.entry(from).or_default();
            of_broker.push((entry.served, asked));
        }
        let in_turns = |mut asked: Vec<(u64, Asked)>| {
            asked.sort_by_key(|(served, _)| *served);
            asked.into_iter().map(|(_, asked)| asked).collect()
        };
        wanted
            .into_iter()
            .map(|(broker, asked)| (broker, in_turns(asked)))
            .collect()
    }

    fn fetches_from(&self, broker: BrokerId) -> bool {
        self.flights
            .values()
            .any(|flight| flight.broker == broker && matches!(flight.asks, Asks::Fetch { .. }))
    }

    fn is_full(&self, partition: &TopicPartition) -> bool {
        let entry = self.partitions.get(partition);
        entry.is_some_and(|entry| entry.cursor.unread() >= MAX_UNREAD_PIECES)
    }

    /// Whether a Fetch that would leave out partitions still waits for them to be read.
    fn holds_back(&mut self, now: Now, broker: BrokerId) -> bool {
        let since_us = *self.held_since_us.entry(broker).or_insert(now.monotonic_us);
        let max_wait_us = self.options.fetch_max_wait_ms.saturating_mul(1000);
        let until_us = since_us.saturating_add(max_wait_us);
        if until_us <= now.monotonic_us {
            return false;
        }
        let earliest = self.held_until_us.map_or(until_us, |at| at.min(until_us));
        self.held_until_us = Some(earliest);
        true
    }

    /// How large the next response may be; `None` while there is no room for it.
    ///
    /// Half of `max_buffered_bytes` is divided among the brokers for what is in flight, so that what
    /// is in flight and what is alive stay under the whole; only a first batch larger than its share
    /// goes beyond (KIP-74). When nothing waits to be read, one may always go: whatever then fills
    /// the buffer is held by the reader, and waiting for it would wait for ever.
    fn room_for_response(&self, brokers: usize) -> Option<usize> {
        let limit = self.options.max_buffered_bytes;
        let fetch_max = usize::try_from(self.options.fetch_max_bytes).unwrap_or(1);
        let share = (limit / brokers.max(1).saturating_mul(2)).clamp(1, fetch_max.max(1));
        let in_flight: usize = self
            .flights
            .values()
            .map(|flight| match flight.asks {
                Asks::Fetch { max_bytes, .. } => max_bytes,
                Asks::ListOffsets | Asks::OffsetForLeaderEpoch | Asks::Nothing => 0,
            })
            .sum();
        let used = self.inbox.buffer.live_bytes().saturating_add(in_flight);
        let nothing_to_read = || self.partitions.values().all(|p| p.cursor.unread() == 0);
        (used.saturating_add(share) <= limit || nothing_to_read()).then_some(share)
    }

    fn fetch_call(
        &mut self,
        now: Now,
        broker: BrokerId,
        max_bytes: usize,
        asked: Vec<Asked>,
    ) -> Call {
        let ids_are_known = asked.iter().all(|ask| !ask.topic_id.is_nil());
        let version_cap = (!ids_are_known).then_some(LAST_FETCH_BY_NAME);
        let options = &self.options;
        let session = self.sessions.entry(broker).or_default().request(&asked);
        let asks = Asks::Fetch {
            max_bytes,
            is_incremental: session.is_incremental(),
        };
        let body = FetchRequest::default()
            .with_max_wait_ms(i32::try_from(options.fetch_max_wait_ms).unwrap_or(i32::MAX))
            .with_min_bytes(options.fetch_min_bytes)
            .with_max_bytes(i32::try_from(max_bytes).unwrap_or(i32::MAX))
            .with_isolation_level(i8::from(options.read_committed))
            .with_session_id(session.id)
            .with_session_epoch(session.epoch)
            .with_rack_id(StrBytes::from_string(options.rack.clone()))
            .with_topics(fetch_topics(
                &session.changed,
                options.max_partition_fetch_bytes,
            ))
            .with_forgotten_topics_data(forgotten_topics(session.forgotten));
        let timeout_ms = options
            .request_timeout_ms
            .saturating_add(options.fetch_max_wait_ms);
        let flight = Flight {
            broker,
            asks,
            asked,
        };
        let body = Body::Fetch(body.into());
        let lane = Lane::Fetch(self.room);
        self.call(now, flight, lane, body, version_cap, timeout_ms)
    }

    pub(super) fn call(
        &mut self,
        now: Now,
        flight: Flight,
        lane: Lane,
        body: Body,
        version_cap: Option<i16>,
        timeout_ms: u64,
    ) -> Call {
        let id = self.take_call_number();
        for asked in &flight.asked {
            if let Some(entry) = self.partitions.get_mut(&asked.partition) {
                entry.in_flight = Some(id.number);
            }
        }
        let destination = Destination::Broker(flight.broker);
        self.flights.insert(id.number, flight);
        let give_up_after_us = self.options.request_timeout_ms.saturating_mul(1000);
        Call {
            id,
            destination,
            lane,
            body,
            version_cap,
            timeout_us: timeout_ms.saturating_mul(1000),
            give_up_us: now.monotonic_us.saturating_add(give_up_after_us),
        }
    }
}

/// A partition in a call; `offset` has no meaning in ListOffsets.
pub(super) fn asked(
    cluster: &Cluster,
    partition: &TopicPartition,
    epoch: u64,
    offset: i64,
    leader: (BrokerId, i32),
) -> Asked {
    Asked {
        partition: partition.clone(),
        topic_id: cluster.topic_id(&partition.topic).unwrap_or(Uuid::nil()),
        epoch,
        offset,
        leader,
    }
}

fn fetch_topics(asked: &[&Asked], partition_max_bytes: i32) -> Vec<FetchTopic> {
    let partitions = asked.iter().map(|ask| {
        let wire = FetchPartition::default()
            .with_partition(ask.partition.partition)
            .with_current_leader_epoch(ask.leader.1)
            .with_fetch_offset(ask.offset)
            .with_partition_max_bytes(partition_max_bytes);
        (ask.partition.clone(), (ask.topic_id, wire))
    });
    let topics = by_topic(partitions).into_iter();
    topics
        .map(|(topic, partitions)| {
            let id = partitions.first().map_or(Uuid::nil(), |(_, (id, _))| *id);
            let partitions = partitions.into_iter().map(|(_, (_, wire))| wire);
            FetchTopic::default()
                .with_topic(topic_name(&topic))
                .with_topic_id(id)
                .with_partitions(partitions.collect())
        })
        .collect()
}

fn forgotten_topics(forgotten: Vec<(TopicPartition, Uuid)>) -> Vec<ForgottenTopic> {
    let topics = by_topic(forgotten).into_iter();
    topics
        .map(|(topic, partitions)| {
            let id = partitions.first().map_or(Uuid::nil(), |(_, id)| *id);
            let partitions = partitions.into_iter().map(|(partition, _)| partition);
            ForgottenTopic::default()
                .with_topic(topic_name(&topic))
                .with_topic_id(id)
                .with_partitions(partitions.collect())
        })
        .collect()
}
