//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677, KIP-84): both sides prove that they know the
//! password, and neither shows it.
//!
//! ```text
//!   n,,n=NAME,r=OURS              ──▶
//!                                 ◀── r=OURS+THEIRS,s=SALT,i=ITERATIONS
//!   c=biws,r=OURS+THEIRS,p=PROOF  ──▶
//!                                 ◀── v=SIGNATURE
//! ```

mod hash;

use super::Step;
use crate::options::Secret;
use base64::prelude::{BASE64_STANDARD, Engine};
pub(super) use hash::Hash;
use std::ops::RangeInclusive;

/// The header of a client that binds to no channel, as it begins the first message.
const NO_CHANNEL_BINDING: &str = "n,,";
/// The same in base64, as it begins the last.
const NO_CHANNEL_BINDING_BASE64: &str = "biws";
/// RFC 7677's least, and a bound on the work that a broker can ask of the thread that serves every
/// other connection: some tens of milliseconds. Kafka itself takes up to 16,384 (KIP-554).
const ITERATIONS: RangeInclusive<u32> = 4096..=65_536;
/// Characters of the client's part of the nonce. It is sent in the clear and has only to differ
/// from one authentication to the next.
const NONCE_CHARS: usize = 24;
/// The longest nonce, salt or signature that is looked at.
const MAX_FIELD_BYTES: usize = 1024;

/// One conversation.
#[derive(Debug)]
pub(super) struct Scram {
    hash: Hash,
    password: Secret,
    nonce: String,
    /// The first message without its header: a part of what is signed.
    first_bare: String,
    expects: Expects,
}

/// The broker's next message.
#[derive(Debug)]
enum Expects {
    Salt,
    /// Its signature must be this one.
    Signature(Vec<u8>),
    Nothing,
}

/// A client's nonce.
pub(super) fn nonce(random: &mut fastrand::Rng) -> String {
    (0..NONCE_CHARS).map(|_| random.alphanumeric()).collect()
}

impl Scram {
    pub(super) fn new(
        hash: Hash,
        username: &str,
        password: &Secret,
        token_auth: bool,
        nonce: String,
    ) -> Self {
        // KIP-48: a delegation token says that it is one.
        let extension = if token_auth { ",tokenauth=true" } else { "" };
        Self {
            hash,
            password: password.clone(),
            first_bare: format!("n={},r={nonce}{extension}", escape(username)),
            nonce,
            expects: Expects::Salt,
        }
    }

    pub(super) fn first(&self) -> Vec<u8> {
        format!("{NO_CHANNEL_BINDING}{}", self.first_bare).into_bytes()
    }

    /// The salt, or the signature.
    pub(super) fn handle_challenge(&mut self, bytes: &[u8]) -> Result<Step, String> {
        let message = std::str::from_utf8(bytes).map_err(|_| "it sent no text".to_owned())?;
        match std::mem::replace(&mut self.expects, Expects::Nothing) {
            Expects::Salt => self.answer(message).map(Step::Answer),
            Expects::Signature(expected) => verify(message, &expected).map(|()| Step::Done),
            Expects::Nothing => Err("it goes on after its signature".to_owned()),
        }
    }

    fn answer(&mut self, server_first: &str) -> Result<Vec<u8>, String> {
        let ServerFirst {
            nonce,
            salt,
            iterations,
        } = parse_server_first(server_first)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its nonce does not continue ours: somebody else may answer".to_owned());
        }
        let without_proof = format!("c={NO_CHANNEL_BINDING_BASE64},r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let password = self.password.expose().as_bytes();
        let salted = self.hash.hi(password, &salt, iterations);
        let client_key = self.hash.hmac(&salted, b"Client Key");
        let stored_key = self.hash.digest(&client_key);
        let client_signature = self.hash.hmac(&stored_key, signed.as_bytes());
        let proof = client_key.iter().zip(&client_signature).map(|(a, b)| a ^ b);
        let proof = BASE64_STANDARD.encode(proof.collect::<Vec<u8>>());
        let server_key = self.hash.hmac(&salted, b"Server Key");
        self.expects = Expects::Signature(self.hash.hmac(&server_key, signed.as_bytes()));
        Ok(format!("{without_proof},p={proof}").into_bytes())
    }
}

/// A comma and an equals sign would end the name (RFC 5802, 5.1).
fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

fn parse_server_first(message: &str) -> Result<ServerFirst<'_>, String> {
    let mut fields = message.split(',');
    // A mandatory extension (m=) would stand first; there is none that we know.
    let mut field = |name: &str| {
        let value = fields.next().and_then(|field| field.strip_prefix(name));
        let value = value.filter(|value| !value.is_empty() && value.len() <= MAX_FIELD_BYTES);
        value.ok_or_else(|| format!("its first message lacks {name}"))
    };
    let nonce = field("r=")?;
    let salt = BASE64_STANDARD.decode(field("s=")?);
    let salt = salt.map_err(|_| "its salt is not base64".to_owned())?;
    let iterations = field("i=")?.parse();
    let iterations = iterations.map_err(|_| "its iterations are no number".to_owned())?;
    if !ITERATIONS.contains(&iterations) {
        return Err(format!(
            "it asks for {iterations} iterations, which is not from {} to {}",
            ITERATIONS.start(),
            ITERATIONS.end()
        ));
    }
    Ok(ServerFirst {
        nonce,
        salt,
        iterations,
    })
}

/// The broker knows the password, or at least its keys. Not in constant time: whoever guesses gets a
/// new nonce, and with it another signature, for every try.
fn verify(server_final: &str, expected: &[u8]) -> Result<(), String> {
    let first = server_final.split(',').next().unwrap_or_default();
    if let Some(error) = first.strip_prefix("e=") {
        return Err(format!("it answered {error:.100}"));
    }
    let signature = first.strip_prefix("v=").unwrap_or_default();
    match BASE64_STANDARD.decode(signature) {
        Ok(signature) if signature == expected => Ok(()),
        _ => Err(
            "its signature is wrong: it does not know the password, and may not be the broker"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests;
