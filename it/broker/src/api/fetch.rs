//! Fetch (1), versions 4 to 18.

use super::{Api, Call, Outcome, Served, Wait, answer};
use crate::fetch_sessions::{Context, PartitionKey, SessionRequest, partition_key};
use crate::log::{EpochEnd, UNDEFINED};
use crate::now::Now;
use crate::state::{State, wire};
use crate::topic::Partition;
use bytes::Bytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use tidewatch_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId, TopicName};
use uuid::Uuid;

const FIRST_VERSION_WITH_IDS: i16 = 13;
const FIRST_VERSION_WITH_HINTS: i16 = 16;
const READ_COMMITTED: i8 = 1;
/// Kafka's broker setting `fetch.max.bytes`: no response holds more, whatever was asked for.
const FETCH_MAX_BYTES: usize = 57_671_680;

impl Api for FetchRequest {
    fn topics(&self, state: &State) -> Vec<String> {
        let named = |name: &str, id| state.name_of(id).unwrap_or(name).to_owned();
        self.topics
            .iter()
            .map(|topic| named(&topic.topic, topic.topic_id))
            .collect()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<FetchResponse> {
        let by_id = call.version >= FIRST_VERSION_WITH_IDS;
        let asked = wanted(&self, state, by_id);
        let forgotten = forgotten(&self, by_id);
        let request = SessionRequest {
            id: self.session_id,
            epoch: self.session_epoch,
            by_id,
        };
        let sessions = state.fetch_sessions(call.node);
        let begun = call.on_whole(|| sessions.begin(call.now, request, asked, &forgotten));
        let (context, wanted) = match begun {
            Ok(begun) => begun,
            Err(code) => {
                return Outcome::Answer(
                    FetchResponse::default()
                        .with_throttle_time_ms(call.throttle_ms)
                        .with_error_code(code.0),
                );
            }
        };
        let wait = FetchWait {
            context,
            wanted: resolved(wanted, state, by_id),
            min_bytes: usize::try_from(self.min_bytes).unwrap_or(0),
            max_bytes: usize::try_from(self.max_bytes)
                .unwrap_or(0)
                .min(FETCH_MAX_BYTES),
            read_committed: self.isolation_level == READ_COMMITTED,
            deadline: call.now.after_ms(self.max_wait_ms),
            call: call.clone(),
        };
        if self.max_wait_ms <= 0 || wait.is_ready(state) {
            Outcome::Answer(wait.response(state, call.now))
        } else {
            Outcome::Wait(Wait::Fetch(Box::new(wait)))
        }
    }
}

fn wanted(request: &FetchRequest, state: &State, by_id: bool) -> Vec<Wanted> {
    let partitions = request.topics.iter().flat_map(|topic| {
        let name = state.resolve(by_id, topic.topic_id, &topic.topic);
        topic.partitions.iter().map(move |partition| Wanted {
            topic: name.clone(),
            asked_name: topic.topic.clone(),
            asked_id: topic.topic_id,
            index: partition.partition,
            offset: partition.fetch_offset,
            leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
        })
    });
    partitions.collect()
}

/// What a session asked for earlier, in today's topics.
fn resolved(mut wanted: Vec<Wanted>, state: &State, by_id: bool) -> Vec<Wanted> {
    for wanted in &mut wanted {
        wanted.topic = state.resolve(by_id, wanted.asked_id, &wanted.asked_name);
    }
    wanted
}

fn forgotten(request: &FetchRequest, by_id: bool) -> Vec<PartitionKey> {
    let topics = request.forgotten_topics_data.iter();
    let partitions = topics.flat_map(|topic| {
        let key = |index| partition_key(by_id, topic.topic_id, &topic.topic, index);
        topic.partitions.iter().map(move |index| key(*index))
    });
    partitions.collect()
}

/// One partition of a request.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    topic: Result<String, ErrorCode>,
    pub(crate) asked_name: TopicName,
    pub(crate) asked_id: Uuid,
    pub(crate) index: i32,
    offset: i64,
    leader_epoch: i32,
    last_fetched_epoch: i32,
    max_bytes: usize,
}

