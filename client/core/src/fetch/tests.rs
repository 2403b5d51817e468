//! The fetch room alone, its broker scripted, its time simulated.

mod groups;
mod log;
mod model;
mod offsets;
mod reading;
mod refusals;
mod requests;
mod rewinding;
mod sessions;
mod validation;

use super::*;
use crate::call::{Body, Lane, Response};
use crate::error::CallErrorKind;
use crate::fetch::inbox::{Event, PartitionStatus};
use crate::fetch::records::Fetched;
use crate::metadata::{BrokerAddress, Topic};
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use tidewatch_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use tidewatch_protocol::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, TopicName,
};
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(7);
/// The consumer that the room belongs to.
const ROOM: u32 = 3;

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition {
        topic: Arc::from(topic),
        partition,
    }
}

fn options() -> ConsumerOptions {
    ConsumerOptions {
        group_id: None,
        offset_reset: OffsetReset::Earliest,
        read_committed: false,
        fetch_min_bytes: 1,
        fetch_max_wait_ms: 500,
        fetch_max_bytes: 50 << 20,
        max_partition_fetch_bytes: 1 << 20,
        check_crcs: true,
        max_buffered_bytes: 64 << 20,
        rack: String::new(),
        retry_backoff_ms: (100, 1000),
        request_timeout_ms: 30_000,
        default_api_timeout_ms: 60_000,
        ..ConsumerOptions::default()
    }
}

/// Counts how often the driver was woken.
#[derive(Default)]
struct Driver(AtomicUsize);

impl Wake for Driver {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A room, its reader, and the clock.
struct Script {
    room: FetchRoom,
    inbox: Arc<Inbox>,
    driver: Arc<Driver>,
    now: Now,
    requests: u64,
}

impl Script {
    fn new(options: ConsumerOptions) -> Self {
        let driver = Arc::new(Driver::default());
        let inbox = Inbox::new(&options, Waker::from(Arc::clone(&driver)));
        Self {
            room: FetchRoom::new(ROOM, options, Arc::clone(&inbox), 1),
            inbox,
            driver,
            now: Now {
                monotonic_us: 1_000_000,
                wall_ms: 0,
            },
            requests: 0,
        }
    }

    /// A room that reads partition 0 of `t` from `offset` on, led by broker 1.
    fn reading(options: ConsumerOptions, offset: i64) -> Self {
        let mut script = Self::new(options);
        script.cluster(cluster(&[1]));
        script.assign(0, Start::Offset(offset));
        script.facts();
        script
    }

    fn cluster(&mut self, cluster: Cluster) {
        let fact = Fact::ClusterChanged(Arc::new(cluster));
        self.room.handle_fact(self.now, &fact);
    }

    fn command(&mut self, command: Command) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.room.handle_command(self.now, request, command);
        request
    }

    fn assign(&mut self, partition: i32, start: Start) {
        self.command(Command::AssignMore(vec![(tp("t", partition), start)]));
        assert!(self.finished().unwrap().is_ok());
    }

    fn seek(&mut self, partition: i32, offset: i64) {
        self.command(Command::Seek(vec![(
            tp("t", partition),
            Start::Offset(offset),
        )]));
        assert!(self.finished().unwrap().is_ok());
    }

    fn finished(&mut self) -> Option<Result<Outcome, Error>> {
        self.room.poll_finished().map(|(_, end)| end)
    }

    fn call(&mut self) -> Option<Call> {
        self.room.poll_call(self.now, &Permits::all())
    }

    /// The next call, which must be a Fetch.
    fn fetch(&mut self) -> (Call, FetchRequest) {
        let call = self.call().expect("a fetch is due");
        match &call.body {
            Body::Fetch(request) => {
                let request = (**request).clone();
                (call, request)
            }
            other => panic!("not a fetch: {other:?}"),
        }
    }

    /// The next call, which must be a ListOffsets.
    fn list_offsets(&mut self) -> (Call, ListOffsetsRequest) {
        let call = self.call().expect("a look-up is due");
        match &call.body {
            Body::ListOffsets(request) => {
                let request = (**request).clone();
                (call, request)
            }
            other => panic!("not a look-up: {other:?}"),
        }
    }

    fn reply(&mut self, call: &Call, response: Response) {
        let reply = Reply {
            response,
            version: call.version_cap.unwrap_or(18),
            broker: broker_of(call),
        };
        self.room.handle_reply(self.now, call.id, Ok(reply));
    }

    fn reply_fetch(&mut self, call: &Call, partitions: Vec<PartitionData>) {
        self.reply(call, Response::Fetch(fetched(partitions)));
    }

    fn reply_offset(&mut self, call: &Call, code: ErrorCode, offset: i64) {
        let partition = ListOffsetsPartitionResponse::default()
            .with_error_code(code.0)
            .with_offset(offset);
        let topic = ListOffsetsTopicResponse::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_partitions(vec![partition]);
        let response = ListOffsetsResponse::default().with_topics(vec![topic]);
        self.reply(call, Response::ListOffsets(response));
    }

