//! After a change of leader: what the new one's log has of what was read (KIP-320, line 25).

use super::log::{batch, set};
use super::*;
use tidewatch_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use tidewatch_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

/// Offsets 0 to 3 were fetched from broker 1 at epoch 3, of which `delivered` were read; now broker
/// 2 leads at epoch 4.
fn moved(options: ConsumerOptions, delivered: usize) -> Script {
    let mut script = Script::reading(options, 0);
    script.exchange(data(set(&[batch(0, 2), batch(2, 2)]), 4));
    let mut records = script.records();
    assert_eq!(records.by_ref().take(delivered).count(), delivered);
    drop(records);
    script.cluster(cluster_at(4, &[2]));
    script
}

/// The next call, which must be an OffsetForLeaderEpoch.
fn validation(script: &mut Script) -> (Call, OffsetForLeaderEpochRequest) {
    let call = script.call().expect("a validation is due");
    match &call.body {
        Body::OffsetForLeaderEpoch(request) => {
            let request = (**request).clone();
            (call, request)
        }
        other => panic!("not a validation: {other:?}"),
    }
}

/// Answers the next validation.
fn epoch_ends(script: &mut Script, leader_epoch: i32, end_offset: i64) {
    answer(script, ErrorCode::NONE, leader_epoch, end_offset);
}

fn answer(script: &mut Script, code: ErrorCode, leader_epoch: i32, end_offset: i64) {
    let (call, _) = validation(script);
    let end = EpochEndOffset::default()
        .with_error_code(code.0)
        .with_leader_epoch(leader_epoch)
        .with_end_offset(end_offset);
    let topic = OffsetForLeaderTopicResult::default()
        .with_topic(TopicName(StrBytes::from_static_str("t")))
        .with_partitions(vec![end]);
    let response = OffsetForLeaderEpochResponse::default().with_topics(vec![topic]);
    script.reply(&call, Response::OffsetForLeaderEpoch(response));
}

fn next_offset(script: &mut Script) -> i64 {
    script.fetch().1.topics[0].partitions[0].fetch_offset
}

#[test]
fn line_25_a_new_leader_is_asked_where_the_last_epoch_ended_before_it_is_fetched_from() {
    let mut script = moved(options(), 4);
    let (call, request) = validation(&mut script);
    assert_eq!(broker_of(&call), BrokerId(2));
    assert_eq!((call.lane, request.replica_id.0), (Lane::General, -1));
    let partition = &request.topics[0].partitions[0];
    assert_eq!(
        (partition.leader_epoch, partition.current_leader_epoch),
        (3, 4)
    );
    assert!(script.call().is_none(), "nothing is fetched meanwhile");
    script.lose(&call);
    script.wait_for_timer();
    epoch_ends(&mut script, 3, 4);
    assert_eq!(next_offset(&mut script), 4);
    // Once is enough for one leader.
    script.cluster(cluster_at(4, &[2]));
    assert!(script.call().is_none());
}

#[test]
fn line_25_what_was_lost_is_dropped_and_reading_goes_on_where_the_logs_part() {
    let cases = [(4, 2, 2), (1, 2, 1), (0, 3, 0)];
    for (delivered, end_offset, goes_on_at) in cases {
        let mut script = moved(options(), delivered);
        epoch_ends(&mut script, 3, end_offset);
        assert_eq!(script.position(), Some(goes_on_at));
        let failure = script.status(0).failure.unwrap();
        assert!(matches!(failure, Error::Truncated { .. }), "{failure}");
        assert_eq!(script.read_all(), [] as [i64; 0], "what waited is gone");
        assert_eq!(next_offset(&mut script), goes_on_at);
    }
}

#[test]
fn line_25_without_a_reset_the_reader_is_told_where_the_logs_part() {
    let options = ConsumerOptions {
        offset_reset: OffsetReset::None,
        ..options()
    };
    let mut script = moved(options, 4);
    epoch_ends(&mut script, 3, 2);
    let error = script.error().to_string();
    assert!(
        error.starts_with("failed to fetch t/0 at 4: the new leader's log went another way at 2"),
        "{error}"
    );
    assert!(script.call().is_none());
    assert!(script.room.poll_timeout().is_none());
    script.seek(0, 2);
    assert_eq!(next_offset(&mut script), 2);
}

#[test]
fn line_25_undefined_is_not_data_loss() {
    let mut script = moved(options(), 4);
    epoch_ends(&mut script, -1, -1);
    assert!(script.status(0).failure.is_none());
    assert_eq!(next_offset(&mut script), 4);
}

#[test]
fn line_25_fenced_and_unknown_epochs_trigger_validation() {
    for code in [
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
    ] {
        let mut script = Script::reading(options(), 0);
        script.exchange(data(batch(0, 2).bytes(), 2));
        script.exchange(refused(code));
        assert!(script.says_metadata_is_stale(), "{code}");
        script.wait_for_timer();
        epoch_ends(&mut script, 3, 2);
        assert_eq!(next_offset(&mut script), 2, "{code}");
    }
}

#[test]
fn line_25_a_diverging_epoch_triggers_validation() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 2).bytes(), 2));
    let end = tidewatch_protocol::messages::fetch_response::EpochEndOffset::default()
        .with_epoch(2)
        .with_end_offset(1);
    script.exchange(data(Bytes::new(), 2).with_diverging_epoch(end));
    assert!(script.status(0).caught_up.is_none());
    assert!(script.call().is_none(), "it backs off");
    script.wait_for_timer();
    epoch_ends(&mut script, 2, 1);
    assert_eq!(script.position(), Some(0), "nothing was delivered");
}

#[test]
fn line_25_a_refused_validation_is_asked_again() {
    let mut script = moved(options(), 4);
    answer(&mut script, ErrorCode::UNKNOWN_LEADER_EPOCH, -1, -1);
    assert!(script.says_metadata_is_stale());
    assert!(script.call().is_none());
    script.wait_for_timer();
    epoch_ends(&mut script, 3, 4);
    assert_eq!(next_offset(&mut script), 4);
}

#[test]
fn line_25_a_committed_position_is_validated_before_the_first_fetch() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1]));
    let start = Start::Committed {
        offset: 9,
        leader_epoch: 2,
    };
    script.assign(0, start);
    assert_eq!(script.status(0).leader_epoch, 2);
    let (_, request) = {
        let (call, request) = validation(&mut script);
        script.lose(&call);
        (call, request)
    };
    assert_eq!(request.topics[0].partitions[0].leader_epoch, 2);
    script.wait_for_timer();
    epoch_ends(&mut script, 2, 7);
    assert_eq!(next_offset(&mut script), 7);
}

#[test]
fn a_leader_that_cannot_be_asked_is_fetched_from_all_the_same() {
    let mut script = moved(options(), 4);
    let (call, _) = validation(&mut script);
    let error = CallError {
        kind: CallErrorKind::Version(no_common_version()),
        written: false,
        broker: Some(BrokerId(2)),
    };
    script.room.handle_reply(script.now, call.id, Err(error));
    assert_eq!(next_offset(&mut script), 4);

    let mut script = moved(options(), 4);
    answer(&mut script, ErrorCode::CLUSTER_AUTHORIZATION_FAILED, -1, -1);
    assert_eq!(next_offset(&mut script), 4);
}

fn no_common_version() -> tidewatch_protocol::api::NoCommonVersion {
    let apis = tidewatch_protocol::api::BrokerApis::default();
    let api = tidewatch_protocol::messages::ApiKey::OffsetForLeaderEpoch;
    apis.negotiate(api, None).unwrap_err()
}
