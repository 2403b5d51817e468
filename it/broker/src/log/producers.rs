//! What a partition remembers of its idempotent producers: the epoch and the last five batches of
//! each (Kafka's `ProducerStateEntry` and `ProducerAppendInfo`, KIP-98).

use std::collections::{BTreeMap, VecDeque};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::records::BatchHeader;

/// As many batches as an idempotent producer may have in flight.
const REMEMBERED_BATCHES: usize = 5;
/// Producers remembered per partition; beyond it the one that wrote longest ago is forgotten, as
/// Kafka forgets by `producer.id.expiration.ms`.
const MAX_PRODUCERS: usize = 10_000;

/// Where a batch was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    first_sequence: i32,
    last_sequence: i32,
    pub(crate) first_offset: i64,
    pub(crate) timestamp_ms: i64,
}

#[derive(Debug, Clone)]
struct Producer {
    epoch: i16,
    batches: VecDeque<Written>,
}

/// By producer id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Producers {
    by_id: BTreeMap<i64, Producer>,
}

impl Producers {
    /// Whether `header` may be appended: `Ok(Some)` is a duplicate of one of the last five batches,
    /// which is answered as if it had been written now.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Option<Written>, ErrorCode> {
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            return Ok(None);
        };
        if header.producer_epoch < producer.epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if header.producer_epoch > producer.epoch {
            return match header.base_sequence {
                0 => Ok(None),
                _ => Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
            };
        }
        let last_sequence = last_sequence(header);
        let duplicate = producer.batches.iter().find(|written| {
            (written.first_sequence, written.last_sequence) == (header.base_sequence, last_sequence)
        });
        if let Some(written) = duplicate {
            return Ok(Some(*written));
        }
        let next = producer
            .batches
            .back()
            .map_or(0, |last| sequence_after(last.last_sequence));
        if header.base_sequence == next {
            Ok(None)
        } else {
            Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
        }
    }

    /// Remembers a batch that was appended; `header` has its offset in the log.
    pub(crate) fn remember(&mut self, header: &BatchHeader) {
        if header.producer_id < 0 {
            return;
        }
        let producer = self
            .by_id
            .entry(header.producer_id)
            .or_insert_with(|| Producer {
                epoch: header.producer_epoch,
                batches: VecDeque::new(),
            });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Written {
            first_sequence: header.base_sequence,
            last_sequence: last_sequence(header),
            first_offset: header.base_offset,
            timestamp_ms: header.max_timestamp,
        });
        if self.by_id.len() > MAX_PRODUCERS {
            self.forget_oldest();
        }
    }

    /// Remembers the end of a transaction: its epoch holds from now on.
    pub(crate) fn remember_marker(&mut self, header: &BatchHeader) {
        if let Some(producer) = self.by_id.get_mut(&header.producer_id)
            && header.producer_epoch > producer.epoch
        {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
    }

    fn forget_oldest(&mut self) {
        let last_offset = |producer: &Producer| producer.batches.back().map(|w| w.first_offset);
        let oldest = self
            .by_id
            .iter()
            .min_by_key(|(_, producer)| last_offset(producer))
            .map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.by_id.remove(&id);
        }
    }
}

fn sequence_after(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

/// Sequences wrap from `i32::MAX` to 0.
fn last_sequence(header: &BatchHeader) -> i32 {
    let last = i64::from(header.base_sequence) + i64::from(header.last_offset_delta);
    let wrapped = last % (i64::from(i32::MAX) + 1);
    i32::try_from(wrapped).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewatch_protocol::records::Attributes;

    fn batch(epoch: i16, base_sequence: i32, count: i32, offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset: offset,
            batch_length: 0,
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: count - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence,
            record_count: count,
        }
    }

    /// Six batches of ten records in epoch 1: sequences 0 to 59, offsets 100 to 159.
    fn six_batches() -> Producers {
        let mut producers = Producers::default();
        for n in 0..6 {
            producers.remember(&batch(1, n * 10, 10, 100 + i64::from(n) * 10));
        }
        producers
    }

    #[test]
    fn the_idempotence_table() {
        const NEW: Result<Option<i64>, ErrorCode> = Ok(None);
        const OUT_OF_ORDER: Result<Option<i64>, ErrorCode> =
            Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        for (what, header, answer) in [
            ("the next batch", batch(1, 60, 3, 0), NEW),
            ("the last batch again", batch(1, 50, 10, 0), Ok(Some(150))),
            (
                "the fifth last batch again",
                batch(1, 10, 10, 0),
                Ok(Some(110)),
            ),
            (
                "the sixth last is forgotten",
                batch(1, 0, 10, 0),
                OUT_OF_ORDER,
            ),
            (
                "a duplicate of another size",
                batch(1, 50, 9, 0),
                OUT_OF_ORDER,
            ),
            ("a gap", batch(1, 61, 1, 0), OUT_OF_ORDER),
            ("a new epoch from 0", batch(2, 0, 1, 0), NEW),
            ("a new epoch not from 0", batch(2, 60, 1, 0), OUT_OF_ORDER),
            (
                "an old epoch",
                batch(0, 60, 1, 0),
                Err(ErrorCode::INVALID_PRODUCER_EPOCH),
            ),
        ] {
            let found = six_batches()
                .check(&header)
                .map(|dup| dup.map(|w| w.first_offset));
            assert_eq!(found, answer, "{what}");
        }
    }

    #[test]
    fn a_producer_that_is_not_known_may_begin_anywhere() {
        assert_eq!(Producers::default().check(&batch(3, 41, 1, 0)), Ok(None));
    }

    #[test]
    fn a_new_epoch_forgets_the_batches_of_the_old_one() {
        let mut producers = six_batches();
        producers.remember(&batch(2, 0, 1, 160));
        assert_eq!(
            producers.check(&batch(2, 50, 10, 0)),
            Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
        );
        assert_eq!(producers.check(&batch(2, 1, 1, 0)), Ok(None));
    }

    #[test]
    fn line_2_sequences_wrap_from_the_greatest_to_zero() {
        let mut producers = Producers::default();
        producers.remember(&batch(0, i32::MAX - 1, 2, 0));
        assert_eq!(producers.check(&batch(0, 0, 1, 0)), Ok(None));

        let mut producers = Producers::default();
        producers.remember(&batch(0, i32::MAX, 3, 0));
        assert_eq!(producers.check(&batch(0, 2, 1, 0)), Ok(None));
        assert_eq!(
            producers.check(&batch(0, 3, 1, 0)),
            Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
        );
    }

    #[test]
    fn producers_are_bounded_and_the_oldest_goes_first() {
        let mut producers = Producers::default();
        for id in 0..=i64::try_from(MAX_PRODUCERS).unwrap() {
            producers.remember(&BatchHeader {
                producer_id: id,
                ..batch(0, 0, 1, id)
            });
        }
        assert_eq!(producers.by_id.len(), MAX_PRODUCERS);
        assert!(!producers.by_id.contains_key(&0));
    }
}
