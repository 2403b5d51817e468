//! OIDC's client credentials flow (RFC 6749, 4.4): one POST brings a token for an id and a secret.

mod answer;

use super::{BoxFuture, TokenProvider};
use crate::transport::{Network, Tcp, Tls, Transport, security_error};
use answer::{Answer, Progress};
use base64::prelude::{BASE64_STANDARD, Engine};
use std::io;
use std::time::Duration;
use tidewatch_client_core::error::{Error, SecurityError};
use tidewatch_client_core::options::{Secret, TlsOptions};
use tidewatch_client_core::token::{Token, TokenError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Bytes of an answer, its head included.
const MAX_ANSWER_BYTES: usize = 128 << 10;
/// A token is shown for that many hundredths of its life, then another is asked for; Java's figure.
const KEPT_PERCENT: u32 = 80;

/// A token endpoint, and the token that it gave last.
pub(super) struct Endpoint {
    url: Url,
    network: Network,
    /// Whole, because it never changes.
    request: Secret,
    /// Held while a token is asked for, so that connections that begin together ask once.
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    token: Token,
    until: Instant,
}

/// Where it is.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    is_https: bool,
    /// Without the brackets of an IPv6 literal.
    host: String,
    port: u16,
    /// With its port where that is not the scheme's own, as the header Host wants it.
    authority: String,
    path: String,
}

impl Endpoint {
    /// # Errors
    /// An address that is none, or no TLS for https.
    pub(super) fn new(
        address: &str,
        (client_id, client_secret): (&str, &Secret),
        scope: Option<&str>,
        tls: &TlsOptions,
    ) -> Result<Self, Error> {
        let url = Url::parse(address).ok_or_else(|| {
            let example = "https://host/path";
            Error::Usage(format!(
                "sasl.oauthbearer.token.endpoint.url must be like {example}, not {address:?}"
            ))
        })?;
        let network = match url.is_https {
            true => Network::Secured(Tls::for_endpoint(tls)?),
            false => Network::Plain(Tcp),
        };
        let login = format!("{client_id}:{}", client_secret.expose());
        let login = BASE64_STANDARD.encode(login);
        let mut form = "grant_type=client_credentials".to_owned();
        if let Some(scope) = scope {
            form.push_str("&scope=");
            form.push_str(&form_encoded(scope));
        }
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {login}\r\n\
             Accept: application/json\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{form}",
            url.path,
            url.authority,
            form.len()
        );
        Ok(Self {
            url,
            network,
            request: Secret::new(request),
            kept: Mutex::default(),
        })
    }

    async fn ask(&self) -> Result<Answer, TokenError> {
        let place = format!("the token endpoint {}", self.url.authority);
        let answered = self.post().await;
        answered
            .map_err(|why| unasked(&place, &why))?
            .checked(&place)
    }

    /// Tries each address in turn until one answers at all.
    async fn post(&self) -> io::Result<Answer> {
        let Url { host, port, .. } = &self.url;
        let mut last = io::Error::other(format!("the name {host} has no address"));
        for address in self.network.resolve(host, *port).await? {
            let (mut read, mut write) = match self.network.connect(address, host).await {
                Ok(opened) => opened,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            write.write_all(self.request.expose().as_bytes()).await?;
            write.flush().await?;
            let mut received = Vec::new();
            loop {
                let count = read.read_buf(&mut received).await?;
                match answer::parse(&received, count == 0)? {
                    Progress::Whole(answer) => return Ok(answer),
                    Progress::Partial if received.len() > MAX_ANSWER_BYTES => {
                        let why = format!("it answers with more than {MAX_ANSWER_BYTES} bytes");
                        return Err(io::Error::other(why));
                    }
                    Progress::Partial => {}
                }
            }
        }
        Err(last)
    }
}

/// Why there is no answer: what somebody has to mend is no better in a moment.
fn unasked(place: &str, why: &io::Error) -> TokenError {
    let failed = format!("failed to ask {place}: ");
    TokenError::Refused(match security_error(why) {
        None => return TokenError::Unavailable(format!("{failed}{why}")),
        Some(SecurityError::Certificate { why }) => {
            format!("{failed}its certificate is refused: {why}")
        }
        Some(SecurityError::NotTls { why }) => format!(
            "{failed}what answers there does not speak TLS ({why}): check \
             sasl.oauthbearer.token.endpoint.url"
        ),
        Some(other) => format!("{failed}{other}"),
    })
}

impl TokenProvider for Endpoint {
    fn token(&self) -> BoxFuture<'_, Result<Token, TokenError>> {
        Box::pin(async {
            let mut kept = self.kept.lock().await;
            if let Some(kept) = kept.as_ref().filter(|kept| Instant::now() < kept.until) {
                return Ok(kept.token.clone());
            }
            let (token, life) = self.ask().await?.token()?;
            *kept = until(life).map(|until| Kept {
                token: token.clone(),
                until,
            });
            Ok(token)
        })
    }
}

/// How long a token with this life may be shown; `None` where it is not said to live.
fn until(life: Duration) -> Option<Instant> {
    let kept = (life / 100).checked_mul(KEPT_PERCENT)?;
    (!kept.is_zero()).then(|| Instant::now().checked_add(kept))?
}

impl Url {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (is_https, own_port) = match scheme {
            "https" => (true, 443),
            "http" => (false, 80),
            _ => return None,
        };
        // Nothing that could end a line or a field of the request.
        if !rest.chars().all(|c| c.is_ascii_graphic()) || rest.contains(['@', '#', '\\']) {
            return None;
        }
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let after_host = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority.get(after_host..)?.rfind(':') {
            Some(at) => {
                let (host, port) = authority.split_at(after_host + at);
                (host, port.get(1..)?.parse().ok().filter(|port| *port > 0)?)
            }
            None => (authority, own_port),
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let bare = bare.unwrap_or(host);
        (!bare.is_empty()).then(|| Self {
            is_https,
            host: bare.to_owned(),
            port,
            authority: authority.to_owned(),
            path: if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            },
        })
    }
}

fn form_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => encoded.push('+'),
            b if b.is_ascii_alphanumeric() || b"-._*".contains(&b) => encoded.push(char::from(b)),
            b => encoded.push_str(&format!("%{b:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
