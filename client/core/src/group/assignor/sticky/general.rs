//! Members subscribe to different topics: everybody keeps what it may, the rest goes to whoever has
//! least, and then partitions move from the fuller to the emptier until that helps no more.

use super::super::java_order::{self, PartitionSet};
use super::super::{PartitionCounts, partitions_of};
use super::{Owners, StickyAssignment};
use crate::call::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A member by its place: places are in the order of the ids.
type Place = usize;

struct Balancer<'a> {
    counts: &'a PartitionCounts,
    /// By member: the existing topics that it subscribes to.
    topics: Vec<BTreeSet<Arc<str>>>,
    /// By topic: its subscribers.
    subscribers: BTreeMap<Arc<str>, Vec<Place>>,
    assigned: Vec<Vec<TopicPartition>>,
    owner: BTreeMap<TopicPartition, Place>,
    /// The members that take part, emptiest first.
    by_load: BTreeSet<(usize, Place)>,
    /// Who had a partition in an earlier generation.
    earlier: BTreeMap<TopicPartition, (Place, i32)>,
    moves: Moves,
}

pub(super) fn assign(counts: &PartitionCounts, owners: Owners<'_>) -> StickyAssignment {
    let mut order: Vec<usize> = (0..owners.members.len()).collect();
    let id_of = |at: usize| owners.members.get(at).map_or("", |(member, _)| &member.id);
    order.sort_by(|a, b| java_order::compare(id_of(*a), id_of(*b)));
    let ids: Vec<String> = order.iter().map(|at| id_of(*at).to_owned()).collect();
    let mut balancer = Balancer::new(counts, &owners, &order);
    let (unassigned, must_revoke) = balancer.plan_unassigned();
    balancer.balance(unassigned, must_revoke);
    StickyAssignment {
        assigned: ids.into_iter().zip(balancer.assigned).collect(),
        moving: None,
    }
}

impl<'a> Balancer<'a> {
    fn new(counts: &'a PartitionCounts, owners: &Owners<'_>, order: &[usize]) -> Self {
        let members = order.iter().filter_map(|at| owners.members.get(*at));
        let topics: Vec<BTreeSet<Arc<str>>> = members
            .map(|(member, _)| {
                let wanted = member.subscription.topics.iter();
                wanted
                    .filter(|topic| counts.contains_key(*topic))
                    .cloned()
                    .collect()
            })
            .collect();
        let mut subscribers: BTreeMap<Arc<str>, Vec<Place>> = BTreeMap::new();
        for (place, topics) in topics.iter().enumerate() {
            for topic in topics {
                subscribers
                    .entry(Arc::clone(topic))
                    .or_default()
                    .push(place);
            }
        }
        let owned = order
            .iter()
            .map(|at| owners.owned.get(*at).cloned().unwrap_or_default());
        Self {
            counts,
            topics,
            subscribers,
            assigned: owned.collect(),
            owner: BTreeMap::new(),
            by_load: BTreeSet::new(),
            earlier: earlier_owners(owners, order),
            moves: Moves::default(),
        }
    }

    /// All partitions: those with the fewest possible readers first.
    fn all_partitions(&self) -> Vec<TopicPartition> {
        let mut topics: Vec<(&Arc<str>, &Vec<Place>)> = self.subscribers.iter().collect();
        topics.sort_by(|(a, of_a), (b, of_b)| {
            let names = || java_order::compare(a, b);
            of_a.len().cmp(&of_b.len()).then_with(names)
        });
        let count = |topic| self.counts.get(topic).copied().unwrap_or(0);
        let partitions = topics
            .into_iter()
            .map(|(topic, _)| partitions_of(topic, count(topic)));
        partitions.flatten().collect()
    }

    /// Drops what members no longer subscribe to; returns what nobody has, and whether that was so.
    fn plan_unassigned(&mut self) -> (Vec<TopicPartition>, bool) {
        let mut must_revoke = false;
        for (place, (assigned, topics)) in self.assigned.iter_mut().zip(&self.topics).enumerate() {
            let before = assigned.len();
            assigned.retain(|partition| topics.contains(&partition.topic));
            must_revoke |= assigned.len() < before;
            let owned = assigned.iter().map(|partition| (partition.clone(), place));
            self.owner.extend(owned);
            self.by_load.insert((assigned.len(), place));
        }
        let mut unassigned = self.all_partitions();
        unassigned.retain(|partition| !self.owner.contains_key(partition));
        (unassigned, must_revoke)
    }

