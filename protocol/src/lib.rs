//! Every byte on the Kafka wire, and nothing else: frames, headers, API versions, record batches,
//! compression and the error-code table. No I/O, no clock, no async runtime.
//!
//! The structs of requests and responses come from the `kafka-protocol` crate, re-exported as
//! [`messages`]; everything around them is ours, because no bytes from a peer may make us panic,
//! abort, hang or allocate more than a small multiple of the frame.
//!
//! A client's side of one request, as bytes:
//!
//! ```
//! use tidewatch_protocol::api::BrokerApis;
//! use tidewatch_protocol::error_code::ErrorCode;
//! use tidewatch_protocol::frame::{MAX_FRAME_BYTES, split_frame};
//! use tidewatch_protocol::message::{decode_response, encode_request};
//! use tidewatch_protocol::messages::{ApiKey, MetadataRequest};
//! # use bytes::BytesMut;
//! # use tidewatch_protocol::message::encode_response;
//! # use tidewatch_protocol::messages::{ApiVersionsResponse, MetadataResponse, api_versions_response::ApiVersion};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let metadata = ApiVersion::default().with_api_key(3).with_max_version(12);
//! # let handshake = ApiVersionsResponse::default().with_api_keys(vec![metadata]);
//! let broker = BrokerApis::from_response(&handshake);
//! let version = broker.negotiate(ApiKey::Metadata, None)?;
//! let request = encode_request(&MetadataRequest::default(), version, 1, "agent")?;
//! // request.head and request.parts go out in one vectored write; then, as bytes come in:
//! # let answer = encode_response::<MetadataRequest>(&MetadataResponse::default(), version, 1)?;
//! # let mut received = BytesMut::from(&answer.to_bytes()[..]);
//! if let Some(frame) = split_frame(&mut received, MAX_FRAME_BYTES)? {
//!     let (correlation_id, response) = decode_response::<MetadataRequest>(frame, version)?;
//!     println!("{correlation_id}: {}", ErrorCode(response.error_code));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`frame`] cuts and caps what comes in; [`header`] and [`message`] read and write what is in it.
//! - [`guard`] walks every body before it is decoded. Nothing else reads a message from a peer.
//! - [`records`] and [`compression`] are the record sets, which messages only carry.
//! - [`api`] has the versions that we speak, [`error_code`] what an answer means.

pub mod api;
pub mod compression;
pub mod error_code;
pub mod frame;
pub mod guard;
pub mod header;
pub mod message;
pub mod records;

pub use kafka_protocol::messages;
pub use kafka_protocol::protocol::{Message, Request, StrBytes};
