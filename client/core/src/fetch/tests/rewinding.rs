//! A transaction that is made of what was read: its positions, and what is read again once it failed.

use super::groups::CONSUMER;
use super::log::batch;
use super::*;
use crate::call::{GroupMetadata, OffsetAndMetadata, RevokeHow};
use crate::fetch::inbox::{Progress, Rebalance};

fn in_group() -> ConsumerOptions {
    ConsumerOptions {
        group_id: Some("g".to_owned()),
        auto_commit: false,
        ..options()
    }
}

fn member(generation_id: i32) -> GroupMetadata {
    GroupMetadata {
        generation_id,
        member_id: Arc::from("m"),
        ..GroupMetadata::without_membership("g")
    }
}

impl Script {
    /// A member of generation 1 that reads partition 0 of `t` from `offset` on.
    fn member_at(offset: i64) -> Self {
        let mut script = Self::new(in_group());
        script.cluster(cluster(&[1, 1]));
        script.assigned(1, &[(0, offset)]);
        script.event();
        script.facts();
        script
    }

    fn assigned(&mut self, generation_id: i32, partitions: &[(i32, i64)]) {
        let with_offsets = partitions.iter().map(|(partition, offset)| {
            let offset = OffsetAndMetadata::new(*offset, -1);
            (tp("t", *partition), Some(offset))
        });
        self.hear(Fact::Assigned {
            consumer: CONSUMER,
            partitions: with_offsets.collect(),
            member: member(generation_id),
        });
    }

    /// The next records, of which so many are taken.
    fn take(&mut self, count: usize) {
        let taken = self.records().take(count).map(Result::unwrap).count();
        assert_eq!(taken, count);
    }

    /// Goes back; the round in which the group is asked where to.
    fn rewind(&mut self) -> u64 {
        self.command(Command::Rewind);
        assert!(self.finished().unwrap().is_ok());
        let rounds = self.facts().into_iter().filter_map(|fact| match fact {
            Fact::CommittedWanted { round, .. } => Some(round),
            _ => None,
        });
        rounds.last().expect("the group is asked")
    }

    fn committed(&mut self, round: u64, offset: Option<i64>) {
        let offset = offset.map(|offset| OffsetAndMetadata::new(offset, -1));
        self.hear(Fact::Committed {
            consumer: CONSUMER,
            committed: Arc::from([(tp("t", 0), offset)]),
            round,
        });
    }

    fn progress(&self) -> Progress {
        self.inbox.take_progress().expect("nothing was taken")
    }

