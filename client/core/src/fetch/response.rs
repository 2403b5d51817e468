//! What came back: records to the inbox, offsets to begin at, and what each refusal means.

use super::{Asked, Asks, FetchRoom, Flight};
use crate::call::{BrokerId, Fact, Reply, Response, TopicPartition};
use crate::error::{CallError, Error};
use crate::fetch::aborted::Aborted;
use crate::fetch::buffer::LiveFrame;
use crate::fetch::inbox::Watermarks;
use crate::fetch::listing::{Listed, listed_offsets};
use crate::fetch::position::{FetchPosition, Follower, OffsetSpec, State};
use crate::fetch::records::{Piece, Place};
use crate::time::Now;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::fetch_response::{NodeEndpoint, PartitionData};
use tidewatch_protocol::messages::{FetchResponse, ListOffsetsResponse};
use tidewatch_protocol::records::{Batches, RecordsError};
use uuid::Uuid;

/// From this version on a Fetch response names topics by id only (KIP-516).
const FIRST_FETCH_BY_ID: i16 = 13;

/// How long a replica that the leader recommended is fetched from before the leader is asked again;
/// Java takes `metadata.max.age.ms`, whose default this is.
const FOLLOWER_LEASE_US: u64 = 300_000_000;

/// What the headers of a record set say.
struct Scan {
    /// The offset after the last whole batch, or where it was asked to begin.
    next_offset: i64,
    /// Of the last whole batch.
    leader_epoch: i32,
    /// A batch that cannot even be told apart from the next.
    is_unreadable: bool,
    /// What the header of a batch cut short announces, if it got that far.
    cut: Option<Option<usize>>,
}

/// What is to be known of a Fetch response to read it.
#[derive(Debug, Clone, Copy)]
struct Answer {
    broker: BrokerId,
    by_id: bool,
    is_incremental: bool,
}

/// How a response names a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum TopicKey {
    Id(Uuid),
    Name(String),
}

impl FetchRoom {
    pub(super) fn handle_flight_end(
        &mut self,
        now: Now,
        number: u64,
        flight: Flight,
        reply: Result<Reply, CallError>,
    ) {
        for asked in &flight.asked {
            // It may have been assigned again since, and be in a later call.
            if let Some(entry) = self.partitions.get_mut(&asked.partition) {
                entry.in_flight.take_if(|in_flight| *in_flight == number);
            }
        }
        let Flight {
            broker,
            asks,
            asked,
        } = flight;
        match (reply, asks) {
            (Ok(reply), Asks::Fetch { is_incremental, .. }) => {
                let Response::Fetch(response) = reply.response else {
                    return self.handle_lost_fetch(now, broker, asked, None);
                };
                if ErrorCode(response.error_code).is_ok() {
                    let by_id = reply.version >= FIRST_FETCH_BY_ID;
                    let answer = Answer {
                        broker,
                        by_id,
                        is_incremental,
                    };
                    self.handle_fetched(now, answer, asked, response);
                } else {
                    let code = ErrorCode(response.error_code);
                    self.handle_refused_fetch(now, broker, is_incremental, asked, code);
                }
            }
            (Err(error), Asks::Fetch { .. }) => {
                self.handle_lost_fetch(now, broker, asked, Some(&error));
            }
            (Ok(reply), Asks::ListOffsets) => {
                let asked = self.current(asked);
                match reply.response {
                    Response::ListOffsets(response) => self.handle_starts(now, &asked, &response),
                    _ => self.handle_unanswered(now, asked),
                }
            }
            // Told, or so unreachable that the broker forgets by itself.
            (_, Asks::Nothing) => {}
            (Ok(reply), Asks::OffsetForLeaderEpoch) => {
                let asked = self.current(asked);
                match reply.response {
                    Response::OffsetForLeaderEpoch(response) => {
                        self.handle_epoch_ends(now, &asked, &response);
                    }
                    _ => self.handle_unanswered(now, asked),
                }
            }
            (Err(error), Asks::ListOffsets) => {
                let asked = self.current(asked);
                self.handle_call_error(now, &asked, &error);
            }
            (Err(error), Asks::OffsetForLeaderEpoch) => {
                let asked = self.current(asked);
                self.handle_lost_validation(now, &asked, &error);
            }
        }
    }

    /// Those whose answer still counts: no seek, no new assignment came in between.
    pub(super) fn current(&self, mut asked: Vec<Asked>) -> Vec<Asked> {
        asked.retain(|asked| self.is_current(asked));
        asked
    }

    fn is_current(&self, asked: &Asked) -> bool {
        let entry = self.partitions.get(&asked.partition);
        entry.is_some_and(|entry| entry.epoch == asked.epoch)
    }

