//! A refused batch in pieces: of what is too large, and of what is left without refused records.

use super::{Part, Sent, SentState};
use crate::producer::response::Refusal;

impl Part {
    /// Puts pieces in a batch's place, numbered as its records were: the broker took none of them.
    pub(super) fn split(&mut self, at: usize, limit_bytes: usize) -> bool {
        if self
            .sent
            .get(at)
            .is_none_or(|sent| sent.batch.sealed.count() < 2)
        {
            return false;
        }
        let Some(whole) = self.sent.remove(at) else {
            return false;
        };
        let Sent {
            batch,
            mut sequence,
            ordinal,
            possibly_written,
            ..
        } = whole;
        let half = batch.sealed.uncompressed_bytes().div_ceil(2);
        let (pieces, split) = match batch.split(limit_bytes.min(half)) {
            Ok(pieces) => (pieces, true),
            Err(whole) => (vec![*whole], false),
        };
        for (offset, batch) in pieces.into_iter().enumerate() {
            let own = sequence;
            sequence = own.map(|own| own.plus(batch.sealed.count()));
            let sent = Sent {
                batch,
                sequence: own,
                ordinal,
                state: SentState::Retry,
                proven: false,
                possibly_written,
            };
            self.sent.insert(at.saturating_add(offset), sent);
        }
        split
    }

    /// Fails the records that the broker named, and puts the others in the batch's place: a broker
    /// refuses such a batch before it appends anything of it (Kafka's `LogValidator`). What follows
    /// was numbered with the named ones, so all of it needs a new epoch. False where that cannot be,
    /// or an earlier attempt may have been written: then the others could be doubled.
    pub(super) fn sift(&mut self, at: usize, refusal: &Refusal) -> bool {
        let sifts = |sent: &Sent| {
            let in_doubt = sent.possibly_written || sent.proven;
            !in_doubt && refusal.names_some_of(sent.batch.sealed.count())
        };
        if !self.sent.get(at).is_some_and(sifts) {
            return false;
        }
        let Some(whole) = self.sent.remove(at) else {
            return false;
        };
        let pieces = match whole.batch.split_apart(|index| refusal.names(index)) {
            Ok(pieces) => pieces,
            Err(batch) => {
                let batch = *batch;
                self.sent.insert(at, Sent { batch, ..whole });
                return false;
            }
        };
        self.restamp |= whole.sequence.is_some();
        let (mut first, mut place) = (0_i32, at);
        for batch in pieces {
            let count = batch.sealed.count();
            if refusal.names(first) {
                batch.failed(refusal.failure_from(first, false));
            } else {
                let sent = Sent {
                    batch,
                    sequence: None,
                    state: SentState::Retry,
                    ..whole
                };
                self.sent.insert(place, sent);
                place = place.saturating_add(1);
            }
            first = first.saturating_add(count);
        }
        true
    }
}
