//! The vocabulary between the rooms: what they ask of brokers, what comes back, what they tell each
//! other. Rooms never import one another; the hall carries these values.

use crate::body::Asked;
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
    /// JoinGroup, SyncGroup and Heartbeat of one consumer, by its number: a member that waits for the
    /// others of its group must not hold up one that shares the client and is waited for.
    Group(u32),
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
    /// Whichever broker can be reached soonest. Others may be asked as well while it does not
    /// answer, so only for what may be asked twice.
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
    /// A transactional producer's transactions.
    Transaction(u32),
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
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each variant is Kafka's request of that name")]
pub enum Body {
    Metadata(Asked<messages::MetadataRequest>),
    Produce(ProduceFrame),
    Fetch(Asked<messages::FetchRequest>),
    ListOffsets(Asked<messages::ListOffsetsRequest>),
    OffsetForLeaderEpoch(Asked<messages::OffsetForLeaderEpochRequest>),
    FindCoordinator(Asked<messages::FindCoordinatorRequest>),
    OffsetCommit(Asked<messages::OffsetCommitRequest>),
    OffsetFetch(Asked<messages::OffsetFetchRequest>),
    JoinGroup(Asked<messages::JoinGroupRequest>),
    SyncGroup(Asked<messages::SyncGroupRequest>),
    Heartbeat(Asked<messages::HeartbeatRequest>),
    LeaveGroup(Asked<messages::LeaveGroupRequest>),
    InitProducerId(Asked<messages::InitProducerIdRequest>),
    AddPartitionsToTxn(Asked<messages::AddPartitionsToTxnRequest>),
    AddOffsetsToTxn(Asked<messages::AddOffsetsToTxnRequest>),
    TxnOffsetCommit(Asked<messages::TxnOffsetCommitRequest>),
    EndTxn(Asked<messages::EndTxnRequest>),
    CreateTopics(Asked<messages::CreateTopicsRequest>),
    DeleteTopics(Asked<messages::DeleteTopicsRequest>),
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
    JoinGroup(messages::JoinGroupResponse),
    SyncGroup(messages::SyncGroupResponse),
    Heartbeat(messages::HeartbeatResponse),
    LeaveGroup(messages::LeaveGroupResponse),
    InitProducerId(messages::InitProducerIdResponse),
    AddPartitionsToTxn(messages::AddPartitionsToTxnResponse),
    AddOffsetsToTxn(messages::AddOffsetsToTxnResponse),
    TxnOffsetCommit(messages::TxnOffsetCommitResponse),
    EndTxn(messages::EndTxnResponse),
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
    /// A consumer's group assigned partitions to it, each with what the group has committed.
    Assigned {
        /// The consumer.
        consumer: u32,
        /// New ones only; none where nothing is new.
        partitions: Arc<[(TopicPartition, Option<OffsetAndMetadata>)]>,
        /// As whom it has them.
        member: GroupMetadata,
    },
    /// A consumer goes back to where its group has committed; `Committed` answers it.
    CommittedWanted {
        /// The consumer.
        consumer: u32,
        /// All that it reads.
        partitions: Arc<[TopicPartition]>,
        /// Comes back with the answer. A later one takes its place.
        round: u64,
    },
    /// Where a consumer's group has committed.
    Committed {
        /// The consumer.
        consumer: u32,
        /// `None` where it has nothing.
        committed: Arc<[(TopicPartition, Option<OffsetAndMetadata>)]>,
        /// As it was asked for.
        round: u64,
    },
    /// A consumer has to give partitions up; `Revoked` answers it.
    Revoking {
        /// The consumer.
        consumer: u32,
        /// These.
        partitions: Arc<[TopicPartition]>,
        /// In which way.
        how: RevokeHow,
        /// Comes back with the answer.
        round: u64,
    },
    /// What was to be given up is: nothing of it is delivered any more, and the reader knows.
    Revoked {
        /// The consumer.
        consumer: u32,
        /// As it was asked for.
        round: u64,
    },
    /// A consumer's group wants to know what was delivered; `Delivered` answers it.
    PositionsWanted {
        /// The consumer.
        consumer: u32,
    },
    /// Where the reader of a consumer is through: it has come for more after these.
    Delivered {
        /// The consumer.
        consumer: u32,
        /// The next offset of each partition of which something was delivered.
        positions: Arc<[(TopicPartition, OffsetAndMetadata)]>,
    },
    /// A consumer's group has something to tell its reader that waiting does not cure.
    MembershipFailed {
        /// The consumer.
        consumer: u32,
        /// What it is.
        error: crate::error::Error,
    },
    /// A broker told of newer finalised features (KIP-584) than were known.
    FeaturesFinalised {
        /// Higher is newer.
        epoch: i64,
        /// The level of `transaction.version`, 0 where it is not finalised.
        transaction_version: i16,
    },
    /// From a transaction to its producer: whether and how it may send.
    SendPermit {
        /// Which producer.
        producer: u32,
        /// Counts the permits that ask for another [`Fact::Drained`].
        turn: u64,
        /// What holds from now on.
        permit: SendPermit,
    },
    /// From a producer to its transaction: records wait for a partition that was not named since
    /// the transaction began.
    PartitionWanted {
        /// Which producer.
        producer: u32,
        /// The partition.
        partition: TopicPartition,
    },
    /// From a producer to its transaction: a record was not delivered.
    SendFailed {
        /// Which producer.
        producer: u32,
        /// The broker's error code, where one was the reason.
        code: Option<tidewatch_protocol::error_code::ErrorCode>,
        /// The reason.
        why: Arc<str>,
    },
    /// From a producer to its transaction: nothing is under way or waits any more.
    Drained {
        /// Which producer.
        producer: u32,
        /// Of the permit that asked for it.
        turn: u64,
        /// A numbered batch was given up and may turn up late: what follows needs another epoch.
        gap: bool,
    },
    /// Brokers that failed, have not answered since, and are being tried again: all of them, whenever
    /// that changes. What they lead is best asked for elsewhere.
    BrokersSilent(Arc<BTreeSet<BrokerId>>),
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

/// In which way partitions are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevokeHow {
    /// The reader sees to it first, and may commit.
    Ask,
    /// They are another member's already: the reader is only told.
    Lost,
    /// The consumer itself wants to be rid of them.
    Silently,
}

