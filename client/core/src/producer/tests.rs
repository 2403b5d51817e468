//! The room alone: facts and replies in, calls out, in simulated time.

mod closing;
mod memory;
mod order;
mod outcomes;
mod properties;
mod topics;
mod transactions;

use super::accumulator::{Accumulator, RecordRef};
use super::delivery::{Delivery, DeliveryCause, DeliveryError, RecordMetadata};
use super::{Command, ProducerRoom};
use crate::call::{Body, BrokerId, Call, CallId, Fact, Permits, Reply, RequestId, Response, Room};
use crate::error::{CallError, CallErrorKind};
use crate::metadata::{Cluster, Partition, Topic};
use crate::options::ProducerOptions;
use crate::time::Now;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Waker;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::produce_response::{
    PartitionProduceResponse, TopicProduceResponse,
};
use tidewatch_protocol::messages::{
    InitProducerIdResponse, ProduceResponse, ProducerId, TopicName,
};
use tidewatch_protocol::records::{BatchHeader, Batches, Records};
use uuid::Uuid;

const TOPIC: &str = "t";
const SECOND_US: u64 = 1_000_000;

/// A producer's room, its accumulator, and a clock.
struct Scene {
    room: ProducerRoom,
    accumulator: Arc<Accumulator>,
    now: Now,
    /// By partition: leader and epoch, `None` for no leader.
    leaders: Vec<Option<(i32, i32)>>,
    topic_id: Uuid,
    busy: BTreeSet<i32>,
    requests: u64,
}

/// A Produce call that the room made.
struct Produce {
    id: CallId,
    to: i32,
    cap: Option<i16>,
    batches: Vec<(i32, BatchHeader, Records)>,
}

/// Who a batch is from, and its first sequence: id, epoch, sequence.
type Stamp = (i64, i16, i32);

impl Produce {
    /// Partition and stamp of each batch.
    fn stamps(&self) -> Vec<(i32, Stamp)> {
        let stamp = |header: &BatchHeader| {
            (
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
            )
        };
        self.batches
            .iter()
            .map(|(partition, header, _)| (*partition, stamp(header)))
            .collect()
    }

    /// The one stamp of a request with one batch.
    fn stamp(&self) -> Stamp {
        assert_eq!(self.batches.len(), 1);
        self.stamps()[0].1
    }

    /// All values, as text.
    fn values(&self) -> Vec<String> {
        let records = self
            .batches
            .iter()
            .flat_map(|(_, _, records)| records.clone());
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        records
            .map(|record| text(&record.unwrap().value.unwrap()))
            .collect()
    }
}

fn options() -> ProducerOptions {
    ProducerOptions {
        linger_ms: 0,
        retry_backoff_ms: (100, 100),
        ..ProducerOptions::default()
    }
}

impl Scene {
    /// One topic of `partitions` partitions, led by broker 1, known; no producer id yet.
    fn unidentified(partitions: usize, options: ProducerOptions) -> Self {
        let mut scene = Self::without_metadata(options);
        scene.leaders = vec![Some((1, 0)); partitions];
        assert!(
            scene
                .accumulator
                .append(scene.now, record(0, "early"))
                .is_err()
        );
        assert!(matches!(
            scene.room.poll_fact(scene.now),
            Some(Fact::TopicsWanted(_))
        ));
        scene.publish();
        scene
    }

    /// The same, with producer id 7, epoch 0.
    fn new(partitions: usize, options: ProducerOptions) -> Self {
        let mut scene = Self::unidentified(partitions, options);
        scene.identify(7, 0);
        scene
    }

    /// The same where batches linger.
    fn new_lingering(partitions: usize, options: ProducerOptions) -> Self {
        let mut scene = Self::unidentified(partitions, options);
        let delivery = scene.append(0, "first");
        let asked = scene.poll().remove(0);
        scene.give_identity(asked.id, 7, 0);
        let flush = scene.command(Command::Flush);
        let first = scene.one();
        scene.acknowledge(&first, 0);
        assert_eq!(scene.finished(), [flush]);
        assert_eq!(offset(&delivery), 0);
        scene
    }

    fn without_metadata(options: ProducerOptions) -> Self {
        let accumulator = Accumulator::new(&options, Waker::noop().clone());
        let room = ProducerRoom::new(0, options, Arc::clone(&accumulator), 1);
        let now = Now {
            monotonic_us: SECOND_US,
            wall_ms: 1_700_000_000_000,
        };
        let topic_id = Uuid::from_u128(1);
        Self {
            room,
            accumulator,
            now,
            leaders: Vec::new(),
            topic_id,
            busy: BTreeSet::new(),
            requests: 0,
        }
    }

    /// Has the room ask for a producer id and answers; a first record starts it and is acknowledged.
    fn identify(&mut self, id: i64, epoch: i16) {
        let delivery = self.append(0, "first");
        let asked = self.poll().remove(0);
        assert!(matches!(asked.body, Body::InitProducerId(_)), "{asked:?}");
        self.give_identity(asked.id, id, epoch);
        self.pass(self.room.options.linger_ms * 1000);
        let first = self.one();
        self.acknowledge(&first, 0);
        assert_eq!(offset(&delivery), 0);
    }

