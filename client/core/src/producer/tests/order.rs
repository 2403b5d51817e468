//! Order and sequences.

use super::*;

/// Three batches of one partition in flight at once.
fn three_in_flight(scene: &mut Scene) -> Vec<Produce> {
    ["a", "b", "c"]
        .into_iter()
        .map(|value| {
            scene.send(0, value);
            scene.one()
        })
        .collect()
}

#[test]
fn line_01_a_retry_keeps_id_epoch_and_sequence() {
    let mut scene = Scene::new(1, options());
    let delivery = scene.append(0, "a");
    let first = scene.one();
    scene.lose(&first, true);
    assert!(scene.produces().is_empty(), "it backs off");
    scene.pass(SECOND_US);
    let again = scene.one();
    assert_eq!(again.stamp(), first.stamp());
    assert_eq!(again.values(), ["a"]);
    scene.acknowledge(&again, 5);
    assert_eq!(offset(&delivery), 5);
}

#[test]
fn line_01_no_sequence_is_reused_after_an_ambiguous_timeout() {
    let mut scene = Scene::new(1, options());
    let lost = scene.append(0, "a");
    let first = scene.one();
    assert_eq!(first.stamp(), (7, 0, 1));
    scene.lose(&first, true);
    scene.pass(121 * SECOND_US);
    assert!(scene.produces().is_empty());
    assert!(failure(&lost).possibly_written);

    scene.send(0, "b");
    assert_eq!(
        scene.one().stamp(),
        (7, 1, 0),
        "a new epoch, not sequence 1 or 2 of the old one"
    );
}

#[test]
fn line_02_sequences_follow_the_records() {
    let mut scene = Scene::new(
        1,
        ProducerOptions {
            linger_ms: 5,
            ..options()
        },
    );
    let (_, _) = (scene.append(0, "a"), scene.append(0, "b"));
    scene.pass(5_000);
    assert_eq!(scene.one().stamp(), (7, 0, 1));
    scene.send(0, "c");
    scene.pass(5_000);
    assert_eq!(scene.one().stamp(), (7, 0, 3));
}

