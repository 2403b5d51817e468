//! Produce (0), versions 3 to 13.

use super::{Api, Call, Outcome, Served, Wait, answer};
use crate::log::{Appended, Rejected, validate};
use crate::now::Now;
use crate::state::{State, wire};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::produce_request::PartitionProduceData;
use tidewatch_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use tidewatch_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse};

/// From here on requests name topics by id (KIP-516).
const FIRST_VERSION_WITH_IDS: i16 = 13;
/// From here on NOT_LEADER_OR_FOLLOWER says who leads (KIP-951).
const FIRST_VERSION_WITH_HINTS: i16 = 10;

const ACKS_NONE: i16 = 0;
const ACKS_LEADER: i16 = 1;
const ACKS_ALL: i16 = -1;

impl Api for ProduceRequest {
    fn topics(&self, state: &State) -> Vec<String> {
        let named = |name: &str, id| state.name_of(id).unwrap_or(name).to_owned();
        self.topic_data
            .iter()
            .map(|topic| named(&topic.name, topic.topic_id))
            .collect()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<ProduceResponse> {
        let by_id = call.version >= FIRST_VERSION_WITH_IDS;
        let mut response = ProduceResponse::default().with_throttle_time_ms(call.throttle_ms);
        let mut unreplicated = Vec::new();
        let terms = Terms {
            acks: self.acks,
            transactional_id: self.transactional_id.as_ref().map(|id| id.as_str()),
        };
        for (topic_at, data) in self.topic_data.into_iter().enumerate() {
            let resolved = state.resolve(by_id, data.topic_id, &data.name);
            let name = resolved.clone().unwrap_or_else(|_| data.name.to_string());
            let mut answers = Vec::with_capacity(data.partition_data.len());
            for (partition_at, data) in data.partition_data.into_iter().enumerate() {
                let index = data.index;
                let outcome = call.on_partition(&name, index, || {
                    resolved.clone()?;
                    append(state, call, terms, &name, data)
                });
                if let Ok(appended) = &outcome
                    && self.acks == ACKS_ALL
                    && let Ok(partition) = state.partition(&name, index)
                    && partition.high_watermark() < appended.next_offset
                {
                    let leader_epoch = partition.leader_epoch;
                    let next_offset = appended.next_offset;
                    let topic = name.clone();
                    unreplicated.push(Unreplicated {
                        topic,
                        index,
                        next_offset,
                        leader_epoch,
                        at: (topic_at, partition_at),
                    });
                }
                answers.push(tell(state, &name, index, outcome));
            }
            response.responses.push(
                TopicProduceResponse::default()
                    .with_name(data.name)
                    .with_topic_id(data.topic_id)
                    .with_partition_responses(answers),
            );
        }
        if self.acks == ACKS_NONE {
            return end_unacknowledged(&response);
        }
        let mut wait = ProduceWait {
            call: call.clone(),
            response,
            unreplicated,
            deadline: call.now.after_ms(self.timeout_ms),
        };
        if wait.unreplicated.is_empty() {
            add_hints(&mut wait.response, state, call.version);
            Outcome::Answer(wait.response)
        } else {
            Outcome::Wait(Wait::Produce(Box::new(wait)))
        }
    }
}

/// A client that awaits no answer learns of an error by the end of its connection.
fn end_unacknowledged(response: &ProduceResponse) -> Outcome<ProduceResponse> {
    let mut answers = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    if answers.any(|answer| answer.error_code != 0) {
        Outcome::Close("a produce request with acks=0 failed")
    } else {
        Outcome::NoAnswer
    }
}

/// What a request says for all its partitions.
#[derive(Clone, Copy)]
struct Terms<'a> {
    acks: i16,
    transactional_id: Option<&'a str>,
}

fn append(
    state: &mut State,
    call: &Call,
    terms: Terms<'_>,
    topic: &str,
    data: PartitionProduceData,
) -> Result<Appended, Rejected> {
    let acks = terms.acks;
    if state.denied_writes.contains(topic) {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED.into());
    }
    state.partition(topic, data.index)?;
    if !matches!(acks, ACKS_NONE | ACKS_LEADER | ACKS_ALL) {
        return Err(ErrorCode::INVALID_REQUIRED_ACKS.into());
    }
    let config = state
        .topics
        .get(topic)
        .map(|topic| topic.config.clone())
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let led = state.led_by(call.node, topic, data.index, -1)?;
    if acks == ACKS_ALL && led.in_sync.len() < config.min_insync_replicas() {
        return Err(ErrorCode::NOT_ENOUGH_REPLICAS.into());
    }
    let batch = validate(data.records, call.version, &config, call.now.wall_ms)?;
    let place = (topic, data.index);
    state.join_transaction(call, terms.transactional_id, place, &batch.header)?;
    let max_log_bytes = state.options.max_log_bytes;
    let partition = state.partition_mut(topic, data.index)?;
    if partition.log.size_bytes().saturating_add(batch.bytes.len()) > max_log_bytes {
        return Err(ErrorCode::KAFKA_STORAGE_ERROR.into());
    }
    let leader_epoch = partition.leader_epoch;
    let stamp = config.is_log_append_time().then_some(call.now.wall_ms);
    let appended = partition.log.append(&batch, leader_epoch, stamp)?;
    if let Some(limit) = config.retention_bytes() {
        partition.log.retain(limit);
    }
    state.touch();
    Ok(appended)
}

