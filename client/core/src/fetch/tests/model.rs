//! Random logs, fetch sizes, seeks and pauses against a model: after each seek every record that can
//! be seen comes exactly once and in order.

use super::log::{TestBatch, batch, marker};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;
use tidewatch_protocol::compression::Compression;
use tidewatch_protocol::messages::fetch_response::AbortedTransaction;

/// One stretch of a log.
#[derive(Debug, Clone)]
enum Stretch {
    /// Records, some of them compacted away, after a gap.
    Plain {
        gap: i64,
        count: i32,
        kept: u8,
        codec: Compression,
    },
    /// A transaction of a producer of its own, other records in its midst.
    Transaction {
        counts: (i32, i32),
        between: i32,
        commits: bool,
    },
    /// A marker whose records compaction has removed.
    BareMarker { commits: bool },
}

/// A partition's log and what a reader may see of it.
#[derive(Debug, Default)]
struct Log {
    batches: Vec<(TestBatch, Bytes)>,
    /// Producer id, first offset, and the marker's.
    aborted: Vec<(i64, i64, i64)>,
    /// Offsets of the records of aborted transactions.
    hidden: BTreeSet<i64>,
    end: i64,
}

impl Log {
    fn new(stretches: &[Stretch]) -> Self {
        let mut log = Self::default();
        for (number, stretch) in (0..).zip(stretches) {
            // Few producers, so that one aborts and commits in turn.
            log.append(number % 3, stretch);
        }
        log
    }

    fn append(&mut self, producer_id: i64, stretch: &Stretch) {
        match stretch {
            Stretch::Plain {
                gap,
                count,
                kept,
                codec,
            } => {
                let deltas: Vec<_> = (0..*count).filter(|d| kept >> (d % 8) & 1 == 1).collect();
                let plain = batch(self.end + gap, *count);
                self.push(plain.keeping(&deltas).compressed(*codec));
            }
            Stretch::Transaction {
                counts,
                between,
                commits,
            } => {
                let first = batch(self.end, counts.0).transactional(producer_id);
                let plain = batch(first.next_offset(), *between);
                let second = batch(plain.next_offset(), counts.1).transactional(producer_id);
                let end = marker(second.next_offset(), producer_id, *commits);
                if !commits {
                    let transaction = (producer_id, first.base_offset, end.base_offset);
                    self.aborted.push(transaction);
                    self.hidden.extend(first.offsets().chain(second.offsets()));
                }
                for batch in [first, plain, second, end] {
                    self.push(batch);
                }
            }
            Stretch::BareMarker { commits } => {
                self.push(marker(self.end, producer_id, *commits));
            }
        }
    }

    fn push(&mut self, batch: TestBatch) {
        self.end = batch.next_offset();
        let bytes = batch.bytes();
        self.batches.push((batch, bytes));
    }

    fn visible(&self, read_committed: bool, from: i64) -> Vec<i64> {
        let data = self.batches.iter();
        data.filter(|(batch, _)| !batch.attributes.is_control())
            .flat_map(|(batch, _)| batch.offsets())
            .filter(|offset| *offset >= from)
            .filter(|offset| !read_committed || !self.hidden.contains(offset))
            .collect()
    }

    /// What a broker answers: whole batches from the one that holds `from` on, the last one perhaps
    /// cut, the first one whole however large it is.
    fn answer(&self, from: i64, max_bytes: usize, shuffle: u64) -> PartitionData {
        let mut records = Vec::new();
        let mut upper = from;
        for (batch, bytes) in &self.batches {
            if batch.next_offset() <= from {
                continue;
            }
            if records.is_empty() || records.len() + bytes.len() <= max_bytes {
                records.extend_from_slice(bytes);
                upper = batch.next_offset();
            } else {
                let left = max_bytes.saturating_sub(records.len());
                records.extend_from_slice(&bytes[..left.min(bytes.len())]);
                break;
            }
        }
        let mut aborted: Vec<_> = self
            .aborted
            .iter()
            .filter(|(_, first, last)| *first < upper && *last >= from)
            .map(|(producer_id, first, _)| {
                AbortedTransaction::default()
                    .with_producer_id((*producer_id).into())
                    .with_first_offset(*first)
            })
            .collect();
        fastrand::Rng::with_seed(shuffle).shuffle(&mut aborted);
        data(records, self.end).with_aborted_transactions(Some(aborted))
    }
}

#[derive(Debug, Clone)]
enum Act {
    /// The next call is made.
    Ask,
    /// The call under way, or the next one, is answered with at most this many bytes.
    Answer(usize),
    /// The call under way is lost.
    Lose,
    /// So many records are read, of the piece in hand or the next; then it is put back, or held
    /// while other things happen.
    Read {
        count: usize,
        hold: bool,
    },
    /// To this share of the log, out of 100.
    Seek(i64),
    Pause,
    Resume,
}

/// One partition being read, and the model that watches.
struct Run {
    script: Script,
    log: Log,
    read_committed: bool,
    expected: Vec<i64>,
    seen: usize,
    in_flight: Option<Call>,
    held: Option<Fetched>,
}

