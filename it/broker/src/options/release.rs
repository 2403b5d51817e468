//! The ranges of API versions that Kafka's releases advertise, so that a cluster can pose as one.

use std::collections::BTreeMap;
use tidewatch_protocol::api::Versions;
use tidewatch_protocol::messages::ApiKey;

/// A release of Apache Kafka whose advertised ranges are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// 2.1, the oldest that the client supports.
    V2_1,
    /// 2.8, the last with ApiVersions up to 3 and without topic ids in Fetch.
    V2_8,
    /// 3.9.
    V3_9,
    /// 4.3.
    V4_3,
}

/// The ranges that are advertised. What is advertised but not implemented closes the connection,
/// which is what Kafka 4 does with Produce 0 to 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apis {
    ranges: BTreeMap<i16, Versions>,
}

/// API, lowest version in all releases up to 3.9 and in 4.3, highest in 2.1, 2.8, 3.9 and 4.3; -1
/// where a release does not have it. Highest of 4.3 is that of the message structs where they end
/// earlier (ListOffsets 11, OffsetCommit 10 and OffsetFetch 10 are Kafka's own). AddPartitionsToTxn 4
/// and 5 are between brokers.
const RANGES: &[(ApiKey, i16, i16, [i16; 4])] = &[
    (ApiKey::Produce, 0, 0, [7, 9, 11, 13]),
    (ApiKey::Fetch, 0, 4, [10, 12, 17, 18]),
    (ApiKey::ListOffsets, 0, 1, [4, 6, 9, 10]),
    (ApiKey::Metadata, 0, 0, [7, 11, 12, 13]),
    (ApiKey::OffsetCommit, 0, 2, [6, 8, 9, 9]),
    (ApiKey::OffsetFetch, 0, 1, [5, 7, 9, 9]),
    (ApiKey::FindCoordinator, 0, 0, [2, 3, 6, 6]),
    (ApiKey::JoinGroup, 0, 0, [3, 7, 9, 9]),
    (ApiKey::Heartbeat, 0, 0, [2, 4, 4, 4]),
    (ApiKey::LeaveGroup, 0, 0, [2, 4, 5, 5]),
    (ApiKey::SyncGroup, 0, 0, [2, 5, 5, 5]),
    (ApiKey::DescribeGroups, 0, 0, [2, 5, 5, 6]),
    (ApiKey::ListGroups, 0, 0, [2, 4, 5, 5]),
    (ApiKey::ApiVersions, 0, 0, [2, 3, 4, 4]),
    (ApiKey::CreateTopics, 0, 2, [3, 7, 7, 7]),
    (ApiKey::DeleteTopics, 0, 1, [3, 6, 6, 6]),
    (ApiKey::DeleteRecords, 0, 0, [1, 2, 2, 2]),
    (ApiKey::InitProducerId, 0, 0, [1, 4, 5, 5]),
    (ApiKey::AddPartitionsToTxn, 0, 0, [1, 3, 3, 3]),
    (ApiKey::AddOffsetsToTxn, 0, 0, [1, 3, 4, 4]),
    (ApiKey::EndTxn, 0, 0, [1, 3, 4, 5]),
    (ApiKey::TxnOffsetCommit, 0, 0, [2, 3, 4, 5]),
    (ApiKey::OffsetForLeaderEpoch, 0, 2, [2, 4, 4, 4]),
    (ApiKey::DescribeConfigs, 0, 1, [2, 4, 4, 4]),
    (ApiKey::CreatePartitions, 0, 0, [1, 3, 3, 3]),
    (ApiKey::DescribeCluster, 0, 0, [-1, 0, 1, 2]),
    (ApiKey::DescribeTopicPartitions, 0, 0, [-1, -1, 0, 0]),
];

impl Apis {
    /// What `release` advertises of the APIs that are implemented here.
    #[must_use]
    pub fn of(release: Release) -> Self {
        let ranges = RANGES
            .iter()
            .map(|&(api, old_min, new_min, [v2_1, v2_8, v3_9, v4_3])| {
                let (min, max) = match release {
                    Release::V2_1 => (old_min, v2_1),
                    Release::V2_8 => (old_min, v2_8),
                    Release::V3_9 => (old_min, v3_9),
                    Release::V4_3 => (new_min, v4_3),
                };
                (api as i16, Versions { min, max })
            })
            .filter(|(_, versions)| versions.max >= 0)
            .collect();
        Self { ranges }
    }

    /// Advertises `api` as `min` to `max`, whether we have that or not: a client must choose within
    /// what it knows itself.
    pub fn advertise(&mut self, api_key: i16, min: i16, max: i16) {
        self.ranges.insert(api_key, Versions { min, max });
    }

    /// Lowers the highest version of `api`.
    pub fn cap(&mut self, api: ApiKey, max: i16) {
        if let Some(versions) = self.ranges.get_mut(&(api as i16)) {
            versions.max = versions.max.min(max);
        }
    }

    /// Lists `api` no more.
    pub fn remove(&mut self, api: ApiKey) {
        self.ranges.remove(&(api as i16));
    }

    /// The advertised range of an API key.
    #[must_use]
    pub fn range(&self, api_key: i16) -> Option<Versions> {
        self.ranges.get(&api_key).copied()
    }

    /// Every advertised range, by API key.
    pub fn iter(&self) -> impl Iterator<Item = (i16, Versions)> + '_ {
        self.ranges.iter().map(|(key, versions)| (*key, *versions))
    }
}
