//! What the scripts are written in: clients of a cluster, simulated time, batches.

use crate::{CloseReason, Cluster, ConnectionId, NodeId, Now, Options, Output};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use tidewatch_protocol::compression::Compression;
use tidewatch_protocol::message::{decode_response, encode_request};
use tidewatch_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use tidewatch_protocol::messages::fetch_response::PartitionData;
use tidewatch_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidewatch_protocol::messages::produce_response::PartitionProduceResponse;
use tidewatch_protocol::messages::{FetchRequest, FetchResponse, ProduceRequest, TopicName};
use tidewatch_protocol::records::{BatchBuilder, ProducerStamp};
use tidewatch_protocol::{Request, StrBytes};

pub(super) const START_MS: i64 = 1_700_000_000_000;

/// A cluster, what its clients have received, and the time.
pub(super) struct Script {
    pub(super) cluster: Cluster,
    pub(super) now: Now,
    received: BTreeMap<ConnectionId, VecDeque<Bytes>>,
    closed: BTreeMap<ConnectionId, CloseReason>,
    next_correlation_id: i32,
}

impl Script {
    pub(super) fn with(options: Options) -> Self {
        Self {
            cluster: Cluster::new(options),
            now: Now {
                monotonic_us: 5_000_000,
                wall_ms: START_MS,
            },
            received: BTreeMap::new(),
            closed: BTreeMap::new(),
            next_correlation_id: 1,
        }
    }

    /// Three nodes and the topic "t" of two partitions on all of them: node 1 leads t/0, node 2 t/1.
    pub(super) fn three_nodes() -> Self {
        let mut script = Self::with(Options::with_nodes(3));
        script.topic("t", 2, &[]);
        script
    }

    pub(super) fn topic(&mut self, name: &str, partitions: u16, configs: &[(&str, &str)]) {
        self.cluster
            .create_topic(self.now, name, partitions, 3, configs)
            .unwrap();
    }

    pub(super) fn connect(&mut self, node: i32) -> ConnectionId {
        self.cluster
            .handle_connected(NodeId(node))
            .expect("the node runs")
    }

    pub(super) fn send_bytes(&mut self, to: ConnectionId, frame: impl Into<Bytes>) {
        self.cluster.handle_frame(self.now, to, frame.into());
        self.collect();
    }

    pub(super) fn send<R: Request>(&mut self, to: ConnectionId, version: i16, request: &R) {
        let frame = encode_request(request, version, self.next_correlation_id, "script").unwrap();
        self.next_correlation_id += 1;
        let mut body = BytesMut::from(&frame.head[4..]);
        frame
            .parts
            .iter()
            .for_each(|part| body.extend_from_slice(part));
        self.send_bytes(to, body);
    }

    pub(super) fn take_bytes(&mut self, from: ConnectionId) -> Option<Bytes> {
        self.received.get_mut(&from)?.pop_front()
    }

    pub(super) fn take<R: Request>(
        &mut self,
        from: ConnectionId,
        version: i16,
    ) -> Option<R::Response> {
        let bytes = self.take_bytes(from)?;
        Some(decode_response::<R>(bytes, version).unwrap().1)
    }

    /// Sends on a connection of its own and takes the answer, which must come at once.
    pub(super) fn call<R: Request>(&mut self, node: i32, version: i16, request: &R) -> R::Response {
        let connection = self.connect(node);
        self.send(connection, version, request);
        let answer = self.take::<R>(connection, version);
        answer.unwrap_or_else(|| {
            let why = self.closed(connection);
            panic!(
                "no answer at once to API {} version {version}: {why:?}",
                R::KEY
            )
        })
    }

    pub(super) fn closed(&self, connection: ConnectionId) -> Option<&CloseReason> {
        self.closed.get(&connection)
    }

    /// Lets time pass, waking the cluster exactly when it asks for it.
    pub(super) fn pass_ms(&mut self, ms: u64) {
        let end = self.now.after_us(ms * 1000);
        while let Some(at) = self.cluster.poll_timeout().filter(|at| end.reached(*at)) {
            self.now = self
                .now
                .after_us(at.monotonic_us.saturating_sub(self.now.monotonic_us));
            self.cluster.handle_timeout(self.now);
            self.collect();
        }
        self.now = end;
    }

    /// Hands out what the cluster put out; needed after its control methods.
    pub(super) fn collect(&mut self) {
        while let Some(output) = self.cluster.poll_output() {
            match output {
                Output::Send(to, frame) => {
                    let mut body = BytesMut::from(&frame.head[4..]);
                    frame
                        .parts
                        .iter()
                        .for_each(|part| body.extend_from_slice(part));
                    self.received
                        .entry(to)
                        .or_default()
                        .push_back(body.freeze());
                }
                Output::Close(id, why) => {
                    self.closed.insert(id, why);
                }
            }
        }
    }

    /// Produces one batch to t/0 at node 1 with acks=all, and takes the answer.
    pub(super) fn produce(&mut self, batch: Bytes) -> PartitionProduceResponse {
        let response = self.call(1, 12, &produce("t", 0, batch));
        response.responses[0].partition_responses[0].clone()
    }

    /// Fetches t/0 at node 1 without waiting.
    pub(super) fn fetch(&mut self, offset: i64) -> PartitionData {
        let response = self.call(1, 12, &fetch("t", 0, offset));
        only(&response)
    }
}

pub(super) fn only(response: &FetchResponse) -> PartitionData {
    response.responses[0].partitions[0].clone()
}

pub(super) fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

pub(super) fn produce(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(records));
    let topic = TopicProduceData::default()
        .with_name(name(topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1000)
        .with_topic_data(vec![topic])
}

/// At most 1 MiB in all and per partition, no wait.
pub(super) fn fetch(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default()
        .with_topic(name(topic))
        .with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_max_bytes(1 << 20)
        .with_min_bytes(1)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// A batch in the making.
pub(super) struct Records {
    builder: BatchBuilder,
    stamp: ProducerStamp,
    codec: Compression,
}

/// `count` records with the key "k", the values v0, v1, … and ascending timestamps.
pub(super) fn records(count: i64) -> Records {
    let mut records = Records {
        builder: BatchBuilder::with_capacity(1024),
        stamp: ProducerStamp::NONE,
        codec: Compression::None,
    };
    for n in 0..count {
        records = records.add(START_MS + n, Some(b"k"), format!("v{n}").as_bytes());
    }
    records
}

impl Records {
    pub(super) fn add(mut self, timestamp_ms: i64, key: Option<&[u8]>, value: &[u8]) -> Self {
        self.builder
            .append(timestamp_ms, key, Some(value), &[])
            .unwrap();
        self
    }

    pub(super) fn by(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        self.stamp = ProducerStamp {
            producer_id,
            producer_epoch,
            base_sequence,
            transactional: false,
        };
        self
    }

    /// Part of the producer's transaction.
    pub(super) fn transactional(mut self) -> Self {
        self.stamp.transactional = true;
        self
    }

    pub(super) fn compressed(mut self, codec: Compression) -> Self {
        self.codec = codec;
        self
    }

    pub(super) fn bytes(self) -> Bytes {
        let sealed = self.builder.seal().compress(self.codec).unwrap();
        sealed.stamp(self.stamp).concat().into()
    }
}
