//! Topic administration: create and delete topics.

use crate::backoff::Backoff;
use crate::call::{
    Body, Call, CallId, Destination, Fact, Lane, Outcome, Permits, Reply, RequestId, Response,
    Room, RoomId, Serve,
};
use crate::error::{CallError, Error};
use crate::options::ClientOptions;
use crate::time::{Now, Timer};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use tidewatch_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest, TopicName};

/// Users' requests that may be under way at once.
const MAX_REQUESTS: usize = 1024;

/// What a user asks of this room. Each finishes with [`Outcome::Topics`].
#[derive(Debug, Clone)]
pub enum Command {
    /// Creates topics.
    CreateTopics {
        /// Which.
        topics: Vec<NewTopic>,
        /// Only says whether it could be done.
        validate_only: bool,
    },
    /// Deletes topics.
    DeleteTopics {
        /// Which.
        topics: Vec<Arc<str>>,
    },
}

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// The name: up to 249 of `a-z A-Z 0-9 . _ -`.
    pub name: Arc<str>,
    /// How many; `None` leaves it to the brokers' `num.partitions` (brokers 2.4 and later).
    pub partitions: Option<i32>,
    /// Copies of each; `None` leaves it to `default.replication.factor` (brokers 2.4 and later).
    pub replication: Option<i16>,
    /// Settings by Kafka's names: `retention.ms`, `cleanup.policy`, …
    pub config: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with this many partitions; the rest is left to the brokers.
    pub fn new(name: &str, partitions: i32) -> Self {
        Self {
            name: name.into(),
            partitions: Some(partitions),
            replication: None,
            config: BTreeMap::new(),
        }
    }

    /// With this many copies of each partition.
    #[must_use]
    pub fn replication(mut self, copies: i16) -> Self {
        self.replication = Some(copies);
        self
    }

    /// With a setting by Kafka's name.
    #[must_use]
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.config.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// A command, and what opens the room for it: a program that administers nothing has nothing of it
/// linked.
#[derive(Debug)]
pub struct Administer {
    pub(crate) command: Command,
    pub(crate) open: fn(ClientOptions, u64) -> Box<dyn Serve<Command>>,
}

impl From<Command> for Administer {
    fn from(command: Command) -> Self {
        Self {
            command,
            open: |options, seed| Box::new(AdminRoom::new(options, seed)),
        }
    }
}

/// One user's request, on its way or waiting to be tried again.
#[derive(Debug)]
struct Job {
    request: RequestId,
    command: Command,
    /// What is settled; the rest is still to be asked for.
    results: BTreeMap<Arc<str>, Result<(), Error>>,
    backoff: Backoff,
    not_before_us: u64,
    deadline_us: u64,
    asking: bool,
    last_failure: Option<Error>,
}

/// The room.
#[derive(Debug)]
pub struct AdminRoom {
    options: ClientOptions,
    random: fastrand::Rng,
    jobs: BTreeMap<u64, Job>,
    last_number: u64,
    facts: VecDeque<Fact>,
    finished: VecDeque<(RequestId, Result<Outcome, Error>)>,
}

impl AdminRoom {
    /// Starts with nothing to do.
    pub fn new(options: ClientOptions, seed: u64) -> Self {
        Self {
            options,
            random: fastrand::Rng::with_seed(seed),
            jobs: BTreeMap::new(),
            last_number: 0,
            facts: VecDeque::new(),
            finished: VecDeque::new(),
        }
    }
}

impl Serve<Command> for AdminRoom {
    fn handle_command(&mut self, now: Now, request: RequestId, command: Command) {
        if self.jobs.len() >= MAX_REQUESTS {
            let why = format!("over {MAX_REQUESTS} requests for topics are under way");
            self.finished.push_back((request, Err(Error::Usage(why))));
            return;
        }
        self.last_number += 1;
        let limit_us = self.options.default_api_timeout_ms.saturating_mul(1000);
        let backoff = Backoff::new(
            self.options.retry_backoff_ms,
            self.options.retry_backoff_max_ms,
        );
        let job = Job {
            request,
            command,
            results: BTreeMap::new(),
            backoff,
            not_before_us: now.monotonic_us,
            deadline_us: now.monotonic_us.saturating_add(limit_us),
            asking: false,
            last_failure: None,
        };
        self.jobs.insert(self.last_number, job);
    }
}

