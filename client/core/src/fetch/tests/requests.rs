//! What is asked of which broker, when, and how much of it.

use super::log::{batch, set};
use super::*;

fn partitions_of(request: &FetchRequest) -> Vec<i32> {
    let topics = request.topics.iter();
    topics
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.partition)
        .collect()
}

#[test]
fn a_fetch_carries_the_options() {
    let options = ConsumerOptions {
        read_committed: true,
        fetch_min_bytes: 7,
        max_partition_fetch_bytes: 1000,
        fetch_max_bytes: 2000,
        ..options()
    };
    let mut script = Script::reading(options, 42);
    let (call, request) = script.fetch();
    assert_eq!(call.lane, Lane::Fetch(ROOM));
    assert_eq!(broker_of(&call), BrokerId(1));
    assert_eq!((request.max_wait_ms, request.min_bytes), (500, 7));
    assert_eq!((request.max_bytes, request.isolation_level), (2000, 1));
    assert_eq!((request.session_id, request.session_epoch), (0, 0));
    let topic = &request.topics[0];
    assert_eq!((&*topic.topic.0, topic.topic_id), ("t", ID));
    let partition = &topic.partitions[0];
    assert_eq!((partition.partition, partition.fetch_offset), (0, 42));
    assert_eq!(partition.current_leader_epoch, 3);
    assert_eq!(partition.partition_max_bytes, 1000);
    assert_eq!(call.timeout_us, 30_500_000);
}

#[test]
fn line_37_a_fetch_without_every_topic_id_is_capped_at_version_12() {
    let mut script = Script::reading(options(), 0);
    let (call, _) = script.fetch();
    assert_eq!(call.version_cap, None);
    script.lose(&call);
    let mut without_id = cluster_at(4, &[1]);
    without_id.topics.get_mut("t").unwrap().id = Uuid::nil();
    script.cluster(without_id);
    let (call, _) = script.fetch();
    assert_eq!(call.version_cap, Some(12));
    script.reply_fetch(&call, vec![data(batch(0, 1).bytes(), 1)]);
    assert_eq!(script.read_all(), [0]);
}

#[test]
fn line_45_one_fetch_is_in_flight_per_broker_on_a_lane_of_its_own() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1, 2, 1]));
    for partition in 0..3 {
        script.assign(partition, Start::Offset(0));
    }
    let (first, request) = script.fetch();
    assert_eq!(
        (broker_of(&first), partitions_of(&request)),
        (BrokerId(1), vec![0, 2])
    );
    let (second, request) = script.fetch();
    assert_eq!(
        (broker_of(&second), partitions_of(&request)),
        (BrokerId(2), vec![1])
    );
    assert!(script.call().is_none());
    assert!(
        [first, second]
            .iter()
            .all(|call| call.lane == Lane::Fetch(ROOM))
    );
}

#[test]
fn a_busy_lane_is_left_alone() {
    let mut script = Script::reading(options(), 0);
    let mut permits = Permits::all();
    permits.set_busy(BrokerId(1), Lane::Fetch(ROOM), true);
    assert!(script.room.poll_call(script.now, &permits).is_none());
    permits.set_busy(BrokerId(1), Lane::Fetch(ROOM), false);
    assert!(script.room.poll_call(script.now, &permits).is_some());
}

#[test]
fn line_24_partitions_that_nobody_asked_for_are_dropped() {
    let mut script = Script::reading(options(), 0);
    let (call, _) = script.fetch();
    let stranger = data(batch(0, 5).bytes(), 5).with_partition_index(9);
    let twice = data(batch(0, 5).bytes(), 5);
    script.reply_fetch(&call, vec![stranger, data(batch(0, 1).bytes(), 1), twice]);
    assert_eq!(script.read_all(), [0]);
    assert!(script.inbox.status(&tp("t", 9)).is_none());
}

#[test]
fn line_24_topics_that_nobody_asked_for_are_dropped() {
    let mut script = Script::reading(options(), 0);
    let (call, _) = script.fetch();
    let mut response = fetched(vec![data(batch(0, 1).bytes(), 1)]);
    response.responses[0].topic_id = Uuid::from_u128(99);
    script.reply(&call, Response::Fetch(response));
    assert_eq!(script.read_all(), [] as [i64; 0]);
    assert!(
        script.call().is_none(),
        "an answer without ours is no reason to ask at once"
    );
    script.wait_for_timer();
    assert!(script.call().is_some());
}

#[test]
fn line_27_the_partition_served_longest_ago_comes_first() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1, 1, 1]));
    for partition in 0..3 {
        script.assign(partition, Start::Offset(0));
    }
    let (call, request) = script.fetch();
    assert_eq!(partitions_of(&request), [0, 1, 2]);
    let empty = |partition: i32| data(Bytes::new(), 0).with_partition_index(partition);
    let busy = data(batch(0, 1).bytes(), 9);
    script.reply_fetch(&call, vec![busy, empty(1), empty(2)]);
    let (_, request) = script.fetch();
    assert_eq!(partitions_of(&request), [1, 2, 0]);
}

