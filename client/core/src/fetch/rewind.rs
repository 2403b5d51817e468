//! Going back to what the group has committed: after a transaction was aborted, whatever it was made
//! of is read again.

use super::position::State;
use super::{FetchRoom, Start};
use crate::call::{Fact, OffsetAndMetadata, TopicPartition};
use crate::error::Error;

impl FetchRoom {
    /// Every partition waits until the group has said where it stands; one that is revoked or
    /// assigned anew meanwhile is past this.
    pub(super) fn rewind(&mut self) -> Result<(), Error> {
        if self.options.group_id.is_none() {
            let why = "failed to rewind: the consumer has no group.id";
            return Err(Error::Usage(why.to_owned()));
        }
        self.inbox.handle_rewind();
        self.rewinds += 1;
        let partitions: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        for partition in &partitions {
            let origin = self.partitions.get(partition).and_then(|e| e.origin);
            self.restart(partition, State::Rewinding(self.rewinds, origin));
        }
        if !partitions.is_empty() {
            self.facts.push_back(Fact::CommittedWanted {
                consumer: self.room,
                partitions: partitions.into(),
                round: self.rewinds,
            });
        }
        Ok(())
    }

    /// Where the group stands.
    pub(super) fn handle_committed(
        &mut self,
        round: u64,
        committed: &[(TopicPartition, Option<OffsetAndMetadata>)],
    ) {
        for (partition, offset) in committed {
            let state = self.partitions.get(partition).map(|entry| entry.state);
            let Some(State::Rewinding(asked, origin)) = state else {
                continue;
            };
            if asked != round {
                continue;
            }
            let start = match (offset, origin) {
                (Some(committed), _) => Start::of_group(committed),
                (None, Some(origin)) => Start::Committed {
                    offset: origin.offset,
                    leader_epoch: origin.leader_epoch,
                },
                (None, None) => Start::Reset,
            };
            self.begin(partition, start);
        }
    }
}