    pub(super) fn handle_call_error(&mut self, now: Now, asked: &[Asked], source: &CallError) {
        self.metadata_is_stale = true;
        for asked in asked {
            let error = Error::Call {
                doing: doing(asked),
                source: source.clone(),
            };
            let TopicPartition { topic, partition } = &asked.partition;
            let leader = self.cluster.leader(topic, *partition);
            if let Some(entry) = self.partitions.get_mut(&asked.partition) {
                entry.follower = None;
                // Another one leads already, and has not failed.
                if leader.is_none_or(|leader| leader == asked.leader) {
                    entry.refused_by = Some(Some(asked.leader));
                    entry.back_off(now, &mut self.random);
                }
            }
            // A broker that is away comes back; one that we have no version in common with does not.
            if source.kind.is_retriable() {
                self.inbox.handle_failed(&asked.partition, &error);
            } else {
                self.inbox.tell(&asked.partition, error);
            }
        }
    }

    /// The broker left out what it was asked for: asked again, not at once.
    pub(super) fn handle_unanswered(&mut self, now: Now, asked: impl IntoIterator<Item = Asked>) {
        for asked in asked {
            let code = ErrorCode::UNKNOWN_SERVER_ERROR;
            self.handle_refusal(now, &asked.partition, Some(&asked), code);
        }
    }

    fn handle_starts(&mut self, now: Now, asked: &[Asked], response: &ListOffsetsResponse) {
        let answers = listed_offsets(response);
        for asked in asked {
            let key = (&*asked.partition.topic, asked.partition.partition);
            match answers.get(&key) {
                Some(listed) if listed.code.is_ok() => self.handle_start(now, asked, *listed),
                Some(listed) => {
                    self.handle_refusal(now, &asked.partition, Some(asked), listed.code);
                }
                None => self.handle_unanswered(now, [asked.clone()]),
            }
        }
    }

    fn handle_start(&mut self, now: Now, asked: &Asked, listed: Listed) {
        let Some(entry) = self.partitions.get_mut(&asked.partition) else {
            return;
        };
        let State::Seeking(spec) = entry.state else {
            return;
        };
        match (listed.offset, spec) {
            (0.., _) => {
                // As Java: what was looked up is as this leader has it.
                entry.state = State::Fetching(FetchPosition::at(listed.offset));
                entry.origin = Some(FetchPosition::at(listed.offset));
                entry.refused_by = None;
                entry.missing_since_us = None;
                self.inbox
                    .handle_position(&entry.cursor, entry.epoch, listed.offset);
            }
            // No record is that young.
            (_, OffsetSpec::Timestamp(_)) => entry.state = State::Seeking(OffsetSpec::Latest),
            // Every log has a start and an end: this leader does not know them yet.
            (_, OffsetSpec::Earliest | OffsetSpec::Latest) => {
                let code = ErrorCode::OFFSET_NOT_AVAILABLE;
                self.handle_refusal(now, &asked.partition, Some(asked), code);
            }
        }
    }

    fn handle_fetched(
        &mut self,
        now: Now,
        answer: Answer,
        asked: Vec<Asked>,
        response: FetchResponse,
    ) {
        let mut asked: BTreeMap<(TopicKey, i32), Asked> = asked
            .into_iter()
            .map(|ask| {
                let topic = answer.topic_key(&ask.partition.topic, ask.topic_id);
                ((topic, ask.partition.partition), ask)
            })
            .collect();
        if let Some(session) = self.sessions.get_mut(&answer.broker) {
            session.handle_answer(response.session_id);
        }
        // A broker that throttles holds everything back, and that is no news of any partition
        // (KIP-219).
        if response.throttle_time_ms > 0 && response.responses.is_empty() {
            return;
        }
        let frame = self.hold_frame(&response);
        for topic in response.responses {
            let key = answer.topic_key(&topic.topic.0, topic.topic_id);
            for data in topic.partitions {
                // Nobody asked, or it is there twice: dropped.
                let Some(asked) = asked.remove(&(key.clone(), data.partition_index)) else {
                    continue;
                };
                let code = ErrorCode(data.error_code);
                if code.is_ok() {
                    self.remember_watermarks(answer.broker, &asked, &data);
                }
                if !self.is_current(&asked) {
                    continue;
                }
                if code.is_ok() {
                    self.handle_records(now, answer.broker, &asked, data, frame.as_ref());
                } else {
                    let endpoints = &response.node_endpoints;
                    self.handle_fetch_refusal(now, answer.broker, &asked, &data, endpoints);
                }
            }
        }
        let left_out = self.current(asked.into_values().collect());
        if answer.is_incremental {
            self.handle_unchanged(now, answer.broker, left_out);
        } else {
            self.handle_unanswered(now, left_out);
        }
    }

