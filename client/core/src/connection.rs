//! One broker's one lane: opening its connection, the requests in flight, throttling,
//! timeouts, and what becomes of its calls when it breaks.

mod authenticating;
mod context;
mod handshake;
mod opening;
mod pipeline;
mod sasl;

pub(crate) use context::{Address, Context, Key, Names, Output, Peer, Unsent, explain, whom};
pub(crate) use handshake::AgreedVersions;

use crate::backoff::Backoff;
use crate::call::{Call, Destination, Lane, Reply, Response};
use crate::client::{Action, ConnectionId};
use crate::error::{CallError, CallErrorKind};
use crate::options::ClientOptions;
use crate::time::{Now, Timer};
use authenticating::{Authentication, Session};
use bytes::Bytes;
use core::net::SocketAddr;
use pipeline::{BadResponse, Patience, Pipeline};
use std::collections::VecDeque;
use std::sync::Arc;
use tidewatch_protocol::api::BrokerApis;

/// The longest that a broker's throttling is obeyed, a bound on what a wrong value can do.
const MAX_THROTTLE_US: u64 = 600 * 1_000_000;
/// Waits after a connection could not be secured: long, because somebody has to mend something, and
/// each try may count against an account (line 40).
const UNSECURED_BACKOFF_MS: (u64, u64) = (1_000, 30_000);

/// Requests in flight on one connection. More would only wait in the broker.
pub(crate) fn max_in_flight(lane: Lane) -> usize {
    match lane {
        // Java's max.in.flight.requests.per.connection.
        Lane::Produce => 5,
        Lane::General => 16,
        // A consumer has one long poll at a time at a broker.
        Lane::Fetch(_) => 1,
        // A member has one request under way, and a heartbeat beside it at most.
        Lane::Group(_) => 2,
    }
}

/// ```text
///          a call            addresses            connected           versions agreed
///  Idle ───────────▶ Resolving ──────▶ Connecting ─────────▶ Handshaking ──────▶ Ready
///   ▲ ▲                 │                │  ▲ next address       │               │ │
///   │ │ over, no call   │ failed         │  └────────────────────┤               │ │
///   │ │                 ▼                ▼ none left             ▼               │ │
///   │ └───────────── BackingOff ◀────────┴───────────────────────┴───────────────┘ │
///   │                   │ over, a call waits: Resolving             broken in use  │
///   └──────────────────────────────────────────────────────────────────────────────┘
///                                                               unused, or closed unused
/// ```
///
/// Where there is SASL, another stage comes before `Ready`, and again before a session ends:
///
/// ```text
///                versions agreed                  let in
///   Handshaking ─────────────────▶ Authenticating ──────▶ Ready
///                                    │         ▲            │ the session ends soon,
///                  BackingOff ◀──────┘         └────────────┘ and nothing is in flight
///                              refused, broken
/// ```
#[derive(Debug)]
enum State {
    Idle,
    BackingOff {
        until_us: u64,
    },
    Resolving {
        id: ConnectionId,
        deadline_us: u64,
    },
    Connecting(Attempt),
    Handshaking {
        attempt: Attempt,
        asked: u8,
    },
    Authenticating(Box<Authentication>),
    Ready {
        id: ConnectionId,
        apis: BrokerApis,
        used_us: u64,
        /// `None` where what was agreed on does not end.
        session: Option<Session>,
    },
}

impl State {
    fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Connecting(attempt) | Self::Handshaking { attempt, .. } => Some(attempt),
            Self::Authenticating(authentication) => Some(&authentication.attempt),
            Self::Idle | Self::BackingOff { .. } | Self::Resolving { .. } | Self::Ready { .. } => {
                None
            }
        }
    }

    fn into_attempt(self) -> Option<Attempt> {
        match self {
            Self::Connecting(attempt) | Self::Handshaking { attempt, .. } => Some(attempt),
            Self::Authenticating(authentication) => Some(authentication.attempt),
            Self::Idle | Self::BackingOff { .. } | Self::Resolving { .. } | Self::Ready { .. } => {
                None
            }
        }
    }
}

/// One address being tried, and those that come after it.
#[derive(Debug)]
struct Attempt {
    id: ConnectionId,
    address: SocketAddr,
    untried: VecDeque<SocketAddr>,
    deadline_us: u64,
}

