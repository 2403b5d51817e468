//! What callers are told.

use super::*;
use crate::producer::delivery::DeliveryCause;
use tidewatch_protocol::messages::produce_response::BatchIndexAndErrorMessage;

#[test]
fn line_06_an_expired_batch_that_was_on_the_wire_is_possibly_written() {
    let mut scene = Scene::new(1, options());
    let sent = scene.append(0, "a");
    let call = scene.one();
    scene.pass(130 * SECOND_US);
    assert!(scene.produces().is_empty());
    assert!(result(&sent).is_none(), "its answer may still come");
    scene.lose(&call, true);
    let error = failure(&sent);
    assert!(error.possibly_written && error.is_retriable());
    assert!(error.to_string().contains("reset"), "{error}");
}

#[test]
fn line_06_a_batch_that_never_left_is_not() {
    let mut scene = Scene::new(1, options());
    scene.busy.insert(1);
    let waiting = scene.append(0, "a");
    scene.pass(121 * SECOND_US);
    assert!(scene.produces().is_empty());
    assert!(!failure(&waiting).possibly_written);
}

#[test]
fn line_06_a_late_answer_still_counts() {
    let mut scene = Scene::new(1, options());
    let sent = scene.append(0, "a");
    let call = scene.one();
    scene.pass(130 * SECOND_US);
    let _ = scene.poll();
    scene.acknowledge(&call, 9);
    assert_eq!(offset(&sent), 9);
}

#[test]
fn line_06_replicas_that_do_not_answer_leave_it_in_doubt() {
    for code in [
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::REQUEST_TIMED_OUT,
    ] {
        let mut scene = Scene::new(1, options());
        let sent = scene.append(0, "a");
        let call = scene.one();
        scene.refuse(&call, code);
        scene.pass(121 * SECOND_US);
        assert!(scene.produces().is_empty());
        assert!(failure(&sent).possibly_written, "{code}");
    }
}

#[test]
fn line_08_a_batch_too_large_is_split_until_it_passes() {
    let mut scene = Scene::new(
        1,
        ProducerOptions {
            linger_ms: 5,
            ..options()
        },
    );
    let deliveries: Vec<_> = ["a", "b", "c", "d"]
        .map(|value| scene.append(0, value))
        .into();
    scene.pass(5_000);
    let whole = scene.one();
    scene.refuse(&whole, ErrorCode::MESSAGE_TOO_LARGE);
    let mut values = Vec::new();
    let mut sequence = whole.stamp().2;
    while values.len() < 4 {
        let piece = scene.one();
        assert_eq!(piece.stamp(), (7, 0, sequence));
        sequence += piece.values().len() as i32;
        let base_offset = 10 + values.len() as i64;
        values.extend(piece.values());
        scene.acknowledge(&piece, base_offset);
    }
    assert_eq!(values, ["a", "b", "c", "d"]);
    assert_eq!(
        deliveries.iter().map(offset).collect::<Vec<_>>(),
        [10, 11, 12, 13]
    );
    assert_eq!(scene.accumulator.used_bytes(), 0);
}

#[test]
fn line_08_a_single_record_too_large_for_the_broker_fails_with_the_remedy() {
    let mut scene = Scene::new(1, options());
    let sent = scene.append(0, "a");
    let call = scene.one();
    scene.refuse(&call, ErrorCode::MESSAGE_TOO_LARGE);
    let error = failure(&sent);
    assert!(error.to_string().contains("max.message.bytes"), "{error}");
    assert!(!error.possibly_written);
}

#[test]
fn line_08_an_oversized_record_is_refused_at_send() {
    let scene = Scene::new(
        1,
        ProducerOptions {
            max_request_size: 1000,
            ..options()
        },
    );
    let value = "x".repeat(1000);
    let refused = scene
        .accumulator
        .append(scene.now, record(0, &value))
        .unwrap_err();
    assert!(
        refused.to_string().contains("max.request.size=1000"),
        "{refused}"
    );
    assert!(!refused.may_pass());
}

