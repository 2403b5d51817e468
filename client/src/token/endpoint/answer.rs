//! The answer to the POST: as much of HTTP/1.1 (RFC 9112) as it takes to find a token in it.

use serde_json::Value;
use std::io;
use std::time::Duration;
use tidewatch_client_core::token::{Token, TokenError};

/// An endpoint's own words are shown up to here.
const MAX_REASON_CHARS: usize = 200;
/// Overloaded or not ready: asked again later, though the numbers are a client's fault.
const PASSING: [u16; 2] = [408, 429];

/// An answer, whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// What has been received so far amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Partial,
    Whole(Answer),
}

/// How the end of a body is known.
enum Length {
    Bytes(usize),
    Chunked,
    UntilClosed,
}

/// # Errors
/// What came is no HTTP, or it ended too early.
pub(super) fn parse(received: &[u8], is_closed: bool) -> io::Result<Progress> {
    let ended = || io::Error::other("it closed the connection in the middle of its answer");
    let wrong = || io::Error::other("its answer is not HTTP/1.1");
    let Some(at) = find(received, b"\r\n\r\n") else {
        return if is_closed {
            Err(ended())
        } else {
            Ok(Progress::Partial)
        };
    };
    let (head, body) = received.split_at(at);
    let body = body.get(4..).unwrap_or_default();
    let head = std::str::from_utf8(head).map_err(|_| wrong())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(parse_status).ok_or_else(wrong)?;
    let body = match parse_length(lines).ok_or_else(wrong)? {
        Length::Bytes(size) => body.get(..size).map(<[u8]>::to_vec),
        Length::Chunked => dechunk(body).ok_or_else(wrong)?,
        Length::UntilClosed => is_closed.then(|| body.to_vec()),
    };
    match body {
        Some(body) => Ok(Progress::Whole(Answer { status, body })),
        None if is_closed => Err(ended()),
        None => Ok(Progress::Partial),
    }
}

fn parse_status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.")?;
    rest.split(' ').nth(1)?.parse().ok()
}

fn parse_length<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Length> {
    let mut length = Length::UntilClosed;
    for header in headers {
        let (name, value) = header.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "transfer-encoding" if value.trim().eq_ignore_ascii_case("chunked") => {
                length = Length::Chunked;
            }
            "content-length" if !matches!(length, Length::Chunked) => {
                length = Length::Bytes(value.trim().parse().ok()?);
            }
            _ => {}
        }
    }
    Some(length)
}

/// The chunks as one, `Some(None)` where the last has not come yet, `None` where they are none.
#[expect(clippy::option_option, reason = "not yet and never are different ends")]
fn dechunk(mut left: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut whole = Vec::new();
    loop {
        let Some(at) = find(left, b"\r\n") else {
            return Some(None);
        };
        let size = std::str::from_utf8(left.get(..at)?).ok()?;
        let size = size.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        let begin = at + 2;
        if size == 0 {
            return Some(Some(whole));
        }
        let end = begin.checked_add(size)?;
        let Some(chunk) = left.get(begin..end) else {
            return Some(None);
        };
        whole.extend_from_slice(chunk);
        match left.get(end..end.checked_add(2)?) {
            Some(b"\r\n") => left = left.get(end + 2..)?,
            Some(_) => return None,
            None => return Some(None),
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

impl Answer {
    /// Itself, if the endpoint did as it was asked.
    ///
    /// # Errors
    /// It refuses this client, or cannot serve it now.
    pub(super) fn checked(self, place: &str) -> Result<Self, TokenError> {
        let status = self.status;
        if status == 200 {
            return Ok(self);
        }
        let document = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        let reason = ["error", "error_description"].map(|name| document.get(name)?.as_str());
        let reason: Vec<&str> = reason.into_iter().flatten().collect();
        let reason: String = reason.join(": ").chars().take(MAX_REASON_CHARS).collect();
        let why = format!("{place} answered {status} {reason}");
        let why = why.trim_end().to_owned();
        Err(match status {
            400..=499 if !PASSING.contains(&status) => TokenError::Refused(format!(
                "{why}; check sasl.oauthbearer.client.credentials.client.id and its secret"
            )),
            _ => TokenError::Unavailable(why),
        })
    }

    /// The token and how long it lives, zero where that is not said.
    ///
    /// # Errors
    /// There is none in it; nothing of the body is shown.
    pub(super) fn token(&self) -> Result<(Token, Duration), TokenError> {
        let document = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        let token = document.get("access_token").and_then(Value::as_str);
        let missing = "the token endpoint answered 200 without an access_token";
        let token = token.ok_or_else(|| TokenError::Unavailable(missing.to_owned()))?;
        let life = document.get("expires_in").and_then(Value::as_u64);
        Ok((Token::new(token)?, Duration::from_secs(life.unwrap_or(0))))
    }
}