    fn balance(&mut self, mut unassigned: Vec<TopicPartition>, must_revoke: bool) {
        let begins = self.by_load.last().is_none_or(|(load, _)| *load == 0);
        for partition in &unassigned {
            self.give_to_emptiest(partition);
        }
        let is_movable = |balancer: &Self, partition: &TopicPartition| {
            let subscribers = balancer.subscribers.get(&partition.topic);
            subscribers.is_some_and(|subscribers| subscribers.len() >= 2)
        };
        let mut movable = self.all_partitions();
        movable.retain(|partition| is_movable(self, partition));
        unassigned.retain(|partition| is_movable(self, partition));
        let fixed: Vec<Place> = (0..self.assigned.len())
            .filter(|place| !self.takes_part(*place))
            .collect();
        for place in fixed {
            self.by_load.remove(&(self.load(place), place));
        }
        let before = self.assigned.clone();
        let score_before = self.score();
        if !must_revoke {
            // First only what was unassigned: that disturbs nobody.
            self.move_some(&unassigned);
        }
        let moved = self.move_some(&movable);
        if !begins && moved && self.score() >= score_before {
            self.assigned = before;
        }
    }

    fn give_to_emptiest(&mut self, partition: &TopicPartition) {
        let mut by_load = self.by_load.iter();
        if let Some((_, place)) = by_load
            .find(|(_, place)| self.reads(*place, partition))
            .copied()
        {
            self.by_load.remove(&(self.load(place), place));
            self.put(place, partition.clone());
            self.by_load.insert((self.load(place), place));
        }
    }

    fn put(&mut self, place: Place, partition: TopicPartition) {
        self.owner.insert(partition.clone(), place);
        if let Some(assigned) = self.assigned.get_mut(place) {
            assigned.push(partition);
        }
    }

    fn reads(&self, place: Place, partition: &TopicPartition) -> bool {
        let topics = self.topics.get(place);
        topics.is_some_and(|topics| topics.contains(&partition.topic))
    }

    fn load(&self, place: Place) -> usize {
        self.assigned.get(place).map_or(0, Vec::len)
    }

    /// How many partitions it could have at most.
    fn capacity(&self, place: Place) -> usize {
        let topics = self.topics.get(place).into_iter().flatten();
        topics.filter_map(|topic| self.counts.get(topic)).sum()
    }

    /// Whether partitions can come to it or leave it.
    fn takes_part(&self, place: Place) -> bool {
        let shared = |partition: &TopicPartition| {
            let subscribers = self.subscribers.get(&partition.topic);
            subscribers.is_some_and(|subscribers| subscribers.len() >= 2)
        };
        let assigned = self.assigned.get(place).into_iter().flatten();
        self.load(place) < self.capacity(place) || assigned.into_iter().any(shared)
    }

    /// How uneven the members that take part are, pair by pair.
    fn score(&self) -> usize {
        let loads: Vec<usize> = self.by_load.iter().map(|(load, _)| *load).collect();
        let pairs = loads.iter().enumerate().flat_map(|(at, load)| {
            let others = loads.iter().skip(at + 1);
            others.map(|other| load.abs_diff(*other))
        });
        pairs.sum()
    }

    /// Nobody could get a partition of somebody who has two or more above it.
    fn is_balanced(&self) -> bool {
        let ends = self.by_load.first().zip(self.by_load.last());
        if ends.is_none_or(|((least, _), (most, _))| *least + 1 >= *most) {
            return true;
        }
        self.by_load
            .iter()
            .all(|(load, place)| *load == self.capacity(*place) || !self.could_take(*place, *load))
    }

    fn could_take(&self, place: Place, load: usize) -> bool {
        let topics = self.topics.get(place).into_iter().flatten();
        let mut partitions = topics.flat_map(|topic| {
            let count = self.counts.get(topic).copied().unwrap_or(0);
            partitions_of(topic, count)
        });
        partitions.any(|partition| match self.owner.get(&partition) {
            Some(owner) if *owner != place => load + 1 < self.load(*owner),
            _ => false,
        })
    }