#[test]
fn line_09_without_acknowledgement_a_record_is_done_when_it_is_written() {
    let given = ProducerOptions {
        acks: 0,
        idempotence: false,
        ..options()
    };
    let mut scene = Scene::unidentified(1, given);
    let sent = scene.append(0, "a");
    let call = scene.one();
    scene.reply(call.id, Ok(Response::ProduceUnacknowledged), 11);
    assert_eq!(offset(&sent), -1);

    let lost = scene.append(0, "b");
    let call = scene.one();
    scene.lose(&call, true);
    assert!(
        failure(&lost).possibly_written,
        "sent again it could double"
    );

    let late = scene.append(0, "c");
    let call = scene.one();
    scene.lose(&call, false);
    scene.pass(SECOND_US);
    let again = scene.one();
    scene.reply(again.id, Ok(Response::ProduceUnacknowledged), 11);
    assert_eq!(offset(&late), -1);
}

#[test]
fn a_clock_that_the_broker_refuses_surfaces_with_its_words() {
    let mut scene = Scene::new(
        1,
        ProducerOptions {
            linger_ms: 5,
            ..options()
        },
    );
    let (bad, other) = (scene.append(0, "a"), scene.append(0, "b"));
    scene.pass(5_000);
    let call = scene.one();
    let of_record = BatchIndexAndErrorMessage::default()
        .with_batch_index(0)
        .with_batch_index_error_message(Some(StrBytes::from_static_str("too far ahead")));
    scene.answer(&call, |_| {
        refused(ErrorCode::INVALID_TIMESTAMP)
            .with_record_errors(vec![of_record.clone()])
            .with_error_message(Some(StrBytes::from_static_str("one record is bad")))
    });
    assert_eq!(failure(&bad).code(), Some(ErrorCode::INVALID_TIMESTAMP));
    assert_eq!(message(&bad), "too far ahead");
    assert!(failure(&bad).to_string().contains("clock"));
    assert!(result(&other).is_none(), "nothing is wrong with it");
}

/// Batches of one linger each, all in flight.
fn in_flight<const N: usize>(
    scene: &mut Scene,
    batches: [&[&str]; N],
) -> ([Produce; N], Vec<Delivery>) {
    let mut deliveries = Vec::new();
    let calls = batches.map(|values| {
        deliveries.extend(values.iter().map(|value| scene.append(0, value)));
        scene.pass(5_000);
        scene.one()
    });
    (calls, deliveries)
}

fn lingering() -> ProducerOptions {
    ProducerOptions {
        linger_ms: 5,
        ..options()
    }
}

/// Refuses the batch of `call` for the records at `indices` (KIP-467).
fn refuse_records(scene: &mut Scene, call: &Produce, indices: &[i32]) {
    let of_record = |index: &i32| {
        let message = StrBytes::from_string(format!("record {index} is too far ahead"));
        BatchIndexAndErrorMessage::default()
            .with_batch_index(*index)
            .with_batch_index_error_message(Some(message))
    };
    scene.answer(call, |_| {
        refused(ErrorCode::INVALID_TIMESTAMP)
            .with_record_errors(indices.iter().map(of_record).collect())
            .with_error_message(Some(StrBytes::from_static_str("some records are bad")))
    });
}