/// One broker's one lane.
#[derive(Debug)]
pub(crate) struct Connection {
    key: Key,
    state: State,
    queue: VecDeque<Call>,
    pipeline: Pipeline,
    throttled_until_us: u64,
    backoff: Backoff,
    last_failure: Option<Arc<str>>,
    unsecured_backoff: Backoff,
    /// The last attempt failed for want of security.
    unsecured: Option<CallErrorKind>,
}

impl Connection {
    /// Not opened yet.
    pub(crate) fn new(key: Key, options: &ClientOptions) -> Self {
        Self {
            key,
            state: State::Idle,
            queue: VecDeque::new(),
            pipeline: Pipeline::default(),
            throttled_until_us: 0,
            backoff: Backoff::new(
                options.reconnect_backoff_ms,
                options.reconnect_backoff_max_ms,
            ),
            last_failure: None,
            unsecured_backoff: Backoff::new(UNSECURED_BACKOFF_MS.0, UNSECURED_BACKOFF_MS.1),
            unsecured: None,
        }
    }

    /// Whether another call would have to wait for longer than opening takes.
    pub(crate) fn is_busy(&self, now: Now) -> bool {
        let full = self.load() >= max_in_flight(self.key.1);
        full || self.is_throttled(now) || matches!(self.state, State::BackingOff { .. })
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    pub(crate) fn is_backing_off(&self) -> bool {
        matches!(self.state, State::BackingOff { .. })
    }

    /// Being opened, or about to be, although the broker has failed and not answered since.
    pub(crate) fn is_silent(&self, peer: &Peer) -> bool {
        peer.is_suspect && !matches!(self.state, State::Idle | State::Ready { .. })
    }

    /// Failures since a request was last answered.
    pub(crate) fn failures(&self) -> u32 {
        self.backoff
            .failures()
            .saturating_add(self.unsecured_backoff.failures())
    }

    /// What stands in the way of a secure connection, if that is why there is none.
    pub(crate) fn unsecured(&self) -> Option<&CallErrorKind> {
        self.unsecured.as_ref()
    }

    /// Calls waiting and in flight.
    pub(crate) fn load(&self) -> usize {
        self.queue.len() + self.pipeline.len()
    }

    /// Neither open nor opening, and nothing waits for it.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle) && self.queue.is_empty()
    }

    pub(crate) fn last_failure(&self) -> Option<Arc<str>> {
        self.last_failure.clone()
    }

    /// Takes a call, and opens the connection for it if need be.
    pub(crate) fn push(&mut self, call: Call, ctx: &mut Context<'_>) {
        if let (State::BackingOff { until_us }, Some(kind)) = (&self.state, &self.unsecured)
            && ctx.now.monotonic_us < *until_us
        {
            let kind = kind.clone();
            return ctx.end_unwritten(self.key, call.id, kind);
        }
        self.queue.push_back(call);
        match self.state {
            State::Idle => self.resolve(ctx),
            State::BackingOff { until_us } if until_us <= ctx.now.monotonic_us => self.resolve(ctx),
            _ => self.pump(ctx),
        }
    }

