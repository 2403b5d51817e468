//! One consumer's fetching: positions, long polls, what was fetched and not yet read.
//!
//! A broker has one Fetch at a time in flight, on a lane of its own. The next goes out while the
//! reader still reads: a partition may have [`MAX_UNREAD_PIECES`] pieces waiting. A partition beyond
//! that holds its broker's next Fetch back for up to `fetch.max.wait.ms`, because a long poll that
//! leaves a busy partition out would keep it waiting for the idle ones.

mod aborted;
mod assignment;
mod buffer;
mod closing;
pub mod inbox;
mod listing;
mod position;
pub mod records;
mod request;
mod response;
mod rewind;
mod session;
#[cfg(test)]
mod tests;
mod validation;

pub use position::{OffsetSpec, Start};

use crate::backoff::Backoff;
use crate::call::{
    BrokerId, Call, CallId, Fact, Outcome, Permits, Reply, RequestId, Room, RoomId, Serve,
    TopicPartition,
};
use crate::error::{CallError, Error};
use crate::metadata::Cluster;
use crate::options::{ConsumerOptions, OffsetReset};
use crate::time::{Now, Timer};
use closing::Parting;
use inbox::Inbox;
use listing::Listings;
use position::{FetchPosition, Partition, State};
use session::Session;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;

/// Pieces of one partition that may wait to be read: one in the reader's hands and the next.
pub const MAX_UNREAD_PIECES: usize = 2;

/// What a user asks of this room.
#[derive(Debug)]
pub enum Command {
    /// Reads exactly these partitions from now on, each from where it says.
    Assign(Vec<(TopicPartition, Start)>),
    /// Reads these as well; one that is assigned already begins anew.
    AssignMore(Vec<(TopicPartition, Start)>),
    /// Reads these no longer.
    Unassign(Vec<TopicPartition>),
    /// Reads on elsewhere.
    Seek(Vec<(TopicPartition, Start)>),
    /// Delivers nothing of these before they are resumed; what was fetched is kept.
    Pause(Vec<TopicPartition>),
    /// Ends a pause.
    Resume(Vec<TopicPartition>),
    /// Reads every partition on from where the group has committed; from where it was begun to be
    /// read, while the group has committed nothing. Nothing from before is delivered once this is
    /// finished; the look-up goes on behind it.
    Rewind,
    /// Looks offsets up; they need not be of assigned partitions. Finishes with
    /// [`Outcome::Offsets`].
    ListOffsets(Vec<(TopicPartition, OffsetSpec)>),
}

/// One consumer's fetching: positions, long polls, what was fetched and not yet read.
#[derive(Debug)]
pub struct FetchRoom {
    room: u32,
    options: ConsumerOptions,
    inbox: Arc<Inbox>,
    random: fastrand::Rng,
    cluster: Arc<Cluster>,
    partitions: BTreeMap<TopicPartition, Partition>,
    flights: BTreeMap<u64, Flight>,
    /// By broker. A new one begins with its first Fetch.
    sessions: BTreeMap<BrokerId, Session>,
    listings: Listings,
    /// Once the consumer is closed.
    partings: Option<Vec<Parting>>,
    /// Brokers whose next Fetch waits for partitions to be read, and since when.
    held_since_us: BTreeMap<BrokerId, u64>,
    /// The earliest end of such a wait.
    held_until_us: Option<u64>,
    /// What the reader is asked to give up, by the round of asking.
    leaving: BTreeMap<u64, Arc<[TopicPartition]>>,
    facts: VecDeque<Fact>,
    finished: VecDeque<(RequestId, Result<Outcome, Error>)>,
    metadata_is_stale: bool,
    next_call: u64,
    next_epoch: u64,
    next_served: u64,
    /// How often the group was asked where to go back to.
    rewinds: u64,
}

/// A call under way.
#[derive(Debug)]
struct Flight {
    broker: BrokerId,
    asks: Asks,
    asked: Vec<Asked>,
}

#[derive(Debug, Clone, Copy)]
enum Asks {
    /// For records.
    Fetch {
        /// The response may be this large.
        max_bytes: usize,
        /// It may leave out what has not changed (KIP-227).
        is_incremental: bool,
    },
    /// Where to begin.
    ListOffsets,
    /// Whether a new leader's log holds what was read.
    OffsetForLeaderEpoch,
    /// It only tells that the session is over.
    Nothing,
}

/// A partition in a call.
#[derive(Debug, Clone)]
struct Asked {
    partition: TopicPartition,
    topic_id: uuid::Uuid,
    /// The cursor's epoch: an answer to an older one is dropped.
    epoch: u64,
    /// The offset asked for; of no meaning in ListOffsets.
    offset: i64,
    /// The leader and its epoch as they were known.
    leader: (BrokerId, i32),
}

