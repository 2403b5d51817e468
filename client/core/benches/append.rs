//! What a record costs from append to frame, beside the floor: copying the same bytes and computing
//! their CRC-32C. Every figure is for [`RECORDS`] records; divan's items per second are records.

#![expect(
    clippy::expect_used,
    reason = "a bench that cannot go on has nothing to measure"
)]

use divan::counter::ItemsCount;
use std::sync::Arc;
use std::task::Waker;
use tidewatch_client_core::Now;
use tidewatch_client_core::call::{
    Body, BrokerId, Call, CallId, Fact, Permits, Reply, Response, Room,
};
use tidewatch_client_core::metadata::{Cluster, Partition, Topic};
use tidewatch_client_core::options::ProducerOptions;
use tidewatch_client_core::producer::ProducerRoom;
use tidewatch_client_core::producer::accumulator::{Accumulator, RecordRef, Wake};
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::message::ProduceFrame;
use tidewatch_protocol::messages::produce_response::{
    PartitionProduceResponse, TopicProduceResponse,
};
use tidewatch_protocol::messages::{InitProducerIdResponse, ProduceResponse, TopicName};
use tidewatch_protocol::records::BatchBuilder;

const RECORDS: usize = 100_000;
const VALUE: [u8; 100] = [b'x'; 100];
const BATCH_BYTES: usize = 128 << 10;
const PARTITIONS: usize = 6;
const TOPIC: &str = "cpu-monitor";

fn main() {
    divan::main();
}

/// Each value copied into a reused buffer of a batch's size, and the CRC of each full buffer.
#[divan::bench]
fn floor_copy_and_crc(bencher: divan::Bencher<'_, '_>) {
    let mut buffer = Vec::with_capacity(BATCH_BYTES);
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let mut sum = 0_u32;
        for _ in 0..RECORDS {
            if buffer.len() + VALUE.len() > BATCH_BYTES {
                sum ^= crc32c::crc32c(&buffer);
                buffer.clear();
            }
            buffer.extend_from_slice(divan::black_box(&VALUE));
        }
        sum ^ crc32c::crc32c(&buffer)
    });
}

/// The record layer alone: encoded into a batch, sealed, the buffer used again.
#[divan::bench]
fn encode(bencher: divan::Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let mut builder = BatchBuilder::with_capacity(BATCH_BYTES);
        for _ in 0..RECORDS {
            if builder.size_bytes() + VALUE.len() + 32 > BATCH_BYTES {
                let sealed = divan::black_box(builder.seal());
                builder = BatchBuilder::from_recycled(sealed.recycle().unwrap_or_default());
            }
            builder.append(1, None, Some(divan::black_box(&VALUE)), &[]);
        }
        builder
    });
}

/// From append to frame and acknowledged, in one thread; keys choose the partition.
#[divan::bench]
fn append_to_frame_keyed(bencher: divan::Bencher<'_, '_>) {
    let mut producer = Producer::new();
    bencher
        .counter(ItemsCount::new(RECORDS))
        .bench_local(|| producer.send_all(true));
}

/// The same without keys: sticky partitions.
#[divan::bench]
fn append_to_frame_keyless(bencher: divan::Bencher<'_, '_>) {
    let mut producer = Producer::new();
    bencher
        .counter(ItemsCount::new(RECORDS))
        .bench_local(|| producer.send_all(false));
}

struct Producer {
    accumulator: Arc<Accumulator>,
    room: ProducerRoom,
    now: Now,
}

impl Producer {
    fn new() -> Self {
        let options = ProducerOptions {
            batch_size: BATCH_BYTES,
            linger_ms: 5,
            ..ProducerOptions::default()
        };
        let accumulator = Accumulator::new(&options, Waker::noop().clone());
        let mut room = ProducerRoom::new(0, options, Arc::clone(&accumulator), 1);
        let now = Now {
            monotonic_us: 1,
            wall_ms: 1,
        };
        assert!(accumulator.append(now, record(None)).is_err());
        while room.poll_fact(now).is_some() {}
        room.handle_fact(now, &Fact::ClusterChanged(Arc::new(cluster())));
        Self {
            accumulator,
            room,
            now,
        }
    }

    /// Appends; the room is polled when a record says that it is worth while, as the driver is.
    fn send_all(&mut self, keyed: bool) {
        let mut key = 0_u64;
        for _ in 0..RECORDS {
            key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bytes = key.to_be_bytes();
            let key = keyed.then_some(&bytes[..]);
            let record = divan::black_box(record(key));
            let appended = self.accumulator.append(self.now, record);
            if appended.expect("there is room").wake == Wake::Ready {
                self.serve();
            }
        }
        self.now.monotonic_us += 5_000;
        self.serve();
        assert_eq!(self.accumulator.used_bytes(), 0);
    }

    fn serve(&mut self) {
        while let Some(call) = self.room.poll_call(self.now, &Permits::all()) {
            let (id, response) = answer(call);
            let reply = Reply {
                response,
                version: 5,
                broker: BrokerId(1),
            };
            self.room.handle_reply(self.now, id, Ok(reply));
        }
    }
}

fn record(key: Option<&[u8]>) -> RecordRef<'_> {
    RecordRef {
        topic: TOPIC,
        partition: None,
        timestamp_ms: Some(1_700_000_000_000),
        key,
        value: Some(&VALUE),
        headers: &[],
    }
}

/// Encodes the frame and acknowledges all of it.
fn answer(call: Call) -> (CallId, Response) {
    match call.body {
        Body::Produce(frame) => {
            divan::black_box(frame.encode(11, 1, "bench").expect("it is a good frame"));
            (call.id, Response::Produce(acknowledgement(&frame)))
        }
        _ => (
            call.id,
            Response::InitProducerId(InitProducerIdResponse::default()),
        ),
    }
}

fn acknowledgement(frame: &ProduceFrame) -> ProduceResponse {
    let partitions = frame.topics.iter().flat_map(|topic| &topic.partitions);
    let written = partitions.map(|(partition, _)| {
        PartitionProduceResponse::default()
            .with_index(*partition)
            .with_log_append_time_ms(-1)
    });
    let topic = TopicProduceResponse::default()
        .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
        .with_partition_responses(written.collect());
    ProduceResponse::default().with_responses(vec![topic])
}

fn cluster() -> Cluster {
    let partition = Partition {
        leader: Some(BrokerId(1)),
        leader_epoch: 0,
        replicas: Vec::new(),
        in_sync_replicas: Vec::new(),
    };
    let topic = Topic {
        id: uuid::Uuid::from_u128(1),
        error: ErrorCode::NONE,
        partitions: vec![partition; PARTITIONS],
    };
    Cluster {
        topics: [(Arc::from(TOPIC), topic)].into(),
        ..Cluster::default()
    }
}