    /// Gives up calls that waited too long for their turn, and goes on to what time has brought.
    pub(crate) fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        let now_us = ctx.now.monotonic_us;
        self.expire_queue(ctx);
        match &self.state {
            State::BackingOff { until_us } if *until_us <= now_us => {
                self.state = State::Idle;
                if !self.queue.is_empty() {
                    self.resolve(ctx);
                }
            }
            State::Resolving { deadline_us, .. } if *deadline_us <= now_us => {
                self.give_up_attempt("resolving the host name took too long".into(), ctx);
            }
            state if state.attempt().is_some_and(|a| a.deadline_us <= now_us) => {
                let is_tls = ctx.options.security.protocol.is_tls();
                let (setup_ms, handshake_ms) = (
                    self.setup_limit_ms(ctx.options),
                    self.handshake_limit_ms(ctx.options),
                );
                let (what, limit_ms) = match state {
                    State::Connecting(_) if is_tls => {
                        ("connecting and the TLS handshake", setup_ms)
                    }
                    State::Connecting(_) => ("connecting", setup_ms),
                    State::Authenticating(_) => ("authenticating", handshake_ms),
                    _ => ("the handshake", handshake_ms),
                };
                self.give_up_attempt(format!("{what} took longer than {limit_ms} ms"), ctx);
            }
            State::Ready { used_us, .. } => {
                let idle_from = used_us.saturating_add(idle_limit_us(ctx.options));
                if self.pipeline.deadline_us().is_some_and(|at| at <= now_us) {
                    self.close("a request was not answered in time", ctx);
                    self.fail("a request before it was not answered in time".into(), ctx);
                } else if self.load() == 0 && idle_from <= now_us {
                    self.close("unused for connections.max.idle.ms", ctx);
                    self.state = State::Idle;
                } else {
                    self.pump(ctx);
                }
            }
            _ => {}
        }
    }

    /// The earliest moment at which something has to be done.
    pub(crate) fn poll_timeout(&self, options: &ClientOptions) -> Option<(u64, Timer)> {
        let give_up = self.queue.iter().map(|call| call.give_up_us).min();
        let own = match &self.state {
            State::Idle => None,
            State::BackingOff { until_us } => Some((*until_us, Timer::Reconnect)),
            State::Resolving { deadline_us, .. } => Some((*deadline_us, Timer::Connect)),
            State::Connecting(_) | State::Handshaking { .. } | State::Authenticating(_) => {
                let attempt = self.state.attempt();
                attempt.map(|attempt| (attempt.deadline_us, Timer::Connect))
            }
            State::Ready { used_us, .. } => {
                let overdue = self.pipeline.deadline_us().map(|at| (at, Timer::Request));
                let throttled = self.throttled_until_us;
                let throttle = (throttled > 0).then_some((throttled, Timer::Throttle));
                let idle_us = used_us.saturating_add(idle_limit_us(options));
                let idle = (self.load() == 0).then_some((idle_us, Timer::Idle));
                overdue.into_iter().chain(throttle).chain(idle).min()
            }
        };
        own.into_iter()
            .chain(give_up.map(|at| (at, Timer::Route)))
            .min()
    }

    /// A frame was written.
    pub(crate) fn handle_written(&mut self, ctx: &mut Context<'_>) {
        if let Some((id, version)) = self.pipeline.handle_written() {
            let response = Response::ProduceUnacknowledged;
            let broker = self.key.0;
            let reply = Reply {
                response,
                version,
                broker,
            };
            self.backoff.reset();
            ctx.out.ended.push_back((id, Ok(reply)));
            self.pump(ctx);
        }
    }

    /// A frame came.
    pub(crate) fn handle_frame(&mut self, frame: Bytes, ctx: &mut Context<'_>) {
        match &mut self.state {
            State::Handshaking { .. } => self.handle_versions(frame, ctx),
            State::Authenticating(_) => self.handle_authenticated(frame, ctx),
            State::Ready { used_us, .. } => {
                *used_us = ctx.now.monotonic_us;
                self.handle_response(frame, ctx);
            }
            _ => {}
        }
    }

    /// The connection, or the attempt at it, ended from the other side.
    pub(crate) fn handle_closed(&mut self, why: String, ctx: &mut Context<'_>) {
        let id = self.id();
        if let Some(id) = id {
            ctx.names.open.remove(&id);
        }
        match &self.state {
            State::Handshaking { attempt, asked } => {
                if ctx.peer.versions.handle_reset(*asked > 1) {
                    let mut again = attempt.untried.clone();
                    again.push_front(attempt.address);
                    let id = ctx.names.fresh(self.key);
                    self.connect(id, again, ctx);
                    return;
                }
                let hint = match ctx.options.security.protocol.is_tls() {
                    true => {
                        "; so does a broker that wants a certificate: see ssl.keystore.location"
                    }
                    false => "",
                };
                self.attempt_failed(format!("closed during the handshake: {why}{hint}"), ctx);
            }
            State::Authenticating(_) => {
                self.attempt_failed(format!("closed while authenticating: {why}"), ctx);
            }
            State::Resolving { .. } | State::Connecting(_) => self.attempt_failed(why, ctx),
            // A broker may close what nobody uses; the next call opens it again.
            State::Ready { .. } if self.load() == 0 => self.state = State::Idle,
            State::Ready { .. } if !self.pipeline.has_answered() => {
                let hint = match ctx.options.security.protocol.is_sasl() {
                    false => ", as a broker does that wants SASL: check security.protocol",
                    true => "",
                };
                self.fail(format!("{why} instead of an answer{hint}"), ctx);
            }
            State::Ready { .. } => self.fail(why, ctx),
            State::Idle | State::BackingOff { .. } => {}
        }
    }

    /// Nobody uses the lane any more: calls under way end unheard.
    pub(crate) fn handle_abandoned(&mut self, ctx: &mut Context<'_>) {
        self.close("its consumer was closed", ctx);
        self.queue.clear();
        self.pipeline = Pipeline::default();
        self.state = State::Idle;
    }

    /// The broker listens somewhere else now: what was open leads nowhere (line 43).
    pub(crate) fn handle_moved(&mut self, ctx: &mut Context<'_>) {
        let moved = format!("the broker moved to {}", ctx.peer.address);
        self.close(&moved, ctx);
        self.fail_in_flight(moved.into(), ctx);
        self.backoff.reset();
        self.unsecured_backoff.reset();
        self.unsecured = None;
        self.state = State::Idle;
        if !self.queue.is_empty() {
            self.resolve(ctx);
        }
    }

    /// The cluster has a new picture. While this broker does not answer, calls that wait for it go
    /// back to their rooms, which may send them elsewhere now: a stopped broker's kernel still
    /// accepts, and a moved leader would be waited for until the handshake is given up.
    pub(crate) fn handle_cluster(&mut self, ctx: &mut Context<'_>) {
        if !self.is_ready() && ctx.peer.is_suspect {
            self.give_back("it does not answer", true, ctx);
        }
    }

    fn id(&self) -> Option<ConnectionId> {
        match &self.state {
            State::Idle | State::BackingOff { .. } => None,
            State::Resolving { id, .. } | State::Ready { id, .. } => Some(*id),
            State::Connecting(_) | State::Handshaking { .. } | State::Authenticating(_) => {
                self.state.attempt().map(|attempt| attempt.id)
            }
        }
    }

    /// A throttle is the connection's: it ends with it.
    fn is_throttled(&self, now: Now) -> bool {
        self.is_ready() && now.monotonic_us < self.throttled_until_us
    }

    fn handle_response(&mut self, frame: Bytes, ctx: &mut Context<'_>) {
        let broker = self.key.0;
        let reply = |response, version| Reply {
            response,
            version,
            broker,
        };
        match self.pipeline.handle_response(frame, reply) {
            Ok((id, reply)) => {
                self.backoff.reset();
                ctx.peer.is_suspect = false;
                self.throttle(reply.response.throttle_time_ms(), ctx.now);
                ctx.out.ended.push_back((id, Ok(reply)));
                self.pump(ctx);
            }
            Err(bad) => {
                let why = bad.to_string();
                self.close(&why, ctx);
                if let BadResponse::Malformed {
                    id: Some(id),
                    source,
                } = bad
                {
                    let address = ctx.peer.address.to_string();
                    let error = CallError {
                        kind: CallErrorKind::Decode { address, source },
                        written: true,
                        broker: Some(broker),
                    };
                    ctx.out.ended.push_back((id, Err(error)));
                }
                self.fail(why, ctx);
            }
        }
    }

    /// The broker mutes the connection for that long after answering (KIP-219), so what is already
    /// in flight gets the time on top (line 42).
    fn throttle(&mut self, throttle_time_ms: i32, now: Now) {
        let by_us = u64::try_from(throttle_time_ms).unwrap_or(0) * 1000;
        if by_us > 0 {
            let by_us = by_us.min(MAX_THROTTLE_US);
            let until_us = now.monotonic_us.saturating_add(by_us);
            self.throttled_until_us = self.throttled_until_us.max(until_us);
            self.pipeline.extend(by_us);
        }
    }

    /// Writes what may be written.
    fn pump(&mut self, ctx: &mut Context<'_>) {
        if self.is_throttled(ctx.now) {
            return;
        }
        self.throttled_until_us = 0;
        if self.is_session_ending(ctx.now) {
            // New requests wait; once what is in flight is answered, the session is renewed.
            if self.pipeline.len() == 0 && !self.queue.is_empty() {
                self.authenticate_again(ctx);
            }
            return;
        }
        let State::Ready {
            id, apis, used_us, ..
        } = &mut self.state
        else {
            return;
        };
        while self.pipeline.len() < max_in_flight(self.key.1) {
            let Some(call) = self.queue.pop_front() else {
                return;
            };
            let patience = Patience {
                now_us: ctx.now.monotonic_us,
                timeout_us: call.timeout_us,
            };
            let client_id = &ctx.options.client_id;
            let version = apis.negotiate(call.body.api(), call.version_cap);
            let frame = version.map_err(CallErrorKind::from).and_then(|version| {
                let sent = self
                    .pipeline
                    .send(call.id, &call.body, version, client_id, patience);
                sent.map_err(CallErrorKind::from)
            });
            match frame {
                Ok(frame) => {
                    *used_us = ctx.now.monotonic_us;
                    ctx.out.actions.push_back(Action::Send(*id, frame));
                }
                Err(kind) => ctx.end_unwritten(self.key, call.id, kind),
            }
        }
    }

    fn expire_queue(&mut self, ctx: &mut Context<'_>) {
        let now_us = ctx.now.monotonic_us;
        let why: Arc<str> = match &self.last_failure {
            Some(failure) => failure.clone(),
            None if self.is_throttled(ctx.now) => "the broker throttles this client".into(),
            None if self.is_ready() => "earlier requests are not answered yet".into(),
            None => "still connecting".into(),
        };
        let waiting = std::mem::take(&mut self.queue);
        let (late, rest): (VecDeque<Call>, _) = waiting
            .into_iter()
            .partition(|call| call.give_up_us <= now_us);
        self.queue = rest;
        for call in late {
            let kind = CallErrorKind::NoRoute {
                whom: whom(self.key.0, ctx.peer),
                why: explain(self.key.0, ctx.peer, ctx.options, &why),
            };
            ctx.end_unwritten(self.key, call.id, kind);
        }
    }

    /// Asks the shell to close what is open. The state is the caller's to set.
    fn close(&mut self, why: &str, ctx: &mut Context<'_>) {
        if let Some(id) = self.id() {
            ctx.names.open.remove(&id);
            ctx.out.actions.push_back(Action::Close {
                connection: id,
                why: why.to_owned(),
            });
        }
    }

    /// A connection in use broke.
    fn fail(&mut self, why: String, ctx: &mut Context<'_>) {
        self.fail_in_flight(why.as_str().into(), ctx);
        self.back_off(&why, false, ctx);
    }

    fn fail_in_flight(&mut self, why: Arc<str>, ctx: &mut Context<'_>) {
        let address = ctx.peer.address.to_string();
        for (id, overdue) in self.pipeline.drain(ctx.now.monotonic_us) {
            let kind = match overdue {
                Some(timeout_us) => CallErrorKind::TimedOut {
                    address: address.clone(),
                    timeout_ms: timeout_us / 1000,
                },
                None => CallErrorKind::Disconnected {
                    address: address.clone(),
                    why: why.to_string(),
                },
            };
            let error = CallError {
                kind,
                written: true,
                broker: Some(self.key.0),
            };
            ctx.out.ended.push_back((id, Err(error)));
        }
    }

    fn back_off(&mut self, why: &str, unreachable: bool, ctx: &mut Context<'_>) {
        let wait_us = self.backoff.next_us(ctx.random);
        self.unsecured = None;
        self.stay_away(wait_us, why.into(), unreachable, ctx);
    }

    /// Nothing is opened for `wait_us`; who is not bound to this connection goes elsewhere.
    fn stay_away(&mut self, wait_us: u64, why: Arc<str>, unreachable: bool, ctx: &mut Context<'_>) {
        let until_us = ctx.now.monotonic_us.saturating_add(wait_us);
        self.state = State::BackingOff { until_us };
        self.last_failure = Some(why.clone());
        ctx.peer.is_suspect = true;
        ctx.out.lost.push(self.key.0);
        self.give_back(&why, unreachable, ctx);
    }

    /// Calls that were not written: all of them where the broker cannot be reached, else those that
    /// another could take.
    fn give_back(&mut self, why: &str, unreachable: bool, ctx: &mut Context<'_>) {
        let why: Arc<str> = why.into();
        let (stay, leave): (_, VecDeque<Call>) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(|call| !unreachable && matches!(call.destination, Destination::Broker(_)));
        self.queue = stay;
        ctx.out.unsent.extend(leave.into_iter().map(|call| Unsent {
            call,
            from: self.key.0,
            why: why.clone(),
            unreachable,
        }));
    }
}

fn idle_limit_us(options: &ClientOptions) -> u64 {
    options.connections_max_idle_ms.saturating_mul(1000)
}
