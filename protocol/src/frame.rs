//! Length-prefixed frames: what goes out in one vectored write, and cutting what came in.

use bytes::{Buf, Bytes, BytesMut};

/// One outgoing frame. `head` begins with the 4-byte length of everything after it; `parts` follow
/// it uncopied (record sets between the pieces of a Produce request). One vectored write sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Length prefix, header, and the body up to the first part.
    pub head: Bytes,
    /// The rest of the body, in order.
    pub parts: Vec<Bytes>,
}

impl Frame {
    /// Bytes on the wire, length prefix included.
    pub fn size_bytes(&self) -> usize {
        self.head.len() + self.parts.iter().map(Bytes::len).sum::<usize>()
    }

    /// Everything in one piece, copied: for peers in memory, where no vectored write is at hand.
    pub fn to_bytes(&self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.size_bytes());
        whole.extend_from_slice(&self.head);
        for part in &self.parts {
            whole.extend_from_slice(part);
        }
        whole.freeze()
    }
}

/// The largest Fetch response that is read: as much as Kafka's default `socket.request.max.bytes`.
pub const MAX_FETCH_FRAME_BYTES: usize = 100 << 20;
/// The largest frame of any other kind that is read.
pub const MAX_FRAME_BYTES: usize = 16 << 20;
/// The shortest frame that means anything: a response header 0 is a correlation id.
pub const MIN_FRAME_BYTES: usize = 4;
/// The size of the length that precedes every frame.
pub const LENGTH_PREFIX_BYTES: usize = 4;

/// Why a length prefix was refused (line 38). The connection must be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than a header, zero or negative.
    #[error("the peer announced a frame of {length} bytes{}", looks_like(.prefix))]
    TooShort {
        /// The length as read.
        length: i32,
        /// The first four bytes.
        prefix: [u8; 4],
    },
    /// Over the cap.
    #[error("the peer announced a frame of {length} bytes, over the limit of {cap}{}", looks_like(.prefix))]
    TooLong {
        /// The length as read.
        length: i32,
        /// The cap it broke.
        cap: usize,
        /// The first four bytes.
        prefix: [u8; 4],
    },
}

/// Names the protocol that the first bytes look like (HTTP, TLS alert), as a hint; empty otherwise.
fn looks_like(prefix: &[u8; 4]) -> &'static str {
    match prefix {
        // A TLS record: alert or handshake, then the major version 3.
        [0x15 | 0x16, 3, ..] => {
            "; that is TLS: set security.protocol to SSL or SASL_SSL, or use the plaintext port"
        }
        b"HTTP" | b"GET " | b"POST" | b"PUT " | b"HEAD" => {
            "; that is HTTP: check the port in bootstrap.servers"
        }
        b"SSH-" => "; that is SSH: check the port in bootstrap.servers",
        b"220 " | b"220-" => {
            "; that is an SMTP or FTP greeting: check the port in bootstrap.servers"
        }
        b"-ERR" => "; that is Redis or POP3: check the port in bootstrap.servers",
        _ => "",
    }
}

/// Reads the length prefix: `Ok(None)` until four bytes are there, then the length of the body.
/// Allocates nothing.
///
/// # Errors
/// Lengths below [`MIN_FRAME_BYTES`] (negative ones too) or over `cap`.
pub fn frame_length(received: &[u8], cap: usize) -> Result<Option<usize>, FrameError> {
    let Some(&prefix) = received.first_chunk::<LENGTH_PREFIX_BYTES>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(size) if size > cap => Err(FrameError::TooLong {
            length,
            cap,
            prefix,
        }),
        Ok(size) if size >= MIN_FRAME_BYTES => Ok(Some(size)),
        _ => Err(FrameError::TooShort { length, prefix }),
    }
}

/// Splits one whole body (without its length prefix) off `received`, if it is all there.
///
/// # Errors
/// As [`frame_length`]; `received` is left as it was.
pub fn split_frame(received: &mut BytesMut, cap: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(size) = frame_length(received, cap)? else {
        return Ok(None);
    };
    if received.len() - LENGTH_PREFIX_BYTES < size {
        return Ok(None);
    }
    received.advance(LENGTH_PREFIX_BYTES);
    Ok(Some(received.split_to(size).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(length: i32) -> Result<Option<usize>, FrameError> {
        frame_length(&length.to_be_bytes(), MAX_FRAME_BYTES)
    }

    #[test]
    fn line_38_lengths_negative_zero_short_or_over_the_cap_are_refused() {
        for length in [i32::MIN, -5, -1, 0, 1, 3] {
            assert!(
                matches!(announced(length), Err(FrameError::TooShort { .. })),
                "{length}"
            );
        }
        for length in [MAX_FRAME_BYTES as i32 + 1, 200 << 20, i32::MAX] {
            assert!(
                matches!(announced(length), Err(FrameError::TooLong { .. })),
                "{length}"
            );
        }
        assert_eq!(announced(4), Ok(Some(4)));
        assert_eq!(announced(MAX_FRAME_BYTES as i32), Ok(Some(MAX_FRAME_BYTES)));
        let fetched = frame_length(&(100i32 << 20).to_be_bytes(), MAX_FETCH_FRAME_BYTES);
        assert_eq!(fetched, Ok(Some(MAX_FETCH_FRAME_BYTES)));
    }

    #[test]
    fn line_38_a_refused_length_reserves_nothing() {
        let mut received = BytesMut::from(&b"\x7f\xff\xff\xffabc"[..]);
        let before = received.capacity();
        assert!(split_frame(&mut received, MAX_FRAME_BYTES).is_err());
        assert_eq!(received.capacity(), before);
    }

    #[test]
    fn line_38_the_error_names_the_protocol_that_answers_on_that_port() {
        let said = |prefix: &[u8; 4]| match frame_length(prefix, MAX_FRAME_BYTES) {
            Err(error) => error.to_string(),
            Ok(size) => panic!("{prefix:?} passed as {size:?}"),
        };
        assert!(said(b"HTTP").contains("that is HTTP"));
        assert!(said(b"SSH-").contains("that is SSH"));
        let tls_alert = said(&[0x15, 3, 3, 0]);
        assert!(tls_alert.contains("TLS") && tls_alert.contains("security.protocol"));
        assert!(said(&[0x16, 3, 1, 2]).contains("TLS"));
        assert_eq!(said(&[0, 0, 0, 1]), "the peer announced a frame of 1 bytes");
    }

    #[test]
    fn frames_are_cut_one_by_one_and_wait_for_their_last_byte() {
        let mut received = BytesMut::new();
        for byte in [0, 0, 0, 4, 1, 2, 3] {
            received.extend_from_slice(&[byte]);
            assert_eq!(split_frame(&mut received, 100), Ok(None));
        }
        received.extend_from_slice(&[4, 0, 0, 0, 5, 9, 9, 9, 9, 9, 0]);
        assert_eq!(
            split_frame(&mut received, 100),
            Ok(Some(Bytes::from_static(&[1, 2, 3, 4])))
        );
        assert_eq!(
            split_frame(&mut received, 100),
            Ok(Some(Bytes::from_static(&[9; 5])))
        );
        assert_eq!(split_frame(&mut received, 100), Ok(None));
        assert_eq!(&received[..], [0]);
    }
}
