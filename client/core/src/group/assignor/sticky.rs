//! Java's StickyAssignor, and what it shares with the cooperative one: as balanced as can be, and
//! moving as little as can be (KIP-54, KIP-341).

mod constrained;
mod general;

use super::{Assignor, GroupMember, PartitionCounts, java_order};
use crate::call::TopicPartition;
use crate::group::subscription::{Assignment, Malformed, Reader, Subscription, put_partitions};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Sticky assignments; members give all partitions up before every rebalance.
#[derive(Debug, Default)]
pub struct Sticky {
    /// What was assigned last, and in which generation.
    last: Option<(Vec<TopicPartition>, i32)>,
}

impl Assignor for Sticky {
    fn name(&self) -> &str {
        "sticky"
    }

    /// Version 1 of Java's: the assignment, and its generation.
    fn user_data(&self, _topics: &[Arc<str>]) -> Option<Bytes> {
        let (partitions, generation) = self.last.as_ref()?;
        let topics = partitions.iter().map(|partition| &partition.topic);
        let topics = java_order::computed_topics(topics);
        let mut walked = partitions.clone();
        walked.sort_by_key(|partition| topics.iter().position(|t| *t == partition.topic));
        let mut out = BytesMut::new();
        put_partitions(&mut out, &walked);
        out.put_i32(*generation);
        Some(out.freeze())
    }

    fn assign(
        &self,
        partitions: &PartitionCounts,
        members: &[GroupMember],
    ) -> Vec<(String, Assignment)> {
        let assigned = assign_sticky(partitions, members, claim).assigned;
        let assigned = assigned.into_iter();
        assigned
            .map(|(id, partitions)| (id, Assignment::of(partitions)))
            .collect()
    }

    fn handle_assignment(&mut self, assignment: &Assignment, generation: i32) {
        self.last = Some((assignment.partitions.clone(), generation));
    }
}

/// What a member says it had, and in which generation.
#[derive(Debug, Clone, Default)]
pub(super) struct Claim {
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) generation: Option<i32>,
}

/// Out of the user data; older members leave the generation out.
fn claim(subscription: &Subscription) -> Claim {
    let user_data = subscription.user_data.as_ref();
    let Some(user_data) = user_data.filter(|bytes| !bytes.is_empty()) else {
        return Claim::default();
    };
    let read = |with_generation: bool| {
        let mut reader = Reader {
            rest: user_data.clone(),
        };
        let partitions = reader.partitions()?;
        let generation = with_generation.then(|| reader.i32()).transpose()?;
        Ok::<_, Malformed>(Claim {
            partitions,
            generation,
        })
    };
    read(true).or_else(|_| read(false)).unwrap_or(Claim {
        partitions: Vec::new(),
        generation: Some(-1),
    })
}

/// Who gets what.
pub(super) struct StickyAssignment {
    pub(super) assigned: Vec<(String, Vec<TopicPartition>)>,
    /// What goes from one member to another, as far as the way of assigning knows.
    pub(super) moving: Option<BTreeMap<TopicPartition, String>>,
}

/// The members, and what each may keep.
struct Owners<'a> {
    /// In the order in which Java walks them.
    members: Vec<(&'a GroupMember, Claim)>,
    /// By member, in the same order.
    owned: Vec<Vec<TopicPartition>>,
    /// Claimed by several in the same generation: nobody keeps them.
    contested: BTreeSet<TopicPartition>,
    max_generation: i32,
    same_subscriptions: bool,
}

pub(super) fn assign_sticky(
    partitions: &PartitionCounts,
    members: &[GroupMember],
    claim: fn(&Subscription) -> Claim,
) -> StickyAssignment {
    let wanted = |topic: &&Arc<str>| {
        let mut members = members.iter();
        members.any(|member| member.subscription.topics.contains(*topic))
    };
    let partitions: PartitionCounts = partitions
        .iter()
        .filter(|(topic, count)| **count > 0 && wanted(topic))
        .map(|(topic, count)| (Arc::clone(topic), *count))
        .collect();
    let owners = owners(&partitions, members, claim);
    match owners.same_subscriptions {
        true => constrained::assign(&partitions, owners),
        false => general::assign(&partitions, owners),
    }
}