#[test]
fn line_27_delivery_goes_round_the_partitions() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1, 1]));
    script.assign(0, Start::Offset(0));
    script.assign(1, Start::Offset(0));
    for round in 0..2 {
        let (call, _) = script.fetch();
        let of = |partition| data(batch(round, 1).bytes(), 9).with_partition_index(partition);
        script.reply_fetch(&call, vec![of(0), of(1)]);
    }
    let order: Vec<_> = (0..4)
        .map(|_| {
            let mut records = script.records();
            let offset = records.next().unwrap().unwrap().offset;
            (records.topic_partition().partition, offset)
        })
        .collect();
    assert_eq!(order, [(0, 0), (1, 0), (0, 1), (1, 1)]);
}

#[test]
fn line_27_the_next_fetch_is_on_its_way_and_no_more_than_that() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 1).bytes(), 9));
    script.exchange(data(batch(1, 1).bytes(), 9));
    assert!(script.call().is_none(), "two pieces wait to be read");
    let before = script.driver.0.load(Ordering::SeqCst);
    drop(script.records().next());
    assert_eq!(
        script.driver.0.load(Ordering::SeqCst),
        before + 1,
        "the driver hears that there is room"
    );
    assert!(script.call().is_some());
}

#[test]
fn line_27_an_idle_partition_waits_for_an_unread_one_for_a_while_only() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1, 1]));
    script.assign(0, Start::Offset(0));
    script.assign(1, Start::Offset(0));
    for base in 0..2 {
        let (call, _) = script.fetch();
        let idle = data(Bytes::new(), 0).with_partition_index(1);
        script.reply_fetch(&call, vec![data(batch(base, 1).bytes(), 9), idle]);
    }
    // A long poll for the idle partition alone would keep the busy one waiting once it is read.
    assert!(script.call().is_none());
    script.wait_for_timer();
    let (_, request) = script.fetch();
    assert_eq!(
        partitions_of(&request),
        [1],
        "a reader that stands still holds nobody up"
    );
}

#[test]
fn line_27_buffered_bytes_are_bounded() {
    let options = ConsumerOptions {
        max_buffered_bytes: 40_000,
        ..options()
    };
    let mut script = Script::new(options);
    script.cluster(cluster(&[1, 2, 3]));
    for partition in 0..3 {
        script.assign(partition, Start::Offset(0));
    }
    let mut in_flight = Vec::new();
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let (call, request) = script.fetch();
        sizes.push(request.max_bytes);
        in_flight.push((call, partitions_of(&request)[0]));
    }
    assert_eq!(sizes, [6_666; 3], "half of it is divided among the brokers");
    let frame = batch(0, 1).with_values_of(12_000);
    let size = frame.bytes().len();
    for (call, partition) in in_flight {
        let data = data(frame.bytes(), 9).with_partition_index(partition);
        script.reply_fetch(&call, vec![data]);
    }
    assert_eq!(script.inbox.buffer.live_bytes(), 3 * size);
    assert!(script.call().is_none(), "there is no room for another");
    drop(script.records().next());
    assert_eq!(script.inbox.buffer.live_bytes(), 2 * size);
    assert!(script.call().is_some());
}

#[test]
fn line_55_a_kept_record_counts_until_it_is_gone() {
    let mut script = Script::reading(options(), 0);
    let frame = set(&[batch(0, 2), batch(2, 2)]);
    script.exchange(data(frame.clone(), 4));
    let mut records = script.records();
    let kept = records.next_shared().unwrap().unwrap();
    assert_eq!(records.by_ref().count(), 3);
    drop(records);
    assert_eq!(script.inbox.buffer.live_bytes(), frame.len());
    drop(kept);
    assert_eq!(script.inbox.buffer.live_bytes(), 0);
}

#[test]
fn line_55_a_copied_record_keeps_no_response() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 3).bytes(), 3));
    let mut records = script.records();
    let kept = [
        records.next().unwrap().unwrap(),
        records.next_ref().unwrap().unwrap().to_record(),
    ];
    drop(records);
    assert_eq!(script.read_all(), [2]);
    assert_eq!(script.inbox.buffer.live_bytes(), 0);
    let values = kept.map(|record| record.value.unwrap());
    assert!(values.iter().all(|value| **value == *b"vvvvvvvvvv"));
}

#[test]
fn line_55_kept_records_never_stop_the_consumer() {
    let options = ConsumerOptions {
        max_buffered_bytes: 1_000,
        ..options()
    };
    let mut script = Script::reading(options, 0);
    let mut kept = Vec::new();
    for offset in 0..5 {
        script.exchange(data(batch(offset, 1).with_values_of(2_000).bytes(), 9));
        assert!(script.call().is_none(), "a frame waits to be read");
        let mut records = script.records();
        kept.extend(std::iter::from_fn(|| records.next_shared()));
    }
    assert_eq!(kept.len(), 5);
}

