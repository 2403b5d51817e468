//! Fetch sessions (KIP-227): what a node remembers of those that fetch from it, as Kafka's
//! `FetchSessionCache` does. A session ends with its node.

use crate::api::Wanted;
use crate::now::Now;
use std::collections::BTreeMap;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::fetch_response::PartitionData;
use uuid::Uuid;

/// Kafka's `min.incremental.fetch.session.eviction.ms`: a session unused for longer gives way to any
/// other, one that has lived for longer to a larger one.
const EVICTION_US: u64 = 120_000_000;
/// Partitions in all sessions of a node together. Kafka has no such bound; whoever would exceed it is
/// served without a session.
const MAX_CACHED_PARTITIONS: usize = 100_000;

const NO_SESSION: i32 = 0;
/// Wants no session, or ends the one it names.
const FINAL_EPOCH: i32 = -1;
/// Opens a session, and ends the one it names.
const INITIAL_EPOCH: i32 = 0;
const UNKNOWN_OFFSET: i64 = -1;

/// One node's sessions.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    slots: usize,
    random: fastrand::Rng,
    sessions: BTreeMap<i32, Session>,
}

/// What a request says of sessions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionRequest {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    pub(crate) by_id: bool,
}

/// How a request is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// Everything that was asked for.
    Sessionless,
    /// The same, and remembered as a new session if there is room.
    Full { by_id: bool },
    /// What is new in this session.
    Incremental { id: i32 },
}

/// A partition's name within a session: by topic id, or by name where the request has no ids.
pub(crate) type PartitionKey = (Uuid, String, i32);

#[derive(Debug)]
struct Session {
    /// The next request's.
    epoch: i32,
    by_id: bool,
    created: Now,
    used: Now,
    next_turn: u64,
    partitions: BTreeMap<PartitionKey, Cached>,
}

#[derive(Debug)]
struct Cached {
    wanted: Wanted,
    /// As the client was told last.
    high_watermark: i64,
    log_start: i64,
    /// Who had records last comes last.
    turn: u64,
}

impl FetchSessions {
    pub(crate) fn new(slots: usize, seed: u64) -> Self {
        Self {
            slots,
            random: fastrand::Rng::with_seed(seed),
            sessions: BTreeMap::new(),
        }
    }

    /// Its node stops. Ids are drawn on from where they were: one that was given out before must not
    /// come to mean another client's session, as Kafka's random ids do not.
    pub(crate) fn forget_all(&mut self) {
        self.sessions.clear();
    }

