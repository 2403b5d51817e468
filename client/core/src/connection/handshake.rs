//! Agreeing on versions: what to ask in ApiVersions, and what its answer or a reset means (line 36).
//!
//! ```text
//!   ask at our highest ──error 35──▶ ask at the broker's highest (0 where it names none)
//!     │        │                                  │
//!     │        └──reset──▶ new connection, ask at 0 ──lists more──▶ ask at what it lists
//!     ▼                                           │                     │ reset: 0 from now on
//!   agreed ◀──────────────────────────────────────┴─────────────────────┘
//! ```

use tidewatch_protocol::api::{BrokerApis, client_versions};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::{ApiKey, ApiVersionsResponse};

/// What worked with one broker, so that its next connections need not find out again.
#[derive(Debug, Clone)]
pub(crate) struct AgreedVersions {
    /// The version of ApiVersions to ask in.
    version: i16,
    /// The broker lists more than 0 and resets on it all the same.
    zero_only: bool,
}

/// What an answer to ApiVersions means.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Agreed.
    Agreed(BrokerApis),
    /// Ask again on the same connection.
    AskAgain,
    /// Hopeless on this connection.
    Refused(ErrorCode),
}

impl Default for AgreedVersions {
    fn default() -> Self {
        Self {
            version: ours(),
            zero_only: false,
        }
    }
}

impl AgreedVersions {
    /// The version to ask in.
    pub(crate) fn version(&self) -> i16 {
        self.version
    }

    /// The broker's answer to a question in [`version`](Self::version).
    pub(crate) fn handle_answer(&mut self, response: &ApiVersionsResponse) -> Verdict {
        let code = ErrorCode(response.error_code);
        let apis = BrokerApis::from_response(response);
        let highest = apis.advertised(ApiKey::ApiVersions).map_or(0, |v| v.max);
        let highest = highest.clamp(0, ours());
        if code == ErrorCode::UNSUPPORTED_VERSION && self.version > 0 {
            // Always lower than before, so that this ends.
            self.version = highest.min(self.version - 1);
            return Verdict::AskAgain;
        }
        if !code.is_ok() {
            return Verdict::Refused(code);
        }
        if self.version == 0 && highest > 0 && !self.zero_only {
            self.version = highest;
            return Verdict::AskAgain;
        }
        Verdict::Agreed(apis)
    }

    /// The broker dropped the connection instead of answering. Whether a lower version is worth
    /// another connection at once; `asked_before` says that 0 had worked on this one.
    pub(crate) fn handle_reset(&mut self, asked_before: bool) -> bool {
        if self.version == 0 {
            // Nothing lower: it was no matter of versions, so the next attempt begins anew.
            self.version = if self.zero_only { 0 } else { ours() };
            return false;
        }
        self.zero_only = asked_before;
        self.version = 0;
        true
    }
}

fn ours() -> i16 {
    client_versions(ApiKey::ApiVersions).map_or(0, |versions| versions.max)
}
