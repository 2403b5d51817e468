//! OffsetCommit and OffsetFetch: what goes out and what each answer means.

use super::requests::text;
use crate::by_topic::{by_topic, topic_name};
use crate::call::{Body, GroupMetadata, OffsetAndMetadata, Outcome, Response, TopicPartition};
use crate::error::Error;
use std::collections::BTreeMap;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidewatch_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use tidewatch_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};

/// OffsetFetch carries a list of groups from here on (KIP-709).
const OFFSET_FETCH_BATCHED: i16 = 8;
/// OffsetFetch can wait for transactions from here on (KIP-447).
const OFFSET_FETCH_STABLE: i16 = 7;

/// Where the group's answer to one partition stands: topic and partition.
type Key<'a> = (&'a str, i32);

/// One user's request.
#[derive(Debug)]
pub(super) enum Job {
    Commit {
        /// What was asked for.
        asked: Vec<(TopicPartition, i64)>,
        /// Not yet committed.
        left: Vec<(TopicPartition, OffsetAndMetadata)>,
        /// The first of those that cannot be.
        error: Option<Error>,
    },
    Committed {
        wanted: Vec<TopicPartition>,
        found: BTreeMap<TopicPartition, OffsetAndMetadata>,
    },
}

/// What a response means for a request.
pub(super) enum Step {
    Finished(Result<Outcome, Error>),
    /// Again, because of this.
    Retry(ErrorCode),
}

impl Job {
    pub(super) fn commit(offsets: Vec<(TopicPartition, OffsetAndMetadata)>) -> Self {
        // The last one given for a partition counts.
        let latest: BTreeMap<_, _> = offsets.into_iter().collect();
        Self::Commit {
            asked: latest
                .iter()
                .map(|(p, offset)| (p.clone(), offset.offset))
                .collect(),
            left: latest.into_iter().collect(),
            error: None,
        }
    }

    pub(super) fn committed(wanted: Vec<TopicPartition>) -> Self {
        Self::Committed {
            wanted,
            found: BTreeMap::new(),
        }
    }

    /// What it ends with if it asks for nothing.
    pub(super) fn outcome_of_nothing(&self) -> Option<Outcome> {
        match self {
            Self::Commit { left, .. } if left.is_empty() => Some(Outcome::Done),
            Self::Committed { wanted, .. } if wanted.is_empty() => {
                Some(Outcome::Offsets(Vec::new()))
            }
            _ => None,
        }
    }

    pub(super) fn doing(&self, group: &str) -> String {
        match self {
            Self::Commit { left, .. } => match left.as_slice() {
                [(partition, offset)] => doing_commit(partition, offset, group),
                _ => format!("commit {} offsets of group {group}", left.len()),
            },
            Self::Committed { .. } => format!("look up the committed offsets of group {group}"),
        }
    }

    /// The request; a commit is made as `member`.
    pub(super) fn body(&self, member: &GroupMetadata, read_committed: bool) -> Body {
        let group = GroupId(text(&member.group_id));
        match self {
            Self::Commit { left, .. } => Body::OffsetCommit(commit_request(member, left).into()),
            Self::Committed { wanted, .. } => {
                Body::OffsetFetch(fetch_request(group, wanted, read_committed).into())
            }
        }
    }

    /// The partitions that it commits; none where it only looks up.
    pub(super) fn commits(&self) -> Vec<TopicPartition> {
        match self {
            Self::Commit { left, .. } => left
                .iter()
                .map(|(partition, _)| partition.clone())
                .collect(),
            Self::Committed { .. } => Vec::new(),
        }
    }

    /// What was asked to be committed; nothing where it only looks up.
    pub(super) fn asked(&self) -> &[(TopicPartition, i64)] {
        match self {
            Self::Commit { asked, .. } => asked,
            Self::Committed { .. } => &[],
        }
    }

