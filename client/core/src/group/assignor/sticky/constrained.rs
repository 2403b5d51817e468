//! All members subscribe to the same topics: everybody keeps up to its quota of what it had, and the
//! rest is dealt out in turns.

use super::super::{PartitionCounts, java_order, partitions_of};
use super::{Owners, StickyAssignment};
use crate::call::TopicPartition;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

struct Dealer {
    ids: Vec<String>,
    assigned: Vec<Vec<TopicPartition>>,
    contested: BTreeSet<TopicPartition>,
    /// What a member had to leave, and who that was.
    left_by: BTreeMap<TopicPartition, usize>,
    moving: BTreeMap<TopicPartition, String>,
    /// Partitions for every member; some get one more.
    quota: usize,
    /// How many members may still get one more.
    one_more: usize,
    /// Below the quota.
    under: Vec<usize>,
    /// At the quota, and open for one more.
    exact: VecDeque<usize>,
}

pub(super) fn assign(partitions: &PartitionCounts, owners: Owners<'_>) -> StickyAssignment {
    let count: usize = partitions.values().sum();
    let size = owners.members.len().max(1);
    let ids = owners.members.iter().map(|(member, _)| member.id.clone());
    let mut dealer = Dealer {
        ids: ids.collect(),
        assigned: vec![Vec::new(); owners.members.len()],
        contested: owners.contested,
        left_by: BTreeMap::new(),
        moving: BTreeMap::new(),
        quota: count / size,
        one_more: count % size,
        under: Vec::new(),
        exact: VecDeque::new(),
    };
    for (at, owned) in owners.owned.into_iter().enumerate() {
        dealer.keep(at, owned);
    }
    let kept: BTreeSet<TopicPartition> = dealer.assigned.iter().flatten().cloned().collect();
    let mut topics: Vec<(&Arc<str>, &usize)> = partitions.iter().collect();
    topics.sort_by(|(a, _), (b, _)| java_order::compare(a, b));
    let all = topics
        .into_iter()
        .flat_map(|(topic, count)| partitions_of(topic, *count));
    dealer.deal(all.filter(|partition| !kept.contains(partition)));
    StickyAssignment {
        assigned: dealer.ids.into_iter().zip(dealer.assigned).collect(),
        moving: Some(dealer.moving),
    }
}

impl Dealer {
    /// Leaves a member what it had, up to its quota.
    fn keep(&mut self, at: usize, mut owned: Vec<TopicPartition>) {
        owned.retain(|partition| !self.contested.contains(partition));
        owned.sort_by(|a, b| {
            let topics = || java_order::compare(&a.topic, &b.topic);
            a.partition.cmp(&b.partition).then_with(topics)
        });
        if owned.len() < self.quota {
            self.under.push(at);
        } else {
            let takes_more = self.one_more > 0;
            let gets_more = takes_more && owned.len() > self.quota;
            let share = self.quota + usize::from(gets_more);
            if gets_more {
                self.one_more -= 1;
                if self.one_more == 0 {
                    self.exact.clear();
                }
            } else if takes_more {
                self.exact.push_back(at);
            }
            let left = owned.split_off(share);
            self.left_by
                .extend(left.into_iter().map(|partition| (partition, at)));
        }
        if let Some(assigned) = self.assigned.get_mut(at) {
            *assigned = owned;
        }
    }

    fn deal(&mut self, rest: impl Iterator<Item = TopicPartition>) {
        let ids = &self.ids;
        let by_id = |a: &usize, b: &usize| match (ids.get(*a), ids.get(*b)) {
            (Some(a), Some(b)) => java_order::compare(a, b),
            _ => a.cmp(b),
        };
        self.under.sort_by(by_id);
        self.exact.make_contiguous().sort_by(by_id);
        let mut turn = 0;
        for partition in rest {
            if turn >= self.under.len() {
                turn = 0;
            }
            let taker = self.under.get(turn).copied();
            // By the quotas there is always somebody.
            let Some(at) = taker.or_else(|| self.exact.pop_front()) else {
                return;
            };
            self.give(at, partition);
            turn += 1;
            let has = self.assigned.get(at).map_or(0, Vec::len);
            if taker.is_some() && has == self.quota {
                turn -= 1;
                self.under.remove(turn);
                self.exact.push_back(at);
            }
        }
    }

    fn give(&mut self, at: usize, partition: TopicPartition) {
        let left_by_other = self.left_by.get(&partition).is_some_and(|by| *by != at);
        if left_by_other || self.contested.contains(&partition) {
            let to = self.ids.get(at).cloned().unwrap_or_default();
            self.moving.insert(partition.clone(), to);
        }
        if let Some(assigned) = self.assigned.get_mut(at) {
            assigned.push(partition);
        }
    }
}