impl Run {
    fn new(log: Log, read_committed: bool) -> Self {
        let options = ConsumerOptions {
            read_committed,
            ..options()
        };
        let expected = log.visible(read_committed, 0);
        Self {
            script: Script::reading(options, 0),
            log,
            read_committed,
            expected,
            seen: 0,
            in_flight: None,
            held: None,
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Ask => {
                let call = self.in_flight.take();
                self.in_flight = call.or_else(|| self.script.call());
            }
            Act::Answer(max_bytes) => self.answer(*max_bytes),
            Act::Lose => {
                if let Some(call) = self.in_flight.take() {
                    self.script.lose(&call);
                    self.script.wait_ms(1_500);
                }
            }
            Act::Read { count, hold } => self.read(*count, *hold),
            Act::Seek(share) => {
                let target = self.log.end * share / 100;
                self.script.seek(0, target);
                self.expected = self.log.visible(self.read_committed, target);
                self.seen = 0;
            }
            Act::Pause => {
                self.script.command(Command::Pause(vec![tp("t", 0)]));
            }
            Act::Resume => {
                self.script.command(Command::Resume(vec![tp("t", 0)]));
            }
        }
    }

    fn answer(&mut self, max_bytes: usize) {
        self.act(&Act::Ask);
        let Some(call) = self.in_flight.take() else {
            return;
        };
        let Body::Fetch(request) = &call.body else {
            panic!("not a fetch: {:?}", call.body)
        };
        let from = request.topics[0].partitions[0].fetch_offset;
        let shuffle = self.script.now.monotonic_us;
        let answer = self.log.answer(from, max_bytes, shuffle);
        self.script.reply_fetch(&call, vec![answer]);
        self.script.wait_ms(1);
    }

    fn read(&mut self, count: usize, hold: bool) {
        let mut records = match self.held.take() {
            Some(records) => records,
            None => match self.script.event() {
                Some(Ok(Event::Records(records))) => records,
                Some(Err(error)) => panic!("{error}"),
                _ => return,
            },
        };
        for _ in 0..count {
            let Some(record) = records.next_ref() else {
                break;
            };
            let offset = record.unwrap().offset;
            assert_eq!(Some(&offset), self.expected.get(self.seen));
            self.seen += 1;
            assert!(self.script.position().unwrap() > offset);
        }
        self.held = hold.then_some(records);
    }

    /// Whatever happened, the rest comes, and then the end.
    fn finish(&mut self) {
        self.held = None;
        self.act(&Act::Resume);
        for _ in 0..10_000 {
            if self.script.status(0).caught_up.is_some() {
                break;
            }
            self.answer(1);
            self.read(usize::MAX, false);
        }
        assert_eq!(self.seen, self.expected.len(), "every record comes");
        assert_eq!(self.script.position(), Some(self.log.end));
        assert_eq!(self.script.status(0).lag(), Some(0));
        assert_eq!(self.script.inbox.buffer.live_bytes(), 0);
    }
}

fn stretch() -> impl Strategy<Value = Stretch> {
    let codec = prop_oneof![
        Just(Compression::None),
        Just(Compression::Gzip),
        Just(Compression::Snappy),
        Just(Compression::Lz4),
        Just(Compression::Zstd),
    ];
    prop_oneof![
        4 => (0..3_i64, 1..20_i32, any::<u8>(), codec).prop_map(|(gap, count, kept, codec)| {
            Stretch::Plain { gap, count, kept, codec }
        }),
        2 => ((1..5_i32, 1..5_i32), 1..5_i32, any::<bool>()).prop_map(|(counts, between, commits)| {
            Stretch::Transaction { counts, between, commits }
        }),
        1 => any::<bool>().prop_map(|commits| Stretch::BareMarker { commits }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1..2_000_usize).prop_map(Act::Answer),
        2 => Just(Act::Ask),
        6 => (0..30_usize, any::<bool>()).prop_map(|(count, hold)| Act::Read { count, hold }),
        1 => Just(Act::Lose),
        1 => (0..=100_i64).prop_map(Act::Seek),
        1 => Just(Act::Pause),
        1 => Just(Act::Resume),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_visible_record_comes_once_and_in_order_after_each_seek(
        stretches in vec(stretch(), 1..12),
        acts in vec(act(), 0..80),
        read_committed in any::<bool>(),
    ) {
        let mut run = Run::new(Log::new(&stretches), read_committed);
        for act in &acts {
            run.act(act);
        }
        run.finish();
    }

    /// Nothing that a broker sends as records can panic, spin, or move the position back.
    #[test]
    fn damaged_records_are_errors_or_records(
        stretches in vec(stretch(), 1..6),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        check_crcs in any::<bool>(),
    ) {
        let log = Log::new(&stretches);
        let mut records = Vec::new();
        for (_, bytes) in &log.batches {
            records.extend_from_slice(bytes);
        }
        for (place, value) in &flips {
            let at = place.index(records.len());
            records[at] = *value;
        }
        let options = ConsumerOptions { check_crcs, ..options() };
        let mut script = Script::reading(options, 0);
        for _ in 0..4 {
            if let Some(call) = script.call() {
                script.reply_fetch(&call, vec![data(records.clone(), log.end)]);
            }
            while let Some(event) = script.event() {
                let Ok(Event::Records(mut records)) = event else { continue };
                let mut last = -1;
                while let Some(Ok(record)) = records.next_ref() {
                    prop_assert!(record.offset > last);
                    last = record.offset;
                }
            }
            prop_assert!(script.position() >= Some(0));
            script.wait_ms(2_000);
        }
    }
}