impl AdminRoom {
    /// Ends jobs that are settled, or whose time is over.
    fn finish(&mut self, now: Now) {
        let limit_ms = self.options.default_api_timeout_ms;
        let finished = &mut self.finished;
        self.jobs.retain(|_, job| {
            let late = job.deadline_us <= now.monotonic_us && !job.asking;
            let settled = job.open_topics().next().is_none();
            if late || settled {
                finished.push_back((job.request, Ok(job.outcome(limit_ms))));
            }
            !late && !settled
        });
    }
}

impl Job {
    fn topics(&self) -> Vec<Arc<str>> {
        match &self.command {
            Command::CreateTopics { topics, .. } => topics.iter().map(|t| t.name.clone()).collect(),
            Command::DeleteTopics { topics } => topics.clone(),
        }
    }

    fn open_topics(&self) -> impl Iterator<Item = Arc<str>> {
        let all = self.topics().into_iter();
        all.filter(|name| !self.results.contains_key(name))
    }

    fn doing(&self, name: &str) -> String {
        match self.command {
            Command::CreateTopics { .. } => format!("create topic {name}"),
            Command::DeleteTopics { .. } => format!("delete topic {name}"),
        }
    }

    fn outcome(&self, limit_ms: u64) -> Outcome {
        let results = self.topics().into_iter().map(|name| {
            let result = self.results.get(&name).cloned().unwrap_or_else(|| {
                let why = match &self.last_failure {
                    Some(error) => error.to_string(),
                    None => "the controller could not be asked".to_owned(),
                };
                Err(Error::TimedOut {
                    doing: self.doing(&name),
                    limit_ms,
                    why,
                })
            });
            (name, result)
        });
        Outcome::Topics(results.collect())
    }

    fn body(&self, limit_ms: i32) -> Body {
        match &self.command {
            Command::CreateTopics {
                topics,
                validate_only,
            } => {
                let open = topics
                    .iter()
                    .filter(|t| !self.results.contains_key(&t.name));
                let request = CreateTopicsRequest::default()
                    .with_topics(open.map(creatable).collect())
                    .with_timeout_ms(limit_ms)
                    .with_validate_only(*validate_only);
                Body::CreateTopics(request.into())
            }
            Command::DeleteTopics { .. } => {
                let names = self.open_topics().map(|name| topic_name(&name));
                let request = DeleteTopicsRequest::default()
                    .with_topic_names(names.collect())
                    .with_timeout_ms(limit_ms);
                Body::DeleteTopics(request.into())
            }
        }
    }

    /// Takes in one topic's answer; returns whether the picture of the cluster is stale.
    fn settle(&mut self, name: &str, code: ErrorCode, message: Option<String>) -> bool {
        let result = match code.is_ok() {
            true => Ok(()),
            false => Err(Error::Broker {
                doing: self.doing(name),
                code,
                message,
            }),
        };
        match result {
            Err(error) if code.meaning().retriable && !self.is_an_answer(code) => {
                self.last_failure = Some(error);
            }
            result => {
                self.results.insert(name.into(), result);
            }
        }
        code.meaning().refresh_metadata || code == ErrorCode::NOT_CONTROLLER
    }

    /// Retriable elsewhere, but here it is the answer: there is no such topic to delete.
    fn is_an_answer(&self, code: ErrorCode) -> bool {
        let deleting = matches!(self.command, Command::DeleteTopics { .. });
        deleting && code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    }
}

impl Room for AdminRoom {
    fn handle_fact(&mut self, _now: Now, _fact: &Fact) {}

