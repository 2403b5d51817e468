//! What a broker is told once, and what it need not say again (KIP-227, line 24).

use super::log::batch;
use super::*;

const SESSION: i32 = 77;

/// Partitions 0 to 2 of `t`, all led by broker 1, read from offset 0.
fn three_partitions() -> Script {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1, 1, 1]));
    for partition in 0..3 {
        script.assign(partition, Start::Offset(0));
    }
    script
}

fn empty(partition: i32) -> PartitionData {
    data(Bytes::new(), 0).with_partition_index(partition)
}

fn in_session(script: &mut Script, call: &Call, partitions: Vec<PartitionData>) {
    let response = fetched(partitions).with_session_id(SESSION);
    script.reply(call, Response::Fetch(response));
}

/// The three partitions in a session that has just begun.
fn begun() -> Script {
    let mut script = three_partitions();
    let (call, _) = script.fetch();
    in_session(&mut script, &call, vec![empty(0), empty(1), empty(2)]);
    script
}

fn session_of(request: &FetchRequest) -> (i32, i32) {
    (request.session_id, request.session_epoch)
}

fn named(request: &FetchRequest) -> Vec<(i32, i64)> {
    let topics = request.topics.iter();
    topics
        .flat_map(|topic| &topic.partitions)
        .map(|partition| (partition.partition, partition.fetch_offset))
        .collect()
}

fn forgotten(request: &FetchRequest) -> Vec<i32> {
    let topics = request.forgotten_topics_data.iter();
    topics.flat_map(|topic| topic.partitions.clone()).collect()
}

fn refuse(script: &mut Script, call: &Call, code: ErrorCode) {
    let response = FetchResponse::default().with_error_code(code.0);
    script.reply(call, Response::Fetch(response));
}

#[test]
fn line_24_a_session_is_opened_by_naming_everything_and_then_only_what_has_changed() {
    let mut script = three_partitions();
    let (call, request) = script.fetch();
    assert_eq!(session_of(&request), (0, 0));
    assert_eq!(named(&request), [(0, 0), (1, 0), (2, 0)]);
    let two = data(batch(0, 2).bytes(), 2);
    in_session(&mut script, &call, vec![two, empty(1), empty(2)]);

    let (call, request) = script.fetch();
    assert_eq!(session_of(&request), (SESSION, 1));
    assert_eq!(named(&request), [(0, 2)]);
    assert_eq!(forgotten(&request), [] as [i32; 0]);
    in_session(&mut script, &call, Vec::new());

    let (_, request) = script.fetch();
    assert_eq!(session_of(&request), (SESSION, 2));
    assert_eq!(named(&request), []);
    assert_eq!(script.read_all(), [0, 1]);
}

#[test]
fn line_24_what_an_answer_leaves_out_is_as_it_was_and_confirmed() {
    let mut script = begun();
    let began_us = script.now.monotonic_us;
    script.wait_ms(500);
    let (call, _) = script.fetch();
    in_session(&mut script, &call, Vec::new());
    for partition in 0..3 {
        let status = script.status(partition);
        assert_eq!(status.lag(), Some(0));
        let caught_up = status.caught_up.unwrap();
        assert_eq!(caught_up.since_us, began_us);
        assert_eq!(caught_up.confirmed_us, began_us + 500_000);
        assert!(status.failure.is_none());
    }
    assert!(script.call().is_some(), "nothing to back off for");
}

#[test]
fn line_24_an_answer_that_came_too_late_still_counts_for_the_session() {
    let mut script = three_partitions();
    let (call, _) = script.fetch();
    script.seek(0, 4);
    let four = data(batch(0, 4).bytes(), 4);
    in_session(&mut script, &call, vec![four, empty(1), empty(2)]);
    let (call, request) = script.fetch();
    assert_eq!(named(&request), [(0, 4)]);
    // The end is where it was, so the broker says nothing.
    in_session(&mut script, &call, Vec::new());
    assert_eq!(script.status(0).lag(), Some(0));
    assert!(script.status(0).caught_up.is_some());
}

#[test]
fn line_24_removed_partitions_are_forgotten_and_come_back_as_new_ones() {
    let mut script = begun();
    script.command(Command::Pause(vec![tp("t", 1)]));
    script.command(Command::Unassign(vec![tp("t", 2)]));
    let (call, request) = script.fetch();
    assert_eq!((named(&request), forgotten(&request)), (vec![], vec![1, 2]));
    let topic = &request.forgotten_topics_data[0];
    assert_eq!((&*topic.topic.0, topic.topic_id), ("t", ID));
    in_session(&mut script, &call, Vec::new());

    script.command(Command::Resume(vec![tp("t", 1)]));
    let (call, request) = script.fetch();
    assert_eq!(
        (named(&request), forgotten(&request)),
        (vec![(1, 0)], vec![])
    );
    in_session(&mut script, &call, vec![empty(1)]);
    let (_, request) = script.fetch();
    assert_eq!((named(&request), forgotten(&request)), (vec![], vec![]));
}

#[test]
fn line_24_a_lost_session_means_a_full_fetch_at_once() {
    let lost = [
        (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0),
        (ErrorCode::INVALID_FETCH_SESSION_EPOCH, SESSION),
        (ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR, SESSION),
    ];
    for (code, to_close) in lost {
        let mut script = begun();
        let (call, _) = script.fetch();
        refuse(&mut script, &call, code);
        assert!(script.status(0).failure.is_none(), "{code}");
        let (_, request) = script.fetch();
        assert_eq!(session_of(&request), (to_close, 0), "{code}");
        assert_eq!(named(&request), [(0, 0), (1, 0), (2, 0)], "{code}");
        assert_eq!(forgotten(&request), [] as [i32; 0], "{code}");
    }
}

