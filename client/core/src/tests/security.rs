//! Authenticating, renewing the session, and failing at it without a storm.

use super::*;
use crate::error::SecurityError;
use crate::token::{Token, TokenError};

const PLAIN: &[(&str, &str)] = &[
    ("security.protocol", "SASL_PLAINTEXT"),
    ("sasl.mechanism", "PLAIN"),
    ("sasl.username", "alice"),
    ("sasl.password", "alice-secret"),
];
const SCRAM: &[(&str, &str)] = &[
    ("security.protocol", "SASL_PLAINTEXT"),
    ("sasl.mechanism", "SCRAM-SHA-512"),
    ("sasl.username", "bob"),
    ("sasl.password", "bob-secret"),
];
const OAUTHBEARER: &[(&str, &str)] = &[
    ("security.protocol", "SASL_SSL"),
    ("sasl.mechanism", "OAUTHBEARER"),
];

impl<C: Core> Script<C> {
    /// The client shows that it wants `mechanism`, and the broker has it.
    #[track_caller]
    fn agree_on(&mut self, mechanism: &str) {
        let asked = self.expect_send();
        assert_eq!(asked.api(), ApiKey::SaslHandshake);
        assert_eq!(asked.header.api_version, 1);
        let version = asked.header.api_version;
        let request = decode_request::<SaslHandshakeRequest>(asked.body.clone(), version).unwrap();
        assert_eq!(request.mechanism.as_str(), mechanism);
        self.core.written(self.now, asked.connection);
        self.answer::<SaslHandshakeRequest>(&asked, &SaslHandshakeResponse::default());
    }

    /// What the client says next in SaslAuthenticate.
    #[track_caller]
    fn expect_authenticate(&mut self) -> (Sent, Bytes) {
        let asked = self.expect_send();
        assert_eq!(asked.api(), ApiKey::SaslAuthenticate);
        let version = asked.header.api_version;
        let body = asked.body.clone();
        let request = decode_request::<SaslAuthenticateRequest>(body, version).unwrap();
        self.core.written(self.now, asked.connection);
        (asked, request.auth_bytes)
    }

    fn challenge(&mut self, asked: &Sent, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        let response = SaslAuthenticateResponse::default().with_auth_bytes(bytes);
        self.answer::<SaslAuthenticateRequest>(asked, &response);
    }

    fn refuse(&mut self, asked: &Sent, why: &'static str) {
        let response = SaslAuthenticateResponse::default()
            .with_error_code(ErrorCode::SASL_AUTHENTICATION_FAILED.0)
            .with_error_message(Some(why.into()));
        self.answer::<SaslAuthenticateRequest>(asked, &response);
    }

    /// The broker lets alice in, for as long as that.
    #[track_caller]
    fn let_in(&mut self, session_lifetime_ms: i64) {
        self.agree_on("PLAIN");
        let (asked, bytes) = self.expect_authenticate();
        assert_eq!(bytes, &b"\0alice\0alice-secret"[..]);
        let response = SaslAuthenticateResponse::default();
        let response = response.with_session_lifetime_ms(session_lifetime_ms);
        self.answer::<SaslAuthenticateRequest>(&asked, &response);
    }

    /// Answers the next request, which has to be for metadata.
    #[track_caller]
    fn expect_metadata(&mut self) -> Sent {
        let asked = self.expect_send();
        assert_eq!(asked.api(), ApiKey::Metadata);
        self.core.written(self.now, asked.connection);
        asked
    }

    fn answer_metadata(&mut self, asked: &Sent) {
        self.answer::<MetadataRequest>(asked, &MetadataResponse::default());
    }
}

fn security(result: Result<Reply, CallError>) -> (SecurityError, bool) {
    match result.unwrap_err() {
        CallError {
            kind: CallErrorKind::Security { source, .. },
            written,
            ..
        } => (source, written),
        other => panic!("no security failure, but {other}"),
    }
}

#[test]
fn plain_is_spoken_between_versions_and_the_first_request() {
    let mut script = Script::with_brokers(1, PLAIN);
    let call = script.ask(1);
    script.open();
    script.let_in(0);
    let asked = script.expect_metadata();
    script.answer_metadata(&asked);
    let (ended, result) = script.ended();
    assert!(ended == call && result.is_ok());
}

