//! SASL on a connection: once versions are agreed on, and again before the session ends (KIP-368).
//! The second time new requests wait until those in flight are answered, so that no answer can be
//! taken for another (line 40).

use super::opening::after_ms;
use super::sasl::{Exchange, Next};
use super::{Attempt, Connection, Context, State};
use crate::client::Action;
use crate::error::SecurityError;
use crate::time::Now;
use crate::token::{Token, TokenError};
use bytes::Bytes;
use core::net::SocketAddr;
use std::collections::VecDeque;
use tidewatch_protocol::Request;
use tidewatch_protocol::api::BrokerApis;
use tidewatch_protocol::message::{EncodeError, decode_response, encode_request};
use tidewatch_protocol::messages::{ApiKey, SaslAuthenticateRequest, SaslHandshakeRequest};

/// Below it, SASL's bytes follow without frames; Kafka 1.0 ended that (KIP-152).
const FRAMED_HANDSHAKE: i16 = 1;
/// When a session is renewed, in thousandths of its lifetime: early enough for requests under way,
/// and spread, so that connections that began together do not renew together. Java's figures.
const RENEW_FROM: u64 = 850;
const RENEW_UNTIL: u64 = 950;

/// An authentication under way on a connection.
#[derive(Debug)]
pub(super) struct Authentication {
    pub(super) attempt: Attempt,
    apis: BrokerApis,
    exchange: Exchange,
    /// A session is renewed; else the connection is new.
    renews: bool,
    /// What was asked and is not answered.
    asked: Option<Asked>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
}

/// What was agreed on ends; after that the broker closes the connection on any other request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    address: SocketAddr,
    renew_us: u64,
}

/// What ends an authentication.
enum Trouble {
    /// The connection makes no sense any more, and another may.
    Broken(String),
    Security(SecurityError),
}

impl Connection {
    /// Begins to authenticate; `attempt` is open and its versions are agreed on.
    pub(super) fn authenticate(
        &mut self,
        attempt: Attempt,
        apis: BrokerApis,
        ctx: &mut Context<'_>,
    ) {
        self.begin_authentication(attempt, apis, false, ctx);
    }

    fn begin_authentication(
        &mut self,
        mut attempt: Attempt,
        apis: BrokerApis,
        renews: bool,
        ctx: &mut Context<'_>,
    ) {
        let Some(credentials) = &ctx.options.security.credentials else {
            return self.handle_ready(attempt.id, apis, None, ctx);
        };
        attempt.deadline_us = after_ms(ctx.now, self.handshake_limit_ms(ctx.options));
        let (exchange, next) = Exchange::begin(credentials, ctx.random);
        self.state = State::Authenticating(Box::new(Authentication {
            attempt,
            apis,
            exchange,
            renews,
            asked: None,
        }));
        self.go_on(next, ctx);
    }

    pub(super) fn is_session_ending(&self, now: Now) -> bool {
        let State::Ready { session, .. } = &self.state else {
            return false;
        };
        session.is_some_and(|session| session.renew_us <= now.monotonic_us)
    }

