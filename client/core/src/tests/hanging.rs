//! Brokers that hang: connections are accepted, or stay open, and nothing is answered.

use super::metadata::{T, response, topic};
use super::*;
use crate::call::Room;
use crate::metadata::MetadataRoom;

#[test]
fn a_broker_that_hangs_on_one_lane_is_asked_last_on_another() {
    let mut script = Script::with_brokers(2, &[]);
    script.ask(1);
    script.open();
    let sent = script.expect_send();
    script.answer::<MetadataRequest>(&sent, &MetadataResponse::default());
    assert!(script.ended().1.is_ok());

    // The kernel of a stopped broker still accepts, and its open connections stand.
    let hanging = Destination::Broker(BrokerId(1));
    script.call(hanging, Lane::Produce, metadata_body());
    let produce = script.open();
    script.expect_send();
    script.pass_ms(30_000);
    assert_eq!(script.expect_close().0, produce);
    assert!(script.ended().1.is_err());
    script.call(Destination::AnyBroker, Lane::General, metadata_body());
    assert_eq!(script.expect_resolve().1, "broker-2:9092");
}

#[test]
fn a_call_that_waits_for_a_broker_that_hangs_goes_back_when_the_cluster_has_changed() {
    let mut script = Script::with_brokers(2, &[]);
    let hanging = Destination::Broker(BrokerId(1));
    script.call(hanging.clone(), Lane::Produce, metadata_body());
    script.open();
    script.expect_send();
    script.pass_ms(30_000);
    script.expect_close();
    assert!(script.ended().1.is_err_and(|error| error.written));

    // Its kernel accepts once more; before the handshake is given up, another picture comes.
    let again = script.call(hanging, Lane::Produce, metadata_body());
    script.pass_ms(100);
    let (id, _) = script.expect_resolve();
    script.resolved(id, &["10.0.0.1:9092"]);
    let (id, _) = script.expect_connect();
    script.core.connected(script.now, id);
    assert!(script.core.poll_ended().is_none());
    script.learn(cluster(&[(1, "broker"), (2, "broker")]));
    let (ended, result) = script.ended();
    let error = result.unwrap_err();
    assert_eq!(ended, again);
    assert!(!error.written, "{error}");
}

#[test]
fn a_broker_that_answers_again_is_asked_as_before() {
    let mut script = Script::with_brokers(2, &[]);
    script.ask(1);
    let general = script.open();
    let before = script.expect_send();
    let hanging = Destination::Broker(BrokerId(1));
    script.call(hanging, Lane::Produce, metadata_body());
    let produce = script.open();
    script.expect_send();
    script
        .core
        .closed(script.now, produce, "connection reset by peer");

    script.answer::<MetadataRequest>(&before, &MetadataResponse::default());
    script.call(Destination::AnyBroker, Lane::General, metadata_body());
    assert_eq!(script.expect_send().connection, general);
}

#[test]
fn a_handshake_is_not_waited_for_longer_than_a_request() {
    let mut script = Script::with_brokers(1, &[("request.timeout.ms", "5000")]);
    script.ask(1);
    let (id, _) = script.expect_resolve();
    script.resolved(id, &["10.0.0.1:9092"]);
    let (id, _) = script.expect_connect();
    script.core.connected(script.now, id);
    script.expect_send();
    script.pass_ms(5_000);
    let (closed, why) = script.expect_close();
    assert_eq!(closed, id);
    assert!(
        why.contains("handshake") && why.contains("5000 ms"),
        "{why}"
    );
}

/// A Metadata request that any broker may answer, in flight at broker 1 of two.
fn asking_any() -> (Script<Router>, CallId, Sent) {
    let mut script = Script::with_brokers(2, &[]);
    script.ask(1);
    script.open();
    let sent = script.expect_send();
    script.answer::<MetadataRequest>(&sent, &MetadataResponse::default());
    script.ended().1.unwrap();
    let call = script.call(Destination::AnyBroker, Lane::General, metadata_body());
    let sent = script.expect_send();
    (script, call, sent)
}

#[test]
fn what_any_broker_may_answer_is_asked_of_another_as_soon_as_a_lane_of_its_own_fails() {
    let (mut script, call, first) = asking_any();
    script.call(
        Destination::Broker(BrokerId(1)),
        Lane::Produce,
        metadata_body(),
    );
    let produce = script.open();
    script.expect_send();

    script.core.closed(script.now, produce, "timed out");

    assert!(script.ended().1.is_err());
    let other = script.open();
    let second = script.expect_send();
    assert_eq!(second.api(), ApiKey::Metadata);
    assert_ne!(first.connection, other);
    script.answer::<MetadataRequest>(&second, &MetadataResponse::default());
    let (ended, reply) = script.ended();
    assert_eq!((ended, reply.unwrap().broker), (call, BrokerId(2)));
}