    fn give_identity(&mut self, call: CallId, id: i64, epoch: i16) {
        let answer = InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch);
        self.reply(call, Ok(Response::InitProducerId(answer)), 5);
    }

    fn publish(&mut self) {
        self.publish_with(ErrorCode::NONE);
    }

    fn publish_with(&mut self, error: ErrorCode) {
        let cluster = Arc::new(self.picture(error));
        self.room
            .handle_fact(self.now, &Fact::ClusterChanged(cluster));
    }

    fn picture(&self, error: ErrorCode) -> Cluster {
        let partition = |leader: &Option<(i32, i32)>| Partition {
            leader: leader.map(|(leader, _)| BrokerId(leader)),
            leader_epoch: leader.map_or(-1, |(_, epoch)| epoch),
            replicas: Vec::new(),
            in_sync_replicas: Vec::new(),
        };
        let partitions = self.leaders.iter().map(partition).collect();
        let topic = Topic {
            id: self.topic_id,
            error,
            partitions,
        };
        Cluster {
            topics: [(Arc::from(TOPIC), topic)].into(),
            ..Cluster::default()
        }
    }

    fn append(&self, partition: i32, value: &str) -> Delivery {
        self.accumulator
            .append(self.now, record(partition, value))
            .unwrap()
            .delivery
    }

    /// Appends a record whose fate does not matter.
    fn send(&self, partition: i32, value: &str) {
        drop(self.append(partition, value));
    }

    fn pass(&mut self, us: u64) {
        self.now.monotonic_us += us;
    }

    fn poll(&mut self) -> Vec<Call> {
        let mut permits = Permits::all();
        for broker in &self.busy {
            permits.set_busy(BrokerId(*broker), crate::call::Lane::Produce, true);
        }
        std::iter::from_fn(|| self.room.poll_call(self.now, &permits)).collect()
    }

    /// Every Produce that the room wants made now.
    fn produces(&mut self) -> Vec<Produce> {
        self.poll().into_iter().map(produce).collect()
    }

    fn one(&mut self) -> Produce {
        let mut all = self.produces();
        assert_eq!(all.len(), 1, "requests");
        all.remove(0)
    }

    fn reply(&mut self, call: CallId, response: Result<Response, CallError>, version: i16) {
        let reply = response.map(|response| Reply {
            response,
            version,
            broker: BrokerId(1),
        });
        self.room.handle_reply(self.now, call, reply);
    }

    fn answer(&mut self, call: &Produce, answer: impl Fn(i32) -> PartitionProduceResponse) {
        let partitions = call
            .batches
            .iter()
            .map(|(partition, _, _)| answer(*partition).with_index(*partition));
        let topic = TopicProduceResponse::default()
            .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
            .with_partition_responses(partitions.collect());
        let response = ProduceResponse::default().with_responses(vec![topic]);
        self.reply(call.id, Ok(Response::Produce(response)), 11);
    }

    fn acknowledge(&mut self, call: &Produce, base_offset: i64) {
        self.answer(call, |_| written_at(base_offset));
    }

    fn refuse(&mut self, call: &Produce, code: ErrorCode) {
        self.answer(call, |_| refused(code));
    }

    fn lose(&mut self, call: &Produce, written: bool) {
        let kind = CallErrorKind::Disconnected {
            address: "b1:9092".to_owned(),
            why: "reset".to_owned(),
        };
        self.reply(
            call.id,
            Err(CallError {
                kind,
                written,
                broker: Some(BrokerId(call.to)),
            }),
            11,
        );
    }

    fn command(&mut self, command: Command) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.room.handle_command(self.now, request, command);
        request
    }

    fn finished(&mut self) -> Vec<RequestId> {
        std::iter::from_fn(|| self.room.poll_finished())
            .map(|(request, end)| {
                assert!(end.is_ok());
                request
            })
            .collect()
    }

    fn facts(&mut self) -> Vec<Fact> {
        std::iter::from_fn(|| self.room.poll_fact(self.now)).collect()
    }
}

fn record(partition: i32, value: &str) -> RecordRef<'_> {
    RecordRef {
        topic: TOPIC,
        partition: Some(partition),
        timestamp_ms: Some(1_700_000_000_000),
        key: None,
        value: Some(value.as_bytes()),
        headers: &[],
    }
}

fn produce(call: Call) -> Produce {
    let Body::Produce(frame) = call.body else {
        panic!("not a Produce: {:?}", call.body);
    };
    let crate::call::Destination::Broker(BrokerId(to)) = call.destination else {
        panic!("a Produce goes to a leader");
    };
    let batches =
        frame
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|(partition, pieces)| {
                let bytes = bytes::Bytes::from(pieces.concat());
                let batch = Batches::new(bytes).next().unwrap().unwrap();
                batch.verify_crc().unwrap();
                (*partition, batch.header, batch.records(1 << 20).unwrap())
            });
    let mut batches: Vec<_> = batches.collect();
    // Which partition begins a request changes from one to the next.
    batches.sort_by_key(|(partition, _, _)| *partition);
    Produce {
        id: call.id,
        to,
        cap: call.version_cap,
        batches,
    }
}

fn written_at(base_offset: i64) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_base_offset(base_offset)
        .with_log_append_time_ms(-1)
}

fn refused(code: ErrorCode) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_error_code(code.0)
        .with_log_start_offset(-1)
        .with_base_offset(-1)
}

fn result(delivery: &Delivery) -> Option<Result<RecordMetadata, DeliveryError>> {
    delivery.try_result()
}

fn failure(delivery: &Delivery) -> DeliveryError {
    result(delivery).unwrap().unwrap_err()
}

fn offset(delivery: &Delivery) -> i64 {
    result(delivery).unwrap().unwrap().offset
}
