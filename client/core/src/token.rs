//! A bearer token on its way from the shell to a broker.

use crate::options::Secret;

/// Bytes of a token, far beyond any that a broker takes.
const MAX_TOKEN_BYTES: usize = 64 << 10;

/// A bearer token for SASL/OAUTHBEARER, with extensions for the broker's own use (KIP-342).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    value: Secret,
    extensions: Vec<(String, String)>,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It may be had later: the endpoint cannot be reached.
    #[error("{0}")]
    Unavailable(String),
    /// It will not be had like this: the endpoint refuses this client, or what came is no token.
    #[error("{0}")]
    Refused(String),
}

impl Token {
    /// A token as it goes into `Bearer …`.
    ///
    /// # Errors
    /// Text that is no token: empty, too long, or with characters beyond RFC 6750's.
    pub fn new(value: impl Into<String>) -> Result<Self, TokenError> {
        let value = value.into();
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
        if value.is_empty() || value.len() > MAX_TOKEN_BYTES || !value.chars().all(fits) {
            let why = "what came is no bearer token: it is empty, too long or has other characters";
            return Err(TokenError::Refused(why.to_owned()));
        }
        Ok(Self {
            value: Secret::new(value),
            extensions: Vec::new(),
        })
    }

    /// With an extension.
    ///
    /// # Errors
    /// A name that is not letters, or `auth`, which is the token's own; a value with control
    /// characters (RFC 7628, 3.1).
    pub fn with_extension(mut self, name: &str, value: &str) -> Result<Self, TokenError> {
        let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic());
        let printable = |c: char| matches!(c, ' '..='~' | '\t' | '\r' | '\n');
        if !named || name == "auth" || !value.chars().all(printable) {
            let why = format!("{name} cannot be an extension of a token, or not with that value");
            return Err(TokenError::Refused(why));
        }
        self.extensions.push((name.to_owned(), value.to_owned()));
        Ok(self)
    }

    pub(crate) fn value(&self) -> &str {
        self.value.expose()
    }

    pub(crate) fn extensions(&self) -> impl Iterator<Item = (&str, &str)> {
        let extensions = self.extensions.iter();
        extensions.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_the_message_is_refused() {
        for value in ["", "a b", "a\u{1}b", "a,b\n"] {
            assert!(Token::new(value).is_err(), "{value:?}");
        }
        let token = Token::new("eyJhbGciOiJub25lIn0.e30.").unwrap();
        for (name, value) in [("", "v"), ("auth", "v"), ("a b", "v"), ("ok", "a\u{1}b")] {
            assert!(token.clone().with_extension(name, value).is_err(), "{name}");
        }
        assert!(!format!("{token:?}").contains("eyJ"));
    }
}
