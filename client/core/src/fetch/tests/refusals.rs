//! What each refusal leads to.

use super::log::batch;
use super::*;
use tidewatch_protocol::messages::fetch_response::{LeaderIdAndEpoch, NodeEndpoint};

fn with_reset(offset_reset: OffsetReset) -> ConsumerOptions {
    ConsumerOptions {
        offset_reset,
        ..options()
    }
}

#[test]
fn line_25_out_of_range_resets_as_configured_after_a_backoff() {
    for (reset, timestamp) in [(OffsetReset::Earliest, -2), (OffsetReset::Latest, -1)] {
        let mut script = Script::reading(with_reset(reset), 100);
        script.exchange(refused(ErrorCode::OFFSET_OUT_OF_RANGE));
        assert!(script.call().is_none(), "it backs off");
        script.wait_for_timer();
        let (call, request) = script.list_offsets();
        assert_eq!(request.topics[0].partitions[0].timestamp, timestamp);
        script.reply_offset(&call, ErrorCode::NONE, 33);
        assert_eq!(script.position(), Some(33));
        assert_eq!(script.fetch().1.topics[0].partitions[0].fetch_offset, 33);
    }
}

#[test]
fn line_25_out_of_range_without_a_reset_is_an_error_until_a_seek() {
    let mut script = Script::reading(with_reset(OffsetReset::None), 100);
    script.exchange(refused(ErrorCode::OFFSET_OUT_OF_RANGE));
    script.wait_for_timer();
    assert!(script.call().is_none());
    let error = script.error().to_string();
    assert!(
        error.starts_with("failed to fetch t/0 at 100: OFFSET_OUT_OF_RANGE"),
        "{error}"
    );
    assert!(error.contains("auto.offset.reset is none"), "{error}");
    assert!(script.room.poll_timeout().is_none());
    script.seek(0, 5);
    script.exchange(data(batch(5, 1).bytes(), 6));
    assert_eq!(script.read_all(), [5]);
}

#[test]
fn line_25_what_was_fetched_before_is_delivered_before_the_reset() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 2).bytes(), 2));
    script.exchange(refused(ErrorCode::OFFSET_OUT_OF_RANGE));
    script.wait_for_timer();
    assert!(script.call().is_none(), "two records wait to be read");
    assert_eq!(script.read_all(), [0, 1]);
    let (call, _) = script.list_offsets();
    script.reply_offset(&call, ErrorCode::NONE, 1);
    assert_eq!(script.position(), Some(1));
}

#[test]
fn line_25_each_partition_backs_off_alone() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1, 1]));
    script.assign(0, Start::Offset(9));
    script.assign(1, Start::Offset(0));
    let (call, _) = script.fetch();
    let other = data(batch(0, 1).bytes(), 1).with_partition_index(1);
    script.reply_fetch(&call, vec![refused(ErrorCode::OFFSET_OUT_OF_RANGE), other]);
    let (_, request) = script.fetch();
    assert_eq!(request.topics[0].partitions[0].partition, 1);
}

#[test]
fn line_25_a_follower_that_is_out_of_range_sends_us_back_to_the_leader() {
    let mut script = Script::reading(options(), 9);
    script.exchange(data(Bytes::new(), 10).with_preferred_read_replica(2.into()));
    let (call, _) = script.fetch();
    assert_eq!(broker_of(&call), BrokerId(2));
    script.reply_fetch(&call, vec![refused(ErrorCode::OFFSET_OUT_OF_RANGE)]);
    script.wait_for_timer();
    let (call, request) = script.fetch();
    assert_eq!(
        broker_of(&call),
        BrokerId(1),
        "no reset: the leader knows better"
    );
    assert_eq!(request.topics[0].partitions[0].fetch_offset, 9);
    assert!(script.event().is_none());
}

#[test]
fn a_leader_that_names_another_replica_is_not_taken_for_an_idle_one() {
    let mut script = Script::reading(options(), 9);
    script.exchange(data(Bytes::new(), 9).with_preferred_read_replica(2.into()));
    assert!(script.event().is_none());
    let (call, _) = script.fetch();
    script.reply_fetch(&call, vec![data(batch(9, 1).bytes(), 10)]);
    assert_eq!(script.read_all(), [9]);
    // A replica that is not in the picture is not asked, and a lease ends.
    script.wait_ms(301_000);
    let (call, _) = script.fetch();
    assert_eq!(broker_of(&call), BrokerId(1));
}

#[test]
fn line_25_leader_epochs_that_do_not_match_refresh_the_metadata() {
    for code in [
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
    ] {
        let mut script = Script::reading(options(), 9);
        script.exchange(refused(code));
        assert!(script.says_metadata_is_stale(), "{code}");
        assert!(script.call().is_none(), "{code}");
        assert!(script.event().is_none(), "{code}");
        script.wait_for_timer();
        let (_, request) = script.fetch();
        assert_eq!(request.topics[0].partitions[0].fetch_offset, 9, "{code}");
    }
}

