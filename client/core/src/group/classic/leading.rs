//! What the leader of a group does: reads what the members want, and assigns.

use crate::call::TopicPartition;
use crate::group::assignor::{Assignor, GroupMember, PartitionCounts, RebalanceProtocol};
use crate::group::subscription::{Assignment, Subscription};
use crate::metadata::Cluster;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tidewatch_protocol::messages::JoinGroupResponse;

/// The members as the coordinator lists them. One whose metadata cannot be read wants nothing: it
/// must not keep the others from reading (line 33).
pub(super) fn read_members(response: &JoinGroupResponse) -> Vec<GroupMember> {
    let members = response.members.iter().map(|member| GroupMember {
        id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
        subscription: Subscription::decode(&member.metadata).unwrap_or_default(),
    });
    members.collect()
}

/// Every topic that some member wants.
pub(super) fn wanted_topics(members: &[GroupMember]) -> BTreeSet<Arc<str>> {
    let topics = members
        .iter()
        .flat_map(|member| &member.subscription.topics);
    topics.cloned().collect()
}

/// The topics that a leader watches.
pub(super) fn group_topics<'a>(
    own: &'a [Arc<str>],
    foreign: &'a BTreeSet<Arc<str>>,
) -> impl Iterator<Item = &'a Arc<str>> {
    own.iter().chain(foreign)
}

/// How many partitions the topics have that exist.
pub(super) fn counts(topics: &BTreeSet<Arc<str>>, cluster: &Cluster) -> PartitionCounts {
    let counted = topics.iter().filter_map(|topic| {
        let count = cluster.partition_count(topic)?;
        Some((Arc::clone(topic), count))
    });
    counted.collect()
}

/// Everybody's assignment, as it goes into the SyncGroup.
pub(super) fn plan_assignment(
    assignor: &dyn Assignor,
    protocol: RebalanceProtocol,
    counts: &PartitionCounts,
    members: &[GroupMember],
) -> Vec<(String, Bytes)> {
    let mut assigned = assignor.assign(counts, members);
    // Kafka's own needs no help.
    if protocol == RebalanceProtocol::Cooperative && assignor.name() != "cooperative-sticky" {
        hold_back_owned(&mut assigned, members);
    }
    let assigned = assigned.into_iter();
    assigned
        .map(|(id, assignment)| (id, assignment.encode()))
        .collect()
}

/// A partition whose owner gives it up is nobody's in this generation, whatever the assignor says:
/// two members would read it at once (KIP-429). The owner's own claim counts only if no other member
/// claims it in a later generation.
fn hold_back_owned(assigned: &mut [(String, Assignment)], members: &[GroupMember]) {
    let mut owners: BTreeMap<&TopicPartition, (i32, &str)> = BTreeMap::new();
    for member in members {
        let generation = member.subscription.generation.unwrap_or(-1);
        for partition in &member.subscription.owned {
            let known = owners.get(partition);
            if known.is_none_or(|(known, _)| generation > *known) {
                owners.insert(partition, (generation, &member.id));
            }
        }
    }
    for (id, assignment) in assigned {
        assignment.partitions.retain(|partition| {
            let owner = owners.get(partition);
            owner.is_none_or(|(_, owner)| owner == id)
        });
    }
}
