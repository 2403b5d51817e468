//! Finding brokers: addresses, backoff, bootstrap, brokers that move.

use super::*;

fn refuse(script: &mut Script<Router>, id: ConnectionId) {
    script.core.closed(script.now, id, "connection refused");
}

#[test]
fn line_43_every_address_of_a_host_is_tried_in_turn() {
    let mut script = Script::with_brokers(1, &[]);
    script.ask(1);
    let (id, host) = script.expect_resolve();
    assert_eq!(host, "broker-1:9092");
    script.resolved(
        id,
        &["10.0.0.1:9092", "[2001:db8::1]:9092", "10.0.0.3:9092"],
    );

    let (first, address) = script.expect_connect();
    assert_eq!(address.to_string(), "10.0.0.1:9092");
    refuse(&mut script, first);
    let (second, address) = script.expect_connect();
    assert_eq!(address.to_string(), "[2001:db8::1]:9092");
    // This one neither answers nor refuses.
    script.pass_ms(10_000);
    assert_eq!(script.expect_close().0, second);
    let (third, address) = script.expect_connect();
    assert_eq!(address.to_string(), "10.0.0.3:9092");
    script.core.connected(script.now, third);
    script.agree();
    assert_eq!(script.expect_send().connection, third);
}

#[test]
fn line_43_backoff_grows_has_jitter_and_resolves_again() {
    let mut script = Script::with_brokers(1, &[]);
    let mut waits = Vec::new();
    for _ in 0..8 {
        script.ask(1);
        let (id, _) = script.expect_resolve();
        script.resolved(id, &["10.0.0.1:9092"]);
        let (id, _) = script.expect_connect();
        refuse(&mut script, id);
        assert!(!script.ended().1.unwrap_err().written);
        assert!(!script.core.permits().may_send(BrokerId(1), Lane::General));
        let (until, timer) = script.core.poll_timeout().unwrap();
        assert_eq!(timer, Timer::Reconnect);
        let wait_us = until - script.now.monotonic_us;
        waits.push(wait_us);
        script.pass_ms(wait_us / 1000 + 1);
        assert!(script.core.permits().may_send(BrokerId(1), Lane::General));
    }
    assert!((40_000..=60_000).contains(&waits[0]), "{waits:?}");
    assert!((800_000..=1_200_000).contains(&waits[7]), "{waits:?}");
    assert!(waits.windows(2).all(|pair| pair[0] != pair[1]), "{waits:?}");
}

#[test]
fn line_43_the_time_to_set_up_a_connection_doubles_with_every_failure() {
    let mut script = Script::with_brokers(1, &[]);
    let mut limits_ms = Vec::new();
    for _ in 0..4 {
        script.ask(1);
        let (id, _) = script.expect_resolve();
        script.resolved(id, &["10.0.0.1:9092"]);
        let (id, _) = script.expect_connect();
        let began_us = script.now.monotonic_us;
        let (at_us, timer) = script.core.poll_timeout().unwrap();
        assert_eq!(timer, Timer::Connect);
        script.pass_ms((at_us - began_us) / 1000);
        let (closed, why) = script.expect_close();
        assert_eq!(closed, id);
        let limit_ms = (at_us - began_us) / 1000;
        assert!(why.contains(&format!("longer than {limit_ms} ms")), "{why}");
        limits_ms.push(limit_ms);
        script.ended().1.unwrap_err();
        script.pass_ms(1_500);
    }
    assert_eq!(limits_ms, [10_000, 20_000, 30_000, 30_000]);
}

#[test]
fn a_name_that_does_not_resolve_fails_the_call_with_the_name() {
    let mut script = Script::with_brokers(1, &[]);
    script.ask(1);
    let (id, _) = script.expect_resolve();
    script
        .core
        .resolved(script.now, id, Err("no such host".to_owned()));
    let error = script.ended().1.unwrap_err().to_string();
    assert!(
        error.contains("cannot resolve broker-1: no such host"),
        "{error}"
    );
}

#[test]
fn line_49_an_unreachable_advertised_address_is_named_with_the_bootstrap_address() {
    let mut script = Script::with_brokers(1, &[]);
    script.ask(1);
    let (id, _) = script.expect_resolve();
    script.resolved(id, &["10.0.0.1:9092"]);
    let (id, _) = script.expect_connect();
    refuse(&mut script, id);

    let error = script.ended().1.unwrap_err().to_string();
    for part in [
        "broker-1:9092",
        "boot:9092",
        "advertised.listeners",
        "connection refused",
    ] {
        assert!(error.contains(part), "{part} in: {error}");
    }
}

