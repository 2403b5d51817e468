//! Partitions that a group assigns and takes: what the reader sees of it, and how far it is said to be.

use super::log::batch;
use super::*;
use crate::call::{GroupMetadata, OffsetAndMetadata, RevokeHow};
use crate::fetch::inbox::{Rebalance, Revocation};

pub(super) const CONSUMER: u32 = ROOM;

impl Script {
    pub(super) fn hear(&mut self, fact: Fact) {
        self.room.handle_fact(self.now, &fact);
    }

    pub(super) fn revoke(&mut self, how: RevokeHow, round: u64) {
        self.hear(Fact::Revoking {
            consumer: CONSUMER,
            partitions: Arc::from([tp("t", 0)]),
            how,
            round,
        });
    }

    pub(super) fn revocation(&mut self) -> Revocation {
        match self.event() {
            Some(Ok(Event::Rebalance(Rebalance::Revoking(revocation)))) => revocation,
            other => panic!("nothing is to be given up: {other:?}"),
        }
    }

    /// The positions that the room tells the group.
    fn delivered(&mut self) -> Option<Vec<i64>> {
        let facts = self.facts();
        facts.iter().rev().find_map(|fact| match fact {
            Fact::Delivered { positions, .. } => {
                Some(positions.iter().map(|(_, at)| at.offset).collect())
            }
            _ => None,
        })
    }

    fn asked_how_far(&mut self) -> Option<Vec<i64>> {
        self.hear(Fact::PositionsWanted { consumer: CONSUMER });
        self.delivered()
    }
}

fn revoked(facts: &[Fact], round: u64) -> bool {
    let is_it =
        |fact: &Fact| matches!(fact, Fact::Revoked { consumer: CONSUMER, round: r } if *r == round);
    facts.iter().any(is_it)
}

#[test]
fn what_a_group_assigns_begins_where_it_has_committed() {
    let mut script = Script::new(options());
    script.cluster(cluster(&[1, 1]));
    script.hear(Fact::Assigned {
        consumer: CONSUMER,
        partitions: Arc::from([
            (tp("t", 0), Some(OffsetAndMetadata::new(7, 3))),
            (tp("t", 1), None),
        ]),
        member: GroupMetadata::without_membership("g"),
    });
    match script.event() {
        Some(Ok(Event::Rebalance(Rebalance::Assigned(partitions)))) => {
            assert_eq!(partitions, [tp("t", 0), tp("t", 1)]);
        }
        other => panic!("not told: {other:?}"),
    }
    assert_eq!(script.position(), Some(7));
    script.list_offsets();
}

#[test]
fn line_28_nothing_is_delivered_once_the_revocation_is_over() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 6).bytes(), 6));
    let mut held = script.records();
    assert_eq!(held.next().unwrap().unwrap().offset, 0);
    script.revoke(RevokeHow::Ask, 5);
    let revocation = script.revocation();
    assert_eq!(revocation.partitions(), [tp("t", 0)]);
    // What the reader holds may be read on while it sees to it.
    assert_eq!(held.next().unwrap().unwrap().offset, 1);
    assert!(!revoked(&script.facts(), 5));
    drop(revocation);
    assert!(
        held.next().is_none(),
        "at once, before the room has heard of it"
    );
    let facts = script.facts();
    assert!(revoked(&facts, 5));
    let told = facts.iter().find_map(|fact| match fact {
        Fact::Delivered { positions, .. } => Some(positions[0].1.offset),
        _ => None,
    });
    assert_eq!(told, Some(2), "the next offset after what was delivered");
    assert!(script.inbox.status(&tp("t", 0)).is_none());
    drop(held);
    assert!(script.event().is_none());
}

#[test]
fn line_28_what_is_to_be_given_up_is_given_out_no_more() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 6).bytes(), 6));
    script.revoke(RevokeHow::Ask, 1);
    let revocation = script.revocation();
    assert!(script.event().is_none(), "though it was fetched");
    drop(revocation);
    assert_eq!(script.delivered(), Some(vec![]));
}

#[test]
fn line_28_a_record_in_the_readers_hands_is_not_yet_delivered() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 6).bytes(), 6));
    let mut held = script.records();
    held.next().unwrap().unwrap();
    held.next().unwrap().unwrap();
    assert_eq!(script.position(), Some(2));
    assert_eq!(
        script.asked_how_far(),
        Some(vec![]),
        "it may still be at work on it"
    );
    script.event();
    assert_eq!(
        script.asked_how_far(),
        Some(vec![2]),
        "it has come for more"
    );
}

#[test]
fn what_is_lost_is_gone_before_the_reader_hears_of_it() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 6).bytes(), 6));
    let mut held = script.records();
    script.revoke(RevokeHow::Lost, 2);
    assert!(held.next().is_none());
    assert!(!revoked(&script.facts(), 2), "the group waits until it has");
    match script.event() {
        Some(Ok(Event::Rebalance(Rebalance::Lost(partitions)))) => {
            assert_eq!(partitions, [tp("t", 0)]);
        }
        other => panic!("not told: {other:?}"),
    }
    assert!(revoked(&script.facts(), 2));
}

#[test]
fn leaving_asks_nobody() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 6).bytes(), 6));
    assert_eq!(script.records().count(), 6);
    script.inbox.settle();
    script.revoke(RevokeHow::Silently, 3);
    let facts = script.facts();
    assert!(revoked(&facts, 3));
    assert!(script.event().is_none());
}

#[test]
fn news_of_another_consumer_is_not_ours() {
    let mut script = Script::reading(options(), 0);
    script.hear(Fact::Revoking {
        consumer: CONSUMER + 1,
        partitions: Arc::from([tp("t", 0)]),
        how: RevokeHow::Lost,
        round: 1,
    });
    assert_eq!(script.position(), Some(0));
    assert!(script.event().is_none());
}