    /// `as_member`: a commit that was made by a member, which may come back in its next generation.
    pub(super) fn handle_response(
        &mut self,
        response: &Response,
        group: &str,
        as_member: bool,
    ) -> Step {
        match (self, response) {
            (Self::Commit { left, error, .. }, Response::OffsetCommit(response)) => {
                let again = take_committed(left, error, response, group, as_member);
                match (again, error.take()) {
                    (Some(code), kept) => {
                        *error = kept;
                        Step::Retry(code)
                    }
                    (None, Some(error)) => Step::Finished(Err(error)),
                    (None, None) => Step::Finished(Ok(Outcome::Done)),
                }
            }
            (Self::Committed { wanted, found }, Response::OffsetFetch(response)) => {
                match take_found(wanted, found, response, group) {
                    Ok(None) => Step::Finished(Ok(answer(wanted, found))),
                    Ok(Some(code)) => Step::Retry(code),
                    Err(error) => Step::Finished(Err(error)),
                }
            }
            // The hall hands back responses to the request that was made.
            _ => Step::Retry(ErrorCode::UNKNOWN_SERVER_ERROR),
        }
    }
}

fn doing_commit(partition: &TopicPartition, offset: &OffsetAndMetadata, group: &str) -> String {
    format!("commit {partition} at {} in group {group}", offset.offset)
}

fn commit_request(
    member: &GroupMetadata,
    offsets: &[(TopicPartition, OffsetAndMetadata)],
) -> OffsetCommitRequest {
    let offsets = offsets.iter().map(|(partition, offset)| {
        let metadata = StrBytes::from_string(offset.metadata.clone());
        let wire = OffsetCommitRequestPartition::default()
            .with_partition_index(partition.partition)
            .with_committed_offset(offset.offset)
            .with_committed_leader_epoch(offset.leader_epoch)
            .with_committed_metadata(Some(metadata));
        (partition.clone(), wire)
    });
    let topics = by_topic(offsets).into_iter().map(|(topic, partitions)| {
        OffsetCommitRequestTopic::default()
            .with_name(topic_name(&topic))
            .with_partitions(partitions.into_iter().map(|(_, wire)| wire).collect())
    });
    // Partitions that are assigned by hand have no generation and no member.
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(&member.group_id)))
        .with_generation_id_or_member_epoch(member.generation_id)
        .with_member_id(text(&member.member_id))
        .with_group_instance_id(member.group_instance_id.as_deref().map(text))
        .with_retention_time_ms(-1)
        .with_topics(topics.collect())
}

/// In the shape of versions 8 and 9; [`shape_offset_fetch`] makes the older ones of it.
fn fetch_request(
    group: GroupId,
    wanted: &[TopicPartition],
    require_stable: bool,
) -> OffsetFetchRequest {
    let wanted = wanted.iter().map(|partition| (partition.clone(), ()));
    let topics = by_topic(wanted).into_iter().map(|(topic, partitions)| {
        OffsetFetchRequestTopics::default()
            .with_name(topic_name(&topic))
            .with_partition_indexes(partitions.into_iter().map(|(index, ())| index).collect())
    });
    let of_group = OffsetFetchRequestGroup::default()
        .with_group_id(group)
        .with_topics(Some(topics.collect()));
    OffsetFetchRequest::default()
        .with_groups(vec![of_group])
        .with_require_stable(require_stable)
}

/// The one group moves to where `version` keeps it, because the caller cannot know the version. What
/// is older than the option to wait for transactions has no pending offsets to wait for.
pub(crate) fn shape_offset_fetch(request: &OffsetFetchRequest, version: i16) -> OffsetFetchRequest {
    let mut shaped = request.clone();
    shaped.require_stable &= version >= OFFSET_FETCH_STABLE;
    if version >= OFFSET_FETCH_BATCHED {
        return shaped;
    }
    if let Some(group) = shaped.groups.drain(..).next() {
        shaped.group_id = group.group_id;
        shaped.topics = group.topics.map(|topics| {
            let topics = topics.into_iter().map(|topic| {
                OffsetFetchRequestTopic::default()
                    .with_name(topic.name)
                    .with_partition_indexes(topic.partition_indexes)
            });
            topics.collect()
        });
    }
    shaped
}

