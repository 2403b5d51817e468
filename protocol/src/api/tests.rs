//! Negotiation against the tables that brokers of other makes and ages advertise.

use super::*;
use crate::StrBytes;
use crate::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey};
use ApiKey::*;

type Table = &'static [(ApiKey, i16, i16)];

/// Apache Kafka 2.1, the oldest that we support.
const KAFKA_2_1: Table = &[
    (Produce, 0, 7),
    (Fetch, 0, 10),
    (ListOffsets, 0, 4),
    (Metadata, 0, 7),
    (OffsetCommit, 0, 6),
    (OffsetFetch, 0, 5),
    (FindCoordinator, 0, 2),
    (JoinGroup, 0, 3),
    (Heartbeat, 0, 2),
    (LeaveGroup, 0, 2),
    (SyncGroup, 0, 2),
    (SaslHandshake, 0, 1),
    (ApiVersions, 0, 2),
    (CreateTopics, 0, 3),
    (DeleteTopics, 0, 3),
    (InitProducerId, 0, 1),
    (OffsetForLeaderEpoch, 0, 2),
    (AddPartitionsToTxn, 0, 1),
    (AddOffsetsToTxn, 0, 1),
    (EndTxn, 0, 1),
    (TxnOffsetCommit, 0, 2),
    (DescribeConfigs, 0, 2),
    (SaslAuthenticate, 0, 0),
    (CreatePartitions, 0, 1),
];

const KAFKA_2_8: Table = &[
    (Produce, 0, 9),
    (Fetch, 0, 12),
    (ListOffsets, 0, 6),
    (Metadata, 0, 11),
    (OffsetCommit, 0, 8),
    (OffsetFetch, 0, 7),
    (FindCoordinator, 0, 3),
    (JoinGroup, 0, 7),
    (Heartbeat, 0, 4),
    (LeaveGroup, 0, 4),
    (SyncGroup, 0, 5),
    (ApiVersions, 0, 3),
    (InitProducerId, 0, 4),
    (OffsetForLeaderEpoch, 0, 4),
    (AddPartitionsToTxn, 0, 3),
    (AddOffsetsToTxn, 0, 3),
    (EndTxn, 0, 3),
    (TxnOffsetCommit, 0, 3),
];

const KAFKA_3_9: Table = &[
    (Produce, 0, 11),
    (Fetch, 0, 17),
    (ListOffsets, 0, 9),
    (Metadata, 0, 12),
    (OffsetCommit, 0, 9),
    (OffsetFetch, 0, 9),
    (FindCoordinator, 0, 6),
    (JoinGroup, 0, 9),
    (Heartbeat, 0, 4),
    (LeaveGroup, 0, 5),
    (SyncGroup, 0, 5),
    (ApiVersions, 0, 4),
    (InitProducerId, 0, 5),
    (OffsetForLeaderEpoch, 0, 4),
    (AddPartitionsToTxn, 0, 5),
    (AddOffsetsToTxn, 0, 4),
    (EndTxn, 0, 4),
    (TxnOffsetCommit, 0, 4),
    (ConsumerGroupHeartbeat, 0, 0),
];

const KAFKA_4_3: Table = &[
    (Produce, 0, 13),
    (Fetch, 4, 18),
    (ListOffsets, 1, 11),
    (Metadata, 0, 13),
    (OffsetCommit, 2, 10),
    (OffsetFetch, 1, 10),
    (FindCoordinator, 0, 6),
    (JoinGroup, 0, 9),
    (Heartbeat, 0, 4),
    (LeaveGroup, 0, 5),
    (SyncGroup, 0, 5),
    (ApiVersions, 0, 4),
    (InitProducerId, 0, 5),
    (OffsetForLeaderEpoch, 2, 4),
    (AddPartitionsToTxn, 0, 5),
    (AddOffsetsToTxn, 0, 4),
    (EndTxn, 0, 5),
    (TxnOffsetCommit, 0, 5),
    (ConsumerGroupHeartbeat, 0, 1),
];

const KFAKE: Table = &[
    (Produce, 3, 13),
    (Fetch, 4, 18),
    (ListOffsets, 0, 10),
    (Metadata, 0, 13),
    (OffsetCommit, 0, 10),
    (OffsetFetch, 0, 10),
    (FindCoordinator, 0, 6),
    (ApiVersions, 0, 5),
    (InitProducerId, 0, 5),
    (OffsetForLeaderEpoch, 3, 4),
    (TxnOffsetCommit, 0, 6),
];

