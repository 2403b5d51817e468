//! The vocabulary between the rooms: what they ask of brokers, what comes back, what they tell each
//! other. Rooms never import one another; the hall carries these values.

use crate::error::CallError;
use crate::metadata::Cluster;
use crate::time::{Now, Timer};
use std::collections::BTreeSet;
use std::sync::Arc;
use tidewatch_protocol::message::ProduceFrame;
use tidewatch_protocol::messages;

/// A broker's node id. Bootstrap addresses, whose ids are not known yet, are -1, -2, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub i32);

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Which of a broker's connections a call takes. A broker serves one request per connection at a
/// time, so a long poll must not sit before anything else (KAFKA-1935).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Metadata, offsets, coordination.
    General,
    /// Produce.
    Produce,
    /// Fetch: long polls, of the consumer with this number. Consumers share no connection for them:
    /// one that waits for records would keep all others waiting.
    Fetch(u32),
    /// JoinGroup, SyncGroup, Heartbeat: long waits.
    Group,
}

/// What a coordinator coordinates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coordinated {
    /// A consumer group, by its id.
    Group(Arc<str>),
    /// A transactional id.
    Transaction(Arc<str>),
}

/// Where a call goes. The router finds the connection, looking the coordinator up first if need be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// Whichever broker can be reached soonest.
    AnyBroker,
    /// This one (a partition's leader: the room knows the leader from the cluster).
    Broker(BrokerId),
    /// The controller, for topic administration.
    Controller,
    /// The coordinator.
    Coordinator(Coordinated),
}

/// A room of the hall. Producers and consumers are numbered, because one client carries several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoomId {
    /// The router itself: FindCoordinator.
    Router,
    /// The picture of the cluster.
    Metadata,
    /// Topic administration.
    Admin,
    /// A producer.
    Producer(u32),
    /// A consumer's fetching.
    Fetch(u32),
    /// A consumer's group: offsets.
    Group(u32),
}

/// Names a call; `number` is the room's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// Who asked.
    pub room: RoomId,
    /// Unique within the room.
    pub number: u64,
}

/// One request to one broker. It is tried once: what to do about a failure is the room's decision.
/// Until it is written it may wait for a route (a connection, a coordinator) until `give_up_us`.
#[derive(Debug)]
pub struct Call {
    /// Comes back with the reply.
    pub id: CallId,
    /// Where to.
    pub destination: Destination,
    /// Which connection.
    pub lane: Lane,
    /// What.
    pub body: Body,
    /// The highest version that the content allows (12 for a Fetch without topic ids, line 37).
    pub version_cap: Option<i16>,
    /// How long the response may take once the request is written, microseconds. It covers waits
    /// that the request itself asks of the broker, such as a fetch's `max_wait_ms`.
    pub timeout_us: u64,
    /// Not written by then (monotonic microseconds): the call fails as [`CallError`] not written.
    pub give_up_us: u64,
}

/// The requests that rooms make.
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant is Kafka's request of that name")]
pub enum Body {
    Metadata(messages::MetadataRequest),
    Produce(ProduceFrame),
    Fetch(messages::FetchRequest),
    ListOffsets(messages::ListOffsetsRequest),
    OffsetForLeaderEpoch(messages::OffsetForLeaderEpochRequest),
    FindCoordinator(messages::FindCoordinatorRequest),
    OffsetCommit(messages::OffsetCommitRequest),
    OffsetFetch(messages::OffsetFetchRequest),
    InitProducerId(messages::InitProducerIdRequest),
    CreateTopics(messages::CreateTopicsRequest),
    DeleteTopics(messages::DeleteTopicsRequest),
}

/// The responses that rooms get.
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant is Kafka's response of that name")]
pub enum Response {
    Metadata(messages::MetadataResponse),
    Produce(messages::ProduceResponse),
    /// acks=0: nothing comes back; the request was written.
    ProduceUnacknowledged,
    Fetch(messages::FetchResponse),
    ListOffsets(messages::ListOffsetsResponse),
    OffsetForLeaderEpoch(messages::OffsetForLeaderEpochResponse),
    FindCoordinator(messages::FindCoordinatorResponse),
    OffsetCommit(messages::OffsetCommitResponse),
    OffsetFetch(messages::OffsetFetchResponse),
    InitProducerId(messages::InitProducerIdResponse),
    CreateTopics(messages::CreateTopicsResponse),
    DeleteTopics(messages::DeleteTopicsResponse),
}

/// A response with what a room needs to understand it.
#[derive(Debug)]
pub struct Reply {
    /// The response.
    pub response: Response,
    /// The version it was spoken in.
    pub version: i16,
    /// Who answered.
    pub broker: BrokerId,
}

