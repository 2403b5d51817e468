//! The picture of the cluster, through the whole client.

use super::*;
use crate::admin::{self, NewTopic};
use crate::call::{Room, TopicPartition};
use crate::metadata::{MetadataRoom, Topic};
use tidewatch_protocol::messages::create_topics_response::CreatableTopicResult;
use tidewatch_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use uuid::Uuid;

pub(super) const T: Uuid = Uuid::from_u128(7);

fn partition(index: i32, leader: i32, epoch: i32) -> MetadataResponsePartition {
    MetadataResponsePartition::default()
        .with_partition_index(index)
        .with_leader_id(leader.into())
        .with_leader_epoch(epoch)
}

pub(super) fn topic(name: &str, id: Uuid, partitions: &[(i32, i32)]) -> MetadataResponseTopic {
    let numbered = (0..).zip(partitions);
    let partitions = numbered.map(|(index, (leader, epoch))| partition(index, *leader, *epoch));
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(name.to_owned().into())))
        .with_topic_id(id)
        .with_partitions(partitions.collect())
}

fn failed(name: &str, code: ErrorCode) -> MetadataResponseTopic {
    topic(name, Uuid::nil(), &[]).with_error_code(code.0)
}

pub(super) fn response(topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
    let brokers = [1, 2].map(|id: i32| {
        MetadataResponseBroker::default()
            .with_node_id(id.into())
            .with_host(format!("broker-{id}").into())
            .with_port(9092)
    });
    MetadataResponse::default()
        .with_brokers(brokers.to_vec())
        .with_controller_id(1.into())
        .with_topics(topics)
}

/// Answers the next request with these topics.
#[track_caller]
pub(super) fn tell(script: &mut Script<Client>, topics: Vec<MetadataResponseTopic>) -> Sent {
    let sent = script.expect_send();
    assert_eq!(sent.api(), ApiKey::Metadata);
    script.answer::<MetadataRequest>(&sent, &response(topics));
    sent
}

