//! Which batches `read_committed` passes over (KIP-98): a response lists the aborted transactions
//! that its batches may belong to.

use std::collections::{BTreeSet, VecDeque};
use tidewatch_protocol::messages::fetch_response::AbortedTransaction;
use tidewatch_protocol::records::BatchHeader;

/// The aborted transactions of one partition's piece of a response.
#[derive(Debug, Default)]
pub(crate) struct Aborted {
    /// First offset and producer id of those not reached yet, in the order of offsets.
    ahead: VecDeque<(i64, i64)>,
    /// Producers in the midst of one.
    open: BTreeSet<i64>,
}

impl Aborted {
    /// The list may be null and in any order.
    pub(crate) fn new(list: Option<&[AbortedTransaction]>) -> Self {
        let mut ahead: Vec<_> = list
            .unwrap_or_default()
            .iter()
            .map(|transaction| (transaction.first_offset, transaction.producer_id.0))
            .collect();
        ahead.sort_unstable();
        Self {
            ahead: ahead.into(),
            open: BTreeSet::new(),
        }
    }

    /// Whether this batch of data was aborted. To be asked of every batch, control batches too, in
    /// the order of the log.
    pub(crate) fn holds(&mut self, header: &BatchHeader) -> bool {
        let end = header.next_offset();
        while let Some((_, producer_id)) = self.ahead.pop_front_if(|(first, _)| *first < end) {
            self.open.insert(producer_id);
        }
        header.attributes.is_transactional() && self.open.contains(&header.producer_id)
    }

    /// A marker, of either kind, ends the producer's transaction.
    pub(crate) fn handle_marker(&mut self, producer_id: i64) {
        self.open.remove(&producer_id);
    }
}