#[test]
fn line_56_scram_ends_where_the_broker_cannot_sign() {
    let mut script = Script::with_brokers(1, SCRAM);
    script.ask(1);
    let connection = script.open();
    script.agree_on("SCRAM-SHA-512");
    let (asked, first) = script.expect_authenticate();
    let first = String::from_utf8(first.to_vec()).unwrap();
    let nonce = first.strip_prefix("n,,n=bob,r=").unwrap();
    script.challenge(
        &asked,
        format!("r={nonce}theirs,s=c2FsdA==,i=4096").as_bytes(),
    );
    let (asked, proof) = script.expect_authenticate();
    let proof = String::from_utf8(proof.to_vec()).unwrap();
    assert!(
        proof.starts_with(&format!("c=biws,r={nonce}theirs,p=")),
        "{proof}"
    );
    script.challenge(&asked, b"v=AAAA");
    assert_eq!(script.expect_close().0, connection);
    let (_, result) = script.ended();
    let (error, written) = security(result);
    assert!(
        matches!(error, SecurityError::Broker { .. }) && !written,
        "{error}"
    );
}

#[test]
fn line_40_wrong_credentials_fail_calls_at_once_and_are_not_shown_again_soon() {
    let mut script = Script::router(PLAIN);
    let any = script.call(Destination::AnyBroker, Lane::General, metadata_body());
    // Waits for the picture of the cluster, which will not come.
    let topics = script.call(Destination::Controller, Lane::General, metadata_body());
    script.open();
    script.agree_on("PLAIN");
    let (asked, _) = script.expect_authenticate();
    script.refuse(
        &asked,
        "Authentication failed: Invalid username or password",
    );
    script.expect_close();
    let mut ended = [script.ended(), script.ended()];
    ended.sort_by_key(|(id, _)| *id);
    for ((id, result), expected) in ended.into_iter().zip([any, topics]) {
        assert_eq!(id, expected);
        let said = result.unwrap_err().kind;
        assert!(!said.is_retriable() && said.may_pass());
        let said = said.to_string();
        assert!(
            said.contains("boot:9092: the broker refuses the credentials"),
            "{said}"
        );
        assert!(said.contains("Invalid username or password"), "{said}");
    }
    // Until the next try, calls fail without one.
    let again = script.call(Destination::AnyBroker, Lane::General, metadata_body());
    assert_eq!(script.ended().0, again);
    script.expect_nothing();
}

#[test]
fn line_40_wrong_credentials_start_no_storm_of_connections() {
    let mut script = Script::router(PLAIN);
    let mut attempts = 0;
    for _ in 0..600 {
        script.call(Destination::AnyBroker, Lane::General, metadata_body());
        if let Some(Action::Resolve { connection, .. }) = script.next_action() {
            attempts += 1;
            script.resolved(connection, &["10.0.0.1:9092", "10.0.0.2:9092"]);
            let (connection, _) = script.expect_connect();
            script.core.connected(script.now, connection);
            script.agree();
            script.agree_on("PLAIN");
            let (asked, _) = script.expect_authenticate();
            script.refuse(&asked, "no");
            // The second address would hear the same password.
            script.expect_close();
        }
        script.expect_nothing();
        script.pass_ms(100);
    }
    // At about 0, 1, 3, 7, 15 and 31 seconds of the minute.
    assert!(
        (5..=7).contains(&attempts),
        "{attempts} attempts in a minute"
    );
}

#[test]
fn a_password_that_was_mended_is_found_out() {
    let mut script = Script::with_brokers(1, PLAIN);
    script.ask(1);
    script.open();
    script.agree_on("PLAIN");
    let (asked, _) = script.expect_authenticate();
    script.refuse(&asked, "no");
    script.expect_close();
    security(script.ended().1);
    script.pass_ms(2000);
    script.ask(1);
    script.open();
    script.let_in(0);
    let asked = script.expect_metadata();
    script.answer_metadata(&asked);
    assert!(script.ended().1.is_ok());
}

#[test]
fn line_40_renewing_a_session_waits_for_the_answers_in_flight_and_holds_new_requests() {
    let mut script = Script::with_brokers(1, PLAIN);
    let first = script.ask(1);
    let connection = script.open();
    script.let_in(10_000);
    let in_flight = script.expect_metadata();
    // Past every moment at which the session may be renewed, and before its end.
    script.pass_ms(9_600);
    let held = script.ask(1);
    script.expect_nothing();
    script.answer_metadata(&in_flight);
    assert_eq!(script.ended().0, first);
    script.let_in(10_000);
    let asked = script.expect_metadata();
    assert_eq!(asked.connection, connection);
    script.answer_metadata(&asked);
    let (ended, result) = script.ended();
    assert!(ended == held && result.is_ok());
    // The new session has begun.
    script.ask(1);
    script.expect_metadata();
}

