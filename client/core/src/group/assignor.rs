//! Who reads what: the leader of a group assigns partitions to its members by an assignor that all
//! of them have.
//!
//! Ours give the very assignments of Java's classes of the same names, byte for byte, so that it does
//! not matter who leads a mixed group. Racks are not taken into account.

mod cooperative_sticky;
mod java_order;
mod range;
mod round_robin;
mod sticky;

pub use cooperative_sticky::CooperativeSticky;
pub use range::Range;
pub use round_robin::RoundRobin;
pub use sticky::Sticky;

use crate::call::TopicPartition;
use crate::group::subscription::{Assignment, Subscription};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How members give partitions up (KIP-429).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RebalanceProtocol {
    /// All of them before every rebalance.
    Eager,
    /// Only those that go to another member, and in a rebalance of their own.
    Cooperative,
}

/// How many partitions each topic has; those that do not exist are left out.
pub type PartitionCounts = BTreeMap<Arc<str>, usize>;

/// A member as its leader sees it.
#[derive(Debug, Clone)]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// Its `group.instance.id`, if it is static.
    pub instance_id: Option<String>,
    /// What it wants and has.
    pub subscription: Subscription,
}

/// Decides who reads what. A member of a group has one of each kind that it is configured with, and
/// the group uses the kind that most members prefer among those that all have.
pub trait Assignor: fmt::Debug + Send {
    /// As the group's members name it.
    fn name(&self) -> &str;

    /// What its assignments allow. Members take the most cooperative way that all of their
    /// assignors allow.
    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Eager]
    }

    /// What this member tells the leader beside its subscription to `topics`.
    fn user_data(&self, topics: &[Arc<str>]) -> Option<Bytes> {
        let _ = topics;
        None
    }

    /// Everybody's assignment. `members` come in the coordinator's order. A member that is left out
    /// reads nothing. With [`RebalanceProtocol::Cooperative`] a partition that some member owns must
    /// not be given to another one before its owner has given it up.
    fn assign(
        &self,
        partitions: &PartitionCounts,
        members: &[GroupMember],
    ) -> Vec<(String, Assignment)>;

    /// This member was assigned something, in that generation.
    fn handle_assignment(&mut self, assignment: &Assignment, generation: i32) {
        let _ = (assignment, generation);
    }
}

/// An assignor to configure a consumer with: each consumer makes its own of it.
#[derive(Clone)]
pub struct Strategy(Kind);

/// Kafka's own are names until a consumer makes them: options alone have no assignor linked.
#[derive(Clone)]
enum Kind {
    Range,
    RoundRobin,
    Sticky,
    CooperativeSticky,
    Custom(Arc<dyn Fn() -> Box<dyn Assignor> + Send + Sync>),
}

impl Strategy {
    /// One of your own.
    pub fn custom<A: Assignor + 'static>(make: impl Fn() -> A + Send + Sync + 'static) -> Self {
        Self(Kind::Custom(Arc::new(move || Box::new(make()))))
    }

    /// One of Kafka's, by its short name or its Java class.
    pub fn named(name: &str) -> Option<Self> {
        Some(Self(match name {
            "range" | "org.apache.kafka.clients.consumer.RangeAssignor" => Kind::Range,
            "roundrobin" | "org.apache.kafka.clients.consumer.RoundRobinAssignor" => {
                Kind::RoundRobin
            }
            "sticky" | "org.apache.kafka.clients.consumer.StickyAssignor" => Kind::Sticky,
            "cooperative-sticky"
            | "org.apache.kafka.clients.consumer.CooperativeStickyAssignor" => {
                Kind::CooperativeSticky
            }
            _ => return None,
        }))
    }

    /// A fresh assignor.
    pub fn make(&self) -> Box<dyn Assignor> {
        match &self.0 {
            Kind::Range => Box::new(Range::default()),
            Kind::RoundRobin => Box::new(RoundRobin::default()),
            Kind::Sticky => Box::new(Sticky::default()),
            Kind::CooperativeSticky => Box::new(CooperativeSticky::default()),
            Kind::Custom(make) => make(),
        }
    }
}

impl fmt::Debug for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.0 {
            Kind::Range => "range",
            Kind::RoundRobin => "roundrobin",
            Kind::Sticky => "sticky",
            Kind::CooperativeSticky => "cooperative-sticky",
            Kind::Custom(_) => "custom",
        };
        write!(f, "Strategy({name})")
    }
}

/// The most cooperative way that all of them allow; `None` where they have none in common.
pub(crate) fn common_protocol(assignors: &[Box<dyn Assignor>]) -> Option<RebalanceProtocol> {
    let ways = [RebalanceProtocol::Cooperative, RebalanceProtocol::Eager];
    let all_allow = |way: &RebalanceProtocol| {
        let mut assignors = assignors.iter();
        assignors.all(|assignor| assignor.protocols().contains(way))
    };
    ways.into_iter().find(all_allow)
}

/// `partition` by `partition` of one topic.
fn partitions_of(topic: &Arc<str>, count: usize) -> impl Iterator<Item = TopicPartition> {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    (0..count).map(|partition| TopicPartition::new(Arc::clone(topic), partition))
}
