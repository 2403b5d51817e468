//! Which leader epoch began at which offset (Kafka's `LeaderEpochFileCache`, KIP-101 and KIP-320).

/// Kafka's `UNDEFINED_EPOCH` and `UNDEFINED_EPOCH_OFFSET`.
pub(crate) const UNDEFINED: i32 = -1;

/// An epoch and the offset after its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochEnd {
    pub(crate) epoch: i32,
    pub(crate) end_offset: i64,
}

#[derive(Debug, Clone, Copy)]
struct Begin {
    epoch: i32,
    offset: i64,
}

/// Ascending in both epoch and offset.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeaderEpochs {
    begins: Vec<Begin>,
}

impl LeaderEpochs {
    /// A leader of `epoch` begins to write at `offset`; epochs that wrote nothing are forgotten.
    pub(crate) fn assign(&mut self, epoch: i32, offset: i64) {
        if self.begins.last().is_some_and(|last| last.epoch >= epoch) {
            return;
        }
        self.begins.retain(|begin| begin.offset < offset);
        self.begins.push(Begin { epoch, offset });
    }

    /// The epoch that wrote `offset`, or would write it.
    pub(crate) fn at(&self, offset: i64) -> i32 {
        let after = self.begins.partition_point(|begin| begin.offset <= offset);
        after
            .checked_sub(1)
            .and_then(|index| self.begins.get(index))
            .map_or(UNDEFINED, |b| b.epoch)
    }

    /// Where `epoch` ended in a log that ends at `log_end`: the largest known epoch that is not
    /// greater, and the offset where the next one begins.
    pub(crate) fn end_of(&self, epoch: i32, log_end: i64) -> EpochEnd {
        const UNKNOWN: EpochEnd = EpochEnd {
            epoch: UNDEFINED,
            end_offset: -1,
        };
        let Some(last) = self.begins.last() else {
            return UNKNOWN;
        };
        if epoch == last.epoch {
            return EpochEnd {
                epoch,
                end_offset: log_end,
            };
        }
        if epoch < 0 || epoch > last.epoch {
            return UNKNOWN;
        }
        let above = self.begins.partition_point(|begin| begin.epoch <= epoch);
        let end_offset = self.begins.get(above).map_or(log_end, |begin| begin.offset);
        let floor = above
            .checked_sub(1)
            .and_then(|index| self.begins.get(index));
        EpochEnd {
            epoch: floor.map_or(epoch, |begin| begin.epoch),
            end_offset,
        }
    }

    /// The log was cut at its end: nothing from `end_offset` on is left.
    pub(crate) fn truncate_end(&mut self, end_offset: i64) {
        self.begins.retain(|begin| begin.offset < end_offset);
    }

    /// The log was cut at its front: it begins at `start_offset` now.
    pub(crate) fn truncate_start(&mut self, start_offset: i64) {
        let keep_from = self
            .begins
            .partition_point(|begin| begin.offset <= start_offset)
            .saturating_sub(1);
        self.begins.drain(..keep_from);
        if let Some(first) = self.begins.first_mut() {
            first.offset = first.offset.max(start_offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_epochs() -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        epochs.assign(0, 0);
        epochs.assign(2, 10);
        epochs.assign(5, 30);
        epochs
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let epochs = three_epochs();
        for (asked, epoch, end_offset) in [
            (0, 0, 10),
            (1, 0, 10),
            (2, 2, 30),
            (4, 2, 30),
            (5, 5, 40),
            (6, UNDEFINED, -1),
            (-1, UNDEFINED, -1),
        ] {
            assert_eq!(
                epochs.end_of(asked, 40),
                EpochEnd { epoch, end_offset },
                "epoch {asked}"
            );
        }
    }

    #[test]
    fn an_epoch_before_the_first_known_ends_where_the_log_begins_to_be_known() {
        let mut epochs = three_epochs();
        epochs.truncate_start(15);
        assert_eq!(
            epochs.end_of(0, 40),
            EpochEnd {
                epoch: 0,
                end_offset: 15
            }
        );
        assert_eq!(epochs.at(15), 2);
    }

    #[test]
    fn an_epoch_that_wrote_nothing_is_forgotten() {
        let mut epochs = three_epochs();
        epochs.assign(6, 30);
        assert_eq!(
            epochs.end_of(5, 40),
            EpochEnd {
                epoch: 2,
                end_offset: 30
            }
        );
        assert_eq!(epochs.at(30), 6);
    }

    #[test]
    fn truncation_forgets_the_epochs_behind_the_cut() {
        let mut epochs = three_epochs();
        epochs.truncate_end(20);
        epochs.assign(7, 20);
        assert_eq!(
            epochs.end_of(2, 25),
            EpochEnd {
                epoch: 2,
                end_offset: 20
            }
        );
        assert_eq!(
            epochs.end_of(5, 25),
            EpochEnd {
                epoch: 2,
                end_offset: 20
            }
        );
    }
}