/// Strikes out what was committed and what cannot be; returns why the rest must be tried again.
fn take_committed(
    left: &mut Vec<(TopicPartition, OffsetAndMetadata)>,
    error: &mut Option<Error>,
    response: &OffsetCommitResponse,
    group: &str,
    as_member: bool,
) -> Option<ErrorCode> {
    let mut codes: BTreeMap<Key<'_>, ErrorCode> = BTreeMap::new();
    for topic in &response.topics {
        for answer in &topic.partitions {
            let key = (&*topic.name.0 as &str, answer.partition_index);
            codes.insert(key, ErrorCode(answer.error_code));
        }
    }
    let mut again = None;
    left.retain(|(partition, offset)| {
        let code = codes.get(&(&*partition.topic, partition.partition));
        // One that was not answered is committed again: that is harmless.
        let code = code
            .copied()
            .unwrap_or(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        if code.meaning().retriable || (as_member && is_of_generation(code)) {
            again = Some(code);
            return true;
        }
        if !code.is_ok() {
            error.get_or_insert_with(|| Error::Broker {
                doing: doing_commit(partition, offset, group),
                code,
                message: remedy(code),
            });
        }
        false
    });
    again
}

/// The member was in another generation than it thought (line 29).
pub(super) fn is_of_generation(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID
    )
}

/// Notes what was found; returns why the request must be made again.
fn take_found(
    wanted: &[TopicPartition],
    found: &mut BTreeMap<TopicPartition, OffsetAndMetadata>,
    response: &OffsetFetchResponse,
    group: &str,
) -> Result<Option<ErrorCode>, Error> {
    let failed = |code: ErrorCode| {
        if code.meaning().retriable {
            return Ok(Some(code));
        }
        Err(Error::Broker {
            doing: format!("look up the committed offsets of group {group}"),
            code,
            message: remedy(code),
        })
    };
    let (code, answers) = read_found(response, group);
    if !code.is_ok() {
        return failed(code);
    }
    for partition in wanted {
        match answers.get(&(&*partition.topic, partition.partition)) {
            Some((code, offset)) if code.is_ok() => {
                found.insert(partition.clone(), offset.clone());
            }
            Some((code, _)) => return failed(*code),
            None => return failed(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }
    Ok(None)
}

/// The group's own code and its answers, wherever the version keeps them.
fn read_found<'a>(
    response: &'a OffsetFetchResponse,
    group: &str,
) -> (ErrorCode, BTreeMap<Key<'a>, (ErrorCode, OffsetAndMetadata)>) {
    let mut answers = BTreeMap::new();
    let of = |code, offset, leader_epoch, metadata: &Option<StrBytes>| {
        let metadata = metadata.as_ref().map(ToString::to_string);
        let offset = OffsetAndMetadata {
            offset,
            leader_epoch,
            metadata: metadata.unwrap_or_default(),
            timestamp_ms: -1,
        };
        (ErrorCode(code), offset)
    };
    for topic in &response.topics {
        for p in &topic.partitions {
            let key = (&*topic.name.0 as &str, p.partition_index);
            let epoch = p.committed_leader_epoch;
            let answer = of(p.error_code, p.committed_offset, epoch, &p.metadata);
            answers.insert(key, answer);
        }
    }
    let Some(of_group) = response.groups.iter().find(|g| &*g.group_id.0 == group) else {
        return (ErrorCode(response.error_code), answers);
    };
    for topic in &of_group.topics {
        for p in &topic.partitions {
            let key = (&*topic.name.0 as &str, p.partition_index);
            let epoch = p.committed_leader_epoch;
            let answer = of(p.error_code, p.committed_offset, epoch, &p.metadata);
            answers.insert(key, answer);
        }
    }
    (ErrorCode(of_group.error_code), answers)
}

/// In the order asked for.
fn answer(
    wanted: &[TopicPartition],
    found: &BTreeMap<TopicPartition, OffsetAndMetadata>,
) -> Outcome {
    let offsets = wanted
        .iter()
        .filter_map(|partition| Some((partition.clone(), found.get(partition)?.clone())));
    Outcome::Offsets(offsets.collect())
}

/// What to do about an answer that says too little by itself.
fn remedy(code: ErrorCode) -> Option<String> {
    let remedy = match code {
        ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::ILLEGAL_GENERATION
        | ErrorCode::REBALANCE_IN_PROGRESS
        | ErrorCode::STALE_MEMBER_EPOCH => {
            "the group has members that subscribe to topics; a consumer whose partitions are \
             assigned by hand needs a group.id of its own"
        }
        ErrorCode::OFFSET_METADATA_TOO_LARGE => {
            "shorten the metadata or raise the broker's offset.metadata.max.bytes"
        }
        _ => return None,
    };
    Some(remedy.to_owned())
}
