//! What goes wrong with a group: when, and how it is done.

use super::{GROUP, NODES, SPAN_US, World, group};
use tidewatch_broker::{Effect, Match, NodeId, Times};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::ApiKey;

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strike {
    /// A member comes.
    Come,
    /// A member closes.
    Leave,
    /// A member is gone without a word.
    Crash,
    /// A member's reader does not come for a while, at times longer than it may.
    Hang,
    CoordinatorMove,
    Restart,
    LostFrames,
    LateFrames,
    CutBefore,
    CutAfter,
    Error,
    ErrorAfter,
}

impl Strike {
    pub(super) const ALL: [Self; 12] = [
        Self::Come,
        Self::Leave,
        Self::Crash,
        Self::Hang,
        Self::CoordinatorMove,
        Self::Restart,
        Self::LostFrames,
        Self::LateFrames,
        Self::CutBefore,
        Self::CutAfter,
        Self::Error,
        Self::ErrorAfter,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Come => "Come",
            Self::Leave => "Leave",
            Self::Crash => "Crash",
            Self::Hang => "Hang",
            Self::CoordinatorMove => "CoordinatorMove",
            Self::Restart => "Restart",
            Self::LostFrames => "LostFrames",
            Self::LateFrames => "LateFrames",
            Self::CutBefore => "CutBefore",
            Self::CutAfter => "CutAfter",
            Self::Error => "Error",
            Self::ErrorAfter => "ErrorAfter",
        }
    }
}

/// Every kind once, then at random; soonest last.
pub(super) fn schedule(
    count: usize,
    start_us: u64,
    random: &mut fastrand::Rng,
) -> Vec<(u64, Strike)> {
    let mut kinds: Vec<Strike> = Strike::ALL.into_iter().take(count).collect();
    while kinds.len() < count {
        kinds.push(Strike::ALL[random.usize(0..Strike::ALL.len())]);
    }
    let spread = kinds
        .into_iter()
        .map(|kind| (start_us + random.u64(0..SPAN_US), kind));
    let mut schedule: Vec<_> = spread.collect();
    schedule.sort_by_key(|(at_us, _)| std::cmp::Reverse(*at_us));
    schedule
}

impl World {
    pub(super) fn strike_due(&mut self) {
        let now_us = self.stage.now.monotonic_us;
        while let Some((_, kind)) = self.schedule.pop_if(|(at_us, _)| *at_us <= now_us) {
            self.stage.note(|| format!("trouble: {kind:?}"));
            self.strike(kind);
            *self.counts.entry(kind.name()).or_default() += 1;
        }
    }

    fn strike(&mut self, kind: Strike) {
        match kind {
            Strike::Come => self.come(),
            Strike::Leave => self.leave(),
            Strike::Crash => self.crash(),
            Strike::Hang => self.hang(),
            Strike::CoordinatorMove => {
                let node = NodeId(self.stage.random.i32(1..=i32::from(NODES)));
                self.stage.cluster.move_coordinator(GROUP, node);
            }
            Strike::Restart => self.stop_a_node(),
            Strike::LostFrames | Strike::LateFrames => {
                let links = self.stage.network.connected();
                if let Some(link) = self.stage.random.choice(links) {
                    match kind {
                        Strike::LostFrames => self.stage.network.black_hole(link),
                        _ => {
                            let until_us = self.stage.now.monotonic_us + 2_000_000;
                            self.stage.slow_links.push((until_us, link));
                        }
                    }
                }
            }
            Strike::CutBefore => self.inject(Effect::CutBefore),
            Strike::CutAfter => self.inject(Effect::CutAfter),
            Strike::Error => {
                let (api, code) = self.error();
                let effect = Effect::Error(code);
                self.stage
                    .cluster
                    .inject(Match::api(api), effect, Times::Next(1));
            }
            Strike::ErrorAfter => {
                let (api, code) = self.error();
                let effect = Effect::ErrorAfter(code);
                self.stage
                    .cluster
                    .inject(Match::api(api), effect, Times::Next(1));
            }
        }
    }

    fn inject(&mut self, effect: Effect) {
        let api = self.api();
        self.stage
            .cluster
            .inject(Match::api(api), effect, Times::Next(1));
    }

    fn api(&mut self) -> ApiKey {
        let apis = [
            ApiKey::JoinGroup,
            ApiKey::SyncGroup,
            ApiKey::Heartbeat,
            ApiKey::OffsetCommit,
            ApiKey::OffsetFetch,
            ApiKey::FindCoordinator,
            ApiKey::Fetch,
        ];
        apis[self.stage.random.usize(0..apis.len())]
    }

    /// What a coordinator may say to a member at any time.
    fn error(&mut self) -> (ApiKey, ErrorCode) {
        let member = [
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::REBALANCE_IN_PROGRESS,
        ];
        let any = [
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ];
        let apis = [
            ApiKey::JoinGroup,
            ApiKey::SyncGroup,
            ApiKey::Heartbeat,
            ApiKey::OffsetCommit,
            ApiKey::OffsetFetch,
        ];
        let random = &mut self.stage.random;
        let api = apis[random.usize(0..apis.len())];
        let is_of_member = !matches!(api, ApiKey::OffsetFetch | ApiKey::JoinGroup);
        let code = match is_of_member && random.bool() {
            true => member[random.usize(0..member.len())],
            false => any[random.usize(0..any.len())],
        };
        (api, code)
    }

    /// The last member stays: somebody has to read.
    fn some_member(&mut self) -> Option<usize> {
        let staying = self
            .members
            .iter()
            .filter(|member| member.leaving.is_none());
        if staying.count() < 2 {
            return None;
        }
        let at = self.stage.random.usize(0..self.members.len());
        self.members[at].leaving.is_none().then_some(at)
    }

    fn leave(&mut self) {
        if let Some(at) = self.some_member() {
            let member = &mut self.members[at];
            member.giving_up = None;
            member.inbox.settle();
            let request = self.command(at, group::Command::Unsubscribe);
            self.members[at].leaving = Some(request);
        }
    }

    fn crash(&mut self) {
        if let Some(at) = self.some_member() {
            let member = self.members.remove(at);
            let core = &mut self.stage.clients[member.client].core;
            core.close_consumer(self.stage.now, member.room);
        }
    }

    fn hang(&mut self) {
        let at = self.stage.random.usize(0..self.members.len());
        let for_us = self.stage.random.u64(100_000..20_000_000);
        self.members[at].hangs_until_us = self.stage.now.monotonic_us + for_us;
    }

    fn stop_a_node(&mut self) {
        // One at a time: with two of three away, acks=all may rightly wait for ever.
        if !self.stopped.is_empty() {
            return;
        }
        let node = NodeId(self.stage.random.i32(1..=i32::from(NODES)));
        let now = self.stage.broker_now();
        if self.stage.cluster.stop_node(now, node).is_ok() {
            let away_us = self.stage.random.u64(50_000..3_000_000);
            let until_us = self.stage.now.monotonic_us + away_us;
            self.stopped.push((until_us, node));
        }
    }

    pub(super) fn start_due(&mut self) {
        let now_us = self.stage.now.monotonic_us;
        while let Some((_, node)) = self.stopped.pop_if(|(at_us, _)| *at_us <= now_us) {
            let now = self.stage.broker_now();
            let started = self.stage.cluster.start_node(now, node);
            started.expect("it was stopped");
        }
    }
}
