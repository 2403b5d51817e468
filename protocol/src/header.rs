//! Request and response headers of every version.

use crate::guard::{Cursor, DecodeError};
use crate::messages::ApiKey;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

/// A request's header as a broker reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The raw API key; it may be one that we do not know.
    pub api_key: i16,
    /// The API version asked for.
    pub api_version: i16,
    /// Copied into the response.
    pub correlation_id: i32,
    /// The client's name for itself; `None` too where the API key is unknown to us.
    pub client_id: Option<StrBytes>,
}

/// Reads a request's header off the front of `frame`; `frame` is left at the body. An unknown key
/// or version is not an error here: the broker answers it. After an unknown key nothing is known of
/// what follows the correlation id, so `frame` is left there.
///
/// # Errors
/// A header that is cut short, or whose client id is not a string.
pub fn decode_request_header(frame: &mut Bytes) -> Result<RequestHeader, DecodeError> {
    const WHAT: &str = "request header";
    let mut cursor = Cursor::new(frame);
    let api_key = cursor.i16(WHAT)?;
    let api_version = cursor.i16(WHAT)?;
    let correlation_id = cursor.i32(WHAT)?;
    let mut client_id = None;
    if let Ok(api) = ApiKey::try_from(api_key) {
        client_id = match cursor.i16("client id")? {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| DecodeError::Count {
                    what: "client id",
                    count: length.into(),
                    left: cursor.remaining(),
                })?;
                Some(frame.slice_ref(cursor.take(length, "client id")?))
            }
        };
        if api.request_header_version(api_version) >= 2 {
            cursor.skip_tagged_fields(WHAT)?;
        }
    }
    let client_id = client_id
        .map(StrBytes::from_utf8)
        .transpose()
        .map_err(|error| DecodeError::Malformed {
            what: "client id",
            why: error.to_string(),
        })?;
    let taken = frame.len() - cursor.remaining();
    frame.advance(taken);
    Ok(RequestHeader {
        api_key,
        api_version,
        correlation_id,
        client_id,
    })
}

/// Reads the correlation id off the front of a response, without knowing which request it answers.
///
/// # Errors
/// A frame of less than four bytes.
pub fn peek_correlation_id(frame: &[u8]) -> Result<i32, DecodeError> {
    Cursor::new(frame).i32("response header")
}

/// Takes the response header of `api` at `version` off the front of `frame` (ApiVersions answers
/// always with header 0, line 36) and returns its correlation id.
///
/// # Errors
/// A header that is cut short, or tagged fields that are.
pub fn decode_response_header(
    frame: &mut Bytes,
    api: ApiKey,
    version: i16,
) -> Result<i32, DecodeError> {
    const WHAT: &str = "response header";
    let mut cursor = Cursor::new(frame);
    let correlation_id = cursor.i32(WHAT)?;
    if api.response_header_version(version) >= 1 {
        cursor.skip_tagged_fields(WHAT)?;
    }
    let taken = frame.len() - cursor.remaining();
    frame.advance(taken);
    Ok(correlation_id)
}

/// The most bytes that [`encode_request_header`] writes besides the client id.
pub(crate) const MAX_REQUEST_HEADER_BYTES: usize = 11;
/// The most bytes that [`encode_response_header`] writes.
pub(crate) const MAX_RESPONSE_HEADER_BYTES: usize = 5;

/// Writes a request header, v1 or v2; v0 belonged to ControlledShutdown 0 alone.
pub(crate) fn encode_request_header(
    out: &mut BytesMut,
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: &str,
) -> Result<(), String> {
    let length = i16::try_from(client_id.len()).map_err(|_| {
        format!(
            "the client id has {} bytes, over {}",
            client_id.len(),
            i16::MAX
        )
    })?;
    out.put_i16(api as i16);
    out.put_i16(version);
    out.put_i32(correlation_id);
    // The client id is never compact, so that a broker can read it off a header of any version.
    out.put_i16(length);
    out.put_slice(client_id.as_bytes());
    if api.request_header_version(version) >= 2 {
        out.put_u8(0);
    }
    Ok(())
}

