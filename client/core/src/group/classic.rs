//! A member of a classic group: it joins, leads if it is told to, keeps its place by heartbeats, gives
//! partitions up and takes them, and leaves.
//!
//! What it wants of the others it says by facts. Partitions are given up in two steps: the fetching
//! room is asked, the reader sees to it (and may commit), and only then the member goes on.

mod asking;
mod leading;
mod leaving;
mod replies;

use super::assignor::{Assignor, PartitionCounts, RebalanceProtocol, Strategy, common_protocol};
use super::requests;
use crate::backoff::Backoff;
use crate::call::{
    Fact, GroupMetadata, OffsetAndMetadata, Outcome, RequestId, RevokeHow, TopicPartition,
};
use crate::error::Error;
use crate::metadata::Cluster;
use crate::options::ConsumerOptions;
use crate::pulse::Pulse;
use crate::time::{Now, Timer};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Where the member stands.
///
/// ```text
///           subscribe, or the reader is back         answered: leader      topics are known
///     Out ───────────────────────────────────▶ Joining ───────────▶ Assigning ──────────┐
///      ▲                                        ▲ ▲ │ answered: follower                │
///      │ left, fenced, refused                  │ │ └───────────────────────────────▶ Syncing
///      │                    what is to be given │ │ rebalance in progress               │ │
///      │                    up is given up      │ └─────────────────────────────────────┘ │
///   Leaving ◀──── leave ─────────────────────── Member ◀──────────── assigned ────────────┘
/// ```
#[derive(Debug)]
enum State {
    /// In no group.
    Out(Out),
    /// A JoinGroup is under way or due.
    Joining,
    /// It leads, and waits until it knows the topics.
    Assigning {
        members: Vec<super::assignor::GroupMember>,
        until_us: u64,
    },
    /// A SyncGroup is under way or due; the leader's has everybody's assignment.
    Syncing(Vec<(String, Bytes)>),
    /// It has its assignment. If a rebalance is wanted it first gives up what it must.
    Member,
    /// It gives everything up, then tells the group.
    Leaving(RequestId),
}

/// Why it is in no group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Out {
    /// It does not want to be.
    Unsubscribed,
    /// Its reader did not come for `max.poll.interval.ms`.
    Overdue,
    /// It cannot be, and the reader was told.
    Failed,
}

/// A request under way, so that late answers are known as such.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flight {
    number: u64,
    generation_id: i32,
    member_id: Arc<str>,
}

/// Who may commit what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stamp {
    /// As this member in this generation; who is no member has generation -1.
    As(GroupMetadata),
    /// Not now: the next generation is being made.
    NotYet,
    /// Never: the partitions were given up, or never had.
    Gone,
}

/// What the member wants of the group's offsets.
#[derive(Debug)]
pub(super) enum Errand {
    /// Comes back with its number.
    LookUp(u64, Vec<TopicPartition>),
    Commit(Vec<(TopicPartition, OffsetAndMetadata)>),
}

/// A member of a classic group.
#[derive(Debug)]
pub(super) struct Member {
    consumer: u32,
    options: ConsumerOptions,
    pulse: Arc<Pulse>,
    assignors: Vec<Box<dyn Assignor>>,
    protocol: RebalanceProtocol,
    standing: GroupMetadata,
    state: State,
    topics: Vec<Arc<str>>,
    /// Its partitions, and at which change of them each came.
    owned: BTreeMap<TopicPartition, u64>,
    changes: u64,
    /// Why a rebalance is wanted.
    rejoin: Option<&'static str>,
    is_prepared: bool,
    /// Asked to be given up.
    revoking: Option<Vec<TopicPartition>>,
    /// How often that was, so that a late answer is known as such.
    rounds: u64,
    /// Commits of its own that are under way.
    committing: usize,
    /// Assigned, and not handed on before their offsets are known.
    looking_up: Option<Vec<TopicPartition>>,
    /// How often it looked offsets up, so that what is found for an earlier assignment is known.
    look_ups: u64,
    is_leader: bool,
    /// The protocol that the group agreed on.
    strategy: String,
    /// What the leader assigned, to see when topics change.
    counts: PartitionCounts,
    /// Topics of others that the leader needs to know.
    foreign_topics: BTreeSet<Arc<str>>,
    /// Committed by itself last, so that it does not repeat itself.
    committed: BTreeMap<TopicPartition, i64>,
    flight: Option<Flight>,
    beat: Option<Flight>,
    leave: Option<requests::Leave>,
    leave_flight: Option<u64>,
    next_beat_us: u64,
    retry_at_us: Option<u64>,
    look_up_at_us: Option<u64>,
    commit_at_us: u64,
    /// How often the reader had come when it was last asked how far it is, and all of that committed.
    commit_polls: Option<u64>,
    polls: u64,
    polled_us: u64,
    backoff: Backoff,
    random: fastrand::Rng,
    facts: VecDeque<Fact>,
    errands: VecDeque<Errand>,
    finished: VecDeque<(RequestId, Result<Outcome, Error>)>,
}

