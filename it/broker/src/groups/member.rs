//! One member of a classic group, as its coordinator knows it.

use crate::now::Now;
use bytes::Bytes;
use tidewatch_protocol::error_code::ErrorCode;

/// Names one JoinGroup or SyncGroup that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// What a member said of itself when it joined last.
#[derive(Debug, Clone)]
pub(crate) struct Joining {
    pub(crate) client_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) protocol_type: String,
    /// Its assignors in its own order, each with what it wants the leader to know.
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
}

/// The answer to a JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) member_id: String,
    /// For the leader alone: member, instance, metadata.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
    /// A static leader came back: it goes on with the assignment there is (KIP-814).
    pub(crate) skip_assignment: bool,
}

/// Where a request that may wait stands; a later one of the same member takes its place.
#[derive(Debug, Clone)]
pub(crate) enum Pending<T> {
    None,
    Waiting(Ticket),
    Answered(Ticket, T),
}

/// One member.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) joining: Joining,
    pub(crate) assignment: Bytes,
    pub(crate) join: Pending<Joined>,
    pub(crate) sync: Pending<Result<Bytes, ErrorCode>>,
    /// Has not been in any generation yet.
    pub(crate) is_new: bool,
    /// Then its session is over, unless it waits for the others of its group.
    pub(crate) expires: Now,
}

impl<T: Clone> Pending<T> {
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting(_))
    }

    /// Answers the one that waits, if one does.
    pub(crate) fn answer(&mut self, answer: impl FnOnce() -> T) {
        if let Self::Waiting(ticket) = self {
            *self = Self::Answered(*ticket, answer());
        }
    }

    /// The answer to `ticket`: `Some(None)` where another has taken its place.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<Option<T>> {
        match self {
            Self::Waiting(waiting) if *waiting == ticket => None,
            Self::Answered(answered, answer) if *answered == ticket => {
                let answer = answer.clone();
                *self = Self::None;
                Some(Some(answer))
            }
            _ => Some(None),
        }
    }
}

impl Member {
    /// Whether the coordinator counts it as alive without a heartbeat.
    fn waits(&self) -> bool {
        !self.is_new && (self.join.is_waiting() || self.sync.is_waiting())
    }

    /// When its session ends if nothing is heard of it.
    pub(crate) fn deadline(&self) -> Option<Now> {
        (!self.waits()).then_some(self.expires)
    }

    /// A sign of life.
    pub(crate) fn refresh(&mut self, now: Now) {
        self.expires = now.after_ms(self.joining.session_timeout_ms);
    }

    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let mut protocols = self.joining.protocols.iter();
        let found = protocols.find(|(name, _)| name == protocol);
        found
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }
}
