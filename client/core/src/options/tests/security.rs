//! TLS and SASL by Kafka's names.

use super::*;

const SCRAM_LOGIN: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required \
     username=\"bob\" password=\"bob-secret\";";

fn credentials(settings: &[(&str, &str)]) -> Option<Credentials> {
    with(settings).unwrap().client.security.credentials
}

fn conflict(settings: &[(&str, &str)]) -> String {
    with(settings).unwrap_err().to_string()
}

#[test]
fn a_name_and_a_password_come_from_the_login_module_or_from_their_own_options() {
    let protocol = ("security.protocol", "SASL_SSL");
    let mechanism = ("sasl.mechanism", "SCRAM-SHA-512");
    let by_module = credentials(&[protocol, mechanism, ("sasl.jaas.config", SCRAM_LOGIN)]);
    let expected = Credentials::Scram {
        sha512: true,
        username: "bob".to_owned(),
        password: Secret::new("bob-secret"),
        token_auth: false,
    };
    assert_eq!(by_module, Some(expected.clone()));
    let named = [
        protocol,
        mechanism,
        ("sasl.username", "bob"),
        ("sasl.password", "bob-secret"),
    ];
    assert_eq!(credentials(&named), Some(expected));
}

#[test]
fn a_delegation_token_says_so_in_the_login_module() {
    let login = SCRAM_LOGIN.replace(';', " tokenauth=\"true\";");
    let settings = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "SCRAM-SHA-256"),
        ("sasl.jaas.config", &login),
    ];
    let token = credentials(&settings);
    assert!(
        matches!(token, Some(Credentials::Scram { token_auth, sha512, .. }) if token_auth && !sha512)
    );
}

#[test]
fn tokens_come_from_the_program_from_an_endpoint_or_unsigned() {
    let base = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "OAUTHBEARER"),
    ];
    let source = |more: &[(&str, &str)]| match credentials(&[&base, more].concat()) {
        Some(Credentials::OauthBearer(source)) => source,
        other => panic!("{other:?}"),
    };
    assert_eq!(source(&[]), TokenSource::Callback);
    let login = "OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"carol\";";
    let unsecured = source(&[("sasl.jaas.config", login)]);
    assert_eq!(unsecured, TokenSource::Unsecured("carol".to_owned()));
    let endpoint = ("sasl.oauthbearer.token.endpoint.url", "https://idp/token");
    let flow = source(&[
        endpoint,
        ("sasl.oauthbearer.client.credentials.client.id", "agent"),
        (
            "sasl.oauthbearer.client.credentials.client.secret",
            "s3cret",
        ),
        ("sasl.oauthbearer.scope", "kafka"),
    ]);
    let TokenSource::ClientCredentials {
        client_id, scope, ..
    } = &flow
    else {
        panic!("{flow:?}")
    };
    assert_eq!(
        (client_id.as_str(), scope.as_deref()),
        ("agent", Some("kafka"))
    );
    let said = conflict(&[base[0], base[1], endpoint]);
    assert!(said.contains("client.credentials.client.id"), "{said}");
}

#[test]
fn what_is_missing_or_contradicts_is_named() {
    let sasl = ("security.protocol", "SASL_SSL");
    let said = conflict(&[sasl]);
    assert!(said.contains("sasl.mechanism is missing"), "{said}");
    let plain = ("sasl.mechanism", "PLAIN");
    let said = conflict(&[sasl, plain, ("sasl.username", "alice")]);
    assert!(said.contains("sasl.password"), "{said}");
    let said = conflict(&[sasl, plain, ("sasl.jaas.config", SCRAM_LOGIN)]);
    assert!(said.contains("ScramLoginModule"), "{said}");
    assert!(said.contains("PlainLoginModule"), "{said}");
    let said = conflict(&[("ssl.keystore.key", "k")]);
    assert!(said.contains("ssl.keystore.certificate.chain"), "{said}");
    let two = [
        ("ssl.truststore.location", "a.pem"),
        ("ssl.truststore.certificates", "b"),
    ];
    assert!(conflict(&two).contains("leave one"));
    assert!(refused("sasl.mechanism", "GSSAPI").contains("SCRAM-SHA-256"));
    assert!(refused("ssl.enabled.protocols", "TLSv1.1").contains("TLSv1.2 or TLSv1.3"));
    assert!(refused("ssl.endpoint.identification.algorithm", "ldaps").contains("https or nothing"));
}

#[test]
fn tls_checks_the_hosts_name_and_speaks_both_versions_unless_told_otherwise() {
    let tls = with(&[]).unwrap().client.security.tls;
    assert!(tls.verify_host && tls.tls12 && tls.tls13);
    let settings = [
        ("ssl.endpoint.identification.algorithm", ""),
        ("ssl.enabled.protocols", "TLSv1.3"),
    ];
    let tls = with(&settings).unwrap().client.security.tls;
    assert!(!tls.verify_host && !tls.tls12 && tls.tls13);
}

#[test]
fn no_secret_shows_in_debug_output_or_in_an_error() {
    let secret = "hunter2";
    let login = format!("PlainLoginModule required username=\"a\" password=\"{secret}\";");
    let options = with(&[
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.jaas.config", &login),
        ("sasl.password", secret),
        ("ssl.keystore.key", secret),
        ("ssl.keystore.certificate.chain", "chain"),
        ("sasl.oauthbearer.client.credentials.client.secret", secret),
    ])
    .unwrap();
    let shown = format!("{options:?} {options:#?}");
    assert!(shown.contains("***") && !shown.contains(secret), "{shown}");
    let unfinished = login.trim_end_matches(';');
    let said = refused("sasl.jaas.config", unfinished);
    assert!(
        !said.contains(secret) && said.contains("(hidden)"),
        "{said}"
    );
}
