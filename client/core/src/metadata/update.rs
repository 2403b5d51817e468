//! A Metadata response into a new picture, never going back to what is known to be older.

use super::{BrokerAddress, Cluster, Partition, Topic};
use crate::call::{BrokerId, TopicPartition};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use tidewatch_protocol::messages::{self, MetadataResponse};
use uuid::Uuid;

impl Cluster {
    /// The picture after `response` to a request for the topics `asked`. Other topics stay as they
    /// are, as long as `wanted` says so; topics that nobody asked for are not taken in.
    pub(super) fn updated(
        &self,
        response: &MetadataResponse,
        asked: &BTreeSet<Arc<str>>,
        wanted: impl Fn(&str) -> bool,
    ) -> Self {
        let brokers = response.brokers.iter().filter_map(|broker| {
            let address = BrokerAddress {
                host: broker.host.as_str().into(),
                port: u16::try_from(broker.port).ok()?,
                rack: broker.rack.as_ref().map(|rack| rack.as_str().into()),
            };
            Some((BrokerId(broker.node_id.0), address))
        });
        let kept = self.topics.iter().filter(|(name, _)| wanted(name));
        let mut topics: BTreeMap<_, _> = kept.map(|(n, t)| (n.clone(), t.clone())).collect();
        for answer in &response.topics {
            let name = answer
                .name
                .as_ref()
                .and_then(|name| asked.get(name.as_str()));
            if let Some(name) = name {
                let topic = read_topic(answer, self.topics.get(name));
                topics.insert(name.clone(), topic);
            }
        }
        let controller = response.controller_id.0;
        let cluster_id = response.cluster_id.as_ref().map(|id| id.as_str().into());
        Self {
            cluster_id: cluster_id.or_else(|| self.cluster_id.clone()),
            controller: (controller >= 0).then_some(BrokerId(controller)),
            brokers: brokers.collect(),
            names: names(&topics),
            topics,
        }
    }

    /// The picture with a newer leader; `None` where the hint is not newer (line 26).
    pub(super) fn with_leader(
        &self,
        at: &TopicPartition,
        leader: BrokerId,
        epoch: i32,
        address: Option<&(Arc<str>, u16)>,
    ) -> Option<Self> {
        let known = self.partition(&at.topic, at.partition)?;
        if epoch <= known.leader_epoch {
            return None;
        }
        let mut next = self.clone();
        let index = usize::try_from(at.partition).ok()?;
        let topic = next.topics.get_mut(&at.topic)?;
        let partition = topic.partitions.get_mut(index)?;
        partition.leader = Some(leader);
        partition.leader_epoch = epoch;
        if let Some((host, port)) = address {
            let known = next.brokers.get(&leader);
            let rack = known.and_then(|broker| broker.rack.clone());
            let host = host.clone();
            next.brokers.insert(
                leader,
                BrokerAddress {
                    host,
                    port: *port,
                    rack,
                },
            );
        }
        // A leader whose address nobody knows cannot be called: better the next full picture.
        next.brokers.contains_key(&leader).then_some(next)
    }
}

fn names(topics: &BTreeMap<Arc<str>, Topic>) -> HashMap<Uuid, Arc<str>> {
    let identified = topics.iter().filter(|(_, topic)| !topic.id.is_nil());
    identified
        .map(|(name, topic)| (topic.id, name.clone()))
        .collect()
}

fn read_topic(answer: &MetadataResponseTopic, known: Option<&Topic>) -> Topic {
    // Another id is another topic of the same name: its epochs begin anew (line 11).
    let same = known.filter(|known| known.id == answer.topic_id);
    let error = ErrorCode(answer.error_code);
    let unknown = Partition {
        leader: None,
        leader_epoch: -1,
        replicas: Vec::new(),
        in_sync_replicas: Vec::new(),
    };
    // Brokers list every partition from 0 on; an index beyond their count is not one.
    let mut partitions = vec![unknown; answer.partitions.len()];
    for entry in &answer.partitions {
        let index = usize::try_from(entry.partition_index).ok();
        if let Some((index, slot)) = index.and_then(|i| Some((i, partitions.get_mut(i)?))) {
            let known = same.and_then(|topic| topic.partitions.get(index));
            *slot = read_partition(entry, known);
        }
    }
    match same {
        // A passing error says nothing about the partitions: their leaders may still answer.
        Some(known) if error.meaning().retriable && partitions.is_empty() => Topic {
            error,
            ..known.clone()
        },
        _ => Topic {
            id: answer.topic_id,
            error,
            partitions,
        },
    }
}

fn read_partition(entry: &MetadataResponsePartition, known: Option<&Partition>) -> Partition {
    let epoch = entry.leader_epoch;
    match known {
        // A broker that has not heard yet (KAFKA-7738, line 43).
        Some(known) if epoch >= 0 && epoch < known.leader_epoch => known.clone(),
        _ => Partition {
            leader: (entry.leader_id.0 >= 0).then_some(BrokerId(entry.leader_id.0)),
            leader_epoch: epoch,
            replicas: broker_ids(&entry.replica_nodes),
            in_sync_replicas: broker_ids(&entry.isr_nodes),
        },
    }
}

fn broker_ids(nodes: &[messages::BrokerId]) -> Vec<BrokerId> {
    nodes.iter().map(|node| BrokerId(node.0)).collect()
}
