//! What a healthy cluster may answer now and then, by API.

use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::ApiKey;

/// Without having carried the request out.
pub(super) fn before(api: ApiKey) -> &'static [ErrorCode] {
    match api {
        ApiKey::Produce => &[
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::NOT_ENOUGH_REPLICAS,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::KAFKA_STORAGE_ERROR,
        ],
        ApiKey::Fetch => &[
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::REPLICA_NOT_AVAILABLE,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::KAFKA_STORAGE_ERROR,
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
            ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        ],
        ApiKey::SyncGroup | ApiKey::Heartbeat | ApiKey::OffsetCommit => &[
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::REBALANCE_IN_PROGRESS,
        ],
        ApiKey::JoinGroup => &[
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ],
        ApiKey::FindCoordinator => &[ErrorCode::COORDINATOR_NOT_AVAILABLE],
        ApiKey::OffsetFetch => &[
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ErrorCode::UNSTABLE_OFFSET_COMMIT,
        ],
        ApiKey::TxnOffsetCommit => &[
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ErrorCode::ILLEGAL_GENERATION,
        ],
        _ => &[
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::CONCURRENT_TRANSACTIONS,
        ],
    }
}

/// After having carried it out: replicas have not followed, or a coordinator has not heard that its
/// own log has.
pub(super) fn after(api: ApiKey) -> &'static [ErrorCode] {
    match api {
        ApiKey::Produce => &[
            ErrorCode::REQUEST_TIMED_OUT,
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ],
        ApiKey::SyncGroup | ApiKey::Heartbeat | ApiKey::OffsetCommit => &[
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::REBALANCE_IN_PROGRESS,
        ],
        ApiKey::FindCoordinator => &[ErrorCode::COORDINATOR_NOT_AVAILABLE],
        _ => &[
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ],
    }
}