    /// Nothing is in flight: the session is renewed on the same connection.
    pub(super) fn authenticate_again(&mut self, ctx: &mut Context<'_>) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Ready {
                id,
                apis,
                session: Some(session),
                ..
            } => {
                let attempt = Attempt {
                    id,
                    address: session.address,
                    untried: VecDeque::new(),
                    deadline_us: 0,
                };
                self.begin_authentication(attempt, apis, true, ctx);
            }
            other => self.state = other,
        }
    }

    /// The token that was asked for, or why there is none.
    pub(crate) fn handle_token(&mut self, token: Result<Token, TokenError>, ctx: &mut Context<'_>) {
        let State::Authenticating(authentication) = &mut self.state else {
            return;
        };
        match token {
            Ok(token) => {
                let next = authentication.exchange.handle_token(&token);
                self.go_on(next, ctx);
            }
            Err(TokenError::Unavailable(why)) => {
                self.give_up_attempt(format!("no token for OAUTHBEARER: {why}"), ctx);
            }
            Err(TokenError::Refused(why)) => self.refuse(SecurityError::Token { why }, ctx),
        }
    }

    /// An answer to one of the requests that authenticate.
    pub(super) fn handle_authenticated(&mut self, frame: Bytes, ctx: &mut Context<'_>) {
        let State::Authenticating(authentication) = &mut self.state else {
            return;
        };
        match authentication.handle_frame(frame) {
            Ok(next) => self.go_on(next, ctx),
            Err(trouble) => self.end_authentication(trouble, ctx),
        }
    }

    fn go_on(&mut self, next: Next, ctx: &mut Context<'_>) {
        let asked = match &next {
            Next::Token => {
                let id = self.state.attempt().map(|attempt| attempt.id);
                return ctx.out.actions.extend(id.map(Action::WantToken));
            }
            Next::Handshake(request) => self.ask(ApiKey::SaslHandshake, request, ctx),
            Next::Authenticate(request) => self.ask(ApiKey::SaslAuthenticate, request, ctx),
            Next::Done {
                session_lifetime_ms,
            } => return self.handle_success(*session_lifetime_ms, ctx),
        };
        if let Err(trouble) = asked {
            self.end_authentication(trouble, ctx);
        }
    }

    fn ask<R: Request>(
        &mut self,
        api: ApiKey,
        request: &R,
        ctx: &mut Context<'_>,
    ) -> Result<(), Trouble> {
        let State::Authenticating(authentication) = &mut self.state else {
            return Ok(());
        };
        let version = authentication.version(api)?;
        let correlation_id = self.pipeline.fresh_correlation_id();
        authentication.asked = Some(Asked {
            api,
            version,
            correlation_id,
        });
        let frame = encode_request(request, version, correlation_id, &ctx.options.client_id);
        let frame = frame.map_err(|why: EncodeError| Trouble::Broken(why.to_string()))?;
        let id = authentication.attempt.id;
        ctx.out.actions.push_back(Action::Send(id, frame));
        Ok(())
    }

    fn handle_success(&mut self, session_lifetime_ms: u64, ctx: &mut Context<'_>) {
        let State::Authenticating(done) = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        let thousandths = ctx.random.u64(RENEW_FROM..RENEW_UNTIL);
        // A thousandth of a millisecond is a microsecond.
        let renew_in_us = session_lifetime_ms.saturating_mul(thousandths);
        let session = (session_lifetime_ms > 0).then_some(Session {
            address: done.attempt.address,
            renew_us: ctx.now.monotonic_us.saturating_add(renew_in_us),
        });
        self.handle_ready(done.attempt.id, done.apis, session, ctx);
    }

    fn end_authentication(&mut self, trouble: Trouble, ctx: &mut Context<'_>) {
        match trouble {
            Trouble::Broken(why) => self.give_up_attempt(why, ctx),
            Trouble::Security(error) => self.refuse(error, ctx),
        }
    }

    fn refuse(&mut self, error: SecurityError, ctx: &mut Context<'_>) {
        self.close(&error.to_string(), ctx);
        self.attempt_unsecured(error, ctx);
    }
}

impl Authentication {
    fn version(&self, api: ApiKey) -> Result<i16, Trouble> {
        let version = self.apis.negotiate(api, None);
        let version = version.map_err(|_| Trouble::Security(SecurityError::NotSasl))?;
        if api == ApiKey::SaslHandshake && version < FRAMED_HANDSHAKE {
            let why = "the broker authenticates only as Kafka did before 1.0".to_owned();
            return Err(Trouble::Security(SecurityError::Broker {
                mechanism: self.exchange.mechanism().name(),
                why,
            }));
        }
        Ok(version)
    }

    fn handle_frame(&mut self, frame: Bytes) -> Result<Next, Trouble> {
        let unasked = || Trouble::Broken("it sent a response that nobody asked for".to_owned());
        let asked = self.asked.take().ok_or_else(unasked)?;
        let verdict = if asked.api == ApiKey::SaslHandshake {
            let response = read::<SaslHandshakeRequest>(frame, asked)?;
            self.exchange.handle_handshake(&response)
        } else {
            let response = read::<SaslAuthenticateRequest>(frame, asked)?;
            self.exchange.handle_authenticate(&response)
        };
        verdict.map_err(|error| match error {
            // SASL was spoken before. The broker takes it up no more than once a second (KIP-368), and a
            // token that is shown shortly before its end gives a session that is shorter than that.
            SecurityError::NotSasl if self.renews => {
                Trouble::Broken("the broker does not renew the session".to_owned())
            }
            error => Trouble::Security(error),
        })
    }
}

fn read<R: Request>(frame: Bytes, asked: Asked) -> Result<R::Response, Trouble> {
    match decode_response::<R>(frame, asked.version) {
        Ok((got, response)) if got == asked.correlation_id => Ok(response),
        Ok((got, _)) => Err(Trouble::Broken(format!(
            "its {:?} response carries correlation id {got}",
            asked.api
        ))),
        Err(error) => Err(Trouble::Broken(format!(
            "its {:?} response cannot be read: {error}",
            asked.api
        ))),
    }
}
