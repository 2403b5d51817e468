//! Consumers that share one client.

use super::metadata::{response, topic};
use super::*;
use crate::call::TopicPartition;
use crate::client::Command;
use crate::fetch::inbox::Inbox;
use crate::fetch::{self, Start};
use std::task::Waker;
use tidewatch_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use uuid::Uuid;

/// A consumer that reads `t` from its start.
fn consumer(script: &mut Script<Client>) -> u32 {
    let options = options(&[]).consumer;
    let inbox = Inbox::new(&options, Waker::noop().clone());
    let number = script.core.open_consumer(script.now, options, inbox);
    let wanted = vec![(TopicPartition::new("t", 0), Start::Offset(0))];
    script.command(Command::Fetch(number, fetch::Command::Assign(wanted)));
    number
}

/// Plays the one broker, which answers all but Fetch; gives those.
fn long_polls(script: &mut Script<Client>) -> Vec<Sent> {
    let mut polls = Vec::new();
    while let Some(action) = script.next_action() {
        match action {
            Action::Resolve { connection, .. } => script.resolved(connection, &["10.0.0.1:9092"]),
            Action::Connect { connection, .. } => script.core.connected(script.now, connection),
            Action::Send(connection, frame) => {
                script.core.written(script.now, connection);
                let sent = read_request(connection, &frame);
                match sent.api() {
                    ApiKey::ApiVersions => {
                        script.answer::<ApiVersionsRequest>(&sent, &every_version());
                    }
                    ApiKey::Metadata => {
                        let topics = vec![topic("t", Uuid::from_u128(7), &[(1, 0)])];
                        script.answer::<MetadataRequest>(&sent, &response(topics));
                    }
                    _ => polls.push(sent),
                }
            }
            Action::Finished(_, outcome) => assert!(outcome.is_ok()),
            Action::WantToken(_) => panic!("nobody authenticates here"),
            Action::Close { why, .. } => panic!("closed: {why}"),
        }
    }
    polls
}

#[test]
fn line_45_the_long_polls_of_two_consumers_wait_at_one_broker_at_once() {
    let mut script = Script::client(&[]);
    let first = consumer(&mut script);
    consumer(&mut script);
    let polls = long_polls(&mut script);
    assert!(polls.iter().all(|sent| sent.api() == ApiKey::Fetch));
    let connections: Vec<_> = polls.iter().map(|sent| sent.connection).collect();
    assert!(
        matches!(connections[..], [one, other] if one != other),
        "{connections:?}"
    );

    script.core.close_consumer(script.now, first);
    assert_eq!(script.expect_close().0, connections[0]);
    script.expect_nothing();
}

/// The last Fetch of a consumer whose session at the broker is 77, and the long poll under way.
fn parting(script: &mut Script<Client>) -> [Sent; 2] {
    let number = consumer(script);
    let polls = long_polls(script);
    let [first] = &polls[..] else {
        panic!("{polls:?}")
    };
    let topic = FetchableTopicResponse::default()
        .with_topic_id(Uuid::from_u128(7))
        .with_partitions(vec![PartitionData::default()]);
    let opened = FetchResponse::default()
        .with_session_id(77)
        .with_responses(vec![topic]);
    script.answer::<FetchRequest>(first, &opened);
    let polls = long_polls(script);
    assert_eq!(polls.len(), 1, "the next long poll");
    script.core.close_consumer(script.now, number);
    script.open();
    let general = script.expect_send();
    assert_ne!(general.connection, polls[0].connection, "it would wait");
    [general, polls.into_iter().next().unwrap()]
}

#[test]
fn a_closed_consumers_fetch_session_is_closed_too() {
    let mut script = Script::client(&[]);
    let sent = parting(&mut script);
    let version = sent[0].header.api_version;
    let last = decode_request::<FetchRequest>(sent[0].body.clone(), version).unwrap();
    assert_eq!((last.session_id, last.session_epoch), (77, -1));
    assert!(last.topics.is_empty() && last.max_wait_ms == 0);
    assert!(!script.core.is_settled());
    script.expect_nothing();

    script.answer::<FetchRequest>(&sent[0], &FetchResponse::default());
    assert_eq!(script.expect_close().0, sent[1].connection);
    script.expect_nothing();
    assert!(script.core.is_settled());
}

#[test]
fn a_broker_that_does_not_hear_the_end_is_not_waited_for() {
    let mut script = Script::client(&[]);
    let sent = parting(&mut script);
    script.pass_ms(4_999);
    assert!(!script.core.is_settled());
    script.pass_ms(1);
    assert_eq!(script.expect_close().0, sent[1].connection);
    assert!(script.core.is_settled());
}