impl Wanted {
    fn name(&self) -> &str {
        self.topic.as_deref().unwrap_or(&self.asked_name)
    }
}

/// Where a wanted partition stands when it can be read.
struct Readable<'a> {
    partition: &'a Partition,
    until: i64,
    /// The client's log went another way than ours (KIP-595).
    diverging: Option<EpochEnd>,
}

/// A request that waits for `min_bytes`.
#[derive(Debug)]
pub(crate) struct FetchWait {
    call: Call,
    context: Context,
    wanted: Vec<Wanted>,
    min_bytes: usize,
    max_bytes: usize,
    read_committed: bool,
    pub(super) deadline: Now,
}

impl FetchWait {
    pub(super) fn poll(&mut self, state: &mut State, now: Now) -> Option<Served> {
        let ready = now.reached(self.deadline) || self.is_ready(state);
        ready.then(|| answer::<FetchRequest>(&self.response(state, now), &self.call))
    }

    /// Enough bytes, or an answer that must not wait.
    fn is_ready(&self, state: &State) -> bool {
        if self.wanted.is_empty() {
            return true;
        }
        let mut total = 0_usize;
        for wanted in &self.wanted {
            match self.find(state, wanted) {
                Ok(Readable {
                    diverging: None,
                    partition,
                    until,
                }) => {
                    let enough = wanted.max_bytes.min(self.min_bytes);
                    let available = partition.log.available_bytes(wanted.offset, until, enough);
                    total = total.saturating_add(available);
                }
                Ok(_) | Err(_) => return true,
            }
        }
        total >= self.min_bytes
    }

