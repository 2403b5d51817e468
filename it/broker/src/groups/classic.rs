//! The membership of one classic group: who joins, who leads, which generation holds. Kafka's
//! `ClassicGroup` and the parts of its coordinator that drive it.

use super::member::{Joined, Joining, Member, Pending, Ticket};
use crate::now::Now;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use tidewatch_protocol::error_code::ErrorCode;

/// Members of one group, those that only asked for an id included (`group.max.size` is unbounded in
/// Kafka).
const MAX_MEMBERS: usize = 1000;
/// A member that is new may wait this long for its first generation (Kafka's own limit).
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 300_000;

/// Where the group stands.
///
/// ```text
///            a member joins              all are there, or the time is over
///   Empty ──────────────────▶ Preparing ───────────────────────────────────▶ Completing
///     ▲                         │  ▲  ▲                                          │
///     │ no member is left       │  │  └── a member joins anew, leaves, is lost ──┤
///     └─────────────────────────┘  │                                             │ the leader
///                                  └──────────────── Stable ◀────────────────────┘ assigns
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Empty,
    Preparing {
        until: Now,
        /// The first members wait a while for more (`group.initial.rebalance.delay.ms`), as long as
        /// more keep coming and no longer than this in all.
        initial_ms_left: Option<i32>,
    },
    Completing,
    Stable,
}

