//! Java's RoundRobinAssignor: partition by partition to member by member, in turns.

use super::{Assignor, GroupMember, PartitionCounts, java_order, partitions_of};
use crate::call::TopicPartition;
use crate::group::subscription::Assignment;

/// In turns over all topics together; who does not subscribe to a topic is skipped.
#[derive(Debug, Default)]
pub struct RoundRobin(());

impl Assignor for RoundRobin {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn assign(
        &self,
        partitions: &PartitionCounts,
        members: &[GroupMember],
    ) -> Vec<(String, Assignment)> {
        let mut turns: Vec<(&GroupMember, Vec<TopicPartition>)> =
            members.iter().map(|member| (member, Vec::new())).collect();
        turns.sort_by(|(a, _), (b, _)| java_order::compare_members(a, b));
        let mut topics: Vec<_> = partitions.iter().collect();
        topics.sort_by(|(a, _), (b, _)| java_order::compare(a, b));
        let mut next = 0;
        for (topic, count) in topics {
            for partition in partitions_of(topic, *count) {
                let mut places = (next..turns.len()).chain(0..next);
                let subscribes = |at: &usize| {
                    let member = turns.get(*at).map(|(member, _)| member);
                    member.is_some_and(|member| member.subscription.topics.contains(topic))
                };
                let Some(at) = places.find(subscribes) else {
                    break;
                };
                if let Some((_, assigned)) = turns.get_mut(at) {
                    assigned.push(partition);
                }
                next = (at + 1) % turns.len();
            }
        }
        let assigned = turns.into_iter();
        assigned
            .map(|(member, partitions)| (member.id.clone(), Assignment::of(partitions)))
            .collect()
    }
}