fn message(delivery: &Delivery) -> String {
    match failure(delivery).cause {
        DeliveryCause::Broker { message, .. } => message.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_the_records_that_a_batch_was_refused_for_fail_and_the_rest_goes_in_its_place() {
    let mut scene = Scene::new(1, lingering());
    let batches: [&[&str]; 2] = [&["a", "B", "C", "d"], &["e"]];
    let ([first, second], sent) = in_flight(&mut scene, batches);
    refuse_records(&mut scene, &first, &[1, 2]);
    assert!(scene.produces().is_empty(), "the second is still in flight");
    scene.refuse(&second, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);

    // Under a new epoch: the second was numbered as if all of the first were before it.
    for (sequence, value) in [(0, "a"), (1, "d"), (2, "e")] {
        let call = scene.one();
        assert_eq!(
            (call.stamp(), call.values()),
            ((7, 1, sequence), vec![value.to_owned()])
        );
        scene.acknowledge(&call, 10 + i64::from(sequence));
    }
    assert_eq!([&sent[0], &sent[3], &sent[4]].map(offset), [10, 11, 12]);
    assert_eq!(message(&sent[1]), "record 1 is too far ahead");
    assert_eq!(message(&sent[2]), "record 2 is too far ahead");
    assert!(!failure(&sent[1]).possibly_written);
    assert_eq!(scene.accumulator.used_bytes(), 0);
}

#[test]
fn a_batch_refused_for_all_its_records_or_for_none_that_it_has_fails_whole() {
    for indices in [&[0, 1][..], &[-1, 2], &[]] {
        let mut scene = Scene::new(1, lingering());
        let ([call], sent) = in_flight(&mut scene, [&["a", "b"]]);
        refuse_records(&mut scene, &call, indices);
        assert!(
            sent.iter().all(|sent| !failure(sent).possibly_written),
            "{indices:?}"
        );
        scene.send(0, "c");
        scene.pass(5_000);
        assert_eq!(scene.one().values(), ["c"]);
    }
}

#[test]
fn a_batch_that_may_be_written_is_not_sent_again_without_what_is_refused_now() {
    let mut scene = Scene::new(1, lingering());
    let ([call], sent) = in_flight(&mut scene, [&["a", "b"]]);
    scene.lose(&call, true);
    scene.pass(SECOND_US);
    let again = scene.one();
    refuse_records(&mut scene, &again, &[0]);
    assert!(sent.iter().all(|sent| failure(sent).possibly_written));
    assert!(scene.produces().is_empty());
}

#[test]
fn without_sequences_too_the_rest_of_a_refused_batch_goes_first() {
    let plain = ProducerOptions {
        idempotence: false,
        ..lingering()
    };
    let mut scene = Scene::unidentified(1, plain);
    let ([call], sent) = in_flight(&mut scene, [&["a", "B", "c"]]);
    scene.send(0, "d");
    scene.pass(5_000);
    refuse_records(&mut scene, &call, &[1]);
    for (offset, value) in [(0, "a"), (1, "c"), (2, "d")] {
        let call = scene.one();
        assert_eq!(call.values(), [value]);
        scene.acknowledge(&call, offset);
    }
    assert_eq!([&sent[0], &sent[2]].map(offset), [0, 1]);
}

#[test]
fn the_brokers_clock_is_told_where_the_topic_keeps_it() {
    let mut scene = Scene::new(1, options());
    let sent = scene.append(0, "a");
    let call = scene.one();
    scene.answer(&call, |_| written_at(3).with_log_append_time_ms(42));
    assert_eq!(result(&sent).unwrap().unwrap().timestamp_ms, 42);
}

#[test]
fn a_partition_left_out_of_the_answer_is_in_doubt_and_sent_again() {
    let mut scene = Scene::new(1, options());
    scene.send(0, "a");
    let call = scene.one();
    scene.reply(
        call.id,
        Ok(Response::Produce(ProduceResponse::default())),
        11,
    );
    scene.pass(SECOND_US);
    assert_eq!(scene.one().stamp(), call.stamp());
}

#[test]
fn a_producer_id_that_is_refused_fails_what_waits_for_it() {
    let mut scene = Scene::unidentified(1, options());
    let sent = scene.append(0, "a");
    let asked = scene.poll().remove(0);
    let code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    let answer = InitProducerIdResponse::default().with_error_code(code.0);
    scene.reply(asked.id, Ok(Response::InitProducerId(answer)), 5);
    let error = failure(&sent);
    assert_eq!(error.code(), Some(code));
    assert!(
        error.to_string().contains("enable.idempotence=false"),
        "{error}"
    );
}

#[test]
fn a_coordinator_that_loads_is_asked_again_for_the_producer_id() {
    let mut scene = Scene::unidentified(1, options());
    let sent = scene.append(0, "a");
    let asked = scene.poll().remove(0);
    let answer = InitProducerIdResponse::default()
        .with_error_code(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS.0);
    scene.reply(asked.id, Ok(Response::InitProducerId(answer)), 5);
    assert!(scene.poll().is_empty());
    assert!(result(&sent).is_none());
    let (at_us, _) = scene.room.poll_timeout().unwrap();
    scene.now.monotonic_us = at_us;
    assert!(matches!(
        scene.poll().remove(0).body,
        Body::InitProducerId(_)
    ));
}

#[test]
fn line_53_a_request_that_the_broker_is_too_old_for_fails_at_once() {
    let mut scene = Scene::new(1, options());
    let sent = scene.append(0, "a");
    let call = scene.one();
    let why = "zstd needs version 7".to_owned();
    let api = tidewatch_protocol::messages::ApiKey::Produce;
    let kind = CallErrorKind::Encode(tidewatch_protocol::message::EncodeError {
        api,
        version: 6,
        why,
    });
    let error = CallError {
        kind,
        written: false,
        broker: None,
    };
    scene.reply(call.id, Err(error), 6);
    assert!(!failure(&sent).is_retriable() && !failure(&sent).possibly_written);
    assert!(
        failure(&sent).to_string().contains("zstd"),
        "{}",
        failure(&sent)
    );
}
