//! How connections are secured: what was set, and what that amounts to once it is checked.

use super::OptionError;
use super::jaas::{Login, LoginModule};
use std::fmt;

/// A text that is never shown: its `Debug` is `***`, and it has no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the wire and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `security.protocol`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    #[default]
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without encryption: a password of PLAIN goes over the network as it is.
    SaslPlaintext,
    /// SASL inside TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// Whether connections are encrypted.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// Whether connections authenticate by SASL.
    pub fn is_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    pub(super) fn parse(text: &str) -> Self {
        match text {
            "SSL" => Self::Ssl,
            "SASL_PLAINTEXT" => Self::SaslPlaintext,
            "SASL_SSL" => Self::SaslSsl,
            _ => Self::Plaintext,
        }
    }
}

/// `sasl.mechanism`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// Name and password (RFC 4616).
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// As RFC 7677, with SHA-512 (KIP-84).
    ScramSha512,
    /// A bearer token (RFC 7628, KIP-255).
    OauthBearer,
}

impl Mechanism {
    /// Every one, by its name.
    pub(super) const NAMES: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

    /// As SASL spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Plain,
            Self::ScramSha256,
            Self::ScramSha512,
            Self::OauthBearer,
        ];
        all.into_iter().find(|mechanism| mechanism.name() == text)
    }

    fn module(self) -> LoginModule {
        match self {
            Self::Plain => LoginModule::Plain,
            Self::ScramSha256 | Self::ScramSha512 => LoginModule::Scram,
            Self::OauthBearer => LoginModule::OauthBearer,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Options of connections' security.
#[derive(Debug, Clone, Default)]
pub struct SecurityOptions {
    /// `security.protocol`.
    pub protocol: SecurityProtocol,
    /// What TLS trusts, and who we are to it.
    pub tls: TlsOptions,
    /// What SASL says; `None` where `security.protocol` has no SASL, and before
    /// [`validated`](super::Options::validated).
    pub credentials: Option<Credentials>,
    pub(super) sasl: SaslSettings,
}

/// Options of TLS. Files are PEM, and are read when a client is made.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// `ssl.truststore.location`: a file of certificates; without any the system's are trusted.
    pub truststore_location: Option<String>,
    /// `ssl.truststore.certificates`: the same, as text.
    pub truststore_certificates: Option<String>,
    /// `ssl.keystore.location`: a file with this client's private key and its chain.
    pub keystore_location: Option<String>,
    /// `ssl.keystore.key`: the private key, as text.
    pub keystore_key: Option<Secret>,
    /// `ssl.keystore.certificate.chain`: its chain, as text.
    pub keystore_certificate_chain: Option<String>,
    /// `ssl.endpoint.identification.algorithm` is https: the certificate must carry the host's name.
    pub verify_host: bool,
    /// `ssl.enabled.protocols` has TLSv1.2.
    pub tls12: bool,
    /// `ssl.enabled.protocols` has TLSv1.3.
    pub tls13: bool,
}

/// What SASL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// PLAIN.
    Plain {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// SCRAM-SHA-256 or SCRAM-SHA-512.
    Scram {
        /// SHA-512 instead of SHA-256.
        sha512: bool,
        /// The name, or a delegation token's id.
        username: String,
        /// The password, or a delegation token's HMAC.
        password: Secret,
        /// It is a delegation token (KIP-48).
        token_auth: bool,
    },
    /// OAUTHBEARER: a token is asked for with each authentication.
    OauthBearer(TokenSource),
}

impl Credentials {
    /// The mechanism that they are for.
    pub fn mechanism(&self) -> Mechanism {
        match self {
            Self::Plain { .. } => Mechanism::Plain,
            Self::Scram { sha512: false, .. } => Mechanism::ScramSha256,
            Self::Scram { sha512: true, .. } => Mechanism::ScramSha512,
            Self::OauthBearer(_) => Mechanism::OauthBearer,
        }
    }
}

/// Where bearer tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// The program brings them.
    Callback,
    /// Made here and not signed, for trying out: the subject that they claim.
    Unsecured(String),
    /// OIDC's client credentials flow.
    ClientCredentials {
        /// `sasl.oauthbearer.token.endpoint.url`.
        endpoint: String,
        /// `sasl.oauthbearer.client.credentials.client.id`.
        client_id: String,
        /// `sasl.oauthbearer.client.credentials.client.secret`.
        client_secret: Secret,
        /// `sasl.oauthbearer.scope`.
        scope: Option<String>,
    },
}

