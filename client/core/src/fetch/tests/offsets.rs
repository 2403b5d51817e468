//! Where to begin, and offsets that users ask for.

use super::log::batch;
use super::*;

fn offsets(end: Option<Result<Outcome, Error>>) -> Vec<i64> {
    match end {
        Some(Ok(Outcome::Offsets(offsets))) => {
            offsets.into_iter().map(|(_, found)| found.offset).collect()
        }
        other => panic!("no offsets: {other:?}"),
    }
}

#[test]
fn every_start_asks_for_its_offset() {
    let starts = [
        (Start::Earliest, -2),
        (Start::Latest, -1),
        (Start::Timestamp(77), 77),
        (Start::Reset, -2),
    ];
    for (start, timestamp) in starts {
        let mut script = Script::new(options());
        script.cluster(cluster(&[1]));
        script.assign(0, start);
        assert_eq!(script.position(), None);
        let (call, request) = script.list_offsets();
        assert_eq!(call.lane, Lane::General);
        let partition = &request.topics[0].partitions[0];
        assert_eq!(
            (partition.timestamp, partition.current_leader_epoch),
            (timestamp, 3)
        );
        script.reply_offset(&call, ErrorCode::NONE, 12);
        assert_eq!(script.position(), Some(12));
        script.exchange(data(batch(12, 1).bytes(), 13));
        assert_eq!(script.read_all(), [12]);
    }
}

#[test]
fn line_26_no_record_is_that_young_so_reading_begins_at_the_end() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1]));
    script.assign(0, Start::Timestamp(77));
    let (call, _) = script.list_offsets();
    script.reply_offset(&call, ErrorCode::NONE, -1);
    let (call, request) = script.list_offsets();
    assert_eq!(request.topics[0].partitions[0].timestamp, -1);
    script.reply_offset(&call, ErrorCode::NONE, 50);
    assert_eq!(script.position(), Some(50));
}

#[test]
fn line_26_a_leader_that_does_not_know_its_log_yet_is_asked_again() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1]));
    script.assign(0, Start::Earliest);
    let (call, _) = script.list_offsets();
    script.reply_offset(&call, ErrorCode::NONE, -1);
    assert!(script.call().is_none());
    script.wait_for_timer();
    let (call, _) = script.list_offsets();
    script.reply_offset(&call, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1);
    assert!(script.says_metadata_is_stale());
    script.wait_for_timer();
    let (call, _) = script.list_offsets();
    script.reply_offset(&call, ErrorCode::NONE, 0);
    assert_eq!(script.position(), Some(0));
}

#[test]
fn a_start_that_was_looked_up_does_not_undo_a_later_seek() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1]));
    script.assign(0, Start::Earliest);
    let (call, _) = script.list_offsets();
    script.seek(0, 40);
    script.reply_offset(&call, ErrorCode::NONE, 0);
    assert_eq!(script.position(), Some(40));
    assert_eq!(script.fetch().1.topics[0].partitions[0].fetch_offset, 40);
}

#[test]
fn without_a_reset_and_a_committed_offset_there_is_nowhere_to_begin() {
    let options = ConsumerOptions {
        offset_reset: OffsetReset::None,
        ..options()
    };
    let mut script = Script::new(options);
    script.cluster(cluster(&[1]));
    script.assign(0, Start::Reset);
    assert!(script.call().is_none());
    let error = script.error().to_string();
    assert!(error.contains("auto.offset.reset is none"), "{error}");
}

