//! Errors by whose fault they are and whether trying again can help.

use crate::call::BrokerId;
use crate::options::OptionError;
use tidewatch_protocol::api::NoCommonVersion;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::guard::DecodeError;
use tidewatch_protocol::message::EncodeError;

/// Why one call to one broker came back without a response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct CallError {
    /// What happened.
    pub kind: CallErrorKind,
    /// Some of the request's bytes were handed to the socket: the broker may have acted on it.
    pub written: bool,
    /// The broker, once one was chosen.
    pub broker: Option<BrokerId>,
}

/// What happened to a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallErrorKind {
    /// No connection could be had in time; `why` is the last attempt's failure.
    #[error("no connection to {whom}: {why}")]
    NoRoute {
        /// The broker or the bootstrap addresses.
        whom: String,
        /// The last failure.
        why: String,
    },
    /// The connection broke while the call was on it.
    #[error("the connection to {address} was lost: {why}")]
    Disconnected {
        /// The broker's address.
        address: String,
        /// End of file, reset, a malformed frame, …
        why: String,
    },
    /// The response did not come in time; the connection was closed (line 39).
    #[error("{address} did not answer within {timeout_ms} ms")]
    TimedOut {
        /// The broker's address.
        address: String,
        /// The limit.
        timeout_ms: u64,
    },
    /// The broker is too old or too new for this request.
    #[error(transparent)]
    Version(#[from] NoCommonVersion),
    /// The request cannot be written at the version agreed on.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The response made no sense; the connection was closed.
    #[error("{address} sent a response that cannot be read: {source}")]
    Decode {
        /// The broker's address.
        address: String,
        /// What was wrong with it.
        source: DecodeError,
    },
    /// The brokers say that there will be no coordinator: not authorised, an invalid group id, …
    #[error("{whom} cannot be found: {code}")]
    NoCoordinator {
        /// Of which group or transactional id.
        whom: String,
        /// The brokers' reason.
        code: ErrorCode,
    },
    /// The broker cannot be dealt with securely as the options ask; calls fail at once until the
    /// next attempt, which waits longer each time (line 40).
    #[error("{address}: {source}")]
    Security {
        /// The broker's address.
        address: String,
        /// What stands in the way.
        source: SecurityError,
    },
    /// The client was closed.
    #[error("the client was closed")]
    Closed,
}

/// Why a connection cannot be secured as the options ask. Trying again soon does not help: somebody
/// has to change something, here or at the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// The broker's certificate is not trusted, or not valid for that host or time.
    #[error("the broker's certificate is refused: {why}")]
    Certificate {
        /// What is wrong with it, and what to try.
        why: String,
    },
    /// The broker wants a certificate of this client, or another one.
    #[error(
        "the broker refuses this client's certificate ({why}): check ssl.keystore.location, and \
         that the broker trusts who signed it"
    )]
    ClientCertificate {
        /// The broker's alert.
        why: String,
    },
    /// What answers does not speak TLS.
    #[error(
        "what answers there does not speak TLS ({why}): check the port, or set security.protocol \
         without SSL"
    )]
    NotTls {
        /// What was received instead.
        why: String,
    },
    /// No version or cipher in common, or another failure of the handshake.
    #[error("the TLS handshake failed: {why}")]
    Tls {
        /// What failed.
        why: String,
    },
    /// The broker's listener has no SASL.
    #[error(
        "the broker wants no SASL on that port: check the port, or set security.protocol without \
         SASL"
    )]
    NotSasl,
    /// The broker does not have the mechanism.
    #[error(
        "the broker does not offer {mechanism} on that port, but {}: set sasl.mechanism to one of \
         them",
        .enabled.join(", ")
    )]
    Mechanism {
        /// What `sasl.mechanism` says.
        mechanism: &'static str,
        /// What the broker has enabled.
        enabled: Vec<String>,
    },
    /// Wrong name, password or token.
    #[error("the broker refuses the credentials for {mechanism}: {why}")]
    Credentials {
        /// The mechanism.
        mechanism: &'static str,
        /// The broker's reason.
        why: String,
    },
    /// What answers does not prove that it is the broker, or breaks the mechanism's rules.
    #[error("what answers does not authenticate itself by {mechanism}: {why}")]
    Broker {
        /// The mechanism.
        mechanism: &'static str,
        /// What it did.
        why: String,
    },
    /// There is no token to show.
    #[error("no token for OAUTHBEARER: {why}")]
    Token {
        /// Why not.
        why: String,
    },
}

