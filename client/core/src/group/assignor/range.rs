//! Java's RangeAssignor: of each topic a range of partitions to each of its subscribers.

use super::{Assignor, GroupMember, PartitionCounts, java_order, partitions_of};
use crate::call::TopicPartition;
use crate::group::subscription::Assignment;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Ranges: topics with the same subscribers and the same number of partitions are co-partitioned.
#[derive(Debug, Default)]
pub struct Range(());

impl Assignor for Range {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(
        &self,
        partitions: &PartitionCounts,
        members: &[GroupMember],
    ) -> Vec<(String, Assignment)> {
        let mut ordered: Vec<&GroupMember> = members.iter().collect();
        ordered.sort_by(|a, b| java_order::compare_members(a, b));
        let mut assigned: BTreeMap<&str, Vec<TopicPartition>> = BTreeMap::new();
        for (topic, count) in walked(partitions, members) {
            let subscribers = ordered
                .iter()
                .filter(|member| member.subscription.topics.contains(&topic));
            let subscribers: Vec<&&GroupMember> = subscribers.collect();
            let each = count.checked_div(subscribers.len()).unwrap_or(0);
            let one_more = count.checked_rem(subscribers.len()).unwrap_or(0);
            let mut rest = partitions_of(&topic, count);
            for (at, member) in subscribers.into_iter().enumerate() {
                let share = each + usize::from(at < one_more);
                let list = assigned.entry(&member.id).or_default();
                list.extend(rest.by_ref().take(share));
            }
        }
        let members = members.iter();
        let assigned = members.map(|member| {
            let partitions = assigned.remove(&*member.id).unwrap_or_default();
            (member.id.clone(), Assignment::of(partitions))
        });
        assigned.collect()
    }
}

/// The topics in Java's order: a set of all subscriptions, then a map of those that exist.
fn walked(partitions: &PartitionCounts, members: &[GroupMember]) -> Vec<(Arc<str>, usize)> {
    let members = java_order::members(members);
    let subscribed = members
        .iter()
        .flat_map(|member| &member.subscription.topics);
    let subscribed = java_order::topics(subscribed);
    let existing = subscribed
        .iter()
        .filter(|topic| partitions.contains_key(*topic));
    let counted = java_order::topics(existing).into_iter().map(|topic| {
        let count = partitions.get(&topic).copied().unwrap_or(0);
        (topic, count)
    });
    counted.collect()
}
