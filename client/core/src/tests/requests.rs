//! Requests in flight: order, correlation, timeouts, throttling, lanes.

use super::*;
use crate::call::Response;
use crate::connection::max_in_flight;
use tidewatch_protocol::message::{ProduceFrame, ProduceTopic};

/// Broker 1's general lane, open and with one request of the script in flight.
fn asking() -> (Script<Router>, ConnectionId, Sent) {
    let mut script = Script::with_brokers(1, &[]);
    script.ask(1);
    let id = script.open();
    let sent = script.expect_send();
    script.core.written(script.now, id);
    (script, id, sent)
}

fn produce(acks: i16) -> Body {
    let topic = ProduceTopic {
        name: "t".to_owned(),
        id: uuid::Uuid::from_u128(1),
        partitions: vec![(0, vec![Bytes::from_static(b"records")])],
    };
    Body::Produce(ProduceFrame {
        acks,
        topics: vec![topic],
        ..ProduceFrame::default()
    })
}

fn to_broker(id: i32) -> Destination {
    Destination::Broker(BrokerId(id))
}

#[test]
fn line_09_without_acks_a_call_ends_when_written_and_the_next_matches_its_own_response() {
    let mut script = Script::with_brokers(1, &[]);
    let silent = script.call(to_broker(1), Lane::Produce, produce(0));
    let answered = script.call(to_broker(1), Lane::Produce, produce(1));
    let id = script.open();
    let (first, second) = (script.expect_send(), script.expect_send());
    assert!(script.core.poll_ended().is_none());

    script.core.written(script.now, id);
    let (ended, result) = script.ended();
    assert_eq!(ended, silent);
    assert!(matches!(
        result.unwrap().response,
        Response::ProduceUnacknowledged
    ));

    script.core.written(script.now, id);
    assert_ne!(first.header.correlation_id, second.header.correlation_id);
    script.answer::<ProduceRequest>(&second, &ProduceResponse::default());
    let (ended, result) = script.ended();
    assert_eq!(ended, answered);
    assert!(matches!(result.unwrap().response, Response::Produce(_)));
    script.expect_nothing();
}

#[test]
fn line_38_an_unknown_correlation_id_closes_the_connection() {
    let (mut script, id, sent) = asking();
    let other = sent.header.correlation_id + 1;
    let version = sent.header.api_version;
    script.answer_as::<MetadataRequest>(id, &MetadataResponse::default(), version, other);

    let (closed, why) = script.expect_close();
    assert_eq!(closed, id);
    assert!(why.contains(&format!("correlation id {other}")), "{why}");
    let (_, result) = script.ended();
    assert!(disconnected(&result) && result.unwrap_err().written);
}

#[test]
fn line_38_a_duplicate_response_closes_the_connection() {
    let (mut script, id, sent) = asking();
    script.answer::<MetadataRequest>(&sent, &MetadataResponse::default());
    assert!(script.ended().1.is_ok());
    script.answer::<MetadataRequest>(&sent, &MetadataResponse::default());
    assert_eq!(script.expect_close().0, id);
}

#[test]
fn line_38_responses_out_of_order_close_the_connection() {
    let (mut script, id, _first) = asking();
    script.ask(1);
    let second = script.expect_send();
    script.answer::<MetadataRequest>(&second, &MetadataResponse::default());
    let (closed, why) = script.expect_close();
    assert_eq!(closed, id);
    assert!(why.contains("oldest in flight"), "{why}");
}

#[test]
fn line_38_a_malformed_response_closes_the_connection_and_says_what_was_wrong() {
    let (mut script, id, sent) = asking();
    script.ask(1);
    script.expect_send();
    let mut frame = sent.header.correlation_id.to_be_bytes().to_vec();
    frame.extend([0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x07]);
    script.core.frame(script.now, id, frame.into());

    assert_eq!(script.expect_close().0, id);
    let (_, own) = script.ended();
    assert!(matches!(
        own.unwrap_err().kind,
        CallErrorKind::Decode { .. }
    ));
    assert!(disconnected(&script.ended().1));
}

#[test]
fn line_39_a_request_that_times_out_closes_the_connection_and_fails_all_on_it() {
    let (mut script, id, _) = asking();
    script.pass_ms(20_000);
    script.ask(1);
    script.expect_send();

    script.pass_ms(10_000);

    assert_eq!(script.expect_close().0, id);
    let (_, overdue) = script.ended();
    let overdue = overdue.unwrap_err();
    let limit = CallErrorKind::TimedOut {
        address: "broker-1:9092".to_owned(),
        timeout_ms: 30_000,
    };
    assert_eq!((overdue.kind, overdue.written), (limit, true));
    let (_, behind) = script.ended();
    assert!(disconnected(&behind) && behind.unwrap_err().written);
}