#[test]
fn line_03_what_follows_a_failed_batch_is_sent_again_in_order_under_the_same_epoch() {
    let mut scene = Scene::new(1, options());
    let calls = three_in_flight(&mut scene);
    scene.refuse(&calls[0], ErrorCode::NOT_ENOUGH_REPLICAS);
    scene.refuse(&calls[1], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    scene.refuse(&calls[2], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    scene.pass(SECOND_US);
    for (offset, call) in calls.iter().enumerate() {
        let again = scene.one();
        assert_eq!(
            (again.stamp(), again.values()),
            (call.stamp(), call.values())
        );
        scene.acknowledge(&again, offset as i64);
    }
}

#[test]
fn line_07_nothing_overtakes_a_batch_that_waits_to_be_sent_again() {
    let mut scene = Scene::new(1, options());
    let calls = three_in_flight(&mut scene);
    scene.refuse(&calls[0], ErrorCode::NOT_ENOUGH_REPLICAS);
    scene.send(0, "d");
    assert!(scene.produces().is_empty());
    scene.pass(SECOND_US);
    let next: Vec<_> = scene.produces().iter().map(Produce::values).collect();
    assert_eq!(next, [["a"], ["d"]]);
}

#[test]
fn line_04_a_bump_resets_every_partition_once_its_own_batches_are_resolved() {
    // Partition 2 is idle, 1 has a batch in flight, 0 loses its first batch for good.
    let mut scene = Scene::new(3, options());
    scene.send(2, "idle");
    let idle = scene.one();
    scene.acknowledge(&idle, 0);
    scene.send(1, "in flight");
    let busy = scene.one();
    scene.send(0, "refused");
    let refused = scene.one();
    scene.refuse(&refused, ErrorCode::INVALID_RECORD);

    let _ = (
        scene.append(0, "x"),
        scene.append(1, "y"),
        scene.append(2, "z"),
    );
    assert_eq!(
        scene.one().stamps(),
        [(0, (7, 1, 0)), (2, (7, 1, 0))],
        "1 has to wait"
    );
    scene.acknowledge(&busy, 0);
    assert_eq!(scene.one().stamps(), [(1, (7, 1, 0))]);
}

#[test]
fn line_04_after_the_last_epoch_a_new_id_is_asked_for() {
    let mut scene = Scene::unidentified(1, options());
    scene.identify(7, i16::MAX);
    scene.send(0, "a");
    let call = scene.one();
    scene.refuse(&call, ErrorCode::INVALID_RECORD);
    scene.send(0, "b");
    let asked = scene.poll().remove(0);
    assert!(matches!(asked.body, Body::InitProducerId(_)));
    scene.give_identity(asked.id, 8, 0);
    assert_eq!(scene.one().stamp(), (8, 0, 0));
}

#[test]
fn line_05_records_lost_to_retention_go_again_under_a_new_epoch() {
    let mut scene = Scene::new(1, options());
    let delivery = scene.append(0, "a");
    let call = scene.one();
    scene.answer(&call, |_| {
        refused(ErrorCode::UNKNOWN_PRODUCER_ID).with_log_start_offset(100)
    });
    scene.pass(SECOND_US);
    let again = scene.one();
    assert_eq!(again.stamp(), (7, 1, 0));
    scene.acknowledge(&again, 100);
    assert_eq!(offset(&delivery), 100);
}

#[test]
fn line_05_an_unknown_producer_without_a_log_start_is_a_plain_retry() {
    let mut scene = Scene::new(1, options());
    scene.send(0, "a");
    let call = scene.one();
    scene.refuse(&call, ErrorCode::UNKNOWN_PRODUCER_ID);
    scene.pass(SECOND_US);
    assert_eq!(scene.one().stamp(), call.stamp());
}

#[test]
fn line_05_a_duplicate_is_a_success() {
    let mut scene = Scene::new(1, options());
    let delivery = scene.append(0, "a");
    let call = scene.one();
    scene.refuse(&call, ErrorCode::DUPLICATE_SEQUENCE_NUMBER);
    assert_eq!(offset(&delivery), -1);
    scene.send(0, "b");
    assert_eq!(scene.one().stamp(), (7, 0, 2));
}

#[test]
fn line_07_nothing_goes_to_a_new_leader_while_a_batch_is_with_the_old_one() {
    let mut scene = Scene::new(1, options());
    scene.send(0, "a");
    let old = scene.one();
    assert_eq!(old.to, 1);
    scene.leaders = vec![Some((2, 1))];
    scene.publish();
    scene.send(0, "b");
    assert!(scene.produces().is_empty());
    scene.refuse(&old, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    scene.pass(SECOND_US);
    let next: Vec<_> = scene
        .produces()
        .iter()
        .map(|call| (call.to, call.values()))
        .collect();
    assert_eq!(next, [(2, vec!["a".to_owned()]), (2, vec!["b".to_owned()])]);
}

#[test]
fn what_comes_back_from_a_broker_that_leads_no_more_goes_to_its_successor_at_once() {
    let mut scene = Scene::new(1, options());
    scene.send(0, "a");
    let old = scene.one();
    // Told first, as when the call waited for a connection that the news of the cluster ends.
    scene.leaders = vec![Some((2, 1))];
    scene.publish();
    scene.lose(&old, false);
    let again = scene.one();
    assert_eq!((again.to, again.stamp()), (2, old.stamp()));
    // The successor has failed now.
    scene.lose(&again, false);
    assert!(scene.produces().is_empty());
}

#[test]
fn line_07_without_sequences_one_batch_is_in_flight() {
    let mut scene = Scene::unidentified(
        1,
        ProducerOptions {
            idempotence: false,
            ..options()
        },
    );
    scene.send(0, "a");
    let first = scene.one();
    assert_eq!(first.stamp(), (-1, -1, -1));
    scene.send(0, "b");
    assert!(scene.produces().is_empty());
    scene.refuse(&first, ErrorCode::NOT_ENOUGH_REPLICAS);
    scene.pass(SECOND_US);
    let again = scene.one();
    assert_eq!(again.values(), ["a"]);
    scene.acknowledge(&again, 0);
    assert_eq!(scene.one().values(), ["b"]);
}

#[test]
fn line_54_five_batches_are_in_flight_and_a_sent_one_takes_no_more() {
    let mut scene = Scene::new(
        1,
        ProducerOptions {
            max_in_flight: 5,
            ..options()
        },
    );
    let mut calls = Vec::new();
    for value in ["a", "b", "c", "d", "e"] {
        scene.send(0, value);
        calls.push(scene.one());
        assert_eq!(calls.last().unwrap().values(), [value]);
    }
    let (_, _) = (scene.append(0, "f"), scene.append(0, "g"));
    assert!(scene.produces().is_empty());
    scene.acknowledge(&calls[0], 1);
    assert_eq!(scene.one().values(), ["f", "g"]);
}

#[test]
fn line_54_a_batch_in_doubt_stays_among_the_five_that_a_broker_remembers() {
    // The first is appended but refused, the next four are acknowledged: while it is sent again no
    // sixth may push it out of the broker's memory.
    let mut scene = Scene::new(1, options());
    let mut calls = Vec::new();
    for value in ["a", "b", "c", "d", "e"] {
        scene.send(0, value);
        calls.push(scene.one());
    }
    scene.refuse(&calls[0], ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND);
    for call in &calls[1..] {
        scene.acknowledge(call, 2);
    }
    scene.pass(SECOND_US);
    let again = scene.one();
    assert_eq!(again.values(), ["a"]);
    scene.send(0, "f");
    assert!(scene.produces().is_empty());
    scene.acknowledge(&again, 1);
    assert_eq!(scene.one().values(), ["f"]);
}

#[test]
fn a_second_batch_waits_until_the_broker_is_known_to_count_with_us() {
    // A broker without state of a producer takes any sequence.
    let mut scene = Scene::new(2, options());
    scene.send(1, "a");
    let first = scene.one();
    scene.send(1, "b");
    assert!(scene.produces().is_empty());
    scene.acknowledge(&first, 0);
    assert_eq!(scene.one().values(), ["b"]);
}

#[test]
fn a_batch_that_later_ones_were_acknowledged_behind_is_not_written_twice() {
    let mut scene = Scene::new(1, options());
    let delivery = scene.append(0, "a");
    let first = scene.one();
    scene.send(0, "b");
    let second = scene.one();
    scene.lose(&first, true);
    scene.acknowledge(&second, 2);
    scene.pass(SECOND_US);
    let again = scene.one();
    // A broker that restarted from a snapshot remembers only the last batch.
    scene.refuse(&again, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    scene.pass(SECOND_US);
    assert!(scene.produces().is_empty());
    assert_eq!(offset(&delivery), -1);
}
