//! Fetch sessions (KIP-227): a broker remembers what a consumer fetches from it, so that a request
//! names only what has changed and a response only what is new.

use super::response::watermarks;
use super::{Asked, FetchRoom};
use crate::call::{BrokerId, TopicPartition};
use crate::error::CallError;
use crate::fetch::inbox::Watermarks;
use crate::time::Now;
use std::collections::BTreeMap;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::fetch_response::PartitionData;
use uuid::Uuid;

/// No session, or none yet.
const NO_SESSION: i32 = 0;
/// The epoch of a request that names everything, to open a session. One that comes with the id of a
/// session closes that one first.
const INITIAL_EPOCH: i32 = 0;

/// What one broker remembers of one consumer, as far as this side knows.
///
/// ```text
///            an answer with an id               each answer: the next epoch
///  epoch 0 ─────────────────────▶ epoch 1, 2, … ───┐
///     ▲                                 ▲          │
///     │                                 └──────────┘
///     └── an answer without an id, an error, a lost call, topic ids that come, go or change
/// ```
#[derive(Debug, Default)]
pub(crate) struct Session {
    id: i32,
    /// The next request's.
    epoch: i32,
    /// Whether its topics go by id; a session cannot change that (KIP-516).
    by_id: bool,
    held: BTreeMap<TopicPartition, Held>,
    requests: u64,
}

/// A partition as the broker remembers it.
#[derive(Debug)]
struct Held {
    topic_id: Uuid,
    offset: i64,
    leader_epoch: i32,
    /// What the broker last said. It says nothing more before that changes.
    watermarks: Option<Watermarks>,
    /// The last request that wanted it.
    wanted_in: u64,
}

/// What a request says of its session.
pub(crate) struct SessionRequest<'a> {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    /// What the broker does not know yet.
    pub(crate) changed: Vec<&'a Asked>,
    /// What it shall no longer send, with its topic's id.
    pub(crate) forgotten: Vec<(TopicPartition, Uuid)>,
}

impl SessionRequest<'_> {
    /// Whether the answer may leave out what has not changed.
    pub(crate) fn is_incremental(&self) -> bool {
        self.epoch != INITIAL_EPOCH
    }
}

impl Session {
    /// What the broker names it by, where there is one.
    pub(crate) fn id(&self) -> Option<i32> {
        (self.id != NO_SESSION).then_some(self.id)
    }

    /// The request that makes the broker send exactly what is `asked`.
    pub(crate) fn request<'a>(&mut self, asked: &'a [Asked]) -> SessionRequest<'a> {
        let by_id = asked.iter().all(|ask| !ask.topic_id.is_nil());
        let is_other_topic = |ask: &Asked| {
            let held = self.held.get(&ask.partition);
            held.is_some_and(|held| held.topic_id != ask.topic_id)
        };
        if by_id != self.by_id || asked.iter().any(is_other_topic) {
            self.epoch = INITIAL_EPOCH;
        }
        if self.epoch == INITIAL_EPOCH {
            self.by_id = by_id;
            self.held.clear();
        }
        self.requests += 1;
        let changed = asked.iter().filter(|ask| self.is_changed_by(ask)).collect();
        SessionRequest {
            id: self.id,
            epoch: self.epoch,
            changed,
            forgotten: self.forget_unwanted(),
        }
    }

    /// An answer that is no error: the session begins, goes on, or has been closed by the broker.
    pub(crate) fn handle_answer(&mut self, id: i32) {
        let is_new = self.epoch == INITIAL_EPOCH;
        if id != NO_SESSION && (is_new || id == self.id) {
            self.id = id;
            self.epoch = next_epoch(self.epoch);
        } else {
            self.id = NO_SESSION;
            self.epoch = INITIAL_EPOCH;
        }
    }

    /// An error of the whole answer: the next request names everything.
    pub(crate) fn handle_refused(&mut self, code: ErrorCode) {
        self.epoch = INITIAL_EPOCH;
        if code == ErrorCode::FETCH_SESSION_ID_NOT_FOUND {
            self.id = NO_SESSION;
        }
    }

    /// A call was lost: what the broker has made of it cannot be known.
    pub(crate) fn handle_lost(&mut self) {
        self.epoch = INITIAL_EPOCH;
    }

    /// What the broker said of a partition.
    pub(crate) fn handle_watermarks(&mut self, partition: &TopicPartition, said: Watermarks) {
        if let Some(held) = self.held.get_mut(partition) {
            held.watermarks = Some(said);
        }
    }

    /// What still holds of a partition that an answer leaves out.
    pub(crate) fn watermarks(&self, partition: &TopicPartition) -> Option<Watermarks> {
        self.held.get(partition)?.watermarks
    }

    #[cfg(test)]
    pub(crate) fn set_epoch(&mut self, epoch: i32) {
        self.epoch = epoch;
    }

    fn is_changed_by(&mut self, ask: &Asked) -> bool {
        let leader_epoch = ask.leader.1;
        let wanted_in = self.requests;
        if let Some(held) = self.held.get_mut(&ask.partition) {
            held.wanted_in = wanted_in;
            let is_changed = (held.offset, held.leader_epoch) != (ask.offset, leader_epoch);
            (held.offset, held.leader_epoch) = (ask.offset, leader_epoch);
            return is_changed;
        }
        let held = Held {
            topic_id: ask.topic_id,
            offset: ask.offset,
            leader_epoch,
            watermarks: None,
            wanted_in,
        };
        self.held.insert(ask.partition.clone(), held);
        true
    }

    fn forget_unwanted(&mut self) -> Vec<(TopicPartition, Uuid)> {
        let mut forgotten = Vec::new();
        let requests = self.requests;
        self.held.retain(|partition, held| {
            let is_wanted = held.wanted_in == requests;
            if !is_wanted {
                forgotten.push((partition.clone(), held.topic_id));
            }
            is_wanted
        });
        forgotten
    }
}

