//! TLS over TCP by rustls, with graviola's cryptography: no C in either.

mod config;
mod pem;

use super::{Tcp, Transport};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tidewatch_client_core::error::{Error, SecurityError};
use tidewatch_client_core::options::TlsOptions;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// TLS, with what it trusts and who we are. Writes are vectored: rustls encrypts each piece from
/// where it lies.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
}

impl Tls {
    /// Reads keys and certificates.
    ///
    /// # Errors
    /// [`Error::Usage`]: a file that cannot be read or used, no authority to trust, a processor
    /// without the instructions that the cryptography needs.
    pub(crate) fn new(options: &TlsOptions) -> Result<Self, Error> {
        config::client_config(options)
            .map(Self::from)
            .map_err(Error::Usage)
    }

    /// TLS to a token endpoint: it trusts the system's authorities too, because such an endpoint
    /// seldom has the brokers' own, and it always checks the host.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn for_endpoint(options: &TlsOptions) -> Result<Self, Error> {
        config::endpoint_config(options)
            .map(Self::from)
            .map_err(Error::Usage)
    }
}

impl From<ClientConfig> for Tls {
    fn from(config: ClientConfig) -> Self {
        Self {
            connector: TlsConnector::from(Arc::new(config)),
        }
    }
}

impl Transport for Tls {
    type Read = ReadHalf<TlsStream<TcpStream>>;
    type Write = WriteHalf<TlsStream<TcpStream>>;

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Tcp.resolve(host, port).await
    }

    async fn connect(
        &self,
        address: SocketAddr,
        host: &str,
    ) -> io::Result<(Self::Read, Self::Write)> {
        let name = server_name(host)?;
        let stream = Tcp.open(address).await?;
        let connected = self.connector.connect(name, stream).await;
        let stream = connected.map_err(|error| handshake_error(error, host))?;
        Ok(tokio::io::split(stream))
    }
}

/// A DNS name or an IP literal, as certificates carry them.
fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let bare = bare.unwrap_or(host).trim_end_matches('.').to_owned();
    let named = ServerName::try_from(bare);
    named.map_err(|_| io::Error::other(format!("a certificate cannot be for the host {host}")))
}

/// What a handshake's failure means: typed where somebody has to mend something, else with what may
/// be behind it.
fn handshake_error(error: io::Error, host: &str) -> io::Error {
    let inner = error.get_ref().and_then(|e| e.downcast_ref());
    match inner.and_then(|inner| explain(inner, host)) {
        Some(explained) => io::Error::other(explained),
        None if error.kind() == io::ErrorKind::UnexpectedEof => io::Error::new(
            error.kind(),
            "closed during the TLS handshake, as a port does that does not speak TLS",
        ),
        None => io::Error::new(error.kind(), format!("the TLS handshake failed: {error}")),
    }
}

fn explain(error: &rustls::Error, host: &str) -> Option<SecurityError> {
    Some(match error {
        rustls::Error::AlertReceived(alert) => return explain_alert(*alert),
        rustls::Error::InvalidCertificate(error) => SecurityError::Certificate {
            why: explain_certificate(error, host),
        },
        rustls::Error::NoCertificatesPresented => SecurityError::Certificate {
            why: "there is none".to_owned(),
        },
        rustls::Error::InvalidMessage(error) => SecurityError::NotTls {
            why: format!("{error:?}"),
        },
        error => SecurityError::Tls {
            why: error.to_string(),
        },
    })
}

fn explain_certificate(error: &CertificateError, host: &str) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired: it has to be renewed over there, unless this host's clock is wrong"
                .to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet: is this host's clock right?".to_owned()
        }
        CertificateError::UnknownIssuer => "it is signed by an authority that is not trusted: set \
             ssl.truststore.location to the PEM file of that authority"
            .to_owned(),
        CertificateError::NotValidForName => another_name(host, &[]),
        CertificateError::NotValidForNameContext { presented, .. } => another_name(host, presented),
        error => error.to_string(),
    }
}