#[test]
fn line_40_a_session_that_the_broker_does_not_renew_costs_its_connection_only() {
    let mut script = Script::with_brokers(1, PLAIN);
    script.ask(1);
    let connection = script.open();
    script.let_in(800);
    let asked = script.expect_metadata();
    script.answer_metadata(&asked);
    assert!(script.ended().1.is_ok());
    script.pass_ms(799);
    script.ask(1);
    // Within a second of the last time, as Kafka does.
    let asked = script.expect_send();
    assert_eq!(asked.api(), ApiKey::SaslHandshake);
    let code = ErrorCode::ILLEGAL_SASL_STATE.0;
    let response = SaslHandshakeResponse::default().with_error_code(code);
    script.answer::<SaslHandshakeRequest>(&asked, &response);
    let (closed, why) = script.expect_close();
    assert_eq!(closed, connection);
    assert!(why.contains("does not renew"), "{why}");
    let error = script.ended().1.unwrap_err();
    assert!(error.kind.is_retriable(), "{error}");
    // A new connection is made with no more than the usual backoff.
    script.pass_ms(100);
    let again = script.ask(1);
    script.open();
    script.let_in(10_000);
    let asked = script.expect_metadata();
    script.answer_metadata(&asked);
    let (ended, result) = script.ended();
    assert!(ended == again && result.is_ok());
}

#[test]
fn an_unused_connection_renews_its_session_when_it_is_used_again() {
    let mut script = Script::with_brokers(1, PLAIN);
    script.ask(1);
    script.open();
    script.let_in(10_000);
    let asked = script.expect_metadata();
    script.answer_metadata(&asked);
    assert!(script.ended().1.is_ok());
    script.pass_ms(60_000);
    script.expect_nothing();
    script.ask(1);
    script.let_in(10_000);
    script.expect_metadata();
}

#[test]
fn a_broker_that_stalls_while_authenticating_is_left_and_tried_again() {
    let mut script = Script::with_brokers(1, PLAIN);
    script.ask(1);
    let connection = script.open();
    script.agree_on("PLAIN");
    script.expect_authenticate();
    script.pass_ms(10_000);
    let (closed, why) = script.expect_close();
    assert_eq!(closed, connection);
    assert!(
        why.contains("authenticating took longer than 10000 ms"),
        "{why}"
    );
    assert!(script.ended().1.unwrap_err().kind.is_retriable());
}

#[test]
fn a_mechanism_that_the_broker_lacks_is_named_with_those_it_has() {
    let mut script = Script::with_brokers(1, SCRAM);
    script.ask(1);
    script.open();
    let asked = script.expect_send();
    let response = SaslHandshakeResponse::default()
        .with_error_code(ErrorCode::UNSUPPORTED_SASL_MECHANISM.0)
        .with_mechanisms(vec!["PLAIN".into(), "OAUTHBEARER".into()]);
    script.answer::<SaslHandshakeRequest>(&asked, &response);
    script.expect_close();
    let said = script.ended().1.unwrap_err().to_string();
    assert!(said.contains("does not offer SCRAM-SHA-512"), "{said}");
    assert!(said.contains("PLAIN, OAUTHBEARER"), "{said}");
}

#[test]
fn a_port_without_sasl_says_so() {
    let mut script = Script::with_brokers(1, PLAIN);
    script.ask(1);
    script.open();
    let asked = script.expect_send();
    let code = ErrorCode::ILLEGAL_SASL_STATE.0;
    let response = SaslHandshakeResponse::default().with_error_code(code);
    script.answer::<SaslHandshakeRequest>(&asked, &response);
    script.expect_close();
    assert_eq!(security(script.ended().1).0, SecurityError::NotSasl);
}

#[test]
fn a_port_with_sasl_closes_on_the_first_request_and_the_error_says_why_it_may() {
    let mut script = Script::with_brokers(1, &[]);
    script.ask(1);
    let connection = script.open();
    script.expect_metadata();
    script
        .core
        .closed(script.now, connection, "the peer closed the connection");
    let said = script.ended().1.unwrap_err();
    assert!(said.kind.is_retriable());
    assert!(
        said.to_string().contains("check security.protocol"),
        "{said}"
    );
}

