//! What an error means for the transaction: one table for all its steps.

use crate::error::{CallError, CallErrorKind};
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;

/// What to do about a step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Again, after a while; `lost` where the coordinator has to be looked up anew.
    Retry { why: Arc<str>, lost: bool },
    /// The transaction can only be aborted.
    Abort(Arc<str>),
    /// The same, and its coordinator does not know the producer id: no end can be asked of it, a
    /// new identity must be (KIP-360, line 52).
    Renew(Arc<str>),
    /// Another producer has the transactional id.
    Fenced(ErrorCode),
    /// The transactional id is of no use here.
    Fatal(FatalCause),
}

/// Why nothing can be done under a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FatalCause {
    Broker(ErrorCode),
    Call(CallError),
    /// The broker takes no epoch from a producer that has lost count (KIP-360).
    TooOld,
}

/// Which step it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// InitProducerId and EndTxn: without them nothing goes on.
    Frame,
    /// What adds to the transaction.
    Content,
}

/// A coordinator's error code.
pub(super) fn of_code(code: ErrorCode, kind: Kind) -> Verdict {
    let meaning = code.meaning();
    let why = || Arc::from(code.to_string());
    match code {
        // From a coordinator both mean the same (line 18); old versions have only the first.
        ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => Verdict::Fenced(code),
        ErrorCode::INVALID_PRODUCER_ID_MAPPING | ErrorCode::UNKNOWN_PRODUCER_ID => {
            Verdict::Renew(why())
        }
        ErrorCode::TRANSACTION_ABORTABLE => Verdict::Abort(why()),
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED | ErrorCode::INVALID_TXN_STATE => {
            Verdict::Fatal(FatalCause::Broker(code))
        }
        _ if meaning.retriable => Verdict::Retry {
            why: why(),
            lost: meaning.find_coordinator,
        },
        _ if kind == Kind::Content => Verdict::Abort(why()),
        _ => Verdict::Fatal(FatalCause::Broker(code)),
    }
}

/// A step without an answer: it may have been carried out, so only doing it again can tell.
pub(super) fn of_call(error: CallError, kind: Kind) -> Verdict {
    if error.kind.is_retriable() {
        return Verdict::Retry {
            why: Arc::from(error.to_string()),
            lost: true,
        };
    }
    match (&error.kind, kind) {
        (CallErrorKind::Version(_) | CallErrorKind::Encode(_), Kind::Content) => {
            Verdict::Abort(Arc::from(error.to_string()))
        }
        (CallErrorKind::NoCoordinator { code, .. }, Kind::Content)
            if *code != ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED =>
        {
            Verdict::Abort(Arc::from(error.to_string()))
        }
        _ => Verdict::Fatal(FatalCause::Call(error)),
    }
}