    fn find<'a>(&self, state: &'a State, wanted: &Wanted) -> Result<Readable<'a>, ErrorCode> {
        self.call.on_partition(wanted.name(), wanted.index, || {
            let topic = wanted.topic.as_deref().map_err(|code| *code)?;
            let node = self.call.node;
            let partition = state.led_by(node, topic, wanted.index, wanted.leader_epoch)?;
            let until = if self.read_committed {
                partition.last_stable_offset()
            } else {
                partition.high_watermark()
            };
            let diverging = diverging(partition, wanted)?;
            let in_log = partition.log.start_offset()..=partition.log.end_offset();
            if diverging.is_none() && !in_log.contains(&wanted.offset) {
                return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
            }
            Ok(Readable {
                partition,
                until,
                diverging,
            })
        })
    }

    fn response(&self, state: &mut State, now: Now) -> FetchResponse {
        let mut answers = self.answers(state);
        let sessions = state.fetch_sessions(self.call.node);
        let session_id = sessions.finish(now, self.context, &mut answers);
        let mut topics: Vec<FetchableTopicResponse> = Vec::new();
        for (wanted, data) in answers {
            let (name, id) = (wanted.asked_name, wanted.asked_id);
            match topics.last_mut() {
                Some(last) if last.topic == name && last.topic_id == id => {
                    last.partitions.push(data);
                }
                Some(_) | None => topics.push(
                    FetchableTopicResponse::default()
                        .with_topic(name)
                        .with_topic_id(id)
                        .with_partitions(vec![data]),
                ),
            }
        }
        FetchResponse::default()
            .with_throttle_time_ms(self.call.throttle_ms)
            .with_session_id(session_id)
            .with_node_endpoints(self.hinted_endpoints(state, &topics))
            .with_responses(topics)
    }

    fn answers(&self, state: &State) -> Vec<(Wanted, PartitionData)> {
        let mut room = self.max_bytes;
        let mut is_first = true;
        let answers = self.wanted.iter().map(|wanted| {
            let data = match self.find(state, wanted) {
                Ok(readable) => self.read(&readable, wanted, room, is_first),
                Err(code) => self.refuse(state, wanted, code),
            };
            // Once something was read, the limits count for whole batches too.
            let size = data.records.as_ref().map_or(0, Bytes::len);
            is_first &= size == 0;
            room = room.saturating_sub(size);
            (wanted.clone(), data)
        });
        answers.collect()
    }

    fn read(
        &self,
        readable: &Readable<'_>,
        wanted: &Wanted,
        room: usize,
        is_first: bool,
    ) -> PartitionData {
        let partition = readable.partition;
        let data = PartitionData::default()
            .with_partition_index(wanted.index)
            .with_high_watermark(partition.high_watermark())
            .with_last_stable_offset(partition.last_stable_offset())
            .with_log_start_offset(partition.log.start_offset())
            .with_aborted_transactions(self.read_committed.then(|| aborted(readable, wanted)));
        match readable.diverging {
            Some(end) => data
                .with_diverging_epoch(
                    EpochEndOffset::default()
                        .with_epoch(end.epoch)
                        .with_end_offset(end.end_offset),
                )
                .with_records(Some(Bytes::new())),
            None => {
                let limit = wanted.max_bytes.min(room);
                let log = &partition.log;
                let records = log.read(wanted.offset, readable.until, limit, is_first);
                data.with_records(Some(records))
            }
        }
    }

    fn refuse(&self, state: &State, wanted: &Wanted, code: ErrorCode) -> PartitionData {
        let data = PartitionData::default()
            .with_partition_index(wanted.index)
            .with_error_code(code.0)
            .with_high_watermark(-1)
            .with_last_stable_offset(-1)
            .with_log_start_offset(-1)
            .with_records(Some(Bytes::new()));
        let hints = [
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::FENCED_LEADER_EPOCH,
        ];
        if self.call.version < FIRST_VERSION_WITH_HINTS || !hints.contains(&code) {
            return data;
        }
        match state.partition(wanted.name(), wanted.index) {
            Ok(partition) => data.with_current_leader(
                LeaderIdAndEpoch::default()
                    .with_leader_id(BrokerId(partition.leader.map_or(-1, |node| node.0)))
                    .with_leader_epoch(partition.leader_epoch),
            ),
            Err(_) => data,
        }
    }

    fn hinted_endpoints(
        &self,
        state: &State,
        topics: &[FetchableTopicResponse],
    ) -> Vec<NodeEndpoint> {
        let answers = topics.iter().flat_map(|topic| &topic.partitions);
        let hinted: Vec<BrokerId> = answers.map(|data| data.current_leader.leader_id).collect();
        state
            .brokers()
            .filter(|endpoint| hinted.contains(&BrokerId(endpoint.node.0)))
            .map(|endpoint| {
                NodeEndpoint::default()
                    .with_node_id(BrokerId(endpoint.node.0))
                    .with_host(wire(&endpoint.host))
                    .with_port(i32::from(endpoint.port))
            })
            .collect()
    }
}

fn aborted(readable: &Readable<'_>, wanted: &Wanted) -> Vec<AbortedTransaction> {
    let transactions = readable.partition.log.transactions();
    let aborted = transactions.aborted(wanted.offset, readable.until);
    let aborted = aborted.map(|ended| {
        AbortedTransaction::default()
            .with_producer_id(ProducerId(ended.producer_id))
            .with_first_offset(ended.first_offset)
    });
    aborted.collect()
}

/// Where the client's last epoch ended here, if that is before what the client has read of it.
fn diverging(partition: &Partition, wanted: &Wanted) -> Result<Option<EpochEnd>, ErrorCode> {
    if wanted.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let log = &partition.log;
    let end = log
        .epochs()
        .end_of(wanted.last_fetched_epoch, log.end_offset());
    if end.epoch == UNDEFINED || end.end_offset < 0 {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let diverges = end.epoch < wanted.last_fetched_epoch || end.end_offset < wanted.offset;
    Ok(diverges.then_some(end))
}
