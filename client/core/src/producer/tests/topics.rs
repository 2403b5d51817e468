//! Topics that come, grow, move and are made anew.

use super::*;
use crate::producer::accumulator::Refused;
use crate::producer::partitioner::Partitioner;
use crate::time::ReadTime;
use std::cell::RefCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

#[test]
fn line_11_a_topic_made_anew_gets_new_sequences() {
    let mut scene = Scene::new(1, options());
    scene.send(0, "a");
    let old = scene.one();
    scene.topic_id = Uuid::from_u128(2);
    scene.publish();
    scene.send(0, "b");
    assert!(
        scene.produces().is_empty(),
        "the old topic's batch is still in flight"
    );
    scene.refuse(&old, ErrorCode::UNKNOWN_TOPIC_ID);
    scene.pass(SECOND_US);
    let again = scene.one();
    assert_eq!(
        (again.stamp(), again.values()),
        ((7, 1, 0), vec!["a".to_owned()])
    );
    scene.acknowledge(&again, 0);
    assert_eq!(scene.one().stamp(), (7, 1, 1));
}

#[test]
fn line_11_new_partitions_are_used_and_queued_records_keep_theirs() {
    let mut scene = Scene::new(1, options());
    scene.busy.insert(1);
    scene.send(0, "queued");
    scene.leaders = vec![Some((1, 0)), Some((1, 0))];
    scene.publish();
    scene.send(1, "new");
    scene.busy.clear();
    let both = scene.one();
    let partitions: Vec<i32> = both
        .batches
        .iter()
        .map(|(partition, _, _)| *partition)
        .collect();
    assert_eq!(
        (partitions, both.values()),
        (vec![0, 1], vec!["queued".to_owned(), "new".to_owned()])
    );
}

#[test]
fn line_12_null_and_empty_and_backward_timestamps_reach_the_wire() {
    let mut scene = Scene::new(
        1,
        ProducerOptions {
            linger_ms: 5,
            ..options()
        },
    );
    let null = RecordRef {
        key: None,
        value: None,
        timestamp_ms: Some(2000),
        ..record(0, "")
    };
    let empty = RecordRef {
        key: Some(b""),
        value: Some(b""),
        timestamp_ms: Some(1000),
        ..record(0, "")
    };
    for record in [null, empty] {
        let _ = scene.accumulator.append(scene.now, record).unwrap();
    }
    scene.pass(5_000);
    let call = scene.one();
    let read: Vec<_> = call.batches[0].2.clone().map(Result::unwrap).collect();
    assert_eq!(
        (
            read[0].key.clone(),
            read[0].value.clone(),
            read[0].timestamp_ms
        ),
        (None, None, 2000)
    );
    assert_eq!(read[1].key.as_deref(), Some(&b""[..]));
    assert_eq!(
        (read[1].value.as_deref(), read[1].timestamp_ms),
        (Some(&b""[..]), 1000)
    );
}

#[test]
fn line_13_keyless_records_go_to_partitions_that_have_a_leader() {
    let mut scene = Scene::new(3, options());
    scene.leaders = vec![None, Some((1, 1)), None];
    scene.publish();
    for _ in 0..10 {
        let keyless = RecordRef {
            partition: None,
            ..record(0, "x")
        };
        let appended = scene.accumulator.append(scene.now, keyless).unwrap();
        assert_eq!(appended.delivery.partition(), 1);
    }
}

#[test]
fn line_37_without_a_topic_id_the_request_names_the_topic() {
    let mut scene = Scene::new(1, options());
    scene.send(0, "a");
    let by_id = scene.one();
    assert_eq!(by_id.cap, None);
    scene.acknowledge(&by_id, 1);

    let mut old = Scene::without_metadata(options());
    old.topic_id = Uuid::nil();
    old.leaders = vec![Some((1, 0))];
    assert_eq!(
        old.accumulator.append(old.now, record(0, "a")).unwrap_err(),
        Refused::UnknownTopic
    );
    let _ = old.facts();
    old.publish();
    old.send(0, "a");
    let asked = old.poll().remove(0);
    old.give_identity(asked.id, 7, 0);
    assert_eq!(old.one().cap, Some(12));
}

