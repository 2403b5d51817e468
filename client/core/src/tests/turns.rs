//! Rooms that want the same connection.

use super::metadata::{T, tell, topic};
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

#[test]
fn producers_that_share_a_client_share_the_places_at_a_broker() {
    const WHO: [&str; 2] = ["record of the first", "record of the second"];
    let mut script = Script::client(&[]);
    let producers = WHO.map(|who| (who, producer(&mut script)));
    for (who, accumulator) in &producers {
        assert!(!append(accumulator, script.now, who), "not known yet");
    }
    script.core.handle_wake(script.now);
    script.open();
    tell(&mut script, vec![topic("a", T, &[(1, 0)])]);
    script.expect_nothing();

    // The first batch of a producer in a partition goes alone, so that it is over before the turns.
    let send = |script: &mut Script<Client>, count: usize| {
        for (who, accumulator) in producers.iter().cycle().take(count * WHO.len()) {
            assert!(append(accumulator, script.now, who));
        }
        script.core.handle_wake(script.now);
    };
    send(&mut script, 1);
    for id in [7, 8] {
        let asked = script.expect_send();
        let answer = InitProducerIdResponse::default().with_producer_id(ProducerId(id));
        script.answer::<InitProducerIdRequest>(&asked, &answer);
    }
    script.open();
    for asked in [script.expect_send(), script.expect_send()] {
        script.answer::<ProduceRequest>(&asked, &written());
    }

    send(&mut script, 8);
    let mut sent = Vec::new();
    while let Some(Action::Send(_, frame)) = script.next_action() {
        let body = whole(&frame);
        let holds = |who: &str| body.windows(who.len()).any(|bytes| bytes == who.as_bytes());
        sent.extend(WHO.iter().position(|who| holds(who)));
    }
    let second = sent.iter().filter(|who| **who == 1).count();
    assert!(matches!((sent.len(), second), (5, 2 | 3)), "{sent:?}");
}

fn written() -> ProduceResponse {
    let partition = PartitionProduceResponse::default().with_base_offset(0);
    let topic = TopicProduceResponse::default()
        .with_topic_id(T)
        .with_partition_responses(vec![partition]);
    ProduceResponse::default().with_responses(vec![topic])
}