    fn must_abort(&self) {
        let refused = self.inbox.take_progress();
        assert!(
            matches!(refused, Err(Error::MustAbort { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn line_19_after_a_rewind_what_was_not_committed_is_read_again() {
    let mut script = Script::member_at(0);
    script.exchange(data(batch(0, 6).bytes(), 6));
    let mut held = script.records();
    assert_eq!(held.by_ref().take(4).count(), 4);
    let round = script.rewind();
    assert!(held.next().is_none(), "nothing from before is delivered");
    drop(held);
    assert_eq!(script.position(), None);
    assert!(script.event().is_none() && script.call().is_none());
    script.committed(round, Some(2));
    assert_eq!(script.position(), Some(2));
    script.exchange(data(batch(0, 6).bytes(), 6));
    assert_eq!(script.read_all(), [2, 3, 4, 5]);
}

#[test]
fn line_19_a_rewind_goes_back_to_where_reading_began_while_nothing_is_committed() {
    let mut script = Script::reading(in_group(), 3);
    script.exchange(data(batch(0, 6).bytes(), 6));
    script.take(2);
    let round = script.rewind();
    script.committed(round, None);
    assert_eq!(script.position(), Some(3));
}

#[test]
fn a_rewind_where_an_offset_was_looked_up_first_goes_back_to_that() {
    let mut script = Script::new(in_group());
    script.cluster(cluster(&[1]));
    script.assign(0, Start::Latest);
    script.facts();
    let (call, _) = script.list_offsets();
    script.reply_offset(&call, ErrorCode::NONE, 7);
    script.exchange(data(batch(7, 3).bytes(), 10));
    script.take(3);
    let round = script.rewind();
    script.committed(round, None);
    assert_eq!(script.position(), Some(7), "not to the end of now");
}

#[test]
fn what_was_looked_up_for_an_earlier_rewind_or_assignment_moves_nothing() {
    let mut script = Script::member_at(0);
    let first = script.rewind();
    let second = script.rewind();
    script.committed(first, Some(1));
    assert_eq!(script.position(), None);
    script.committed(second, Some(2));
    script.committed(second, Some(3));
    assert_eq!(script.position(), Some(2));

    let third = script.rewind();
    script.revoke(RevokeHow::Lost, 1);
    script.assigned(3, &[(0, 9)]);
    script.committed(third, Some(2));
    assert_eq!(script.position(), Some(9), "another member committed since");
}

#[test]
fn line_19_positions_go_with_the_member_that_the_reader_knows() {
    let mut script = Script::member_at(0);
    script.exchange(data(batch(0, 6).bytes(), 6));
    script.take(4);
    script.assigned(2, &[]);
    let progress = script.progress();
    assert_eq!(progress.member, member(1), "not told yet");
    let (partition, offset) = &progress.positions[0];
    assert_eq!((partition, offset.offset), (&tp("t", 0), 4));
    script.event();
    assert_eq!(script.progress().member, member(2));
    script.inbox.forget_member();
    assert_eq!(script.inbox.member().generation_id, -1);
}

#[test]
fn line_19_what_is_lost_before_its_positions_were_sent_spoils_the_transaction() {
    let mut script = Script::member_at(0);
    script.exchange(data(batch(0, 6).bytes(), 6));
    script.take(1);
    script.revoke(RevokeHow::Lost, 1);
    script.must_abort();
    // Hearing of it, and being given something else, cures nothing.
    script.event();
    script.assigned(3, &[(0, 0)]);
    script.event();
    script.must_abort();
    let round = script.rewind();
    script.committed(round, Some(1));
    assert_eq!(script.progress().positions[0].1.offset, 1);
}

#[test]
fn line_19_a_revocation_that_is_over_before_positions_were_sent_spoils_the_transaction() {
    for sends in [false, true] {
        let mut script = Script::member_at(0);
        script.exchange(data(batch(0, 6).bytes(), 6));
        script.take(6);
        script.revoke(RevokeHow::Ask, 1);
        let revocation = script.revocation();
        if sends {
            assert_eq!(script.progress().positions[0].1.offset, 6);
        }
        drop(revocation);
        match sends {
            true => assert!(script.progress().positions.is_empty()),
            false => script.must_abort(),
        }
    }
}

#[test]
fn what_was_never_delivered_spoils_nothing_when_it_goes() {
    let mut script = Script::member_at(0);
    script.exchange(data(batch(0, 6).bytes(), 6));
    script.revoke(RevokeHow::Lost, 1);
    assert!(script.progress().positions.is_empty());
}

#[test]
fn a_rewind_gives_nothing_out_of_what_is_being_given_up() {
    let mut script = Script::member_at(0);
    script.exchange(data(batch(0, 6).bytes(), 6));
    script.take(1);
    script.revoke(RevokeHow::Ask, 1);
    let revocation = script.revocation();
    let round = script.rewind();
    script.committed(round, Some(0));
    script.exchange(data(batch(0, 6).bytes(), 6));
    assert!(script.event().is_none());
    drop(revocation);
    assert!(
        script.progress().positions.is_empty(),
        "and nothing is owed"
    );
}

#[test]
fn a_rewind_keeps_a_pause() {
    let mut script = Script::member_at(0);
    script.command(Command::Pause(vec![tp("t", 0)]));
    assert!(script.finished().unwrap().is_ok());
    let round = script.rewind();
    script.committed(round, Some(0));
    assert!(script.status(0).is_paused);
}

#[test]
fn without_a_group_there_is_nothing_to_go_back_to() {
    let mut script = Script::reading(options(), 0);
    script.command(Command::Rewind);
    assert!(matches!(script.finished(), Some(Err(Error::Usage(_)))));
    assert!(matches!(script.inbox.take_progress(), Err(Error::Usage(_))));
    assert_eq!(script.position(), Some(0));
}

#[test]
fn positions_are_not_sent_with_transactions_and_committed_beside_them() {
    let with_auto_commit = ConsumerOptions {
        auto_commit: true,
        ..in_group()
    };
    let script = Script::reading(with_auto_commit, 0);
    let refused = script.inbox.take_progress().unwrap_err();
    assert!(
        refused.to_string().contains("enable.auto.commit"),
        "{refused}"
    );
}

#[test]
fn a_lost_partition_is_told_to_the_reader_all_the_same() {
    let mut script = Script::member_at(0);
    script.rewind();
    script.revoke(RevokeHow::Lost, 1);
    match script.event() {
        Some(Ok(Event::Rebalance(Rebalance::Lost(partitions)))) => {
            assert_eq!(partitions, [tp("t", 0)]);
        }
        other => panic!("not told: {other:?}"),
    }
}