impl FetchRoom {
    /// Nothing assigned yet. `inbox` is the reader's side.
    pub fn new(room: u32, options: ConsumerOptions, inbox: Arc<Inbox>, seed: u64) -> Self {
        Self {
            room,
            listings: Listings::new(&options),
            options,
            inbox,
            random: fastrand::Rng::with_seed(seed),
            cluster: Arc::default(),
            partitions: BTreeMap::new(),
            flights: BTreeMap::new(),
            sessions: BTreeMap::new(),
            partings: None,
            held_since_us: BTreeMap::new(),
            held_until_us: None,
            leaving: BTreeMap::new(),
            facts: VecDeque::new(),
            finished: VecDeque::new(),
            metadata_is_stale: false,
            next_call: 0,
            next_epoch: 0,
            next_served: 0,
            rewinds: 0,
        }
    }
}

impl Serve<Command> for FetchRoom {
    fn handle_command(&mut self, now: Now, request: RequestId, command: Command) {
        self.take_reports(now);
        let done = match command {
            Command::Assign(wanted) => {
                let leaving = self.partitions.keys();
                let leaving = leaving.filter(|old| wanted.iter().all(|(new, _)| new != *old));
                let leaving: Vec<_> = leaving.cloned().collect();
                check_starts(&wanted).map(|()| {
                    self.assign(wanted);
                    self.unassign(&leaving);
                })
            }
            Command::AssignMore(wanted) => check_starts(&wanted).map(|()| self.assign(wanted)),
            Command::Unassign(partitions) => {
                self.unassign(&partitions);
                Ok(())
            }
            Command::Seek(wanted) => self.seek(wanted),
            Command::Pause(partitions) => self.set_paused(&partitions, true),
            Command::Resume(partitions) => self.set_paused(&partitions, false),
            Command::Rewind => self.rewind(),
            Command::ListOffsets(wanted) => return self.list_offsets(now, request, &wanted),
        };
        self.finished
            .push_back((request, done.map(|()| Outcome::Done)));
    }

    fn handle_parting(&mut self) {
        self.part();
    }

    fn has_parted(&self) -> bool {
        self.is_parted()
    }
}

impl FetchRoom {
    fn assign(&mut self, wanted: Vec<(TopicPartition, Start)>) {
        let mut topics: Vec<Arc<str>> = Vec::new();
        for (partition, start) in wanted {
            let is_new = !self.partitions.contains_key(&partition);
            if is_new && !self.reads_topic(&partition.topic) {
                topics.push(Arc::clone(&partition.topic));
            }
            if is_new {
                let (initial_ms, max_ms) = self.options.retry_backoff_ms;
                let backoff = Backoff::new(initial_ms, max_ms);
                self.partitions
                    .insert(partition.clone(), Partition::new(backoff));
            }
            self.begin(&partition, start);
        }
        if !topics.is_empty() {
            self.facts.push_back(Fact::TopicsWanted(topics));
        }
    }

    fn unassign(&mut self, leaving: &[TopicPartition]) {
        for partition in leaving {
            let Some(entry) = self.partitions.remove(partition) else {
                continue;
            };
            self.next_epoch += 1;
            self.inbox.remove(partition, &entry.cursor, self.next_epoch);
            if !self.reads_topic(&partition.topic) {
                self.facts
                    .push_back(Fact::TopicUnwanted(Arc::clone(&partition.topic)));
            }
        }
    }

    fn reads_topic(&self, topic: &str) -> bool {
        self.partitions.keys().any(|known| &*known.topic == topic)
    }

    fn seek(&mut self, wanted: Vec<(TopicPartition, Start)>) -> Result<(), Error> {
        check_starts(&wanted)?;
        self.check_assigned("seek", wanted.iter().map(|(partition, _)| partition))?;
        for (partition, start) in wanted {
            self.begin(&partition, start);
        }
        Ok(())
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) -> Result<(), Error> {
        let doing = if paused { "pause" } else { "resume" };
        self.check_assigned(doing, partitions)?;
        for partition in partitions {
            if let Some(entry) = self.partitions.get(partition) {
                self.inbox.set_paused(partition, &entry.cursor, paused);
            }
        }
        Ok(())
    }

    fn check_assigned<'a>(
        &self,
        doing: &str,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<(), Error> {
        let unknown = partitions
            .into_iter()
            .find(|partition| !self.partitions.contains_key(*partition));
        match unknown {
            Some(partition) => Err(Error::Usage(format!(
                "failed to {doing} {partition}: it is not assigned to this consumer"
            ))),
            None => Ok(()),
        }
    }