/// Of several that claim a partition the one of the latest generation keeps it.
fn owners<'a>(
    partitions: &PartitionCounts,
    members: &'a [GroupMember],
    claim: fn(&Subscription) -> Claim,
) -> Owners<'a> {
    let members = java_order::members(members).into_iter();
    let members: Vec<_> = members.map(|m| (m, claim(&m.subscription))).collect();
    let mut owned: Vec<Vec<TopicPartition>> = vec![Vec::new(); members.len()];
    let mut contested = BTreeSet::new();
    let mut owner_of: BTreeMap<TopicPartition, usize> = BTreeMap::new();
    let mut max_generation = -1;
    for (at, (_, claim)) in members.iter().enumerate() {
        let generation = claim.generation.unwrap_or(-1);
        max_generation = max_generation.max(generation);
        for partition in claim.partitions.iter().filter(|p| exists(partitions, p)) {
            let Some(other) = owner_of.get(partition).copied() else {
                owner_of.insert(partition.clone(), at);
                push(&mut owned, at, partition);
                continue;
            };
            let others = members
                .get(other)
                .and_then(|(m, _)| m.subscription.generation);
            let others = others.unwrap_or(-1);
            if generation < others {
                continue;
            }
            if let Some(list) = owned.get_mut(other)
                && let Some(place) = list.iter().position(|owned| owned == partition)
            {
                list.remove(place);
            }
            owner_of.insert(partition.clone(), at);
            if generation == others {
                contested.insert(partition.clone());
            } else {
                push(&mut owned, at, partition);
            }
        }
    }
    Owners {
        same_subscriptions: subscriptions_are_same(&members),
        members,
        owned,
        contested,
        max_generation,
    }
}

fn push(lists: &mut [Vec<TopicPartition>], at: usize, partition: &TopicPartition) {
    if let Some(list) = lists.get_mut(at) {
        list.push(partition.clone());
    }
}

fn exists(partitions: &PartitionCounts, partition: &TopicPartition) -> bool {
    let count = partitions.get(&partition.topic).copied().unwrap_or(0);
    usize::try_from(partition.partition).is_ok_and(|index| index < count)
}

fn subscriptions_are_same(members: &[(&GroupMember, Claim)]) -> bool {
    let mut first: &[Arc<str>] = &[];
    members.iter().all(|(member, _)| {
        let topics = &member.subscription.topics;
        if first.is_empty() {
            first = topics;
            return true;
        }
        topics.len() == first.len() && topics.iter().all(|topic| first.contains(topic))
    })
}

#[cfg(test)]
mod tests {
    use super::super::CooperativeSticky;
    use super::*;

    fn member(id: &str, owned: &[i32], generation: i32) -> GroupMember {
        GroupMember {
            id: id.to_owned(),
            instance_id: None,
            subscription: Subscription {
                topics: vec![Arc::from("t")],
                owned: owned.iter().map(|p| TopicPartition::new("t", *p)).collect(),
                generation: Some(generation),
                ..Subscription::default()
            },
        }
    }

    fn assigned(members: &[GroupMember]) -> Vec<Vec<i32>> {
        let counts = PartitionCounts::from([(Arc::from("t"), 2)]);
        let assigned = CooperativeSticky::default().assign(&counts, members);
        let assigned: BTreeMap<String, Assignment> = assigned.into_iter().collect();
        let of = |member: &GroupMember| {
            let partitions = assigned[&member.id].partitions.iter();
            partitions.map(|partition| partition.partition).collect()
        };
        members.iter().map(of).collect()
    }

    #[test]
    fn line_33_a_partition_claimed_in_an_older_generation_is_not_kept() {
        let members = [member("a", &[0, 1], 1), member("b", &[0], 2)];
        assert_eq!(assigned(&members), [[1], [0]]);
    }

    #[test]
    fn a_partition_that_two_claim_in_one_generation_is_nobodys_at_first() {
        let members = [member("a", &[0], 2), member("b", &[0, 1], 2)];
        assert_eq!(assigned(&members), [vec![], vec![1]]);
    }
}
