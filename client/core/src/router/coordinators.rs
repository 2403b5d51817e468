//! Who coordinates what: looked up when first needed, kept, forgotten when it turns out wrong.

use crate::backoff::Backoff;
use crate::call::{
    Body, BrokerId, Call, CallId, Coordinated, Destination, Lane, Reply, Response, RoomId,
};
use crate::connection::Address;
use crate::error::{CallError, CallErrorKind};
use crate::options::ClientOptions;
use crate::time::{Now, Timer};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

/// The key types of FindCoordinator.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// The coordinators that calls asked for.
#[derive(Debug, Default)]
pub(crate) struct Coordinators {
    entries: BTreeMap<Coordinated, Entry>,
    last_number: u64,
}

#[derive(Debug)]
struct Entry {
    state: State,
    backoff: Backoff,
    last_failure: Option<Arc<str>>,
}

#[derive(Debug)]
enum State {
    Unknown,
    Looking { number: u64 },
    BackingOff { until_us: u64 },
    Known(BrokerId),
}

/// What a lookup brought.
#[derive(Debug)]
pub(crate) enum Found {
    /// A coordinator, and where it is.
    Coordinator(BrokerId, Address),
    /// None yet; it is asked for again.
    NotYet,
    /// There will be none: its calls fail.
    Never(Coordinated, ErrorCode),
    /// No broker can be dealt with to be asked: its calls fail with this.
    Unsecured(Coordinated, CallErrorKind),
}

impl Coordinators {
    /// The coordinator, where it is known.
    pub(crate) fn get(&self, what: &Coordinated) -> Option<BrokerId> {
        match self.entries.get(what)?.state {
            State::Known(broker) => Some(broker),
            _ => None,
        }
    }

    /// The last reason why it is not known.
    pub(crate) fn last_failure(&self, what: &Coordinated) -> Option<Arc<str>> {
        self.entries.get(what)?.last_failure.clone()
    }

    /// A call needs this coordinator: the lookup to make, unless one is under way or has to wait.
    pub(crate) fn look_up(
        &mut self,
        now: Now,
        what: &Coordinated,
        options: &ClientOptions,
    ) -> Option<Call> {
        let entry = self.entries.entry(what.clone()).or_insert_with(|| Entry {
            state: State::Unknown,
            backoff: Backoff::new(options.retry_backoff_ms, options.retry_backoff_max_ms),
            last_failure: None,
        });
        match entry.state {
            State::Unknown => {}
            State::BackingOff { until_us } if until_us <= now.monotonic_us => {}
            _ => return None,
        }
        self.last_number += 1;
        let number = self.last_number;
        entry.state = State::Looking { number };
        let (key, key_type) = match what {
            Coordinated::Group(id) => (id, GROUP),
            Coordinated::Transaction(id) => (id, TRANSACTION),
        };
        let request = FindCoordinatorRequest::default()
            .with_key(StrBytes::from_string(key.to_string()))
            .with_key_type(key_type);
        let timeout_us = options.request_timeout_ms.saturating_mul(1000);
        Some(Call {
            id: CallId {
                room: RoomId::Router,
                number,
            },
            destination: Destination::AnyBroker,
            lane: Lane::General,
            body: Body::FindCoordinator(request.into()),
            version_cap: None,
            timeout_us,
            give_up_us: now.monotonic_us.saturating_add(timeout_us),
        })
    }

    /// A lookup's end.
    pub(crate) fn handle_reply(
        &mut self,
        now: Now,
        number: u64,
        reply: Result<Reply, CallError>,
        random: &mut fastrand::Rng,
    ) -> Found {
        let mut entries = self.entries.iter_mut();
        let looked_for =
            |entry: &Entry| matches!(entry.state, State::Looking { number: n } if n == number);
        let Some((what, entry)) = entries.find(|(_, entry)| looked_for(entry)) else {
            return Found::NotYet;
        };
        let why = match reply.map(|reply| reply.response) {
            Ok(Response::FindCoordinator(response)) => match read_answer(&response) {
                Ok((broker, address)) => {
                    entry.state = State::Known(broker);
                    entry.backoff.reset();
                    return Found::Coordinator(broker, address);
                }
                Err(code) if !code.meaning().retriable => {
                    entry.state = State::Unknown;
                    return Found::Never(what.clone(), code);
                }
                Err(code) => code.to_string(),
            },
            Ok(_) => "the answer was to another question".to_owned(),
            Err(CallError {
                kind: kind @ (CallErrorKind::Version(_) | CallErrorKind::Encode(_)),
                ..
            }) => {
                entry.state = State::Unknown;
                entry.last_failure = Some(kind.to_string().into());
                return Found::Never(what.clone(), ErrorCode::UNSUPPORTED_VERSION);
            }
            Err(CallError {
                kind: kind @ CallErrorKind::Security { .. },
                ..
            }) => {
                entry.state = State::Unknown;
                entry.last_failure = Some(kind.to_string().into());
                return Found::Unsecured(what.clone(), kind);
            }
            Err(error) => error.to_string(),
        };
        let wait_us = entry.backoff.next_us(random);
        entry.last_failure = Some(why.into());
        entry.state = State::BackingOff {
            until_us: now.monotonic_us.saturating_add(wait_us),
        };
        Found::NotYet
    }

    /// NOT_COORDINATOR and the like (line 30). A lookup under way goes on.
    pub(crate) fn forget(&mut self, what: &Coordinated) {
        if let Some(entry) = self.entries.get_mut(what)
            && matches!(entry.state, State::Known(_))
        {
            entry.state = State::Unknown;
        }
    }

    /// The broker is gone or timed out, and with it all that it coordinated (line 30).
    pub(crate) fn forget_broker(&mut self, broker: BrokerId) {
        self.entries
            .retain(|_, entry| !matches!(entry.state, State::Known(known) if known == broker));
    }

    /// Drops what nobody waits for and what nobody knows.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        self.entries.retain(|_, entry| {
            !matches!(entry.state, State::BackingOff { until_us } if until_us <= now.monotonic_us)
                && !matches!(entry.state, State::Unknown)
        });
    }

    /// When a lookup may be tried again.
    pub(crate) fn poll_timeout(&self) -> Option<(u64, Timer)> {
        let waits = self.entries.values().filter_map(|entry| match entry.state {
            State::BackingOff { until_us } => Some((until_us, Timer::Retry)),
            _ => None,
        });
        waits.min()
    }
}

/// Up to version 3 the answer stands in the response itself, from 4 on in a list (KIP-699).
fn read_answer(response: &FindCoordinatorResponse) -> Result<(BrokerId, Address), ErrorCode> {
    let (code, node, host, port) = match response.coordinators.first() {
        Some(first) => (first.error_code, first.node_id, &first.host, first.port),
        None => (
            response.error_code,
            response.node_id,
            &response.host,
            response.port,
        ),
    };
    if code != 0 {
        return Err(ErrorCode(code));
    }
    let port = u16::try_from(port).map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
    if node.0 < 0 || host.is_empty() {
        return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    }
    let host = host.as_str().into();
    Ok((BrokerId(node.0), Address { host, port }))
}
