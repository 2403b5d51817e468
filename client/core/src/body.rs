//! A call's body to a frame and a frame to the response: one row per API.

use crate::call::{Body, Response};
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use tidewatch_protocol::Request;
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
            Self::Produce(frame) => frame.encode(version, correlation_id, client_id),
            Self::Metadata(r) => r.encode(version, correlation_id, client_id),
            Self::Fetch(r) => r.encode(version, correlation_id, client_id),
            Self::ListOffsets(r) => r.encode(version, correlation_id, client_id),
            Self::OffsetForLeaderEpoch(r) => r.encode(version, correlation_id, client_id),
            Self::FindCoordinator(r) => r.encode(version, correlation_id, client_id),
            Self::OffsetCommit(r) => r.encode(version, correlation_id, client_id),
            Self::OffsetFetch(r) => r.encode(version, correlation_id, client_id),
            Self::JoinGroup(r) => r.encode(version, correlation_id, client_id),
            Self::SyncGroup(r) => r.encode(version, correlation_id, client_id),
            Self::Heartbeat(r) => r.encode(version, correlation_id, client_id),
            Self::LeaveGroup(r) => r.encode(version, correlation_id, client_id),
            Self::InitProducerId(r) => r.encode(version, correlation_id, client_id),
            Self::AddPartitionsToTxn(r) => r.encode(version, correlation_id, client_id),
            Self::AddOffsetsToTxn(r) => r.encode(version, correlation_id, client_id),
            Self::TxnOffsetCommit(r) => r.encode(version, correlation_id, client_id),
            Self::EndTxn(r) => r.encode(version, correlation_id, client_id),
            Self::CreateTopics(r) => r.encode(version, correlation_id, client_id),
            Self::DeleteTopics(r) => r.encode(version, correlation_id, client_id),
        }
    }

    /// What reads the response.
    pub(crate) fn decoder(&self) -> Decoder {
        match self {
            Self::Produce(_) => decode::<ProduceRequest>,
            Self::Metadata(r) => r.decoder,
            Self::Fetch(r) => r.decoder,
            Self::ListOffsets(r) => r.decoder,
            Self::OffsetForLeaderEpoch(r) => r.decoder,
            Self::FindCoordinator(r) => r.decoder,
            Self::OffsetCommit(r) => r.decoder,
            Self::OffsetFetch(r) => r.decoder,
            Self::JoinGroup(r) => r.decoder,
            Self::SyncGroup(r) => r.decoder,
            Self::Heartbeat(r) => r.decoder,
            Self::LeaveGroup(r) => r.decoder,
            Self::InitProducerId(r) => r.decoder,
            Self::AddPartitionsToTxn(r) => r.decoder,
            Self::AddOffsetsToTxn(r) => r.decoder,
            Self::TxnOffsetCommit(r) => r.decoder,
            Self::EndTxn(r) => r.decoder,
            Self::CreateTopics(r) => r.decoder,
            Self::DeleteTopics(r) => r.decoder,
        }
    }
}

/// Reads the response to a request at that version from a whole frame, header included; returns its
/// correlation id with it.
///
/// # Errors
/// Bytes that are not such a response.
pub(crate) type Decoder = fn(Bytes, i16) -> Result<(i32, Response), DecodeError>;

/// A request and how it is written and its response read: as functions that it brings along, so that
/// a program has only those APIs linked into it whose requests it makes. Shared when it is cloned.
pub struct Asked<R> {
    request: Arc<R>,
    encoder: fn(&R, i16, i32, &str) -> Result<Frame, EncodeError>,
    decoder: Decoder,
}

impl<R> Clone for Asked<R> {
    fn clone(&self) -> Self {
        Self {
            request: Arc::clone(&self.request),
            ..*self
        }
    }
}

impl<R> Asked<R> {
    fn encode(
        &self,
        version: i16,
        correlation_id: i32,
        client_id: &str,
    ) -> Result<Frame, EncodeError> {
        (self.encoder)(&self.request, version, correlation_id, client_id)
    }
}

impl<R: Api> From<R> for Asked<R> {
    fn from(request: R) -> Self {
        Self {
            request: Arc::new(request),
            encoder: |request, version, correlation_id, client_id| {
                encode_request(
                    &*request.shaped(version),
                    version,
                    correlation_id,
                    client_id,
                )
            },
            decoder: decode::<R>,
        }
    }
}

impl<R> Deref for Asked<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.request
    }
}

impl<R: fmt::Debug> fmt::Debug for Asked<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.fmt(f)
    }
}

/// A request that the core makes.
pub trait Api: Request + Clone {
    /// As `version` wants it, because the caller cannot know the version.
    fn shaped(&self, version: i16) -> Cow<'_, Self> {
        let _ = version;
        Cow::Borrowed(self)
    }

    /// What it is answered with.
    fn response(response: Self::Response) -> Response;
}

fn decode<R: Api>(frame: Bytes, version: i16) -> Result<(i32, Response), DecodeError> {
    let (correlation_id, response) = decode_response::<R>(frame, version)?;
    Ok((correlation_id, R::response(response)))
}

/// Rows of an API's request, its response, and what shapes it to a version, if anything does.
macro_rules! apis {
    ($($request:ident => $response:ident $(by $shape:path)?;)*) => {$(
        impl Api for $request {
            $(fn shaped(&self, version: i16) -> Cow<'_, Self> {
                Cow::Owned($shape(self, version))
            })?

            fn response(response: Self::Response) -> Response {
                Response::$response(response)
            }
        }
    )*};
}

apis! {
    MetadataRequest => Metadata;
    ProduceRequest => Produce;
    FetchRequest => Fetch;
    ListOffsetsRequest => ListOffsets;
    OffsetForLeaderEpochRequest => OffsetForLeaderEpoch;
    FindCoordinatorRequest => FindCoordinator by shape_find_coordinator;
    OffsetCommitRequest => OffsetCommit;
    OffsetFetchRequest => OffsetFetch by crate::group::shape_offset_fetch;
    JoinGroupRequest => JoinGroup by crate::group::shape_join_group;
    SyncGroupRequest => SyncGroup by crate::group::shape_sync_group;
    HeartbeatRequest => Heartbeat;
    LeaveGroupRequest => LeaveGroup by crate::group::shape_leave_group;
    InitProducerIdRequest => InitProducerId;
    AddPartitionsToTxnRequest => AddPartitionsToTxn;
    AddOffsetsToTxnRequest => AddOffsetsToTxn;
    TxnOffsetCommitRequest => TxnOffsetCommit;
    EndTxnRequest => EndTxn;
    CreateTopicsRequest => CreateTopics;
    DeleteTopicsRequest => DeleteTopics;
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
