//! The topics that records were sent to: their partitions' queues, and who waits to know them.

use super::memory::Ticket;
use super::partitioner::Sticky;
use super::queue::PartitionQueue;
use crate::metadata::{self, Cluster};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use tidewatch_protocol::error_code::ErrorCode;

/// Topics that one producer ever writes to: names that come from data may be many, and each keeps its
/// queues.
const MAX_TOPICS: usize = 100_000;

/// Chains of topics, so that a name is found by a few comparisons.
const BUCKETS: usize = 64;

/// Every topic of one accumulator. They only ever come, so that senders find them without a lock: one
/// that is forgotten has no partitions until it is told about again.
#[derive(Debug)]
pub(crate) struct Topics {
    buckets: [OnceLock<Box<Topic>>; BUCKETS],
    /// Nothing is taken any more.
    closed: AtomicBool,
    /// How many partitions there are; held while the picture of the cluster is taken over.
    partitions: Mutex<u32>,
    lookups: Mutex<Lookups>,
}

/// A topic that the cluster has told about.
#[derive(Debug)]
pub(crate) struct Topic {
    name: Arc<str>,
    queues: Run,
    /// Partitions that it has now; a topic made anew may have fewer queues than before.
    count: AtomicUsize,
    pub(crate) sticky: Sticky,
    /// Why it may not be written to; 0 where it may.
    refused: AtomicI16,
    next: OnceLock<Box<Topic>>,
}

/// Queues of some partitions and, in the next run, of those that were added later.
#[derive(Debug, Default)]
struct Run {
    queues: Vec<Arc<PartitionQueue>>,
    next: OnceLock<Box<Run>>,
}

/// Topics that are not known yet.
#[derive(Debug, Default)]
struct Lookups {
    /// Ever asked for, and whether metadata covers it now.
    asked: BTreeMap<Arc<str>, bool>,
    /// Asked for, and the room does not know.
    new: Vec<Arc<str>>,
    /// One entry per waiting call of a user.
    waiting: BTreeMap<Ticket, Waker>,
    /// Why no broker can be asked, where that will not change by itself.
    unsecured: Option<Arc<str>>,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            buckets: [const { OnceLock::new() }; BUCKETS],
            closed: AtomicBool::new(false),
            partitions: Mutex::default(),
            lookups: Mutex::default(),
        }
    }
}

impl Topics {
    /// The topic if it is known, and records are taken at all.
    #[inline]
    pub(crate) fn get(&self, name: &str) -> Option<&Topic> {
        if self.closed.load(Ordering::Acquire) {
            return None;
        }
        self.chain(name).find(|topic| *topic.name == *name)
    }

    /// Has the room told about a topic; false where it was told before.
    pub(crate) fn announce(&self, topic: &str) -> bool {
        let lookups = &mut *self.lookups();
        match lookups.asked.get(topic) {
            Some(true) => return false,
            None if lookups.asked.len() >= MAX_TOPICS => return false,
            Some(false) | None => {}
        }
        let topic: Arc<str> = Arc::from(topic);
        lookups.asked.insert(Arc::clone(&topic), true);
        lookups.new.push(topic);
        true
    }

    /// Metadata does not cover these any more. Who sends to one has it told about again, as does who
    /// waits for one by now.
    pub(crate) fn forget(&self, topics: &[Arc<str>]) {
        for name in topics {
            if let Some(covered) = self.lookups().asked.get_mut(name) {
                *covered = false;
            }
            if let Some(topic) = self.chain(name).find(|topic| topic.name == *name) {
                topic.refused.store(0, Ordering::Release);
                topic.count.store(0, Ordering::Release);
            }
        }
        self.wake_waiting();
    }

    /// No broker can be dealt with: who waits for a topic need not wait on.
    pub(crate) fn handle_unsecured(&self, why: &Arc<str>) {
        self.lookups().unsecured = Some(Arc::clone(why));
        self.wake_waiting();
    }

    /// Why no broker can be dealt with, until one could.
    pub(crate) fn unsecured(&self) -> Option<Arc<str>> {
        self.lookups().unsecured.clone()
    }