    /// Begins a new epoch of `partition`: nothing that was fetched or asked for before counts.
    fn begin(&mut self, partition: &TopicPartition, start: Start) {
        let state = match (start, self.options.offset_reset) {
            (Start::Offset(offset), _) => State::Fetching(FetchPosition::at(offset)),
            (
                Start::Committed {
                    offset,
                    leader_epoch,
                },
                _,
            ) => State::Fetching(FetchPosition {
                offset,
                leader_epoch,
            }),
            (Start::Timestamp(ms), _) => State::Seeking(OffsetSpec::Timestamp(ms)),
            (Start::Earliest, _) | (Start::Reset, OffsetReset::Earliest) => {
                State::Seeking(OffsetSpec::Earliest)
            }
            (Start::Latest, _) | (Start::Reset, OffsetReset::Latest) => {
                State::Seeking(OffsetSpec::Latest)
            }
            (Start::Reset, OffsetReset::None) => State::Parked,
        };
        self.restart(partition, state);
        if let State::Fetching(position) = state
            && let Some(entry) = self.partitions.get_mut(partition)
        {
            entry.origin = Some(position);
        }
        if state == State::Parked {
            let why = format!(
                "failed to fetch {partition}: it has no committed offset and auto.offset.reset is \
                 none; seek to an offset or choose earliest or latest"
            );
            self.inbox.tell(partition, Error::Usage(why));
        }
    }

    fn restart(&mut self, partition: &TopicPartition, state: State) {
        let Some(entry) = self.partitions.get_mut(partition) else {
            return;
        };
        self.next_epoch += 1;
        entry.restart(self.next_epoch, state);
        let position = match state {
            State::Fetching(position) => Some(position),
            _ => None,
        };
        let cursor = &entry.cursor;
        self.inbox
            .restart(partition, cursor, self.next_epoch, position);
    }

    fn list_offsets(
        &mut self,
        now: Now,
        request: RequestId,
        wanted: &[(TopicPartition, OffsetSpec)],
    ) {
        let negative = wanted
            .iter()
            .find(|(_, spec)| matches!(spec, OffsetSpec::Timestamp(ms) if *ms < 0));
        if let Some((partition, _)) = negative {
            let why = format!("failed to look up an offset of {partition}: the time is negative");
            return self.finished.push_back((request, Err(Error::Usage(why))));
        }
        let topics = self.listings.handle_request(now, request, wanted);
        if !topics.is_empty() {
            self.facts.push_back(Fact::TopicsWanted(topics));
        }
    }

    /// What the reader could not read is fetched again, from the position and after a backoff.
    fn take_reports(&mut self, now: Now) {
        self.take_given_up();
        for report in self.inbox.take_unreadable() {
            let Some(entry) = self.partitions.get(&report.partition) else {
                continue;
            };
            let standing = entry.cursor.standing();
            let Some(offset) = standing.position else {
                continue;
            };
            if entry.epoch != report.epoch || standing.epoch != report.epoch {
                continue;
            }
            // Failures add up for as long as the position does not move.
            let moved = entry.broken_at != Some(offset);
            let (backoff, validated_by) = (entry.backoff.clone(), entry.validated_by);
            let position = FetchPosition {
                offset,
                leader_epoch: standing.leader_epoch,
            };
            self.restart(&report.partition, State::Fetching(position));
            if let Some(entry) = self.partitions.get_mut(&report.partition) {
                entry.validated_by = validated_by;
                entry.broken_at = Some(offset);
                if !moved {
                    entry.backoff = backoff;
                }
                entry.back_off(now, &mut self.random);
            }
        }
    }

    /// Whatever time brings.
    fn handle_time(&mut self, now: Now) {
        self.take_reports(now);
        self.expire(now);
        self.judge_leaderless(now);
    }

    /// Waits that are over, and what they were for.
    fn expire(&mut self, now: Now) {
        let reset = match self.options.offset_reset {
            OffsetReset::Earliest => Some(OffsetSpec::Earliest),
            OffsetReset::Latest => Some(OffsetSpec::Latest),
            OffsetReset::None => None,
        };
        let mut out_of_range = Vec::new();
        for (partition, entry) in &mut self.partitions {
            let is_over = |until_us: &mut u64| *until_us <= now.monotonic_us;
            entry.retry_at_us.take_if(is_over);
            entry
                .follower
                .take_if(|follower| follower.until_us <= now.monotonic_us);
            // What was fetched before it is good and is delivered first.
            if let State::OutOfRange(offset) = entry.state
                && entry.is_idle()
                && entry.cursor.unread() == 0
            {
                out_of_range.push((partition.clone(), offset));
            }
        }
        for (partition, offset) in out_of_range {
            let Some(spec) = reset else {
                self.park(&partition, offset);
                continue;
            };
            let backoff = self.partitions.get(&partition).map(|e| e.backoff.clone());
            self.restart(&partition, State::Seeking(spec));
            if let (Some(entry), Some(backoff)) = (self.partitions.get_mut(&partition), backoff) {
                entry.backoff = backoff;
            }
        }
        self.listings.expire(now);
    }

