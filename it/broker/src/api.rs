//! The APIs, one file each: what a request becomes, given the state of the cluster.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_topic_partitions;
mod end_txn;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod member_wait;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;
mod txn_offset_commit;

pub(crate) use api_versions::encode_unsupported;
pub(crate) use fetch::{FetchWait, Wanted};
pub(crate) use join_group::JoinWait;
pub(crate) use produce::ProduceWait;
pub(crate) use sync_group::SyncWait;

use crate::faults::{InjectedError, Part, with_errors};
use crate::now::Now;
use crate::options::NodeId;
use crate::state::State;
use bytes::Bytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::frame::Frame;
use tidewatch_protocol::header::RequestHeader;
use tidewatch_protocol::message::{decode_request, encode_response};
use tidewatch_protocol::messages::{self, ApiKey};
use tidewatch_protocol::{Message, Request};

/// One request on its way: everything but its body.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) now: Now,
    pub(crate) node: NodeId,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: String,
    pub(crate) throttle_ms: i32,
    pub(crate) errors: Vec<InjectedError>,
}

impl Call {
    pub(crate) fn new(now: Now, node: NodeId, header: &RequestHeader) -> Self {
        Self {
            now,
            node,
            version: header.api_version,
            correlation_id: header.correlation_id,
            client_id: header.client_id.as_deref().unwrap_or_default().to_owned(),
            throttle_ms: 0,
            errors: Vec::new(),
        }
    }

    /// Does what the answer's part about a partition tells of, injected errors around it.
    fn on_partition<T, E: From<ErrorCode>>(
        &self,
        topic: &str,
        partition: i32,
        act: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        with_errors(&self.errors, Part::Partition(topic, partition), act)
    }

    /// The same for a topic.
    fn on_topic<T, E: From<ErrorCode>>(
        &self,
        topic: &str,
        act: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        with_errors(&self.errors, Part::Topic(topic), act)
    }

    /// The same for answers that have one error for everything.
    fn on_whole<T, E: From<ErrorCode>>(&self, act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        with_errors(&self.errors, Part::Whole, act)
    }
}

/// What became of a request.
pub(crate) enum Outcome<R> {
    /// The response.
    Answer(R),
    /// Produce with acks=0.
    NoAnswer,
    /// The answer comes with an event or with time.
    Wait(Wait),
    /// Kafka closes the connection rather than answer this.
    Close(&'static str),
}

/// A request that waits for something.
#[derive(Debug)]
pub(crate) enum Wait {
    Fetch(Box<FetchWait>),
    Produce(Box<ProduceWait>),
    Join(Box<JoinWait>),
    Sync(Box<SyncWait>),
}

impl Wait {
    /// When it is answered at the latest.
    pub(crate) fn deadline(&self) -> Now {
        match self {
            Self::Fetch(wait) => wait.deadline,
            Self::Produce(wait) => wait.deadline,
            Self::Join(wait) => wait.deadline(),
            Self::Sync(wait) => wait.deadline(),
        }
    }

    /// The answer, if what it waits for has come.
    pub(crate) fn poll(&mut self, state: &mut State, now: Now) -> Option<Served> {
        match self {
            Self::Fetch(wait) => wait.poll(state, now),
            Self::Produce(wait) => wait.poll(state, now),
            Self::Join(wait) => wait.poll(state, now),
            Self::Sync(wait) => wait.poll(state, now),
        }
    }
}

/// What the connection does about a request.
pub(crate) enum Served {
    Answer(Frame),
    NoAnswer,
    Wait(Wait),
    Close(String),
}

/// An API that is implemented: one file in `api/`, one line in [`with_api`].
trait Api: Request {
    /// The lowest version served; the highest is that of the message's struct.
    const MIN_VERSION: i16 = <Self as Message>::VERSIONS.min;

