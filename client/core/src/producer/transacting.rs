//! A producer inside a transaction: what it is allowed, and what it tells the transaction's room.

use super::ProducerRoom;
use super::delivery::DeliveryCause;
use super::partition::Part;
use super::sequence::{Identity, IdentityState};
use crate::call::{Fact, SendPermit, TopicPartition};
use crate::time::Now;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;

/// Transaction version 1 goes with Produce up to here (line 15).
const LAST_PRODUCE_OF_VERSION_1: i16 = 11;

/// The producer's side of its transactions.
#[derive(Debug)]
pub(super) struct Transacting {
    id: String,
    turn: u64,
    permit: SendPermit,
    /// Partitions that the transaction's room was told of since the transaction began.
    named: BTreeSet<u32>,
    wanted: VecDeque<TopicPartition>,
    /// Drained was told for this turn.
    drained: bool,
}

impl Transacting {
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            turn: 0,
            permit: SendPermit::Refused(Arc::from("none is open")),
            named: BTreeSet::new(),
            wanted: VecDeque::new(),
            drained: true,
        }
    }

    pub(super) fn id(&self) -> String {
        self.id.clone()
    }

    pub(super) fn cap(&self) -> Option<i16> {
        let added = match &self.permit {
            SendPermit::Granted { added, .. } => added.as_ref(),
            SendPermit::Refused(_) => None,
        };
        added.map(|_| LAST_PRODUCE_OF_VERSION_1)
    }

    pub(super) fn is_ending(&self) -> bool {
        matches!(self.permit, SendPermit::Granted { lingers: false, .. })
    }

    /// Brings one partition in line with what is allowed.
    pub(super) fn settle(&mut self, part: &mut Part, identity: Option<Identity>) {
        match &self.permit {
            SendPermit::Refused(why) => {
                let why = Arc::clone(why);
                part.abandon(&DeliveryCause::Transaction { why });
            }
            SendPermit::Granted { .. } => {
                part.adopt(identity);
                if !part.is_idle() && self.named.insert(part.queue.number) {
                    self.wanted.push_back(part.name.clone());
                }
            }
        }
    }

    fn may_write(&self, partition: &TopicPartition) -> bool {
        match &self.permit {
            SendPermit::Refused(_) => false,
            SendPermit::Granted { added, .. } => {
                added.as_ref().is_none_or(|added| added.contains(partition))
            }
        }
    }
}

/// Whom a partition's batches are from, if any may be sent now.
pub(super) fn permitted(
    identity: &IdentityState,
    transaction: &Option<Transacting>,
    partition: &TopicPartition,
) -> Option<Identity> {
    let may_write = |transaction: &Transacting| transaction.may_write(partition);
    let granted = transaction.as_ref().is_none_or(may_write);
    identity.known().filter(|_| granted)
}

impl ProducerRoom {
    pub(super) fn handle_permit(&mut self, now: Now, turn: u64, permit: &SendPermit) {
        let Some(transaction) = &mut self.transaction else {
            return;
        };
        if transaction.turn != turn {
            transaction.turn = turn;
            transaction.drained = false;
        }
        match permit {
            SendPermit::Granted {
                producer_id,
                producer_epoch,
                ..
            } => {
                let identity = Identity {
                    id: *producer_id,
                    epoch: *producer_epoch,
                };
                self.identity = IdentityState::Known {
                    identity,
                    bumpable: false,
                };
            }
            SendPermit::Refused(_) => {
                transaction.named.clear();
                transaction.wanted.clear();
            }
        }
        transaction.permit = permit.clone();
        self.touch_all(now);
    }

    /// What the transaction's room should know: failures before the end of all sending.
    pub(super) fn poll_transaction(&mut self) -> Option<Fact> {
        let producer = self.room;
        let transaction = self.transaction.as_mut()?;
        if let Some(partition) = transaction.wanted.pop_front() {
            return Some(Fact::PartitionWanted {
                producer,
                partition,
            });
        }
        let memory = self.accumulator.memory();
        let is_drained = self.calls.is_empty() && memory.oldest_unresolved().is_none();
        // Looked at after the batches: whoever fails one says so first.
        if let Some(cause) = memory.take_failure() {
            let code = match &cause {
                DeliveryCause::Broker { code, .. } => Some(*code),
                _ => None::<ErrorCode>,
            };
            let why = Arc::from(cause.to_string());
            return Some(Fact::SendFailed {
                producer,
                code,
                why,
            });
        }
        let lingers = matches!(
            transaction.permit,
            SendPermit::Granted { lingers: true, .. }
        );
        if transaction.drained || lingers || !is_drained {
            return None;
        }
        transaction.drained = true;
        Some(Fact::Drained {
            producer,
            turn: transaction.turn,
            gap: self.parts.values().any(Part::has_gap),
        })
    }
}
