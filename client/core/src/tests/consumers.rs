//! Consumers that share one client.

use super::metadata::{response, topic};
use super::*;
use crate::call::TopicPartition;
use crate::client::Command;
use crate::fetch::inbox::Inbox;
use crate::fetch::{self, Start};
use std::task::Waker;
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