#[test]
fn line_39_a_lost_connection_fails_its_calls_as_written_and_leaks_no_slot() {
    let (mut script, id, _) = asking();
    script
        .core
        .closed(script.now, id, "connection reset by peer");
    assert!(script.ended().1.unwrap_err().written);
    script.ask(1);
    script.pass_ms(1_000);
    script.open();
    let sent = script.expect_send();
    script.answer::<MetadataRequest>(&sent, &MetadataResponse::default());
    assert!(script.ended().1.is_ok());
}

#[test]
fn line_42_throttling_delays_the_next_request_and_trips_no_timeout() {
    let (mut script, id, first) = asking();
    script.ask(1);
    let second = script.expect_send();
    let throttled = MetadataResponse::default().with_throttle_time_ms(40_000);
    script.answer::<MetadataRequest>(&first, &throttled);
    assert!(!script.core.permits().may_send(BrokerId(1), Lane::General));

    script.ask(1);
    script.pass_ms(39_999);
    script.expect_nothing();

    // The second was in flight all that time, longer than the request timeout.
    script.answer::<MetadataRequest>(&second, &MetadataResponse::default());
    script.pass_ms(1);
    assert_eq!(script.expect_send().connection, id);
    assert!(script.core.permits().may_send(BrokerId(1), Lane::General));
}

#[test]
fn line_42_an_absurd_throttle_time_is_obeyed_for_ten_minutes_only() {
    let mut script = Script::with_brokers(1, &[("connections.max.idle.ms", "2000000")]);
    script.ask(1);
    script.open();
    let first = script.expect_send();
    let absurd = MetadataResponse::default().with_throttle_time_ms(i32::MAX);
    script.answer::<MetadataRequest>(&first, &absurd);
    assert_eq!(
        script.core.poll_timeout(),
        Some((600 * SECOND_US, Timer::Throttle))
    );
}

#[test]
fn line_45_a_long_poll_delays_no_other_request() {
    let mut script = Script::with_brokers(1, &[]);
    script.call(
        to_broker(1),
        Lane::Fetch(1),
        Body::Fetch(FetchRequest::default().into()),
    );
    let fetching = script.open();
    assert_eq!(script.expect_send().api(), ApiKey::Fetch);

    script.ask(1);
    let general = script.open();
    let sent = script.expect_send();
    assert_ne!(general, fetching);
    script.answer::<MetadataRequest>(&sent, &MetadataResponse::default());
    assert!(script.ended().1.is_ok());
}

#[test]
fn in_flight_requests_are_bounded_and_the_rest_follows_in_order() {
    let mut script = Script::with_brokers(1, &[]);
    let bound = max_in_flight(Lane::Produce);
    let calls: Vec<_> = (0..bound + 2)
        .map(|_| script.call(to_broker(1), Lane::Produce, produce(-1)))
        .collect();
    script.open();
    let sent: Vec<_> = (0..bound).map(|_| script.expect_send()).collect();
    script.expect_nothing();
    assert!(!script.core.permits().may_send(BrokerId(1), Lane::Produce));

    script.answer::<ProduceRequest>(&sent[0], &ProduceResponse::default());
    assert_eq!(script.ended().0, calls[0]);
    script.expect_send();
    script.expect_nothing();
}

#[test]
fn a_request_that_cannot_be_encoded_fails_alone() {
    let (mut script, _, sent) = asking();
    let mut request = OffsetCommitRequest::default();
    request.group_id = GroupId("g".repeat(40_000).into());
    let bad = script.call(
        to_broker(1),
        Lane::General,
        Body::OffsetCommit(request.into()),
    );
    let produce = ProduceFrame {
        topics: vec![ProduceTopic::default()],
        ..ProduceFrame::default()
    };
    let nil = script.call(to_broker(1), Lane::General, Body::Produce(produce));

    let failed: Vec<_> = std::iter::from_fn(|| script.core.poll_ended()).collect();
    assert!(failed.iter().all(|(id, _)| *id == bad || *id == nil));
    let kinds = failed.into_iter().map(|(_, result)| result.unwrap_err());
    assert!(
        kinds
            .into_iter()
            .all(|e| matches!(e.kind, CallErrorKind::Encode(_)) && !e.written)
    );
    script.answer::<MetadataRequest>(&sent, &MetadataResponse::default());
    assert!(
        script
            .core
            .poll_ended()
            .is_some_and(|(_, result)| result.is_ok())
    );
}