    /// Everything in the response keeps its frame alive, asked for or not.
    fn hold_frame(&self, response: &FetchResponse) -> Option<Arc<LiveFrame>> {
        let partitions = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions);
        let size_bytes = partitions
            .filter_map(|data| data.records.as_ref())
            .map(Bytes::len)
            .sum();
        (size_bytes > 0).then(|| self.inbox.buffer.hold(size_bytes))
    }

    fn handle_records(
        &mut self,
        now: Now,
        broker: BrokerId,
        asked: &Asked,
        data: PartitionData,
        frame: Option<&Arc<LiveFrame>>,
    ) {
        let preferred = BrokerId(data.preferred_read_replica.0);
        if preferred.0 >= 0 && preferred != broker && self.cluster.brokers.contains_key(&preferred)
        {
            if let Some(entry) = self.partitions.get_mut(&asked.partition) {
                entry.follower = Some(Follower {
                    broker: preferred,
                    until_us: now.monotonic_us.saturating_add(FOLLOWER_LEASE_US),
                });
            }
            return;
        }
        if data.diverging_epoch.end_offset >= 0 {
            return self.handle_diverging(now, asked);
        }
        let watermarks = watermarks(&data);
        let records = data.records.unwrap_or_default();
        let scan = Scan::of(&records, asked.offset);
        let has_progress = scan.next_offset > asked.offset || scan.is_unreadable;
        if !has_progress && !records.is_empty() {
            return self.handle_no_progress(now, asked, records.len(), scan.cut);
        }
        self.handle_progress(asked, &scan);
        let piece = match frame {
            Some(frame) if has_progress => {
                let aborted = data.aborted_transactions;
                let aborted = self
                    .options
                    .read_committed
                    .then(|| Aborted::new(aborted.as_deref()));
                self.piece(asked, frame.count(records), aborted)
            }
            _ => None,
        };
        self.inbox
            .handle_fetched(now, &asked.partition, watermarks, piece);
    }

    fn handle_progress(&mut self, asked: &Asked, scan: &Scan) {
        self.handle_success(asked);
        let Some(entry) = self.partitions.get_mut(&asked.partition) else {
            return;
        };
        if scan.is_unreadable {
            entry.state = State::Unreadable;
        } else if scan.next_offset > asked.offset {
            entry.state = State::Fetching(FetchPosition {
                offset: scan.next_offset,
                leader_epoch: scan.leader_epoch,
            });
        }
        if scan.is_unreadable || scan.next_offset > asked.offset {
            self.next_served += 1;
            entry.served = self.next_served;
        }
    }

    pub(super) fn handle_success(&mut self, asked: &Asked) {
        // What the reader could not read was fetched once more: whether that helped is not known.
        if let Some(entry) = self.partitions.get_mut(&asked.partition)
            && entry.broken_at != Some(asked.offset)
        {
            entry.handle_success();
        }
    }

    fn piece(&self, asked: &Asked, records: Bytes, aborted: Option<Aborted>) -> Option<Piece> {
        let entry = self.partitions.get(&asked.partition)?;
        let place = Place {
            partition: asked.partition.clone(),
            cursor: Arc::clone(&entry.cursor),
            epoch: asked.epoch,
            position: asked.offset,
            broken: false,
        };
        let check_crcs = self.options.check_crcs;
        Some(Piece::new(
            place,
            Batches::new(records),
            aborted,
            check_crcs,
        ))
    }

    /// Bytes came that hold nothing at or behind the offset asked for.
    fn handle_no_progress(
        &mut self,
        now: Now,
        asked: &Asked,
        size_bytes: usize,
        cut: Option<Option<usize>>,
    ) {
        let error = match cut {
            Some(announced) => Error::Usage(format!(
                "failed to {}: its next batch takes {} bytes, of which the broker sent {size_bytes}; \
                 raise max.partition.fetch.bytes (now {}) and fetch.max.bytes (now {})",
                doing(asked),
                announced.map_or("more".to_owned(), |bytes| bytes.to_string()),
                self.options.max_partition_fetch_bytes,
                self.options.fetch_max_bytes,
            )),
            None => Error::Records {
                doing: doing(asked),
                source: RecordsError::Malformed {
                    base_offset: asked.offset,
                    why: "the batches that came end below the offset asked for",
                },
                skip_to: None,
            },
        };
        if let Some(entry) = self.partitions.get_mut(&asked.partition) {
            entry.back_off(now, &mut self.random);
        }
        self.inbox.tell(&asked.partition, error);
    }

    fn handle_fetch_refusal(
        &mut self,
        now: Now,
        broker: BrokerId,
        asked: &Asked,
        data: &PartitionData,
        endpoints: &[NodeEndpoint],
    ) {
        let code = ErrorCode(data.error_code);
        let hint = (
            BrokerId(data.current_leader.leader_id.0),
            data.current_leader.leader_epoch,
        );
        if hint.0.0 >= 0 && hint.1 > asked.leader.1 {
            let endpoint = endpoints.iter().find(|node| node.node_id.0 == hint.0.0);
            self.facts.push_back(Fact::LeaderHint {
                partition: asked.partition.clone(),
                leader: hint.0,
                epoch: hint.1,
                address: endpoint.and_then(|node| {
                    Some((Arc::from(&*node.host), u16::try_from(node.port).ok()?))
                }),
            });
        }
        let is_leader = broker == asked.leader.0;
        if is_leader && code != ErrorCode::OFFSET_OUT_OF_RANGE {
            return self.handle_refusal(now, &asked.partition, Some(asked), code);
        }
        if let Some(entry) = self.partitions.get_mut(&asked.partition) {
            if is_leader {
                entry.state = State::OutOfRange(asked.offset);
            }
            // Whatever a follower says, the leader knows better.
            entry.follower = None;
            if is_other_epoch(code) {
                entry.validated_by = None;
            }
            entry.back_off(now, &mut self.random);
        }
        self.metadata_is_stale |= code.meaning().refresh_metadata;
        let error = refusal(doing(asked), code);
        self.inbox.handle_failed(&asked.partition, &error);
    }

    /// The brokers would not serve a partition: tried again after a backoff, or at once when the
    /// picture of the cluster shows another leader. The reader is told of what waiting does not cure.
    pub(super) fn handle_refusal(
        &mut self,
        now: Now,
        partition: &TopicPartition,
        asked: Option<&Asked>,
        code: ErrorCode,
    ) {
        let Some(entry) = self.partitions.get_mut(partition) else {
            return;
        };
        entry.refused_by = Some(asked.map(|asked| asked.leader));
        entry.back_off(now, &mut self.random);
        if is_other_epoch(code) {
            entry.validated_by = None;
        }
        let meaning = code.meaning();
        self.metadata_is_stale |=
            meaning.refresh_metadata || code == ErrorCode::UNKNOWN_LEADER_EPOCH || asked.is_none();
        let doing = asked.map_or_else(|| format!("fetch {partition}"), doing);
        let error = refusal(doing, code);
        let is_missing = matches!(
            code,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                | ErrorCode::UNKNOWN_TOPIC_ID
                | ErrorCode::INCONSISTENT_TOPIC_ID
        );
        let is_overdue = is_missing && {
            // A topic just created takes a while to be known everywhere (KIP-361).
            let limit_us = self.options.default_api_timeout_ms.saturating_mul(1000);
            let since_us = entry.missing_since_us.get_or_insert(now.monotonic_us);
            let is_overdue = now.monotonic_us.saturating_sub(*since_us) >= limit_us;
            if is_overdue {
                *since_us = now.monotonic_us;
            }
            is_overdue
        };
        let waiting_helps = (meaning.retriable && code != ErrorCode::CORRUPT_MESSAGE)
            || code == ErrorCode::UNKNOWN_SERVER_ERROR;
        if is_overdue || !waiting_helps {
            self.inbox.tell(partition, error);
        } else {
            self.inbox.handle_failed(partition, &error);
        }
    }
}