impl SecurityError {
    /// Whether the same host at another address may do better: certificates are a machine's own,
    /// credentials are not, and wrong ones shown again may lock an account.
    pub(crate) fn is_one_machines(&self) -> bool {
        matches!(
            self,
            Self::Certificate { .. } | Self::NotTls { .. } | Self::Tls { .. }
        )
    }
}

impl CallErrorKind {
    /// Whether it can pass with time. As [`is_retriable`](Self::is_retriable), and also where
    /// somebody may mend a certificate or a password: records that were taken wait for that until
    /// their delivery timeout, though requests of users fail at once.
    pub fn may_pass(&self) -> bool {
        self.is_retriable() || matches!(self, Self::Security { .. })
    }

    /// Whether the same call can succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            Self::NoRoute { .. }
                | Self::Disconnected { .. }
                | Self::TimedOut { .. }
                | Self::Decode { .. }
        )
    }
}

/// What a user of the client sees.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The client's use of itself: an option, an argument. Nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// A broker answered with an error code.
    #[error("failed to {doing}: {code}{}", and_says(.message))]
    Broker {
        /// What was being done, to what: `fetch cpu-monitor/3 at 4711`.
        doing: String,
        /// The code.
        code: ErrorCode,
        /// The broker's own message where it sent one, or what to do about it.
        message: Option<String>,
    },
    /// No answer could be had.
    #[error("failed to {doing}: {source}")]
    Call {
        /// What was being done, to what.
        doing: String,
        /// Why not.
        source: CallError,
    },
    /// It took longer than it was allowed to.
    #[error("failed to {doing} within {limit_ms} ms: {why}")]
    TimedOut {
        /// What was being done, to what.
        doing: String,
        /// The limit and its option's default name are in `why`.
        limit_ms: u64,
        /// What it was waiting for.
        why: String,
    },
    /// Record bytes that cannot be read.
    #[error("failed to {doing}: {source}{}", how_to_skip(.skip_to))]
    Records {
        /// What was being done, to what.
        doing: String,
        /// What is wrong with them.
        source: tidewatch_protocol::records::RecordsError,
        /// Seek there to go on without them; `None` where the bytes do not tell.
        skip_to: Option<i64>,
    },
    /// The log of a new leader ends before what was read, as after an unclean election: records from
    /// there on are lost (KIP-320).
    #[error(
        "failed to {doing}: the new leader's log went another way at {end_offset}; records from there on were lost, seek to {end_offset} to read what came instead"
    )]
    Truncated {
        /// What was being done, to what.
        doing: String,
        /// Where the logs part.
        end_offset: i64,
    },
    /// The thread that drives the client could not be started.
    #[error("failed to start the client's thread: {why}")]
    Thread {
        /// The system's reason.
        why: String,
    },
    /// Another producer has taken the transactional id over; this one is of no more use. Whoever
    /// should go on opens a producer anew, and fences the other by that.
    #[error(
        "failed to {doing}: another producer has taken transactional id {transactional_id} over, or the transaction was open for longer than transaction.timeout.ms ({code})"
    )]
    Fenced {
        /// What was being done.
        doing: String,
        /// The id.
        transactional_id: String,
        /// The brokers' words.
        code: ErrorCode,
    },
    /// Part of the transaction failed, so that it can only be aborted.
    #[error("failed to {doing}: the transaction has to be aborted: {why}")]
    MustAbort {
        /// What was being done.
        doing: String,
        /// What failed first.
        why: String,
    },
    /// The client was closed.
    #[error("failed to {doing}: the client was closed")]
    Closed {
        /// What was being done.
        doing: String,
    },
}

impl From<OptionError> for Error {
    fn from(error: OptionError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl Error {
    /// Whether it says that the topic to be created is there already.
    pub fn is_topic_exists(&self) -> bool {
        matches!(self, Self::Broker { code, .. } if *code == ErrorCode::TOPIC_ALREADY_EXISTS)
    }

    /// Whether this producer was fenced: another one has its transactional id now.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. })
    }

    /// Whether doing the same again can help.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Usage(_)
            | Self::Thread { .. }
            | Self::Closed { .. }
            | Self::Fenced { .. }
            | Self::MustAbort { .. }
            | Self::Records { .. }
            | Self::Truncated { .. } => false,
            Self::Broker { code, .. } => code.meaning().retriable,
            Self::Call { source, .. } => source.kind.is_retriable(),
            Self::TimedOut { .. } => true,
        }
    }
}

fn how_to_skip(skip_to: &Option<i64>) -> String {
    match skip_to {
        Some(offset) => format!("; seek to {offset} to go on without it"),
        None => String::new(),
    }
}

fn and_says(message: &Option<String>) -> String {
    match message {
        Some(message) => format!("; {message}"),
        None => String::new(),
    }
}