#[test]
fn line_24_a_broker_that_refuses_even_a_full_fetch_is_not_asked_in_a_hot_loop() {
    let mut script = three_partitions();
    let (call, _) = script.fetch();
    refuse(&mut script, &call, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    assert!(script.call().is_none());
    script.wait_for_timer();
    assert!(script.call().is_some());
}

#[test]
fn line_24_a_broker_that_gives_no_session_is_asked_in_full_each_time() {
    let mut script = three_partitions();
    for _ in 0..3 {
        let (call, request) = script.fetch();
        assert_eq!((session_of(&request), named(&request).len()), ((0, 0), 3));
        script.reply_fetch(&call, vec![empty(0), empty(1), empty(2)]);
    }
}

#[test]
fn line_24_a_session_that_the_broker_closes_has_still_answered() {
    let mut script = begun();
    let (call, _) = script.fetch();
    script.reply_fetch(&call, vec![data(batch(0, 1).bytes(), 1)]);
    assert_eq!(script.read_all(), [0]);
    let (_, request) = script.fetch();
    assert_eq!(session_of(&request), (0, 0));
    assert_eq!(named(&request), [(1, 0), (2, 0), (0, 1)]);
}

#[test]
fn line_24_a_reconnect_starts_a_new_session() {
    let mut script = begun();
    let (call, _) = script.fetch();
    script.lose(&call);
    script.wait_ms(2_000);
    let (_, request) = script.fetch();
    assert_eq!(session_of(&request), (SESSION, 0), "the old one is closed");
    assert_eq!(named(&request).len(), 3);
}

#[test]
fn line_24_the_epoch_wraps_to_1() {
    let mut script = begun();
    let session = script.room.sessions.get_mut(&BrokerId(1)).unwrap();
    session.set_epoch(i32::MAX);
    let (call, request) = script.fetch();
    assert_eq!(session_of(&request), (SESSION, i32::MAX));
    in_session(&mut script, &call, Vec::new());
    let (_, request) = script.fetch();
    assert_eq!(session_of(&request), (SESSION, 1));
}

#[test]
fn line_24_topic_ids_that_come_or_change_start_a_new_session() {
    for (before, after) in [(Uuid::nil(), ID), (ID, Uuid::from_u128(8))] {
        let of = |epoch, id| {
            let mut cluster = cluster_at(epoch, &[1]);
            cluster.topics.get_mut("t").unwrap().id = id;
            cluster
        };
        let mut script = Script::new(options());
        script.cluster(of(3, before));
        script.assign(0, Start::Offset(0));
        let (call, _) = script.fetch();
        let mut response = fetched(vec![empty(0)]).with_session_id(SESSION);
        response.responses[0].topic_id = before;
        script.reply(&call, Response::Fetch(response));
        script.cluster(of(3, after));
        let (_, request) = script.fetch();
        assert_eq!(session_of(&request), (SESSION, 0));
        assert_eq!(named(&request), [(0, 0)]);
        assert_eq!(request.topics[0].topic_id, after);
    }
}

#[test]
fn line_24_each_broker_has_its_own_session_and_a_departed_one_none() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1, 2]));
    script.assign(0, Start::Offset(0));
    script.assign(1, Start::Offset(0));
    let calls = [script.fetch().0, script.fetch().0];
    for (call, (id, partition)) in calls.into_iter().zip([(5, 0), (6, 1)]) {
        let response = fetched(vec![empty(partition)]).with_session_id(id);
        script.reply(&call, Response::Fetch(response));
    }
    let sessions = [script.fetch(), script.fetch()].map(|(_, request)| session_of(&request));
    assert_eq!(sessions, [(5, 1), (6, 1)]);
    let mut without = cluster_at(4, &[1, 1]);
    without.brokers.remove(&BrokerId(2));
    script.cluster(without);
    assert_eq!(script.room.sessions.len(), 1);
}

#[test]
fn line_24_an_answer_that_leaves_out_what_it_never_told_is_not_believed() {
    let mut script = begun();
    script.command(Command::Unassign(vec![tp("t", 2)]));
    let (call, _) = script.fetch();
    in_session(&mut script, &call, Vec::new());
    script.assign(2, Start::Offset(0));
    let (call, _) = script.fetch();
    in_session(&mut script, &call, Vec::new());
    assert!(script.status(2).failure.is_some());
    script.wait_for_timer();
    let (_, request) = script.fetch();
    assert_eq!(
        (session_of(&request), named(&request).len()),
        ((SESSION, 0), 3)
    );
}

#[test]
fn line_42_an_answer_that_throttling_has_emptied_says_nothing() {
    let throttled = |id| {
        FetchResponse::default()
            .with_session_id(id)
            .with_throttle_time_ms(900)
    };
    let mut script = three_partitions();
    let (call, _) = script.fetch();
    script.reply(&call, Response::Fetch(throttled(0)));
    assert!(script.status(0).failure.is_none());
    assert!(script.status(0).watermarks.is_none());
    let (call, request) = script.fetch();
    assert_eq!(session_of(&request), (0, 0));
    in_session(&mut script, &call, vec![empty(0), empty(1), empty(2)]);
    let confirmed_us = script.now.monotonic_us;

    script.wait_ms(500);
    let (call, _) = script.fetch();
    script.reply(&call, Response::Fetch(throttled(SESSION)));
    let caught_up = script.status(0).caught_up.unwrap();
    assert_eq!(caught_up.confirmed_us, confirmed_us);
    let (_, request) = script.fetch();
    assert_eq!(session_of(&request), (SESSION, 2));
}
