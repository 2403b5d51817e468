//! Transactions as a partition's log tells of them: which are open, and where ended ones lie
//! (Kafka's `ProducerStateManager` and `TransactionIndex`).

use std::collections::{BTreeMap, VecDeque};
use tidewatch_protocol::records::{BatchHeader, ControlKind};

/// Derived from a log's batches, in order. There is at most one entry per batch in the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogTransactions {
    /// By producer id.
    open: BTreeMap<i64, Open>,
    /// By marker, in order.
    ended: VecDeque<Ended>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    first_offset: i64,
    epoch: i16,
}

/// A transaction whose marker is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    pub(crate) marker_offset: i64,
    aborted: bool,
}

impl LogTransactions {
    /// A producer's transactional batch was appended.
    pub(crate) fn note_batch(&mut self, header: &BatchHeader) {
        if header.attributes.is_transactional() && !header.attributes.is_control() {
            let epoch = header.producer_epoch;
            let open = self.open.entry(header.producer_id).or_insert(Open {
                first_offset: header.base_offset,
                epoch,
            });
            open.epoch = epoch;
        }
    }

    /// A marker was appended.
    pub(crate) fn note_marker(&mut self, header: &BatchHeader, kind: ControlKind) {
        if let Some(open) = self.open.remove(&header.producer_id) {
            self.ended.push_back(Ended {
                producer_id: header.producer_id,
                first_offset: open.first_offset,
                marker_offset: header.base_offset,
                aborted: kind == ControlKind::Abort,
            });
        }
    }

    /// The epoch in which a producer has written since its last marker.
    pub(crate) fn open_epoch(&self, producer_id: i64) -> Option<i16> {
        self.open.get(&producer_id).map(|open| open.epoch)
    }

    /// Where what is decided ends: before the first record of a transaction that is open, or whose
    /// marker is not replicated.
    pub(crate) fn last_stable_offset(&self, high_watermark: i64) -> i64 {
        let unreplicated = self.ended.iter().rev();
        let unreplicated = unreplicated.take_while(|ended| ended.marker_offset >= high_watermark);
        let undecided = unreplicated.map(|ended| ended.first_offset);
        let undecided = undecided.chain(self.open.values().map(|open| open.first_offset));
        undecided
            .min()
            .map_or(high_watermark, |first| first.min(high_watermark))
    }

    /// The aborted transactions with records between `from` and `until`.
    pub(crate) fn aborted(&self, from: i64, until: i64) -> impl Iterator<Item = &Ended> {
        self.ended.iter().filter(move |ended| {
            ended.aborted && ended.marker_offset >= from && ended.first_offset < until
        })
    }

    /// What lies before `offset` is gone.
    pub(crate) fn truncate_start(&mut self, offset: i64) {
        while self
            .ended
            .pop_front_if(|ended| ended.marker_offset < offset)
            .is_some()
        {}
    }
}
