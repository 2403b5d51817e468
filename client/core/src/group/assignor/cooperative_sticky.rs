//! Java's CooperativeStickyAssignor: as sticky assigns, in two steps (KIP-429). What moves from one
//! member to another is assigned to nobody at first; once its owner has given it up, the members
//! rejoin and it is free.

use super::sticky::{Claim, assign_sticky};
use super::{Assignor, GroupMember, PartitionCounts, RebalanceProtocol};
use crate::call::TopicPartition;
use crate::group::subscription::{Assignment, Subscription};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Sticky, and members keep reading through a rebalance.
#[derive(Debug)]
pub struct CooperativeSticky {
    generation: i32,
}

impl Default for CooperativeSticky {
    fn default() -> Self {
        Self { generation: -1 }
    }
}

impl Assignor for CooperativeSticky {
    fn name(&self) -> &str {
        "cooperative-sticky"
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Cooperative, RebalanceProtocol::Eager]
    }

    /// The generation: subscriptions before version 2 have no field for it.
    fn user_data(&self, _topics: &[Arc<str>]) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(&self.generation.to_be_bytes()))
    }

    fn assign(
        &self,
        partitions: &PartitionCounts,
        members: &[GroupMember],
    ) -> Vec<(String, Assignment)> {
        let sticky = assign_sticky(partitions, members, claim);
        let mut assigned = sticky.assigned;
        let moving = match sticky.moving {
            Some(moving) => moving,
            None => moving_between(members, &assigned),
        };
        for (partition, to) in &moving {
            if let Some((_, list)) = assigned.iter_mut().find(|(id, _)| id == to) {
                list.retain(|assigned| assigned != partition);
            }
        }
        let assigned = assigned.into_iter();
        assigned
            .map(|(id, partitions)| (id, Assignment::of(partitions)))
            .collect()
    }

    fn handle_assignment(&mut self, _assignment: &Assignment, generation: i32) {
        self.generation = generation;
    }
}

fn claim(subscription: &Subscription) -> Claim {
    let told = || {
        let user_data = subscription.user_data.as_ref()?;
        let generation = user_data
            .first_chunk()
            .map(|bytes| i32::from_be_bytes(*bytes));
        Some(generation.unwrap_or(-1))
    };
    Claim {
        partitions: subscription.owned.clone(),
        generation: subscription.generation.or_else(told),
    }
}

/// What is new for one member and was another's.
fn moving_between(
    members: &[GroupMember],
    assigned: &[(String, Vec<TopicPartition>)],
) -> BTreeMap<TopicPartition, String> {
    let mut added = BTreeMap::new();
    let mut given_up = BTreeSet::new();
    for (id, partitions) in assigned {
        let Some(member) = members.iter().find(|member| member.id == *id) else {
            continue;
        };
        let owned: BTreeSet<&TopicPartition> = member.subscription.owned.iter().collect();
        let now: BTreeSet<&TopicPartition> = partitions.iter().collect();
        added.extend(now.difference(&owned).map(|p| ((*p).clone(), id.clone())));
        given_up.extend(owned.difference(&now).map(|p| (*p).clone()));
    }
    added.retain(|partition, _| given_up.contains(partition));
    added
}
