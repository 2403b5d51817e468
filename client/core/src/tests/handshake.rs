//! Agreeing on versions.

use super::*;

fn connecting(script: &mut Script<Router>) -> ConnectionId {
    script.ask(1);
    let (id, _) = script.expect_resolve();
    script.resolved(id, &["10.0.0.1:9092"]);
    let (id, _) = script.expect_connect();
    script.core.connected(script.now, id);
    id
}

fn refusal(highest: Option<i16>) -> ApiVersionsResponse {
    let code = ErrorCode::UNSUPPORTED_VERSION.0;
    let range = highest.map(|max| listed(ApiKey::ApiVersions, 0, max));
    ApiVersionsResponse::default()
        .with_error_code(code)
        .with_api_keys(range.into_iter().collect())
}

#[test]
fn line_36_a_version_too_new_is_asked_again_at_the_brokers_highest() {
    let mut script = Script::with_brokers(1, &[]);
    let id = connecting(&mut script);
    let first = script.expect_send();
    assert_eq!(first.header.api_version, 4);

    let correlation = first.header.correlation_id;
    script.answer_as::<ApiVersionsRequest>(id, &refusal(Some(3)), 0, correlation);

    let second = script.expect_send();
    assert_eq!((second.connection, second.header.api_version), (id, 3));
    script.answer::<ApiVersionsRequest>(&second, &every_version());
    assert_eq!(script.expect_send().api(), ApiKey::Metadata);
}

#[test]
fn line_36_a_broker_that_names_no_version_is_asked_at_0_and_then_as_high_as_it_lists() {
    let mut script = Script::with_brokers(1, &[]);
    let id = connecting(&mut script);
    let first = script.expect_send();
    let correlation = first.header.correlation_id;
    script.answer_as::<ApiVersionsRequest>(id, &refusal(None), 0, correlation);

    let second = script.expect_send();
    assert_eq!(second.header.api_version, 0);
    let mut old = every_version();
    for range in &mut old.api_keys {
        if range.api_key == ApiKey::ApiVersions as i16 {
            range.max_version = 2;
        }
    }
    script.answer::<ApiVersionsRequest>(&second, &old);

    let third = script.expect_send();
    assert_eq!(third.header.api_version, 2);
    script.answer::<ApiVersionsRequest>(&third, &old);
    assert_eq!(script.expect_send().api(), ApiKey::Metadata);
}

#[test]
fn line_36_a_broker_that_resets_on_it_is_asked_at_0_at_once_and_from_then_on() {
    let mut script = Script::with_brokers(1, &[]);
    let id = connecting(&mut script);
    assert_eq!(script.expect_send().header.api_version, 4);

    script
        .core
        .closed(script.now, id, "connection reset by peer");

    let (again, _) = script.expect_connect();
    script.core.connected(script.now, again);
    let asked = script.expect_send();
    assert_eq!(asked.header.api_version, 0);
    let only_zero = |mut response: ApiVersionsResponse| {
        let own = ApiKey::ApiVersions as i16;
        response.api_keys.retain(|range| range.api_key != own);
        response.with_api_keys({
            let mut keys = every_version().api_keys;
            keys.retain(|range| range.api_key != own);
            keys.push(listed(ApiKey::ApiVersions, 0, 0));
            keys
        })
    };
    script.answer::<ApiVersionsRequest>(&asked, &only_zero(every_version()));
    assert_eq!(script.expect_send().api(), ApiKey::Metadata);

    // The next connection to that broker does not find out again.
    let destination = Destination::Broker(BrokerId(1));
    script.call(destination, Lane::Produce, metadata_body());
    let (id, _) = script.expect_resolve();
    script.resolved(id, &["10.0.0.1:9092"]);
    let (id, _) = script.expect_connect();
    script.core.connected(script.now, id);
    assert_eq!(script.expect_send().header.api_version, 0);
}

#[test]
fn line_36_a_restart_in_mid_handshake_does_not_lower_the_version_for_good() {
    let mut script = Script::with_brokers(1, &[]);
    let id = connecting(&mut script);
    script.expect_send();
    script
        .core
        .closed(script.now, id, "connection reset by peer");
    let (again, _) = script.expect_connect();
    script.core.connected(script.now, again);
    let asked = script.expect_send();
    script.answer::<ApiVersionsRequest>(&asked, &every_version());

    let asked = script.expect_send();
    assert_eq!(asked.header.api_version, 4);
    script.answer::<ApiVersionsRequest>(&asked, &every_version());
    assert_eq!(script.expect_send().api(), ApiKey::Metadata);
}

#[test]
fn a_broker_that_refuses_every_version_is_backed_off_from() {
    let mut script = Script::with_brokers(1, &[]);
    let id = connecting(&mut script);
    loop {
        match script.action() {
            Action::Send(_, frame) => {
                let asked = read_request(id, &frame);
                let correlation = asked.header.correlation_id;
                script.answer_as::<ApiVersionsRequest>(id, &refusal(Some(9)), 0, correlation);
            }
            Action::Close { why, .. } => {
                assert!(why.contains("ApiVersions"), "{why}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let (_, result) = script.ended();
    assert!(!result.unwrap_err().written);
    assert_eq!(script.core.poll_timeout().unwrap().1, Timer::Reconnect);
}

#[test]
fn line_44_a_handshake_answer_of_garbage_closes_the_connection() {
    let mut script = Script::with_brokers(1, &[]);
    let id = connecting(&mut script);
    script.expect_send();
    script.core.frame(
        script.now,
        id,
        Bytes::from_static(&[0, 0, 0, 0, 0xff, 0xff, 0xff]),
    );
    let (closed, why) = script.expect_close();
    assert_eq!(closed, id);
    assert!(why.contains("cannot be read"), "{why}");
}

#[test]
fn a_broker_too_old_for_a_request_fails_that_call_only() {
    let mut script = Script::with_brokers(1, &[]);
    script.ask(1);
    let destination = Destination::Broker(BrokerId(1));
    let refused = Body::InitProducerId(InitProducerIdRequest::default().into());
    let refused = script.call(destination, Lane::General, refused);
    let (id, _) = script.expect_resolve();
    script.resolved(id, &["10.0.0.1:9092"]);
    let (id, _) = script.expect_connect();
    script.core.connected(script.now, id);
    let asked = script.expect_send();
    let mut old = every_version();
    old.api_keys
        .retain(|range| range.api_key != ApiKey::InitProducerId as i16);
    script.answer::<ApiVersionsRequest>(&asked, &old);

    assert_eq!(script.expect_send().api(), ApiKey::Metadata);
    let (ended, result) = script.ended();
    assert_eq!(ended, refused);
    assert!(matches!(
        result.unwrap_err().kind,
        CallErrorKind::Version(_)
    ));
    script.expect_nothing();
}
