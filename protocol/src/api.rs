//! Which APIs we speak, in which versions, and what a broker and we have in common.

use crate::messages::{ApiKey, ApiVersionsResponse};
use std::collections::BTreeMap;
use std::fmt;

/// An inclusive range of versions of one API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

impl Versions {
    const fn new(min: i16, max: i16) -> Self {
        Self { min, max }
    }

    /// Whether `version` lies in the range.
    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// The versions that our client speaks of `api`; `None` where it never calls it.
///
/// These are the ranges of `kafka-protocol` 0.18, which are Kafka 4.1's, with one exception:
/// AddPartitionsToTxn ends at 3, because 4 and above are between brokers (KIP-890).
pub fn client_versions(api: ApiKey) -> Option<Versions> {
    let (min, max) = match api {
        ApiKey::Produce => (3, 13),
        ApiKey::Fetch => (4, 18),
        ApiKey::ListOffsets => (1, 10),
        ApiKey::Metadata => (0, 13),
        ApiKey::OffsetCommit => (2, 9),
        ApiKey::OffsetFetch => (1, 9),
        ApiKey::FindCoordinator => (0, 6),
        ApiKey::JoinGroup => (0, 9),
        ApiKey::Heartbeat => (0, 4),
        ApiKey::LeaveGroup => (0, 5),
        ApiKey::SyncGroup => (0, 5),
        ApiKey::DescribeGroups => (0, 6),
        ApiKey::ListGroups => (0, 5),
        ApiKey::SaslHandshake => (0, 1),
        ApiKey::ApiVersions => (0, 4),
        ApiKey::CreateTopics => (2, 7),
        ApiKey::DeleteTopics => (1, 6),
        ApiKey::DeleteRecords => (0, 2),
        ApiKey::InitProducerId => (0, 5),
        ApiKey::OffsetForLeaderEpoch => (2, 4),
        ApiKey::AddPartitionsToTxn => (0, 3),
        ApiKey::AddOffsetsToTxn => (0, 4),
        ApiKey::EndTxn => (0, 5),
        ApiKey::TxnOffsetCommit => (0, 5),
        ApiKey::DescribeConfigs => (1, 4),
        ApiKey::SaslAuthenticate => (0, 2),
        ApiKey::CreatePartitions => (0, 3),
        ApiKey::DeleteGroups => (0, 2),
        ApiKey::IncrementalAlterConfigs => (0, 1),
        ApiKey::DescribeCluster => (0, 2),
        ApiKey::ConsumerGroupHeartbeat => (0, 1),
        ApiKey::ConsumerGroupDescribe => (0, 1),
        _ => return None,
    };
    Some(Versions::new(min, max))
}

/// The versions that our in-memory broker serves of `api`; `None` where it does not.
pub fn broker_versions(api: ApiKey) -> Option<Versions> {
    match api {
        ApiKey::Produce
        | ApiKey::Fetch
        | ApiKey::ListOffsets
        | ApiKey::Metadata
        | ApiKey::OffsetCommit
        | ApiKey::OffsetFetch
        | ApiKey::FindCoordinator
        | ApiKey::JoinGroup
        | ApiKey::SyncGroup
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::ApiVersions
        | ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::InitProducerId
        | ApiKey::AddPartitionsToTxn
        | ApiKey::AddOffsetsToTxn
        | ApiKey::EndTxn
        | ApiKey::TxnOffsetCommit
        | ApiKey::OffsetForLeaderEpoch
        | ApiKey::DescribeConfigs
        | ApiKey::DescribeCluster
        | ApiKey::DescribeGroups
        | ApiKey::ListGroups
        | ApiKey::DeleteRecords
        | ApiKey::CreatePartitions => client_versions(api),
        ApiKey::DescribeTopicPartitions => Some(Versions { min: 0, max: 0 }),
        _ => None,
    }
}

/// What a broker advertised in its ApiVersions response, kept per connection.
#[derive(Debug, Clone, Default)]
pub struct BrokerApis {
    ranges: BTreeMap<i16, Versions>,
    finalised_features: BTreeMap<String, i16>,
    features_epoch: i64,
}

/// The broker and we have no version of an API in common.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the broker speaks {api:?} {}, we speak {}", spoken(.broker), spoken(.ours))]
pub struct NoCommonVersion {
    /// The API.
    pub api: ApiKey,
    /// The broker's range, `None` where it does not list the API.
    pub broker: Option<Versions>,
    /// Our range, after any cap; `None` where nothing is left of it.
    pub ours: Option<Versions>,
}

fn spoken(range: &Option<Versions>) -> String {
    range.map_or_else(
        || "in no version".to_owned(),
        |range| format!("in versions {range}"),
    )
}

impl BrokerApis {
    /// Reads the ranges and the finalised features out of `response`.
    pub fn from_response(response: &ApiVersionsResponse) -> Self {
        let ranges = response.api_keys.iter();
        let ranges =
            ranges.map(|api| (api.api_key, Versions::new(api.min_version, api.max_version)));
        // A negative epoch says that the broker does not know the features (KIP-584).
        let known = response.finalized_features_epoch >= 0;
        let features = response.finalized_features.iter().filter(|_| known);
        let features = features.map(|f| (f.name.to_string(), f.max_version_level));
        Self {
            ranges: ranges.collect(),
            finalised_features: features.collect(),
            features_epoch: response.finalized_features_epoch,
        }
    }

    /// The broker's range of `api`, `None` where it does not list it.
    pub fn advertised(&self, api: ApiKey) -> Option<Versions> {
        self.ranges.get(&(api as i16)).copied()
    }

    /// The highest version of `api` that both sides speak, at most `cap` where one is given.
    ///
    /// # Errors
    /// There is none.
    pub fn negotiate(&self, api: ApiKey, cap: Option<i16>) -> Result<i16, NoCommonVersion> {
        let broker = self.advertised(api);
        let ours = client_versions(api)
            .map(|ours| Versions::new(ours.min, ours.max.min(cap.unwrap_or(i16::MAX))))
            .filter(|ours| ours.min <= ours.max);
        let common = broker.zip(ours).and_then(|(broker, ours)| {
            let highest = broker.max.min(ours.max);
            (highest >= broker.min.max(ours.min)).then_some(highest)
        });
        common.ok_or(NoCommonVersion { api, broker, ours })
    }

    /// Which state of the features this is: higher is newer, negative is unknown (KIP-584).
    pub fn features_epoch(&self) -> i64 {
        self.features_epoch
    }

    /// The finalised level of `feature` (for example `transaction.version`), 0 where absent.
    pub fn finalised(&self, feature: &str) -> i16 {
        self.finalised_features.get(feature).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
