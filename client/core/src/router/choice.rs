//! Which broker takes a call that any broker can take.

use super::Router;
use crate::call::{BrokerId, Lane};
use crate::connection::Connection;
use crate::time::Now;

impl Router {
    /// The one that can take it soonest: a connection that is open and has room; else a broker of
    /// the cluster that has not failed; else a bootstrap address; else whichever may be tried again
    /// by now. One that failed on another lane is among the last, open or not: it may hang, and would
    /// cost a whole request's timeout. `None` while all are backing off: time or news will bring
    /// another try.
    pub(super) fn choose_any(&mut self, now: Now, lane: Lane) -> Option<BrokerId> {
        self.choose(now, lane, |_| true)
    }

    /// The same among those that were not asked yet. A bootstrap address is no other broker, once
    /// brokers are known.
    pub(super) fn choose_another(
        &mut self,
        now: Now,
        lane: Lane,
        asked: &[BrokerId],
    ) -> Option<BrokerId> {
        let is_known = !self.cluster.brokers.is_empty();
        self.choose(now, lane, |id| {
            let is_same = asked.contains(&id) || (is_known && id.0 < 0);
            !is_same
        })
    }

    fn choose(
        &mut self,
        now: Now,
        lane: Lane,
        may_be: impl Fn(BrokerId) -> bool,
    ) -> Option<BrokerId> {
        let mut best: Option<(Rank, u32, usize, BrokerId)> = None;
        // Spreads clients that start at the same moment over brokers.
        let start = self.random.usize(0..self.peers.len().max(1));
        let peers = self.peers.keys().copied().filter(|id| may_be(*id));
        for id in peers.clone().skip(start).chain(peers.take(start)) {
            let connection = self.connections.get(&(id, lane)).map(|c| &**c);
            let Some(rank) = self.rank(now, id, connection) else {
                continue;
            };
            let failures = connection.map_or(0, Connection::failures);
            let load = connection.map_or(0, Connection::load);
            let candidate = (rank, failures, load, id);
            let better =
                |b: &(Rank, u32, usize, BrokerId)| (rank, failures, load) < (b.0, b.1, b.2);
            if best.as_ref().is_none_or(better) {
                best = Some(candidate);
            }
        }
        best.map(|(_, _, _, id)| id)
    }

    fn rank(&self, now: Now, id: BrokerId, connection: Option<&Connection>) -> Option<Rank> {
        let listed = self.cluster.brokers.contains_key(&id);
        let is_bootstrap = id.0 < 0;
        let is_first_contact = self.cluster.brokers.is_empty();
        let is_trusted =
            listed || (is_bootstrap && (is_first_contact || self.options.rebootstraps));
        if !is_trusted {
            return None;
        }
        match connection {
            Some(c) if c.is_backing_off() => None,
            Some(c) if c.is_ready() && c.is_busy(now) => Some(Rank::Busy),
            _ if self.peers.get(&id).is_some_and(|peer| peer.is_suspect) => Some(Rank::Failed),
            Some(c) if c.is_ready() => Some(Rank::Open),
            Some(c) if c.failures() > 0 => Some(Rank::Failed),
            _ if listed => Some(Rank::Listed),
            _ => Some(Rank::Bootstrap),
        }
    }
}

/// Best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Open,
    Listed,
    Bootstrap,
    Failed,
    Busy,
}
