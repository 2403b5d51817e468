//! Whole messages, well-formed and hostile, through the four functions that client and broker use.

use super::*;
use crate::StrBytes;
use crate::header::{decode_request_header, peek_correlation_id};
use crate::messages::api_versions_response::ApiVersion;
use crate::messages::fetch_request::{FetchTopic, ForgottenTopic};
use crate::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use crate::messages::metadata_response::MetadataResponseTopic;
use crate::messages::{
    FetchRequest, FetchResponse, HeartbeatRequest, HeartbeatResponse, MetadataRequest,
    MetadataResponse, SaslHandshakeRequest,
};
use bytes::Buf;
use uuid::Uuid;

/// What the peer reads: the frame without its length.
fn received(frame: Frame) -> Bytes {
    let mut bytes = frame.to_bytes();
    let length = bytes.get_i32();
    assert_eq!(length as usize, bytes.len());
    bytes
}

/// A response frame of these bytes after the correlation id 1 and whatever header there is.
fn response_of(body: &[u8]) -> Bytes {
    Bytes::from([&[0, 0, 0, 1], body].concat())
}

#[test]
fn a_request_goes_out_and_is_read_by_a_broker() {
    let request = MetadataRequest::default()
        .with_topics(None)
        .with_allow_auto_topic_creation(false);
    let mut frame = received(encode_request(&request, 12, 77, "agent").unwrap());
    let header = decode_request_header(&mut frame).unwrap();
    assert_eq!(
        (header.api_key, header.api_version, header.correlation_id),
        (3, 12, 77)
    );
    assert_eq!(decode_request::<MetadataRequest>(frame, 12), Ok(request));
}

#[test]
fn a_response_is_read_with_its_correlation_id() {
    let topic = MetadataResponseTopic::default()
        .with_name(Some(StrBytes::from_static_str("cpu-monitor").into()))
        .with_topic_id(Uuid::from_u128(5));
    let response = MetadataResponse::default().with_topics(vec![topic]);
    let frame = received(encode_response::<MetadataRequest>(&response, 12, 78).unwrap());
    assert_eq!(peek_correlation_id(&frame), Ok(78));
    assert_eq!(
        decode_response::<MetadataRequest>(frame, 12),
        Ok((78, response))
    );
}

#[test]
fn record_sets_and_strings_are_slices_of_the_frame() {
    let records = Bytes::from_static(&[7; 500]);
    let partition = PartitionData::default().with_records(Some(records));
    let topic = FetchableTopicResponse::default()
        .with_topic(StrBytes::from_static_str("cpu-monitor").into())
        .with_partitions(vec![partition]);
    let response = FetchResponse::default().with_responses(vec![topic]);
    let frame = received(encode_response::<FetchRequest>(&response, 11, 1).unwrap());
    let within = frame.as_ptr_range();
    let (_, read) = decode_response::<FetchRequest>(frame, 11).unwrap();
    let records = read.responses[0].partitions[0].records.as_ref().unwrap();
    assert_eq!(records.len(), 500);
    assert!(within.contains(&records.as_ptr()));
    assert!(within.contains(&read.responses[0].topic.as_ptr()));
}

#[test]
fn line_36_the_answer_to_a_too_new_api_versions_is_read_as_version_0() {
    let own = ApiVersion::default().with_api_key(18).with_max_version(3);
    let refusal = ApiVersionsResponse::default()
        .with_error_code(35)
        .with_api_keys(vec![own.clone()]);
    let frame = received(encode_response::<ApiVersionsRequest>(&refusal, 0, 4).unwrap());
    for sent_version in 0..=4 {
        let (correlation_id, read) = decode_api_versions(frame.clone(), sent_version).unwrap();
        assert_eq!((correlation_id, read.error_code), (4, 35));
        assert_eq!(read.api_keys, std::slice::from_ref(&own));
    }
    // Brokers of before 2.4 send no list at all.
    let bare = response_of(&[0, 35, 0, 0, 0, 0]);
    assert_eq!(decode_api_versions(bare, 4).unwrap().1.api_keys, []);
}

#[test]
fn line_36_an_answer_that_is_not_a_refusal_is_read_at_the_version_asked_for() {
    let listed = ApiVersion::default()
        .with_api_key(0)
        .with_min_version(3)
        .with_max_version(13);
    let response = ApiVersionsResponse::default()
        .with_api_keys(vec![listed])
        .with_throttle_time_ms(9);
    for version in 1..=4 {
        let frame = received(encode_response::<ApiVersionsRequest>(&response, version, 4).unwrap());
        assert_eq!(
            decode_api_versions(frame, version),
            Ok((4, response.clone()))
        );
    }
}

#[test]
fn line_37_a_fetch_without_a_topic_id_is_never_sent() {
    let topic = |id| FetchTopic::default().with_topic_id(Uuid::from_u128(id));
    let fetch = |ids: &[u128]| {
        FetchRequest::default().with_topics(ids.iter().map(|&id| topic(id)).collect())
    };
    let forgotten = ForgottenTopic::default().with_partitions(vec![1]);
    for version in 13..=18 {
        assert!(encode_request(&fetch(&[1, 2]), version, 1, "agent").is_ok());
        for unknown in [
            fetch(&[1, 0, 2]),
            fetch(&[1]).with_forgotten_topics_data(vec![forgotten.clone()]),
        ] {
            let refused = encode_request(&unknown, version, 1, "agent").unwrap_err();
            assert!(
                refused.to_string().contains("topic is not known"),
                "{refused}"
            );
        }
    }
    let by_name = FetchRequest::default().with_topics(vec![
        FetchTopic::default().with_topic(StrBytes::from_static_str("t").into()),
    ]);
    assert!(encode_request(&by_name, 12, 1, "agent").is_ok());
}