impl Phase {
    /// As DescribeGroups and ListGroups name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing { .. } => "PreparingRebalance",
            Self::Completing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// What a JoinGroup comes to at once.
#[derive(Debug)]
pub(crate) enum JoinStep {
    Answer(Joined),
    /// For the member of this id.
    Wait(String, Ticket),
}

/// What a SyncGroup comes to at once.
#[derive(Debug)]
pub(crate) enum SyncStep {
    Answer(Bytes),
    Wait(Ticket),
}

/// A member that knocked: the first JoinGroup only gets it an id (KIP-394).
#[derive(Debug)]
pub(crate) struct Knock {
    pub(crate) member_id: String,
    /// Where the member has no id yet: one that nobody else has.
    pub(crate) fresh_id: String,
    /// From version 4 on a member must come back with its id.
    pub(crate) must_know_id: bool,
    /// From version 9 on a returning leader can be told to skip the assignment (KIP-814).
    pub(crate) can_skip: bool,
    pub(crate) joining: Joining,
}

/// The membership of one group.
#[derive(Debug, Clone)]
pub(crate) struct ClassicGroup {
    pub(crate) phase: Phase,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    statics: BTreeMap<String, String>,
    /// Ids that were given out and not used yet, and until when.
    pending: BTreeMap<String, Now>,
    pending_sync: BTreeSet<String>,
    sync_until: Now,
    newcomers: bool,
    initial_delay_ms: i32,
    last_ticket: u64,
}

impl ClassicGroup {
    pub(crate) fn new(initial_delay_ms: i32) -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            sync_until: Now::default(),
            newcomers: false,
            initial_delay_ms,
            last_ticket: 0,
        }
    }

    /// Nobody is here and nobody is expected.
    pub(crate) fn is_deserted(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    /// JoinGroup.
    pub(crate) fn join(&mut self, now: Now, knock: Knock) -> Result<JoinStep, JoinRefused> {
        self.check_protocols(&knock.joining)?;
        if knock.member_id.is_empty() {
            return self.join_without_id(now, knock);
        }
        if self.pending.remove(&knock.member_id).is_some() {
            return Ok(self.add(now, knock.member_id, knock.joining));
        }
        self.check_member(&knock.member_id, knock.joining.instance_id.as_deref())?;
        Ok(self.rejoin(now, knock.member_id, knock.joining)?)
    }

    fn join_without_id(&mut self, now: Now, knock: Knock) -> Result<JoinStep, JoinRefused> {
        let instance = knock.joining.instance_id.clone();
        if let Some(old) = instance
            .as_ref()
            .and_then(|id| self.statics.get(id))
            .cloned()
        {
            return Ok(self.replace_static(now, &old, knock)?);
        }
        if self.members.len() + self.pending.len() >= MAX_MEMBERS {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED.into());
        }
        if instance.is_none() && knock.must_know_id {
            let until = now.after_ms(knock.joining.session_timeout_ms);
            self.pending.insert(knock.fresh_id.clone(), until);
            return Err(JoinRefused {
                code: ErrorCode::MEMBER_ID_REQUIRED,
                member_id: knock.fresh_id,
            });
        }
        Ok(self.add(now, knock.fresh_id, knock.joining))
    }

    fn check_protocols(&self, joining: &Joining) -> Result<(), ErrorCode> {
        let is_consistent = if self.members.is_empty() {
            !joining.protocol_type.is_empty() && !joining.protocols.is_empty()
        } else {
            let mut names = joining.protocols.iter().map(|(name, _)| name);
            self.protocol_type.as_ref() == Some(&joining.protocol_type)
                && names.any(|name| self.all_support(name))
        };
        is_consistent
            .then_some(())
            .ok_or(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
    }

    fn all_support(&self, protocol: &str) -> bool {
        let supports = |member: &Member| {
            let mut protocols = member.joining.protocols.iter();
            protocols.any(|(name, _)| name == protocol)
        };
        self.members.values().all(supports)
    }

    /// Whether such a member is here: what every request but the first JoinGroup must pass.
    pub(crate) fn check_member(&self, id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            return match self.statics.get(instance) {
                None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(known) if known != id => Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => Ok(()),
            };
        }
        match self.members.contains_key(id) {
            true => Ok(()),
            false => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    fn add(&mut self, now: Now, id: String, joining: Joining) -> JoinStep {
        if let Some(instance) = &joining.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.protocol_type
            .get_or_insert_with(|| joining.protocol_type.clone());
        self.leader.get_or_insert_with(|| id.clone());
        self.newcomers = true;
        let ticket = self.next_ticket();
        let member = Member {
            joining,
            assignment: Bytes::new(),
            join: Pending::Waiting(ticket),
            sync: Pending::None,
            is_new: true,
            expires: now.after_ms(NEW_MEMBER_JOIN_TIMEOUT_MS),
        };
        self.members.insert(id.clone(), member);
        self.rebalance(now);
        JoinStep::Wait(id, ticket)
    }

    fn rejoin(&mut self, now: Now, id: String, joining: Joining) -> Result<JoinStep, ErrorCode> {
        let is_leader = self.leader.as_ref() == Some(&id);
        let known = self.members.get(&id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let is_same = known.joining.protocols == joining.protocols;
        let goes_on = match self.phase {
            Phase::Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Phase::Preparing { .. } => false,
            // Its answer was lost: it gets the same again.
            Phase::Completing => is_same,
            Phase::Stable => is_same && !is_leader,
        };
        if goes_on {
            if let Some(member) = self.members.get_mut(&id) {
                member.refresh(now);
            }
            let of_leader = is_leader && self.phase == Phase::Completing;
            return Ok(JoinStep::Answer(self.joined(&id, of_leader)));
        }
        let ticket = self.next_ticket();
        if let Some(member) = self.members.get_mut(&id) {
            member.joining = joining;
            member.join = Pending::Waiting(ticket);
        }
        self.rebalance(now);
        Ok(JoinStep::Wait(id, ticket))
    }

    /// A static member came back without its id: it takes the old one's place (KIP-345).
    fn replace_static(&mut self, now: Now, old: &str, knock: Knock) -> Result<JoinStep, ErrorCode> {
        let id = knock.fresh_id;
        let mut member = self
            .members
            .remove(old)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let was_leader = self.leader.as_deref() == Some(old);
        let ticket = self.next_ticket();
        member.joining = knock.joining;
        member.join = Pending::Waiting(ticket);
        member.sync = Pending::None;
        member.refresh(now);
        if let Some(instance) = &member.joining.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.pending_sync.remove(old);
        self.members.insert(id.clone(), member);
        if was_leader {
            self.leader = Some(id.clone());
        }
        if self.phase == Phase::Stable && self.select_protocol() == self.protocol {
            if let Some(member) = self.members.get_mut(&id) {
                member.join = Pending::None;
            }
            let skips = was_leader && knock.can_skip;
            let mut joined = self.joined(&id, skips);
            joined.skip_assignment = skips;
            if was_leader && !knock.can_skip {
                // An old client that found itself leader would assign anew.
                joined.leader = old.to_owned();
            }
            return Ok(JoinStep::Answer(joined));
        }
        self.rebalance(now);
        Ok(JoinStep::Wait(id, ticket))
    }

    /// Begins a rebalance, or completes the one that is under way if this was what it waited for.
    fn rebalance(&mut self, now: Now) {
        match self.phase {
            Phase::Empty => {
                let timeout_ms = self.rebalance_timeout_ms();
                let first_ms = self.initial_delay_ms.min(timeout_ms);
                self.newcomers = false;
                self.phase = Phase::Preparing {
                    until: now.after_ms(first_ms),
                    initial_ms_left: Some(timeout_ms.saturating_sub(first_ms)),
                };
                // Without a delay it completes at once, as Kafka's does with the first member.
                if first_ms == 0 {
                    self.complete_join(now);
                }
            }
            Phase::Completing | Phase::Stable => self.prepare(now),
            Phase::Preparing { .. } => {}
        }
        self.try_complete_join(now);
    }

    fn prepare(&mut self, now: Now) {
        for member in self.members.values_mut() {
            if member.sync.is_waiting() {
                // The wait kept it alive without heartbeats.
                member.refresh(now);
            }
            member.sync.answer(|| Err(ErrorCode::REBALANCE_IN_PROGRESS));
            if self.phase == Phase::Completing {
                member.assignment = Bytes::new();
            }
        }
        self.pending_sync.clear();
        self.phase = Phase::Preparing {
            until: now.after_ms(self.rebalance_timeout_ms()),
            initial_ms_left: None,
        };
    }

    /// Completes when everybody is there; the first members of a group are waited for by time alone.
    fn try_complete_join(&mut self, now: Now) {
        let all_joined =
            self.pending.is_empty() && self.members.values().all(|member| member.join.is_waiting());
        if let Phase::Preparing {
            initial_ms_left: None,
            ..
        } = self.phase
            && all_joined
        {
            self.complete_join(now);
        }
    }

    fn complete_join(&mut self, now: Now) {
        let absent = |member: &Member| !member.join.is_waiting();
        let gone: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| absent(member) && member.joining.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.members.remove(&id);
        }
        let has_joined = |id: &String| self.members.get(id).is_some_and(|m| !absent(m));
        if !self.leader.as_ref().is_some_and(has_joined) {
            let joined = self.members.iter().find(|(_, member)| !absent(member));
            match joined {
                Some((id, _)) => self.leader = Some(id.clone()),
                // Only static members are left, and none of them came: they are waited for.
                None if !self.members.is_empty() => return self.prepare(now),
                None => self.leader = None,
            }
        }
        self.generation = self.generation.saturating_add(1);
        if self.members.is_empty() {
            self.protocol = None;
            self.protocol_type = None;
            self.phase = Phase::Empty;
            return;
        }
        self.protocol = self.select_protocol();
        self.phase = Phase::Completing;
        self.sync_until = now.after_ms(self.rebalance_timeout_ms());
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id, self.leader.as_ref() == Some(&id));
            if let Some(member) = self.members.get_mut(&id) {
                member.join.answer(|| joined);
                member.is_new = false;
                member.refresh(now);
            }
            self.pending_sync.insert(id);
        }
    }

    fn joined(&self, id: &str, with_members: bool) -> Joined {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().filter(|_| with_members);
        let members = members.map(|(id, member)| {
            let instance = member.joining.instance_id.clone();
            (id.clone(), instance, member.metadata(protocol))
        });
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.to_owned(),
            members: members.collect(),
            skip_assignment: false,
        }
    }

    /// Each member votes for the first of its protocols that all have.
    fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut names = member.joining.protocols.iter().map(|(name, _)| name);
            if let Some(name) = names.find(|name| self.all_support(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.into_iter().rev().max_by_key(|(_, count)| *count);
        most.map(|(name, _)| name.to_owned())
    }

    /// SyncGroup; the leader's brings everybody's assignment.
    pub(crate) fn sync(
        &mut self,
        now: Now,
        id: &str,
        assignments: Vec<(String, Bytes)>,
    ) -> Result<SyncStep, ErrorCode> {
        match self.phase {
            Phase::Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Phase::Preparing { .. } => return Err(ErrorCode::REBALANCE_IN_PROGRESS),
            Phase::Completing | Phase::Stable => {}
        }
        let ticket = self.next_ticket();
        self.pending_sync.remove(id);
        let member = self
            .members
            .get_mut(id)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        member.refresh(now);
        if self.phase == Phase::Stable {
            return Ok(SyncStep::Answer(member.assignment.clone()));
        }
        member.sync = Pending::Waiting(ticket);
        if self.leader.as_deref() == Some(id) {
            let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
            self.phase = Phase::Stable;
            for (id, member) in &mut self.members {
                member.assignment = assignments.remove(id).unwrap_or_default();
                let assignment = member.assignment.clone();
                member.sync.answer(|| Ok(assignment));
                member.refresh(now);
            }
        }
        Ok(SyncStep::Wait(ticket))
    }

    /// Heartbeat of a member that was checked.
    pub(crate) fn heartbeat(
        &mut self,
        now: Now,
        id: &str,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let member = self
            .members
            .get_mut(id)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        member.refresh(now);
        match self.phase {
            Phase::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Phase::Preparing { .. } => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            Phase::Completing | Phase::Stable => Ok(()),
        }
    }

    /// A member leaves; a static one can be named by its instance alone.
    pub(crate) fn leave(
        &mut self,
        now: Now,
        id: &str,
        instance: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if self.pending.remove(id).is_some() {
            self.try_complete_join(now);
            return Ok(());
        }
        let id = match instance.and_then(|instance| self.statics.get(instance)) {
            Some(known) if id.is_empty() => known.clone(),
            _ => {
                self.check_member(id, instance)?;
                id.to_owned()
            }
        };
        self.remove(now, &id);
        Ok(())
    }

    /// Takes a member out. Whatever it waits for is answered by its absence.
    fn remove(&mut self, now: Now, id: &str) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        if let Some(instance) = &member.joining.instance_id {
            self.statics.remove(instance);
        }
        self.pending_sync.remove(id);
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.rebalance(now);
    }

    /// What an OffsetCommit must pass. A member's commit is a sign of life too.
    pub(crate) fn check_commit(
        &mut self,
        now: Now,
        id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if generation < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        if generation < 0 && id.is_empty() && instance.is_none() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.check_member(id, instance)?;
        if generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        if self.phase == Phase::Completing {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        if let Some(member) = self.members.get_mut(id) {
            member.refresh(now);
        }
        Ok(())
    }

    /// Whatever time brings; whether it brought anything.
    pub(crate) fn handle_time(&mut self, now: Now) -> bool {
        let mut changed = false;
        let known = self.pending.len();
        self.pending.retain(|_, until| !now.reached(*until));
        if self.pending.len() < known {
            self.try_complete_join(now);
            changed = true;
        }
        let over = |member: &Member| member.deadline().is_some_and(|at| now.reached(at));
        let lost: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| over(member))
            .map(|(id, _)| id.clone())
            .collect();
        for id in lost {
            self.remove(now, &id);
            changed = true;
        }
        match self.phase {
            Phase::Preparing {
                until,
                initial_ms_left,
            } if now.reached(until) => {
                changed = true;
                match initial_ms_left {
                    Some(left) if left > 0 && std::mem::take(&mut self.newcomers) => {
                        let wait_ms = self.initial_delay_ms.min(left);
                        self.phase = Phase::Preparing {
                            until: now.after_ms(wait_ms),
                            initial_ms_left: Some(left.saturating_sub(wait_ms)),
                        };
                    }
                    _ => self.complete_join(now),
                }
            }
            Phase::Completing | Phase::Stable
                if !self.pending_sync.is_empty() && now.reached(self.sync_until) =>
            {
                changed = true;
                for id in std::mem::take(&mut self.pending_sync) {
                    self.remove(now, &id);
                }
            }
            _ => {}
        }
        changed
    }

    /// When [`handle_time`](Self::handle_time) has something to do at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        let members = self.members.values().filter_map(Member::deadline);
        let phase = match self.phase {
            Phase::Preparing { until, .. } => Some(until),
            Phase::Completing | Phase::Stable if !self.pending_sync.is_empty() => {
                Some(self.sync_until)
            }
            _ => None,
        };
        members
            .chain(self.pending.values().copied())
            .chain(phase)
            .min_by_key(|at| at.monotonic_us)
    }

    /// Another node takes the group over. It knows the members and the generation from the log;
    /// what they waited for at the old one is answered there.
    pub(crate) fn move_over(&mut self, now: Now) {
        for member in self.members.values_mut() {
            member.join = Pending::None;
            member.sync = Pending::None;
            member.is_new = false;
            member.refresh(now);
        }
        self.pending.clear();
        match self.phase {
            Phase::Completing | Phase::Preparing { .. } => self.prepare(now),
            Phase::Empty | Phase::Stable => {}
        }
    }

    fn rebalance_timeout_ms(&self) -> i32 {
        let timeouts = self.members.values();
        let longest = timeouts
            .map(|member| member.joining.rebalance_timeout_ms)
            .max();
        longest.unwrap_or(0)
    }

    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket = self.last_ticket.wrapping_add(1);
        Ticket(self.last_ticket)
    }
}

/// A JoinGroup that was refused; with MEMBER_ID_REQUIRED comes the id to join with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinRefused {
    pub(crate) code: ErrorCode,
    pub(crate) member_id: String,
}

impl From<ErrorCode> for JoinRefused {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            member_id: String::new(),
        }
    }
}