    /// Moves what can be moved to advantage, until nothing can; whether anything was.
    fn move_some(&mut self, movable: &[TopicPartition]) -> bool {
        let mut moved = false;
        loop {
            let mut again = false;
            for partition in movable {
                if self.is_balanced() {
                    break;
                }
                again |= self.move_one(partition);
            }
            moved |= again;
            if !again {
                return moved;
            }
        }
    }

    fn move_one(&mut self, partition: &TopicPartition) -> bool {
        let Some(owner) = self.owner.get(partition).copied() else {
            return false;
        };
        let load = self.load(owner);
        if let Some((earlier, _)) = self.earlier.get(partition).copied()
            && self.reads(earlier, partition)
            && load > self.load(earlier) + 1
        {
            self.move_to(partition, owner, earlier);
            return true;
        }
        let subscribers = self.subscribers.get(&partition.topic).into_iter().flatten();
        if !subscribers
            .into_iter()
            .any(|other| load > self.load(*other) + 1)
        {
            return false;
        }
        let mut by_load = self.by_load.iter();
        let emptiest = by_load.find(|(_, place)| self.reads(*place, partition));
        match emptiest.copied() {
            Some((_, to)) => {
                self.move_to(partition, owner, to);
                true
            }
            None => false,
        }
    }

    /// Moves `partition`, or rather one that came the other way before.
    fn move_to(&mut self, partition: &TopicPartition, from: Place, to: Place) {
        let partition = self.moves.instead_of(partition, from, to);
        let Some(from) = self.owner.get(&partition).copied() else {
            return;
        };
        self.by_load.remove(&(self.load(from), from));
        self.by_load.remove(&(self.load(to), to));
        self.moves.note(&partition, from, to);
        if let Some(assigned) = self.assigned.get_mut(from) {
            assigned.retain(|assigned| *assigned != partition);
        }
        self.put(to, partition);
        self.by_load.insert((self.load(to), to));
        self.by_load.insert((self.load(from), from));
    }
}

/// Of those who had it in an earlier generation the latest; among equals whom Java meets first.
fn earlier_owners(owners: &Owners<'_>, order: &[usize]) -> BTreeMap<TopicPartition, (Place, i32)> {
    let mut earlier: BTreeMap<TopicPartition, (Place, i32)> = BTreeMap::new();
    for (at, (_, claim)) in owners.members.iter().enumerate() {
        let generation = claim.generation.unwrap_or(-1);
        let Some(place) = order.iter().position(|ordered| *ordered == at) else {
            continue;
        };
        if generation >= owners.max_generation {
            continue;
        }
        for partition in &claim.partitions {
            let known = earlier.get(partition);
            if known.is_none_or(|(_, known)| generation > *known) {
                earlier.insert(partition.clone(), (place, generation));
            }
        }
    }
    earlier
}

/// What was moved so far, so that a partition goes back rather than another one there.
#[derive(Debug, Default)]
struct Moves {
    pairs: BTreeMap<Arc<str>, BTreeMap<(Place, Place), PartitionSet>>,
    of: BTreeMap<TopicPartition, (Place, Place)>,
}

impl Moves {
    fn note(&mut self, partition: &TopicPartition, from: Place, to: Place) {
        let pair = match self.forget(partition) {
            Some((source, _)) if source == to => return,
            Some((source, _)) => (source, to),
            None => (from, to),
        };
        self.of.insert(partition.clone(), pair);
        let pairs = self.pairs.entry(Arc::clone(&partition.topic)).or_default();
        pairs.entry(pair).or_default().insert(partition.clone());
    }

    fn forget(&mut self, partition: &TopicPartition) -> Option<(Place, Place)> {
        let pair = self.of.remove(partition)?;
        if let Some(pairs) = self.pairs.get_mut(&partition.topic)
            && let Some(moved) = pairs.get_mut(&pair)
        {
            moved.remove(partition);
            if moved.is_empty() {
                pairs.remove(&pair);
            }
        }
        Some(pair)
    }

    fn instead_of(&self, partition: &TopicPartition, from: Place, to: Place) -> TopicPartition {
        let from = self.of.get(partition).map_or(from, |(source, _)| *source);
        let back = self
            .pairs
            .get(&partition.topic)
            .and_then(|pairs| pairs.get(&(to, from)));
        let back = back.and_then(PartitionSet::first);
        back.unwrap_or(partition).clone()
    }
}