/// Writes a response header, v0 or v1.
pub(crate) fn encode_response_header(
    out: &mut BytesMut,
    api: ApiKey,
    version: i16,
    correlation_id: i32,
) {
    out.put_i32(correlation_id);
    if api.response_header_version(version) >= 1 {
        out.put_u8(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::client_versions;
    use crate::messages;
    use kafka_protocol::protocol::Encodable;

    fn spoken() -> impl Iterator<Item = (ApiKey, i16)> {
        ApiKey::iter().flat_map(|api| {
            let versions = client_versions(api).into_iter();
            versions.flat_map(move |v| (v.min..=v.max).map(move |version| (api, version)))
        })
    }

    #[test]
    fn request_headers_equal_the_generated_encoder_and_read_back_at_every_version() {
        for (api, version) in spoken() {
            let mut ours = BytesMut::new();
            encode_request_header(&mut ours, api, version, -7, "agent").unwrap();
            let mut oracle = BytesMut::new();
            messages::RequestHeader::default()
                .with_request_api_key(api as i16)
                .with_request_api_version(version)
                .with_correlation_id(-7)
                .with_client_id(Some(StrBytes::from_static_str("agent")))
                .encode(&mut oracle, api.request_header_version(version))
                .unwrap();
            assert_eq!(ours, oracle, "{api:?} {version}");
            assert!(ours.len() <= MAX_REQUEST_HEADER_BYTES + "agent".len());

            ours.put_slice(b"body");
            let mut frame = ours.freeze();
            let header = decode_request_header(&mut frame).unwrap();
            assert_eq!((header.api_key, header.api_version), (api as i16, version));
            assert_eq!(
                (header.correlation_id, header.client_id.as_deref()),
                (-7, Some("agent"))
            );
            assert_eq!(frame, "body", "{api:?} {version}");
        }
    }

    #[test]
    fn response_headers_equal_the_generated_encoder_and_read_back_at_every_version() {
        for (api, version) in spoken() {
            let mut ours = BytesMut::new();
            encode_response_header(&mut ours, api, version, 9);
            let mut oracle = BytesMut::new();
            messages::ResponseHeader::default()
                .with_correlation_id(9)
                .encode(&mut oracle, api.response_header_version(version))
                .unwrap();
            assert_eq!(ours, oracle, "{api:?} {version}");

            ours.put_slice(b"body");
            let mut frame = ours.freeze();
            assert_eq!(peek_correlation_id(&frame), Ok(9));
            assert_eq!(decode_response_header(&mut frame, api, version), Ok(9));
            assert_eq!(frame, "body", "{api:?} {version}");
        }
    }

    #[test]
    fn line_36_the_header_of_an_api_versions_response_is_always_of_version_0() {
        for version in 0..=4 {
            let mut frame = Bytes::from_static(&[0, 0, 0, 5, 0, 35]);
            assert_eq!(
                decode_response_header(&mut frame, ApiKey::ApiVersions, version),
                Ok(5)
            );
            assert_eq!(frame, [0, 35][..], "version {version}");
        }
    }

    #[test]
    fn line_44_unknown_tagged_fields_of_headers_are_skipped() {
        let tagged = b"\0\0\0\x05\x02\x00\x03abc\xff\xff\x03\x01zbody";
        let mut response = Bytes::from_static(tagged);
        assert_eq!(
            decode_response_header(&mut response, ApiKey::Fetch, 12),
            Ok(5)
        );
        assert_eq!(response, "body");

        let mut request = Bytes::from_static(b"\0\x03\0\x09\0\0\0\x01\xff\xff\x01\x4d\x02zzbody");
        let header = decode_request_header(&mut request).unwrap();
        assert_eq!((header.api_version, header.client_id), (9, None));
        assert_eq!(request, "body");
    }

    #[test]
    fn an_unknown_key_or_version_is_left_to_the_broker() {
        let mut newer = Bytes::from_static(b"\0\x12\0\x63\0\0\0\x01\0\x01c\0rest");
        let header = decode_request_header(&mut newer).unwrap();
        assert_eq!((header.api_key, header.api_version), (18, 99));
        assert_eq!(newer, "rest");

        let mut unknown = Bytes::from_static(b"\x7f\xff\0\x01\0\0\0\x01rest");
        let header = decode_request_header(&mut unknown).unwrap();
        assert_eq!(
            (header.api_key, header.correlation_id, header.client_id),
            (i16::MAX, 1, None)
        );
        assert_eq!(unknown, "rest");
    }

    #[test]
    fn headers_that_are_cut_or_malformed_are_refused_and_nothing_is_taken() {
        let whole = b"\0\x03\0\x09\0\0\0\x01\0\x02ab\x01\x4d\x02zz";
        for size in 0..whole.len() {
            let mut frame = Bytes::from_static(&whole[..size]);
            assert!(decode_request_header(&mut frame).is_err(), "cut to {size}");
            assert_eq!(frame.len(), size);
        }
        for client_id in [&b"\xff\xfeab\0"[..], b"\0\x02\xff\xff\0", b"\x7f\xffab\0"] {
            let mut frame = BytesMut::from(&whole[..8]);
            frame.put_slice(client_id);
            assert!(
                decode_request_header(&mut frame.freeze()).is_err(),
                "{client_id:x?}"
            );
        }
        assert!(peek_correlation_id(&[0, 0, 0]).is_err());
    }
}
