//! The end of a consumer's fetching: brokers are told that they may forget its sessions, instead of
//! keeping them until others need the place (KIP-227).

use super::{Asks, FetchRoom, Flight};
use crate::call::{Body, BrokerId, Call, Lane};
use crate::time::Now;
use tidewatch_protocol::messages::FetchRequest;

/// Closes the session whose id comes with it, and opens none.
const FINAL_EPOCH: i32 = -1;

/// A session that its broker is still to be told of.
#[derive(Debug)]
pub(super) struct Parting {
    pub(super) broker: BrokerId,
    pub(super) session_id: i32,
}

impl FetchRoom {
    /// Nothing is read any more.
    pub(super) fn part(&mut self) {
        self.inbox.close();
        self.partitions.clear();
        let sessions = std::mem::take(&mut self.sessions).into_iter();
        let open = sessions.filter_map(|(broker, session)| {
            let session_id = session.id()?;
            Some(Parting { broker, session_id })
        });
        self.partings = Some(open.collect());
    }

    /// Whether brokers know all that they should.
    pub(super) fn is_parted(&self) -> bool {
        let is_parting = |flight: &Flight| matches!(flight.asks, Asks::Nothing);
        let told = self.partings.as_ref().is_none_or(Vec::is_empty);
        told && !self.flights.values().any(is_parting)
    }

    /// On the general lane, because on the consumer's own it would wait for the long poll before it.
    pub(super) fn poll_parting(&mut self, now: Now) -> Option<Call> {
        let Parting { broker, session_id } = self.partings.as_mut()?.pop()?;
        let body = FetchRequest::default()
            .with_max_wait_ms(0)
            .with_session_id(session_id)
            .with_session_epoch(FINAL_EPOCH);
        let flight = Flight {
            broker,
            asks: Asks::Nothing,
            asked: Vec::new(),
        };
        let timeout_ms = self.options.request_timeout_ms;
        let body = Body::Fetch(body.into());
        Some(self.call(now, flight, Lane::General, body, None, timeout_ms))
    }
}