fn tell(
    state: &State,
    topic: &str,
    index: i32,
    outcome: Result<Appended, Rejected>,
) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(index);
    let log_start = state
        .partition(topic, index)
        .map_or(-1, |found| found.log.start_offset());
    match outcome {
        Ok(appended) => answer
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.log_append_time_ms)
            .with_log_start_offset(log_start),
        Err(rejected) => {
            let records = rejected.records.iter().map(|(at, why)| {
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(*at)
                    .with_batch_index_error_message(Some(wire(why)))
            });
            answer
                .with_error_code(rejected.code.0)
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(-1)
                .with_record_errors(records.collect())
                .with_error_message(rejected.message.as_deref().map(wire))
        }
    }
}

fn add_hints(response: &mut ProduceResponse, state: &State, version: i16) {
    if version < FIRST_VERSION_WITH_HINTS {
        return;
    }
    let mut leaders = Vec::new();
    for topic in &mut response.responses {
        let name = state.name_of(topic.topic_id).unwrap_or(&topic.name);
        for answer in &mut topic.partition_responses {
            if answer.error_code != ErrorCode::NOT_LEADER_OR_FOLLOWER.0 {
                continue;
            }
            let Ok(partition) = state.partition(name, answer.index) else {
                continue;
            };
            let leader = partition.leader.map_or(-1, |node| node.0);
            answer.current_leader = LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(leader))
                .with_leader_epoch(partition.leader_epoch);
            leaders.extend(partition.leader);
        }
    }
    response.node_endpoints = state
        .brokers()
        .filter(|endpoint| leaders.contains(&endpoint.node))
        .map(|endpoint| {
            NodeEndpoint::default()
                .with_node_id(BrokerId(endpoint.node.0))
                .with_host(wire(&endpoint.host))
                .with_port(i32::from(endpoint.port))
        })
        .collect();
}

/// A request with acks=all that waits for its followers.
#[derive(Debug)]
pub(crate) struct ProduceWait {
    call: Call,
    response: ProduceResponse,
    unreplicated: Vec<Unreplicated>,
    pub(super) deadline: Now,
}

#[derive(Debug)]
struct Unreplicated {
    topic: String,
    index: i32,
    next_offset: i64,
    leader_epoch: i32,
    /// Its place in the response: topic, partition.
    at: (usize, usize),
}

impl Unreplicated {
    /// The error code to answer with, once it is known.
    fn poll(&self, state: &State, timed_out: bool) -> Option<ErrorCode> {
        match state.partition(&self.topic, self.index) {
            Err(code) => Some(code),
            Ok(partition) if partition.leader_epoch != self.leader_epoch => {
                Some(ErrorCode::NOT_LEADER_OR_FOLLOWER)
            }
            Ok(partition) if partition.high_watermark() >= self.next_offset => {
                Some(ErrorCode::NONE)
            }
            Ok(_) => timed_out.then_some(ErrorCode::REQUEST_TIMED_OUT),
        }
    }
}

impl ProduceWait {
    /// The answer, once every partition is replicated or has failed.
    pub(super) fn poll(&mut self, state: &State, now: Now) -> Option<Served> {
        let timed_out = now.reached(self.deadline);
        let response = &mut self.response;
        self.unreplicated
            .retain(|waiting| match waiting.poll(state, timed_out) {
                None => true,
                Some(code) => {
                    let (topic_at, partition_at) = waiting.at;
                    let topic = response.responses.get_mut(topic_at);
                    let answers = topic.map(|topic| &mut topic.partition_responses);
                    if code != ErrorCode::NONE
                        && let Some(answer) = answers.and_then(|all| all.get_mut(partition_at))
                    {
                        answer.error_code = code.0;
                        answer.base_offset = -1;
                        answer.log_append_time_ms = -1;
                    }
                    false
                }
            });
        if !self.unreplicated.is_empty() {
            return None;
        }
        add_hints(&mut self.response, state, self.call.version);
        Some(answer::<ProduceRequest>(&self.response, &self.call))
    }
}
