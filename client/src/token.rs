//! Where bearer tokens for SASL/OAUTHBEARER come from.

mod endpoint;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use endpoint::Endpoint;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tidewatch_client_core::error::Error;
use tidewatch_client_core::options::{ClientOptions, Credentials, TlsOptions, TokenSource};
use tidewatch_client_core::token::{Token, TokenError};

/// How long an unsigned token is valid, in seconds; Java's default.
const UNSECURED_LIFETIME_S: i64 = 3_600;

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Brings bearer tokens: asked with each authentication and each renewal of a session (KIP-368), of
/// every connection, so that one that is costly to get should be kept while it is valid.
pub trait TokenProvider: Send + Sync {
    /// A token that is valid now. May take up to `socket.connection.setup.timeout.ms`.
    fn token(&self) -> BoxFuture<'_, Result<Token, TokenError>>;
}

/// Where the tokens of one client come from.
#[derive(Clone)]
pub(crate) struct Tokens {
    source: Source,
    limit: Duration,
}

#[derive(Clone)]
enum Source {
    /// No mechanism asks for any.
    Nowhere,
    Unsecured(Arc<str>),
    Provider(Arc<dyn TokenProvider>),
}

impl Tokens {
    /// # Errors
    /// The options want tokens, and say no more than that the program brings them, but it does not.
    pub(crate) fn new(
        options: &ClientOptions,
        provider: Option<Arc<dyn TokenProvider>>,
    ) -> Result<Self, Error> {
        let source = match (&options.security.credentials, provider) {
            (Some(Credentials::OauthBearer(_)), Some(provider)) => Source::Provider(provider),
            (Some(Credentials::OauthBearer(source)), None) => {
                own_source(source, &options.security.tls)?
            }
            _ => Source::Nowhere,
        };
        Ok(Self {
            source,
            limit: Duration::from_millis(options.connection_setup_timeout_ms),
        })
    }

    /// A token, in bounded time.
    pub(crate) async fn token(&self) -> Result<Token, TokenError> {
        match &self.source {
            Source::Nowhere => Err(TokenError::Refused("nobody brings any".to_owned())),
            Source::Unsecured(subject) => Token::new(unsecured(subject)),
            Source::Provider(provider) => {
                let late = |_| TokenError::Unavailable("it did not come in time".to_owned());
                tokio::time::timeout(self.limit, provider.token())
                    .await
                    .unwrap_or_else(|elapsed| Err(late(elapsed)))
            }
        }
    }
}

fn own_source(source: &TokenSource, tls: &TlsOptions) -> Result<Source, Error> {
    match source {
        TokenSource::Unsecured(subject) => Ok(Source::Unsecured(subject.as_str().into())),
        TokenSource::Callback => Err(Error::Usage(
            "sasl.mechanism=OAUTHBEARER has no source of tokens: set \
             sasl.oauthbearer.token.endpoint.url, or bring them by Client::spawn_with_tokens"
                .to_owned(),
        )),
        TokenSource::ClientCredentials {
            endpoint,
            client_id,
            client_secret,
            scope,
        } => {
            let login = (client_id.as_str(), client_secret);
            let endpoint = Endpoint::new(endpoint, login, scope.as_deref(), tls)?;
            Ok(Source::Provider(Arc::new(endpoint)))
        }
    }
}

/// A token that nobody signed (RFC 7519, 6), which a broker takes only where it is set up for tests.
fn unsecured(subject: &str) -> String {
    let now_s = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    let expires_s = now_s.saturating_add(UNSECURED_LIFETIME_S);
    let subject = escape(subject);
    let claims = format!(r#"{{"sub":"{subject}","iat":{now_s},"exp":{expires_s}}}"#);
    let [header, claims] =
        [r#"{"alg":"none"}"#, &claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}.")
}

/// As the inside of a JSON string.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewatch_client_core::options::Options;

    /// Never has one.
    struct Never;

    impl TokenProvider for Never {
        fn token(&self) -> BoxFuture<'_, Result<Token, TokenError>> {
            Box::pin(std::future::pending())
        }
    }

    fn options(login: Option<&str>) -> ClientOptions {
        let mut options = Options::default();
        let mut set = |name, value| options.set(name, value).unwrap();
        set("bootstrap.servers", "kafka:9092");
        set("security.protocol", "SASL_PLAINTEXT");
        set("sasl.mechanism", "OAUTHBEARER");
        if let Some(login) = login {
            set("sasl.jaas.config", login);
        }
        options.validated().unwrap().client
    }

    #[test]
    fn an_unsigned_token_has_its_subject_and_its_times_and_no_signature() {
        let token = unsecured("ca\"rol");
        let parts: Vec<&str> = token.split('.').collect();
        let decode = |part| String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(part).unwrap());
        assert_eq!(decode(parts[0]).unwrap(), r#"{"alg":"none"}"#);
        let claims = decode(parts[1]).unwrap();
        assert!(
            claims.starts_with(r#"{"sub":"ca\"rol","iat":1"#),
            "{claims}"
        );
        assert_eq!((parts[2], parts.len()), ("", 3));
        assert!(Token::new(token).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_does_not_come_is_not_waited_for_without_end() {
        let tokens = Tokens::new(&options(None), Some(Arc::new(Never))).unwrap();
        let end = tokens.token().await;
        assert!(matches!(end, Err(TokenError::Unavailable(_))), "{end:?}");
    }

    #[test]
    fn without_a_source_of_tokens_a_client_is_not_made() {
        let said = Tokens::new(&options(None), None).unwrap_err().to_string();
        assert!(said.contains("spawn_with_tokens"), "{said}");
        let login = "OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"carol\";";
        assert!(Tokens::new(&options(Some(login)), None).is_ok());
    }
}
