//! Requests and responses, whole: guard first, then the decoder of `kafka-protocol`.

mod produce;

pub use produce::{ProduceFrame, ProduceTopic};

use crate::error_code::ErrorCode;
use crate::frame::{Frame, LENGTH_PREFIX_BYTES};
use crate::guard::{self, DecodeError, Direction};
use crate::header::{
    MAX_REQUEST_HEADER_BYTES, MAX_RESPONSE_HEADER_BYTES, decode_response_header,
    encode_request_header, encode_response_header,
};
use crate::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, Request};

/// A message that cannot be written at this version (a field the version lacks, a string too long).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to encode {api:?} version {version}: {why}")]
pub struct EncodeError {
    /// The API.
    pub api: ApiKey,
    /// The version.
    pub version: i16,
    /// The encoder's reason.
    pub why: String,
}

/// A request as one frame with its header.
///
/// # Errors
/// A field that `version` lacks or that is too long for it; a Produce or Fetch request that would
/// carry a zero topic id (line 37).
pub fn encode_request<R: Request + Encodable>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: &str,
) -> Result<Frame, EncodeError> {
    let api = api_of::<R>();
    let error = |why: String| EncodeError { api, version, why };
    let body_size = request
        .compute_size(version)
        .map_err(|e| error(e.to_string()))?;
    let mut out = BytesMut::with_capacity(
        LENGTH_PREFIX_BYTES + MAX_REQUEST_HEADER_BYTES + client_id.len() + body_size,
    );
    out.put_i32(0);
    encode_request_header(&mut out, api, version, correlation_id, client_id).map_err(error)?;
    let body_start = out.len();
    request
        .encode(&mut out, version)
        .map_err(|e| error(e.to_string()))?;
    refuse_nil_topic_id(api, version, out.get(body_start..).unwrap_or_default()).map_err(error)?;
    finish(out, Vec::new()).map_err(error)
}

/// Produce 13 and Fetch 13 name topics by id alone (KIP-516), so a zero id names none (line 37).
fn refuse_nil_topic_id(api: ApiKey, version: i16, body: &[u8]) -> Result<(), String> {
    const BY_ID: i16 = 13;
    if !matches!(api, ApiKey::Produce | ApiKey::Fetch) || version < BY_ID {
        return Ok(());
    }
    let walked = guard::walked(api, Direction::Request, version, body);
    if walked.map_err(|error| error.to_string())?.has_nil_uuid {
        return Err("the id of a topic is not known".to_owned());
    }
    Ok(())
}

/// Reads the response of `R` at `version` from a whole frame body, header included. Record sets and
/// strings are slices of `frame`. Returns the correlation id and the response.
///
/// An ApiVersions response with the error UNSUPPORTED_VERSION is read as version 0, whatever was
/// asked for, because that is how brokers write it (line 36).
///
/// Bytes after the message are ignored, as Java's clients, librdkafka and franz-go ignore them: a
/// broker that those can talk to must not fail with us. Nothing of them is interpreted.
///
/// # Errors
/// Bytes that are not a response of `R` at `version`, or that would take far more memory decoded
/// than on the wire.
pub fn decode_response<R>(mut frame: Bytes, version: i16) -> Result<(i32, R::Response), DecodeError>
where
    R: Request,
    R::Response: Decodable,
{
    let api = api_of::<R>();
    let correlation_id = decode_response_header(&mut frame, api, version)?;
    let refused = frame.starts_with(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
    let body_version = if api == ApiKey::ApiVersions && refused {
        0
    } else {
        version
    };
    let response = decode_body(frame, api, Direction::Response, body_version)?;
    Ok((correlation_id, response))
}

/// Reads the response to an ApiVersions request of `sent_version`, also where the broker found that
/// too new: then `error_code` is 35, the body is of version 0 and lists at least the versions of
/// ApiVersions itself, or nothing on old brokers, where version 0 is the one to try (line 36).
///
/// # Errors
/// As [`decode_response`].
pub fn decode_api_versions(
    frame: Bytes,
    sent_version: i16,
) -> Result<(i32, ApiVersionsResponse), DecodeError> {
    decode_response::<ApiVersionsRequest>(frame, sent_version)
}

/// Reads a request's body, for a broker; `body` is what [`crate::header::decode_request_header`] left.
/// Bytes after the message are ignored, as Kafka's broker does.
///
/// # Errors
/// As [`decode_response`].
pub fn decode_request<R: Request + Decodable>(body: Bytes, version: i16) -> Result<R, DecodeError> {
    decode_body(body, api_of::<R>(), Direction::Request, version)
}

/// A response to `R` as one frame with its header, for a broker.
///
/// # Errors
/// A field that `version` lacks or that is too long for it.
pub fn encode_response<R>(
    response: &R::Response,
    version: i16,
    correlation_id: i32,
) -> Result<Frame, EncodeError>
where
    R: Request,
    R::Response: Encodable,
{
    let api = api_of::<R>();
    let error = |why: String| EncodeError { api, version, why };
    let body_size = response
        .compute_size(version)
        .map_err(|e| error(e.to_string()))?;
    let mut out =
        BytesMut::with_capacity(LENGTH_PREFIX_BYTES + MAX_RESPONSE_HEADER_BYTES + body_size);
    out.put_i32(0);
    encode_response_header(&mut out, api, version, correlation_id);
    response
        .encode(&mut out, version)
        .map_err(|e| error(e.to_string()))?;
    finish(out, Vec::new()).map_err(error)
}

fn decode_body<M: Decodable>(
    mut body: Bytes,
    api: ApiKey,
    direction: Direction,
    version: i16,
) -> Result<M, DecodeError> {
    let size = guard::check(api, direction, version, &body)?;
    body.truncate(size);
    // From `Bytes`, because this decoder copies every string and record set out of anything else.
    M::decode(&mut body, version).map_err(|error| DecodeError::Malformed {
        what: "message",
        why: error.to_string(),
    })
}

/// Writes the length of what follows it over the first four bytes.
fn finish(mut head: BytesMut, parts: Vec<Bytes>) -> Result<Frame, String> {
    let size = head.len() + parts.iter().map(Bytes::len).sum::<usize>() - LENGTH_PREFIX_BYTES;
    let length = i32::try_from(size).map_err(|_| format!("a frame of {size} bytes is too long"))?;
    if let Some(prefix) = head.first_chunk_mut::<LENGTH_PREFIX_BYTES>() {
        *prefix = length.to_be_bytes();
    }
    Ok(Frame {
        head: head.freeze(),
        parts,
    })
}

/// The key of `R`. `kafka-protocol` generates keys and requests from one list, so the fallback is
/// never taken.
fn api_of<R: Request>() -> ApiKey {
    ApiKey::try_from(R::KEY).unwrap_or(ApiKey::ApiVersions)
}

#[cfg(test)]
mod tests;
