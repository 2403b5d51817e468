//! Inside transactions: sent only as permitted, stamped so, and failures told.

use super::*;
use crate::call::{SendPermit, TopicPartition};
use std::collections::BTreeSet;

fn transactional() -> Scene {
    let options = options().transactional("x").unwrap();
    Scene::unidentified(2, options)
}

impl Scene {
    fn permit(&mut self, turn: u64, permit: SendPermit) {
        let fact = Fact::SendPermit {
            producer: 0,
            turn,
            permit,
        };
        self.room.handle_fact(self.now, &fact);
    }

    fn grant(&mut self, turn: u64, epoch: i16, added: Option<&[i32]>, lingers: bool) {
        let added = added.map(|added| {
            let added = added.iter().map(|n| TopicPartition::new(TOPIC, *n));
            Arc::new(added.collect::<BTreeSet<_>>())
        });
        self.permit(
            turn,
            SendPermit::Granted {
                producer_id: 7,
                producer_epoch: epoch,
                added,
                lingers,
            },
        );
    }
}

#[test]
fn line_15_on_version_1_nothing_goes_to_a_partition_that_was_not_added() {
    let mut scene = transactional();
    scene.grant(1, 3, Some(&[]), true);
    let delivery = scene.append(0, "a");
    assert!(scene.poll().is_empty());
    let facts = scene.facts();
    assert!(
        matches!(&facts[..], [Fact::PartitionWanted { partition, .. }] if partition.partition == 0)
    );
    scene.grant(1, 3, Some(&[0]), true);
    let sent = scene.one();
    assert_eq!((sent.stamp(), sent.cap), ((7, 3, 0), Some(11)));
    assert!(sent.batches[0].1.attributes.is_transactional());
    scene.acknowledge(&sent, 5);
    assert_eq!(offset(&delivery), 5);
    assert!(scene.facts().is_empty(), "it is wanted once");
}

#[test]
fn line_15_on_version_2_the_first_write_goes_out_at_once() {
    let mut scene = transactional();
    scene.grant(1, 3, None, true);
    scene.send(0, "a");
    let sent = scene.one();
    assert_eq!((sent.stamp(), sent.cap), ((7, 3, 0), None));
}

#[test]
fn line_16_a_record_that_comes_outside_of_a_transaction_joins_none() {
    let mut scene = transactional();
    let delivery = scene.append(0, "early");
    assert!(scene.poll().is_empty());
    let cause = failure(&delivery).cause;
    assert!(matches!(cause, DeliveryCause::Transaction { .. }));
    scene.facts();
    scene.grant(1, 3, None, true);
    assert!(scene.poll().is_empty());
}

#[test]
fn an_abort_fails_what_waits_and_ends_once_nothing_is_in_flight() {
    let mut scene = transactional();
    scene.grant(1, 3, None, true);
    scene.send(0, "first");
    let first = scene.one();
    let unsent = scene.append(0, "second");
    scene.permit(2, SendPermit::Refused(Arc::from("aborted")));
    assert!(failure(&unsent).to_string().contains("aborted"));
    let drained = |facts: &[Fact]| {
        let mut drained = facts.iter();
        drained.any(|fact| matches!(fact, Fact::Drained { turn: 2, .. }))
    };
    assert!(!drained(&scene.facts()));
    scene.lose(&first, true);
    let facts = scene.facts();
    assert!(drained(&facts));
    // The lost batch may be written yet.
    assert!(matches!(
        facts.last(),
        Some(Fact::Drained { gap: true, .. })
    ));
    assert!(scene.poll().is_empty());

    scene.grant(3, 4, None, true);
    scene.send(0, "next");
    scene.pass(SECOND_US);
    assert_eq!(scene.one().stamp(), (7, 4, 0));
}

#[test]
fn line_17_a_failure_is_told_before_the_end_of_sending() {
    let mut scene = transactional();
    scene.grant(1, 3, None, true);
    scene.send(0, "a");
    let sent = scene.one();
    scene.grant(2, 3, None, false);
    scene.refuse(&sent, ErrorCode::INVALID_PRODUCER_EPOCH);
    let facts = scene.facts();
    let told = |fact: &Fact| {
        matches!(
            fact,
            Fact::SendFailed {
                code: Some(ErrorCode::INVALID_PRODUCER_EPOCH),
                ..
            }
        )
    };
    let failed = facts.iter().position(told).unwrap();
    let drained = |fact: &Fact| matches!(fact, Fact::Drained { .. });
    assert!(failed < facts.iter().position(drained).unwrap());
}

#[test]
fn a_commit_ends_lingering() {
    let options = ProducerOptions {
        linger_ms: 1000,
        ..options()
    };
    let mut scene = Scene::unidentified(1, options.transactional("x").unwrap());
    scene.grant(1, 3, None, true);
    let delivery = scene.append(0, "a");
    assert!(scene.poll().is_empty());
    scene.grant(1, 3, None, false);
    let sent = scene.one();
    scene.acknowledge(&sent, 0);
    assert_eq!(offset(&delivery), 0);
    let facts = scene.facts();
    assert!(matches!(
        facts.last(),
        Some(Fact::Drained {
            turn: 1,
            gap: false,
            ..
        })
    ));
}

#[test]
fn on_version_1_sequences_go_on_from_one_transaction_to_the_next() {
    let mut scene = transactional();
    scene.grant(1, 3, Some(&[0]), true);
    scene.send(0, "a");
    let sent = scene.one();
    scene.acknowledge(&sent, 0);
    scene.permit(2, SendPermit::Refused(Arc::from("committed")));
    scene.grant(3, 3, Some(&[0]), true);
    scene.send(0, "b");
    assert_eq!(scene.one().stamp(), (7, 3, 1));
}

#[test]
fn a_lost_batch_is_sent_again_with_its_stamp() {
    let mut scene = transactional();
    scene.grant(1, 3, None, true);
    scene.send(0, "a");
    let sent = scene.one();
    scene.lose(&sent, true);
    scene.pass(SECOND_US);
    let again = scene.one();
    assert_eq!(again.stamp(), sent.stamp());
    assert!(again.batches[0].1.attributes.is_transactional());
}