    /// The topics that it names, for faults that are about a topic.
    fn topics(&self, _state: &State) -> Vec<String> {
        Vec::new()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<Self::Response>;
}

/// Calls `$function::<Request>` for the request of an API key; `None` where it is not implemented.
macro_rules! with_api {
    ($api:expr, $function:ident($($argument:expr),*)) => {
        match $api {
            ApiKey::Produce => Some($function::<messages::ProduceRequest>($($argument),*)),
            ApiKey::Fetch => Some($function::<messages::FetchRequest>($($argument),*)),
            ApiKey::ListOffsets => Some($function::<messages::ListOffsetsRequest>($($argument),*)),
            ApiKey::Metadata => Some($function::<messages::MetadataRequest>($($argument),*)),
            ApiKey::OffsetCommit => Some($function::<messages::OffsetCommitRequest>($($argument),*)),
            ApiKey::OffsetFetch => Some($function::<messages::OffsetFetchRequest>($($argument),*)),
            ApiKey::FindCoordinator => {
                Some($function::<messages::FindCoordinatorRequest>($($argument),*))
            }
            ApiKey::JoinGroup => Some($function::<messages::JoinGroupRequest>($($argument),*)),
            ApiKey::SyncGroup => Some($function::<messages::SyncGroupRequest>($($argument),*)),
            ApiKey::Heartbeat => Some($function::<messages::HeartbeatRequest>($($argument),*)),
            ApiKey::LeaveGroup => Some($function::<messages::LeaveGroupRequest>($($argument),*)),
            ApiKey::DescribeGroups => {
                Some($function::<messages::DescribeGroupsRequest>($($argument),*))
            }
            ApiKey::ListGroups => Some($function::<messages::ListGroupsRequest>($($argument),*)),
            ApiKey::ApiVersions => Some($function::<messages::ApiVersionsRequest>($($argument),*)),
            ApiKey::CreateTopics => Some($function::<messages::CreateTopicsRequest>($($argument),*)),
            ApiKey::DeleteTopics => Some($function::<messages::DeleteTopicsRequest>($($argument),*)),
            ApiKey::DeleteRecords => {
                Some($function::<messages::DeleteRecordsRequest>($($argument),*))
            }
            ApiKey::InitProducerId => {
                Some($function::<messages::InitProducerIdRequest>($($argument),*))
            }
            ApiKey::OffsetForLeaderEpoch => {
                Some($function::<messages::OffsetForLeaderEpochRequest>($($argument),*))
            }
            ApiKey::DescribeConfigs => {
                Some($function::<messages::DescribeConfigsRequest>($($argument),*))
            }
            ApiKey::CreatePartitions => {
                Some($function::<messages::CreatePartitionsRequest>($($argument),*))
            }
            ApiKey::DescribeCluster => {
                Some($function::<messages::DescribeClusterRequest>($($argument),*))
            }
            ApiKey::DescribeTopicPartitions => {
                Some($function::<messages::DescribeTopicPartitionsRequest>($($argument),*))
            }
            ApiKey::AddPartitionsToTxn => {
                Some($function::<messages::AddPartitionsToTxnRequest>($($argument),*))
            }
            ApiKey::AddOffsetsToTxn => {
                Some($function::<messages::AddOffsetsToTxnRequest>($($argument),*))
            }
            ApiKey::EndTxn => Some($function::<messages::EndTxnRequest>($($argument),*)),
            ApiKey::TxnOffsetCommit => {
                Some($function::<messages::TxnOffsetCommitRequest>($($argument),*))
            }
            _ => None,
        }
    };
}

/// Serves a request whose version is advertised.
pub(crate) fn serve(state: &mut State, call: &Call, api: ApiKey, body: Bytes) -> Served {
    with_api!(api, serve_as(state, call, api, body))
        .unwrap_or_else(|| Served::Close(format!("{api:?} is not implemented")))
}

/// The topics that a request names; none where it cannot be read.
pub(crate) fn topics(state: &State, api: ApiKey, version: i16, body: Bytes) -> Vec<String> {
    with_api!(api, topics_of(state, version, body)).unwrap_or_default()
}

fn serve_as<R: Api>(state: &mut State, call: &Call, api: ApiKey, body: Bytes) -> Served {
    if call.version < R::MIN_VERSION {
        return Served::Close(format!("{api:?} version {} is not served", call.version));
    }
    let request = match decode_request::<R>(body, call.version) {
        Ok(request) => request,
        Err(error) => return Served::Close(format!("{api:?} version {}: {error}", call.version)),
    };
    match request.handle(state, call) {
        Outcome::Answer(response) => answer::<R>(&response, call),
        Outcome::NoAnswer => Served::NoAnswer,
        Outcome::Wait(wait) => Served::Wait(wait),
        Outcome::Close(why) => Served::Close(why.to_owned()),
    }
}

fn topics_of<R: Api>(state: &State, version: i16, body: Bytes) -> Vec<String> {
    decode_request::<R>(body, version)
        .map(|request| request.topics(state))
        .unwrap_or_default()
}

fn answer<R: Request>(response: &R::Response, call: &Call) -> Served {
    match encode_response::<R>(response, call.version, call.correlation_id) {
        Ok(frame) => Served::Answer(frame),
        Err(error) => Served::Close(error.to_string()),
    }
}

/// The code of a result, 0 where it went well.
fn code_of<T>(result: &Result<T, ErrorCode>) -> i16 {
    result.as_ref().err().map_or(0, |code| code.0)
}

/// A fenced producer is told of its epoch where it asks in a version without a code of its own.
fn fenced_before<T>(
    first_version: i16,
    call: &Call,
    result: Result<T, ErrorCode>,
) -> Result<T, ErrorCode> {
    result.map_err(|code| match code {
        ErrorCode::PRODUCER_FENCED if call.version < first_version => {
            ErrorCode::INVALID_PRODUCER_EPOCH
        }
        code => code,
    })
}