#[test]
fn after_a_second_without_an_answer_another_broker_is_asked_and_the_first_answer_counts() {
    let (mut script, call, first) = asking_any();
    script.pass_ms(999);
    script.expect_nothing();
    script.pass_ms(1);
    script.open();
    let second = script.expect_send();
    assert_eq!(second.api(), ApiKey::Metadata);

    script.answer::<MetadataRequest>(&first, &MetadataResponse::default());
    let (ended, reply) = script.ended();
    assert_eq!((ended, reply.unwrap().broker), (call, BrokerId(1)));

    // The other answer is nobody's, and its connection is as good as before.
    script.answer::<MetadataRequest>(&second, &MetadataResponse::default());
    assert!(script.core.poll_ended().is_none());
    assert_eq!(script.core.poll_timeout().unwrap().1, Timer::Idle);
    script.ask(2);
    assert_eq!(script.expect_send().connection, second.connection);
}

#[test]
fn a_failure_is_told_once_no_other_broker_is_asked_the_same() {
    let (mut script, call, first) = asking_any();
    script.pass_ms(1_000);
    script.open();
    let second = script.expect_send();
    script
        .core
        .closed(script.now, second.connection, "connection reset by peer");
    assert!(script.core.poll_ended().is_none());
    script
        .core
        .closed(script.now, first.connection, "connection reset by peer");
    let (ended, result) = script.ended();
    assert!(ended == call && disconnected(&result));
}

#[test]
fn a_broker_alone_in_its_cluster_is_asked_once() {
    let mut script = Script::with_brokers(1, &[]);
    script.call(Destination::AnyBroker, Lane::General, metadata_body());
    script.open();
    script.expect_send();
    script.pass_ms(29_999);
    script.expect_nothing();
}

#[test]
fn a_lookup_of_a_coordinator_is_asked_of_another_too() {
    let mut script = Script::with_brokers(2, &[]);
    let group = Destination::Coordinator(Coordinated::Group("g".into()));
    let body = Body::OffsetCommit(OffsetCommitRequest::default().into());
    script.call(group, Lane::General, body);
    let first = script.open();
    assert_eq!(script.expect_send().api(), ApiKey::FindCoordinator);
    script.pass_ms(1_000);
    assert_ne!(script.open(), first);
    assert_eq!(script.expect_send().api(), ApiKey::FindCoordinator);
}

fn silences(script: &mut Script<Router>) -> Vec<Vec<i32>> {
    let silences = script.facts().into_iter().filter_map(|fact| match fact {
        Fact::BrokersSilent(silent) => Some(silent.iter().map(|id| id.0).collect()),
        _ => None,
    });
    silences.collect()
}

#[test]
fn a_broker_is_told_to_be_silent_while_it_is_tried_again() {
    let mut script = Script::with_brokers(2, &[]);
    let hanging = Destination::Broker(BrokerId(1));
    script.call(hanging.clone(), Lane::Produce, metadata_body());
    let produce = script.open();
    script.expect_send();
    assert!(silences(&mut script).is_empty());
    script.core.closed(script.now, produce, "timed out");
    assert_eq!(silences(&mut script), [[1]]);

    // Nobody wants it any more.
    script.pass_ms(100);
    assert_eq!(silences(&mut script), [[0; 0]]);

    script.call(hanging, Lane::Produce, metadata_body());
    assert_eq!(silences(&mut script), [[1]]);
    script.open();
    assert_eq!(silences(&mut script), [[0; 0]]);
}

#[test]
fn while_a_leader_is_silent_its_successor_is_asked_for_again_and_again() {
    let mut room = MetadataRoom::new(options(&[]).client, SEED);
    let now = |ms: u64| Now {
        monotonic_us: ms * 1000,
        ..Now::default()
    };
    let permits = crate::call::Permits::all();
    let answer = |room: &mut MetadataRoom, now: Now, leader: i32| {
        let call = room.poll_call(now, &permits)?;
        let response = response(vec![topic("a", T, &[(leader, leader)])]);
        let reply = Reply {
            response: crate::call::Response::Metadata(response),
            version: 13,
            broker: BrokerId(2),
        };
        room.handle_reply(now, call.id, Ok(reply));
        Some(())
    };
    room.handle_fact(now(0), &Fact::TopicsWanted(vec!["a".into()]));
    answer(&mut room, now(0), 1).unwrap();

    room.handle_fact(
        now(10_000),
        &Fact::BrokersSilent(Arc::new([BrokerId(1)].into())),
    );
    let asked: Vec<u64> = (10_000..15_000)
        .filter(|ms| answer(&mut room, now(*ms), 1).is_some())
        .collect();
    let waits = asked.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(
        asked.len() >= 5 && waits.clone().all(|wait| (80..=1_200).contains(&wait)),
        "{asked:?}"
    );

    // Another leads now: there is nothing to ask for any more.
    let found = (15_000..17_000).find(|ms| answer(&mut room, now(*ms), 2).is_some());
    found.expect("asked once more");
    assert_eq!(room.poll_timeout().unwrap().1, Timer::MetadataAge);
}