impl Member {
    /// Of no group yet.
    pub(super) fn new(
        consumer: u32,
        options: ConsumerOptions,
        pulse: Arc<Pulse>,
        seed: u64,
    ) -> Self {
        let (initial_ms, max_ms) = options.retry_backoff_ms;
        let assignors: Vec<_> = options.assignors.iter().map(Strategy::make).collect();
        let standing = GroupMetadata {
            group_id: options.group_id.as_deref().unwrap_or_default().into(),
            generation_id: -1,
            member_id: Arc::from(""),
            group_instance_id: options.group_instance_id.as_deref().map(Arc::from),
        };
        Self {
            consumer,
            protocol: common_protocol(&assignors).unwrap_or(RebalanceProtocol::Eager),
            assignors,
            pulse,
            standing,
            state: State::Out(Out::Unsubscribed),
            topics: Vec::new(),
            owned: BTreeMap::new(),
            changes: 0,
            rejoin: None,
            is_prepared: false,
            revoking: None,
            rounds: 0,
            committing: 0,
            looking_up: None,
            look_ups: 0,
            is_leader: false,
            strategy: String::new(),
            counts: PartitionCounts::new(),
            foreign_topics: BTreeSet::new(),
            committed: BTreeMap::new(),
            flight: None,
            beat: None,
            leave: None,
            leave_flight: None,
            next_beat_us: 0,
            retry_at_us: None,
            look_up_at_us: None,
            commit_at_us: 0,
            commit_polls: None,
            polls: 0,
            polled_us: 0,
            backoff: Backoff::new(initial_ms, max_ms),
            random: fastrand::Rng::with_seed(seed),
            facts: VecDeque::new(),
            errands: VecDeque::new(),
            finished: VecDeque::new(),
            options,
        }
    }

    /// Becomes a member that wants these topics, or changes what it wants.
    ///
    /// # Errors
    /// Options that no member can have.
    pub(super) fn subscribe(&mut self, now: Now, mut topics: Vec<Arc<str>>) -> Result<(), Error> {
        let refuse = |why: &str| {
            let why = format!("failed to subscribe: {why}");
            Err(Error::Usage(why))
        };
        if self.standing.group_id.is_empty() {
            return refuse("the consumer has no group.id");
        }
        if self.assignors.is_empty() || common_protocol(&self.assignors).is_none() {
            return refuse(
                "the assignors of partition.assignment.strategy have no rebalance protocol in common",
            );
        }
        if topics.is_empty() || topics.iter().any(|topic| topic.is_empty()) {
            return refuse("name at least one topic, and none that is empty");
        }
        topics.sort_unstable();
        topics.dedup();
        let old = std::mem::replace(&mut self.topics, topics);
        let new = self.topics.iter().filter(|topic| !old.contains(topic));
        let new: Vec<Arc<str>> = new.cloned().collect();
        if !new.is_empty() {
            self.facts.push_back(Fact::TopicsWanted(new));
        }
        let dropped = old.iter().filter(|topic| !self.topics.contains(topic));
        let dropped: Vec<Fact> = dropped.cloned().map(Fact::TopicUnwanted).collect();
        self.facts.extend(dropped);
        self.polled_us = now.monotonic_us;
        match self.state {
            State::Out(_) => self.start_joining(),
            _ if old != self.topics => self.want_rejoin("the subscription changed"),
            _ => {}
        }
        Ok(())
    }

    /// As its group knows it.
    pub(super) fn standing(&self) -> &GroupMetadata {
        &self.standing
    }

