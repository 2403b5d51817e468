//! Offsets that users ask for: each request is split among the leaders, and what fails is asked again
//! until `default.api.timeout.ms`.

use crate::backoff::Backoff;
use crate::by_topic::{by_topic, topic_name};
use crate::call::{
    BrokerId, Lane, OffsetAndMetadata, Outcome, Permits, Reply, RequestId, Response, TopicPartition,
};
use crate::error::{CallError, Error};
use crate::fetch::position::OffsetSpec;
use crate::metadata::Cluster;
use crate::options::ConsumerOptions;
use crate::time::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tidewatch_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

/// A partition in a ListOffsets request.
pub(crate) struct ListedPartition {
    pub(crate) partition: TopicPartition,
    pub(crate) leader_epoch: i32,
    pub(crate) timestamp: i64,
}

/// The request for `partitions`, each of which must come once.
pub(crate) fn list_offsets_request(
    options: &ConsumerOptions,
    partitions: impl IntoIterator<Item = ListedPartition>,
) -> ListOffsetsRequest {
    let partitions = partitions.into_iter().map(|listed| {
        let wire = ListOffsetsPartition::default()
            .with_partition_index(listed.partition.partition)
            .with_current_leader_epoch(listed.leader_epoch)
            .with_timestamp(listed.timestamp);
        (listed.partition, wire)
    });
    let topics = by_topic(partitions).into_iter().map(|(topic, partitions)| {
        ListOffsetsTopic::default()
            .with_name(topic_name(&topic))
            .with_partitions(partitions.into_iter().map(|(_, wire)| wire).collect())
    });
    ListOffsetsRequest::default()
        .with_isolation_level(i8::from(options.read_committed))
        .with_timeout_ms(i32::try_from(options.request_timeout_ms).unwrap_or(i32::MAX))
        .with_topics(topics.collect())
}

/// What a leader said of one partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    pub(crate) code: ErrorCode,
    /// -1 where there is none.
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) leader_epoch: i32,
}

/// The answers of a response by topic and partition; of two for the same the first counts.
pub(crate) fn listed_offsets(response: &ListOffsetsResponse) -> BTreeMap<(&str, i32), Listed> {
    let mut answers = BTreeMap::new();
    for topic in &response.topics {
        for partition in &topic.partitions {
            let listed = Listed {
                code: ErrorCode(partition.error_code),
                offset: partition.offset,
                timestamp_ms: partition.timestamp,
                leader_epoch: partition.leader_epoch,
            };
            answers
                .entry((&*topic.name.0 as &str, partition.partition_index))
                .or_insert(listed);
        }
    }
    answers
}

/// The users' requests under way. How many there may be is bounded where they are taken in.
#[derive(Debug)]
pub(crate) struct Listings {
    options: ConsumerOptions,
    listings: Vec<Listing>,
    /// An answer showed that the picture of the cluster is; to be taken by the room.
    pub(crate) metadata_is_stale: bool,
}

#[derive(Debug)]
struct Listing {
    request: RequestId,
    deadline_us: u64,
    entries: Vec<Entry>,
    /// Metadata covers these for as long as the request lasts.
    topics: Vec<Arc<str>>,
    /// Why it is not finished yet, for the error when it never is.
    waits_for: String,
    /// It cannot succeed.
    error: Option<Error>,
}

#[derive(Debug)]
struct Entry {
    partition: TopicPartition,
    spec: OffsetSpec,
    answer: Option<OffsetAndMetadata>,
    in_flight: Option<u64>,
    retry_at_us: Option<u64>,
    backoff: Backoff,
}

/// A request that has ended.
pub(crate) struct Ended {
    pub(crate) request: RequestId,
    pub(crate) end: Result<Outcome, Error>,
    /// Topics that metadata need not cover for it any more.
    pub(crate) unwanted: Vec<Arc<str>>,
}

impl Listings {
    pub(crate) fn new(options: &ConsumerOptions) -> Self {
        Self {
            options: options.clone(),
            listings: Vec::new(),
            metadata_is_stale: false,
        }
    }

