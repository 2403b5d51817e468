//! What a consumer's group says about its partitions: they come, they go, and in between it asks how
//! far the reader is.

use super::{FetchRoom, Start};
use crate::call::{Fact, OffsetAndMetadata, RevokeHow, TopicPartition};
use std::sync::Arc;

impl FetchRoom {
    pub(super) fn handle_group_fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Assigned {
                consumer,
                partitions,
                member,
            } if *consumer == self.room => {
                let start = |offset: &Option<OffsetAndMetadata>| match offset {
                    Some(committed) => Start::of_group(committed),
                    None => Start::Reset,
                };
                let wanted = partitions
                    .iter()
                    .map(|(p, offset)| (p.clone(), start(offset)));
                self.assign(wanted.collect());
                let assigned = partitions.iter().map(|(partition, _)| partition.clone());
                self.inbox.tell_assigned(assigned.collect(), member.clone());
            }
            Fact::Revoking {
                consumer,
                partitions,
                how,
                round,
            } if *consumer == self.room => match how {
                RevokeHow::Ask => {
                    self.inbox.ask_to_give_up(*round, partitions);
                    self.leaving.insert(*round, Arc::clone(partitions));
                }
                RevokeHow::Lost => {
                    self.unassign(partitions);
                    self.inbox.tell_lost(*round, partitions);
                    self.leaving.insert(*round, Arc::from([]));
                }
                RevokeHow::Silently => self.give_up(*round, partitions),
            },
            Fact::PositionsWanted { consumer } if *consumer == self.room => {
                self.tell_delivered(|_| true);
            }
            Fact::Committed {
                consumer,
                committed,
                round,
            } if *consumer == self.room => self.handle_committed(*round, committed),
            Fact::MembershipFailed { consumer, error } if *consumer == self.room => {
                self.inbox.tell_failed(error.clone());
            }
            _ => {}
        }
    }

    /// What the reader has seen to by now.
    pub(super) fn take_given_up(&mut self) {
        for round in self.inbox.take_given_up() {
            if let Some(partitions) = self.leaving.remove(&round) {
                self.give_up(round, &partitions);
            }
        }
    }

    fn give_up(&mut self, round: u64, partitions: &[TopicPartition]) {
        if !partitions.is_empty() {
            self.tell_delivered(|partition| partitions.contains(partition));
        }
        self.unassign(partitions);
        let consumer = self.room;
        self.facts.push_back(Fact::Revoked { consumer, round });
    }

    fn tell_delivered(&mut self, wanted: impl Fn(&TopicPartition) -> bool) {
        let mut positions = self.inbox.delivered();
        positions.retain(|(partition, _)| wanted(partition));
        self.facts.push_back(Fact::Delivered {
            consumer: self.room,
            positions: positions.into(),
        });
    }
}
