//! What a group does with a consumer's partitions, told to its reader in the stream of its records.

use super::{Event, Given, Inbox, Shared, Slot};
use crate::call::{GroupMetadata, OffsetAndMetadata, TopicPartition};
use crate::error::Error;
use std::sync::Arc;

/// What the group of a consumer did or is about to do with its partitions.
#[derive(Debug)]
pub enum Rebalance {
    /// These came, and are read from where the group has committed. Empty where nothing is new.
    Assigned(Vec<TopicPartition>),
    /// These go to another member once this is dropped.
    Revoking(Revocation),
    /// These are another member's already: what was done with their last records cannot be
    /// committed any more.
    Lost(Vec<TopicPartition>),
}

/// Partitions that the reader is asked to give up. No more of them is given out; what it holds may
/// be read to its end and committed. Once this is dropped nothing of them is delivered, and another
/// member gets them. The group waits for that until `max.poll.interval.ms` has passed.
#[derive(Debug)]
pub struct Revocation {
    inbox: Arc<Inbox>,
    partitions: Arc<[TopicPartition]>,
    round: u64,
}

/// What waits to be told. Of each kind there are at most two at a time: the group asks for the next
/// only when the last was taken up, or has lost the partitions meanwhile.
#[derive(Debug)]
pub(super) enum Notice {
    Assigned(Vec<TopicPartition>, GroupMetadata),
    Revoking(u64, Arc<[TopicPartition]>),
    Lost(u64, Vec<TopicPartition>),
    Failed(Error),
}

impl Revocation {
    /// The partitions to be given up.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }
}

impl Drop for Revocation {
    fn drop(&mut self) {
        self.inbox.handle_given_up(self.round, &self.partitions);
    }
}

impl Inbox {
    /// Assigned partitions, of which records may come from now on.
    pub(crate) fn tell_assigned(&self, partitions: Vec<TopicPartition>, member: GroupMetadata) {
        let mut shared = self.lock();
        match shared.notices.back_mut() {
            Some(Notice::Assigned(before, earlier)) => {
                before.extend(partitions);
                *earlier = member;
            }
            _ => shared
                .notices
                .push_back(Notice::Assigned(partitions, member)),
        }
        shared.wake_reader();
    }

    /// Nothing more of these is given out, and the reader is asked to see to them.
    pub(crate) fn ask_to_give_up(&self, round: u64, partitions: &Arc<[TopicPartition]>) {
        let mut shared = self.lock();
        for partition in partitions.iter() {
            if let Some(slot) = shared.slots.get_mut(partition) {
                slot.is_leaving = true;
            }
        }
        let notice = Notice::Revoking(round, Arc::clone(partitions));
        shared.notices.push_back(notice);
        shared.wake_reader();
    }

    /// These are gone.
    pub(crate) fn tell_lost(&self, round: u64, partitions: &[TopicPartition]) {
        let mut shared = self.lock();
        let notice = Notice::Lost(round, partitions.to_vec());
        shared.notices.push_back(notice);
        shared.wake_reader();
    }

    /// Something about the group that the reader must know.
    pub(crate) fn tell_failed(&self, error: Error) {
        let mut shared = self.lock();
        shared
            .notices
            .retain(|notice| !matches!(notice, Notice::Failed(_)));
        shared.notices.push_back(Notice::Failed(error));
        shared.wake_reader();
    }

    /// The rounds of giving up that the reader has seen to.
    pub(crate) fn take_given_up(&self) -> Vec<u64> {
        std::mem::take(&mut self.lock().given_up)
    }

    /// The next offset of every partition of which the reader has had something and come for more.
    pub(crate) fn delivered(&self) -> Vec<(TopicPartition, OffsetAndMetadata)> {
        let shared = self.lock();
        let settled = shared.slots.iter().filter_map(|(partition, slot)| {
            let (position, leader_epoch) = slot.settled?;
            let offset = OffsetAndMetadata::new(position, leader_epoch);
            Some((partition.clone(), offset))
        });
        settled.collect()
    }

    /// The reader is through with everything that it was given.
    pub fn settle(&self) {
        self.lock().settle();
    }

    /// At once, so that not one record more is delivered: the room learns of it later.
    fn handle_given_up(&self, round: u64, partitions: &[TopicPartition]) {
        let mut guard = self.lock();
        let shared = &mut *guard;
        for partition in partitions {
            let slot = shared.slots.get_mut(partition);
            if let Some(slot) = slot.filter(|slot| slot.is_leaving) {
                if shared.lent.contains(partition) {
                    slot.settle();
                }
                let owes = slot.cursor.standing().owes;
                slot.cursor.restart(u64::MAX, None);
                if owes {
                    shared.forfeit(partition);
                }
            }
        }
        shared.given_up.push(round);
        drop(guard);
        self.buffer.handle_change(true);
    }

    pub(super) fn give(self: &Arc<Self>, notice: Notice) -> Result<Event, Error> {
        Ok(Event::Rebalance(match notice {
            Notice::Assigned(partitions, member) => {
                self.lock().member = Some(member);
                Rebalance::Assigned(partitions)
            }
            Notice::Revoking(round, partitions) => Rebalance::Revoking(Revocation {
                inbox: Arc::clone(self),
                partitions,
                round,
            }),
            Notice::Lost(round, partitions) => {
                self.handle_given_up(round, &[]);
                Rebalance::Lost(partitions)
            }
            Notice::Failed(error) => return Err(error),
        }))
    }
}

impl Shared {
    /// The reader came for more: what it had before counts as delivered.
    pub(super) fn settle(&mut self) {
        let slots = &mut self.slots;
        self.lent.retain(|partition| {
            slots.get_mut(partition).is_some_and(|slot| {
                slot.settle();
                slot.is_lent
            })
        });
    }

    /// Notes that a piece of `partition` went out.
    pub(super) fn note_lent(&mut self, partition: &TopicPartition) {
        if !self.lent.contains(partition) {
            self.lent.push(partition.clone());
        }
    }
}

impl Slot {
    fn settle(&mut self) {
        let standing = self.cursor.standing();
        if let Some(position) = standing.position {
            self.settled = Some((position, standing.leader_epoch));
        }
    }
}

impl Given {
    pub(super) fn into_event(self, inbox: &Arc<Inbox>) -> Event {
        match self {
            Self::Piece(piece) => Event::Records(super::Fetched::new(Arc::clone(inbox), piece)),
            Self::CaughtUp(partition) => Event::CaughtUp(partition),
        }
    }
}
