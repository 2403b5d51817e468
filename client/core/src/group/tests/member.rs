//! A member by its calls and facts: joining, leading, giving up, being lost, leaving.

mod script;

use super::*;
use crate::call::{GroupMetadata, RevokeHow};
use crate::group::subscription::{Assignment, Subscription};
use bytes::Bytes;
use script::{CONSUMER, Group, assignment, by_hand, cooperative};
use tidewatch_protocol::messages::{LeaveGroupResponse, SyncGroupResponse};

#[test]
fn line_32_a_member_joins_in_two_steps_and_waits_for_the_whole_rebalance() {
    let mut group = Group::new(by_hand());
    group.subscribe();
    let (join, body) = group.join_call();
    assert_eq!((&*body.member_id, body.session_timeout_ms), ("", 45_000));
    assert_eq!(body.rebalance_timeout_ms, 300_000);
    assert_eq!(join.lane, Lane::Group(CONSUMER));
    assert_eq!(
        join.timeout_us, 305_000_000,
        "the rebalance timeout and slack"
    );
    group.refuse_join(&join, ErrorCode::MEMBER_ID_REQUIRED, "me");
    let (join, body) = group.join_call();
    assert_eq!(&*body.member_id, "me");
    group.reply_joined(&join, 1, "other", &[]);
    group.assign(&[0, 1]);
    let assigned = group.facts.iter().find_map(|fact| match fact {
        Fact::Assigned { partitions, .. } => Some(Arc::clone(partitions)),
        _ => None,
    });
    let assigned = assigned.expect("handed on");
    assert_eq!(assigned[0].1.as_ref().map(|offset| offset.offset), Some(10));
    let metadata = group.metadata();
    assert_eq!((metadata.generation_id, &*metadata.member_id), (1, "me"));
}

#[test]
fn line_33_a_leader_assigns_and_a_member_that_makes_no_sense_gets_nothing() {
    let mut group = Group::new(by_hand());
    group.subscribe();
    let (join, body) = group.join_call();
    let mine = body.protocols[0].metadata.clone();
    let members = [
        ("me", mine),
        (
            "broken",
            Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff]),
        ),
    ];
    group.reply_joined(&join, 1, "me", &members);
    let (_, sync) = group.sync_call();
    let of = |id: &str| {
        let mut assignments = sync.assignments.iter();
        let found = assignments.find(|a| &*a.member_id == id).unwrap();
        Assignment::decode(&found.assignment)
            .unwrap()
            .partitions
            .len()
    };
    assert_eq!((of("me"), of("broken")), (4, 0));
}

#[test]
fn a_leader_learns_the_topics_of_the_others_before_it_assigns() {
    let mut group = Group::new(by_hand());
    group.subscribe();
    let (join, body) = group.join_call();
    let other = Subscription {
        topics: vec![Arc::from("u")],
        ..Subscription::default()
    };
    let mine = body.protocols[0].metadata.clone();
    group.reply_joined(&join, 1, "me", &[("me", mine), ("other", other.encode())]);
    group.idle();
    let wants = |fact: &Fact| matches!(fact, Fact::TopicsWanted(topics) if *topics == ["u".into()]);
    assert!(group.facts.iter().any(wants));
    // Never learnt: what is known is assigned all the same.
    group.pass_ms(30_000);
    let mut calls = Vec::new();
    while let Some(call) = group.call() {
        calls.push(call);
    }
    assert!(
        calls
            .iter()
            .any(|call| matches!(call.body, Body::SyncGroup(_)))
    );
}

#[test]
fn a_leader_rejoins_when_a_topic_grows() {
    let mut group = Group::new(by_hand());
    group.subscribe();
    let (join, body) = group.join_call();
    group.reply_joined(
        &join,
        1,
        "me",
        &[("me", body.protocols[0].metadata.clone())],
    );
    let (sync, _) = group.sync_call();
    let response = SyncGroupResponse::default().with_assignment(assignment(&[]));
    group.reply(&sync, Response::SyncGroup(response));
    group.idle();
    group.learn_partitions(5);
    let (_, body) = group.join_call();
    assert_eq!(
        body.reason.as_deref(),
        Some("the partitions of a topic changed")
    );
}