impl Scan {
    fn of(records: &Bytes, from: i64) -> Self {
        let mut scan = Self {
            next_offset: from,
            leader_epoch: -1,
            is_unreadable: false,
            cut: None,
        };
        let mut batches = Batches::new(records.clone());
        for batch in &mut batches {
            match batch {
                Ok(batch) => {
                    scan.next_offset = scan.next_offset.max(batch.header.next_offset());
                    scan.leader_epoch = batch.header.partition_leader_epoch;
                }
                Err(_) => scan.is_unreadable = true,
            }
        }
        scan.cut = batches.truncated().map(|(_, announced)| announced);
        scan
    }
}

impl Answer {
    fn topic_key(&self, name: &str, id: Uuid) -> TopicKey {
        match self.by_id {
            true => TopicKey::Id(id),
            false => TopicKey::Name(name.to_owned()),
        }
    }
}

pub(super) fn watermarks(data: &PartitionData) -> Watermarks {
    Watermarks {
        log_start: data.log_start_offset,
        last_stable: data.last_stable_offset,
        high: data.high_watermark,
    }
}

/// The two sides know different leaders: which records the position stands behind is in doubt.
fn is_other_epoch(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::FENCED_LEADER_EPOCH | ErrorCode::UNKNOWN_LEADER_EPOCH
    )
}

pub(super) fn doing(asked: &Asked) -> String {
    format!("fetch {} at {}", asked.partition, asked.offset)
}

fn refusal(doing: String, code: ErrorCode) -> Error {
    Error::Broker {
        doing,
        code,
        message: None,
    }
}
