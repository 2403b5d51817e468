//! Walks a body by a table of its shape before the decoder of `kafka-protocol` sees it, because that
//! decoder trusts array counts: four bytes could ask it for hundreds of gigabytes.

mod cursor;
pub mod shape;
mod table;
mod walk;

pub(crate) use cursor::Cursor;

use crate::messages::ApiKey;
use walk::Walk;

/// Which of an API's two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Client to broker.
    Request,
    /// Broker to client.
    Response,
}

/// Bytes from a peer that are not what they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("{what} is cut short")]
    Truncated {
        /// The field or message.
        what: &'static str,
    },
    /// A count or length that the bytes left cannot hold.
    #[error("{what} claims {count} elements, the {left} bytes left cannot hold them")]
    Count {
        /// The field.
        what: &'static str,
        /// The claim.
        count: i64,
        /// The bytes left.
        left: usize,
    },
    /// Anything else that is not valid at this version.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// The field or message.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A version outside what we speak.
    #[error("{api:?} version {version} is not one that we speak")]
    Version {
        /// The API.
        api: ApiKey,
        /// The version.
        version: i16,
    },
}

/// A decoded message takes at most this many times the bytes of its body, and
/// [`MAX_EXPANSION_FLOOR_BYTES`] more. The structs of `kafka-protocol` reach a factor of about 50
/// by empty strings and arrays; only a peer that strews tagged fields which nobody knows over tiny
/// structs gets beyond 64, because each of those costs a node of a `BTreeMap`.
pub const MAX_EXPANSION: usize = 64;
/// What a decoded message may always take, however short its body.
pub const MAX_EXPANSION_FLOOR_BYTES: usize = 32 << 10;

/// Checks that `body` (after its header) has the shape of `api` at `version`, that no count in it
/// exceeds what the bytes can hold, and that decoding it stays within [`MAX_EXPANSION`]. Returns the
/// bytes that the message takes; the decoder takes the same.
///
/// # Errors
/// What is wrong, and at which field. [`DecodeError::Version`] also for APIs that we do not speak.
pub fn check(
    api: ApiKey,
    direction: Direction,
    version: i16,
    body: &[u8],
) -> Result<usize, DecodeError> {
    Ok(walked(api, direction, version, body)?.size_bytes)
}

/// What a walk over a valid message saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walked {
    /// The bytes of the message.
    pub(crate) size_bytes: usize,
    /// Whether any UUID outside unknown tagged fields was zero.
    pub(crate) has_nil_uuid: bool,
}

pub(crate) fn walked(
    api: ApiKey,
    direction: Direction,
    version: i16,
    body: &[u8],
) -> Result<Walked, DecodeError> {
    let message = shape::find(api, direction)
        .filter(|message| message.versions.contains(version))
        .ok_or(DecodeError::Version { api, version })?;
    Walk::new(body, version, version >= message.flexible_from).message(&message.body)
}
