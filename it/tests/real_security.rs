//! TLS and SASL against a real broker that has a listener of each kind: what works, and the one clear
//! error of what does not. One broker serves every scene.

#[path = "real_security/client.rs"]
mod client;
#[path = "real_security/failures.rs"]
mod failures;
#[path = "real_security/log.rs"]
mod log;
#[path = "real_security/oidc.rs"]
mod oidc;
#[path = "real_security/programs.rs"]
mod programs;
#[path = "real_security/successes.rs"]
mod successes;
#[path = "real_security/token_server.rs"]
mod token_server;

use tidewatch_it::kafka::SecureKafka;

/// What a scene is called, and the scene.
type Scene = (&'static str, fn(&SecureKafka));

const SCENES: &[Scene] = &[
    (
        "every mechanism works with and without TLS",
        successes::mechanisms,
    ),
    (
        "a delegation token logs in as one",
        successes::delegation_token,
    ),
    ("both sides show certificates", successes::mutual_tls),
    (
        "a certificate for another host passes where hosts are not checked",
        successes::any_host,
    ),
    (
        "sessions are renewed under load on the same connections",
        successes::renewal_under_load,
    ),
    (
        "tokens of a server over https, which the broker checks",
        oidc::tokens_of_a_server,
    ),
    (
        "tokens that run out under load are followed by others",
        oidc::tokens_that_run_out_under_load,
    ),
    (
        "a token server that refuses or cannot be trusted, and forged tokens",
        oidc::what_a_server_or_a_broker_refuses,
    ),
    ("wrong credentials", failures::wrong_credentials),
    (
        "records that no broker can be asked about",
        failures::unsecured_records,
    ),
    (
        "wrong credentials and certificates start no storm",
        failures::no_storm,
    ),
    (
        "certificates that must not be trusted",
        failures::certificates,
    ),
    (
        "client certificates that the broker refuses",
        failures::client_certificates,
    ),
    ("the wrong protocol on a port", failures::wrong_protocol),
    (
        "a broker that stalls in the handshake",
        failures::stalling_broker,
    ),
    (
        "the collector delivers over SASL_SSL and shows no secret",
        programs::collector,
    ),
    (
        "the aggregator names a wrong password",
        programs::aggregator,
    ),
    ("no secret in all that was logged", log::holds_no_secret),
];

#[test]
fn secure_connections() {
    log::start();
    let kafka = SecureKafka::start();
    for (name, scene) in SCENES {
        println!("scene: {name}");
        scene(&kafka);
    }
}
