//! Where transactions meet the rest of the cluster: who coordinates them, what Produce adds to them,
//! and the markers that end them.

use super::State;
use crate::api::Call;
use crate::log::Rejected;
use crate::now::Now;
use crate::transactions::{Due, End, Marking, Producer};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::records::{BatchHeader, EndMarker};

/// From here on Produce understands TRANSACTION_ABORTABLE (KIP-890).
const FIRST_PRODUCE_WITH_ABORTABLE: i16 = 11;
/// From here on Produce adds its partitions to the transaction (KIP-890).
const FIRST_PRODUCE_THAT_ADDS: i16 = 12;

impl State {
    pub(crate) fn init_transactions(
        &mut self,
        call: &Call,
        id: &str,
        timeout_ms: i32,
        expected: Option<Producer>,
    ) -> Result<Producer, ErrorCode> {
        self.check_transaction_coordinator(call, id)?;
        let new_id = self.next_producer_id();
        let transactions = &mut self.transactions;
        transactions.init(call.now, id, timeout_ms, expected, new_id)
    }

    pub(crate) fn add_to_transaction(
        &mut self,
        call: &Call,
        id: &str,
        producer: Producer,
        partitions: impl IntoIterator<Item = (String, i32)>,
        groups: impl IntoIterator<Item = String>,
    ) -> Result<(), ErrorCode> {
        self.check_transaction_coordinator(call, id)?;
        let transactions = &mut self.transactions;
        transactions.add(call.now, id, producer, partitions, groups)
    }

    pub(crate) fn end_transaction(
        &mut self,
        call: &Call,
        id: &str,
        producer: Producer,
        end: End,
        bumps: bool,
    ) -> Result<Producer, ErrorCode> {
        self.check_transaction_coordinator(call, id)?;
        let new_id = self.next_producer_id();
        let transactions = &mut self.transactions;
        transactions.end(call.now, id, producer, end, bumps, new_id)
    }

    fn check_transaction_coordinator(&self, call: &Call, id: &str) -> Result<(), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        match self.coordinator(id) == Some(call.node) {
            true => Ok(()),
            false => Err(ErrorCode::NOT_COORDINATOR),
        }
    }

    /// Whether a producer may append to a partition as far as transactions go. The first batch of a
    /// transaction is checked with its coordinator (Kafka's `AddPartitionsToTxnManager`).
    pub(crate) fn join_transaction(
        &mut self,
        call: &Call,
        transactional_id: Option<&str>,
        (topic, index): (&str, i32),
        header: &BatchHeader,
    ) -> Result<(), Rejected> {
        let transactions = self.partition(topic, index)?.log.transactions();
        let open = transactions.open_epoch(header.producer_id);
        if !header.attributes.is_transactional() {
            return match open {
                Some(_) => Err(ErrorCode::INVALID_TXN_STATE.into()),
                None => Ok(()),
            };
        }
        let id = transactional_id.ok_or(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)?;
        if open == Some(header.producer_epoch) {
            return Ok(());
        }
        let producer = Producer {
            id: header.producer_id,
            epoch: header.producer_epoch,
        };
        let adds = call.version >= FIRST_PRODUCE_THAT_ADDS;
        let transactions = &mut self.transactions;
        let joined = if adds {
            transactions.add(call.now, id, producer, [(topic.to_owned(), index)], [])
        } else {
            transactions.verify_partition(id, producer, topic, index)
        };
        joined.map_err(|code| {
            let told = match code {
                ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
                // Older clients would take it for an error for good.
                ErrorCode::CONCURRENT_TRANSACTIONS if !adds => ErrorCode::NOT_ENOUGH_REPLICAS,
                ErrorCode::TRANSACTION_ABORTABLE if call.version < FIRST_PRODUCE_WITH_ABORTABLE => {
                    ErrorCode::INVALID_TXN_STATE
                }
                code => code,
            };
            told.into()
        })
    }

    /// Aborts what is overdue and writes the markers that are due.
    pub(crate) fn settle_transactions(&mut self, now: Now) {
        self.transactions.expire(now);
        for due in self.transactions.due(now) {
            self.write_markers(now, due);
        }
    }

    fn write_markers(&mut self, now: Now, due: Due) {
        let Due {
            transactional_id,
            marker,
            mut partitions,
        } = due;
        partitions.retain(|(topic, index), marking| {
            let next = self.mark(now, &marker, topic, *index, *marking);
            next.is_some_and(|next| {
                *marking = next;
                true
            })
        });
        let offsets = self.transactions.settle(&transactional_id, partitions);
        for ((group, topic, partition), committed) in offsets.unwrap_or_default() {
            // What finds no room is lost, as it would be with the groups' own commits.
            self.groups.commit(&group, &topic, partition, committed);
        }
    }

    /// What a partition still lacks after one more try: nothing once the marker is replicated, or
    /// where the topic is gone.
    fn mark(
        &mut self,
        now: Now,
        marker: &EndMarker,
        topic: &str,
        index: i32,
        marking: Marking,
    ) -> Option<Marking> {
        let partition = self.partition_mut(topic, index).ok()?;
        let leader_epoch = partition.leader_epoch;
        let written = match marking {
            Marking::Written {
                leader_epoch: epoch,
                next_offset,
            } if epoch == leader_epoch => next_offset,
            // A new leader may have lost it.
            _ if partition.leader.is_none() => return Some(Marking::Unwritten),
            _ => {
                let next_offset = partition
                    .log
                    .append_marker(marker, leader_epoch, now.wall_ms);
                self.touch();
                next_offset
            }
        };
        let replicated = self.partition(topic, index).ok()?.high_watermark() >= written;
        (!replicated).then_some(Marking::Written {
            next_offset: written,
            leader_epoch,
        })
    }
}
