//! Every message that we decode, by its API key at run time: whole frames as client and broker read
//! them, and the bare decoder of `kafka-protocol` to compare with.

pub mod valid;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};
use tidewatch_protocol::guard::shape::{MESSAGES, Message};
use tidewatch_protocol::guard::{DecodeError, Direction};
use tidewatch_protocol::header::decode_request_header;
use tidewatch_protocol::message::{decode_request, decode_response};
use tidewatch_protocol::messages::{self, ApiKey};

/// Every message that client or broker decodes, at every version.
pub fn spoken() -> Vec<(ApiKey, Direction, i16)> {
    let versions = |m: &'static Message| (m.versions.min..=m.versions.max).map(move |v| (m, v));
    let spoken = MESSAGES.iter().flat_map(versions);
    spoken
        .map(|(message, version)| (message.api, message.direction, version))
        .collect()
}

macro_rules! messages {
    ($($api:ident $request:ident $response:ident,)*) => {
        /// Decodes a response frame, without its length, as the client does.
        pub fn decode_response_frame(api: ApiKey, version: i16, frame: Bytes) -> Result<(), DecodeError> {
            match api {
                $(ApiKey::$api => decode_response::<messages::$request>(frame, version).map(drop),)*
                _ => Err(DecodeError::Version { api, version }),
            }
        }

        /// Decodes a request's body as the broker does.
        pub fn decode_request_body(api: ApiKey, version: i16, body: Bytes) -> Result<(), DecodeError> {
            match api {
                $(ApiKey::$api => decode_request::<messages::$request>(body, version).map(drop),)*
                _ => Err(DecodeError::Version { api, version }),
            }
        }

        /// Takes one message off `body` by the decoder of `kafka-protocol` alone, and encodes it again.
        pub fn decode_and_encode(
            api: ApiKey,
            direction: Direction,
            version: i16,
            body: &mut Bytes,
        ) -> Result<Bytes, String> {
            match (api, direction) {
                $(
                    (ApiKey::$api, Direction::Request) => again::<messages::$request>(body, version),
                    (ApiKey::$api, Direction::Response) => again::<messages::$response>(body, version),
                )*
                _ => Err(format!("{api:?} is not in the list")),
            }
        }
    };
}

messages! {
    Produce ProduceRequest ProduceResponse,
    Fetch FetchRequest FetchResponse,
    ListOffsets ListOffsetsRequest ListOffsetsResponse,
    Metadata MetadataRequest MetadataResponse,
    OffsetCommit OffsetCommitRequest OffsetCommitResponse,
    OffsetFetch OffsetFetchRequest OffsetFetchResponse,
    FindCoordinator FindCoordinatorRequest FindCoordinatorResponse,
    JoinGroup JoinGroupRequest JoinGroupResponse,
    Heartbeat HeartbeatRequest HeartbeatResponse,
    LeaveGroup LeaveGroupRequest LeaveGroupResponse,
    SyncGroup SyncGroupRequest SyncGroupResponse,
    DescribeGroups DescribeGroupsRequest DescribeGroupsResponse,
    ListGroups ListGroupsRequest ListGroupsResponse,
    SaslHandshake SaslHandshakeRequest SaslHandshakeResponse,
    ApiVersions ApiVersionsRequest ApiVersionsResponse,
    CreateTopics CreateTopicsRequest CreateTopicsResponse,
    DeleteTopics DeleteTopicsRequest DeleteTopicsResponse,
    DeleteRecords DeleteRecordsRequest DeleteRecordsResponse,
    InitProducerId InitProducerIdRequest InitProducerIdResponse,
    OffsetForLeaderEpoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
    AddPartitionsToTxn AddPartitionsToTxnRequest AddPartitionsToTxnResponse,
    AddOffsetsToTxn AddOffsetsToTxnRequest AddOffsetsToTxnResponse,
    EndTxn EndTxnRequest EndTxnResponse,
    TxnOffsetCommit TxnOffsetCommitRequest TxnOffsetCommitResponse,
    DescribeConfigs DescribeConfigsRequest DescribeConfigsResponse,
    SaslAuthenticate SaslAuthenticateRequest SaslAuthenticateResponse,
    CreatePartitions CreatePartitionsRequest CreatePartitionsResponse,
    DeleteGroups DeleteGroupsRequest DeleteGroupsResponse,
    IncrementalAlterConfigs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
    DescribeCluster DescribeClusterRequest DescribeClusterResponse,
    DescribeTopicPartitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse,
    ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse,
    ConsumerGroupDescribe ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse,
}

/// Decodes a request frame, without its length, as the broker does: the header says what it is.
pub fn decode_request_frame(mut frame: Bytes) -> Result<(), DecodeError> {
    let header = decode_request_header(&mut frame)?;
    match ApiKey::try_from(header.api_key) {
        Ok(api) => decode_request_body(api, header.api_version, frame),
        Err(()) => Ok(()),
    }
}

fn again<M: Decodable + Encodable>(body: &mut Bytes, version: i16) -> Result<Bytes, String> {
    let message = M::decode(body, version).map_err(|error| error.to_string())?;
    let mut out = BytesMut::new();
    message
        .encode(&mut out, version)
        .map_err(|error| error.to_string())?;
    Ok(out.freeze())
}