#[test]
fn line_48_a_topic_that_a_broker_does_not_know_yet_is_tried_until_the_delivery_timeout() {
    let mut scene = Scene::new(1, options());
    let sent = scene.append(0, "a");
    let mut tries = 0;
    while result(&sent).is_none() {
        for call in scene.produces() {
            tries += 1;
            scene.refuse(&call, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        assert!(scene.now.monotonic_us < 200 * SECOND_US);
        scene.pass(SECOND_US);
    }
    assert!(tries > 100, "{tries}");
    assert!(
        failure(&sent)
            .to_string()
            .contains("UNKNOWN_TOPIC_OR_PARTITION")
    );
    assert!(
        scene
            .facts()
            .iter()
            .any(|fact| matches!(fact, Fact::MetadataStale))
    );
}

#[test]
fn a_topic_that_is_asked_for_before_its_first_record_is_known_by_then() {
    let mut scene = Scene::without_metadata(options());
    let accumulator = Arc::clone(&scene.accumulator);
    assert_eq!(accumulator.partitions(TOPIC), Err(Refused::UnknownTopic));
    assert!(
        matches!(&scene.facts()[..], [Fact::TopicsWanted(topics)] if *topics[0] == *TOPIC),
        "nobody was asked"
    );
    scene.leaders = vec![Some((1, 0)), None, Some((1, 0))];
    scene.publish();
    assert_eq!(accumulator.partitions(TOPIC), Ok(3));
    assert!(accumulator.append(scene.now, record(0, "first")).is_ok());
    accumulator.close();
    assert_eq!(accumulator.partitions(TOPIC), Err(Refused::Closed));
}

#[test]
fn a_hint_about_the_leader_is_passed_on() {
    use tidewatch_protocol::messages::BrokerId as NodeId;
    use tidewatch_protocol::messages::produce_response::LeaderIdAndEpoch;
    let mut scene = Scene::new(1, options());
    scene.send(0, "a");
    let call = scene.one();
    let leader = LeaderIdAndEpoch::default()
        .with_leader_id(NodeId(2))
        .with_leader_epoch(5);
    scene.answer(&call, |_| {
        refused(ErrorCode::NOT_LEADER_OR_FOLLOWER).with_current_leader(leader.clone())
    });
    let facts = scene.facts();
    assert!(
        matches!(
            &facts[..],
            [Fact::LeaderHint {
                leader: BrokerId(2),
                epoch: 5,
                address: None,
                ..
            }]
        ),
        "{facts:?}"
    );
    // The metadata room took it up: no backoff is waited for.
    scene.leaders = vec![Some((2, 5))];
    scene.publish();
    assert_eq!(scene.one().to, 2);
}

#[test]
fn a_topic_that_is_not_ours_to_write_is_refused_at_once() {
    let mut scene = Scene::new(1, options());
    let error = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    let topic = Topic {
        id: Uuid::nil(),
        error,
        partitions: Vec::new(),
    };
    let cluster = Cluster {
        topics: [(Arc::from(TOPIC), topic)].into(),
        ..Cluster::default()
    };
    scene
        .room
        .handle_fact(scene.now, &Fact::ClusterChanged(Arc::new(cluster)));
    let refused = scene
        .accumulator
        .append(scene.now, record(0, "a"))
        .unwrap_err();
    assert_eq!(refused, Refused::Topic(error));
    scene.publish();
    assert!(
        scene.accumulator.append(scene.now, record(0, "a")).is_ok(),
        "granted since"
    );
}

#[test]
fn a_topic_that_is_just_being_taken_over_is_waited_for() {
    let scene = Scene::new(2, options());
    let topics = scene.accumulator.topics();
    topics.announce("coming");
    topics.get_or_add(&Arc::from("coming"));
    let coming = RecordRef {
        topic: "coming",
        partition: None,
        ..record(0, "a")
    };
    let refused = scene.accumulator.append(scene.now, coming).unwrap_err();
    assert_eq!(refused, Refused::UnknownTopic);
}

#[test]
fn a_partition_that_is_not_there_is_refused() {
    let scene = Scene::new(2, options());
    let refused = scene
        .accumulator
        .append(scene.now, record(2, "a"))
        .unwrap_err();
    assert_eq!(
        refused,
        Refused::NoPartition {
            partition: 2,
            count: 2
        }
    );
}

#[test]
fn one_request_carries_every_ready_partition_of_a_leader() {
    let mut scene = Scene::new(4, options());
    scene.leaders[3] = Some((2, 0));
    scene.publish();
    for partition in 0..4 {
        scene.send(partition, "x");
    }
    let calls = scene.produces();
    let by_leader: Vec<_> = calls
        .iter()
        .map(|call| (call.to, call.batches.len()))
        .collect();
    assert_eq!(by_leader, [(1, 3), (2, 1)]);
}

#[test]
fn open_batches_linger_while_full_ones_go() {
    let given = ProducerOptions {
        linger_ms: 50,
        batch_size: 200,
        ..options()
    };
    let mut scene = Scene::new_lingering(2, given);
    scene.send(1, "lingers");
    let full = "x".repeat(200);
    scene.send(0, &full);
    assert_eq!(scene.one().values(), [full]);
    scene.pass(50_000);
    assert_eq!(scene.one().values(), ["lingers"]);
}

#[test]
fn line_13_keyless_records_stick_until_a_batch_is_full() {
    let mut scene = Scene::new_lingering(
        8,
        ProducerOptions {
            linger_ms: 5,
            batch_size: 1000,
            ..options()
        },
    );
    let mut partitions = Vec::new();
    for _ in 0..1000 {
        let keyless = RecordRef {
            partition: None,
            ..record(
                0,
                "some hundred bytes are about what a sample and its headers take on their way to a broker",
            )
        };
        let appended = scene.accumulator.append(scene.now, keyless).unwrap();
        partitions.push(appended.delivery.partition());
        // Lingering drains batches half full; that is no reason to move on.
        scene.pass(2_000);
        for call in scene.produces() {
            scene.acknowledge(&call, 0);
        }
    }
    let runs: Vec<usize> = partitions
        .chunk_by(|a, b| a == b)
        .map(<[i32]>::len)
        .collect();
    let inner = &runs[1..runs.len() - 1];
    assert!(inner.iter().all(|run| *run >= 7), "{runs:?}");
    assert!(runs.len() > 50, "{runs:?}");
    let used: BTreeSet<i32> = partitions.into_iter().collect();
    assert_eq!(used.len(), 8);
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The topics that the room tells about: wanted, and not wanted any more.
fn topics_told(scene: &mut Scene) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
    let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
    for fact in scene.facts() {
        match fact {
            Fact::TopicsWanted(topics) => wanted.extend(topics),
            Fact::TopicUnwanted(topic) => unwanted.push(topic),
            _ => {}
        }
    }
    (wanted, unwanted)
}

fn idling() -> ProducerOptions {
    ProducerOptions {
        metadata_max_idle_ms: 10_000,
        ..options()
    }
}

/// The cluster's picture, from which the topic is gone.
fn forget_in_picture(scene: &mut Scene) {
    let none = Fact::ClusterChanged(Arc::default());
    scene.room.handle_fact(scene.now, &none);
}

#[test]
fn line_50_a_topic_that_nothing_is_sent_to_is_forgotten_until_something_is() {
    let mut scene = Scene::new(1, idling());
    scene.pass(9 * SECOND_US);
    scene.send(0, "a");
    let sent = scene.one();
    scene.pass(9 * SECOND_US);
    assert_eq!(topics_told(&mut scene), (vec![], vec![]), "it was sent to");
    scene.pass(2 * SECOND_US);
    assert_eq!(
        topics_told(&mut scene),
        (vec![], vec![]),
        "a record is on its way"
    );
    scene.acknowledge(&sent, 0);
    scene.pass(10 * SECOND_US);
    assert_eq!(topics_told(&mut scene), (vec![], vec![Arc::from(TOPIC)]));
    assert_eq!(
        scene.room.poll_timeout(),
        None,
        "nothing wakes it for that any more"
    );
    forget_in_picture(&mut scene);

    let early = scene.accumulator.append(scene.now, record(0, "early"));
    assert_eq!(early.unwrap_err(), Refused::UnknownTopic);
    assert_eq!(topics_told(&mut scene), (vec![Arc::from(TOPIC)], vec![]));
    scene.publish();
    scene.send(0, "b");
    let again = scene.one();
    assert_eq!(
        (again.stamp(), again.values()),
        ((7, 0, 2), vec!["b".to_owned()])
    );
}

#[test]
fn line_50_who_waits_for_a_topic_when_it_is_forgotten_has_it_asked_for_again() {
    let mut scene = Scene::without_metadata(idling());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let accumulator = Arc::clone(&scene.accumulator);
    let mut waiting = accumulator.waiting();
    let record = record(0, "a");
    let mut poll =
        |scene: &Scene| accumulator.poll_append(scene.now, &record, &mut waiting, &waker);
    assert!(poll(&scene).is_pending());
    assert_eq!(topics_told(&mut scene), (vec![Arc::from(TOPIC)], vec![]));
    scene.pass(10 * SECOND_US);
    assert_eq!(topics_told(&mut scene), (vec![], vec![Arc::from(TOPIC)]));
    assert!(woken.0.load(Ordering::Relaxed));
    assert!(poll(&scene).is_pending());
    assert_eq!(topics_told(&mut scene), (vec![Arc::from(TOPIC)], vec![]));
}

/// A sender's clock; while it looks, the room forgets the topic.
struct Meanwhile<'s>(RefCell<&'s mut Scene>);

impl ReadTime for Meanwhile<'_> {
    fn monotonic_us(&self) -> u64 {
        self.0.borrow().now.monotonic_us
    }

    fn wall_ms(&self) -> i64 {
        let told = topics_told(&mut self.0.borrow_mut());
        assert_eq!(told, (vec![], vec![Arc::from(TOPIC)]));
        self.0.borrow().now.wall_ms
    }
}

