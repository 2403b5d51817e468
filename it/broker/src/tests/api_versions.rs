//! ApiVersions and the ranges it tells.

use super::script::Script;
use crate::{Apis, Options, Release};
use bytes::Bytes;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::message::encode_request;
use tidewatch_protocol::messages::{ApiKey, ApiVersionsRequest, MetadataRequest};

fn asking() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("tidewatch"))
        .with_client_software_version(StrBytes::from_static_str("0.1"))
}

#[test]
fn line_36_a_version_too_new_is_answered_in_the_oldest_body_with_the_range_to_try() {
    let mut script = Script::three_nodes();
    let connection = script.connect(1);

    // As Java's 4.4 client begins: key 18, version 5, correlation id 7, client id "c", tagged
    // fields, software name and version, cluster id (null), node id -1, tagged fields.
    let frame: &[u8] =
        b"\x00\x12\x00\x05\x00\x00\x00\x07\x00\x01c\x00\x05java\x044.4\x00\xff\xff\xff\xff\x00";
    script.send_bytes(connection, Bytes::from_static(frame));

    // Correlation id, error 35, one range: key 18 from 0 to 4. No throttle time, no tagged fields.
    let answer = script.take_bytes(connection).unwrap();
    assert_eq!(
        answer[..],
        b"\x00\x00\x00\x07\x00\x23\x00\x00\x00\x01\x00\x12\x00\x00\x00\x04"[..]
    );
    assert_eq!(script.closed(connection), None);

    script.send(connection, 4, &asking());
    let answer = script.take::<ApiVersionsRequest>(connection, 4).unwrap();
    assert_eq!(answer.error_code, 0);
}

#[test]
fn every_version_lists_the_same_ranges() {
    let mut script = Script::three_nodes();
    let newest = script.call(1, 4, &asking());
    for version in 0..=3 {
        assert_eq!(script.call(1, version, &asking()).api_keys, newest.api_keys);
    }
    let key = |api: ApiKey| {
        newest
            .api_keys
            .iter()
            .find(|range| range.api_key == api as i16)
    };
    assert_eq!(
        key(ApiKey::Produce).map(|range| range.max_version),
        Some(13)
    );
    assert_eq!(
        key(ApiKey::FindCoordinator).map(|range| range.min_version),
        Some(0)
    );
}

#[test]
fn finalised_features_are_told_and_level_zero_is_not_a_feature() {
    let mut options = Options::default();
    options.features.insert("transaction.version".to_owned(), 2);
    options.features.insert("group.version".to_owned(), 0);
    let answer = Script::with(options).call(1, 3, &asking());
    let told: Vec<_> = answer
        .finalized_features
        .iter()
        .map(|f| (f.name.as_str(), f.max_version_level))
        .collect();
    assert_eq!(told, [("transaction.version", 2)]);
}

#[test]
fn a_nameless_client_is_refused_where_names_are_asked_for() {
    let mut script = Script::three_nodes();
    assert_eq!(
        script.call(1, 3, &ApiVersionsRequest::default()).error_code,
        42
    );
    assert_eq!(
        script.call(1, 2, &ApiVersionsRequest::default()).error_code,
        0
    );
}

#[test]
fn a_cluster_poses_as_an_older_release() {
    let options = Options {
        apis: Apis::of(Release::V2_1),
        ..Options::default()
    };
    let mut script = Script::with(options);
    let answer = script.call(1, 2, &asking());
    let range = |key: i16| answer.api_keys.iter().find(|range| range.api_key == key);
    assert_eq!(
        range(ApiKey::Fetch as i16).map(|range| range.max_version),
        Some(10)
    );
    assert_eq!(range(ApiKey::DescribeCluster as i16), None);

    let all = MetadataRequest::default().with_topics(None);
    assert_eq!(script.call(1, 7, &all).brokers.len(), 1);
    let connection = script.connect(1);
    script.send(connection, 8, &all);
    assert!(
        script.closed(connection).is_some(),
        "a version beyond the range closes"
    );
}

#[test]
fn a_release_can_be_bent() {
    let mut apis = Apis::of(Release::V4_3);
    apis.cap(ApiKey::Metadata, 9);
    apis.remove(ApiKey::DescribeTopicPartitions);
    apis.advertise(18, 0, 5);
    apis.advertise(999, 0, 1);
    let mut script = Script::with(Options {
        apis,
        ..Options::default()
    });
    let answer = script.call(1, 4, &asking());
    let range = |key: i16| {
        let found = answer.api_keys.iter().find(|range| range.api_key == key);
        found.map(|range| (range.min_version, range.max_version))
    };
    assert_eq!(range(3), Some((0, 9)));
    assert_eq!(range(75), None);
    assert_eq!(range(18), Some((0, 5)));
    assert_eq!(range(999), Some((0, 1)));
}

#[test]
fn what_is_not_served_closes_the_connection() {
    let mut script = Script::three_nodes();
    let metadata = encode_request(&MetadataRequest::default(), 12, 1, "c").unwrap();
    let patched = |at: usize, value: i16| {
        let mut frame = metadata.head[4..].to_vec();
        frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        frame
    };
    for (what, frame) in [
        ("an unknown key", patched(0, 999)),
        ("a key of brokers among themselves", patched(0, 4)),
        ("a version too new", patched(2, 14)),
        ("a negative version", patched(2, -1)),
        (
            "Produce 2, which Kafka 4 advertises and refuses",
            vec![0, 0, 0, 2, 0, 0, 0, 1, 0, 0],
        ),
        ("no header", vec![0, 3]),
    ] {
        let connection = script.connect(1);
        script.send_bytes(connection, frame);
        assert!(script.closed(connection).is_some(), "{what}");
        assert_eq!(script.take_bytes(connection), None, "{what}");
    }
}
