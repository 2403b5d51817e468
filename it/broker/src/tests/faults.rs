//! Injected faults, each seen by a client.

use super::script::{Script, fetch, only, produce, records};
use crate::{CloseReason, Effect, Match, NodeId, Times};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::{
    ApiKey, InitProducerIdRequest, MetadataRequest, ProduceRequest,
};

fn inject(script: &mut Script, effect: Effect) {
    script
        .cluster
        .inject(Match::api(ApiKey::Produce), effect, Times::Next(1));
}

fn end_offset(script: &Script) -> i64 {
    script.cluster.view("t", 0).unwrap().end_offset
}

#[test]
fn an_error_is_answered_once_and_nothing_is_written() {
    let mut script = Script::three_nodes();
    inject(&mut script, Effect::Error(ErrorCode::NOT_ENOUGH_REPLICAS));
    let code = script.produce(records(1).bytes()).error_code;
    assert_eq!(
        (code, end_offset(&script)),
        (ErrorCode::NOT_ENOUGH_REPLICAS.0, 0)
    );
    let code = script.produce(records(1).bytes()).error_code;
    assert_eq!((code, end_offset(&script)), (0, 1));
}

#[test]
fn line_6_an_error_after_the_append_leaves_the_records_written() {
    let mut script = Script::three_nodes();
    let after = ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND;
    inject(&mut script, Effect::ErrorAfter(after));
    let answer = script.produce(records(1).bytes());
    assert_eq!((answer.error_code, answer.base_offset), (after.0, -1));
    assert_eq!(end_offset(&script), 1);
}

#[test]
fn an_error_for_one_topic_leaves_the_others_alone() {
    let mut script = Script::three_nodes();
    script.topic("u", 1, &[]);
    let matches = Match::api(ApiKey::Produce).topic("u");
    let id = script.cluster.inject(
        matches,
        Effect::Error(ErrorCode::KAFKA_STORAGE_ERROR),
        Times::Always,
    );
    let mut both = produce("t", 0, records(1).bytes());
    both.topic_data
        .extend(produce("u", 0, records(1).bytes()).topic_data);
    let answer = script.call(1, 12, &both);
    let codes: Vec<i16> = answer
        .responses
        .iter()
        .map(|topic| topic.partition_responses[0].error_code)
        .collect();
    assert_eq!(codes, [0, ErrorCode::KAFKA_STORAGE_ERROR.0]);
    script.produce(records(1).bytes());
    assert_eq!(
        script.cluster.struck(id),
        1,
        "a request about t alone does not count"
    );
    script.cluster.remove_fault(id);
    assert!(
        script
            .call(1, 12, &both)
            .responses
            .iter()
            .all(|topic| { topic.partition_responses[0].error_code == 0 })
    );
}

#[test]
fn an_injected_leader_error_comes_with_the_true_leader() {
    let mut script = Script::three_nodes();
    inject(
        &mut script,
        Effect::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER),
    );
    let answer = script.produce(records(1).bytes());
    assert_eq!(
        (
            answer.current_leader.leader_id.0,
            answer.current_leader.leader_epoch
        ),
        (1, 0)
    );
}

#[test]
fn answers_with_one_error_for_everything_take_it_too() {
    let mut script = Script::three_nodes();
    let code = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    script
        .cluster
        .inject(Match::any(), Effect::Error(code), Times::Next(1));
    let answer = script.call(
        1,
        4,
        &InitProducerIdRequest::default().with_transactional_id(None),
    );
    assert_eq!((answer.error_code, answer.producer_id.0), (code.0, -1));
    assert_eq!(
        script
            .call(
                1,
                4,
                &InitProducerIdRequest::default().with_transactional_id(None)
            )
            .error_code,
        0
    );
}

#[test]
fn a_cut_comes_before_or_after_the_request_is_applied() {
    for (effect, written) in [(Effect::CutBefore, 0), (Effect::CutAfter, 1)] {
        let mut script = Script::three_nodes();
        inject(&mut script, effect);
        let connection = script.connect(1);
        script.send(connection, 12, &produce("t", 0, records(1).bytes()));
        assert_eq!(script.closed(connection), Some(&CloseReason::Cut));
        assert_eq!(script.take_bytes(connection), None);
        assert_eq!(end_offset(&script), written, "{effect:?}");
    }
}

