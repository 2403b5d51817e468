//! The requests on one connection that are not answered yet, in the order they were written.

use crate::body::Decoder;
use crate::call::{Body, CallId, Reply, Response};
use bytes::Bytes;
use std::collections::VecDeque;
use tidewatch_protocol::frame::Frame;
use tidewatch_protocol::guard::DecodeError;
use tidewatch_protocol::header::peek_correlation_id;
use tidewatch_protocol::message::EncodeError;

/// Requests in flight, oldest first. Lives as long as its connection.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    sent: VecDeque<Sent>,
    next_correlation_id: i32,
    frames_sent: u64,
    frames_written: u64,
    has_answered: bool,
}

/// One request in flight.
#[derive(Debug)]
struct Sent {
    id: CallId,
    decoder: Decoder,
    version: i16,
    correlation_id: i32,
    answered: bool,
    frame_number: u64,
    deadline_us: u64,
    timeout_us: u64,
}

/// What is written with a request, for the time it has to be answered in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) now_us: u64,
    pub(crate) timeout_us: u64,
}

/// A frame that cannot be the next response. The connection must be closed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadResponse {
    #[error("the response carries correlation id {got}, which no request in flight has")]
    Unexpected { got: i32 },
    #[error("the response carries correlation id {got}, but {expected} is the oldest in flight")]
    OutOfOrder { got: i32, expected: i32 },
    #[error("{source}")]
    Malformed {
        /// The call it would have answered; its error is this one, not the connection's end.
        id: Option<CallId>,
        source: DecodeError,
    },
}

impl Pipeline {
    /// Requests that are not answered, or where none answers not written.
    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Whether a call was answered on this connection.
    pub(crate) fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// A correlation id that no request in flight has.
    pub(crate) fn fresh_correlation_id(&mut self) -> i32 {
        let id = self.next_correlation_id;
        self.next_correlation_id = if id == i32::MAX { 0 } else { id + 1 };
        self.frames_sent += 1;
        id
    }

    /// Encodes `body` and counts it as in flight.
    ///
    /// # Errors
    /// Content that `version` cannot carry; nothing is in flight then.
    pub(crate) fn send(
        &mut self,
        id: CallId,
        body: &Body,
        version: i16,
        client_id: &str,
        patience: Patience,
    ) -> Result<Frame, EncodeError> {
        let frame = body.encode(version, self.next_correlation_id, client_id)?;
        let correlation_id = self.fresh_correlation_id();
        self.sent.push_back(Sent {
            id,
            decoder: body.decoder(),
            version,
            correlation_id,
            answered: body.is_answered(),
            frame_number: self.frames_sent,
            deadline_us: patience.now_us.saturating_add(patience.timeout_us),
            timeout_us: patience.timeout_us,
        });
        Ok(frame)
    }

    /// The oldest unwritten frame went out. Ends the call that waited for no more than that
    /// (acks=0, line 9), if it was one.
    pub(crate) fn handle_written(&mut self) -> Option<(CallId, i16)> {
        self.frames_written += 1;
        let written = self.frames_written;
        let mut in_flight = self.sent.iter();
        let at = in_flight.position(|sent| sent.frame_number == written && !sent.answered)?;
        let ended = self.sent.remove(at)?;
        Some((ended.id, ended.version))
    }

    /// A response: must answer the oldest request that is answered at all (line 38).
    ///
    /// # Errors
    /// [`BadResponse`].
    pub(crate) fn handle_response(
        &mut self,
        frame: Bytes,
        reply: impl FnOnce(Response, i16) -> Reply,
    ) -> Result<(CallId, Reply), BadResponse> {
        let malformed = |id, source| BadResponse::Malformed { id, source };
        let got = peek_correlation_id(&frame).map_err(|source| malformed(None, source))?;
        let at = self.sent.iter().position(|sent| sent.answered);
        let oldest = at.and_then(|at| Some((at, self.sent.get(at)?)));
        let (at, oldest) = oldest.ok_or(BadResponse::Unexpected { got })?;
        if got != oldest.correlation_id {
            let known = self.sent.iter().any(|sent| sent.correlation_id == got);
            let expected = oldest.correlation_id;
            return Err(match known {
                true => BadResponse::OutOfOrder { got, expected },
                false => BadResponse::Unexpected { got },
            });
        }
        let (id, version) = (oldest.id, oldest.version);
        let decoded = (oldest.decoder)(frame, version);
        self.sent.remove(at);
        self.has_answered = true;
        let (_, response) = decoded.map_err(|source| malformed(Some(id), source))?;
        Ok((id, reply(response, version)))
    }

    /// When the first of them is overdue.
    pub(crate) fn deadline_us(&self) -> Option<u64> {
        self.sent.iter().map(|sent| sent.deadline_us).min()
    }

    /// The broker answers nothing for a while (line 42): no request is overdue because of that.
    pub(crate) fn extend(&mut self, by_us: u64) {
        for sent in &mut self.sent {
            sent.deadline_us = sent.deadline_us.saturating_add(by_us);
        }
    }

    /// The connection is gone: every call on it, and for those that were overdue by `now_us` the
    /// time they had.
    pub(crate) fn drain(&mut self, now_us: u64) -> impl Iterator<Item = (CallId, Option<u64>)> {
        let sent = std::mem::take(self).sent;
        sent.into_iter().map(move |sent| {
            let overdue = sent.deadline_us <= now_us;
            (sent.id, overdue.then_some(sent.timeout_us))
        })
    }
}
