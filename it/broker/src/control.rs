//! What a test or an operator does to the cluster from outside, and what it may look at.

use crate::cluster::Cluster;
use crate::connection::{CloseReason, ConnectionId};
use crate::faults::{Effect, FaultId, Match, Times};
use crate::groups::{Committed, Phase};
use crate::now::Now;
use crate::options::{Endpoint, NodeId};
use crate::state::{NewTopic, Refused};
use crate::topic::Partition;
use bytes::Bytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::records::Batch;
use uuid::Uuid;

/// What a test asked for cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No such topic or partition.
    #[error("there is no partition {topic}/{partition}")]
    NoPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// No such node.
    #[error("there is no {0}")]
    NoNode(NodeId),
    /// It does not run, so it cannot lead.
    #[error("{0} does not run")]
    NodeStopped(NodeId),
    /// The partition is not placed there.
    #[error("{node} holds no replica of {topic}/{partition}")]
    NotReplica {
        /// The node.
        node: NodeId,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The topic cannot be made, by the rule that CreateTopics would cite.
    #[error("failed to create topic {topic}: {} ({why})", .code.meaning().name)]
    Topic {
        /// The topic.
        topic: String,
        /// CreateTopics' error.
        code: ErrorCode,
        /// In words.
        why: String,
    },
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    /// `None` while nobody leads it.
    pub leader: Option<NodeId>,
    /// Rises with every election.
    pub leader_epoch: i32,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Those in sync.
    pub in_sync: Vec<NodeId>,
    /// The first offset that can be read.
    pub start_offset: i64,
    /// The offset after the last that consumers can read.
    pub high_watermark: i64,
    /// The offset of the next record written.
    pub end_offset: i64,
}

/// Topics.
impl Cluster {
    /// Creates a topic with these configs over the defaults, spread over the running nodes.
    pub fn create_topic(
        &mut self,
        now: Now,
        name: &str,
        partitions: u16,
        replication_factor: u8,
        configs: &[(&str, &str)],
    ) -> Result<Uuid, ControlError> {
        let refused = |refused: Refused| ControlError::Topic {
            topic: name.to_owned(),
            code: refused.code,
            why: refused.message,
        };
        self.state.check_new_name(name).map_err(refused)?;
        self.state
            .check_room_for(usize::from(partitions))
            .map_err(refused)?;
        let config = self
            .state
            .topic_config(configs.iter().copied())
            .map_err(refused)?;
        let factor = usize::from(replication_factor.max(1));
        let assignment = self.state.assign(usize::from(partitions.max(1)), factor);
        let new = NewTopic {
            name: name.to_owned(),
            assignment,
            config,
        };
        let id = self.state.create_topic(new);
        self.settle(now);
        Ok(id)
    }

    /// Deletes a topic; the id it had, if it was there.
    pub fn delete_topic(&mut self, now: Now, name: &str) -> Option<Uuid> {
        let id = self.state.delete_topic(name);
        self.settle(now);
        id
    }

    /// From now on writes to `topic` get TOPIC_AUTHORIZATION_FAILED.
    pub fn deny_write(&mut self, topic: impl Into<String>) {
        self.state.denied_writes.insert(topic.into());
    }

    /// Takes [`deny_write`](Self::deny_write) back.
    pub fn allow_write(&mut self, topic: &str) {
        self.state.denied_writes.remove(topic);
    }

    /// Moves the start of a partition forward to `offset`, as retention or DeleteRecords would.
    pub fn delete_records(
        &mut self,
        now: Now,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), ControlError> {
        self.partition_mut(topic, partition)?
            .log
            .delete_before(offset);
        self.changed(now);
        Ok(())
    }
}

/// Faults.
impl Cluster {
    /// From now on `effect` strikes the requests that match.
    pub fn inject(&mut self, matches: Match, effect: Effect, times: Times) -> FaultId {
        self.faults.add(matches, effect, times)
    }

    /// Takes a fault away.
    pub fn remove_fault(&mut self, id: FaultId) {
        self.faults.remove(id);
    }

