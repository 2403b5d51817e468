//! Rooms that want the same connection.

use super::metadata::{T, response, tell, topic};
use super::*;
use crate::options::ProducerOptions;
use crate::producer::accumulator::{Accumulator, RecordRef};
use std::task::Waker;
use tidewatch_protocol::messages::produce_response::{
    PartitionProduceResponse, TopicProduceResponse,
};

/// A producer of the script's client whose every record is a batch.
fn producer(script: &mut Script<Client>) -> Arc<Accumulator> {
    let options = ProducerOptions {
        linger_ms: 0,
        batch_size: 1,
        ..ProducerOptions::default()
    };
    let accumulator = Accumulator::new(&options, Waker::noop().clone());
    let shared = Arc::clone(&accumulator);
    script.core.open_producer(script.now, options, shared);
    accumulator
}

fn append(accumulator: &Accumulator, now: Now, value: &str) -> bool {
    let record = RecordRef {
        topic: "a",
        partition: Some(0),
        timestamp_ms: None,
        key: None,
        value: Some(value.as_bytes()),
        headers: &[],
    };
    accumulator.append(now, record).is_ok()
}

const WHO: [&str; 2] = ["record of the first", "record of the second"];

/// Two producers that have each had a batch acknowledged, so that more than one may be in flight.
fn sharing(script: &mut Script<Client>) -> [Arc<Accumulator>; 2] {
    let producers = WHO.map(|_| producer(script));
    for accumulator in &producers {
        assert!(!append(accumulator, script.now, "nothing"), "not known yet");
    }
    script.core.handle_wake(script.now);
    script.open();
    tell(script, vec![topic("a", T, &[(1, 0)])]);
    script.expect_nothing();
    send(script, &producers, 1);
    for id in [7, 8] {
        let asked = script.expect_send();
        let answer = InitProducerIdResponse::default().with_producer_id(ProducerId(id));
        script.answer::<InitProducerIdRequest>(&asked, &answer);
    }
    script.open();
    for asked in [script.expect_send(), script.expect_send()] {
        script.answer::<ProduceRequest>(&asked, &written());
    }
    producers
}

fn send(script: &mut Script<Client>, producers: &[Arc<Accumulator>; 2], count: usize) {
    let turns = WHO.iter().zip(producers).cycle();
    for (who, accumulator) in turns.take(count * WHO.len()) {
        assert!(append(accumulator, script.now, who));
    }
    script.core.handle_wake(script.now);
}

/// Whose record a request holds.
fn whose(sent: &Sent) -> Option<usize> {
    let holds = |who: &str| sent.body.windows(who.len()).any(|b| b == who.as_bytes());
    WHO.iter().position(|who| holds(who))
}

#[test]
fn producers_that_share_a_client_share_the_places_at_a_broker() {
    let mut script = Script::client(&[]);
    let producers = sharing(&mut script);
    send(&mut script, &producers, 8);
    let mut sent = Vec::new();
    while let Some(Action::Send(id, frame)) = script.next_action() {
        sent.extend(whose(&read_request(id, &frame)));
    }
    let second = sent.iter().filter(|who| **who == 1).count();
    assert!(matches!((sent.len(), second), (5, 2 | 3)), "{sent:?}");
}

#[test]
fn what_other_rooms_call_in_between_gives_no_producer_another_turn() {
    let mut script = Script::client(&[]);
    let producers = sharing(&mut script);
    send(&mut script, &producers, 8);
    let mut in_flight: VecDeque<Sent> = (0..5).map(|_| script.expect_send()).collect();
    let mut turns = Vec::new();
    for _ in 0..6 {
        // A place becomes free while somebody asks for metadata.
        script.pass_ms(1_500);
        script.wait_for(&["a"], 1_000);
        let oldest = in_flight.pop_front().unwrap();
        script.answer::<ProduceRequest>(&oldest, &written());
        for sent in [script.expect_send(), script.expect_send()] {
            match whose(&sent) {
                Some(who) => {
                    turns.push(who);
                    in_flight.push_back(sent);
                }
                None => {
                    let response = response(vec![topic("a", T, &[(1, 0)])]);
                    script.answer::<MetadataRequest>(&sent, &response);
                }
            }
        }
        script.expect_finished().1.unwrap();
    }
    let second = turns.iter().filter(|who| **who == 1).count();
    assert_eq!((turns.len(), second), (6, 3), "{turns:?}");
}

fn written() -> ProduceResponse {
    let partition = PartitionProduceResponse::default().with_base_offset(0);
    let topic = TopicProduceResponse::default()
        .with_topic_id(T)
        .with_partition_responses(vec![partition]);
    ProduceResponse::default().with_responses(vec![topic])
}
