//! The steps of a transaction as requests to its coordinator and to its groups'.

use super::{Identity, OffsetsJob};
use crate::by_topic::{by_topic, topic_name};
use crate::call::{Body, TopicPartition};
use std::collections::BTreeSet;
use std::sync::Arc;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use tidewatch_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use tidewatch_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, GroupId,
    InitProducerIdRequest, ProducerId, TransactionalId, TxnOffsetCommitRequest,
};

/// Asks who the producer is, or, saying who it was, for its next epoch (KIP-360).
pub(super) fn init(id: &str, timeout_ms: u64, was: Option<Identity>) -> Body {
    let (producer_id, epoch) = was.map_or((-1, -1), |was| (was.id, was.epoch));
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(transactional_id(id)))
        .with_transaction_timeout_ms(i32::try_from(timeout_ms).unwrap_or(i32::MAX))
        .with_producer_id(ProducerId(producer_id))
        .with_producer_epoch(epoch);
    Body::InitProducerId(request.into())
}

pub(super) fn add_partitions(
    id: &str,
    identity: Identity,
    partitions: &BTreeSet<TopicPartition>,
) -> Body {
    let partitions = partitions.iter().map(|partition| (partition.clone(), ()));
    let topics = by_topic(partitions).into_iter().map(|(topic, partitions)| {
        AddPartitionsToTxnTopic::default()
            .with_name(topic_name(&topic))
            .with_partitions(partitions.into_iter().map(|(index, ())| index).collect())
    });
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(transactional_id(id))
        .with_v3_and_below_producer_id(ProducerId(identity.id))
        .with_v3_and_below_producer_epoch(identity.epoch)
        .with_v3_and_below_topics(topics.collect());
    Body::AddPartitionsToTxn(request.into())
}

pub(super) fn add_offsets(id: &str, identity: Identity, group: &str) -> Body {
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(transactional_id(id))
        .with_producer_id(ProducerId(identity.id))
        .with_producer_epoch(identity.epoch)
        .with_group_id(group_id(group));
    Body::AddOffsetsToTxn(request.into())
}

/// With the member and its generation, so that one that was replaced meanwhile commits nothing
/// (KIP-447).
pub(super) fn commit_offsets(id: &str, identity: Identity, job: &OffsetsJob) -> Body {
    let offsets = job.left.iter().map(|(partition, offset)| {
        let metadata = StrBytes::from_string(offset.metadata.clone());
        let wire = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(partition.partition)
            .with_committed_offset(offset.offset)
            .with_committed_leader_epoch(offset.leader_epoch)
            .with_committed_metadata(Some(metadata));
        (partition.clone(), wire)
    });
    let topics = by_topic(offsets).into_iter().map(|(topic, partitions)| {
        TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(&topic))
            .with_partitions(partitions.into_iter().map(|(_, wire)| wire).collect())
    });
    let text = |text: &Arc<str>| StrBytes::from_string(text.to_string());
    let group = &job.group;
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(transactional_id(id))
        .with_group_id(group_id(&group.group_id))
        .with_producer_id(ProducerId(identity.id))
        .with_producer_epoch(identity.epoch)
        .with_generation_id(group.generation_id)
        .with_member_id(text(&group.member_id))
        .with_group_instance_id(group.group_instance_id.as_ref().map(text))
        .with_topics(topics.collect());
    Body::TxnOffsetCommit(request.into())
}

pub(super) fn end(id: &str, identity: Identity, committed: bool) -> Body {
    let request = EndTxnRequest::default()
        .with_transactional_id(transactional_id(id))
        .with_producer_id(ProducerId(identity.id))
        .with_producer_epoch(identity.epoch)
        .with_committed(committed);
    Body::EndTxn(request.into())
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}

fn group_id(id: &str) -> GroupId {
    GroupId(StrBytes::from_string(id.to_owned()))
}
