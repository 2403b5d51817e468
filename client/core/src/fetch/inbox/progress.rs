//! How far a reader is, for the transaction that is to carry it: positions, and as whom they are sent.
//!
//! A group may take partitions while a transaction is made of their records. The coordinator refuses
//! the offsets of a member that it has replaced, but only if it sees any: whatever was taken before it
//! was sent is remembered here and spoils the transaction.

use super::{Inbox, Shared};
use crate::call::{GroupMetadata, OffsetAndMetadata, TopicPartition};
use crate::error::Error;

/// What a transaction must carry so that what was delivered is never delivered to a transaction again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The next offset of every partition that is read.
    pub positions: Vec<(TopicPartition, OffsetAndMetadata)>,
    /// As whom.
    pub member: GroupMetadata,
}

impl Inbox {
    /// The member that the reader is, as of the last [`Rebalance`](super::Rebalance) that it was
    /// given. A member that has lost its place meanwhile keeps this until it has another, so that
    /// the coordinator refuses it.
    pub fn member(&self) -> GroupMetadata {
        self.lock().member(&self.group)
    }

    /// The reader has left its group.
    pub fn forget_member(&self) {
        self.lock().member = None;
    }

    /// Positions and member at one moment. From then on what was delivered is the transaction's: it
    /// must commit, or be aborted and its records read again (`Command::Rewind`).
    ///
    /// # Errors
    /// The group has taken a partition of which records were delivered since the last time: the
    /// transaction can only be aborted, until the reader has gone back. No `group.id`;
    /// `enable.auto.commit` is on.
    pub fn take_progress(&self) -> Result<Progress, Error> {
        let doing = "send positions to a transaction";
        if self.group.is_empty() {
            return Err(Error::Usage(format!(
                "failed to {doing}: the consumer has no group.id"
            )));
        }
        if self.auto_commit {
            return Err(Error::Usage(format!(
                "failed to {doing}: positions would be committed beside it; set \
                 enable.auto.commit=false"
            )));
        }
        let shared = self.lock();
        if let Some(partition) = &shared.forfeited {
            return Err(Error::MustAbort {
                doing: doing.to_owned(),
                why: format!(
                    "the group has taken {partition}, of which records were delivered; abort, and \
                     rewind the consumer"
                ),
            });
        }
        let positions = shared.slots.iter().filter_map(|(partition, slot)| {
            let standing = slot.cursor.take_owed();
            let offset = OffsetAndMetadata::new(standing.position?, standing.leader_epoch);
            Some((partition.clone(), offset))
        });
        Ok(Progress {
            positions: positions.collect(),
            member: shared.member(&self.group),
        })
    }

    /// The reader goes back: whatever was taken from it is read by whoever has it now.
    pub(crate) fn handle_rewind(&self) {
        self.lock().forfeited = None;
    }
}

impl Shared {
    pub(super) fn forfeit(&mut self, partition: &TopicPartition) {
        self.forfeited.get_or_insert_with(|| partition.clone());
    }

    fn member(&self, group: &str) -> GroupMetadata {
        let unknown = || GroupMetadata::without_membership(group);
        self.member.clone().unwrap_or_else(unknown)
    }
}
