//! Connections that end because nobody uses them, and news that come too late.

use super::*;

fn idle() -> (Script<Router>, ConnectionId) {
    let mut script = Script::with_brokers(1, &[("connections.max.idle.ms", "60000")]);
    script.ask(1);
    let id = script.open();
    let sent = script.expect_send();
    script.answer::<MetadataRequest>(&sent, &MetadataResponse::default());
    assert!(script.ended().1.is_ok());
    (script, id)
}

#[test]
fn line_47_an_unused_connection_is_closed_before_the_brokers_limit() {
    let (mut script, id) = idle();
    script.pass_ms(59_999);
    script.expect_nothing();
    script.pass_ms(1);
    assert_eq!(script.expect_close().0, id);
    assert_eq!(script.core.poll_timeout(), None);
}

#[test]
fn line_47_the_default_is_below_the_brokers_ten_minutes() {
    assert!(options(&[]).client.connections_max_idle_ms < 600_000);
}

#[test]
fn a_connection_closed_while_unused_is_opened_again_without_backoff() {
    let (mut script, id) = idle();
    script.core.closed(script.now, id, "end of file");
    assert!(script.facts().is_empty());
    script.ask(1);
    script.open();
    assert_eq!(script.expect_send().api(), ApiKey::Metadata);
}

#[test]
fn a_connection_in_use_is_not_closed_as_unused() {
    let (mut script, id) = idle();
    script.pass_ms(50_000);
    script.ask(1);
    let sent = script.expect_send();
    script.pass_ms(20_000);
    script.expect_nothing();
    script.answer::<MetadataRequest>(&sent, &MetadataResponse::default());
    assert_eq!(sent.connection, id);
}

#[test]
fn line_44_news_of_connections_that_are_gone_are_ignored() {
    let (mut script, id) = idle();
    script.core.closed(script.now, id, "end of file");
    script
        .core
        .frame(script.now, id, Bytes::from_static(b"late"));
    script.core.written(script.now, id);
    script.core.connected(script.now, id);
    script.core.closed(script.now, id, "again");
    script
        .core
        .resolved(script.now, ConnectionId(999), Ok(Vec::new()));
    script.expect_nothing();
}