/// What one room tells all others.
#[derive(Debug, Clone)]
pub enum Fact {
    /// A new picture of the cluster, from the metadata room.
    ClusterChanged(Arc<Cluster>),
    /// Topics somebody uses: metadata covers them from now on (KIP-526).
    TopicsWanted(Vec<Arc<str>>),
    /// A topic nobody here uses any more (one `TopicsWanted` each must have been before).
    TopicUnwanted(Arc<str>),
    /// Somebody saw that the picture is stale (NOT_LEADER_OR_FOLLOWER, a lost broker): refresh soon.
    MetadataStale,
    /// A newer leader than the picture's, from a response's hint (KIP-951); ignored if its epoch is
    /// not newer (line 26).
    LeaderHint {
        /// The partition.
        partition: TopicPartition,
        /// The new leader.
        leader: BrokerId,
        /// Its epoch.
        epoch: i32,
        /// Where that broker is, if the response said.
        address: Option<(Arc<str>, u16)>,
    },
    /// NOT_COORDINATOR and the like: look it up again (line 30).
    CoordinatorLost(Coordinated),
    /// Every broker and every bootstrap address failed; trying goes on. For the `why` of a room's
    /// own timeouts.
    NoBrokerReachable {
        /// The last failure, naming the address.
        why: Arc<str>,
    },
    /// The same, and each for want of security: somebody has to mend something, so users need not
    /// wait. Trying goes on, seldom.
    NoBrokerSecure {
        /// What stands in the way, naming the address.
        why: Arc<str>,
    },
}

/// Which connections can take another call now. A room asks before it drains what cannot be taken
/// back; a call to a busy place would only wait in the router.
#[derive(Debug, Clone, Default)]
pub struct Permits {
    busy: BTreeSet<(BrokerId, Lane)>,
}

impl Permits {
    /// Nothing is busy: for tests of one room.
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether a call to `broker` on `lane` would go out at once, or as soon as the connection that
    /// it opens is up. False while the connection is throttled, backing off or full.
    pub fn may_send(&self, broker: BrokerId, lane: Lane) -> bool {
        !self.busy.contains(&(broker, lane))
    }

    /// Marks a connection as busy or free again.
    pub fn set_busy(&mut self, broker: BrokerId, lane: Lane, busy: bool) {
        if busy {
            self.busy.insert((broker, lane));
        } else {
            self.busy.remove(&(broker, lane));
        }
    }
}

/// A room: a state machine that asks brokers for things and tells others what it learnt.
///
/// The hall hands it facts and replies, then polls until it has nothing more to say:
/// `poll_fact`, `poll_call`, and last `poll_timeout` for when to be woken without news. A room does
/// whatever time brings in `poll_call` and `poll_fact`, by the `now` they are given.
pub trait Room {
    /// Something that another room said.
    fn handle_fact(&mut self, now: Now, fact: &Fact);
    /// The end of one of its calls; each call ends exactly once.
    fn handle_reply(&mut self, now: Now, id: CallId, reply: Result<Reply, CallError>);
    /// The next call it wants made.
    fn poll_call(&mut self, now: Now, permits: &Permits) -> Option<Call>;
    /// The next thing others should know.
    fn poll_fact(&mut self, now: Now) -> Option<Fact>;
    /// The next request of its user that is finished.
    fn poll_finished(&mut self) -> Option<(RequestId, Result<Outcome, crate::error::Error>)>;
    /// When to poll again even if nothing happens: monotonic microseconds and why.
    fn poll_timeout(&self) -> Option<(u64, Timer)>;
}

/// Names a user's request to the client, chosen by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a user's request ends with, where it ends well.
#[derive(Debug)]
pub enum Outcome {
    /// Done, nothing to tell (flush, assign, commit).
    Done,
    /// The cluster as known once the topics asked for are in it.
    Cluster(Arc<Cluster>),
    /// One entry per partition asked for, in its order. For ListOffsets: offset -1 where there is none.
    Offsets(Vec<(TopicPartition, OffsetAndMetadata)>),
    /// One entry per topic asked for (CreateTopics, DeleteTopics).
    Topics(Vec<(Arc<str>, Result<(), crate::error::Error>)>),
}

/// An offset as groups keep it, or as ListOffsets answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The next offset to read; -1 where there is none.
    pub offset: i64,
    /// The leader epoch of the record before it, -1 where unknown (KIP-320).
    pub leader_epoch: i32,
    /// What the committer wrote beside it; for ListOffsets empty.
    pub metadata: String,
    /// ListOffsets: the timestamp of the record found, -1 where none.
    pub timestamp_ms: i64,
}

impl OffsetAndMetadata {
    /// An offset to commit: the next one to read, and the leader epoch of the record before it, -1
    /// where unknown.
    pub fn new(offset: i64, leader_epoch: i32) -> Self {
        Self {
            offset,
            leader_epoch,
            metadata: String::new(),
            timestamp_ms: -1,
        }
    }

    /// The same with something written beside it, at most `offset.metadata.max.bytes` of the broker
    /// (4096 unless changed).
    #[must_use]
    pub fn with_metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = metadata.into();
        self
    }
}
