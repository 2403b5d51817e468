//! PLAIN (RFC 4616): a name and a password, as they are.

use super::Step;
use crate::options::Secret;

/// Who we say that we are.
#[derive(Debug)]
pub(super) struct Plain {
    message: Secret,
}

impl Plain {
    /// No authorisation identity: Kafka's brokers want none that differs from the name.
    pub(super) fn new(username: &str, password: &Secret) -> Self {
        Self {
            message: Secret::new(format!("\0{username}\0{}", password.expose())),
        }
    }

    /// The only thing said.
    pub(super) fn first(&self) -> Vec<u8> {
        self.message.expose().as_bytes().to_vec()
    }

    /// The broker has nothing to ask; bytes with its consent are ignored, as Java's client does.
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as the other mechanisms"
    )]
    pub(super) fn handle_challenge(&mut self, _bytes: &[u8]) -> Result<Step, String> {
        Ok(Step::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_password_stand_behind_zeros() {
        let mut plain = Plain::new("alice", &Secret::new("alice-secret"));
        assert_eq!(plain.first(), b"\0alice\0alice-secret");
        assert_eq!(plain.handle_challenge(b""), Ok(Step::Done));
        assert!(!format!("{plain:?}").contains("secret"));
    }
}
