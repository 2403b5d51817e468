//! What works.

use crate::client::{key, options, round_trip, run};
use crate::log;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tidewatch_client::{Client, Event, NewTopic, ProducerRecord, StartAt};
use tidewatch_it::kafka::SecureKafka;

/// Two of the broker's sessions, and a part of the third.
const LOAD: Duration = Duration::from_millis(7_500);

const PLAIN_LOGIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required \
     username=\"alice\" password=\"alice-secret\";";
const SCRAM_LOGIN: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required \
     username=\"bob\" password=\"bob-secret\";";
const OAUTH_LOGIN: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule \
     required unsecuredLoginStringClaim_sub=\"carol\";";

pub(crate) fn mechanisms(kafka: &SecureKafka) {
    let trusted = key(kafka, "trusted.pem");
    let truststore = ("ssl.truststore.location", trusted.as_str());
    let tls = [("security.protocol", "SSL"), truststore];
    run(round_trip(options(&kafka.address("TLS"), &tls))).unwrap();
    for (mechanism, login, plaintext, tls) in [
        ("PLAIN", PLAIN_LOGIN, "SASL", "SASLTLS"),
        ("SCRAM-SHA-256", SCRAM_LOGIN, "SASL", "SASLTLS"),
        ("SCRAM-SHA-512", SCRAM_LOGIN, "SASL", "SASLTLS"),
        ("OAUTHBEARER", OAUTH_LOGIN, "OAUTH", "OAUTHTLS"),
    ] {
        for (listener, protocol) in [(plaintext, "SASL_PLAINTEXT"), (tls, "SASL_SSL")] {
            println!("  {mechanism} on {listener}");
            let settings = [
                ("security.protocol", protocol),
                ("sasl.mechanism", mechanism),
                ("sasl.jaas.config", login),
                truststore,
            ];
            run(round_trip(options(&kafka.address(listener), &settings))).unwrap();
        }
    }
}

pub(crate) fn delegation_token(kafka: &SecureKafka) {
    let file = kafka.work_dir().join("alice.properties");
    let login = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config={PLAIN_LOGIN}\n"
    );
    std::fs::write(&file, login).unwrap();
    let mut tool = kafka
        .tools()
        .tool("org.apache.kafka.tools.DelegationTokenCommand");
    let address = kafka.address("SASL");
    tool.args(["--bootstrap-server", &address, "--create"]);
    tool.args(["--max-life-time-period", "-1", "--command-config"]);
    let output = tool.arg(&file).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    // The last line of a table: TOKENID HMAC OWNER …
    let row = printed.lines().rev().find(|line| line.contains("alice"));
    let row = row.unwrap_or_else(|| panic!("no token in {printed}"));
    let mut columns = row.split_whitespace();
    let (id, hmac) = (columns.next().unwrap(), columns.next().unwrap());
    let login = format!(
        "ScramLoginModule required username=\"{id}\" password=\"{hmac}\" tokenauth=\"true\";"
    );
    let settings = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "SCRAM-SHA-256"),
        ("sasl.jaas.config", &login),
    ];
    run(round_trip(options(&address, &settings))).unwrap();
}

pub(crate) fn mutual_tls(kafka: &SecureKafka) {
    let (trusted, client) = (key(kafka, "trusted.pem"), key(kafka, "client.both.pem"));
    let address = kafka.address("MTLS");
    let by_file = [
        ("security.protocol", "SSL"),
        ("ssl.truststore.location", &trusted),
        ("ssl.keystore.location", &client),
    ];
    run(round_trip(options(&address, &by_file))).unwrap();
    let read = |file| std::fs::read_to_string(kafka.key(file)).unwrap();
    let (authority, private, chain) = (read("trusted.pem"), read("client.key"), read("client.pem"));
    let by_text = [
        ("security.protocol", "SSL"),
        ("ssl.truststore.certificates", authority.as_str()),
        ("ssl.keystore.key", private.as_str()),
        ("ssl.keystore.certificate.chain", chain.as_str()),
        ("ssl.enabled.protocols", "TLSv1.2"),
    ];
    run(round_trip(options(&address, &by_text))).unwrap();
}

pub(crate) fn any_host(kafka: &SecureKafka) {
    let trusted = key(kafka, "trusted.pem");
    let settings = [
        ("security.protocol", "SSL"),
        ("ssl.truststore.location", &trusted),
        ("ssl.endpoint.identification.algorithm", ""),
    ];
    run(round_trip(options(&kafka.address("WRONGHOST"), &settings))).unwrap();
}

/// A producer and a consumer at work while the broker ends sessions after three seconds.
pub(crate) fn renewal_under_load(kafka: &SecureKafka) {
    const TOPIC: &str = "renewed";
    let settings = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "SCRAM-SHA-256"),
        ("sasl.jaas.config", SCRAM_LOGIN),
    ];
    let options = options(&kafka.address("REAUTH"), &settings);
    let before = log::text().len();
    let (written, read) = run(async {
        let client = Client::spawn(options).unwrap();
        let created = client.create_topics(vec![NewTopic::new(TOPIC, 1)]).await;
        created.unwrap().remove(0).1.unwrap();
        let producer = client.producer().await.unwrap();
        let mut consumer = client.consumer().await.unwrap();
        let from_start = [(TOPIC, 0, StartAt::Earliest)];
        consumer.assign(from_start).await.unwrap();
        let begun = Instant::now();
        let write = async {
            let mut written = Vec::new();
            while begun.elapsed() < LOAD {
                let sent = producer.send(ProducerRecord::to(TOPIC).value("tide")).await;
                written.push(sent.unwrap().await.unwrap().offset);
            }
            written
        };
        let read = async {
            let mut read = Vec::new();
            loop {
                match consumer.next().await.unwrap() {
                    Event::Records(mut records) => {
                        while let Some(record) = records.next_ref() {
                            read.push(record.unwrap().offset);
                        }
                    }
                    Event::CaughtUp(_) if begun.elapsed() > LOAD => return read,
                    Event::CaughtUp(_) | Event::Rebalance(_) => {}
                }
            }
        };
        tokio::join!(write, read)
    });
    println!("  {} records", written.len());
    assert!(written.len() > 100, "{} records", written.len());
    let once: BTreeSet<i64> = written.iter().copied().collect();
    assert_eq!(once.len(), written.len(), "an offset was given twice");
    assert!(
        read.iter().copied().eq(once),
        "what was read is not what was written"
    );
    let log = log::text().split_off(before);
    let opened = log.matches("goes to").count();
    // One to the bootstrap address, then one for each lane: general, produce, fetch.
    assert!(opened <= 4, "{opened} connections were opened:\n{log}");
    assert!(!log.contains("ended:"), "a connection ended:\n{log}");
}