    fn park(&mut self, partition: &TopicPartition, offset: i64) {
        if let Some(entry) = self.partitions.get_mut(partition) {
            entry.state = State::Parked;
        }
        let error = Error::Broker {
            doing: format!("fetch {partition} at {offset}"),
            code: ErrorCode::OFFSET_OUT_OF_RANGE,
            message: Some("auto.offset.reset is none: seek to an offset that exists".to_owned()),
        };
        self.inbox.tell(partition, error);
    }

    fn take_call_number(&mut self) -> CallId {
        self.next_call += 1;
        CallId {
            room: RoomId::Fetch(self.room),
            number: self.next_call,
        }
    }
}

impl Room for FetchRoom {
    fn handle_fact(&mut self, now: Now, fact: &Fact) {
        self.take_reports(now);
        let Fact::ClusterChanged(cluster) = fact else {
            return self.handle_group_fact(fact);
        };
        self.cluster = Arc::clone(cluster);
        self.sessions
            .retain(|broker, _| cluster.brokers.contains_key(broker));
        for (partition, entry) in &mut self.partitions {
            let leader = cluster.leader(&partition.topic, partition.partition);
            if leader.is_some() && entry.refused_by.is_some_and(|refused| leader != refused) {
                entry.refused_by = None;
                entry.retry_at_us = None;
            }
        }
        self.listings.handle_cluster(cluster);
    }

    fn handle_reply(&mut self, now: Now, id: CallId, reply: Result<Reply, CallError>) {
        self.take_reports(now);
        match self.flights.remove(&id.number) {
            Some(flight) => self.handle_flight_end(now, id.number, flight, reply),
            None => {
                let random = &mut self.random;
                self.listings.handle_reply(now, id.number, reply, random);
            }
        }
    }

    fn poll_call(&mut self, now: Now, permits: &Permits) -> Option<Call> {
        if self.partings.is_some() {
            return self.poll_parting(now);
        }
        self.handle_time(now);
        self.poll_seek(now, permits)
            .or_else(|| self.poll_listing(now, permits))
            .or_else(|| self.poll_fetch(now, permits))
            // Last, because looking for what to fetch shows what is to be validated first.
            .or_else(|| self.poll_validation(now, permits))
    }

    fn poll_fact(&mut self, now: Now) -> Option<Fact> {
        self.handle_time(now);
        if let Some(fact) = self.facts.pop_front() {
            return Some(fact);
        }
        let is_stale = std::mem::take(&mut self.metadata_is_stale)
            | std::mem::take(&mut self.listings.metadata_is_stale);
        is_stale.then_some(Fact::MetadataStale)
    }

    fn poll_finished(&mut self) -> Option<(RequestId, Result<Outcome, Error>)> {
        if let Some(ended) = self.listings.poll_finished() {
            let unwanted = ended.unwanted.into_iter().map(Fact::TopicUnwanted);
            self.facts.extend(unwanted);
            self.finished.push_back((ended.request, ended.end));
        }
        self.finished.pop_front()
    }

    fn poll_timeout(&self) -> Option<(u64, Timer)> {
        let retries = self
            .partitions
            .values()
            .filter_map(|entry| entry.retry_at_us);
        retries
            .chain(self.held_until_us)
            .chain(self.listings.poll_timeout())
            .min()
            .map(|at_us| (at_us, Timer::Retry))
    }
}

impl Drop for FetchRoom {
    /// The reader hears of it.
    fn drop(&mut self) {
        self.inbox.close();
    }
}

fn check_starts(wanted: &[(TopicPartition, Start)]) -> Result<(), Error> {
    let wrong = wanted.iter().find(|(_, start)| match start {
        Start::Offset(at) | Start::Timestamp(at) | Start::Committed { offset: at, .. } => *at < 0,
        _ => false,
    });
    match wrong {
        Some((partition, start)) => Err(Error::Usage(format!(
            "failed to begin to read {partition} at {start:?}: it is negative"
        ))),
        None => Ok(()),
    }
}