impl FetchRoom {
    /// A Fetch that the broker may or may not have carried out: its session is not to be counted on.
    pub(super) fn handle_lost_fetch(
        &mut self,
        now: Now,
        broker: BrokerId,
        asked: Vec<Asked>,
        error: Option<&CallError>,
    ) {
        if let Some(session) = self.sessions.get_mut(&broker) {
            session.handle_lost();
        }
        let asked = self.current(asked);
        match error {
            Some(error) => self.handle_call_error(now, &asked, error),
            None => self.handle_unanswered(now, asked),
        }
    }

    pub(super) fn handle_refused_fetch(
        &mut self,
        now: Now,
        broker: BrokerId,
        was_incremental: bool,
        asked: Vec<Asked>,
        code: ErrorCode,
    ) {
        if let Some(session) = self.sessions.get_mut(&broker) {
            session.handle_refused(code);
        }
        // Brokers evict sessions and forget them with a restart: everything is named at once again.
        if was_incremental && is_session_lost(code) {
            return;
        }
        for asked in self.current(asked) {
            self.handle_refusal(now, &asked.partition, Some(&asked), code);
        }
    }

    /// An answer that came too late for its reader still counts for the session: the broker will not
    /// say the same again.
    pub(super) fn remember_watermarks(
        &mut self,
        broker: BrokerId,
        asked: &Asked,
        data: &PartitionData,
    ) {
        if let Some(session) = self.sessions.get_mut(&broker) {
            session.handle_watermarks(&asked.partition, watermarks(data));
        }
    }

    /// Partitions of which there is nothing new: what the broker said before still holds.
    pub(super) fn handle_unchanged(&mut self, now: Now, broker: BrokerId, left_out: Vec<Asked>) {
        for asked in left_out {
            let session = self.sessions.get_mut(&broker);
            let known = session.and_then(|session| {
                let known = session.watermarks(&asked.partition);
                if known.is_none() {
                    // The broker has never said anything of it, so the two sides do not agree.
                    session.handle_lost();
                }
                known
            });
            match known {
                Some(known) => {
                    self.handle_success(&asked);
                    self.inbox
                        .handle_fetched(now, &asked.partition, known, None);
                }
                None => self.handle_unanswered(now, [asked]),
            }
        }
    }
}

/// Whether `code` says that the broker has no such session, or has it otherwise: a full request is
/// all that it takes.
fn is_session_lost(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
            | ErrorCode::INVALID_FETCH_SESSION_EPOCH
            | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
    )
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(INITIAL_EPOCH + 1)
}