#[track_caller]
fn told(script: &mut Script<Client>) -> Arc<Cluster> {
    match script.expect_finished().1 {
        Ok(Outcome::Cluster(cluster)) => cluster,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_that_is_asked_nothing_does_nothing() {
    let mut script = Script::client(&[]);
    script.expect_nothing();
    assert_eq!(script.core.poll_timeout(), None);
}

#[test]
fn line_50_topics_wanted_together_are_asked_for_in_one_request() {
    let mut script = Script::client(&[]);
    script.wait_for(&["a"], 1000);
    script.wait_for(&["b", "a"], 1000);
    script.open();
    let sent = tell(
        &mut script,
        vec![topic("a", T, &[(1, 0)]), topic("b", Uuid::nil(), &[(2, 0)])],
    );
    assert_eq!(sent.metadata_topics(), ["a", "b"]);
    assert_eq!(told(&mut script).leader("a", 0), Some((BrokerId(1), 0)));
    assert_eq!(told(&mut script).leader("b", 0), Some((BrokerId(2), 0)));
    script.expect_nothing();
}

#[test]
fn line_50_a_topic_that_nobody_uses_any_more_is_forgotten() {
    let mut script = Script::client(&[]);
    script.wait_for(&["a"], 1000);
    script.open();
    tell(&mut script, vec![topic("a", T, &[(1, 0)])]);
    told(&mut script);
    script.wait_for(&["b"], 1000);
    let sent = tell(&mut script, vec![topic("b", Uuid::nil(), &[(1, 0)])]);
    assert_eq!(sent.metadata_topics(), ["b"]);
    assert!(!told(&mut script).topics.contains_key("a"));
}

#[test]
fn line_50_one_request_at_a_time_and_stale_news_only_with_backoff() {
    let mut room = wanting(&["a"]);
    let call = room
        .poll_call(now_ms(0), &all())
        .expect("the first request");
    room.handle_fact(now_ms(0), &Fact::MetadataStale);
    assert!(
        room.poll_call(now_ms(0), &all()).is_none(),
        "one is under way"
    );

    reply(
        &mut room,
        now_ms(1),
        call.id,
        response(vec![topic("a", T, &[(1, 0)])]),
    );
    room.handle_fact(now_ms(1), &Fact::MetadataStale);
    assert!(room.poll_call(now_ms(1), &all()).is_none(), "just read");
    let (at, _) = room.poll_timeout().unwrap();
    assert!((80_000..=121_000).contains(&at), "{at}");
    assert!(room.poll_call(now_ms(121), &all()).is_some());
}

#[test]
fn another_controller_in_each_answer_is_no_reason_to_ask_sooner() {
    let mut room = wanting(&["a"]);
    let mut asked = Vec::new();
    for ms in 0..10_000 {
        room.handle_fact(now_ms(ms), &Fact::MetadataStale);
        if let Some(call) = room.poll_call(now_ms(ms), &all()) {
            asked.push(ms);
            // As a broker under KRaft does.
            let controller = 1 + i32::try_from(asked.len() % 2).unwrap();
            let answer = response(vec![topic("a", T, &[(1, 0)])]);
            let answer = answer.with_controller_id(controller.into());
            reply(&mut room, now_ms(ms), call.id, answer);
        }
    }
    let waits: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.last().is_some_and(|wait| *wait >= 800), "{waits:?}");
}

#[test]
fn metadata_is_read_again_when_it_is_old_and_not_before() {
    let mut room = wanting(&["a"]);
    let call = room.poll_call(now_ms(0), &all()).unwrap();
    reply(
        &mut room,
        now_ms(0),
        call.id,
        response(vec![topic("a", T, &[(1, 0)])]),
    );
    assert_eq!(
        room.poll_timeout(),
        Some((300 * SECOND_US, Timer::MetadataAge))
    );
    assert!(room.poll_call(now_ms(299_999), &all()).is_none());
    assert!(room.poll_call(now_ms(300_000), &all()).is_some());
}

#[test]
fn line_48_a_just_created_topic_is_asked_for_again_until_it_is_known() {
    let mut script = Script::client(&[]);
    let request = script.wait_for(&["new"], 10_000);
    script.open();
    tell(
        &mut script,
        vec![failed("new", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)],
    );
    script.expect_nothing();
    script.pass_ms(150);
    tell(&mut script, vec![topic("new", T, &[(1, 0), (2, 0)])]);
    let (finished, outcome) = script.expect_finished();
    assert_eq!(finished, request);
    let Ok(Outcome::Cluster(cluster)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(cluster.partition_count("new"), Some(2));
}

#[test]
fn line_48_an_unknown_topic_ends_with_its_error_soon_and_is_not_created() {
    let mut script = Script::client(&[]);
    script.wait_for(&["no"], 60_000);
    script.open();
    let mut asked = 0;
    let cluster = loop {
        match script.next_action() {
            Some(Action::Send(connection, frame)) => {
                let sent = read_request(connection, &frame);
                assert_eq!(sent.metadata_topics(), ["no"]);
                let unknown = failed("no", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
                script.answer::<MetadataRequest>(&sent, &response(vec![unknown]));
                asked += 1;
            }
            Some(Action::Finished(_, Ok(Outcome::Cluster(cluster)))) => break cluster,
            Some(other) => panic!("{other:?}"),
            None => script.pass_ms(50),
        }
    };
    let error = cluster.topics["no"].error;
    assert_eq!(error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert!((3..=10).contains(&asked), "{asked} requests in 2 s");
    assert_eq!(script.now.monotonic_us / 100_000, 20);
}

#[test]
fn line_48_a_topic_is_given_its_time_however_late_the_brokers_are_reached() {
    let mut script = Script::client(&[]);
    script.wait_for(&["new"], 60_000);
    let sent = script.open();
    script.pass_ms(20_000);
    let unknown = failed("new", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(tell(&mut script, vec![unknown]).connection, sent);
    script.pass_ms(1_000);
    tell(&mut script, vec![topic("new", T, &[(1, 0)])]);
    assert_eq!(told(&mut script).partition_count("new"), Some(1));
}

#[test]
fn a_topic_that_loads_is_waited_for_until_the_deadline() {
    let mut script = Script::client(&[]);
    script.wait_for(&["a"], 9_000);
    script.open();
    let passing = failed("a", ErrorCode::LEADER_NOT_AVAILABLE);
    let began = script.now.monotonic_us;
    while script.now.monotonic_us < began + 8_000_000 {
        match script.next_action() {
            Some(Action::Send(connection, frame)) => {
                let sent = read_request(connection, &frame);
                script.answer::<MetadataRequest>(&sent, &response(vec![passing.clone()]));
            }
            Some(other) => panic!("{other:?}"),
            None => script.pass_ms(50),
        }
    }
}

#[test]
fn line_43_a_topic_that_may_not_be_read_ends_with_its_error_at_once() {
    let mut script = Script::client(&[]);
    script.wait_for(&["secret"], 60_000);
    script.open();
    let code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    tell(&mut script, vec![failed("secret", code)]);
    assert_eq!(told(&mut script).topics["secret"].error, code);
}

#[test]
fn line_43_a_topic_of_no_partitions_and_partitions_of_no_leader_are_read() {
    let mut script = Script::client(&[]);
    script.wait_for(&["empty", "headless"], 1000);
    script.open();
    let topics = vec![
        topic("empty", T, &[]),
        topic("headless", Uuid::nil(), &[(-1, 4), (2, 1)]),
    ];
    tell(&mut script, topics);
    let cluster = told(&mut script);
    assert_eq!(cluster.partition_count("empty"), Some(0));
    assert_eq!(cluster.leader("headless", 0), None);
    assert_eq!(cluster.leader("headless", 1), Some((BrokerId(2), 1)));
}

#[test]
fn line_44_unknown_error_codes_are_kept_as_they_are() {
    let mut script = Script::client(&[]);
    script.wait_for(&["odd"], 1000);
    script.open();
    tell(&mut script, vec![failed("odd", ErrorCode(31_000))]);
    assert_eq!(told(&mut script).topics["odd"].error, ErrorCode(31_000));
}

#[test]
fn line_43_without_any_broker_the_deadline_says_why() {
    let mut script = Script::client(&[]);
    script.wait_for(&["a"], 1_000);
    let error = loop {
        match script.next_action() {
            Some(Action::Resolve { connection, .. }) => {
                script
                    .core
                    .handle_resolved(script.now, connection, Err("no such host".into()));
            }
            Some(Action::Finished(_, Err(error))) => break error.to_string(),
            Some(other) => panic!("{other:?}"),
            None => script.pass_ms(50),
        }
    };
    assert!(error.contains("within 1000 ms"), "{error}");
    assert!(
        error.contains("boot:9092") && error.contains("no such host"),
        "{error}"
    );
}

fn all() -> crate::call::Permits {
    crate::call::Permits::all()
}

fn now_ms(ms: u64) -> Now {
    Now {
        monotonic_us: ms * 1000,
        wall_ms: 0,
    }
}

fn wanting(topics: &[&str]) -> MetadataRoom {
    let mut room = MetadataRoom::new(options(&[]).client, SEED);
    let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
    room.handle_fact(now_ms(0), &Fact::TopicsWanted(topics));
    room
}

fn reply(room: &mut MetadataRoom, now: Now, id: CallId, response: MetadataResponse) {
    let reply = Reply {
        response: crate::call::Response::Metadata(response),
        version: 13,
        broker: BrokerId(1),
    };
    room.handle_reply(now, id, Ok(reply));
}

/// The room after each of these answers, a minute apart.
fn after(answers: &[MetadataResponseTopic]) -> MetadataRoom {
    let mut room = wanting(&["a"]);
    for (minute, answer) in (0..).zip(answers) {
        let now = now_ms(minute * 60_000);
        room.handle_fact(now, &Fact::MetadataStale);
        let call = room.poll_call(now, &all()).expect("a request");
        reply(&mut room, now, call.id, response(vec![answer.clone()]));
    }
    room
}

fn known(room: &MetadataRoom) -> &Topic {
    &room.cluster().topics["a"]
}

#[test]
fn line_43_an_older_epoch_is_ignored_partition_by_partition() {
    let newer = topic("a", T, &[(1, 5), (1, 3)]);
    let mixed = topic("a", T, &[(2, 4), (2, 4)]);
    let room = after(&[newer, mixed]);
    assert_eq!(room.cluster().leader("a", 0), Some((BrokerId(1), 5)));
    assert_eq!(room.cluster().leader("a", 1), Some((BrokerId(2), 4)));
}

#[test]
fn line_11_a_topic_created_again_under_a_new_id_begins_with_new_epochs() {
    let before = topic("a", T, &[(1, 5)]);
    let again = topic("a", Uuid::from_u128(8), &[(2, 0)]);
    let room = after(&[before, again]);
    assert_eq!(room.cluster().leader("a", 0), Some((BrokerId(2), 0)));
    assert_eq!(room.cluster().names.len(), 1);
}

#[test]
fn line_43_a_leader_that_went_away_is_not_kept() {
    let room = after(&[topic("a", T, &[(1, 5)]), topic("a", T, &[(-1, 6)])]);
    assert_eq!(room.cluster().leader("a", 0), None);
}

#[test]
fn which_replicas_are_in_sync_is_told_as_the_broker_tells_it() {
    let mut answer = topic("a", T, &[(2, 5)]);
    let nodes = |ids: &[i32]| ids.iter().map(|id| (*id).into()).collect();
    answer.partitions[0].replica_nodes = nodes(&[2, 3, 1]);
    answer.partitions[0].isr_nodes = nodes(&[2, 1]);
    let room = after(&[answer]);
    let partition = room.cluster().partition("a", 0).unwrap();
    assert_eq!(partition.replicas, [2, 3, 1].map(BrokerId));
    assert_eq!(partition.in_sync_replicas, [2, 1].map(BrokerId));
}

#[test]
fn line_26_a_hint_moves_the_leader_at_once_if_its_epoch_is_newer() {
    let mut room = after(&[topic("a", T, &[(1, 5)])]);
    while room.poll_fact(now_ms(0)).is_some() {}
    let hint = |epoch, leader: i32, address: Option<(Arc<str>, u16)>| Fact::LeaderHint {
        partition: TopicPartition {
            topic: "a".into(),
            partition: 0,
        },
        leader: BrokerId(leader),
        epoch,
        address,
    };
    for old in [4, 5] {
        room.handle_fact(now_ms(0), &hint(old, 2, None));
        assert_eq!(room.cluster().leader("a", 0), Some((BrokerId(1), 5)));
    }
    room.handle_fact(now_ms(0), &hint(6, 9, None));
    assert_eq!(
        room.cluster().leader("a", 0),
        Some((BrokerId(1), 5)),
        "nobody knows where 9 is"
    );

    room.handle_fact(now_ms(0), &hint(6, 9, Some(("broker-9".into(), 9092))));
    assert_eq!(room.cluster().leader("a", 0), Some((BrokerId(9), 6)));
    assert!(matches!(
        room.poll_fact(now_ms(0)),
        Some(Fact::ClusterChanged(_))
    ));
}

#[test]
fn a_passing_error_keeps_what_is_known_of_the_topic() {
    let passing = failed("a", ErrorCode::LEADER_NOT_AVAILABLE).with_topic_id(T);
    let room = after(&[topic("a", T, &[(1, 5)]), passing]);
    assert_eq!(known(&room).error, ErrorCode::LEADER_NOT_AVAILABLE);
    assert_eq!(known(&room).partitions.len(), 1);
}

#[test]
fn partition_numbers_out_of_range_and_topics_not_asked_for_are_not_believed() {
    let mut odd = topic("a", T, &[(1, 0)]);
    odd.partitions
        .extend([partition(i32::MAX, 1, 0), partition(-5, 1, 0)]);
    let room = after(&[odd]);
    assert_eq!(known(&room).partitions.len(), 3);
    let room = after(&[topic("z", T, &[(1, 0)])]);
    assert!(room.cluster().topics.is_empty());
}

#[test]
fn line_43_when_told_to_bootstrap_anew_no_known_broker_is_trusted() {
    let mut room = after(&[topic("a", T, &[(1, 5)])]);
    room.handle_fact(now_ms(90_000), &Fact::MetadataStale);
    let call = room.poll_call(now_ms(90_000), &all()).unwrap();
    let told = MetadataResponse::default().with_error_code(ErrorCode::REBOOTSTRAP_REQUIRED.0);
    reply(&mut room, now_ms(90_000), call.id, told);
    assert!(room.cluster().brokers.is_empty());
    assert_eq!(room.poll_timeout().unwrap().1, Timer::Retry);
}

/// Brokers 1 and 2 are known; then every request fails, `failures` of them half a minute apart.
fn failing(settings: &[(&str, &str)], failures: u64) -> MetadataRoom {
    let mut room = MetadataRoom::new(options(settings).client, SEED);
    room.handle_fact(now_ms(0), &Fact::TopicsWanted(vec!["a".into()]));
    let call = room.poll_call(now_ms(0), &all()).unwrap();
    let known = response(vec![topic("a", T, &[(1, 5)])]);
    reply(&mut room, now_ms(0), call.id, known);
    room.handle_fact(now_ms(1_000), &Fact::MetadataStale);
    for failure in 1..=failures {
        let call = room.poll_call(now_ms(failure * 30_000), &all()).unwrap();
        let error = CallError {
            kind: CallErrorKind::TimedOut {
                address: "broker-1:9092".to_owned(),
                timeout_ms: 30_000,
            },
            written: true,
            broker: Some(BrokerId(1)),
        };
        let end = now_ms(failure * 30_000 + 28_000);
        room.handle_reply(end, call.id, Err(error));
    }
    room
}

#[test]
fn line_43_brokers_that_give_no_metadata_for_five_minutes_are_given_up() {
    // The first request went out after 30 s: the tenth fails 298 s later.
    assert_eq!(failing(&[], 10).cluster().brokers.len(), 2);
    assert!(failing(&[], 11).cluster().brokers.is_empty());
    let soon = [("metadata.recovery.rebootstrap.trigger.ms", "20000")];
    assert!(failing(&soon, 1).cluster().brokers.is_empty());
    let never = [("metadata.recovery.strategy", "none")];
    assert_eq!(failing(&never, 11).cluster().brokers.len(), 2);
}

#[test]
fn topics_are_created_by_the_controller_and_again_where_it_moved() {
    let mut script = Script::client(&[]);
    let command = admin::Command::CreateTopics {
        topics: vec![NewTopic::new("a", 3), NewTopic::new("b", 1)],
        validate_only: false,
    };
    script.command(crate::client::Command::Admin(command.into()));
    script.open();
    tell(&mut script, Vec::new());
    assert_eq!(script.expect_resolve().1, "broker-1:9092");
    let created = |name: &'static str, code: ErrorCode| {
        CreatableTopicResult::default()
            .with_name(TopicName(name.into()))
            .with_error_code(code.0)
    };

    // Opened by hand, because the resolution was looked at above.
    script.resolved(ConnectionId(2), &["10.0.0.1:9092"]);
    let (id, _) = script.expect_connect();
    script.core.connected(script.now, id);
    script.agree();
    let sent = script.expect_send();
    assert_eq!(sent.api(), ApiKey::CreateTopics);
    let topics = vec![
        created("a", ErrorCode::TOPIC_ALREADY_EXISTS),
        created("b", ErrorCode::NOT_CONTROLLER),
    ];
    let first = CreateTopicsResponse::default().with_topics(topics);
    script.answer::<CreateTopicsRequest>(&sent, &first);

    script.pass_ms(1000);
    let resent = loop {
        let sent = script.expect_send();
        if sent.api() == ApiKey::CreateTopics {
            break sent;
        }
        // The controller moved, so the picture is stale.
        script.answer::<MetadataRequest>(&sent, &response(Vec::new()));
    };
    let request = decode_request::<CreateTopicsRequest>(resent.body.clone(), 7).unwrap();
    assert_eq!(request.topics.len(), 1);
    assert_eq!(&*request.topics[0].name.0, "b");
    let done = CreateTopicsResponse::default().with_topics(vec![created("b", ErrorCode::NONE)]);
    script.answer::<CreateTopicsRequest>(&resent, &done);
    let results = loop {
        match script.action() {
            Action::Finished(_, Ok(Outcome::Topics(results))) => break results,
            Action::Send(..) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(results[0].1.as_ref().is_err_and(Error::is_topic_exists));
    assert_eq!(results[1], ("b".into(), Ok(())));
}