const TANSU: Table = &[
    (Produce, 0, 11),
    (Fetch, 0, 17),
    (ListOffsets, 0, 9),
    (Metadata, 0, 12),
    (ApiVersions, 0, 4),
    (EndTxn, 0, 4),
];

const LIBRDKAFKA_MOCK: Table = &[
    (Produce, 0, 10),
    (Fetch, 0, 16),
    (ListOffsets, 0, 7),
    (Metadata, 0, 13),
    (OffsetFetch, 0, 6),
    (FindCoordinator, 0, 3),
    (JoinGroup, 0, 6),
    (SyncGroup, 0, 4),
    (Heartbeat, 0, 5),
    (ApiVersions, 0, 2),
    (InitProducerId, 0, 4),
    (OffsetForLeaderEpoch, 2, 2),
    (AddPartitionsToTxn, 0, 1),
    (ConsumerGroupHeartbeat, 1, 1),
];

fn broker(table: Table) -> BrokerApis {
    let api = |&(api, min, max): &(ApiKey, i16, i16)| {
        ApiVersion::default()
            .with_api_key(api as i16)
            .with_min_version(min)
            .with_max_version(max)
    };
    let response = ApiVersionsResponse::default().with_api_keys(table.iter().map(api).collect());
    BrokerApis::from_response(&response)
}

#[test]
fn every_api_negotiates_with_every_broker_from_2_1_on() {
    for table in [
        KAFKA_2_1,
        KAFKA_2_8,
        KAFKA_3_9,
        KAFKA_4_3,
        KFAKE,
        TANSU,
        LIBRDKAFKA_MOCK,
    ] {
        let broker = broker(table);
        for &(api, min, max) in table {
            let ours = client_versions(api).unwrap();
            let version = broker.negotiate(api, None).unwrap();
            assert_eq!(version, max.min(ours.max), "{api:?}");
            assert!(version >= min && version >= ours.min, "{api:?}");
        }
    }
}

#[test]
fn a_newer_broker_is_spoken_to_in_our_newest_versions() {
    let broker = broker(KAFKA_4_3);
    assert_eq!(broker.negotiate(ListOffsets, None), Ok(10));
    assert_eq!(broker.negotiate(OffsetCommit, None), Ok(9));
    assert_eq!(broker.negotiate(AddPartitionsToTxn, None), Ok(3));
}

#[test]
fn a_cap_lowers_the_version_and_may_leave_none() {
    let broker = broker(KAFKA_4_3);
    assert_eq!(broker.negotiate(Produce, Some(11)), Ok(11));
    assert_eq!(broker.negotiate(EndTxn, Some(4)), Ok(4));
    assert_eq!(broker.negotiate(Produce, Some(100)), Ok(13));
    let none = broker.negotiate(Produce, Some(2)).unwrap_err();
    assert_eq!(
        none,
        NoCommonVersion {
            api: Produce,
            broker: Some(Versions::new(0, 13)),
            ours: None
        }
    );
}

#[test]
fn no_common_version_is_said_with_both_ranges() {
    let absent = broker(KAFKA_2_1)
        .negotiate(DescribeCluster, None)
        .unwrap_err();
    assert_eq!(
        absent.to_string(),
        "the broker speaks DescribeCluster in no version, we speak in versions 0 to 2"
    );
    for (min, max) in [(0, 2), (14, 20), (9, 8)] {
        let apis = BrokerApis {
            ranges: BTreeMap::from([(Produce as i16, Versions::new(min, max))]),
            ..BrokerApis::default()
        };
        assert!(apis.negotiate(Produce, None).is_err(), "{min} to {max}");
    }
}

#[test]
fn finalised_features_count_only_when_the_broker_knows_them() {
    let feature = FinalizedFeatureKey::default()
        .with_name(StrBytes::from_static_str("transaction.version"))
        .with_max_version_level(2);
    let response = ApiVersionsResponse::default()
        .with_finalized_features(vec![feature])
        .with_finalized_features_epoch(3);
    let apis = BrokerApis::from_response(&response);
    assert_eq!(apis.finalised("transaction.version"), 2);
    assert_eq!(apis.finalised("group.version"), 0);
    let unknown = BrokerApis::from_response(&response.with_finalized_features_epoch(-1));
    assert_eq!(unknown.finalised("transaction.version"), 0);
}

#[test]
fn our_ranges_lie_within_those_of_the_structs() {
    for api in ApiKey::iter() {
        let structs = api.valid_versions();
        for ours in [client_versions(api), broker_versions(api)]
            .into_iter()
            .flatten()
        {
            assert!(
                structs.min <= ours.min && ours.max <= structs.max,
                "{api:?} {ours}"
            );
        }
    }
}
