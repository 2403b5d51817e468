//! Everything that the client logs in this process, at the finest level.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use tidewatch_it::kafka::SecureKafka;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Passwords and the beginning of every unsigned token.
pub(crate) const SECRETS: [&str; 6] = [
    "alice-secret",
    "bob-secret",
    "not-the-password",
    "client-credentials-secret",
    // The same with its id, as the header of HTTP has it.
    "Y29sbGVjdG9yOmNsaWVudC1jcmVkZW50aWFscy1zZWNyZXQ",
    "eyJ",
];

struct Tee;

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes down everything from here on.
pub(crate) fn start() {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(|| Tee)
        .init();
}

/// What was logged so far.
pub(crate) fn text() -> String {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&log).into_owned()
}

#[track_caller]
pub(crate) fn assert_no_secret(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} shows in:\n{text}");
    }
}

pub(crate) fn holds_no_secret(_: &SecureKafka) {
    let log = text();
    assert!(log.contains("goes to"), "nothing was logged:\n{log}");
    assert_no_secret(&log);
}
