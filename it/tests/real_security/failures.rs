//! What does not work: one clear error each.

use crate::client::{Settings, failure, key, options, run, security_failure};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidewatch_client::{Client, ProducerRecord, Refused, SecurityError};
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

fn login<'a>(protocol: &'a str, mechanism: &'a str, name: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("security.protocol", protocol),
        ("sasl.mechanism", mechanism),
        ("sasl.username", name),
        ("sasl.password", WRONG),
    ]
}

/// Without TLS.
fn plain_login<'a>(mechanism: &'a str, name: &'a str) -> [(&'a str, &'a str); 4] {
    login("SASL_PLAINTEXT", mechanism, name)
}

pub(crate) fn wrong_credentials(kafka: &SecureKafka) {
    let trusted = key(kafka, "trusted.pem");
    for (listener, protocol) in [("SASL", "SASL_PLAINTEXT"), ("SASLTLS", "SASL_SSL")] {
        for (mechanism, name) in [
            ("PLAIN", "alice"),
            ("SCRAM-SHA-256", "bob"),
            ("SCRAM-SHA-512", "bob"),
            ("SCRAM-SHA-512", "nobody"),
        ] {
            let truststore = [("ssl.truststore.location", trusted.as_str())];
            let settings = [&login(protocol, mechanism, name)[..], &truststore].concat();
            let error = security_failure(&kafka.address(listener), &settings);
            assert!(
                matches!(error, SecurityError::Credentials { .. }),
                "{error}"
            );
            assert_says(&error, &["refuses the credentials", mechanism]);
        }
    }
    let not_there = security_failure(&kafka.address("OAUTH"), &plain_login("PLAIN", "alice"));
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

/// A record to a topic that nobody can be asked about is refused at once, with the reason.
pub(crate) fn unsecured_records(kafka: &SecureKafka) {
    let (trusted, unknown) = (key(kafka, "trusted.pem"), key(kafka, "unknown.pem"));
    let with = |authority| {
        [
            ("security.protocol", "SSL"),
            ("ssl.truststore.location", authority),
        ]
    };
    let password = plain_login("SCRAM-SHA-256", "bob");
    for (listener, settings, reason) in [
        (
            "SASL",
            &password[..],
            "refuses the credentials for SCRAM-SHA-256",
        ),
        ("TLS", &with(&unknown), "not trusted"),
        ("EXPIRED", &with(&trusted), "expired"),
    ] {
        let options = options(&kafka.address(listener), settings);
        let error = run(async {
            let client = Client::spawn(options).unwrap();
            let producer = client.producer().await.unwrap();
            let sent = producer.send(ProducerRecord::to("secured").value("tide"));
            sent.await.unwrap_err()
        });
        assert!(matches!(error.why, Refused::Unsecured(_)), "{error}");
        assert_eq!(error.waited_ms, None, "{error}");
        assert_says(&error, &["secured", reason]);
    }
}

pub(crate) fn no_storm(kafka: &SecureKafka) {
    // Each a second after the one before, because metadata is not asked for more often.
    const REQUESTS: usize = 8;
    let unknown = key(kafka, "unknown.pem");
    let untrusted = [
        ("security.protocol", "SSL"),
        ("ssl.truststore.location", unknown.as_str()),
    ];
    let password = plain_login("SCRAM-SHA-256", "bob");
    for (listener, settings) in [("SASL", &password[..]), ("TLS", &untrusted)] {
        let (address, count) = counting_proxy(kafka.address(listener));
        let options = options(&address, settings);
        run(async {
            let client = Client::spawn(options).unwrap();
            for _ in 0..REQUESTS {
                let error = client.cluster(&[]).await.unwrap_err();
                assert!(!error.is_retriable(), "{error}");
            }
        });
        let connections = count.load(Ordering::SeqCst);
        println!("  {listener}: {REQUESTS} requests, {connections} connections");
        assert!((1..=4).contains(&connections), "{connections} connections");
    }
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
    let sasl = security_failure(&kafka.address("PLAINTEXT"), &plain_login("PLAIN", "alice"));
    assert_eq!(sasl, SecurityError::NotSasl);
    // The listener speaks 1.3 only.
    let old = [&tls[..2], &[("ssl.enabled.protocols", "TLSv1.2")]].concat();
    let error = security_failure(&kafka.address("TLS"), &old);
    assert_says(&error, &["ssl.enabled.protocols"]);
}

/// Hands on what the client says, and of what `target` says the first answers only.
fn stalling_proxy(target: String, answers: usize) -> String {
    let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(&target).unwrap();
            pipe(client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || hand_on(server, client, answers));
        }
    });
    address
}

/// So many frames, and then nothing, for as long as the other side stays.
fn hand_on(mut from: TcpStream, mut to: TcpStream, frames: usize) -> std::io::Result<()> {
    for _ in 0..frames {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        from.read_exact(&mut frame)?;
        to.write_all(&length)?;
        to.write_all(&frame)?;
    }
    std::io::copy(&mut from, &mut std::io::sink()).map(drop)
}

pub(crate) fn stalling_broker(kafka: &SecureKafka) {
    const SOON: [(&str, &str); 3] = [
        ("socket.connection.setup.timeout.ms", "500"),
        ("socket.connection.setup.timeout.max.ms", "500"),
        ("default.api.timeout.ms", "1500"),
    ];
    // It accepts by its backlog and never reads.
    let silent = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let trusted = key(kafka, "trusted.pem");
    let tls = [
        ("security.protocol", "SSL"),
        ("ssl.truststore.location", trusted.as_str()),
    ];
    let error = failure(&address, &[&tls[..], &SOON].concat());
    assert!(error.is_retriable(), "{error}");
    assert_says(&error, &[&address, "TLS handshake took longer than 500 ms"]);

    // Nothing, versions, the mechanism, the server's first message; then silence.
    for answers in 0..4 {
        let address = stalling_proxy(kafka.address("SASL"), answers);
        let password = plain_login("SCRAM-SHA-256", "bob");
        let error = failure(&address, &[&password[..], &SOON].concat());
        assert!(error.is_retriable(), "{error}");
        assert_says(&error, &[&address, "500 ms"]);
    }
}