    /// Takes all faults away.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// How many requests a fault has struck; 0 once it was removed.
    #[must_use]
    pub fn struck(&self, id: FaultId) -> u64 {
        self.faults.struck(id)
    }

    /// Closes a connection.
    pub fn cut(&mut self, id: ConnectionId) {
        self.close(id, CloseReason::Cut);
    }
}

/// Nodes and leaders.
impl Cluster {
    /// The address that clients are told for `node` from now on.
    pub fn set_endpoint(&mut self, endpoint: Endpoint) -> Result<(), ControlError> {
        let node = endpoint.node;
        let known = self
            .state
            .nodes
            .get_mut(&node)
            .ok_or(ControlError::NoNode(node))?;
        known.endpoint = endpoint;
        Ok(())
    }

    /// Stops a node: its connections are closed, and `Options::failover_us` later others lead its
    /// partitions. What was not replicated is lost then, unless the node is back before.
    pub fn stop_node(&mut self, now: Now, node: NodeId) -> Result<(), ControlError> {
        let known = self
            .state
            .nodes
            .get_mut(&node)
            .ok_or(ControlError::NoNode(node))?;
        known.is_running = false;
        self.state.forget_fetch_sessions(node);
        let cut: Vec<ConnectionId> = self.connections(Some(node)).collect();
        for id in cut {
            self.close(id, CloseReason::NodeStopped);
        }
        self.failovers
            .push((now.after_us(self.state.options.failover_us), node));
        self.changed(now);
        Ok(())
    }

    /// Starts a stopped node again. It catches up at once and leads what nobody leads.
    pub fn start_node(&mut self, now: Now, node: NodeId) -> Result<(), ControlError> {
        let known = self
            .state
            .nodes
            .get_mut(&node)
            .ok_or(ControlError::NoNode(node))?;
        known.is_running = true;
        known.is_registered = true;
        self.failovers.retain(|(_, stopped)| *stopped != node);
        for partition in self
            .state
            .topics
            .values_mut()
            .flat_map(|topic| &mut topic.partitions)
        {
            if !partition.replicas.contains(&node) {
                continue;
            }
            if partition.leader.is_none() && partition.in_sync.contains(&node) {
                let end = partition.log.end_offset();
                partition.elect(node, end);
            } else if partition.leader.is_some() && !partition.in_sync.contains(&node) {
                partition.in_sync.push(node);
            }
        }
        self.changed(now);
        Ok(())
    }

    /// Makes `node`, a running replica, the leader, in a new epoch. What was not replicated is lost.
    pub fn move_leader(
        &mut self,
        now: Now,
        topic: &str,
        partition: i32,
        node: NodeId,
    ) -> Result<(), ControlError> {
        let view = self.partition(topic, partition)?;
        let end = if view.leader == Some(node) {
            view.log.end_offset()
        } else {
            view.high_watermark()
        };
        self.elect_unclean(now, topic, partition, node, end)
    }

    /// Makes `node` the leader with a log that ends at `end_offset` or at the batch before it, so
    /// that records beyond are lost, acknowledged or not.
    pub fn elect_unclean(
        &mut self,
        now: Now,
        topic: &str,
        partition: i32,
        node: NodeId,
        end_offset: i64,
    ) -> Result<(), ControlError> {
        let known = self
            .state
            .nodes
            .get(&node)
            .ok_or(ControlError::NoNode(node))?;
        if !known.is_running {
            return Err(ControlError::NodeStopped(node));
        }
        let found = self.partition_mut(topic, partition)?;
        if !found.replicas.contains(&node) {
            let topic = topic.to_owned();
            return Err(ControlError::NotReplica {
                node,
                topic,
                partition,
            });
        }
        found.elect(node, end_offset);
        self.changed(now);
        Ok(())
    }

    /// Followers stop fetching: what is written from now on is not replicated, so acks=all waits,
    /// and consumers do not see it.
    pub fn hold_replication(&mut self, topic: &str, partition: i32) -> Result<(), ControlError> {
        self.partition_mut(topic, partition)?.hold_replication();
        Ok(())
    }

    /// Followers catch up.
    pub fn release_replication(
        &mut self,
        now: Now,
        topic: &str,
        partition: i32,
    ) -> Result<(), ControlError> {
        self.partition_mut(topic, partition)?.release_replication();
        self.changed(now);
        Ok(())
    }