fn another_name(host: &str, presented: &[String]) -> String {
    let names = match presented {
        [] => "no name".to_owned(),
        names => names
            .iter()
            .map(|name| bare(name))
            .collect::<Vec<_>>()
            .join(", "),
    };
    format!(
        "it is not for the host {host}, but for {names}: reach the broker by such a name in \
         bootstrap.servers and advertised.listeners, or have that host put into the certificate"
    )
}

/// What webpki writes as `DnsName("kafka-1")` and `IpAddress(10.0.0.1)`; the rest as it is.
fn bare(name: &str) -> &str {
    let inside = |before: &str, after: &str| name.strip_prefix(before)?.strip_suffix(after);
    inside("DnsName(\"", "\")")
        .or_else(|| inside("IpAddress(", ")"))
        .unwrap_or(name)
}

/// An alert of the broker; `None` where trying again may help.
fn explain_alert(alert: AlertDescription) -> Option<SecurityError> {
    use AlertDescription as Alert;
    let why = format!("{alert:?}");
    match alert {
        Alert::InternalError | Alert::UserCanceled | Alert::CloseNotify => None,
        Alert::NoCertificate
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::CertificateRequired => Some(SecurityError::ClientCertificate { why }),
        _ => {
            let why = format!("the broker sent the alert {why}; see ssl.enabled.protocols");
            Some(SecurityError::Tls { why })
        }
    }
}

/// The failure of security that an error of a stream stands for, if it is one. Under TLS 1.3 a broker
/// judges our certificate only after our part of the handshake, so its alert may come with the first
/// read.
pub(crate) fn security_error(error: &io::Error) -> Option<SecurityError> {
    let inner = error.get_ref()?;
    if let Some(explained) = inner.downcast_ref::<SecurityError>() {
        return Some(explained.clone());
    }
    match inner.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => explain_alert(*alert),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_literals() {
        for (host, expected) in [
            ("kafka-1.example.", "kafka-1.example"),
            ("10.0.0.1", "10.0.0.1"),
            ("[::1]", "::1"),
            ("::1", "::1"),
        ] {
            assert_eq!(server_name(host).unwrap().to_str(), expected);
        }
        assert!(server_name("a b").is_err());
    }

    #[test]
    fn line_40_a_bad_certificate_is_told_from_a_reset() {
        let bad = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = handshake_error(io::Error::new(io::ErrorKind::InvalidData, bad), "kafka-1");
        let explained = security_error(&error).unwrap();
        assert!(matches!(&explained, SecurityError::Certificate { .. }));
        assert!(explained.to_string().contains("ssl.truststore.location"));
        for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof] {
            let error = handshake_error(kind.into(), "kafka-1");
            assert_eq!(security_error(&error), None);
            assert!(error.to_string().contains("TLS handshake"), "{error}");
        }
    }

    #[test]
    fn alerts_about_our_certificate_are_told_from_others_and_from_passing_ones() {
        let alert = |alert| {
            let inner = rustls::Error::AlertReceived(alert);
            security_error(&io::Error::new(io::ErrorKind::InvalidData, inner))
        };
        let ours = alert(AlertDescription::CertificateRequired);
        assert!(matches!(
            ours,
            Some(SecurityError::ClientCertificate { .. })
        ));
        let version = alert(AlertDescription::ProtocolVersion);
        assert!(matches!(version, Some(SecurityError::Tls { .. })));
        assert_eq!(alert(AlertDescription::InternalError), None);
    }

    #[test]
    fn a_certificate_for_another_host_is_told_with_its_names() {
        let presented = [
            "DnsName(\"elsewhere\")",
            "IpAddress(10.0.0.1)",
            "RegisteredId",
        ];
        let presented = presented.map(str::to_owned);
        let said = another_name("kafka-1", &presented);
        assert!(
            said.contains("not for the host kafka-1, but for elsewhere, 10.0.0.1, RegisteredId"),
            "{said}"
        );
    }
}
