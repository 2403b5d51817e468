//! Flush, close, and outages.

use super::*;
use crate::producer::accumulator::Refused;
use crate::producer::delivery::DeliveryCause;

#[test]
fn line_10_flush_skips_linger_and_ends_with_the_last_answer() {
    let mut scene = Scene::new_lingering(
        2,
        ProducerOptions {
            linger_ms: 60_000,
            ..options()
        },
    );
    let (_, _) = (scene.append(0, "a"), scene.append(1, "b"));
    assert!(scene.produces().is_empty());
    let flush = scene.command(Command::Flush);
    let call = scene.one();
    assert_eq!(call.values(), ["a", "b"]);
    assert!(scene.finished().is_empty());
    scene.acknowledge(&call, 1);
    assert_eq!(scene.finished(), [flush]);
}

#[test]
fn line_10_flush_does_not_wait_for_what_came_after_it() {
    let mut scene = Scene::new_lingering(
        1,
        ProducerOptions {
            linger_ms: 60_000,
            ..options()
        },
    );
    scene.send(0, "a");
    let flush = scene.command(Command::Flush);
    let call = scene.one();
    scene.send(0, "after");
    assert!(scene.produces().is_empty(), "it lingers");
    scene.acknowledge(&call, 1);
    assert_eq!(scene.finished(), [flush]);
}

#[test]
fn line_10_flush_ends_although_no_leader_ever_comes() {
    let mut scene = Scene::new(1, options());
    scene.leaders = vec![None];
    scene.publish();
    let sent = scene.append(0, "a");
    let flush = scene.command(Command::Flush);
    assert!(scene.produces().is_empty());
    let why = Arc::from("no connection to b1:9092: refused");
    scene
        .room
        .handle_fact(scene.now, &Fact::NoBrokerReachable { why });
    let (at_us, _) = scene.room.poll_timeout().unwrap();
    scene.now.monotonic_us = at_us;
    assert!(scene.produces().is_empty());
    assert_eq!(scene.finished(), [flush]);
    assert!(
        failure(&sent).to_string().contains("b1:9092"),
        "{}",
        failure(&sent)
    );
}

#[test]
fn line_10_flush_and_close_end_when_no_metadata_ever_came() {
    let mut scene = Scene::without_metadata(options());
    assert_eq!(
        scene
            .accumulator
            .append(scene.now, record(0, "a"))
            .unwrap_err(),
        Refused::UnknownTopic
    );
    let flush = scene.command(Command::Flush);
    let close = scene.command(Command::Close {
        deadline_us: 5 * SECOND_US,
    });
    assert_eq!(scene.finished(), [flush, close]);
}

#[test]
fn line_10_close_fails_at_its_deadline_what_is_left_and_says_what_is_in_doubt() {
    let mut scene = Scene::new(
        1,
        ProducerOptions {
            delivery_timeout_ms: u64::MAX,
            ..options()
        },
    );
    let in_flight = scene.append(0, "a");
    let call = scene.one();
    scene.busy.insert(1);
    let queued = scene.append(0, "b");
    let close = scene.command(Command::Close {
        deadline_us: 5 * SECOND_US,
    });
    assert_eq!(
        scene
            .accumulator
            .append(scene.now, record(0, "c"))
            .unwrap_err(),
        Refused::Closed
    );
    assert!(scene.finished().is_empty());
    scene.now.monotonic_us = scene.room.poll_timeout().unwrap().0;
    assert_eq!(scene.now.monotonic_us, 5 * SECOND_US);
    let _ = scene.poll();
    assert_eq!(scene.finished(), [close]);
    assert_eq!(failure(&in_flight).cause, DeliveryCause::Closed);
    assert!(failure(&in_flight).possibly_written);
    assert!(!failure(&queued).possibly_written);
    scene.acknowledge(&call, 1);
    assert_eq!(scene.accumulator.used_bytes(), 0);
}

#[test]
fn line_10_a_room_that_is_dropped_leaves_no_record_without_an_answer() {
    let mut scene = Scene::new(1, options());
    let (in_flight, _call) = (scene.append(0, "a"), scene.one());
    let queued = scene.append(0, "b");
    drop(scene.room);
    assert!(failure(&in_flight).possibly_written);
    assert!(!failure(&queued).possibly_written);
    assert_eq!(
        scene
            .accumulator
            .append(scene.now, record(0, "c"))
            .unwrap_err(),
        Refused::Closed
    );
}

#[test]
fn line_10_an_outage_of_hours_ends_with_every_record_in_order() {
    let mut scene = Scene::new(
        1,
        ProducerOptions {
            delivery_timeout_ms: u64::MAX,
            ..options()
        },
    );
    let mut deliveries = Vec::new();
    for hour in 0..10 {
        deliveries.push(scene.append(0, &hour.to_string()));
        for call in scene.produces() {
            scene.lose(&call, false);
        }
        scene.pass(3600 * SECOND_US);
    }
    let mut values = Vec::new();
    for _ in 0..10 {
        for call in scene.produces() {
            let base_offset = 1 + values.len() as i64;
            values.extend(call.values());
            scene.acknowledge(&call, base_offset);
        }
    }
    assert_eq!(values.concat(), "0123456789");
    assert_eq!(
        deliveries.iter().map(offset).collect::<Vec<_>>(),
        (1..11).collect::<Vec<_>>()
    );
}

#[test]
fn line_10_an_outage_of_one_broker_stops_no_other() {
    // Partition 1 has a batch in doubt with broker 2, which is away for good; partition 0 needs a
    // new epoch meanwhile.
    let mut scene = Scene::new(
        2,
        ProducerOptions {
            delivery_timeout_ms: u64::MAX,
            ..options()
        },
    );
    scene.leaders[1] = Some((2, 0));
    scene.publish();
    let doubtful = scene.append(1, "doubtful");
    let call = scene.one();
    scene.lose(&call, true);
    scene.busy.insert(2);

    scene.send(0, "refused");
    let call = scene.one();
    scene.refuse(&call, ErrorCode::INVALID_RECORD);
    scene.send(0, "next");
    assert_eq!(scene.one().stamp(), (7, 1, 0));
    assert!(result(&doubtful).is_none());
}