/// The options of SASL as they were set.
#[derive(Debug, Clone, Default)]
pub(super) struct SaslSettings {
    pub(super) mechanism: Option<Mechanism>,
    pub(super) jaas: Option<Login>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) endpoint: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<Secret>,
    pub(super) scope: Option<String>,
}

impl SecurityOptions {
    /// Checks that the options fit together, and makes the credentials of them.
    ///
    /// # Errors
    /// What is missing or contradicts, naming the options.
    pub(super) fn validate(&mut self) -> Result<(), OptionError> {
        self.tls.validate()?;
        self.credentials = match self.protocol.is_sasl() {
            true => Some(self.sasl.credentials()?),
            false => None,
        };
        Ok(())
    }
}

impl TlsOptions {
    fn validate(&self) -> Result<(), OptionError> {
        if self.truststore_location.is_some() && self.truststore_certificates.is_some() {
            return conflict(
                "ssl.truststore.location and ssl.truststore.certificates are both set: leave one",
            );
        }
        let (key, chain) = (&self.keystore_key, &self.keystore_certificate_chain);
        if self.keystore_location.is_some() && (key.is_some() || chain.is_some()) {
            return conflict(
                "ssl.keystore.location is set beside ssl.keystore.key or \
                 ssl.keystore.certificate.chain: leave one",
            );
        }
        if key.is_some() != chain.is_some() {
            return conflict(
                "ssl.keystore.key and ssl.keystore.certificate.chain need one another",
            );
        }
        Ok(())
    }
}

impl SaslSettings {
    fn credentials(&self) -> Result<Credentials, OptionError> {
        let Some(mechanism) = self.mechanism else {
            let names = Mechanism::NAMES.join(", ");
            return conflict(&format!(
                "sasl.mechanism is missing, which security.protocol needs: one of {names}"
            ));
        };
        if let Some(login) = &self.jaas
            && login.module != mechanism.module()
        {
            return conflict(&format!(
                "sasl.jaas.config has a {}, which sasl.mechanism={mechanism} does not use: set \
                 another mechanism, or a {}",
                login.module.name(),
                mechanism.module().name()
            ));
        }
        if mechanism == Mechanism::OauthBearer {
            return Ok(Credentials::OauthBearer(self.token_source()?));
        }
        let from_login = |name| self.jaas.as_ref().and_then(|login| login.option(name));
        let username = from_login("username").map(|name| name.expose().to_owned());
        let username = username.or_else(|| self.username.clone());
        let password = from_login("password").or_else(|| self.password.clone());
        let Some((username, password)) = username.zip(password) else {
            return conflict(&format!(
                "sasl.mechanism={mechanism} needs a name and a password: set sasl.username and \
                 sasl.password, or both in sasl.jaas.config"
            ));
        };
        if username.contains('\0') || password.expose().contains('\0') {
            return conflict("a name and a password for SASL cannot hold a zero character");
        }
        Ok(match mechanism {
            Mechanism::ScramSha256 | Mechanism::ScramSha512 => Credentials::Scram {
                sha512: mechanism == Mechanism::ScramSha512,
                username,
                password,
                token_auth: from_login("tokenauth").is_some_and(|value| value.expose() == "true"),
            },
            Mechanism::Plain | Mechanism::OauthBearer => Credentials::Plain { username, password },
        })
    }

    fn token_source(&self) -> Result<TokenSource, OptionError> {
        let from_login = |name| self.jaas.as_ref().and_then(|login| login.option(name));
        if let Some(subject) = from_login("unsecuredLoginStringClaim_sub") {
            return Ok(TokenSource::Unsecured(subject.expose().to_owned()));
        }
        let Some(endpoint) = self.endpoint.clone() else {
            return Ok(TokenSource::Callback);
        };
        let text = |set: &Option<String>, name| {
            let from_login = from_login(name).map(|value| value.expose().to_owned());
            set.clone().or(from_login)
        };
        let client_id = text(&self.client_id, "clientId");
        let secret = self.client_secret.clone();
        let secret = secret.or_else(|| from_login("clientSecret"));
        let Some((client_id, client_secret)) = client_id.zip(secret) else {
            return conflict(
                "sasl.oauthbearer.token.endpoint.url needs \
                 sasl.oauthbearer.client.credentials.client.id and \
                 sasl.oauthbearer.client.credentials.client.secret",
            );
        };
        Ok(TokenSource::ClientCredentials {
            endpoint,
            client_id,
            client_secret,
            scope: text(&self.scope, "scope"),
        })
    }
}

fn conflict<T>(why: &str) -> Result<T, OptionError> {
    Err(OptionError::Conflict(why.to_owned()))
}