#[test]
fn line_31_heartbeats_go_on_while_the_reader_is_slow_and_past_the_limit_it_leaves_once() {
    let limited = ConsumerOptions {
        max_poll_interval_ms: 10_000,
        ..by_hand()
    };
    let mut group = Group::member(limited, &[0]);
    for _ in 0..3 {
        group.hear(ErrorCode::NONE);
    }
    group.pass_ms(1_000);
    let (leave, body) = group.leave_call();
    assert_eq!(&*body.members[0].member_id, "me");
    assert_eq!(
        leave.lane,
        Lane::General,
        "nothing it waits for stands before it"
    );
    let (given_up, how, round) = group.revoking().unwrap();
    assert_eq!((given_up, how), (vec![0], RevokeHow::Lost));
    group.reply(&leave, Response::LeaveGroup(LeaveGroupResponse::default()));
    group.pass_ms(100_000);
    group.idle();
    group.pulse.beat();
    group.idle();
    group.revoked(round);
    let (_, body) = group.join_call();
    assert_eq!(&*body.member_id, "", "as a new member");
}

#[test]
fn line_31_a_reader_that_waits_is_not_late() {
    let limited = ConsumerOptions {
        max_poll_interval_ms: 10_000,
        ..by_hand()
    };
    let mut group = Group::member(limited, &[0]);
    let waiting = group.pulse.wait();
    for _ in 0..10 {
        group.hear(ErrorCode::NONE);
    }
    drop(waiting);
    group.hear(ErrorCode::NONE);
    assert_eq!(group.metadata().generation_id, 1);
}

#[test]
fn line_28_everything_is_given_up_before_the_join_and_the_reader_may_commit_meanwhile() {
    let mut group = Group::member(by_hand(), &[0, 1]);
    group.hear(ErrorCode::REBALANCE_IN_PROGRESS);
    let (given_up, how, round) = group.revoking().unwrap();
    assert_eq!((given_up, how), (vec![0, 1], RevokeHow::Ask));
    // The reader takes its time: heartbeats go on, and it commits as the member that it still is.
    group.hear(ErrorCode::REBALANCE_IN_PROGRESS);
    group.commit(20);
    let (commit, body) = group.commit_call();
    assert_eq!(
        (body.generation_id_or_member_epoch, &*body.member_id),
        (1, "me")
    );
    group.reply_commit(&commit, ErrorCode::NONE);
    assert!(group.room.poll_finished().unwrap().1.is_ok());
    group.revoked(round + 1);
    group.idle();
    group.revoked(round);
    let (_, body) = group.join_call();
    assert_eq!(&*body.member_id, "me");
    let subscription = Subscription::decode(&body.protocols[0].metadata).unwrap();
    assert_eq!(
        (subscription.owned, subscription.generation),
        (vec![], Some(1))
    );
}

#[test]
fn line_28_what_was_delivered_is_committed_before_partitions_go() {
    let auto = ConsumerOptions {
        auto_commit: true,
        ..by_hand()
    };
    let mut group = Group::member(auto, &[0]);
    group.hear(ErrorCode::REBALANCE_IN_PROGRESS);
    let (_, _, round) = group.revoking().unwrap();
    group.delivered(0, 17);
    group.revoked(round);
    let (commit, body) = group.commit_call();
    assert_eq!(body.topics[0].partitions[0].committed_offset, 17);
    assert_eq!(body.generation_id_or_member_epoch, 1);
    group.idle();
    group.reply_commit(&commit, ErrorCode::NONE);
    group.join_call();
}

