//! What befalls the processes of the loop.

use super::{LONGEST_TROUBLE_US, Loops};
use crate::simulation::faults::Kind;

/// There are always two.
const LEAST_MEMBERS: usize = 2;

impl Loops {
    pub(super) fn strike(&mut self, kind: Kind) {
        let done = match kind {
            Kind::Join => {
                self.come();
                true
            }
            Kind::Leave => self.leave(),
            Kind::Crash => self.crash(),
            Kind::Zombie => self.succeed(),
            Kind::Pause => self.pause(),
            _ => self.hold_up(),
        };
        match done {
            true => self.trial.counts.add(kind),
            false => self.trial.put_off(kind),
        }
    }

    /// A process that stands under its transactional id, and awake.
    fn somebody(&mut self) -> Option<usize> {
        let awake = |at: &usize| {
            let copier = &self.copiers[*at];
            let stage = &self.trial.stage;
            copier.is_member() && stage.frozen_until_us(copier.client()).is_none()
        };
        let members: Vec<usize> = (0..self.copiers.len()).filter(awake).collect();
        self.trial.stage.random.choice(members)
    }

    fn leave(&mut self) -> bool {
        let members = self.copiers.iter().filter(|copier| copier.is_member());
        if members.count() + self.reopening.len() <= LEAST_MEMBERS {
            self.come();
        }
        let Some(at) = self.somebody() else {
            return false;
        };
        self.copiers[at].leave(&mut self.trial);
        true
    }

    /// Gone without a word; its successor comes now or later.
    fn crash(&mut self) -> bool {
        let Some(at) = self.somebody() else {
            return false;
        };
        let copier = self.copiers.remove(at);
        copier.tally(&mut self.tally);
        self.trial.kill(copier.client());
        let away_us = match self.trial.stage.random.bool() {
            true => 0,
            false => self.trial.stage.random.u64(0..LONGEST_TROUBLE_US),
        };
        let at_us = self.trial.stage.now.monotonic_us + away_us;
        self.reopening.push((at_us, copier.id));
        self.reopening
            .sort_by_key(|(at_us, _)| std::cmp::Reverse(*at_us));
        true
    }

    /// Another process has its transactional id from now on, and it knows nothing of that.
    fn succeed(&mut self) -> bool {
        let Some(at) = self.somebody() else {
            return false;
        };
        let copier = &mut self.copiers[at];
        copier.is_zombie = true;
        let id = copier.id;
        self.open(id);
        true
    }

    fn pause(&mut self) -> bool {
        let Some(at) = self.somebody() else {
            return false;
        };
        let client = self.copiers[at].client();
        let stage = &mut self.trial.stage;
        let for_us = stage.random.u64(100_000..LONGEST_TROUBLE_US);
        stage.freeze(client, stage.now.monotonic_us + for_us);
        true
    }

    fn hold_up(&mut self) -> bool {
        let Some(at) = self.somebody() else {
            return false;
        };
        let stage = &mut self.trial.stage;
        let for_us = stage.random.u64(100_000..LONGEST_TROUBLE_US);
        self.copiers[at].hold_up_until(stage.now.monotonic_us + for_us);
        true
    }
}
