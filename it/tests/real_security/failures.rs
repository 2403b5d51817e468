//! What does not work: one clear error each.

use crate::client::{Settings, failure, key, options, run, security_failure};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidewatch_client::{Client, SecurityError};
use tidewatch_it::kafka::SecureKafka;
use tidewatch_it::ports::free_port;

const WRONG: &str = "not-the-password";

#[track_caller]
fn assert_says(error: &dyn std::fmt::Display, parts: &[&str]) {
    let said = error.to_string();
    println!("  {said}");
    for part in parts {
        assert!(said.contains(part), "it does not say {part:?}: {said}");
    }
}

fn login<'a>(mechanism: &'a str, name: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", mechanism),
        ("sasl.username", name),
        ("sasl.password", WRONG),
    ]
}

pub(crate) fn wrong_credentials(kafka: &SecureKafka) {
    let address = kafka.address("SASL");
    for (mechanism, name) in [
        ("PLAIN", "alice"),
        ("SCRAM-SHA-256", "bob"),
        ("SCRAM-SHA-512", "nobody"),
    ] {
        let error = security_failure(&address, &login(mechanism, name));
        assert!(
            matches!(error, SecurityError::Credentials { .. }),
            "{error}"
        );
        assert_says(&error, &["refuses the credentials", mechanism]);
    }
    let not_there = security_failure(&kafka.address("OAUTH"), &login("PLAIN", "alice"));
    assert_says(&not_there, &["does not offer PLAIN", "OAUTHBEARER"]);
}

/// Hands connections on to `target`, and counts them.
fn counting_proxy(target: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            counted.fetch_add(1, Ordering::SeqCst);
            let server = TcpStream::connect(&target).unwrap();
            pipe(client.try_clone().unwrap(), server.try_clone().unwrap());
            pipe(server, client);
        }
    });
    (address, count)
}

fn pipe(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

pub(crate) fn no_storm(kafka: &SecureKafka) {
    // Each a second after the one before, because metadata is not asked for more often.
    const REQUESTS: usize = 8;
    let (address, count) = counting_proxy(kafka.address("SASL"));
    let options = options(&address, &login("SCRAM-SHA-256", "bob"));
    run(async {
        let client = Client::spawn(options).unwrap();
        for _ in 0..REQUESTS {
            let error = client.cluster(&[]).await.unwrap_err();
            assert!(!error.is_retriable(), "{error}");
        }
    });
    let connections = count.load(Ordering::SeqCst);
    println!("  {REQUESTS} requests, {connections} connections");
    assert!((1..=4).contains(&connections), "{connections} connections");
}

pub(crate) fn certificates(kafka: &SecureKafka) {
    let (trusted, unknown) = (key(kafka, "trusted.pem"), key(kafka, "unknown.pem"));
    let refused = |listener, authority: &str| {
        let settings = [
            ("security.protocol", "SSL"),
            ("ssl.truststore.location", authority),
        ];
        let error = security_failure(&kafka.address(listener), &settings);
        assert!(
            matches!(error, SecurityError::Certificate { .. }),
            "{error}"
        );
        error
    };
    assert_says(&refused("EXPIRED", &trusted), &["expired", "renewed"]);
    let said = refused("TLS", &unknown);
    assert_says(&said, &["not trusted", "ssl.truststore.location"]);
    let said = refused("WRONGHOST", &trusted);
    assert_says(
        &said,
        &["127.0.0.1", "elsewhere.invalid", "advertised.listeners"],
    );
}

/// A broker may drop the connection so fast that its alert is lost; then the error is of a lost
/// connection, and says what may be behind it.
pub(crate) fn client_certificates(kafka: &SecureKafka) {
    let trusted = key(kafka, "trusted.pem");
    let stranger = key(kafka, "stranger.both.pem");
    let base = [
        ("security.protocol", "SSL"),
        ("ssl.truststore.location", trusted.as_str()),
        ("default.api.timeout.ms", "5000"),
    ];
    let with_stranger = [&base[..], &[("ssl.keystore.location", stranger.as_str())]].concat();
    for settings in [&base[..], &with_stranger] {
        let error = failure(&kafka.address("MTLS"), settings);
        assert_says(&error, &["ssl.keystore.location"]);
    }
}

pub(crate) fn wrong_protocol(kafka: &SecureKafka) {
    const SOON: (&str, &str) = ("default.api.timeout.ms", "2000");
    let trusted = key(kafka, "trusted.pem");
    let tls = [
        ("security.protocol", "SSL"),
        ("ssl.truststore.location", trusted.as_str()),
        SOON,
    ];
    assert_says(
        &failure(&kafka.address("PLAINTEXT"), &tls),
        &["does not speak TLS"],
    );
    let plain: &Settings<'_> = &[SOON];
    assert_says(&failure(&kafka.address("TLS"), plain), &["TLS"]);
    let no_sasl = failure(&kafka.address("SASL"), plain);
    assert_says(&no_sasl, &["security.protocol"]);
    let sasl = security_failure(&kafka.address("PLAINTEXT"), &login("PLAIN", "alice"));
    assert_eq!(sasl, SecurityError::NotSasl);
    // The listener speaks 1.3 only.
    let old = [&tls[..2], &[("ssl.enabled.protocols", "TLSv1.2")]].concat();
    let error = security_failure(&kafka.address("TLS"), &old);
    assert_says(&error, &["ssl.enabled.protocols"]);
}

pub(crate) fn stalling_broker(kafka: &SecureKafka) {
    // It accepts by its backlog and never reads.
    let silent = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let trusted = key(kafka, "trusted.pem");
    let settings = [
        ("security.protocol", "SSL"),
        ("ssl.truststore.location", trusted.as_str()),
        ("socket.connection.setup.timeout.ms", "500"),
        ("socket.connection.setup.timeout.max.ms", "500"),
        ("default.api.timeout.ms", "1500"),
    ];
    let error = failure(&address, &settings);
    assert!(error.is_retriable(), "{error}");
    assert_says(&error, &[&address, "TLS handshake took longer than 500 ms"]);
}