#[test]
fn line_50_a_record_that_comes_while_its_topic_is_forgotten_is_sent() {
    let mut scene = Scene::new(1, idling());
    scene.pass(10 * SECOND_US);
    let accumulator = Arc::clone(&scene.accumulator);
    let late = RecordRef {
        timestamp_ms: None,
        ..record(0, "late")
    };
    let meanwhile = Meanwhile(RefCell::new(&mut scene));
    let _ = accumulator.append(meanwhile, late).unwrap();
    forget_in_picture(&mut scene);
    assert!(scene.produces().is_empty());
    assert_eq!(topics_told(&mut scene), (vec![Arc::from(TOPIC)], vec![]));
    scene.publish();
    assert_eq!(scene.one().values(), ["late"]);
}

/// While it chooses, the topic is forgotten.
#[derive(Debug, Default)]
struct Forgetting(OnceLock<Arc<Accumulator>>);

impl Partitioner for Forgetting {
    fn partition(&self, topic: &str, _: Option<&[u8]>, _: Option<&[u8]>, _: usize) -> Option<i32> {
        self.0.get().unwrap().topics().forget(&[Arc::from(topic)]);
        Some(0)
    }
}

#[test]
fn line_50_a_topic_that_is_forgotten_while_a_partition_is_chosen_is_not_known() {
    let mut scene = Scene::without_metadata(options());
    scene.leaders = vec![Some((1, 0))];
    let partitioner = Arc::new(Forgetting::default());
    let chosen: Arc<dyn Partitioner> = Arc::clone(&partitioner) as _;
    let accumulator =
        Accumulator::with_partitioner(&options(), Waker::noop().clone(), Some(chosen));
    partitioner.0.set(Arc::clone(&accumulator)).unwrap();
    let unchosen = RecordRef {
        partition: None,
        ..record(0, "a")
    };
    assert!(accumulator.append(scene.now, unchosen).is_err());
    accumulator.update(&scene.picture(ErrorCode::NONE));
    let refused = accumulator.append(scene.now, unchosen).unwrap_err();
    assert_eq!(refused, Refused::UnknownTopic);
}

#[test]
fn a_topic_that_was_refused_may_be_sent_to_after_it_was_forgotten() {
    let mut scene = Scene::without_metadata(idling());
    let append = |scene: &Scene| scene.accumulator.append(scene.now, record(0, "a"));
    assert!(append(&scene).is_err());
    topics_told(&mut scene);
    scene.leaders = vec![Some((1, 0))];
    scene.publish_with(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let refused = Refused::Topic(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(append(&scene).unwrap_err(), refused);
    scene.pass(10 * SECOND_US);
    topics_told(&mut scene);
    assert_eq!(append(&scene).unwrap_err(), Refused::UnknownTopic);
    topics_told(&mut scene);
    scene.publish();
    assert!(append(&scene).is_ok());
}
