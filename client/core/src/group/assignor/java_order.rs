//! The orders that Java's assignors leave to its collections: to assign alike is to walk alike.

use super::GroupMember;
use crate::call::TopicPartition;
use std::cmp::Ordering;
use std::sync::Arc;

/// A `HashMap` begins with so many buckets and doubles when it is three quarters full.
const FIRST_CAPACITY: usize = 16;

/// `String.hashCode`.
fn hash_of(text: &str) -> i32 {
    let units = text.encode_utf16();
    units.fold(0, |hash: i32, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// `TopicPartition.hashCode`.
fn hash_of_partition(partition: &TopicPartition) -> i32 {
    let hash = 31_i32.wrapping_add(partition.partition);
    hash.wrapping_mul(31)
        .wrapping_add(hash_of(&partition.topic))
}

/// The bucket in a `HashMap` that has held up to `most` keys.
fn bucket(hash: i32, most: usize) -> usize {
    let mut capacity = FIRST_CAPACITY;
    while most > capacity / 4 * 3 {
        capacity *= 2;
    }
    let hash = hash.cast_unsigned();
    let spread = hash ^ (hash >> 16);
    spread as usize & (capacity - 1)
}

/// `keys`, which come in the order of their insertion, as a `HashMap` walks them.
fn walk<K>(mut keys: Vec<K>, hash: impl Fn(&K) -> i32) -> Vec<K> {
    let most = keys.len();
    // Within a bucket they stay in the order of their insertion.
    keys.sort_by_key(|key| bucket(hash(key), most));
    keys
}

/// The members as a `HashMap` by their ids walks them.
pub(super) fn members(members: &[GroupMember]) -> Vec<&GroupMember> {
    walk(members.iter().collect(), |member| hash_of(&member.id))
}

/// Each topic once, as a `HashMap` by their names walks them.
pub(super) fn topics<'a>(inserted: impl IntoIterator<Item = &'a Arc<str>>) -> Vec<Arc<str>> {
    walk(once(inserted), |topic| hash_of(topic))
}

/// The same for a map that was filled by `computeIfAbsent`, which puts a newcomer in front of those
/// in its bucket.
pub(super) fn computed_topics<'a>(
    inserted: impl IntoIterator<Item = &'a Arc<str>>,
) -> Vec<Arc<str>> {
    let mut topics = once(inserted);
    topics.reverse();
    walk(topics, |topic| hash_of(topic))
}

fn once<'a>(topics: impl IntoIterator<Item = &'a Arc<str>>) -> Vec<Arc<str>> {
    let mut once: Vec<Arc<str>> = Vec::new();
    for topic in topics {
        if !once.contains(topic) {
            once.push(Arc::clone(topic));
        }
    }
    once
}

/// `String.compareTo`.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// Static members come first, by their instances, so that restarts change nothing.
pub(super) fn compare_members(a: &GroupMember, b: &GroupMember) -> Ordering {
    match (&a.instance_id, &b.instance_id) {
        (Some(a), Some(b)) => compare(a, b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => compare(&a.id, &b.id),
    }
}

/// A `HashSet` of partitions, as far as its first element goes.
#[derive(Debug, Default)]
pub(super) struct PartitionSet {
    inserted: Vec<TopicPartition>,
    most: usize,
}

impl PartitionSet {
    pub(super) fn insert(&mut self, partition: TopicPartition) {
        if !self.inserted.contains(&partition) {
            self.inserted.push(partition);
            self.most = self.most.max(self.inserted.len());
        }
    }

    pub(super) fn remove(&mut self, partition: &TopicPartition) {
        self.inserted.retain(|inserted| inserted != partition);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inserted.is_empty()
    }

    pub(super) fn first(&self) -> Option<&TopicPartition> {
        let inserted = self.inserted.iter();
        inserted.min_by_key(|partition| bucket(hash_of_partition(partition), self.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_come_as_java_walks_them() {
        // Printed by `new HashSet<>(List.of("metrics", "cpu", "a", "b", "zz"))`.
        let names = ["metrics", "cpu", "a", "b", "zz"].map(Arc::<str>::from);
        assert_eq!(hash_of("metrics"), 955_826_371);
        assert_eq!(
            topics(&names).iter().map(|t| &**t).collect::<Vec<_>>(),
            ["zz", "a", "b", "cpu", "metrics"]
        );
        // More than twelve of them: the map has doubled.
        let many: Vec<Arc<str>> = (0..15).map(|n| Arc::from(format!("t{n}"))).collect();
        let walked = topics(&many);
        let walked: Vec<&str> = walked.iter().map(|t| &t[1..]).collect();
        let java = "4 5 6 7 8 9 10 12 11 14 13 0 1 2 3";
        assert_eq!(walked.join(" "), java);
    }
}