#[test]
fn a_broker_that_wants_a_certificate_may_close_without_an_alert_and_the_error_says_so() {
    let mut script = Script::with_brokers(1, &[("security.protocol", "SSL")]);
    script.ask(1);
    for version in [4, 0] {
        let (id, _) = match version {
            4 => {
                let (id, _) = script.expect_resolve();
                script.resolved(id, &["10.0.0.1:9093"]);
                script.expect_connect()
            }
            _ => script.expect_connect(),
        };
        script.core.connected(script.now, id);
        assert_eq!(script.expect_send().header.api_version, version);
        script
            .core
            .closed(script.now, id, "connection reset by peer");
    }
    let said = script.ended().1.unwrap_err();
    assert!(said.kind.is_retriable());
    assert!(said.to_string().contains("ssl.keystore.location"), "{said}");
}

#[track_caller]
fn expect_token_wanted(script: &mut Script<Router>) -> ConnectionId {
    match script.action() {
        Action::WantToken(connection) => connection,
        other => panic!("a token was to be wanted, but {other:?}"),
    }
}

#[test]
fn a_token_is_asked_for_and_shown_and_a_refusal_takes_two_steps() {
    let mut script = Script::with_brokers(1, OAUTHBEARER);
    script.ask(1);
    script.open();
    let connection = expect_token_wanted(&mut script);
    let token = Token::new("h.p.s").unwrap();
    script.core.handle_token(script.now, connection, Ok(token));
    script.agree_on("OAUTHBEARER");
    let (asked, bytes) = script.expect_authenticate();
    assert_eq!(bytes, &b"n,,\x01auth=Bearer h.p.s\x01\x01"[..]);
    script.challenge(&asked, br#"{"status":"invalid_token"}"#);
    let (asked, bytes) = script.expect_authenticate();
    assert_eq!(bytes, &b"\x01"[..]);
    script.refuse(&asked, r#"{"status":"invalid_token"}"#);
    script.expect_close();
    let said = script.ended().1.unwrap_err().to_string();
    assert!(said.contains("credentials for OAUTHBEARER"), "{said}");
    assert!(said.contains("invalid_token"), "{said}");
}

#[test]
fn a_token_that_cannot_be_had_now_may_be_had_later_and_a_refused_one_not() {
    let lacking = |error| {
        let mut script = Script::with_brokers(1, OAUTHBEARER);
        script.ask(1);
        script.open();
        let connection = expect_token_wanted(&mut script);
        script.core.handle_token(script.now, connection, Err(error));
        script.expect_close();
        script.ended().1.unwrap_err().kind
    };
    let why = "the endpoint is away".to_owned();
    assert!(lacking(TokenError::Unavailable(why)).is_retriable());
    let refused = lacking(TokenError::Refused("no such client".to_owned()));
    assert!(!refused.is_retriable());
    assert!(refused.to_string().contains("no such client"));
}

#[test]
fn line_40_a_tls_reset_is_tried_again_and_a_bad_certificate_is_not() {
    let tls = [("security.protocol", "SSL")];
    let mut script = Script::with_brokers(1, &tls);
    script.ask(1);
    let (id, _) = script.expect_resolve();
    script.resolved(id, &["10.0.0.1:9093"]);
    let (id, _) = script.expect_connect();
    script
        .core
        .closed(script.now, id, "connection reset by peer");
    assert!(script.ended().1.unwrap_err().kind.is_retriable());

    let mut script = Script::with_brokers(1, &tls);
    script.ask(1);
    let (id, _) = script.expect_resolve();
    script.resolved(id, &["10.0.0.1:9093", "10.0.0.2:9093"]);
    // Another machine of that name may have a better one.
    for address in ["10.0.0.1:9093", "10.0.0.2:9093"] {
        let (id, tried) = script.expect_connect();
        assert_eq!(tried, address.parse().unwrap());
        let why = "it has expired".to_owned();
        let error = SecurityError::Certificate { why };
        script.core.handle_unsecured(script.now, id, error);
    }
    let (error, _) = security(script.ended().1);
    assert!(
        matches!(error, SecurityError::Certificate { .. }),
        "{error}"
    );
    script.expect_nothing();
    script.ask(1);
    script.expect_nothing();
}

#[test]
fn line_40_a_users_request_fails_at_once_where_no_broker_lets_us_in() {
    let mut script = Script::client(PLAIN);
    let request = script.wait_for(&["cpu-monitor"], 60_000);
    script.open();
    script.agree_on("PLAIN");
    let (asked, _) = script.expect_authenticate();
    script.refuse(&asked, "no");
    let (finished, outcome) = script.expect_finished();
    script.expect_close();
    assert_eq!(finished, request);
    let said = outcome.unwrap_err();
    assert!(!said.is_retriable());
    assert!(
        said.to_string()
            .contains("read the metadata of cpu-monitor"),
        "{said}"
    );
}