    /// Begins a request and returns the topics that metadata must cover for it.
    pub(crate) fn handle_request(
        &mut self,
        now: Now,
        request: RequestId,
        wanted: &[(TopicPartition, OffsetSpec)],
    ) -> Vec<Arc<str>> {
        let (initial_ms, max_ms) = self.options.retry_backoff_ms;
        let entries = wanted.iter().map(|(partition, spec)| Entry {
            partition: partition.clone(),
            spec: *spec,
            answer: None,
            in_flight: None,
            retry_at_us: None,
            backoff: Backoff::new(initial_ms, max_ms),
        });
        let topics: BTreeSet<_> = wanted.iter().map(|(p, _)| Arc::clone(&p.topic)).collect();
        let topics: Vec<_> = topics.into_iter().collect();
        let limit_us = self.options.default_api_timeout_ms.saturating_mul(1000);
        self.listings.push(Listing {
            request,
            deadline_us: now.monotonic_us.saturating_add(limit_us),
            entries: entries.collect(),
            topics: topics.clone(),
            waits_for: "the topics' metadata did not come (default.api.timeout.ms)".to_owned(),
            error: None,
        });
        topics
    }

    /// A new picture: partitions that waited for a leader need not wait longer.
    pub(crate) fn handle_cluster(&mut self, cluster: &Cluster) {
        for entry in self.listings.iter_mut().flat_map(|l| &mut l.entries) {
            if entry.in_flight.is_none() && cluster.why_leaderless(&entry.partition).is_none() {
                entry.retry_at_us = None;
            }
        }
    }

    /// Partitions without a leader wait for one, or are an error.
    pub(crate) fn judge_leaderless(
        &mut self,
        now: Now,
        cluster: &Cluster,
        random: &mut fastrand::Rng,
    ) {
        for listing in &mut self.listings {
            self.metadata_is_stale |= listing.judge_leaderless(now, cluster, random);
        }
    }

    /// The next request that can go to a leader.
    pub(crate) fn poll_request(
        &mut self,
        number: u64,
        cluster: &Cluster,
        permits: &Permits,
    ) -> Option<(BrokerId, ListOffsetsRequest)> {
        let options = &self.options;
        self.listings.iter_mut().find_map(|listing| {
            let (broker, listed) = listing.take_for_one_leader(number, cluster, permits)?;
            Some((broker, list_offsets_request(options, listed)))
        })
    }

    /// The end of a call.
    pub(crate) fn handle_reply(
        &mut self,
        now: Now,
        number: u64,
        reply: Result<Reply, CallError>,
        random: &mut fastrand::Rng,
    ) {
        let in_call = |listing: &&mut Listing| {
            let mut entries = listing.entries.iter();
            entries.any(|entry| entry.in_flight == Some(number))
        };
        let Some(listing) = self.listings.iter_mut().find(in_call) else {
            return;
        };
        self.metadata_is_stale |= match reply.map(|reply| reply.response) {
            Ok(Response::ListOffsets(response)) => {
                listing.handle_response(now, number, &response, random)
            }
            Ok(_) => false,
            Err(error) => listing.handle_call_error(now, number, error, random),
        };
    }

    /// Waits that are over.
    pub(crate) fn expire(&mut self, now: Now) {
        let limit_ms = self.options.default_api_timeout_ms;
        for listing in &mut self.listings {
            for entry in &mut listing.entries {
                entry
                    .retry_at_us
                    .take_if(|at_us| *at_us <= now.monotonic_us);
            }
            if listing.deadline_us <= now.monotonic_us && listing.error.is_none() {
                listing.error = Some(Error::TimedOut {
                    doing: listing.doing(),
                    limit_ms,
                    why: listing.waits_for.clone(),
                });
            }
        }
    }

    /// A request that has ended.
    pub(crate) fn poll_finished(&mut self) -> Option<Ended> {
        let is_finished = |listing: &Listing| {
            listing.error.is_some() || listing.entries.iter().all(|e| e.answer.is_some())
        };
        let place = self.listings.iter().position(is_finished)?;
        let listing = self.listings.remove(place);
        let end = match listing.error {
            Some(error) => Err(error),
            None => {
                let answers = listing.entries.into_iter();
                let answers = answers.filter_map(|e| Some((e.partition, e.answer?)));
                Ok(Outcome::Offsets(answers.collect()))
            }
        };
        Some(Ended {
            request: listing.request,
            end,
            unwanted: listing.topics,
        })
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        let deadlines = self.listings.iter().map(|listing| listing.deadline_us);
        let entries = self.listings.iter().flat_map(|listing| &listing.entries);
        deadlines
            .chain(entries.filter_map(|entry| entry.retry_at_us))
            .min()
    }
}

