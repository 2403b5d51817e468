//! OIDC's client credentials: tokens of a server over HTTPS, shown to a broker that checks who signed them.

use crate::client::{Settings, key, options, round_trip, run, security_failure};
use crate::log;
use crate::token_server::{CLIENT_ID, CLIENT_SECRET, TokenServer};
use std::time::{Duration, Instant};
use tidewatch_client::{Client, NewTopic, ProducerRecord, SecurityError};
use tidewatch_it::kafka::SecureKafka;

const HOUR_S: u64 = 3600;

fn run_with<T>(
    kafka: &SecureKafka,
    server: &TokenServer,
    secret: &str,
    with: impl FnOnce(&str, &Settings<'_>) -> T,
) -> T {
    let trusted = key(kafka, "trusted.pem");
    let settings = [
        ("security.protocol", "SASL_SSL"),
        ("ssl.truststore.location", trusted.as_str()),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.token.endpoint.url", server.url.as_str()),
        ("sasl.oauthbearer.client.credentials.client.id", CLIENT_ID),
        ("sasl.oauthbearer.client.credentials.client.secret", secret),
        ("sasl.oauthbearer.scope", "write read"),
    ];
    with(&kafka.address("OIDC"), &settings)
}

pub(crate) fn tokens_of_a_server(kafka: &SecureKafka) {
    let server = TokenServer::start(kafka, "server", "issuer", HOUR_S);
    run_with(kafka, &server, CLIENT_SECRET, |address, settings| {
        run(round_trip(options(address, settings))).unwrap();
    });
    // One token for all connections of the client.
    assert_eq!(server.given(), 1);
    assert_eq!(
        server.forms(),
        ["grant_type=client_credentials&scope=write+read"]
    );
}

/// The broker ends a session with the token that began it.
pub(crate) fn tokens_that_run_out_under_load(kafka: &SecureKafka) {
    const TOPIC: &str = "tokens";
    const LIFE_S: u64 = 3;
    const LOAD: Duration = Duration::from_secs(10);
    let server = TokenServer::start(kafka, "server", "issuer", LIFE_S);
    let options = run_with(kafka, &server, CLIENT_SECRET, |address, settings| {
        options(address, settings)
    });
    let before = log::text().len();
    run(async {
        let client = Client::spawn(options).unwrap();
        let created = client.create_topics(vec![NewTopic::new(TOPIC, 1)]).await;
        created.unwrap().remove(0).1.unwrap();
        let producer = client.producer().await.unwrap();
        let (begun, mut next) = (Instant::now(), 0);
        while begun.elapsed() < LOAD {
            let sent = producer.send(ProducerRecord::to(TOPIC).value("tide")).await;
            assert_eq!(sent.unwrap().await.unwrap().offset, next);
            next += 1;
        }
        println!("  {next} records, {} tokens", server.given());
    });
    assert!(server.given() >= 3, "{} tokens", server.given());
    let log = log::text().split_off(before);
    assert!(!log.contains("ended:"), "a connection ended:\n{log}");
}

pub(crate) fn what_a_server_or_a_broker_refuses(kafka: &SecureKafka) {
    let server = TokenServer::start(kafka, "server", "issuer", HOUR_S);
    let stranger = TokenServer::start(kafka, "expired", "issuer", HOUR_S);
    let forger = TokenServer::start(kafka, "server", "forger", HOUR_S);
    let refused = |server, secret| run_with(kafka, server, secret, security_failure);

    let error = refused(&server, "not-the-password");
    println!("  {error}");
    assert!(
        matches!(&error, SecurityError::Token { why } if why.contains("401 invalid_client")),
        "{error}"
    );
    assert_eq!(server.given(), 0);

    let error = refused(&stranger, CLIENT_SECRET);
    println!("  {error}");
    assert!(
        matches!(&error, SecurityError::Token { why } if why.contains("its certificate is refused: it has expired")),
        "{error}"
    );
    assert_eq!(stranger.given(), 0);

    let error = refused(&forger, CLIENT_SECRET);
    println!("  {error}");
    assert!(
        matches!(error, SecurityError::Credentials { .. }),
        "{error}"
    );
    // Neither is asked again and again.
    assert_eq!(forger.given(), 1);
}
