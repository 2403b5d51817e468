//! The rows: code, Kafka's name, what to do, what it says.

use super::{ErrorCode, Meaning};

/// Turns the rows into constants of [`ErrorCode`] and into the table.
macro_rules! rows {
    ($($code:literal $name:ident [$($flag:ident)*] $says:literal;)*) => {
        impl ErrorCode {
            $(
                #[doc = concat!($says, ".")]
                pub const $name: Self = Self($code);
            )*
        }

        pub(super) static MEANINGS: [Meaning; [$($code),*].len()] = [$(
            Meaning { name: stringify!($name), says: $says, $($flag: true,)* ..super::UNKNOWN }
        ),*];
    };
}

rows! {
    -1 UNKNOWN_SERVER_ERROR [] "the broker failed unexpectedly, its log says why";
    0 NONE [] "no error";
    1 OFFSET_OUT_OF_RANGE [] "the log does not hold this offset (any more, or yet)";
    2 CORRUPT_MESSAGE [retriable] "a record failed its checksum, or has no key on a compacted topic";
    3 UNKNOWN_TOPIC_OR_PARTITION [retriable refresh_metadata] "the broker does not host this topic or partition";
    4 INVALID_FETCH_SIZE [] "the fetch size is not valid";
    5 LEADER_NOT_AVAILABLE [retriable refresh_metadata] "the partition has no leader at the moment";
    6 NOT_LEADER_OR_FOLLOWER [retriable refresh_metadata] "the broker is not the leader (or no replica) of this partition";
    7 REQUEST_TIMED_OUT [retriable] "the broker gave up waiting; what was asked may still have happened";
    8 BROKER_NOT_AVAILABLE [] "the broker is not available";
    9 REPLICA_NOT_AVAILABLE [retriable refresh_metadata] "the replica is not available";
    10 MESSAGE_TOO_LARGE [] "a batch is over the topic's max.message.bytes";
    11 STALE_CONTROLLER_EPOCH [] "the controller has moved";
    12 OFFSET_METADATA_TOO_LARGE [] "the metadata of a committed offset is over offset.metadata.max.bytes";
    13 NETWORK_EXCEPTION [retriable refresh_metadata] "the connection broke before the response";
    14 COORDINATOR_LOAD_IN_PROGRESS [retriable find_coordinator] "the coordinator is still loading its state";
    15 COORDINATOR_NOT_AVAILABLE [retriable find_coordinator] "there is no coordinator at the moment";
    16 NOT_COORDINATOR [retriable find_coordinator] "the broker is not the coordinator of this group or transaction";
    17 INVALID_TOPIC_EXCEPTION [] "the topic's name is not valid, or the topic is internal";
    18 RECORD_LIST_TOO_LARGE [] "a batch is over the topic's segment.bytes";
    19 NOT_ENOUGH_REPLICAS [retriable] "fewer replicas in sync than min.insync.replicas; nothing was written";
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND [retriable] "written, but to fewer replicas than min.insync.replicas";
    21 INVALID_REQUIRED_ACKS [] "acks must be -1, 0 or 1";
    22 ILLEGAL_GENERATION [abortable] "the group has moved on to another generation";
    23 INCONSISTENT_GROUP_PROTOCOL [fatal] "the group's members have no assignor or protocol in common with this one";
    24 INVALID_GROUP_ID [fatal] "the group id is not valid";
    25 UNKNOWN_MEMBER_ID [abortable] "the coordinator does not know this member";
    26 INVALID_SESSION_TIMEOUT [fatal] "the session timeout is outside what the broker allows";
    27 REBALANCE_IN_PROGRESS [] "the group is rebalancing, the member must rejoin";
    28 INVALID_COMMIT_OFFSET_SIZE [] "the committed offset is too large";
    29 TOPIC_AUTHORIZATION_FAILED [abortable] "this client is not allowed to do that with the topic";
    30 GROUP_AUTHORIZATION_FAILED [abortable] "this client is not allowed to use the group";
    31 CLUSTER_AUTHORIZATION_FAILED [fatal] "this client is not allowed to do that with the cluster";
    32 INVALID_TIMESTAMP [] "a record's timestamp is too far from the broker's clock";
    33 UNSUPPORTED_SASL_MECHANISM [fatal] "the broker does not offer this sasl.mechanism";
    34 ILLEGAL_SASL_STATE [fatal] "the request does not fit the state of the login";
    35 UNSUPPORTED_VERSION [fatal] "the broker does not speak this version of the API";
    36 TOPIC_ALREADY_EXISTS [] "a topic of this name exists";
    37 INVALID_PARTITIONS [] "the number of partitions is not valid";
    38 INVALID_REPLICATION_FACTOR [] "the replication factor is below 1 or over the number of brokers";
    39 INVALID_REPLICA_ASSIGNMENT [] "the assignment of replicas is not valid";
    40 INVALID_CONFIG [] "a configuration value is not valid";
    41 NOT_CONTROLLER [retriable refresh_metadata] "the broker is not the controller";
    42 INVALID_REQUEST [] "the broker found the request malformed";
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT [fatal] "the topic's message format is too old for this";
    44 POLICY_VIOLATION [] "a policy of the cluster forbids it";
    45 OUT_OF_ORDER_SEQUENCE_NUMBER [abortable] "a batch's sequence does not follow the last one";
    46 DUPLICATE_SEQUENCE_NUMBER [] "the batch was written before";
    47 INVALID_PRODUCER_EPOCH [abortable] "the producer's epoch is old";
    48 INVALID_TXN_STATE [fatal] "the transaction is not in a state that allows it";
    49 INVALID_PRODUCER_ID_MAPPING [abortable] "the producer id does not belong to this transactional id (any more)";
    50 INVALID_TRANSACTION_TIMEOUT [fatal] "transaction.timeout.ms is over the broker's transaction.max.timeout.ms";
    51 CONCURRENT_TRANSACTIONS [retriable] "an earlier step of the transaction is still going on";
    52 TRANSACTION_COORDINATOR_FENCED [] "the transaction coordinator has been replaced";
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED [fatal] "this client is not allowed to use the transactional id";
    54 SECURITY_DISABLED [] "the broker has no authorizer";
    55 OPERATION_NOT_ATTEMPTED [] "not tried, because another part of the request failed";
    56 KAFKA_STORAGE_ERROR [retriable refresh_metadata] "the broker's disk failed";
    57 LOG_DIR_NOT_FOUND [] "the broker has no such log directory";
    58 SASL_AUTHENTICATION_FAILED [fatal] "the login was refused";
    59 UNKNOWN_PRODUCER_ID [abortable] "the broker has forgotten this producer, all its records are gone";
    60 REASSIGNMENT_IN_PROGRESS [] "the partition is being reassigned";
    61 DELEGATION_TOKEN_AUTH_DISABLED [] "delegation tokens are not enabled";
    62 DELEGATION_TOKEN_NOT_FOUND [] "the broker does not know the delegation token";
    63 DELEGATION_TOKEN_OWNER_MISMATCH [] "this principal neither owns the delegation token nor may renew it";
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED [] "delegation tokens cannot be asked for on this kind of connection";
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED [] "this client is not allowed to do that with the delegation token";
    66 DELEGATION_TOKEN_EXPIRED [] "the delegation token has expired";
    67 INVALID_PRINCIPAL_TYPE [] "the type of the principal is not supported";
    68 NON_EMPTY_GROUP [] "the group has members";
    69 GROUP_ID_NOT_FOUND [] "there is no such group";
    70 FETCH_SESSION_ID_NOT_FOUND [retriable] "the broker has dropped the fetch session";
    71 INVALID_FETCH_SESSION_EPOCH [retriable] "the fetch session is at another epoch";
    72 LISTENER_NOT_FOUND [retriable refresh_metadata] "the leader has no listener of the name that this client came by";
    73 TOPIC_DELETION_DISABLED [] "delete.topic.enable is false";
    74 FENCED_LEADER_EPOCH [retriable refresh_metadata] "the leader epoch of the request is older than the broker's";
    75 UNKNOWN_LEADER_EPOCH [retriable] "the leader epoch of the request is newer than the broker's";
    76 UNSUPPORTED_COMPRESSION_TYPE [] "the compression of the records is not supported at this version";
    77 STALE_BROKER_EPOCH [] "the broker's epoch has changed";
    78 OFFSET_NOT_AVAILABLE [retriable] "the new leader does not know its high watermark yet";
    79 MEMBER_ID_REQUIRED [] "the member must join again with the id that it was given";
    80 PREFERRED_LEADER_NOT_AVAILABLE [retriable refresh_metadata] "the preferred leader is not available";
    81 GROUP_MAX_SIZE_REACHED [fatal] "the group is full";
    82 FENCED_INSTANCE_ID [abortable fatal] "another member has taken this group.instance.id";
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE [retriable refresh_metadata] "no replica can become leader";
    84 ELECTION_NOT_NEEDED [retriable refresh_metadata] "the partition has the leader that it should have";
    85 NO_REASSIGNMENT_IN_PROGRESS [] "the partition is not being reassigned";
    86 GROUP_SUBSCRIBED_TO_TOPIC [] "a member of the group is subscribed to the topic";
    87 INVALID_RECORD [] "the broker refused a record";
    88 UNSTABLE_OFFSET_COMMIT [retriable] "an open transaction holds offsets of the group";
    89 THROTTLING_QUOTA_EXCEEDED [retriable] "a quota is used up for the moment";
    90 PRODUCER_FENCED [fatal] "a newer producer has the same transactional id";
    91 RESOURCE_NOT_FOUND [] "there is no such resource";
    92 DUPLICATE_RESOURCE [] "a resource is named twice";
    93 UNACCEPTABLE_CREDENTIAL [] "the credential is not good enough for the broker";
    94 INCONSISTENT_VOTER_SET [] "sender or receiver is not among the voters";
    95 INVALID_UPDATE_VERSION [] "the version of the update is not valid";
    96 FEATURE_UPDATE_FAILED [] "the features could not be updated";
    97 PRINCIPAL_DESERIALIZATION_FAILURE [] "a forwarded principal could not be read";
    98 SNAPSHOT_NOT_FOUND [] "there is no such snapshot";
    99 POSITION_OUT_OF_RANGE [] "the position lies outside the snapshot";
    100 UNKNOWN_TOPIC_ID [retriable refresh_metadata] "the broker does not host a topic of this id";
    101 DUPLICATE_BROKER_REGISTRATION [] "the broker id is in use";
    102 BROKER_ID_NOT_REGISTERED [] "the broker id is not registered";
    103 INCONSISTENT_TOPIC_ID [retriable refresh_metadata] "the topic was deleted and created again, its id has changed";
    104 INCONSISTENT_CLUSTER_ID [] "the broker belongs to another cluster";
    105 TRANSACTIONAL_ID_NOT_FOUND [] "there is no such transactional id";
    106 FETCH_SESSION_TOPIC_ID_ERROR [retriable refresh_metadata] "the fetch session mixes topics with and without ids";
    107 INELIGIBLE_REPLICA [] "a replica cannot be in sync at the moment";
    108 NEW_LEADER_ELECTED [] "the change was made, and the leader is another now";
    109 OFFSET_MOVED_TO_TIERED_STORAGE [] "the offset has moved to tiered storage";
    110 FENCED_MEMBER_EPOCH [] "the member's epoch is old, it must give up its partitions and rejoin";
    111 UNRELEASED_INSTANCE_ID [fatal] "another member still has this group.instance.id";
    112 UNSUPPORTED_ASSIGNOR [fatal] "the group does not support the assignor";
    113 STALE_MEMBER_EPOCH [] "the member's epoch is old, the next heartbeat brings the new one";
    114 MISMATCHED_ENDPOINT_TYPE [] "a controller was asked as a broker, or a broker as a controller";
    115 UNSUPPORTED_ENDPOINT_TYPE [] "this kind of endpoint is not supported";
    116 UNKNOWN_CONTROLLER_ID [] "there is no such controller";
    117 UNKNOWN_SUBSCRIPTION_ID [] "the telemetry subscription is not known (any more)";
    118 TELEMETRY_TOO_LARGE [] "the telemetry is over the broker's limit";
    119 INVALID_REGISTRATION [] "the controller refused the broker's registration";
    120 TRANSACTION_ABORTABLE [abortable] "the transaction met an error and must be aborted";
    121 INVALID_RECORD_STATE [] "the record is not in a state to be acknowledged";
    122 SHARE_SESSION_NOT_FOUND [retriable] "the broker has dropped the share session";
    123 INVALID_SHARE_SESSION_EPOCH [retriable] "the share session is at another epoch";
    124 FENCED_STATE_EPOCH [] "the share group's state is at another epoch";
    125 INVALID_VOTER_KEY [] "the voter's key is not the replica's";
    126 DUPLICATE_VOTER [] "the voter is there already";
    127 VOTER_NOT_FOUND [] "there is no such voter";
    128 INVALID_REGULAR_EXPRESSION [] "the broker found the regular expression malformed";
    129 REBOOTSTRAP_REQUIRED [refresh_metadata] "the cluster has changed, start again from bootstrap.servers";
    130 STREAMS_INVALID_TOPOLOGY [] "the streams topology is not valid";
    131 STREAMS_INVALID_TOPOLOGY_EPOCH [] "the epoch of the streams topology is not valid";
    132 STREAMS_TOPOLOGY_FENCED [] "the epoch of the streams topology is old";
    133 SHARE_SESSION_LIMIT_REACHED [retriable] "the broker has no room for another share session";
}
