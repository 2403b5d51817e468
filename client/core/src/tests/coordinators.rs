//! Coordinators: looked up, kept, forgotten.

use super::*;
use tidewatch_protocol::messages::find_coordinator_response::Coordinator;

fn group() -> Coordinated {
    Coordinated::Group("g".into())
}

fn commit(script: &mut Script<Router>) -> CallId {
    let body = Body::OffsetCommit(OffsetCommitRequest::default().into());
    script.call(Destination::Coordinator(group()), Lane::General, body)
}

fn found(node: i32) -> FindCoordinatorResponse {
    let coordinator = Coordinator::default()
        .with_key("g".into())
        .with_node_id(node.into())
        .with_host(format!("broker-{node}").into())
        .with_port(9092);
    FindCoordinatorResponse::default().with_coordinators(vec![coordinator])
}

fn not_found(code: ErrorCode) -> FindCoordinatorResponse {
    let coordinator = Coordinator::default()
        .with_key("g".into())
        .with_node_id((-1).into())
        .with_port(-1)
        .with_error_code(code.0);
    FindCoordinatorResponse::default().with_coordinators(vec![coordinator])
}

/// A commit in flight to the coordinator, which is the only broker.
fn committing() -> (Script<Router>, Sent) {
    let mut script = Script::with_brokers(1, &[]);
    commit(&mut script);
    script.open();
    let lookup = script.expect_send();
    assert_eq!(lookup.api(), ApiKey::FindCoordinator);
    script.answer::<FindCoordinatorRequest>(&lookup, &found(1));
    let sent = script.expect_send();
    assert_eq!(sent.api(), ApiKey::OffsetCommit);
    (script, sent)
}

#[test]
fn a_coordinator_is_looked_up_once_and_kept() {
    let (mut script, sent) = committing();
    script.answer::<OffsetCommitRequest>(&sent, &OffsetCommitResponse::default());
    assert!(script.ended().1.is_ok());
    commit(&mut script);
    assert_eq!(script.expect_send().api(), ApiKey::OffsetCommit);
    script.expect_nothing();
}

#[test]
fn calls_that_wait_for_the_same_coordinator_share_one_lookup() {
    let mut script = Script::with_brokers(1, &[]);
    commit(&mut script);
    commit(&mut script);
    script.open();
    let lookup = script.expect_send();
    script.expect_nothing();
    script.answer::<FindCoordinatorRequest>(&lookup, &found(1));
    assert_eq!(script.expect_send().api(), ApiKey::OffsetCommit);
    assert_eq!(script.expect_send().api(), ApiKey::OffsetCommit);
}

#[test]
fn a_coordinator_is_found_on_brokers_that_answer_in_the_old_shape() {
    let mut script = Script::with_brokers(1, &[]);
    commit(&mut script);
    let (id, _) = script.expect_resolve();
    script.resolved(id, &["10.0.0.1:9092"]);
    let (id, _) = script.expect_connect();
    script.core.connected(script.now, id);
    let asked = script.expect_send();
    let mut old = every_version();
    for range in &mut old.api_keys {
        if range.api_key == ApiKey::FindCoordinator as i16 {
            range.max_version = 2;
        }
    }
    script.answer::<ApiVersionsRequest>(&asked, &old);
    let lookup = script.expect_send();
    let request = decode_request::<FindCoordinatorRequest>(lookup.body.clone(), 2).unwrap();
    assert_eq!(&*request.key, "g");
    let answer = FindCoordinatorResponse::default()
        .with_node_id(1.into())
        .with_host("broker-1".into())
        .with_port(9092);
    script.answer::<FindCoordinatorRequest>(&lookup, &answer);
    assert_eq!(script.expect_send().api(), ApiKey::OffsetCommit);
}

#[test]
fn line_30_not_coordinator_clears_the_cached_one() {
    let (mut script, sent) = committing();
    script.answer::<OffsetCommitRequest>(&sent, &OffsetCommitResponse::default());
    script
        .core
        .handle_fact(script.now, &Fact::CoordinatorLost(group()));
    commit(&mut script);
    assert_eq!(script.expect_send().api(), ApiKey::FindCoordinator);
}

#[test]
fn line_30_a_dead_coordinator_is_looked_up_again() {
    let (mut script, sent) = committing();
    script
        .core
        .closed(script.now, sent.connection, "connection reset by peer");
    assert!(disconnected(&script.ended().1));
    commit(&mut script);
    script.pass_ms(100);
    script.open();
    assert_eq!(script.expect_send().api(), ApiKey::FindCoordinator);
}

#[test]
fn line_30_a_coordinator_that_times_out_is_looked_up_again() {
    let (mut script, sent) = committing();
    script.pass_ms(30_000);
    assert_eq!(script.expect_close().0, sent.connection);
    let kind = script.ended().1.unwrap_err().kind;
    assert!(matches!(kind, CallErrorKind::TimedOut { .. }));
    commit(&mut script);
    script.pass_ms(100);
    script.open();
    assert_eq!(script.expect_send().api(), ApiKey::FindCoordinator);
}

#[test]
fn line_30_while_the_coordinator_loads_it_is_asked_for_again_with_backoff() {
    let mut script = Script::with_brokers(1, &[]);
    commit(&mut script);
    script.open();
    let lookup = script.expect_send();
    let code = ErrorCode::COORDINATOR_NOT_AVAILABLE;
    script.answer::<FindCoordinatorRequest>(&lookup, &not_found(code));
    script.expect_nothing();
    script.pass_ms(150);
    let lookup = script.expect_send();
    assert_eq!(lookup.api(), ApiKey::FindCoordinator);
    script.answer::<FindCoordinatorRequest>(&lookup, &found(1));
    assert_eq!(script.expect_send().api(), ApiKey::OffsetCommit);
}

#[test]
fn a_group_that_may_not_be_used_fails_at_once_for_good() {
    let mut script = Script::with_brokers(1, &[]);
    let call = commit(&mut script);
    script.open();
    let lookup = script.expect_send();
    let code = ErrorCode::GROUP_AUTHORIZATION_FAILED;
    script.answer::<FindCoordinatorRequest>(&lookup, &not_found(code));
    let (ended, result) = script.ended();
    let error = result.unwrap_err();
    assert_eq!(ended, call);
    assert!(
        error.to_string().contains("GROUP_AUTHORIZATION_FAILED"),
        "{error}"
    );
    assert!(!error.kind.is_retriable());
}