#[test]
fn a_hung_connection_answers_nothing_more_and_stays_open() {
    for (effect, written) in [(Effect::HangBefore, 0), (Effect::HangAfter, 1)] {
        let mut script = Script::three_nodes();
        inject(&mut script, effect);
        let connection = script.connect(1);
        script.send(connection, 12, &produce("t", 0, records(1).bytes()));
        script.send(connection, 12, &MetadataRequest::default());
        script.pass_ms(100_000);
        assert_eq!(script.take_bytes(connection), None);
        assert_eq!(script.closed(connection), None);
        assert_eq!(end_offset(&script), written, "{effect:?}");
        assert_eq!(script.cluster.poll_timeout(), None);
    }
}

#[test]
fn a_delay_comes_before_or_after_the_request_is_applied() {
    for (effect, written) in [
        (Effect::DelayBefore(30_000), 0),
        (Effect::DelayAfter(30_000), 1),
    ] {
        let mut script = Script::three_nodes();
        inject(&mut script, effect);
        let connection = script.connect(1);
        script.send(connection, 12, &produce("t", 0, records(1).bytes()));
        script.pass_ms(29);
        assert_eq!(script.take_bytes(connection), None);
        assert_eq!(end_offset(&script), written, "{effect:?}");
        script.pass_ms(1);
        let answer = script.take::<ProduceRequest>(connection, 12).unwrap();
        assert_eq!(answer.responses[0].partition_responses[0].base_offset, 0);
        assert_eq!(end_offset(&script), 1);
    }
}

#[test]
fn what_comes_behind_a_delayed_request_waits_for_it() {
    let mut script = Script::three_nodes();
    inject(&mut script, Effect::DelayAfter(30_000));
    let connection = script.connect(1);
    script.send(connection, 12, &produce("t", 0, records(1).bytes()));
    script.send(connection, 12, &produce("t", 0, records(1).bytes()));
    assert_eq!(end_offset(&script), 1);
    script.pass_ms(30);
    let offsets: Vec<i64> = std::iter::from_fn(|| script.take::<ProduceRequest>(connection, 12))
        .map(|answer| answer.responses[0].partition_responses[0].base_offset)
        .collect();
    assert_eq!(offsets, [0, 1]);
}

#[test]
fn line_42_a_throttle_time_can_be_told() {
    let mut script = Script::three_nodes();
    script.cluster.inject(
        Match::any().at(NodeId(1)),
        Effect::Throttle(250),
        Times::Always,
    );
    let request = produce("t", 0, records(1).bytes());
    assert_eq!(script.call(1, 12, &request).throttle_time_ms, 250);
    assert_eq!(
        script
            .call(1, 12, &MetadataRequest::default())
            .throttle_time_ms,
        250
    );
    assert_eq!(
        script
            .call(2, 12, &MetadataRequest::default())
            .throttle_time_ms,
        0
    );
    script.cluster.clear_faults();
    assert_eq!(script.call(1, 12, &request).throttle_time_ms, 0);
}

#[test]
fn a_fault_on_a_fetch_that_waits_is_told_at_once() {
    let mut script = Script::three_nodes();
    let code = ErrorCode::UNKNOWN_LEADER_EPOCH;
    let matches = Match::api(ApiKey::Fetch).topic("t").partition(0);
    script
        .cluster
        .inject(matches, Effect::Error(code), Times::Next(1));
    let waiting = fetch("t", 0, 0).with_max_wait_ms(500);
    assert_eq!(only(&script.call(1, 12, &waiting)).error_code, code.0);
}

#[test]
fn a_connection_can_be_cut_from_outside() {
    let mut script = Script::three_nodes();
    let (first, second) = (script.connect(1), script.connect(2));
    let of_node_2: Vec<_> = script.cluster.connections(Some(NodeId(2))).collect();
    assert_eq!(of_node_2, [second]);
    script.cluster.cut(second);
    script.collect();
    assert_eq!(script.closed(second), Some(&CloseReason::Cut));
    assert_eq!(script.closed(first), None);
}