/// Whether and how a transactional producer may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendPermit {
    /// Not at all: what waits fails, for this reason.
    Refused(Arc<str>),
    /// As part of the open transaction.
    Granted {
        /// The stamp of its batches.
        producer_id: i64,
        /// The stamp of its batches.
        producer_epoch: i16,
        /// Transaction version 1: the partitions that may be written to. `None` on version 2, where
        /// writing to a partition adds it (KIP-890).
        added: Option<Arc<BTreeSet<TopicPartition>>>,
        /// False once the transaction is to be committed: nothing waits for more records then.
        lingers: bool,
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

/// A room that a user's handle asks for things by commands `C`.
///
/// The hall holds such rooms as objects: only what opens one names its type, so a program that never
/// opens a consumer has no consumer's code linked into it.
pub trait Serve<C>: Room + core::fmt::Debug + Send {
    /// Takes up a user's request; its end comes out of `poll_finished` under `request`.
    fn handle_command(&mut self, now: Now, request: RequestId, command: C);

    /// Its user is gone: it tells whom it must, and does nothing else any more.
    fn handle_parting(&mut self) {}

    /// Whether everybody knows that should.
    fn has_parted(&self) -> bool {
        true
    }
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
    /// How the last transaction ended; `None` where there was none.
    Transaction(Option<TransactionEnd>),
    /// One entry per topic asked for (CreateTopics, DeleteTopics).
    Topics(Vec<(Arc<str>, Result<(), crate::error::Error>)>),
}

/// A member as its group knows it: what a commit, in a transaction too, must carry so that the
/// coordinator can tell a member from one that has been replaced (KIP-447).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    /// The group.
    pub group_id: Arc<str>,
    /// The generation that the member is in; -1 where it is in none.
    pub generation_id: i32,
    /// As the coordinator named it; empty where it is no member.
    pub member_id: Arc<str>,
    /// Its `group.instance.id`, if it is a static member (KIP-345).
    pub group_instance_id: Option<Arc<str>>,
}

impl GroupMetadata {
    /// Of a consumer whose partitions were assigned by hand.
    pub fn without_membership(group_id: impl Into<Arc<str>>) -> Self {
        Self {
            group_id: group_id.into(),
            generation_id: -1,
            member_id: Arc::from(""),
            group_instance_id: None,
        }
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    /// All of it stands.
    Committed,
    /// None of it does.
    Aborted,
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