#[test]
fn line_41_counts_are_checked_against_the_bytes_left_before_anything_is_allocated() {
    let metadata =
        |body: &[u8], version| decode_response::<MetadataRequest>(response_of(body), version);
    for count in [[0x7f, 0xff, 0xff, 0xff], [0, 0x10, 0, 0], [0, 0, 0, 1]] {
        let refused = metadata(&count, 0);
        assert!(
            matches!(refused, Err(DecodeError::Count { .. })),
            "{refused:?}"
        );
    }
    let compact = metadata(&[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], 9);
    assert!(
        matches!(compact, Err(DecodeError::Count { .. })),
        "{compact:?}"
    );
}

#[test]
fn line_41_lengths_below_minus_one_and_nulls_that_are_not_allowed_are_refused() {
    let metadata =
        |body: &[u8], version| decode_response::<MetadataRequest>(response_of(body), version);
    for count in [
        [0xff, 0xff, 0xff, 0xfe],
        [0x80, 0, 0, 0],
        [0xff, 0xff, 0xff, 0xff],
    ] {
        let refused = metadata(&count, 0);
        assert!(
            matches!(refused, Err(DecodeError::Malformed { .. })),
            "{count:?} {refused:?}"
        );
    }
    let null_compact = metadata(&[0, 0, 0, 0, 0, 0], 9);
    assert!(
        matches!(null_compact, Err(DecodeError::Malformed { .. })),
        "{null_compact:?}"
    );
    let string = decode_request::<SaslHandshakeRequest>(Bytes::from_static(&[0xff, 0xfe]), 1);
    assert!(
        matches!(string, Err(DecodeError::Malformed { .. })),
        "{string:?}"
    );
}

#[test]
fn line_41_varints_that_overflow_are_refused_inside_messages() {
    for count in [
        &[0xff, 0xff, 0xff, 0xff, 0x7f][..],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0],
    ] {
        let body = [&[0, 0, 0, 0, 0], count, &[0; 40]].concat();
        let refused = decode_response::<MetadataRequest>(response_of(&body), 9);
        let Err(DecodeError::Malformed { what, why }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(what, "MetadataResponse.Brokers");
        assert!(why.contains("varint"), "{why}");
    }
}

#[test]
fn line_44_unknown_tagged_fields_and_error_codes_are_data() {
    let response = HeartbeatResponse::default()
        .with_error_code(31_000)
        .with_unknown_tagged_field(4_000_000, Bytes::from_static(b"later"));
    let frame = received(encode_response::<HeartbeatRequest>(&response, 4, 1).unwrap());
    assert_eq!(
        decode_response::<HeartbeatRequest>(frame, 4),
        Ok((1, response))
    );
}

#[test]
fn tagged_fields_strewn_over_tiny_structs_are_refused_before_they_take_memory() {
    // 3,000 topics with an empty name, no partitions and one empty tagged field each.
    let topic = [1, 1, 1, 9, 0];
    let topics = topic.repeat(3_000);
    let body = [
        &[1, 0xff, 0xff, 0xff, 0xff, 1, 0, 0xb9, 0x17][..],
        &topics,
        &[0],
    ]
    .concat();
    let refused = decode_request::<crate::messages::OffsetCommitRequest>(Bytes::from(body), 8);
    let Err(DecodeError::Malformed { what, why }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(what, "OffsetCommitRequest.Topics");
    assert!(why.contains("64 times"), "{why}");
}

#[test]
fn bytes_after_a_message_are_ignored() {
    let (_, read) =
        decode_response::<HeartbeatRequest>(response_of(b"\0\0\0\0\0\x1bmore"), 1).unwrap();
    assert_eq!(read.error_code, 27);
}

#[test]
fn versions_and_apis_that_we_do_not_speak_are_neither_read_nor_written() {
    let response = response_of(&[0; 64]);
    for version in [-1, 5, i16::MAX, i16::MIN] {
        let refused = decode_response::<HeartbeatRequest>(response.clone(), version);
        assert!(refused.is_err(), "{version}");
        assert!(encode_request(&HeartbeatRequest::default(), version, 1, "agent").is_err());
    }
    let vote = decode_response::<crate::messages::VoteRequest>(response, 0);
    assert_eq!(
        vote,
        Err(DecodeError::Version {
            api: ApiKey::Vote,
            version: 0
        })
    );
}

#[test]
fn a_field_that_the_version_lacks_is_not_dropped_silently() {
    let request = HeartbeatRequest::default()
        .with_group_instance_id(Some(StrBytes::from_static_str("static-1")));
    assert!(encode_request(&request, 3, 1, "agent").is_ok());
    let refused = encode_request(&request, 2, 1, "agent").unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("failed to encode Heartbeat version 2: "),
        "{refused}"
    );
}