    /// Grows with every change of what it has: a commit asked for at one of them is of what it had
    /// then.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether, and as whom, `partitions` may be committed; it was asked for at the change `asked`.
    pub(super) fn stamp(&self, partitions: &[TopicPartition], asked: u64, own: bool) -> Stamp {
        if matches!(self.state, State::Out(Out::Unsubscribed)) {
            return Stamp::As(GroupMetadata {
                generation_id: -1,
                member_id: Arc::from(""),
                group_instance_id: None,
                ..self.standing.clone()
            });
        }
        let has = |partition: &TopicPartition| {
            let since = self.owned.get(partition);
            since.is_some_and(|since| *since <= asked)
        };
        if self.standing.generation_id < 0 || !(own || partitions.iter().all(has)) {
            return Stamp::Gone;
        }
        match self.state {
            State::Member | State::Leaving(_) => Stamp::As(self.standing.clone()),
            _ => Stamp::NotYet,
        }
    }

    /// What other rooms said.
    pub(super) fn handle_fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Revoked { consumer, round }
                if *consumer == self.consumer && *round == self.rounds =>
            {
                for partition in self.revoking.take().unwrap_or_default() {
                    self.owned.remove(&partition);
                    self.committed.remove(&partition);
                }
                self.changes += 1;
            }
            Fact::Delivered {
                consumer,
                positions,
            } if *consumer == self.consumer => self.commit_delivered(positions),
            _ => {}
        }
    }

    /// The leader rejoins when the topics of its group change.
    fn watch_topics(&mut self, cluster: &Cluster) {
        if !self.is_leader || !matches!(self.state, State::Member) {
            return;
        }
        let changed = leading::group_topics(&self.topics, &self.foreign_topics).any(|topic| {
            let known = cluster.partition_count(topic);
            known.is_some() && known != self.counts.get(topic).copied()
        });
        if changed {
            self.want_rejoin("the partitions of a topic changed");
        }
    }

    fn commit_delivered(&mut self, positions: &[(TopicPartition, OffsetAndMetadata)]) {
        if !self.options.auto_commit || self.standing.generation_id < 0 {
            return;
        }
        let moved = positions.iter().filter(|(partition, position)| {
            self.owned.contains_key(partition)
                && self.committed.get(partition) != Some(&position.offset)
        });
        let moved: Vec<_> = moved.cloned().collect();
        if !moved.is_empty() {
            self.committing += 1;
            self.errands.push_back(Errand::Commit(moved));
        }
    }

    /// The end of [`Errand::Commit`].
    pub(super) fn handle_committed(&mut self, offsets: Option<Vec<(TopicPartition, i64)>>) {
        self.committing = self.committing.saturating_sub(1);
        if offsets.is_none() {
            self.commit_polls = None;
        }
        for (partition, offset) in offsets.unwrap_or_default() {
            if self.owned.contains_key(&partition) {
                self.committed.insert(partition, offset);
            }
        }
    }

    /// The end of [`Errand::LookUp`].
    pub(super) fn handle_looked_up(
        &mut self,
        now: Now,
        number: u64,
        found: Result<Outcome, Error>,
    ) {
        let Some(wanted) = self.looking_up.as_ref().filter(|_| number == self.look_ups) else {
            return;
        };
        match found {
            Ok(Outcome::Offsets(offsets)) => {
                let of = |partition: &TopicPartition| {
                    let mut offsets = offsets.iter();
                    let found = offsets.find(|(of, _)| of == partition);
                    found
                        .map(|(_, offset)| offset.clone())
                        .filter(|o| o.offset >= 0)
                };
                let positions = wanted.iter().map(|p| (p.clone(), of(p))).collect();
                self.looking_up = None;
                self.hand_on(positions);
            }
            Ok(_) => self.look_up_later(now),
            Err(error) => {
                if !error.is_retriable() {
                    self.tell(error);
                }
                self.look_up_later(now);
            }
        }
    }

    fn look_up_later(&mut self, now: Now) {
        let wait_us = self.backoff.next_us(&mut self.random);
        self.look_up_at_us = Some(now.monotonic_us.saturating_add(wait_us));
    }

    fn hand_on(&mut self, partitions: Vec<(TopicPartition, Option<OffsetAndMetadata>)>) {
        self.facts.push_back(Fact::Assigned {
            consumer: self.consumer,
            partitions: partitions.into(),
            member: self.standing.clone(),
        });
    }

    fn tell(&mut self, error: Error) {
        self.facts.push_back(Fact::MembershipFailed {
            consumer: self.consumer,
            error,
        });
    }

    /// Whatever time brings, and whatever can go on by now.
    pub(super) fn handle_time(&mut self, now: Now, cluster: &Cluster) {
        self.retry_at_us.take_if(|at_us| *at_us <= now.monotonic_us);
        self.watch_reader(now);
        if let Some(wanted) = &self.looking_up
            && self
                .look_up_at_us
                .take_if(|at_us| *at_us <= now.monotonic_us)
                .is_some()
        {
            let look_up = Errand::LookUp(self.look_ups, wanted.clone());
            self.errands.push_back(look_up);
        }
        self.watch_topics(cluster);
        if matches!(self.state, State::Member) && self.rejoin.is_some() {
            self.prepare();
        }
        if self.wants_auto_commit() && self.commit_at_us <= now.monotonic_us {
            self.commit_at_us = now.monotonic_us.saturating_add(self.auto_commit_us());
            self.commit_polls = Some(self.pulse.polls());
            let consumer = self.consumer;
            self.facts.push_back(Fact::PositionsWanted { consumer });
        }
        self.poll_assigning(now, cluster);
        self.poll_leaving();
    }

    /// Past `max.poll.interval.ms` the member leaves once; it rejoins when the reader is back (line
    /// 31).
    fn watch_reader(&mut self, now: Now) {
        let polls = self.pulse.polls();
        if polls != self.polls || self.pulse.is_waiting() {
            self.polls = polls;
            self.polled_us = now.monotonic_us;
            if matches!(self.state, State::Out(Out::Overdue)) {
                self.start_joining();
            }
        }
        let is_in = !matches!(self.state, State::Out(_) | State::Leaving(_));
        if is_in && self.overdue_at_us() <= now.monotonic_us {
            self.pulse.set_wanted();
            if self.pulse.polls() == self.polls {
                self.say_goodbye("max.poll.interval.ms has passed without a poll");
                self.lose(true);
                self.state = State::Out(Out::Overdue);
            }
        }
    }

    fn overdue_at_us(&self) -> u64 {
        let limit_us = self.options.max_poll_interval_ms.saturating_mul(1000);
        self.polled_us.saturating_add(limit_us)
    }

    /// Nothing counts as delivered before the reader comes for more: while it does not, no timer runs.
    fn wants_auto_commit(&self) -> bool {
        let is_free = matches!(self.state, State::Member) && self.committing == 0;
        let has_come = self.commit_polls != Some(self.pulse.polls());
        self.options.auto_commit && is_free && has_come && !self.owned.is_empty()
    }

    fn auto_commit_us(&self) -> u64 {
        self.options.auto_commit_interval_ms.saturating_mul(1000)
    }

    /// Gives up what must be given up before the JoinGroup, and goes on once it is.
    fn prepare(&mut self) {
        // The reader knows nothing of these yet: there is nothing to give up.
        for partition in self.looking_up.take().unwrap_or_default() {
            self.owned.remove(&partition);
        }
        if self.revoking.is_some() || self.committing > 0 {
            return;
        }
        if !self.is_prepared {
            self.is_prepared = true;
            let keeps = |partition: &TopicPartition| {
                self.protocol == RebalanceProtocol::Cooperative
                    && self.topics.contains(&partition.topic)
            };
            let leaving = self.owned.keys().filter(|partition| !keeps(partition));
            let leaving: Vec<_> = leaving.cloned().collect();
            self.revoke(leaving, RevokeHow::Ask);
            if self.revoking.is_some() {
                return;
            }
        }
        self.start_joining();
    }

    fn start_joining(&mut self) {
        self.state = State::Joining;
        self.is_prepared = false;
        self.is_leader = false;
        self.flight = None;
    }

    fn want_rejoin(&mut self, why: &'static str) {
        self.rejoin.get_or_insert(why);
        if matches!(self.state, State::Assigning { .. } | State::Syncing(_)) {
            self.state = State::Member;
        }
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>, how: RevokeHow) {
        if partitions.is_empty() {
            return;
        }
        self.rounds += 1;
        self.facts.push_back(Fact::Revoking {
            consumer: self.consumer,
            partitions: partitions.clone().into(),
            how,
            round: self.rounds,
        });
        self.revoking = Some(partitions);
    }

    /// What it has and has handed on.
    fn told(&self) -> Vec<TopicPartition> {
        let held_back = self.looking_up.as_deref().unwrap_or_default();
        let told = self.owned.keys().filter(|p| !held_back.contains(p));
        told.cloned().collect()
    }

    /// The coordinator has forgotten it: its partitions are others' by now.
    fn lose(&mut self, forget_id: bool) {
        self.standing.generation_id = -1;
        if forget_id {
            self.standing.member_id = Arc::from("");
        }
        let told = self.told();
        self.looking_up = None;
        self.flight = None;
        self.committed.clear();
        if let State::Leaving(_) = self.state {
            return;
        }
        self.owned.clear();
        self.changes += 1;
        self.revoke(told, RevokeHow::Lost);
        self.rejoin
            .get_or_insert("the coordinator does not know the member");
        self.is_prepared = true;
        self.state = State::Member;
    }

    /// It can be no member any more.
    fn fail(&mut self, error: Error) {
        self.lose(true);
        match self.state {
            State::Leaving(_) => {}
            _ => {
                self.tell(error);
                self.rejoin = None;
                self.state = State::Out(Out::Failed);
            }
        }
    }

    fn poll_assigning(&mut self, now: Now, cluster: &Cluster) {
        let State::Assigning { members, until_us } = &mut self.state else {
            return;
        };
        let wanted = leading::wanted_topics(members);
        let mut unknown = wanted
            .iter()
            .filter(|topic| !cluster.topics.contains_key(*topic));
        if unknown.next().is_some() && *until_us > now.monotonic_us {
            return;
        }
        let members = std::mem::take(members);
        self.counts = leading::counts(&wanted, cluster);
        let assignor = self.assignors.iter().find(|a| a.name() == self.strategy);
        let assignments = assignor.map(|assignor| {
            leading::plan_assignment(&**assignor, self.protocol, &self.counts, &members)
        });
        self.state = State::Syncing(assignments.unwrap_or_default());
    }

    /// Topics of others that this leader must know about, and those it need not any more.
    fn want_foreign(&mut self, members: &[super::assignor::GroupMember]) {
        let mut foreign = leading::wanted_topics(members);
        foreign.retain(|topic| !self.topics.contains(topic));
        let new: Vec<_> = foreign.difference(&self.foreign_topics).cloned().collect();
        if !new.is_empty() {
            self.facts.push_back(Fact::TopicsWanted(new));
        }
        let old = self.foreign_topics.difference(&foreign).cloned();
        self.facts.extend(old.map(Fact::TopicUnwanted));
        self.foreign_topics = foreign;
    }

    /// What the group's offsets are wanted for next.
    pub(super) fn poll_errand(&mut self) -> Option<Errand> {
        self.errands.pop_front()
    }

    /// What the others should know.
    pub(super) fn poll_fact(&mut self) -> Option<Fact> {
        self.facts.pop_front()
    }

    /// A request of the user that is finished.
    pub(super) fn poll_finished(&mut self) -> Option<(RequestId, Result<Outcome, Error>)> {
        self.finished.pop_front()
    }

    /// When to look again.
    pub(super) fn poll_timeout(&self) -> Option<(u64, Timer)> {
        let is_in = !matches!(self.state, State::Out(_) | State::Leaving(_));
        let beat = (self.beats() && self.beat.is_none()).then_some(self.next_beat_us);
        let commit = self.wants_auto_commit().then_some(self.commit_at_us);
        let assigning = match &self.state {
            State::Assigning { until_us, .. } => Some(*until_us),
            _ => None,
        };
        let timers = [
            (self.retry_at_us, Timer::Retry),
            (self.look_up_at_us, Timer::Retry),
            (beat, Timer::Heartbeat),
            (is_in.then(|| self.overdue_at_us()), Timer::MaxPollInterval),
            (commit, Timer::AutoCommit),
            (assigning, Timer::Retry),
        ];
        let timers = timers.into_iter();
        timers
            .filter_map(|(at_us, timer)| Some((at_us?, timer)))
            .min()
    }
}
