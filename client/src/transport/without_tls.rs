//! What stands for TLS in a build without it: a transport that cannot be made.

use super::Transport;
use std::io;
use std::net::SocketAddr;
use tidewatch_client_core::error::{Error, SecurityError};
use tidewatch_client_core::options::TlsOptions;
use tokio::io::{Empty, Sink};

/// There is none.
#[derive(Debug, Clone)]
pub(crate) enum Tls {}

impl Tls {
    /// # Errors
    /// Always.
    pub(crate) fn new(_: &TlsOptions) -> Result<Self, Error> {
        Err(missing("security.protocol asks for TLS"))
    }

    /// # Errors
    /// Always.
    pub(crate) fn for_endpoint(_: &TlsOptions) -> Result<Self, Error> {
        Err(missing("the token endpoint's https needs TLS"))
    }
}

fn missing(what: &str) -> Error {
    Error::Usage(format!(
        "{what}, which this build does not have: its cryptography without C is for x86_64 and \
         aarch64, in builds with the feature tls"
    ))
}

impl Transport for Tls {
    type Read = Empty;
    type Write = Sink;

    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        match *self {}
    }

    async fn connect(&self, _: SocketAddr, _: &str) -> io::Result<(Empty, Sink)> {
        match *self {}
    }
}

/// No error is one of TLS.
pub(crate) fn security_error(_: &io::Error) -> Option<SecurityError> {
    None
}
