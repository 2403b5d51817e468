//! How what goes wrong is done to the network and the cluster.

use super::{TOPIC, Trial, errors};
use crate::simulation::faults::Kind;
use tidewatch_broker::{Effect, Match, NodeId, Times};
use tidewatch_protocol::messages::ApiKey;

impl Trial {
    /// Strikes what is due, and hands back what befalls members.
    pub(super) fn strike_due(&mut self) -> Vec<Kind> {
        let now_us = self.stage.now.monotonic_us;
        let mut of_members = Vec::new();
        while let Some((_, kind)) = self.schedule.pop_if(|(at_us, _)| *at_us <= now_us) {
            self.stage.note(|| format!("fault {kind:?}"));
            self.troubled_us = now_us;
            match self.strike(kind) {
                Struck::Done => self.counts.add(kind),
                Struck::Waits => {}
                Struck::Later => self.put_off(kind),
                Struck::OfMembers => of_members.push(kind),
            }
        }
        of_members
    }

    /// It cannot happen at this moment: a little later.
    pub(in crate::simulation) fn put_off(&mut self, kind: Kind) {
        let at_us = self.stage.now.monotonic_us + 20_000;
        self.schedule.push((at_us, kind));
        self.schedule
            .sort_by_key(|(at_us, _)| std::cmp::Reverse(*at_us));
    }

    fn strike(&mut self, kind: Kind) -> Struck {
        let api = self.target();
        match kind {
            Kind::LostFrames | Kind::LateFrames => self.strike_a_link(kind),
            Kind::CutBefore => self.inject(kind, api, Effect::CutBefore),
            Kind::CutAfter => self.inject(kind, api, Effect::CutAfter),
            Kind::Error => {
                let code = self.one_of(errors::before(api));
                self.inject(kind, api, Effect::Error(code))
            }
            Kind::ErrorAfter => {
                // A Fetch changes nothing, and who is told of a strange member has none.
                let api = match api {
                    ApiKey::Fetch => ApiKey::Produce,
                    api => api,
                };
                let code = self.one_of(errors::after(api));
                self.inject(kind, api, Effect::ErrorAfter(code))
            }
            Kind::Throttle => {
                let throttle_ms = self.stage.random.i32(1..300);
                self.inject(kind, api, Effect::Throttle(throttle_ms))
            }
            Kind::LostEnd => {
                let effects = [Effect::CutAfter, Effect::HangAfter];
                let effect = self.one_of(&effects);
                self.inject(kind, ApiKey::EndTxn, effect)
            }
            Kind::LeaderMove => self.move_a_leader(),
            Kind::GroupMove => {
                let keys = self.groups.clone();
                self.move_a_coordinator(&keys)
            }
            Kind::TransactionMove => {
                let keys = self.transactional_ids.clone();
                self.move_a_coordinator(&keys)
            }
            Kind::Restart => self.stop_a_node(),
            Kind::Hung => self.hang_a_node(),
            Kind::Crash | Kind::Zombie | Kind::Pause | Kind::Join | Kind::Leave | Kind::Slow => {
                Struck::OfMembers
            }
        }
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.stage.random.usize(0..choices.len())]
    }

    fn target(&mut self) -> ApiKey {
        let targets = &self.targets;
        targets[self.stage.random.usize(0..targets.len())]
    }

    fn a_node(&mut self) -> NodeId {
        NodeId(self.stage.random.i32(1..=i32::from(self.plan.nodes)))
    }

    fn inject(&mut self, kind: Kind, api: ApiKey, effect: Effect) -> Struck {
        let matches = Match::api(api);
        let id = self.stage.cluster.inject(matches, effect, Times::Next(1));
        self.injected.push((id, kind));
        Struck::Waits
    }

    fn strike_a_link(&mut self, kind: Kind) -> Struck {
        let mut links = self.stage.network.connected();
        links.retain(|link| !self.stage.network.is_black_hole(*link));
        // Nobody is connected at this moment?
        let Some(link) = self.stage.random.choice(links) else {
            return Struck::Later;
        };
        if kind == Kind::LostFrames {
            self.stage.network.black_hole(link);
        } else {
            let until_us = self.stage.now.monotonic_us + 500_000;
            self.stage.slow_links.push((until_us, link));
        }
        Struck::Done
    }

    fn move_a_leader(&mut self) -> Struck {
        let partition = self.stage.random.i32(self.partitions());
        let (now, node) = (self.stage.broker_now(), self.a_node());
        let cluster = &mut self.stage.cluster;
        match cluster.move_leader(now, TOPIC, partition, node) {
            Ok(()) => Struck::Done,
            Err(_) => Struck::Later,
        }
    }

    fn move_a_coordinator(&mut self, keys: &[String]) -> Struck {
        let node = self.a_node();
        let Some(key) = self.stage.random.choice(keys) else {
            return Struck::Later;
        };
        self.stage.note(|| format!("{node} coordinates {key}"));
        self.stage.cluster.move_coordinator(key, node);
        Struck::Done
    }

    /// One at a time: with two of three away, acks=all may rightly wait for ever.
    fn stop_a_node(&mut self) -> Struck {
        if !self.is_up() {
            return Struck::Later;
        }
        let (now, node) = (self.stage.broker_now(), self.a_node());
        self.stage
            .cluster
            .stop_node(now, node)
            .expect("it is one of the nodes");
        let away_us = self.stage.random.u64(50_000..1_500_000);
        self.stopped
            .push((self.stage.now.monotonic_us + away_us, node));
        Struck::Done
    }

    fn hang_a_node(&mut self) -> Struck {
        if !self.is_up() {
            return Struck::Later;
        }
        let matches = Match::any().at(self.a_node());
        let cluster = &mut self.stage.cluster;
        let id = cluster.inject(matches, Effect::HangBefore, Times::Always);
        let hangs_us = self.stage.random.u64(100_000..4_000_000);
        self.hung.push((self.stage.now.monotonic_us + hangs_us, id));
        Struck::Done
    }

    /// Troubles that are over.
    pub(super) fn end_due(&mut self) {
        let (now, now_us) = (self.stage.broker_now(), self.stage.now.monotonic_us);
        while let Some((_, node)) = self.stopped.pop_if(|(at_us, _)| *at_us <= now_us) {
            let started = self.stage.cluster.start_node(now, node);
            started.expect("it was stopped");
            self.troubled_us = now_us;
        }
        while let Some((_, id)) = self.hung.pop_if(|(at_us, _)| *at_us <= now_us) {
            self.stage.cluster.remove_fault(id);
            self.troubled_us = now_us;
        }
    }
}

/// What came of a strike.
enum Struck {
    Done,
    /// For a request, and counts when that comes.
    Waits,
    /// Not possible now.
    Later,
    OfMembers,
}