#[test]
fn a_users_request_goes_to_each_leader_and_answers_in_its_order() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[2, 1, 2]));
    let wanted = [2, 1, 0].map(|partition| (tp("t", partition), OffsetSpec::Latest));
    script.command(Command::ListOffsets(wanted.to_vec()));
    assert!(matches!(&script.facts()[..], [Fact::TopicsWanted(_)]));
    let (first, request) = script.list_offsets();
    assert_eq!(broker_of(&first), BrokerId(2));
    assert_eq!(request.topics[0].partitions.len(), 2);
    let (second, _) = script.list_offsets();
    assert_eq!(broker_of(&second), BrokerId(1));
    assert!(script.call().is_none());

    let answers = |partitions: &[i32]| {
        let partitions = partitions.iter().map(|partition| {
            ListOffsetsPartitionResponse::default()
                .with_partition_index(*partition)
                .with_offset(i64::from(*partition) * 10)
        });
        let topic = ListOffsetsTopicResponse::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_partitions(partitions.collect());
        Response::ListOffsets(ListOffsetsResponse::default().with_topics(vec![topic]))
    };
    script.reply(&first, answers(&[0, 2]));
    assert!(script.finished().is_none());
    script.reply(&second, answers(&[1]));
    assert_eq!(offsets(script.finished()), [20, 10, 0]);
    assert!(matches!(&script.facts()[..], [Fact::TopicUnwanted(_)]));
}

#[test]
fn line_26_a_users_request_may_be_answered_with_no_offset() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1]));
    script.command(Command::ListOffsets(vec![(
        tp("t", 0),
        OffsetSpec::Timestamp(9),
    )]));
    let (call, _) = script.list_offsets();
    script.reply_offset(&call, ErrorCode::NONE, -1);
    assert_eq!(offsets(script.finished()), [-1]);
}

#[test]
fn what_fails_of_a_users_request_is_asked_again_until_its_deadline() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1]));
    script.command(Command::ListOffsets(vec![(tp("t", 0), OffsetSpec::Latest)]));
    let began_us = script.now.monotonic_us;
    let error = loop {
        if let Some(call) = script.call() {
            script.reply_offset(&call, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1);
            assert!(script.says_metadata_is_stale());
        }
        if let Some(end) = script.finished() {
            break end.unwrap_err();
        }
        script.wait_for_timer();
    };
    assert_eq!(script.now.monotonic_us - began_us, 60_000_000);
    let error = error.to_string();
    assert!(
        error.contains("failed to look up an offset of t/0 within 60000 ms"),
        "{error}"
    );
    assert!(error.contains("NOT_LEADER_OR_FOLLOWER"), "{error}");
}

#[test]
fn a_users_request_survives_a_lost_connection_and_a_missing_leader() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[0]));
    script.command(Command::ListOffsets(vec![(tp("t", 0), OffsetSpec::Latest)]));
    assert!(script.call().is_none());
    script.cluster(cluster_at(4, &[1]));
    let (call, _) = script.list_offsets();
    script.lose(&call);
    script.wait_for_timer();
    let (call, _) = script.list_offsets();
    script.reply_offset(&call, ErrorCode::NONE, 5);
    assert_eq!(offsets(script.finished()), [5]);
}

#[test]
fn what_cannot_succeed_ends_a_users_request_at_once() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1]));
    script.command(Command::ListOffsets(vec![(tp("t", 0), OffsetSpec::Latest)]));
    let (call, _) = script.list_offsets();
    script.reply_offset(&call, ErrorCode::TOPIC_AUTHORIZATION_FAILED, -1);
    let error = script.finished().unwrap().unwrap_err().to_string();
    assert!(error.contains("TOPIC_AUTHORIZATION_FAILED"), "{error}");
}

#[test]
fn the_same_partition_twice_makes_two_requests_because_brokers_refuse_one() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1]));
    script.command(Command::ListOffsets(vec![
        (tp("t", 0), OffsetSpec::Earliest),
        (tp("t", 0), OffsetSpec::Latest),
    ]));
    for offset in [3, 8] {
        let (call, request) = script.list_offsets();
        assert_eq!(request.topics[0].partitions.len(), 1);
        script.reply_offset(&call, ErrorCode::NONE, offset);
    }
    assert_eq!(offsets(script.finished()), [3, 8]);
}