    fn lose(&mut self, call: &Call) {
        let error = CallError {
            kind: CallErrorKind::Disconnected {
                address: "b:9092".to_owned(),
                why: "end of file".to_owned(),
            },
            written: true,
            broker: Some(broker_of(call)),
        };
        self.room.handle_reply(self.now, call.id, Err(error));
    }

    /// One whole exchange: the next Fetch is answered with `data` for partition 0.
    fn exchange(&mut self, data: PartitionData) -> FetchRequest {
        let (call, request) = self.fetch();
        self.reply_fetch(&call, vec![data]);
        request
    }

    /// The next event, if there is one.
    fn event(&mut self) -> Option<Result<Event, Error>> {
        let mut context = Context::from_waker(Waker::noop());
        match self.inbox.poll_event(&mut context) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }

    /// The next event, which must be records.
    fn records(&mut self) -> Fetched {
        match self.event() {
            Some(Ok(Event::Records(records))) => records,
            other => panic!("no records: {other:?}"),
        }
    }

    /// The next event, which must be an error.
    fn error(&mut self) -> Error {
        match self.event() {
            Some(Err(error)) => error,
            other => panic!("no error: {other:?}"),
        }
    }

    /// Offsets of everything that is there to be read now.
    fn read_all(&mut self) -> Vec<i64> {
        let mut offsets = Vec::new();
        while let Some(event) = self.event() {
            if let Event::Records(mut records) = event.unwrap() {
                while let Some(record) = records.next_ref() {
                    offsets.push(record.unwrap().offset);
                }
            }
        }
        offsets
    }

    fn status(&self, partition: i32) -> PartitionStatus {
        self.inbox.status(&tp("t", partition)).unwrap()
    }

    fn position(&self) -> Option<i64> {
        self.status(0).position
    }

    fn facts(&mut self) -> Vec<Fact> {
        std::iter::from_fn(|| self.room.poll_fact(self.now)).collect()
    }

    fn says_metadata_is_stale(&mut self) -> bool {
        let facts = self.facts();
        facts.iter().any(|fact| matches!(fact, Fact::MetadataStale))
    }

    fn wait_ms(&mut self, ms: u64) {
        self.now.monotonic_us += ms * 1000;
    }

    /// Lets time pass until the room's own timer.
    fn wait_for_timer(&mut self) {
        let (at_us, _) = self.room.poll_timeout().expect("a timer runs");
        assert!(at_us > self.now.monotonic_us, "it would spin");
        self.now.monotonic_us = at_us;
    }
}

fn broker_of(call: &Call) -> BrokerId {
    match call.destination {
        crate::call::Destination::Broker(broker) => broker,
        _ => panic!("not to a broker: {:?}", call.destination),
    }
}

/// Topic `t` with an id, a partition for each leader (0: none), at leader epoch 3.
fn cluster(leaders: &[i32]) -> Cluster {
    cluster_at(3, leaders)
}

fn cluster_at(leader_epoch: i32, leaders: &[i32]) -> Cluster {
    let topic: Arc<str> = Arc::from("t");
    let partitions = leaders.iter().map(|leader| crate::metadata::Partition {
        leader: (*leader > 0).then_some(BrokerId(*leader)),
        leader_epoch,
        replicas: Vec::new(),
        in_sync_replicas: Vec::new(),
    });
    let entry = Topic {
        id: ID,
        error: ErrorCode::NONE,
        partitions: partitions.collect(),
    };
    let brokers = (1..=3).map(|id| {
        let address = BrokerAddress {
            host: Arc::from("b"),
            port: 9092,
            rack: None,
        };
        (BrokerId(id), address)
    });
    Cluster {
        brokers: brokers.collect(),
        topics: [(Arc::clone(&topic), entry)].into(),
        names: [(ID, topic)].into(),
        ..Cluster::default()
    }
}

fn fetched(partitions: Vec<PartitionData>) -> FetchResponse {
    let topic = FetchableTopicResponse::default()
        .with_topic(TopicName(StrBytes::from_static_str("t")))
        .with_topic_id(ID)
        .with_partitions(partitions);
    FetchResponse::default().with_responses(vec![topic])
}

/// An answer for partition 0 whose log ends at `end`.
fn data(records: impl Into<Bytes>, end: i64) -> PartitionData {
    PartitionData::default()
        .with_high_watermark(end)
        .with_last_stable_offset(end)
        .with_log_start_offset(0)
        .with_aborted_transactions(None)
        .with_preferred_read_replica((-1).into())
        .with_records(Some(records.into()))
}

fn refused(code: ErrorCode) -> PartitionData {
    data(Bytes::new(), -1).with_error_code(code.0)
}
