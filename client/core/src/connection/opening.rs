//! From nothing to a connection that both sides agree on: resolving, each address in turn, the
//! version handshake. SASL comes after it, in `authenticating.rs`.

use super::handshake::Verdict;
use super::pipeline::Pipeline;
use super::{Attempt, Connection, Context, Session, State};
use crate::call::Lane;
use crate::client::{Action, ConnectionId};
use crate::error::{CallErrorKind, SecurityError};
use crate::options::ClientOptions;
use crate::time::Now;
use bytes::Bytes;
use core::net::SocketAddr;
use std::collections::VecDeque;
use tidewatch_protocol::api::BrokerApis;
use tidewatch_protocol::frame::{MAX_FETCH_FRAME_BYTES, MAX_FRAME_BYTES};
use tidewatch_protocol::message::{decode_api_versions, encode_request};
use tidewatch_protocol::messages::ApiVersionsRequest;

/// Addresses of one host that are tried in turn; more are not looked at.
const MAX_ADDRESSES: usize = 16;
/// ApiVersions requests in one handshake: two suffice for every broker there is.
const MAX_QUESTIONS: u8 = 4;
/// The feature that decides how transactions are spoken (KIP-890).
const TRANSACTION_VERSION: &str = "transaction.version";
/// The first version of ApiVersions that says who asks (KIP-511).
const NAMES_SOFTWARE: i16 = 3;

impl Connection {
    /// The addresses of the host.
    pub(crate) fn handle_resolved(
        &mut self,
        addresses: Result<Vec<SocketAddr>, String>,
        ctx: &mut Context<'_>,
    ) {
        let State::Resolving { id, .. } = self.state else {
            return;
        };
        let host = &ctx.peer.address.host;
        let why = match addresses {
            Ok(found) if !found.is_empty() => {
                let untried = found.into_iter().take(MAX_ADDRESSES).collect();
                return self.connect(id, untried, ctx);
            }
            Ok(_) => format!("the name {host} has no address"),
            Err(why) => format!("cannot resolve {host}: {why}"),
        };
        ctx.names.open.remove(&id);
        self.attempt_failed(why, ctx);
    }

