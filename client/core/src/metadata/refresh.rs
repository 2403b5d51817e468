//! Keeps the picture of the cluster: asks when topics come into use, when somebody says it is stale
//! and when it grows old, one request at a time (KIP-526). Topics are never created by asking
//! (KIP-361).

use super::{Cluster, Topic};
use crate::backoff::Backoff;
use crate::call::{
    Body, BrokerId, Call, CallId, Destination, Fact, Lane, Outcome, Permits, Reply, RequestId,
    Response, Room, RoomId,
};
use crate::error::{CallError, Error};
use crate::options::ClientOptions;
use crate::time::{Now, Timer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::metadata_request::MetadataRequestTopic;
use tidewatch_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};

/// Users' requests for topics that may wait at once.
const MAX_WAITS: usize = 1024;

/// How long a topic that the brokers do not know is asked for again: it may just have been created,
/// and brokers hear of topics one after another (line 48). Within moments; whoever asks waits for it.
const FRESH_TOPIC_US: u64 = 2_000_000;

/// The room that owns the picture.
#[derive(Debug)]
pub struct MetadataRoom {
    options: ClientOptions,
    random: fastrand::Rng,
    cluster: Arc<Cluster>,
    /// The picture was read from a broker, at this time.
    read_us: Option<u64>,
    /// Topics in use, and by how many.
    wanted: BTreeMap<Arc<str>, usize>,
    /// Brokers that do not answer.
    silent: Arc<BTreeSet<BrokerId>>,
    waits: Vec<Wait>,
    stale: bool,
    /// Something is wanted that no request has asked for yet.
    unasked: bool,
    /// The topics asked for by the request under way.
    asked: Option<BTreeSet<Arc<str>>>,
    last_number: u64,
    not_before_us: u64,
    backoff: Backoff,
    last_failure: Option<Arc<str>>,
    /// When the waits were looked at last.
    settled_us: u64,
    /// The first request since the last answer that helped.
    trying_since_us: Option<u64>,
    facts: VecDeque<Fact>,
    finished: VecDeque<(RequestId, Result<Outcome, Error>)>,
}

/// A user's request for topics.
#[derive(Debug)]
struct Wait {
    request: RequestId,
    topics: Vec<Arc<str>>,
    begun_us: u64,
    deadline_us: u64,
    /// When a request that asked for all of them was answered first.
    answered_us: Option<u64>,
}

impl Wait {
    /// Until then a topic that is not known may still come.
    fn fresh_until_us(&self) -> Option<u64> {
        Some(self.answered_us?.saturating_add(FRESH_TOPIC_US))
    }
}

impl Wait {
    fn doing(&self) -> String {
        match self.topics.as_slice() {
            [] => "read the cluster's metadata".to_owned(),
            topics => format!("read the metadata of {}", topics.join(", ")),
        }
    }
}

impl MetadataRoom {
    /// Knows nothing and asks for nothing until topics are wanted.
    pub fn new(options: ClientOptions, seed: u64) -> Self {
        let backoff = Backoff::new(options.retry_backoff_ms, options.retry_backoff_max_ms);
        Self {
            options,
            random: fastrand::Rng::with_seed(seed),
            cluster: Arc::default(),
            read_us: None,
            wanted: BTreeMap::new(),
            silent: Arc::default(),
            waits: Vec::new(),
            stale: false,
            unasked: false,
            asked: None,
            last_number: 0,
            not_before_us: 0,
            backoff,
            last_failure: None,
            settled_us: 0,
            trying_since_us: None,
            facts: VecDeque::new(),
            finished: VecDeque::new(),
        }
    }

    /// The picture as it stands.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// See [`crate::client::Command::Cluster`].
    pub fn handle_command(
        &mut self,
        now: Now,
        request: RequestId,
        topics: Vec<Arc<str>>,
        deadline_us: u64,
    ) {
        if self.waits.len() >= MAX_WAITS {
            let refused = Error::Usage(format!("over {MAX_WAITS} requests wait for metadata"));
            self.finished.push_back((request, Err(refused)));
            return;
        }
        self.unasked = true;
        self.waits.push(Wait {
            request,
            topics,
            begun_us: now.monotonic_us,
            deadline_us,
            answered_us: None,
        });
        self.finish_waits(now);
    }

    /// Why a request is due, and when it may be made at the earliest.
    fn due(&self) -> Option<(u64, Timer)> {
        if self.asked.is_some() {
            return None;
        }
        if self.unasked && self.last_failure.is_none() {
            return Some((0, Timer::Retry));
        }
        let not_before = self.not_before_us;
        if self.is_wanting() {
            return Some((not_before, Timer::Retry));
        }
        let age_us = self.options.metadata_max_age_ms.saturating_mul(1000);
        let old_us = self.read_us?.saturating_add(age_us);
        Some((old_us.max(not_before), Timer::MetadataAge))
    }

