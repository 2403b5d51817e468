//! What goes wrong in a run: when, and how it is done to the network and the cluster.

use super::{Plan, TOPIC, Trial};
use crate::simulation::faults::Kind;
use crate::simulation::stage::broker_now;
use tidewatch_broker::{Effect, Match, NodeId, Times};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::ApiKey;

impl Trial {
    pub(super) fn strike_due(&mut self) {
        while self
            .schedule
            .last()
            .is_some_and(|(at, _)| *at <= self.stage.now.monotonic_us)
        {
            let Some((_, kind)) = self.schedule.pop() else {
                return;
            };
            self.strike(kind);
        }
    }

    fn strike(&mut self, kind: Kind) {
        self.stage.note(|| format!("fault {kind:?}"));
        let api = self.target();
        match kind {
            Kind::LostFrames | Kind::LateFrames => {
                let links: Vec<_> = self
                    .stage
                    .network
                    .connected()
                    .into_iter()
                    .filter(|l| !self.stage.network.is_black_hole(*l))
                    .collect();
                let Some(link) = self.stage.random.choice(links) else {
                    // Nobody is connected at this moment: try again a little later.
                    self.reschedule(kind);
                    return;
                };
                if kind == Kind::LostFrames {
                    self.stage.network.black_hole(link);
                } else {
                    self.stage
                        .slow_links
                        .push((self.stage.now.monotonic_us + 500_000, link));
                }
                self.counts.add(kind);
            }
            Kind::CutBefore => self.inject(kind, api, Effect::CutBefore),
            Kind::CutAfter => self.inject(kind, api, Effect::CutAfter),
            Kind::Error => {
                let code = self.retriable_error(api);
                self.inject(kind, api, Effect::Error(code));
            }
            // What a broker says when it has appended and its replicas have not.
            Kind::ErrorAfter => {
                let code = if self.stage.random.bool() {
                    ErrorCode::REQUEST_TIMED_OUT
                } else {
                    ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
                };
                self.inject(kind, ApiKey::Produce, Effect::ErrorAfter(code));
            }
            Kind::Throttle => {
                let throttle_ms = self.stage.random.i32(1..300);
                self.inject(kind, api, Effect::Throttle(throttle_ms));
            }
            Kind::LeaderMove => self.move_a_leader(),
            Kind::Restart => self.stop_a_node(),
        }
    }

    fn target(&mut self) -> ApiKey {
        let (first, others) = self.targets.split_first().expect("there are targets");
        match self.stage.random.bool() {
            true => *first,
            false => self.stage.random.choice(others).copied().unwrap_or(*first),
        }
    }

    fn reschedule(&mut self, kind: Kind) {
        self.schedule
            .push((self.stage.now.monotonic_us + 20_000, kind));
        self.schedule.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    }

    fn inject(&mut self, kind: Kind, api: ApiKey, effect: Effect) {
        let id = self
            .stage
            .cluster
            .inject(Match::api(api), effect, Times::Next(1));
        self.injected.push((id, kind));
    }

    fn retriable_error(&mut self, api: ApiKey) -> ErrorCode {
        let codes: &[ErrorCode] = if !matches!(api, ApiKey::Produce | ApiKey::Fetch) {
            &[
                ErrorCode::NOT_COORDINATOR,
                ErrorCode::COORDINATOR_NOT_AVAILABLE,
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                ErrorCode::CONCURRENT_TRANSACTIONS,
            ]
        } else if api == ApiKey::Produce {
            &[
                ErrorCode::NOT_LEADER_OR_FOLLOWER,
                ErrorCode::NOT_ENOUGH_REPLICAS,
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode::KAFKA_STORAGE_ERROR,
            ]
        } else {
            &[
                ErrorCode::NOT_LEADER_OR_FOLLOWER,
                ErrorCode::REPLICA_NOT_AVAILABLE,
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode::KAFKA_STORAGE_ERROR,
                ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
                ErrorCode::INVALID_FETCH_SESSION_EPOCH,
            ]
        };
        codes[self.stage.random.usize(0..codes.len())]
    }

    fn move_a_leader(&mut self) {
        let partition = self.stage.random.i32(0..i32::from(self.plan.partitions));
        let node = NodeId(self.stage.random.i32(1..=i32::from(self.plan.nodes)));
        match self
            .stage
            .cluster
            .move_leader(broker_now(self.stage.now), TOPIC, partition, node)
        {
            Ok(()) => self.counts.add(Kind::LeaderMove),
            Err(_) => self.reschedule(Kind::LeaderMove),
        }
    }

    fn stop_a_node(&mut self) {
        // One at a time: with two of three away, acks=all may rightly wait for ever.
        if !self.stopped.is_empty() {
            self.reschedule(Kind::Restart);
            return;
        }
        let node = NodeId(self.stage.random.i32(1..=i32::from(self.plan.nodes)));
        if self
            .stage
            .cluster
            .stop_node(broker_now(self.stage.now), node)
            .is_ok()
        {
            self.counts.add(Kind::Restart);
            self.stopped.push((
                self.stage.now.monotonic_us + self.stage.random.u64(50_000..1_500_000),
                node,
            ));
        }
    }

    pub(super) fn start_due(&mut self) {
        let now = self.stage.now;
        let (due, later): (Vec<_>, Vec<_>) = self
            .stopped
            .drain(..)
            .partition(|(at, _)| *at <= now.monotonic_us);
        self.stopped = later;
        for (_, node) in due {
            self.stage
                .cluster
                .start_node(broker_now(now), node)
                .expect("it was stopped");
        }
    }
}

/// Every kind once, then at random, spread over the time in which records are sent; soonest last.
pub(super) fn schedule(plan: Plan, start_us: u64, random: &mut fastrand::Rng) -> Vec<(u64, Kind)> {
    let each = u64::from(plan.records) / plan.producers as u64;
    let span_us = each * 20_000;
    let mut kinds: Vec<_> = Kind::ALL.into_iter().take(plan.faults).collect();
    while kinds.len() < plan.faults {
        kinds.push(Kind::ALL[random.usize(0..Kind::ALL.len())]);
    }
    let mut schedule: Vec<_> = kinds
        .into_iter()
        .map(|kind| (start_us + random.u64(0..span_us), kind))
        .collect();
    schedule.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    schedule
}