#[test]
fn line_49_a_broker_that_was_reached_before_is_just_down() {
    let mut script = Script::with_brokers(1, &[]);
    script.ask(1);
    let id = script.open();
    script.expect_send();
    refuse(&mut script, id);
    assert!(disconnected(&script.ended().1));
    script.pass_ms(1_000);
    script.ask(1);
    let (id, _) = script.expect_resolve();
    script.resolved(id, &["10.0.0.1:9092"]);
    let (id, _) = script.expect_connect();
    refuse(&mut script, id);
    let error = script.ended().1.unwrap_err().to_string();
    assert!(!error.contains("advertised.listeners"), "{error}");
}

#[test]
fn line_43_the_same_broker_on_a_new_host_gets_a_new_connection() {
    let mut script = Script::with_brokers(1, &[]);
    script.ask(1);
    let old = script.open();
    script.expect_send();

    script.learn(cluster(&[(1, "moved")]));

    assert_eq!(script.expect_close().0, old);
    assert!(disconnected(&script.ended().1));
    script.ask(1);
    assert_eq!(script.expect_resolve().1, "moved-1:9092");
}

#[test]
fn line_43_when_all_brokers_are_down_the_bootstrap_addresses_are_resolved_again() {
    let mut script = Script::with_brokers(2, &[]);
    let call = script.call(Destination::AnyBroker, Lane::General, metadata_body());
    let mut tried = Vec::new();
    for _ in 0..3 {
        let (id, host) = script.expect_resolve();
        tried.push(host);
        script.resolved(id, &["10.0.0.1:9092"]);
        let (id, _) = script.expect_connect();
        refuse(&mut script, id);
    }
    tried[..2].sort();
    assert_eq!(tried, ["broker-1:9092", "broker-2:9092", "boot:9092"]);
    let unreachable = script.facts().into_iter().find_map(|fact| match fact {
        Fact::NoBrokerReachable { why } => Some(why),
        _ => None,
    });
    let why = unreachable.expect("told that no broker can be reached");
    assert!(
        why.contains("boot:9092") && why.contains("connection refused"),
        "{why}"
    );

    // The call is still alive, and goes out where it first can.
    script.pass_ms(100);
    script.open();
    let sent = script.expect_send();
    script.answer::<MetadataRequest>(&sent, &MetadataResponse::default());
    let (ended, result) = script.ended();
    assert!(ended == call && result.is_ok());
}

#[test]
fn line_43_without_recovery_the_bootstrap_addresses_are_for_the_first_contact_only() {
    let settings = [("metadata.recovery.strategy", "none")];
    let mut script = Script::router(&settings);
    script.call(Destination::AnyBroker, Lane::General, metadata_body());
    assert_eq!(script.expect_resolve().1, "boot:9092");

    let mut script = Script::with_brokers(2, &settings);
    script.call(Destination::AnyBroker, Lane::General, metadata_body());
    for _ in 0..4 {
        let (id, host) = script.expect_resolve();
        assert_ne!(host, "boot:9092");
        script.resolved(id, &["10.0.0.1:9092"]);
        let (id, _) = script.expect_connect();
        refuse(&mut script, id);
        script.pass_ms(100);
    }
}

#[test]
fn a_call_that_finds_no_route_in_time_says_whom_and_why() {
    let mut script = Script::router(&[]);
    script.call(Destination::AnyBroker, Lane::General, metadata_body());
    let end_us = 61 * SECOND_US;
    while script.now.monotonic_us < end_us {
        match script.next_action() {
            Some(Action::Resolve { connection, .. }) => {
                script
                    .core
                    .resolved(script.now, connection, Err("no such host".to_owned()));
            }
            Some(other) => panic!("{other:?}"),
            None => script.pass_ms(100),
        }
    }
    let error = script.ended().1.unwrap_err();
    assert!(!error.written);
    let error = error.to_string();
    assert!(error.contains("bootstrap.servers boot:9092"), "{error}");
    assert!(error.contains("no such host"), "{error}");
}

#[test]
fn a_broker_that_nobody_lists_fails_at_once_and_asks_for_metadata() {
    let mut script = Script::with_brokers(1, &[]);
    script.ask(9);
    let error = script.ended().1.unwrap_err().to_string();
    assert!(error.contains("broker 9"), "{error}");
    assert!(matches!(script.facts()[..], [Fact::MetadataStale]));
}

#[test]
fn calls_beyond_the_bound_are_refused() {
    let mut script = Script::router(&[]);
    for _ in 0..5000 {
        script.call(Destination::AnyBroker, Lane::General, metadata_body());
    }
    let refused = std::iter::from_fn(|| script.core.poll_ended()).count();
    assert_eq!(refused, 5000 - 4096);
}

#[test]
fn a_controller_call_waits_until_the_cluster_is_known() {
    let mut script = Script::router(&[]);
    script.call(Destination::Controller, Lane::General, metadata_body());
    assert!(matches!(script.facts()[..], [Fact::MetadataStale]));
    script.expect_nothing();
    script.learn(cluster(&[(1, "broker"), (2, "broker")]));
    assert_eq!(script.expect_resolve().1, "broker-1:9092");
}