    fn is_wanting(&self) -> bool {
        let missing = |topic: &Arc<str>| match self.cluster.topics.get(topic) {
            None => true,
            Some(known) => known.error.meaning().retriable || self.lacks_leader(known),
        };
        self.stale || !self.waits.is_empty() || self.wanted.keys().any(missing)
    }

    /// A leader that does not answer is as good as none: its successor is not long in coming, and
    /// nobody but the cluster will say so.
    fn lacks_leader(&self, topic: &Topic) -> bool {
        let is_missing =
            |leader: Option<BrokerId>| leader.is_none_or(|id| self.silent.contains(&id));
        let mut leaders = topic.partitions.iter().map(|partition| partition.leader);
        leaders.any(is_missing)
    }

    fn read(&mut self, now: Now, response: &MetadataResponse, asked: &BTreeSet<Arc<str>>) {
        let wanted = &self.wanted;
        let waits = &self.waits;
        let is_wanted = |topic: &str| {
            let waited_for = || waits.iter().flat_map(|wait| &wait.topics);
            wanted.contains_key(topic) || waited_for().any(|name| &**name == topic)
        };
        let next = self.cluster.updated(response, asked, is_wanted);
        self.read_us = Some(now.monotonic_us);
        self.trying_since_us = None;
        self.last_failure = None;
        // Each time that nothing is new the next request waits longer.
        if self.cluster.brokers != next.brokers || self.cluster.topics != next.topics {
            self.backoff.reset();
        }
        // Under KRaft each answer names another broker as the controller: that is no news to hurry for.
        if *self.cluster != next {
            self.publish(next);
        }
        self.hold_off(now);
    }

    fn publish(&mut self, next: Cluster) {
        self.cluster = Arc::new(next);
        let changed = |fact: &Fact| matches!(fact, Fact::ClusterChanged(_));
        self.facts.retain(|fact| !changed(fact));
        self.facts
            .push_back(Fact::ClusterChanged(self.cluster.clone()));
    }

    fn hold_off(&mut self, now: Now) {
        let wait_us = self.backoff.next_us(&mut self.random);
        self.not_before_us = now.monotonic_us.saturating_add(wait_us);
    }

    fn fail(&mut self, now: Now, why: String) {
        self.stale = true;
        self.last_failure = Some(why.into());
        self.hold_off(now);
        let trigger_us = self.options.rebootstrap_trigger_ms.saturating_mul(1000);
        let is_over = |since_us: u64| now.monotonic_us.saturating_sub(since_us) >= trigger_us;
        if self.trying_since_us.is_some_and(is_over) {
            self.rebootstrap();
        }
    }

    /// Forgets the known brokers, so that only the bootstrap addresses are trusted from here on: the
    /// brokers may be gone, or belong to another cluster by now (KIP-1102).
    fn rebootstrap(&mut self) {
        if self.options.rebootstraps {
            self.trying_since_us = None;
            self.publish(Cluster::default());
        }
    }

    /// Ends the requests whose topics are known, or whose time is over.
    fn finish_waits(&mut self, now: Now) {
        self.settled_us = now.monotonic_us;
        for wait in std::mem::take(&mut self.waits) {
            let late = wait.deadline_us <= now.monotonic_us;
            let outcome = match self.read_us {
                Some(_) if late || self.is_answered(now, &wait) => {
                    Ok(Outcome::Cluster(self.cluster.clone()))
                }
                None if late => Err(self.timed_out(&wait)),
                _ => {
                    self.waits.push(wait);
                    continue;
                }
            };
            self.finished.push_back((wait.request, outcome));
        }
    }

    /// Whoever asks wants to know of now: a topic may have been deleted, or allowed, since.
    fn is_answered(&self, now: Now, wait: &Wait) -> bool {
        let Some(fresh_until_us) = wait.fresh_until_us() else {
            return false;
        };
        let settled = |name| match self.cluster.topics.get(name) {
            Some(topic) if topic.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                fresh_until_us <= now.monotonic_us
            }
            Some(topic) => !topic.error.meaning().retriable,
            None => false,
        };
        wait.topics.iter().all(settled)
    }

    /// Waiting longer would not help.
    fn fail_waits(&mut self, source: &CallError) {
        for wait in std::mem::take(&mut self.waits) {
            let error = Error::Call {
                doing: wait.doing(),
                source: source.clone(),
            };
            self.finished.push_back((wait.request, Err(error)));
        }
    }

    fn timed_out(&self, wait: &Wait) -> Error {
        let why = self.last_failure.as_deref().unwrap_or("no broker answered");
        Error::TimedOut {
            doing: wait.doing(),
            limit_ms: wait.deadline_us.saturating_sub(wait.begun_us) / 1000,
            why: why.to_owned(),
        }
    }

    fn request(&self, topics: &BTreeSet<Arc<str>>) -> MetadataRequest {
        let topics = topics.iter().map(|name| {
            let name = TopicName(StrBytes::from_string(name.to_string()));
            MetadataRequestTopic::default().with_name(Some(name))
        });
        // An empty list asks for no topic, null for all.
        MetadataRequest::default()
            .with_topics(Some(topics.collect()))
            .with_allow_auto_topic_creation(false)
    }

    fn handle_hint(&mut self, fact: &Fact) {
        if let Fact::LeaderHint {
            partition,
            leader,
            epoch,
            address,
        } = fact
        {
            let next = self
                .cluster
                .with_leader(partition, *leader, *epoch, address.as_ref());
            if let Some(next) = next {
                self.publish(next);
            }
        }
    }
}