#[test]
fn line_26_a_hint_is_passed_on_and_the_new_leader_is_asked_at_once() {
    let mut script = Script::reading(options(), 9);
    let (call, _) = script.fetch();
    let hint = LeaderIdAndEpoch::default()
        .with_leader_id(2.into())
        .with_leader_epoch(4);
    let data = refused(ErrorCode::NOT_LEADER_OR_FOLLOWER).with_current_leader(hint);
    let endpoint = NodeEndpoint::default()
        .with_node_id(2.into())
        .with_host(StrBytes::from_static_str("two"))
        .with_port(9093);
    let response = fetched(vec![data]).with_node_endpoints(vec![endpoint]);
    script.reply(&call, Response::Fetch(response));
    let facts = script.facts();
    let Fact::LeaderHint {
        partition,
        leader,
        epoch,
        address,
    } = &facts[0]
    else {
        panic!("no hint: {facts:?}");
    };
    assert_eq!((partition, *leader, *epoch), (&tp("t", 0), BrokerId(2), 4));
    assert_eq!(address, &Some((Arc::from("two"), 9093)));
    script.cluster(cluster_at(4, &[2]));
    let (call, _) = script.fetch();
    assert_eq!(
        broker_of(&call),
        BrokerId(2),
        "no backoff once the picture is newer"
    );
}

#[test]
fn what_a_broker_that_leads_no_more_did_not_answer_is_asked_of_its_successor_at_once() {
    let mut script = Script::reading(options(), 9);
    let (call, _) = script.fetch();
    script.cluster(cluster_at(4, &[2]));
    script.lose(&call);
    let (again, _) = script.fetch();
    assert_eq!(broker_of(&again), BrokerId(2));
    script.lose(&again);
    assert!(script.call().is_none(), "the successor has failed now");
}

#[test]
fn line_26_a_hint_that_is_not_newer_is_ignored() {
    let mut script = Script::reading(options(), 9);
    let hint = LeaderIdAndEpoch::default()
        .with_leader_id(2.into())
        .with_leader_epoch(3);
    script.exchange(refused(ErrorCode::NOT_LEADER_OR_FOLLOWER).with_current_leader(hint));
    let facts = script.facts();
    assert!(matches!(&facts[..], [Fact::MetadataStale]), "{facts:?}");
    script.cluster(cluster(&[1]));
    assert!(
        script.call().is_none(),
        "the picture is the same: it backs off"
    );
}

#[test]
fn line_26_an_unknown_topic_id_refreshes_the_metadata() {
    let mut script = Script::reading(options(), 9);
    script.exchange(refused(ErrorCode::UNKNOWN_TOPIC_ID));
    assert!(script.says_metadata_is_stale());
    assert!(script.event().is_none());
}

#[test]
fn line_48_a_topic_that_stays_unknown_is_an_error_after_a_while() {
    let mut script = Script::new(options());
    let mut unknown = cluster(&[]);
    unknown.topics.get_mut("t").unwrap().error = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    script.cluster(unknown);
    script.assign(0, Start::Offset(0));
    let began_us = script.now.monotonic_us;
    let error = loop {
        assert!(script.call().is_none());
        assert!(script.says_metadata_is_stale());
        if let Some(event) = script.event() {
            break event.unwrap_err();
        }
        script.wait_for_timer();
    };
    assert!(
        error.to_string().contains("UNKNOWN_TOPIC_OR_PARTITION"),
        "{error}"
    );
    let waited_us = script.now.monotonic_us - began_us;
    assert!((60_000_000..62_000_000).contains(&waited_us), "{waited_us}");
    // It may still be created.
    script.cluster(cluster(&[1]));
    assert!(script.call().is_some());
}

#[test]
fn a_partition_without_a_leader_waits_for_one() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[0]));
    script.assign(0, Start::Offset(0));
    assert!(script.call().is_none());
    assert!(script.says_metadata_is_stale());
    let failure = script.status(0).failure.unwrap().to_string();
    assert!(failure.contains("LEADER_NOT_AVAILABLE"), "{failure}");
    script.cluster(cluster_at(4, &[2]));
    assert_eq!(broker_of(&script.fetch().0), BrokerId(2));
}

#[test]
fn what_waiting_does_not_cure_is_told_to_the_reader() {
    let mut script = Script::reading(options(), 9);
    script.exchange(refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    let error = script.error().to_string();
    assert!(
        error.starts_with("failed to fetch t/0 at 9: TOPIC_AUTHORIZATION_FAILED"),
        "{error}"
    );
    assert!(script.call().is_none());
    // It may be granted.
    script.wait_for_timer();
    script.exchange(data(batch(9, 1).bytes(), 10));
    assert_eq!(script.read_all(), [9]);
}

#[test]
fn errors_that_nobody_reads_do_not_pile_up() {
    let mut script = Script::reading(options(), 9);
    for _ in 0..50 {
        script.exchange(refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
        assert!(script.call().is_none());
        script.wait_for_timer();
    }
    script.error();
    assert!(script.event().is_none());
}

#[test]
fn an_error_of_the_whole_response_holds_for_each_partition() {
    let mut script = Script::reading(options(), 9);
    let (call, _) = script.fetch();
    let response = FetchResponse::default().with_error_code(ErrorCode::KAFKA_STORAGE_ERROR.0);
    script.reply(&call, Response::Fetch(response));
    assert!(script.status(0).failure.is_some());
    assert!(script.call().is_none());
    script.wait_for_timer();
    assert!(script.call().is_some());
}

#[test]
fn a_lost_connection_is_tried_again_and_no_error_of_the_reader() {
    let mut script = Script::reading(options(), 9);
    for _ in 0..20 {
        let (call, _) = script.fetch();
        script.lose(&call);
        assert!(script.event().is_none());
        assert!(script.call().is_none());
        script.wait_for_timer();
    }
    script.exchange(data(batch(9, 1).bytes(), 10));
    assert_eq!(script.read_all(), [9]);
}