    /// Topics announced since the last call.
    pub(crate) fn take_announced(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.lookups().new)
    }

    pub(crate) fn wait(&self, ticket: Ticket, waker: &Waker) {
        self.lookups().waiting.insert(ticket, waker.clone());
    }

    pub(crate) fn leave(&self, ticket: Ticket) {
        self.lookups().waiting.remove(&ticket);
    }

    /// Every queue there is.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &Arc<PartitionQueue>> {
        let topics = self
            .buckets
            .iter()
            .flat_map(|bucket| follow(bucket, |topic| &topic.next));
        topics.flat_map(|topic| topic.queues.runs().flat_map(|run| &run.queues))
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake_waiting();
    }

    pub(crate) fn update(&self, cluster: &Cluster) {
        let mut lookups = self.lookups();
        lookups.unsecured = None;
        let covered = lookups.asked.iter().filter(|(_, covered)| **covered);
        let asked: Vec<Arc<str>> = covered.map(|(name, _)| Arc::clone(name)).collect();
        drop(lookups);
        let mut news = false;
        for name in asked {
            let Some(topic) = cluster.topics.get(&name) else {
                continue;
            };
            news |= self.update_topic(&name, topic);
        }
        if news {
            self.wake_waiting();
        }
    }

    /// True where a sender may find what it waits for, or a final refusal.
    fn update_topic(&self, name: &Arc<str>, info: &metadata::Topic) -> bool {
        let passing = !info.error.is_ok() && info.error.meaning().retriable;
        if passing || (info.error.is_ok() && info.partitions.is_empty()) {
            // What is known of it stays: brokers that are starting forget topics for a moment.
            return false;
        }
        let topic = self.get_or_add(name);
        topic.refused.store(info.error.0, Ordering::Release);
        if info.error.is_ok() {
            topic.take_over(&info.partitions, &self.partitions);
        }
        true
    }

    /// Called by the room alone. Senders see it before it has partitions.
    pub(super) fn get_or_add(&self, name: &Arc<str>) -> &Topic {
        if let Some(topic) = self.chain(name).find(|topic| topic.name == *name) {
            return topic;
        }
        let last = self.chain(name).last().map(|topic| &topic.next);
        let place = last.unwrap_or_else(|| self.bucket(name));
        place.get_or_init(|| Box::new(Topic::new(Arc::clone(name))))
    }

    fn chain(&self, name: &str) -> impl Iterator<Item = &Topic> {
        follow(self.bucket(name), |topic| &topic.next)
    }

    #[inline]
    fn bucket(&self, name: &str) -> &OnceLock<Box<Topic>> {
        // Names differ most at their ends.
        let ends = name.bytes().take(2).chain(name.bytes().rev().take(4));
        let hash = ends.fold(name.len(), |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        let [first, ..] = &self.buckets;
        self.buckets.get(hash % BUCKETS).unwrap_or(first)
    }

    fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut self.lookups().waiting);
        waiting.into_values().for_each(Waker::wake);
    }

    fn lookups(&self) -> MutexGuard<'_, Lookups> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A chain from its first link on.
fn follow<T>(
    first: &OnceLock<Box<T>>,
    next: fn(&T) -> &OnceLock<Box<T>>,
) -> impl Iterator<Item = &T> {
    std::iter::successors(link(first), move |at| link(next(at)))
}

fn link<T>(place: &OnceLock<Box<T>>) -> Option<&T> {
    place.get().map(|boxed| &**boxed)
}

impl Topic {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            queues: Run::default(),
            count: AtomicUsize::new(0),
            sticky: Sticky::default(),
            refused: AtomicI16::new(0),
            next: OnceLock::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Partitions that it has now; none where it was forgotten or is just being taken over.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Why it may not be written to, if that is so.
    #[inline]
    pub(crate) fn refused(&self) -> Option<ErrorCode> {
        let code = ErrorCode(self.refused.load(Ordering::Acquire));
        Some(code).filter(|code| !code.is_ok())
    }

    /// The queue of a partition that the topic has now.
    #[inline]
    pub(crate) fn queue(&self, partition: i32) -> Option<&Arc<PartitionQueue>> {
        let mut index = usize::try_from(partition)
            .ok()
            .filter(|index| *index < self.count())?;
        self.queues.runs().find_map(|run| {
            let queue = run.queues.get(index);
            index = index.saturating_sub(run.queues.len());
            queue
        })
    }

    /// Queues for new partitions; those that a topic made anew has lost stay for what they hold.
    fn take_over(&self, partitions: &[metadata::Partition], numbers: &Mutex<u32>) {
        let mut number = numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let held: usize = self.queues.runs().map(|run| run.queues.len()).sum();
        let added = (held..partitions.len()).filter_map(|index| i32::try_from(index).ok());
        let queues: Vec<_> = added
            .map(|partition| {
                *number = number.saturating_add(1);
                Arc::new(PartitionQueue::new(
                    Arc::clone(&self.name),
                    partition,
                    *number,
                ))
            })
            .collect();
        if let Some(last) = self.queues.runs().last().filter(|_| !queues.is_empty()) {
            let next = OnceLock::new();
            last.next.get_or_init(|| Box::new(Run { queues, next }));
        }
        self.sticky.choose_among(partitions);
        self.count.store(partitions.len(), Ordering::Release);
    }
}

impl Run {
    fn runs(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |run| link(&run.next))
    }
}