impl Listing {
    /// Whether there were any.
    fn judge_leaderless(
        &mut self,
        now: Now,
        cluster: &Cluster,
        random: &mut fastrand::Rng,
    ) -> bool {
        let mut refused = None;
        for entry in self.entries.iter_mut().filter(|entry| entry.is_idle()) {
            if let Some(code) = cluster.why_leaderless(&entry.partition) {
                entry.back_off(now, random);
                refused = Some((entry.partition.clone(), code));
            }
        }
        match refused {
            Some((partition, code)) => {
                self.handle_refusal(&partition, code);
                true
            }
            None => false,
        }
    }

    fn take_for_one_leader(
        &mut self,
        number: u64,
        cluster: &Cluster,
        permits: &Permits,
    ) -> Option<(BrokerId, Vec<ListedPartition>)> {
        let mut to = None;
        // Brokers refuse a request that names a partition twice.
        let mut named = BTreeSet::new();
        let mut listed = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.is_idle()) {
            let partition = &entry.partition;
            let Some((leader, leader_epoch)) =
                cluster.leader(&partition.topic, partition.partition)
            else {
                continue;
            };
            let may_go = permits.may_send(leader, Lane::General);
            if may_go && *to.get_or_insert(leader) == leader && named.insert(partition.clone()) {
                entry.in_flight = Some(number);
                listed.push(ListedPartition {
                    partition: partition.clone(),
                    leader_epoch,
                    timestamp: entry.spec.timestamp(),
                });
            }
        }
        Some((to?, listed))
    }

    /// Whether an answer shows that the picture of the cluster is stale.
    fn handle_response(
        &mut self,
        now: Now,
        number: u64,
        response: &ListOffsetsResponse,
        random: &mut fastrand::Rng,
    ) -> bool {
        let answers = listed_offsets(response);
        let mut refused = Vec::new();
        for entry in &mut self.entries {
            if entry.in_flight != Some(number) {
                continue;
            }
            entry.in_flight = None;
            let key = (&*entry.partition.topic, entry.partition.partition);
            match answers.get(&key) {
                Some(listed) if listed.code.is_ok() => {
                    entry.answer = Some(OffsetAndMetadata {
                        offset: listed.offset,
                        leader_epoch: listed.leader_epoch,
                        metadata: String::new(),
                        timestamp_ms: listed.timestamp_ms,
                    });
                }
                // One that was not answered is asked again.
                found => {
                    let code = found.map_or(ErrorCode::LEADER_NOT_AVAILABLE, |l| l.code);
                    entry.back_off(now, random);
                    refused.push((entry.partition.clone(), code));
                }
            }
        }
        let is_stale = |(_, code): &(_, ErrorCode)| code.meaning().refresh_metadata;
        let metadata_is_stale = refused.iter().any(is_stale);
        for (partition, code) in refused {
            self.handle_refusal(&partition, code);
        }
        metadata_is_stale
    }

    fn handle_refusal(&mut self, partition: &TopicPartition, code: ErrorCode) {
        self.waits_for = format!("{partition}: {code}");
        if !code.meaning().retriable {
            self.error = Some(Error::Broker {
                doing: format!("look up an offset of {partition}"),
                code,
                message: None,
            });
        }
    }

    fn handle_call_error(
        &mut self,
        now: Now,
        number: u64,
        source: CallError,
        random: &mut fastrand::Rng,
    ) -> bool {
        for entry in &mut self.entries {
            if entry.in_flight == Some(number) {
                entry.in_flight = None;
                entry.back_off(now, random);
            }
        }
        self.waits_for = source.to_string();
        if !source.kind.is_retriable() {
            let doing = self.doing();
            self.error = Some(Error::Call { doing, source });
            return false;
        }
        true
    }

    fn doing(&self) -> String {
        let unanswered = self.entries.iter().find(|entry| entry.answer.is_none());
        match unanswered {
            Some(entry) => format!("look up an offset of {}", entry.partition),
            None => "look up offsets".to_owned(),
        }
    }
}

impl Entry {
    fn is_idle(&self) -> bool {
        self.answer.is_none() && self.in_flight.is_none() && self.retry_at_us.is_none()
    }

    fn back_off(&mut self, now: Now, random: &mut fastrand::Rng) {
        let wait_us = self.backoff.next_us(random);
        self.retry_at_us = Some(now.monotonic_us.saturating_add(wait_us));
    }
}
