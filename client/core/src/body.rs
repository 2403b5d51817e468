//! A call's body to a frame and a frame to the response: one row per API.

use crate::call::{Body, Response};
use bytes::Bytes;
use tidewatch_protocol::frame::Frame;
use tidewatch_protocol::guard::DecodeError;
use tidewatch_protocol::message::{EncodeError, decode_response, encode_request};
use tidewatch_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiKey, CreateTopicsRequest,
    DeleteTopicsRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListOffsetsRequest,
    MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
    ProduceRequest, SyncGroupRequest, TxnOffsetCommitRequest,
};

/// FindCoordinator asks for several keys at once from here on (KIP-699).
const FIND_COORDINATOR_BATCHED: i16 = 4;

impl Body {
    /// Which API this is a request of.
    pub fn api(&self) -> ApiKey {
        match self {
            Self::Metadata(_) => ApiKey::Metadata,
            Self::Produce(_) => ApiKey::Produce,
            Self::Fetch(_) => ApiKey::Fetch,
            Self::ListOffsets(_) => ApiKey::ListOffsets,
            Self::OffsetForLeaderEpoch(_) => ApiKey::OffsetForLeaderEpoch,
            Self::FindCoordinator(_) => ApiKey::FindCoordinator,
            Self::OffsetCommit(_) => ApiKey::OffsetCommit,
            Self::OffsetFetch(_) => ApiKey::OffsetFetch,
            Self::JoinGroup(_) => ApiKey::JoinGroup,
            Self::SyncGroup(_) => ApiKey::SyncGroup,
            Self::Heartbeat(_) => ApiKey::Heartbeat,
            Self::LeaveGroup(_) => ApiKey::LeaveGroup,
            Self::InitProducerId(_) => ApiKey::InitProducerId,
            Self::AddPartitionsToTxn(_) => ApiKey::AddPartitionsToTxn,
            Self::AddOffsetsToTxn(_) => ApiKey::AddOffsetsToTxn,
            Self::TxnOffsetCommit(_) => ApiKey::TxnOffsetCommit,
            Self::EndTxn(_) => ApiKey::EndTxn,
            Self::CreateTopics(_) => ApiKey::CreateTopics,
            Self::DeleteTopics(_) => ApiKey::DeleteTopics,
        }
    }

    /// Whether the broker answers at all: not a Produce with acks=0 (line 9).
    pub fn is_answered(&self) -> bool {
        !matches!(self, Self::Produce(frame) if frame.acks == 0)
    }

    /// The frame for `version`.
    ///
    /// # Errors
    /// Content that `version` cannot carry.
    pub fn encode(
        &self,
        version: i16,
        correlation_id: i32,
        client_id: &str,
    ) -> Result<Frame, EncodeError> {
        match self {
            Self::Metadata(r) => encode_request(r, version, correlation_id, client_id),
            Self::Produce(r) => r.encode(version, correlation_id, client_id),
            Self::Fetch(r) => encode_request(r, version, correlation_id, client_id),
            Self::ListOffsets(r) => encode_request(r, version, correlation_id, client_id),
            Self::OffsetForLeaderEpoch(r) => encode_request(r, version, correlation_id, client_id),
            Self::FindCoordinator(r) => {
                let shaped = shape_find_coordinator(r, version);
                encode_request(&shaped, version, correlation_id, client_id)
            }
            Self::OffsetCommit(r) => encode_request(r, version, correlation_id, client_id),
            Self::OffsetFetch(r) => {
                let shaped = crate::group::shape_offset_fetch(r, version);
                encode_request(&shaped, version, correlation_id, client_id)
            }
            Self::JoinGroup(r) => {
                let shaped = crate::group::shape_join_group(r, version);
                encode_request(&shaped, version, correlation_id, client_id)
            }
            Self::SyncGroup(r) => {
                let shaped = crate::group::shape_sync_group(r, version);
                encode_request(&shaped, version, correlation_id, client_id)
            }
            Self::Heartbeat(r) => encode_request(r, version, correlation_id, client_id),
            Self::LeaveGroup(r) => {
                let shaped = crate::group::shape_leave_group(r, version);
                encode_request(&shaped, version, correlation_id, client_id)
            }
            Self::InitProducerId(r) => encode_request(r, version, correlation_id, client_id),
            Self::AddPartitionsToTxn(r) => encode_request(r, version, correlation_id, client_id),
            Self::AddOffsetsToTxn(r) => encode_request(r, version, correlation_id, client_id),
            Self::TxnOffsetCommit(r) => encode_request(r, version, correlation_id, client_id),
            Self::EndTxn(r) => encode_request(r, version, correlation_id, client_id),
            Self::CreateTopics(r) => encode_request(r, version, correlation_id, client_id),
            Self::DeleteTopics(r) => encode_request(r, version, correlation_id, client_id),
        }
    }
}