impl Room for MetadataRoom {
    fn handle_fact(&mut self, _now: Now, fact: &Fact) {
        match fact {
            Fact::TopicsWanted(topics) => {
                for topic in topics {
                    self.unasked |= !self.cluster.topics.contains_key(topic);
                    *self.wanted.entry(topic.clone()).or_default() += 1;
                }
            }
            Fact::TopicUnwanted(topic) => {
                if let Some(count) = self.wanted.get_mut(topic) {
                    *count -= 1;
                    if *count == 0 {
                        self.wanted.remove(topic);
                    }
                }
            }
            Fact::MetadataStale => self.stale = true,
            Fact::BrokersSilent(silent) => self.silent = silent.clone(),
            Fact::LeaderHint { .. } => self.handle_hint(fact),
            Fact::NoBrokerReachable { why } => self.last_failure = Some(why.clone()),
            _ => {}
        }
    }

    fn handle_reply(&mut self, now: Now, _id: CallId, reply: Result<Reply, CallError>) {
        let asked = self.asked.take().unwrap_or_default();
        match reply.map(|reply| reply.response) {
            Ok(Response::Metadata(response)) if response.brokers.is_empty() => {
                let code = ErrorCode(response.error_code);
                if code == ErrorCode::REBOOTSTRAP_REQUIRED {
                    self.rebootstrap();
                }
                self.fail(now, format!("the response lists no broker: {code}"));
            }
            Ok(Response::Metadata(response)) if response.error_code == 0 => {
                for wait in &mut self.waits {
                    if wait.topics.iter().all(|topic| asked.contains(topic)) {
                        wait.answered_us.get_or_insert(now.monotonic_us);
                    }
                }
                self.read(now, &response, &asked);
            }
            Ok(Response::Metadata(response)) => {
                self.fail(now, ErrorCode(response.error_code).to_string());
            }
            Ok(_) => self.fail(now, "the answer was to another question".to_owned()),
            Err(error) if error.kind.is_retriable() => self.fail(now, error.to_string()),
            Err(error) => {
                self.fail(now, error.to_string());
                self.fail_waits(&error);
            }
        }
        self.finish_waits(now);
    }

    fn poll_call(&mut self, now: Now, _permits: &Permits) -> Option<Call> {
        self.finish_waits(now);
        let (at, why) = self.due()?;
        if now.monotonic_us < at {
            return None;
        }
        if why == Timer::MetadataAge {
            self.backoff.reset();
        }
        let waited_for = self.waits.iter().flat_map(|wait| &wait.topics);
        let topics: BTreeSet<_> = self.wanted.keys().chain(waited_for).cloned().collect();
        self.stale = false;
        self.unasked = false;
        self.last_number += 1;
        let body = Body::Metadata(self.request(&topics).into());
        self.asked = Some(topics);
        self.trying_since_us.get_or_insert(now.monotonic_us);
        let timeout_us = self.options.request_timeout_ms.saturating_mul(1000);
        Some(Call {
            id: CallId {
                room: RoomId::Metadata,
                number: self.last_number,
            },
            destination: Destination::AnyBroker,
            lane: Lane::General,
            body,
            version_cap: None,
            timeout_us,
            give_up_us: now.monotonic_us.saturating_add(timeout_us),
        })
    }

    fn poll_fact(&mut self, _now: Now) -> Option<Fact> {
        self.facts.pop_front()
    }

    fn poll_finished(&mut self) -> Option<(RequestId, Result<Outcome, Error>)> {
        self.finished.pop_front()
    }

    fn poll_timeout(&self) -> Option<(u64, Timer)> {
        let waits = self.waits.iter().map(|wait| {
            // Past it, and not answered: something else is waited for.
            let fresh = wait.fresh_until_us().filter(|at| *at > self.settled_us);
            (
                fresh.map_or(wait.deadline_us, |at| at.min(wait.deadline_us)),
                Timer::Route,
            )
        });
        self.due().into_iter().chain(waits).min()
    }
}
