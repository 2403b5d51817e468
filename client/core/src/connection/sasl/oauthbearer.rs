//! OAUTHBEARER (RFC 7628, KIP-255): a bearer token, and an error in two steps.

use super::Step;
use crate::options::Secret;
use crate::token::Token;

/// What separates key=value pairs, and what is sent to end a failure (RFC 7628, 3.2.3).
const SEPARATOR: char = '\u{1}';
/// A broker's reason is shown up to here.
const MAX_REASON_CHARS: usize = 200;

/// A token being shown.
#[derive(Debug)]
pub(super) struct OauthBearer {
    message: Secret,
    /// The broker's error document, after which only its error code is to come.
    refused: Option<String>,
}

impl OauthBearer {
    pub(super) fn new(token: &Token) -> Self {
        let mut message = format!("n,,{SEPARATOR}auth=Bearer {}{SEPARATOR}", token.value());
        for (name, value) in token.extensions() {
            message.push_str(&format!("{name}={value}{SEPARATOR}"));
        }
        message.push(SEPARATOR);
        Self {
            message: Secret::new(message),
            refused: None,
        }
    }

    pub(super) fn first(&self) -> Vec<u8> {
        self.message.expose().as_bytes().to_vec()
    }

    /// Nothing means yes; a JSON document is a no, which has to be answered before the broker says
    /// it as an error code.
    pub(super) fn handle_challenge(&mut self, bytes: &[u8]) -> Result<Step, String> {
        if let Some(reason) = &self.refused {
            return Err(format!("it took back its refusal {reason}"));
        }
        if bytes.is_empty() {
            return Ok(Step::Done);
        }
        let reason = String::from_utf8_lossy(bytes);
        self.refused = Some(reason.chars().take(MAX_REASON_CHARS).collect());
        Ok(Step::Answer(vec![SEPARATOR as u8]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer() -> OauthBearer {
        let token = Token::new("h.p.s").unwrap();
        OauthBearer::new(&token.with_extension("logicalCluster", "lkc-1").unwrap())
    }

    #[test]
    fn a_token_goes_out_with_its_extensions() {
        let first = bearer().first();
        let expected = b"n,,\x01auth=Bearer h.p.s\x01logicalCluster=lkc-1\x01\x01";
        assert_eq!(first, expected);
        assert_eq!(bearer().handle_challenge(b""), Ok(Step::Done));
        assert!(!format!("{:?}", bearer()).contains("h.p.s"));
    }

    #[test]
    fn a_refusal_is_answered_and_is_not_taken_back() {
        let mut bearer = bearer();
        let refusal = br#"{"status":"invalid_token"}"#;
        let answer = bearer.handle_challenge(refusal);
        assert_eq!(answer, Ok(Step::Answer(vec![1])));
        assert!(
            bearer
                .handle_challenge(b"")
                .unwrap_err()
                .contains("invalid_token")
        );
    }
}
