//! One authentication: what to say next. Bytes in and out; the connection carries them.
//!
//! ```text
//!   OAUTHBEARER ──▶ WantsToken ──token──┐
//!   PLAIN, SCRAM ───────────────────────┴─▶ Handshake ──mechanism enabled──▶ Authenticate ──▶ Done
//!                                               │                            │ ▲    │
//!                                               │ error 33, and the list     │ └────┘ challenge, answer
//!                                               ▼                            ▼ error 58, bad signature
//!                                             SecurityError ◀────────────────┘
//! ```

mod oauthbearer;
mod plain;
mod scram;

use crate::error::SecurityError;
use crate::options::{Credentials, Mechanism};
use crate::token::Token;
use oauthbearer::OauthBearer;
use plain::Plain;
use scram::Scram;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};

/// Rounds of one authentication; SCRAM, the longest, has two.
const MAX_ROUNDS: u8 = 4;

/// An authentication under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    mechanism: Mechanism,
    /// `None` until there is a token.
    conversation: Option<Conversation>,
    rounds: u8,
}

/// What one mechanism says and hears.
#[derive(Debug)]
enum Conversation {
    Plain(Plain),
    Scram(Box<Scram>),
    OauthBearer(OauthBearer),
}

/// What the connection does next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Ask the shell for a bearer token.
    Token,
    /// Send.
    Handshake(SaslHandshakeRequest),
    /// Send.
    Authenticate(SaslAuthenticateRequest),
    /// Authenticated; 0 where the session does not end (KIP-368).
    Done { session_lifetime_ms: u64 },
}

/// What a mechanism makes of the broker's bytes.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Answer(Vec<u8>),
    /// The broker has proved what it had to.
    Done,
}

impl Exchange {
    /// Begins to authenticate.
    pub(crate) fn begin(credentials: &Credentials, random: &mut fastrand::Rng) -> (Self, Next) {
        let conversation = match credentials {
            Credentials::Plain { username, password } => {
                Some(Conversation::Plain(Plain::new(username, password)))
            }
            Credentials::Scram {
                sha512,
                username,
                password,
                token_auth,
            } => {
                let hash = scram::Hash::new(*sha512);
                let nonce = scram::nonce(random);
                let scram = Scram::new(hash, username, password, *token_auth, nonce);
                Some(Conversation::Scram(Box::new(scram)))
            }
            Credentials::OauthBearer(_) => None,
        };
        let exchange = Self {
            mechanism: credentials.mechanism(),
            conversation,
            rounds: 0,
        };
        let next = match exchange.conversation {
            Some(_) => exchange.handshake(),
            None => Next::Token,
        };
        (exchange, next)
    }

    /// What is spoken.
    pub(crate) fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The token that was asked for.
    pub(crate) fn handle_token(&mut self, token: &Token) -> Next {
        self.conversation = Some(Conversation::OauthBearer(OauthBearer::new(token)));
        self.handshake()
    }

    /// Whether the broker has the mechanism.
    ///
    /// # Errors
    /// It has not, or answers with another error.
    pub(crate) fn handle_handshake(
        &mut self,
        response: &SaslHandshakeResponse,
    ) -> Result<Next, SecurityError> {
        let code = ErrorCode(response.error_code);
        if code.is_ok() {
            let first = match &self.conversation {
                Some(Conversation::Plain(plain)) => plain.first(),
                Some(Conversation::Scram(scram)) => scram.first(),
                Some(Conversation::OauthBearer(bearer)) => bearer.first(),
                None => return Ok(Next::Token),
            };
            return Ok(authenticate(first));
        }
        let mechanism = self.mechanism.name();
        Err(match code {
            ErrorCode::UNSUPPORTED_SASL_MECHANISM => SecurityError::Mechanism {
                mechanism,
                enabled: response.mechanisms.iter().map(|m| m.to_string()).collect(),
            },
            // The listener does without SASL, or wants it before everything else.
            ErrorCode::ILLEGAL_SASL_STATE => SecurityError::NotSasl,
            code => SecurityError::Credentials {
                mechanism,
                why: code.to_string(),
            },
        })
    }

    /// The broker's bytes, or its verdict.
    ///
    /// # Errors
    /// It refuses the credentials, or does not prove that it knows them.
    pub(crate) fn handle_authenticate(
        &mut self,
        response: &SaslAuthenticateResponse,
    ) -> Result<Next, SecurityError> {
        let code = ErrorCode(response.error_code);
        let mechanism = self.mechanism.name();
        if !code.is_ok() {
            let message = response.error_message.as_ref();
            let why = message.map_or_else(|| code.to_string(), |message| message.to_string());
            return Err(SecurityError::Credentials { mechanism, why });
        }
        self.rounds += 1;
        let bytes = &response.auth_bytes;
        let step = match &mut self.conversation {
            _ if self.rounds > MAX_ROUNDS => Err("it does not come to an end".to_owned()),
            Some(Conversation::Plain(plain)) => plain.handle_challenge(bytes),
            Some(Conversation::Scram(scram)) => scram.handle_challenge(bytes),
            Some(Conversation::OauthBearer(bearer)) => bearer.handle_challenge(bytes),
            None => Err("it answered what nobody asked".to_owned()),
        };
        match step {
            Ok(Step::Answer(bytes)) => Ok(authenticate(bytes)),
            Ok(Step::Done) => Ok(Next::Done {
                session_lifetime_ms: u64::try_from(response.session_lifetime_ms).unwrap_or(0),
            }),
            Err(why) => Err(SecurityError::Broker { mechanism, why }),
        }
    }

    fn handshake(&self) -> Next {
        let mechanism = StrBytes::from_static_str(self.mechanism.name());
        Next::Handshake(SaslHandshakeRequest::default().with_mechanism(mechanism))
    }
}

fn authenticate(bytes: Vec<u8>) -> Next {
    Next::Authenticate(SaslAuthenticateRequest::default().with_auth_bytes(bytes.into()))
}