    /// What a request is about, and how it is to be answered.
    pub(crate) fn begin(
        &mut self,
        now: Now,
        request: SessionRequest,
        wanted: Vec<Wanted>,
        forgotten: &[PartitionKey],
    ) -> Result<(Context, Vec<Wanted>), ErrorCode> {
        let SessionRequest { id, epoch, by_id } = request;
        if matches!(epoch, FINAL_EPOCH | INITIAL_EPOCH) {
            self.sessions.remove(&id);
            let context = match epoch {
                FINAL_EPOCH => Context::Sessionless,
                _ => Context::Full { by_id },
            };
            return Ok((context, wanted));
        }
        let room = MAX_CACHED_PARTITIONS.saturating_sub(self.partition_count());
        let session = self.sessions.get_mut(&id);
        let session = session.ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        if wanted.len() > room {
            self.sessions.remove(&id);
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        session.update(&wanted, forgotten);
        if session.partitions.is_empty() {
            self.sessions.remove(&id);
            return Ok((Context::Sessionless, wanted));
        }
        session.used = now;
        session.epoch = next_epoch(epoch);
        Ok((Context::Incremental { id }, session.in_turns()))
    }

    /// Leaves in `answers` what the client is to be told, and returns the session's id for it.
    pub(crate) fn finish(
        &mut self,
        now: Now,
        context: Context,
        answers: &mut Vec<(Wanted, PartitionData)>,
    ) -> i32 {
        match context {
            Context::Sessionless => NO_SESSION,
            Context::Full { by_id } => self.open(now, by_id, answers),
            Context::Incremental { id } => {
                // One that was evicted meanwhile still answers, as Kafka's does.
                if let Some(session) = self.sessions.get_mut(&id) {
                    answers.retain(|(wanted, data)| session.is_news(wanted, data));
                }
                id
            }
        }
    }

    fn open(&mut self, now: Now, by_id: bool, answers: &[(Wanted, PartitionData)]) -> i32 {
        let count = self.partition_count().saturating_add(answers.len());
        if count > MAX_CACHED_PARTITIONS || !self.make_room(now, answers.len()) {
            return NO_SESSION;
        }
        let mut session = Session {
            epoch: next_epoch(INITIAL_EPOCH),
            by_id,
            created: now,
            used: now,
            next_turn: 0,
            partitions: BTreeMap::new(),
        };
        for (wanted, data) in answers {
            session.insert(wanted, (data.high_watermark, data.log_start_offset));
        }
        let id = loop {
            let id = self.random.i32(1..);
            if !self.sessions.contains_key(&id) {
                break id;
            }
        };
        self.sessions.insert(id, session);
        id
    }

    /// Whether there is a slot for a session of so many partitions, if need be another's.
    fn make_room(&mut self, now: Now, partitions: usize) -> bool {
        if self.sessions.len() < self.slots {
            return true;
        }
        let is_over = |since: Now| now.reached(since.after_us(EVICTION_US + 1));
        let sessions = self.sessions.iter();
        let stale = sessions
            .clone()
            .min_by_key(|(_, session)| session.used.monotonic_us)
            .filter(|(_, session)| is_over(session.used));
        let smaller = || {
            sessions
                .filter(|(_, session)| is_over(session.created))
                .min_by_key(|(_, session)| session.partitions.len())
                .filter(|(_, session)| session.partitions.len() < partitions)
        };
        let Some(evicted) = stale.or_else(smaller).map(|(id, _)| *id) else {
            return false;
        };
        self.sessions.remove(&evicted);
        true
    }

    fn partition_count(&self) -> usize {
        let sessions = self.sessions.values();
        sessions.map(|session| session.partitions.len()).sum()
    }
}

impl Session {
    fn update(&mut self, wanted: &[Wanted], forgotten: &[PartitionKey]) {
        for wanted in wanted {
            match self.partitions.get_mut(&key_of(wanted, self.by_id)) {
                Some(cached) => cached.wanted = wanted.clone(),
                None => self.insert(wanted, (UNKNOWN_OFFSET, UNKNOWN_OFFSET)),
            }
        }
        for key in forgotten {
            self.partitions.remove(key);
        }
    }

    fn insert(&mut self, wanted: &Wanted, (high_watermark, log_start): (i64, i64)) {
        let cached = Cached {
            wanted: wanted.clone(),
            high_watermark,
            log_start,
            turn: self.next_turn,
        };
        self.next_turn += 1;
        self.partitions.insert(key_of(wanted, self.by_id), cached);
    }

    fn in_turns(&self) -> Vec<Wanted> {
        let mut cached: Vec<&Cached> = self.partitions.values().collect();
        cached.sort_by_key(|cached| cached.turn);
        cached.iter().map(|cached| cached.wanted.clone()).collect()
    }

    /// Whether an answer says something that the client does not know (Kafka's
    /// `CachedPartition.maybeUpdateResponseData`).
    fn is_news(&mut self, wanted: &Wanted, data: &PartitionData) -> bool {
        let Some(cached) = self.partitions.get_mut(&key_of(wanted, self.by_id)) else {
            return true;
        };
        if data.error_code != 0 {
            // Once the error is gone the client is told where the partition stands.
            cached.high_watermark = UNKNOWN_OFFSET;
            return true;
        }
        let has_records = data.records.as_ref().is_some_and(|set| !set.is_empty());
        if has_records {
            cached.turn = self.next_turn;
            self.next_turn += 1;
        }
        let known = (cached.high_watermark, cached.log_start);
        (cached.high_watermark, cached.log_start) = (data.high_watermark, data.log_start_offset);
        has_records
            || known != (data.high_watermark, data.log_start_offset)
            || data.preferred_read_replica.0 >= 0
            || data.diverging_epoch.end_offset >= 0
    }
}

fn key_of(wanted: &Wanted, by_id: bool) -> PartitionKey {
    partition_key(by_id, wanted.asked_id, &wanted.asked_name, wanted.index)
}

/// The key of a partition as a request names it.
pub(crate) fn partition_key(by_id: bool, id: Uuid, name: &str, index: i32) -> PartitionKey {
    match by_id {
        true => (id, String::new(), index),
        false => (Uuid::nil(), name.to_owned(), index),
    }
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(INITIAL_EPOCH + 1)
}