/// The one key moves to where `version` keeps it, because the caller cannot know the version.
fn shape_find_coordinator(
    request: &FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorRequest {
    let mut shaped = request.clone();
    if version >= FIND_COORDINATOR_BATCHED && shaped.coordinator_keys.is_empty() {
        shaped.coordinator_keys = vec![std::mem::take(&mut shaped.key)];
    } else if version < FIND_COORDINATOR_BATCHED
        && let Some(key) = shaped.coordinator_keys.drain(..).next()
    {
        shaped.key = key;
    }
    shaped
}

impl Response {
    /// Reads the response to a request of `api` at `version` from a whole frame, header included;
    /// returns its correlation id with it.
    ///
    /// # Errors
    /// Bytes that are not such a response.
    pub fn decode(api: ApiKey, version: i16, frame: Bytes) -> Result<(i32, Self), DecodeError> {
        macro_rules! read {
            ($request:ty, $variant:ident) => {
                decode_response::<$request>(frame, version)
                    .map(|(id, response)| (id, Self::$variant(response)))
            };
        }
        match api {
            ApiKey::Metadata => read!(MetadataRequest, Metadata),
            ApiKey::Produce => read!(ProduceRequest, Produce),
            ApiKey::Fetch => read!(FetchRequest, Fetch),
            ApiKey::ListOffsets => read!(ListOffsetsRequest, ListOffsets),
            ApiKey::OffsetForLeaderEpoch => {
                read!(OffsetForLeaderEpochRequest, OffsetForLeaderEpoch)
            }
            ApiKey::FindCoordinator => read!(FindCoordinatorRequest, FindCoordinator),
            ApiKey::OffsetCommit => read!(OffsetCommitRequest, OffsetCommit),
            ApiKey::OffsetFetch => read!(OffsetFetchRequest, OffsetFetch),
            ApiKey::JoinGroup => read!(JoinGroupRequest, JoinGroup),
            ApiKey::SyncGroup => read!(SyncGroupRequest, SyncGroup),
            ApiKey::Heartbeat => read!(HeartbeatRequest, Heartbeat),
            ApiKey::LeaveGroup => read!(LeaveGroupRequest, LeaveGroup),
            ApiKey::InitProducerId => read!(InitProducerIdRequest, InitProducerId),
            ApiKey::AddPartitionsToTxn => read!(AddPartitionsToTxnRequest, AddPartitionsToTxn),
            ApiKey::AddOffsetsToTxn => read!(AddOffsetsToTxnRequest, AddOffsetsToTxn),
            ApiKey::TxnOffsetCommit => read!(TxnOffsetCommitRequest, TxnOffsetCommit),
            ApiKey::EndTxn => read!(EndTxnRequest, EndTxn),
            ApiKey::CreateTopics => read!(CreateTopicsRequest, CreateTopics),
            ApiKey::DeleteTopics => read!(DeleteTopicsRequest, DeleteTopics),
            _ => Err(DecodeError::Version { api, version }),
        }
    }

    /// How long the broker asks us to wait before the next request (KIP-219).
    pub fn throttle_time_ms(&self) -> i32 {
        match self {
            Self::Metadata(r) => r.throttle_time_ms,
            Self::Produce(r) => r.throttle_time_ms,
            Self::ProduceUnacknowledged => 0,
            Self::Fetch(r) => r.throttle_time_ms,
            Self::ListOffsets(r) => r.throttle_time_ms,
            Self::OffsetForLeaderEpoch(r) => r.throttle_time_ms,
            Self::FindCoordinator(r) => r.throttle_time_ms,
            Self::OffsetCommit(r) => r.throttle_time_ms,
            Self::OffsetFetch(r) => r.throttle_time_ms,
            Self::JoinGroup(r) => r.throttle_time_ms,
            Self::SyncGroup(r) => r.throttle_time_ms,
            Self::Heartbeat(r) => r.throttle_time_ms,
            Self::LeaveGroup(r) => r.throttle_time_ms,
            Self::InitProducerId(r) => r.throttle_time_ms,
            Self::AddPartitionsToTxn(r) => r.throttle_time_ms,
            Self::AddOffsetsToTxn(r) => r.throttle_time_ms,
            Self::TxnOffsetCommit(r) => r.throttle_time_ms,
            Self::EndTxn(r) => r.throttle_time_ms,
            Self::CreateTopics(r) => r.throttle_time_ms,
            Self::DeleteTopics(r) => r.throttle_time_ms,
        }
    }
}
