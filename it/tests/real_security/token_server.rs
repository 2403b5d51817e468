//! A server of tokens as OIDC has them: HTTPS, a client's id and secret, tokens signed by RS256.

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tidewatch_it::kafka::SecureKafka;
use tidewatch_it::ports::free_port;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub(crate) const CLIENT_ID: &str = "collector";
/// One of those that must show in no log.
pub(crate) const CLIENT_SECRET: &str = "client-credentials-secret";

/// It serves until the test process ends.
pub(crate) struct TokenServer {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    key: PathBuf,
    life_s: u64,
    given: AtomicUsize,
    /// The form of each request that was granted.
    forms: Mutex<Vec<String>>,
}

impl TokenServer {
    /// With the certificate `identity` of the suite, signing by `signer`, for `life_s` each.
    pub(crate) fn start(kafka: &SecureKafka, identity: &str, signer: &str, life_s: u64) -> Self {
        let port = free_port();
        let shared = Arc::new(Shared {
            key: kafka.key(&format!("{signer}.key")),
            life_s,
            given: AtomicUsize::new(0),
            forms: Mutex::default(),
        });
        let acceptor = TlsAcceptor::from(Arc::new(config(
            &kafka.key(&format!("{identity}.pem")),
            &kafka.key(&format!("{identity}.key")),
        )));
        let serving = Arc::clone(&shared);
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(serve(listener, acceptor, serving));
        });
        let url = format!("https://127.0.0.1:{port}/realms/tests/token");
        Self { url, shared }
    }

    /// How many tokens it has given.
    pub(crate) fn given(&self) -> usize {
        self.shared.given.load(Ordering::SeqCst)
    }

    /// The forms of the requests that it granted.
    pub(crate) fn forms(&self) -> Vec<String> {
        self.shared.forms.lock().unwrap().clone()
    }
}

fn config(chain: &Path, key: &Path) -> ServerConfig {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(chain).unwrap().collect();
    ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.unwrap(), PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap()
}

async fn serve(listener: std::net::TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        // A client that does not trust us, or goes, is no failure of ours.
        if let Ok(stream) = acceptor.accept(stream).await {
            let _ = answer(stream, &shared).await;
        }
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut received = Vec::new();
    let (head, form) = loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
        if let Some(request) = whole(&String::from_utf8_lossy(&received)) {
            break request;
        }
    };
    let login = BASE64_STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}"));
    let is_known = head.contains(&format!("Authorization: Basic {login}\r\n"))
        && head.starts_with("POST /realms/tests/token HTTP/1.1\r\n");
    let (status, body) = match is_known {
        true => ("200 OK", shared.grant(form)),
        false => (
            "401 Unauthorized",
            json!({ "error": "invalid_client", "error_description": "wrong id or secret" }),
        ),
    };
    let body = body.to_string();
    let size = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Head and body, once all of it is there.
fn whole(received: &str) -> Option<(String, String)> {
    let (head, body) = received.split_once("\r\n\r\n")?;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length?.parse().ok()?;
    (body.len() >= length).then(|| (format!("{head}\r\n"), body.to_owned()))
}

impl Shared {
    fn grant(&self, form: String) -> serde_json::Value {
        self.forms.lock().unwrap().push(form);
        self.given.fetch_add(1, Ordering::SeqCst);
        json!({
            "access_token": self.token(),
            "token_type": "Bearer",
            "expires_in": self.life_s,
        })
    }

    /// A JSON web token (RFC 7519) with what the broker looks at.
    fn token(&self) -> String {
        let now_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": "issuer" });
        let claims = json!({
            "iss": "https://issuer.invalid",
            "aud": "kafka",
            "sub": CLIENT_ID,
            "iat": now_s,
            // Never sooner than the answer says: this is in whole seconds.
            "exp": now_s + 1 + self.life_s,
        });
        let [header, claims] =
            [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = BASE64_URL_SAFE_NO_PAD.encode(sign(&self.key, &signed));
        format!("{signed}.{signature}")
    }
}

/// RSASSA-PKCS1-v1_5 with SHA-256, which is what RS256 stands for.
fn sign(key: &Path, text: &str) -> Vec<u8> {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    openssl
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = openssl.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl cannot sign");
    output.stdout
}