    fn handle_reply(&mut self, now: Now, id: CallId, reply: Result<Reply, CallError>) {
        let Some(job) = self.jobs.get_mut(&id.number) else {
            return;
        };
        job.asking = false;
        let wait_us = job.backoff.next_us(&mut self.random);
        job.not_before_us = now.monotonic_us.saturating_add(wait_us);
        let answers: Vec<(String, i16, Option<String>)> = match reply.map(|reply| reply.response) {
            Ok(Response::CreateTopics(response)) => {
                let topics = response.topics.into_iter();
                let message = |m: Option<StrBytes>| m.map(|m| m.to_string());
                let answers =
                    topics.map(|t| (t.name.to_string(), t.error_code, message(t.error_message)));
                answers.collect()
            }
            Ok(Response::DeleteTopics(response)) => {
                let topics = response.responses.into_iter();
                let message = |m: Option<StrBytes>| m.map(|m| m.to_string());
                let answers = topics.filter_map(|t| {
                    Some((t.name?.to_string(), t.error_code, message(t.error_message)))
                });
                answers.collect()
            }
            Ok(_) => Vec::new(),
            Err(source) => {
                let retriable = source.kind.is_retriable();
                for name in job.open_topics().collect::<Vec<_>>() {
                    let error = Error::Call {
                        doing: job.doing(&name),
                        source: source.clone(),
                    };
                    job.last_failure = Some(error.clone());
                    if !retriable {
                        job.results.insert(name, Err(error));
                    }
                }
                Vec::new()
            }
        };
        let mut stale = false;
        let open: Vec<_> = job.open_topics().collect();
        for (name, code, message) in answers {
            if open.iter().any(|wanted| **wanted == *name) {
                stale |= job.settle(&name, ErrorCode(code), message);
            }
        }
        if stale {
            self.facts.push_back(Fact::MetadataStale);
        }
        self.finish(now);
    }

    fn poll_call(&mut self, now: Now, _permits: &Permits) -> Option<Call> {
        self.finish(now);
        let ready = |job: &Job| !job.asking && job.not_before_us <= now.monotonic_us;
        let (number, job) = self.jobs.iter_mut().find(|(_, job)| ready(job))?;
        job.asking = true;
        let limit_ms = self.options.request_timeout_ms;
        Some(Call {
            id: CallId {
                room: RoomId::Admin,
                number: *number,
            },
            destination: Destination::Controller,
            lane: Lane::General,
            body: job.body(i32::try_from(limit_ms).unwrap_or(i32::MAX)),
            version_cap: Some(job.version_cap()),
            timeout_us: limit_ms.saturating_mul(1000),
            give_up_us: job.deadline_us,
        })
    }

    fn poll_fact(&mut self, _now: Now) -> Option<Fact> {
        self.facts.pop_front()
    }

    fn poll_finished(&mut self) -> Option<(RequestId, Result<Outcome, Error>)> {
        self.finished.pop_front()
    }

    fn poll_timeout(&self) -> Option<(u64, Timer)> {
        let idle = self.jobs.values().filter(|job| !job.asking);
        idle.map(|job| (job.not_before_us.min(job.deadline_us), Timer::Retry))
            .min()
    }
}

impl Job {
    /// DeleteTopics 6 takes topics by id or name in another field; by name alone 5 says as much.
    fn version_cap(&self) -> i16 {
        match self.command {
            Command::CreateTopics { .. } => i16::MAX,
            Command::DeleteTopics { .. } => 5,
        }
    }
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    let configs = topic.config.iter().map(|(name, value)| {
        let value = Some(StrBytes::from_string(value.clone()));
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_string(name.clone()))
            .with_value(value)
    });
    CreatableTopic::default()
        .with_name(topic_name(&topic.name))
        .with_num_partitions(topic.partitions.unwrap_or(-1))
        .with_replication_factor(topic.replication.unwrap_or(-1))
        .with_configs(configs.collect())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
