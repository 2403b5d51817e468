//! What goes wrong with a group's members.

use super::{Group, group};
use crate::simulation::faults::Kind;

impl Group {
    pub(super) fn strike(&mut self, kind: Kind) {
        match kind {
            Kind::Join => self.come(),
            Kind::Leave => self.leave(),
            Kind::Crash => self.crash(),
            _ => self.hang(),
        }
        self.trial.counts.add(kind);
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
        let at = self.trial.stage.random.usize(0..self.members.len());
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
            let stage = &mut self.trial.stage;
            let core = stage.clients[member.client].core();
            core.drop_consumer(stage.now, member.room);
        }
    }

    fn hang(&mut self) {
        let stage = &mut self.trial.stage;
        let at = stage.random.usize(0..self.members.len());
        let for_us = stage.random.u64(100_000..20_000_000);
        self.members[at].hangs_until_us = stage.now.monotonic_us + for_us;
    }
}