    /// Makes `node` the coordinator of a group (or transactional id), until it stops.
    pub fn move_coordinator(&mut self, key: &str, node: NodeId) {
        self.state.coordinators.insert(key.to_owned(), node);
        self.state.touch();
    }

    /// Forgets a transactional id, as `transactional.id.expiration.ms` would.
    pub fn forget_transactional_id(&mut self, transactional_id: &str) {
        self.state.transactions.forget(transactional_id);
    }

    pub(crate) fn fail_over(&mut self, now: Now) {
        let (due, waiting) = std::mem::take(&mut self.failovers)
            .into_iter()
            .partition::<Vec<_>, _>(|(at, _)| now.reached(*at));
        self.failovers = waiting;
        for (_, node) in due {
            if let Some(node) = self.state.nodes.get_mut(&node) {
                node.is_registered = false;
            }
            for partition in self
                .state
                .topics
                .values_mut()
                .flat_map(|topic| &mut topic.partitions)
            {
                partition.lose_node(node);
            }
            self.state.touch();
        }
    }
}

/// Looking in.
impl Cluster {
    /// Where a partition stands.
    pub fn view(&self, topic: &str, partition: i32) -> Result<PartitionView, ControlError> {
        let found = self.partition(topic, partition)?;
        Ok(PartitionView {
            leader: found.leader,
            leader_epoch: found.leader_epoch,
            replicas: found.replicas.clone(),
            in_sync: found.in_sync.clone(),
            start_offset: found.log.start_offset(),
            high_watermark: found.high_watermark(),
            end_offset: found.log.end_offset(),
        })
    }

    /// The batches of a partition as they are stored.
    pub fn batches(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<impl Iterator<Item = &Batch>, ControlError> {
        Ok(self.partition(topic, partition)?.log.batches())
    }

    /// Readers of committed data read up to here.
    pub fn last_stable_offset(&self, topic: &str, partition: i32) -> Result<i64, ControlError> {
        let found = self.partition(topic, partition)?;
        Ok(found.last_stable_offset())
    }

    /// Whether a transaction of this id is open, or its markers are not all written.
    #[must_use]
    pub fn has_open_transaction(&self, transactional_id: &str) -> bool {
        self.state.transactions.is_open(transactional_id)
    }

    /// The id of a topic.
    #[must_use]
    pub fn topic_id(&self, topic: &str) -> Option<Uuid> {
        self.state.topics.get(topic).map(|topic| topic.id)
    }

    /// The node that coordinates a group (or transactional id).
    #[must_use]
    pub fn coordinator(&self, key: &str) -> Option<NodeId> {
        self.state.coordinator(key)
    }

    /// What a group committed for a partition.
    #[must_use]
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.state.groups.committed(group, topic, partition)
    }

    /// The generation of a group that has settled, and each member's assignment as its leader wrote
    /// it; `None` while it has not.
    #[must_use]
    pub fn assignments(&self, group: &str) -> Option<(i32, Vec<(String, Bytes)>)> {
        let group = &self.state.groups.by_id.get(group)?.classic;
        if group.phase != Phase::Stable {
            return None;
        }
        let members = group.members.iter();
        let assignments = members.map(|(id, member)| (id.clone(), member.assignment.clone()));
        Some((group.generation, assignments.collect()))
    }

    fn partition(&self, topic: &str, partition: i32) -> Result<&Partition, ControlError> {
        self.state
            .partition(topic, partition)
            .map_err(|_| no_partition(topic, partition))
    }

    fn partition_mut(
        &mut self,
        topic: &str,
        partition: i32,
    ) -> Result<&mut Partition, ControlError> {
        self.state
            .partition_mut(topic, partition)
            .map_err(|_| no_partition(topic, partition))
    }

    fn changed(&mut self, now: Now) {
        self.state.touch();
        self.settle(now);
    }
}

fn no_partition(topic: &str, partition: i32) -> ControlError {
    ControlError::NoPartition {
        topic: topic.to_owned(),
        partition,
    }
}