#[test]
fn line_28_auto_commit_asks_how_far_the_reader_is_and_does_not_repeat_itself() {
    let auto = ConsumerOptions {
        auto_commit: true,
        ..by_hand()
    };
    let mut group = Group::member(auto, &[0]);
    group.hear(ErrorCode::NONE);
    group.pass_ms(2_000);
    group.idle();
    let asks = |fact: &Fact| matches!(fact, Fact::PositionsWanted { consumer: CONSUMER });
    assert!(group.facts.iter().any(asks));
    group.delivered(0, 17);
    let (commit, _) = group.commit_call();
    group.reply_commit(&commit, ErrorCode::NONE);
    group.delivered(0, 17);
    group.idle();
    group.delivered(3, 17);
    group.idle();
}

#[test]
fn no_auto_commit_timer_runs_while_the_reader_does_not_come_for_more() {
    let auto = ConsumerOptions {
        auto_commit: true,
        heartbeat_interval_ms: 60_000,
        max_poll_interval_ms: 900_000,
        ..by_hand()
    };
    let mut group = Group::member(auto, &[0]);
    let timer = |group: &Group| group.room.poll_timeout().map(|(_, timer)| timer);
    assert_eq!(timer(&group), Some(Timer::AutoCommit));
    group.pass_ms(5_000);
    group.idle();
    assert_eq!(timer(&group), Some(Timer::Heartbeat));

    group.pulse.beat();
    assert_eq!(timer(&group), Some(Timer::AutoCommit));

    // A commit that failed is made up for, whether the reader comes or not.
    group.pass_ms(5_000);
    group.idle();
    group.delivered(0, 17);
    let (commit, _) = group.commit_call();
    group.reply_commit(&commit, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    group.idle();
    assert_eq!(timer(&group), Some(Timer::AutoCommit));
}

#[test]
fn line_29_a_commit_after_the_revocation_is_refused_and_never_sent() {
    let mut group = Group::member(by_hand(), &[0]);
    group.hear(ErrorCode::REBALANCE_IN_PROGRESS);
    let (_, _, round) = group.revoking().unwrap();
    group.revoked(round);
    group.join_call();
    group.commit(20);
    group.idle();
    let error = group.error();
    assert!(error.contains("has taken these partitions"), "{error}");
}

#[test]
fn line_29_a_commit_that_meets_a_rebalance_comes_in_the_next_generation() {
    let mut group = Group::member(cooperative(), &[0, 1]);
    group.commit(20);
    let (commit, _) = group.commit_call();
    group.reply_commit(&commit, ErrorCode::REBALANCE_IN_PROGRESS);
    let (join, body) = group.join_call();
    let subscription = Subscription::decode(&body.protocols[0].metadata).unwrap();
    assert_eq!(subscription.owned, [tp(0), tp(1)], "it goes on reading");
    group.pass_ms(200);
    group.idle();
    group.reply_joined(&join, 2, "other", &[]);
    let (sync, _) = group.sync_call();
    let response = SyncGroupResponse::default().with_assignment(assignment(&[0, 1]));
    group.reply(&sync, Response::SyncGroup(response));
    let (commit, body) = group.commit_call();
    assert_eq!(body.generation_id_or_member_epoch, 2);
    group.reply_commit(&commit, ErrorCode::NONE);
    assert!(group.room.poll_finished().unwrap().1.is_ok());
}

#[test]
fn line_29_a_commit_of_a_member_that_is_unknown_loses_everything() {
    for (code, member_id) in [
        (ErrorCode::UNKNOWN_MEMBER_ID, ""),
        (ErrorCode::ILLEGAL_GENERATION, "me"),
    ] {
        let mut group = Group::member(by_hand(), &[0]);
        group.commit(20);
        let (commit, _) = group.commit_call();
        group.reply_commit(&commit, code);
        let (_, how, round) = group.revoking().unwrap();
        assert_eq!(how, RevokeHow::Lost, "{code}");
        group.pass_ms(200);
        group.idle();
        assert!(group.error().contains("ILLEGAL_GENERATION"), "{code}");
        group.revoked(round);
        let (_, body) = group.join_call();
        assert_eq!(&*body.member_id, member_id, "{code}");
    }
}

#[test]
fn line_30_a_coordinator_that_moved_is_looked_up_again_and_the_place_is_kept() {
    let mut group = Group::member(by_hand(), &[0]);
    group.hear(ErrorCode::NOT_COORDINATOR);
    group.idle();
    let lost = |fact: &Fact| matches!(fact, Fact::CoordinatorLost(_));
    assert!(group.facts.iter().any(lost));
    group.pass_ms(200);
    let (beat, body) = group.beat_call();
    assert_eq!(body.generation_id, 1);
    group.reply_beat(&beat, ErrorCode::NONE);
    assert_eq!(group.metadata().generation_id, 1);
}

#[test]
fn line_33_what_another_member_is_to_have_is_given_up_and_then_the_group_meets_again() {
    let mut group = Group::member(cooperative(), &[0, 1]);
    group.hear(ErrorCode::REBALANCE_IN_PROGRESS);
    let (join, _) = group.join_call();
    assert!(group.revoking().is_none(), "nothing yet");
    group.reply_joined(&join, 2, "other", &[]);
    group.assign(&[0]);
    let revoking = group.facts.iter().find_map(|fact| match fact {
        Fact::Revoking {
            partitions,
            how,
            round,
            ..
        } => Some((partitions.to_vec(), *how, *round)),
        _ => None,
    });
    let (given_up, how, round) = revoking.unwrap();
    assert_eq!((given_up, how), (vec![tp(1)], RevokeHow::Ask));
    group.idle();
    group.revoked(round);
    let (_, body) = group.join_call();
    let subscription = Subscription::decode(&body.protocols[0].metadata).unwrap();
    assert_eq!(
        (subscription.owned, subscription.generation),
        (vec![tp(0)], Some(2))
    );
}

#[test]
fn line_34_a_static_member_says_no_goodbye() {
    let fixed = ConsumerOptions {
        group_instance_id: Some("i".to_owned()),
        ..by_hand()
    };
    let mut group = Group::member(fixed, &[0]);
    let request = group.command(Command::Unsubscribe);
    let (_, how, round) = group.revoking().unwrap();
    assert_eq!(how, RevokeHow::Silently);
    group.revoked(round);
    group.idle();
    let (finished, end) = group.room.poll_finished().unwrap();
    assert_eq!(finished, request);
    assert!(end.is_ok());
}

#[test]
fn line_34_a_fenced_member_is_told_and_stays_out() {
    let fixed = ConsumerOptions {
        group_instance_id: Some("i".to_owned()),
        ..by_hand()
    };
    let mut group = Group::member(fixed, &[0]);
    group.hear(ErrorCode::FENCED_INSTANCE_ID);
    group.idle();
    let told = group.facts.iter().find_map(|fact| match fact {
        Fact::MembershipFailed { error, .. } => Some(error.to_string()),
        _ => None,
    });
    let told = told.expect("the reader hears of it");
    assert!(told.contains("give each its own"), "{told}");
    group.pass_ms(1_000_000);
    group.idle();
}

#[test]
fn line_34_closing_commits_and_then_leaves() {
    let auto = ConsumerOptions {
        auto_commit: true,
        ..by_hand()
    };
    let mut group = Group::member(auto, &[0]);
    let request = group.command(Command::Unsubscribe);
    let (_, how, round) = group.revoking().unwrap();
    assert_eq!(how, RevokeHow::Silently);
    group.delivered(0, 17);
    group.revoked(round);
    let (commit, body) = group.commit_call();
    assert_eq!(body.topics[0].partitions[0].committed_offset, 17);
    group.idle();
    group.reply_commit(&commit, ErrorCode::NONE);
    let (leave, body) = group.leave_call();
    assert_eq!(&*body.members[0].member_id, "me");
    assert!(group.room.poll_finished().is_none());
    group.reply(&leave, Response::LeaveGroup(LeaveGroupResponse::default()));
    group.idle();
    assert_eq!(group.room.poll_finished().unwrap().0, request);
}

#[test]
fn closing_waits_for_no_reader() {
    let mut group = Group::member(by_hand(), &[0]);
    group.hear(ErrorCode::UNKNOWN_MEMBER_ID);
    let (_, how, _) = group.revoking().unwrap();
    assert_eq!(how, RevokeHow::Lost);
    let request = group.command(Command::Unsubscribe);
    group.idle();
    assert_eq!(group.room.poll_finished().unwrap().0, request);
}

#[test]
fn what_was_found_for_an_earlier_assignment_is_not_taken_for_this_one() {
    let mut group = Group::new(by_hand());
    group.subscribe();
    let (join, _) = group.join_call();
    group.reply_joined(&join, 1, "other", &[]);
    let (sync, _) = group.sync_call();
    let response = SyncGroupResponse::default().with_assignment(assignment(&[0]));
    group.reply(&sync, Response::SyncGroup(response));
    let early = group.call().expect("a look-up");
    group.hear(ErrorCode::REBALANCE_IN_PROGRESS);
    let (join, _) = group.join_call();
    group.reply_joined(&join, 2, "other", &[]);
    let (sync, _) = group.sync_call();
    let response = SyncGroupResponse::default().with_assignment(assignment(&[1]));
    group.reply(&sync, Response::SyncGroup(response));
    group.reply(&early, found_in_group(vec![found(0, 10, ErrorCode::NONE)]));
    let late = group.call().expect("a look-up of its own");
    let handed_on = |group: &Group| {
        let facts = group.facts.iter();
        let assigned = facts.filter(|fact| matches!(fact, Fact::Assigned { .. }));
        assigned.count()
    };
    assert_eq!(handed_on(&group), 0);
    group.reply(&late, found_in_group(vec![found(1, 12, ErrorCode::NONE)]));
    group.idle();
    assert_eq!(handed_on(&group), 1);
}

#[test]
fn a_subscription_that_cannot_be_is_refused_at_once() {
    let without = ConsumerOptions {
        group_id: None,
        ..by_hand()
    };
    let mut group = Group::new(without);
    group.command(Command::Subscribe(vec![Arc::from("t")]));
    assert!(group.error().contains("no group.id"));
    let mut group = Group::new(by_hand());
    group.command(Command::Subscribe(Vec::new()));
    assert!(group.error().contains("at least one topic"));
}

#[test]
fn every_version_of_every_request_can_be_written() {
    let fixed = GroupMetadata {
        group_id: Arc::from("g"),
        generation_id: 1,
        member_id: Arc::from("me"),
        group_instance_id: None,
    };
    let join = crate::group::requests::join_group(&fixed, 1, 1, Vec::new(), &"é".repeat(300));
    let sync = crate::group::requests::sync_group(&fixed, "range", Vec::new());
    let bodies = [
        (9, Body::JoinGroup(join.into())),
        (5, Body::SyncGroup(sync.into())),
        (
            4,
            Body::Heartbeat(crate::group::requests::heartbeat(&fixed).into()),
        ),
        (
            5,
            Body::LeaveGroup(crate::group::requests::leave_group(&fixed, "why").into()),
        ),
    ];
    for (last, body) in bodies {
        for version in 0..=last {
            let written = body.encode(version, 1, "c");
            assert!(written.is_ok(), "{:?} {version}: {written:?}", body.api());
        }
    }
}

#[test]
fn a_member_that_is_dropped_leaves_at_once_and_commits_nothing() {
    let auto = ConsumerOptions {
        auto_commit: true,
        ..by_hand()
    };
    let mut group = Group::member(auto, &[0]);
    group.room.handle_parting();
    let (leave, body) = group.leave_call();
    assert_eq!(&*body.members[0].member_id, "me");
    group.delivered(0, 17);
    group.idle();
    assert!(!group.room.has_parted());
    group.reply(&leave, Response::LeaveGroup(LeaveGroupResponse::default()));
    group.idle();
    assert!(group.room.has_parted());
}

#[test]
fn line_34_a_static_member_that_is_dropped_keeps_its_place() {
    let fixed = ConsumerOptions {
        group_instance_id: Some("fixed".to_owned()),
        ..by_hand()
    };
    let mut group = Group::member(fixed, &[0]);
    group.room.handle_parting();
    group.idle();
    assert!(group.room.has_parted());
}