    /// The connection is up: the handshake begins.
    pub(crate) fn handle_connected(&mut self, ctx: &mut Context<'_>) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Connecting(mut attempt) => {
                attempt.deadline_us = after_ms(ctx.now, self.handshake_limit_ms(ctx.options));
                self.pipeline = Pipeline::default();
                self.throttled_until_us = 0;
                self.state = State::Handshaking { attempt, asked: 0 };
                self.ask_versions(ctx);
            }
            other => self.state = other,
        }
    }

    pub(super) fn resolve(&mut self, ctx: &mut Context<'_>) {
        let id = ctx.names.fresh(self.key);
        let deadline_us = after_ms(ctx.now, self.setup_limit_ms(ctx.options));
        self.state = State::Resolving { id, deadline_us };
        ctx.out.actions.push_back(Action::Resolve {
            connection: id,
            host: ctx.peer.address.host.to_string(),
            port: ctx.peer.address.port,
        });
    }

    pub(super) fn connect(
        &mut self,
        id: ConnectionId,
        mut untried: VecDeque<SocketAddr>,
        ctx: &mut Context<'_>,
    ) {
        let Some(address) = untried.pop_front() else {
            return;
        };
        self.state = State::Connecting(Attempt {
            id,
            address,
            untried,
            deadline_us: after_ms(ctx.now, self.setup_limit_ms(ctx.options)),
        });
        let fetched = matches!(self.key.1, Lane::Fetch(_));
        ctx.out.actions.push_back(Action::Connect {
            connection: id,
            address,
            host: ctx.peer.address.host.clone(),
            max_frame_bytes: if fetched {
                MAX_FETCH_FRAME_BYTES
            } else {
                MAX_FRAME_BYTES
            },
        });
    }

    pub(super) fn ask_versions(&mut self, ctx: &mut Context<'_>) {
        let State::Handshaking { attempt, asked } = &mut self.state else {
            return;
        };
        *asked += 1;
        let id = attempt.id;
        let mut request = ApiVersionsRequest::default();
        let version = ctx.peer.versions.version();
        if version >= NAMES_SOFTWARE {
            request.client_software_name = "tidewatch".into();
            request.client_software_version = env!("CARGO_PKG_VERSION").into();
        }
        let correlation_id = self.pipeline.fresh_correlation_id();
        match encode_request(&request, version, correlation_id, &ctx.options.client_id) {
            Ok(frame) => ctx.out.actions.push_back(Action::Send(id, frame)),
            Err(error) => self.give_up_attempt(error.to_string(), ctx),
        }
    }

    pub(super) fn handle_versions(&mut self, frame: Bytes, ctx: &mut Context<'_>) {
        let State::Handshaking { asked, .. } = self.state else {
            return;
        };
        let answer = match decode_api_versions(frame, ctx.peer.versions.version()) {
            Ok((correlation_id, answer)) if correlation_id == i32::from(asked) - 1 => answer,
            Ok((got, _)) => {
                let why = format!("its ApiVersions response carries correlation id {got}");
                return self.give_up_attempt(why, ctx);
            }
            Err(error) => {
                let why = format!("its ApiVersions response cannot be read: {error}");
                return self.give_up_attempt(why, ctx);
            }
        };
        match ctx.peer.versions.handle_answer(&answer) {
            Verdict::Agreed(apis) => {
                ctx.peer.reached = true;
                let level = apis.finalised(TRANSACTION_VERSION);
                ctx.out.features = Some((apis.features_epoch(), level));
                self.throttle(answer.throttle_time_ms, ctx.now);
                self.handle_agreed(apis, ctx);
            }
            Verdict::AskAgain if asked < MAX_QUESTIONS => self.ask_versions(ctx),
            Verdict::AskAgain => {
                self.give_up_attempt("it refuses every version of ApiVersions".into(), ctx);
            }
            Verdict::Refused(code) => {
                self.give_up_attempt(format!("it answered ApiVersions with {code}"), ctx);
            }
        }
    }

    fn handle_agreed(&mut self, apis: BrokerApis, ctx: &mut Context<'_>) {
        match std::mem::replace(&mut self.state, State::Idle).into_attempt() {
            Some(attempt) if ctx.options.security.credentials.is_some() => {
                self.authenticate(attempt, apis, ctx);
            }
            Some(attempt) => self.handle_ready(attempt.id, apis, None, ctx),
            None => {}
        }
    }

    /// Both sides agree on everything: what waits may go out.
    pub(super) fn handle_ready(
        &mut self,
        id: ConnectionId,
        apis: BrokerApis,
        session: Option<Session>,
        ctx: &mut Context<'_>,
    ) {
        ctx.peer.is_suspect = false;
        self.last_failure = None;
        self.unsecured = None;
        self.unsecured_backoff.reset();
        self.state = State::Ready {
            id,
            apis,
            used_us: ctx.now.monotonic_us,
            session,
        };
        self.pump(ctx);
    }

    pub(super) fn give_up_attempt(&mut self, why: String, ctx: &mut Context<'_>) {
        self.close(&why, ctx);
        self.attempt_failed(why, ctx);
    }

    /// This address failed: the next one, or back off when there is none (line 43).
    pub(super) fn attempt_failed(&mut self, why: String, ctx: &mut Context<'_>) {
        match std::mem::replace(&mut self.state, State::Idle).into_attempt() {
            Some(attempt) if attempt.untried.is_empty() => {
                self.back_off(&format!("{}: {why}", attempt.address), true, ctx);
            }
            Some(attempt) => {
                let id = ctx.names.fresh(self.key);
                self.connect(id, attempt.untried, ctx);
            }
            None => self.back_off(&why, true, ctx),
        }
    }

    /// The connection, or the attempt at it, ended because it cannot be secured as the options ask.
    pub(crate) fn handle_unsecured(&mut self, error: SecurityError, ctx: &mut Context<'_>) {
        if let Some(id) = self.id() {
            ctx.names.open.remove(&id);
        }
        self.attempt_unsecured(error, ctx);
    }

    /// The next address where that may do better; else nobody is asked again for a good while.
    pub(super) fn attempt_unsecured(&mut self, source: SecurityError, ctx: &mut Context<'_>) {
        self.fail_in_flight(source.to_string().into(), ctx);
        let attempt = std::mem::replace(&mut self.state, State::Idle).into_attempt();
        if let Some(attempt) = attempt
            && source.is_one_machines()
            && !attempt.untried.is_empty()
        {
            let id = ctx.names.fresh(self.key);
            return self.connect(id, attempt.untried, ctx);
        }
        let address = ctx.peer.address.to_string();
        let kind = CallErrorKind::Security { address, source };
        let why = kind.to_string().into();
        self.unsecured = Some(kind);
        ctx.out.unsecured = true;
        let wait_us = self.unsecured_backoff.next_us(ctx.random);
        self.stay_away(wait_us, why, true, ctx);
    }

    /// How long resolving and connecting may take each. It doubles with every failure in a row, so
    /// that a slow network is reached in the end and a dead broker is given up soon (KIP-601).
    pub(super) fn setup_limit_ms(&self, options: &ClientOptions) -> u64 {
        let doublings = self.failures().min(20);
        let limit_ms = options.connection_setup_timeout_ms;
        let longest_ms = options.connection_setup_timeout_max_ms.max(limit_ms);
        limit_ms.saturating_mul(1 << doublings).min(longest_ms)
    }

    /// A handshake is a request too: who hangs does not get longer for it.
    pub(super) fn handshake_limit_ms(&self, options: &ClientOptions) -> u64 {
        self.setup_limit_ms(options).min(options.request_timeout_ms)
    }
}

pub(super) fn after_ms(now: Now, ms: u64) -> u64 {
    now.monotonic_us.saturating_add(ms.saturating_mul(1000))
}
