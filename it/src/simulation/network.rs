//! A simulated network between clients' cores and the in-memory cluster: TCP's promises (bytes in
//! order or not at all) and no more.

use bytes::Bytes;
use core::net::SocketAddr;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use tidewatch_broker as broker;
use tidewatch_client_core::client::ConnectionId;

/// A client's connection, seen from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId {
    /// Which client.
    pub client: usize,
    /// Its own name for the connection.
    pub connection: ConnectionId,
}

/// Something that arrives somewhere.
#[derive(Debug)]
pub enum Arrival {
    /// The client asked for a connection; it reaches the node's port.
    Syn(SocketAddr),
    /// The client learns that it is connected.
    Connected,
    /// A frame reaches the broker.
    ToBroker(Bytes),
    /// A frame reaches the client.
    ToClient(Bytes),
    /// The client learns that the connection is gone.
    ClosedByBroker(String),
    /// The broker learns that the connection is gone.
    ClosedByClient,
}

impl Arrival {
    /// Whether it is the client that sees it.
    pub fn is_for_client(&self) -> bool {
        matches!(
            self,
            Self::Connected | Self::ToClient(_) | Self::ClosedByBroker(_)
        )
    }
}

#[derive(Debug)]
struct Link {
    broker: Option<broker::ConnectionId>,
    /// Nothing arrives before what was sent before it, per direction.
    last_to_broker_us: u64,
    last_to_client_us: u64,
    /// Frames vanish from here on, as behind a firewall that forgot the connection.
    is_black_hole: bool,
}

/// An arrival in its order: by time, then as sent.
#[derive(Debug)]
struct Due {
    at_us: u64,
    order: u64,
    link: LinkId,
    arrival: Arrival,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

/// All links and everything on its way.
#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<LinkId, Link>,
    by_broker: BTreeMap<broker::ConnectionId, LinkId>,
    due: BinaryHeap<Reverse<Due>>,
    sent: u64,
}

impl Network {
    /// A client opens a connection.
    pub fn open(&mut self, now_us: u64, delay_us: u64, link: LinkId, address: SocketAddr) {
        let fresh = Link {
            broker: None,
            last_to_broker_us: now_us,
            last_to_client_us: now_us,
            is_black_hole: false,
        };
        self.links.insert(link, fresh);
        self.push(now_us + delay_us, link, Arrival::Syn(address));
    }

    /// The broker took the connection.
    pub fn accept(
        &mut self,
        now_us: u64,
        delay_us: u64,
        link: LinkId,
        broker: broker::ConnectionId,
    ) {
        let Some(found) = self.links.get_mut(&link) else {
            return;
        };
        found.broker = Some(broker);
        self.by_broker.insert(broker, link);
        self.push(now_us + delay_us, link, Arrival::Connected);
    }

    /// Nobody listens there.
    pub fn refuse(&mut self, now_us: u64, delay_us: u64, link: LinkId) {
        self.push(
            now_us + delay_us,
            link,
            Arrival::ClosedByBroker("connection refused".to_owned()),
        );
    }

    /// A client sends a frame.
    pub fn send_to_broker(&mut self, now_us: u64, delay_us: u64, link: LinkId, frame: Bytes) {
        let Some(found) = self.links.get_mut(&link).filter(|l| !l.is_black_hole) else {
            return;
        };
        found.last_to_broker_us = found.last_to_broker_us.max(now_us + delay_us);
        let at = found.last_to_broker_us;
        self.push(at, link, Arrival::ToBroker(frame));
    }

    /// The broker sends a frame.
    pub fn send_to_client(
        &mut self,
        now_us: u64,
        delay_us: u64,
        from: broker::ConnectionId,
        frame: Bytes,
    ) {
        let Some((link, found)) = self.find(from) else {
            return;
        };
        if found.is_black_hole {
            return;
        }
        found.last_to_client_us = found.last_to_client_us.max(now_us + delay_us);
        let at = found.last_to_client_us;
        self.push(at, link, Arrival::ToClient(frame));
    }

    /// The client closes.
    pub fn close_by_client(&mut self, now_us: u64, link: LinkId) {
        if let Some(found) = self.links.get(&link) {
            let at = found.last_to_broker_us.max(now_us);
            self.push(at, link, Arrival::ClosedByClient);
        }
    }

    /// The broker closes, after what it sent before.
    pub fn close_by_broker(&mut self, now_us: u64, delay_us: u64, from: broker::ConnectionId) {
        if let Some((link, found)) = self.find(from) {
            let at = found.last_to_client_us.max(now_us + delay_us);
            self.push(
                at,
                link,
                Arrival::ClosedByBroker("reset by peer".to_owned()),
            );
        }
    }

    /// From now on nothing passes on this link, in either direction, and nobody is told.
    pub fn black_hole(&mut self, link: LinkId) {
        if let Some(found) = self.links.get_mut(&link) {
            found.is_black_hole = true;
        }
        let kept: Vec<_> = std::mem::take(&mut self.due).into_vec();
        self.due = kept
            .into_iter()
            .filter(|Reverse(due)| due.link != link || !is_frame(&due.arrival))
            .collect();
    }

    /// The links that are up, in order.
    pub fn connected(&self) -> Vec<LinkId> {
        self.links
            .iter()
            .filter(|(_, link)| link.broker.is_some())
            .map(|(id, _)| *id)
            .collect()
    }

    /// The broker's name for a link.
    pub fn broker_of(&self, link: LinkId) -> Option<broker::ConnectionId> {
        self.links.get(&link)?.broker
    }

    /// Whether frames vanish on it.
    pub fn is_black_hole(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|l| l.is_black_hole)
    }

    /// Forgets a link; what is still on its way to or from it is lost.
    pub fn forget(&mut self, link: LinkId) {
        if let Some(broker) = self.links.remove(&link).and_then(|l| l.broker) {
            self.by_broker.remove(&broker);
        }
    }

    /// When the next arrival is.
    pub fn next_us(&self) -> Option<u64> {
        self.due.peek().map(|Reverse(due)| due.at_us)
    }

    /// The next arrival that is due.
    pub fn pop(&mut self, now_us: u64) -> Option<(LinkId, Arrival)> {
        if self.next_us()? > now_us {
            return None;
        }
        let Reverse(due) = self.due.pop()?;
        Some((due.link, due.arrival))
    }

    /// Whose arrival is not taken in now: it comes again then, and what comes after it no earlier.
    pub fn put_off(&mut self, until_us: u64, link: LinkId, arrival: Arrival) {
        if let Some(found) = self.links.get_mut(&link) {
            found.last_to_client_us = found.last_to_client_us.max(until_us);
        }
        self.push(until_us, link, arrival);
    }

    fn find(&mut self, from: broker::ConnectionId) -> Option<(LinkId, &mut Link)> {
        let link = *self.by_broker.get(&from)?;
        Some((link, self.links.get_mut(&link)?))
    }

    fn push(&mut self, at_us: u64, link: LinkId, arrival: Arrival) {
        self.sent += 1;
        self.due.push(Reverse(Due {
            at_us,
            order: self.sent,
            link,
            arrival,
        }));
    }
}

fn is_frame(arrival: &Arrival) -> bool {
    matches!(arrival, Arrival::ToBroker(_) | Arrival::ToClient(_))
}