#[test]
fn line_51_the_end_is_judged_by_position_not_by_the_last_record() {
    let mut script = Script::reading(options(), 0);
    let log = [batch(0, 2), super::log::marker(2, 1, true)];
    script.exchange(data(set(&log), 3));
    assert_eq!(script.status(0).lag(), Some(3));
    let mut records = script.records();
    assert_eq!(records.by_ref().count(), 2);
    drop(records);
    assert_eq!(script.status(0).lag(), Some(0));
    assert!(
        matches!(script.event(), Some(Ok(Event::CaughtUp(partition))) if partition == tp("t", 0))
    );
}

#[test]
fn line_51_read_committed_ends_at_the_last_stable_offset() {
    let options = ConsumerOptions {
        read_committed: true,
        ..options()
    };
    let mut script = Script::reading(options, 0);
    script.exchange(data(batch(0, 2).bytes(), 10).with_last_stable_offset(2));
    assert_eq!(script.status(0).end_offset, Some(2));
    assert_eq!(script.read_all(), [0, 1]);
    assert_eq!(script.status(0).lag(), Some(0));
    assert!(script.status(0).caught_up.is_some());
}

#[test]
fn caught_up_is_said_once_and_its_time_grows_with_every_fetch_that_succeeds() {
    let mut script = Script::reading(options(), 5);
    script.exchange(data(Bytes::new(), 5));
    assert!(matches!(script.event(), Some(Ok(Event::CaughtUp(_)))));
    let since_us = script.now.monotonic_us;
    for _ in 0..3 {
        script.wait_ms(500);
        script.exchange(data(Bytes::new(), 5));
        assert!(script.event().is_none());
    }
    let caught_up = script.status(0).caught_up.unwrap();
    assert_eq!(caught_up.since_us, since_us);
    assert_eq!(caught_up.confirmed_us, since_us + 1_500_000);
    // More comes, is read, and the end is reached again.
    script.exchange(data(batch(5, 1).bytes(), 6));
    assert!(script.status(0).caught_up.is_none());
    drop(script.records().next());
    assert!(matches!(script.event(), Some(Ok(Event::CaughtUp(_)))));
}

#[test]
fn a_partition_that_cannot_be_reached_is_not_idle() {
    let mut script = Script::reading(options(), 5);
    script.exchange(data(Bytes::new(), 5));
    let (call, _) = script.fetch();
    script.lose(&call);
    let status = script.status(0);
    assert!(status.caught_up.is_none());
    let failure = status.failure.unwrap().to_string();
    assert_eq!(
        failure,
        "failed to fetch t/0 at 5: the connection to b:9092 was lost: end of file"
    );
    assert!(script.says_metadata_is_stale());
    script.wait_for_timer();
    script.exchange(data(Bytes::new(), 5));
    let status = script.status(0);
    assert!(status.failure.is_none());
    let caught_up = status.caught_up.unwrap();
    assert_eq!(
        caught_up.since_us, script.now.monotonic_us,
        "idleness counts from here again"
    );
}

#[test]
fn topics_are_wanted_for_as_long_as_they_are_read() {
    let mut script = Script::new(options());
    script.assign(0, Start::Offset(0));
    script.assign(1, Start::Offset(0));
    let facts = script.facts();
    assert!(matches!(&facts[..], [Fact::TopicsWanted(topics)] if **topics == [Arc::from("t")]));
    script.command(Command::Unassign(vec![tp("t", 0)]));
    assert!(script.facts().is_empty());
    script.command(Command::Assign(vec![(tp("u", 0), Start::Earliest)]));
    let facts = script.facts();
    assert!(matches!(&facts[0], Fact::TopicsWanted(topics) if **topics == [Arc::from("u")]));
    assert!(matches!(&facts[1], Fact::TopicUnwanted(topic) if **topic == *"t"));
}

#[test]
fn assigning_replaces_and_restarts() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1, 1]));
    script.assign(0, Start::Offset(0));
    script.exchange(data(batch(0, 2).bytes(), 9));
    let wanted = vec![
        (tp("t", 0), Start::Offset(7)),
        (tp("t", 1), Start::Offset(8)),
    ];
    script.command(Command::Assign(wanted));
    assert_eq!(script.read_all(), [] as [i64; 0]);
    assert_eq!(script.status(0).position, Some(7));
    assert_eq!(script.status(1).position, Some(8));
    script.command(Command::Assign(vec![(tp("t", 1), Start::Offset(9))]));
    assert_eq!(script.inbox.statuses().len(), 1);
}

#[test]
fn what_cannot_be_asked_for_is_refused_with_its_reason() {
    let mut script = Script::new(options());
    script.command(Command::Assign(vec![(tp("t", 0), Start::Offset(-5))]));
    let error = script.finished().unwrap().unwrap_err();
    assert!(error.to_string().contains("negative"), "{error}");
    script.command(Command::Seek(vec![(tp("t", 0), Start::Earliest)]));
    let error = script.finished().unwrap().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("failed to seek t/0: it is not assigned"),
        "{error}"
    );
}

#[test]
fn the_end_of_the_room_ends_the_reader() {
    let script = Script::reading(options(), 0);
    let inbox = Arc::clone(&script.inbox);
    drop(script);
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(
        inbox.poll_event(&mut context),
        Poll::Ready(Err(Error::Closed { .. }))
    ));
}
