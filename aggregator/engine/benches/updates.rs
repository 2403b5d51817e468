//! What counting a sample costs beside its floor: reading the number and finding the host.
//!
//! Every bench takes in the same records, one round of all hosts every 2 s: divide by the items.

use divan::Bencher;
use divan::counter::ItemsCount;
use std::collections::HashMap;
use tidewatch_engine::{Engine, HashSeed, InputRecord, Output, Settings, Value};

const HOSTS: [usize; 2] = [1_000, 100_000];
const ROUNDS: usize = 10;
const SEED: HashSeed = HashSeed([1, 2]);
const INTERVAL_MS: i64 = 2_000;

/// Records one after the other in one buffer, as a fetch response holds them, in the order in which
/// agents with ticks of their own phase would send them.
struct Input {
    bytes: Vec<u8>,
    /// Where each record's key, value and tag end.
    ends: Vec<[usize; 3]>,
    hosts: usize,
}

impl Input {
    fn new(hosts: usize) -> Self {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for at in 0..hosts * ROUNDS {
            // A stride that is coprime to both counts: neighbours in time are not in memory.
            let host = at % hosts * 7_919 % hosts;
            let parts = [
                format!("web-{host:06}.example"),
                format!("{}.{:015}", at % 100, at * 7_919),
                format!("{:016x}.{}.2000", host * 0x9e37_79b9, at / hosts),
            ];
            ends.push(parts.map(|part| {
                bytes.extend_from_slice(part.as_bytes());
                bytes.len()
            }));
        }
        Self { bytes, ends, hosts }
    }

    fn records(&self, tagged: bool) -> Vec<InputRecord<'_>> {
        let mut from = 0;
        let record = |(at, &[key, value, tag]): (usize, &[usize; 3])| {
            let start = std::mem::replace(&mut from, tag);
            let tag = self.bytes.get(value..tag)?;
            let round = i64::try_from(at / self.hosts).ok()?;
            Some(InputRecord {
                offset: i64::try_from(self.hosts + at).ok()?,
                timestamp_ms: 1_700_000_000_000 + round * INTERVAL_MS,
                key: Some(self.bytes.get(start..key)?),
                value: Some(self.bytes.get(key..value)?),
                tag: tagged.then_some(Some(tag)),
            })
        };
        self.ends.iter().enumerate().filter_map(record).collect()
    }
}

/// The floor: read the number, find the host.
#[divan::bench(args = HOSTS, sample_count = 12, sample_size = 1)]
fn floor_parse_and_find(bencher: Bencher<'_, '_>, hosts: usize) {
    let input = Input::new(hosts);
    let records = input.records(false);
    let mut numbers = HashMap::with_hasher(SEED);
    for (number, record) in records.iter().take(hosts).enumerate() {
        let host = record.key.and_then(|key| std::str::from_utf8(key).ok());
        numbers.insert(Box::<str>::from(host.unwrap_or_default()), number);
    }
    bencher.counter(ItemsCount::new(records.len())).bench(|| {
        let found = records.iter().filter_map(|record| {
            let value = Value::parse(record.value?).ok()?;
            let number = numbers.get(std::str::from_utf8(record.key?).ok()?)?;
            Some(value.units() ^ i64::try_from(*number).ok()?)
        });
        found.fold(0, |sum, found| sum ^ found)
    });
}

fn take_in(bencher: Bencher<'_, '_>, hosts: usize, tagged: bool) {
    let input = Input::new(hosts);
    let records = input.records(tagged);
    let counted = bencher.counter(ItemsCount::new(records.len()));
    counted
        .with_inputs(|| {
            let mut engine = Engine::new(Settings::default(), SEED, 0).ok()?;
            let first_offset = records.first()?.offset;
            // Every host is known before the clock starts: new hosts are rare.
            let known: Vec<_> = records
                .iter()
                .take(hosts)
                .map(|record| InputRecord {
                    offset: record.offset - first_offset,
                    timestamp_ms: record.timestamp_ms - INTERVAL_MS,
                    tag: None,
                    ..*record
                })
                .collect();
            engine.handle_records(&known, &mut Output::default());
            Some((engine, Output::default()))
        })
        .bench_refs(|started| {
            if let Some((engine, output)) = started {
                for batch in records.chunks(1_000) {
                    engine.handle_records(batch, output);
                    output.clear();
                }
            }
        });
}

/// Samples of another producer.
#[divan::bench(args = HOSTS, sample_count = 12, sample_size = 1)]
fn engine_untagged(bencher: Bencher<'_, '_>, hosts: usize) {
    take_in(bencher, hosts, false);
}

/// Our own samples: runs, sequences and completeness besides.
#[divan::bench(args = HOSTS, sample_count = 12, sample_size = 1)]
fn engine_tagged(bencher: Bencher<'_, '_>, hosts: usize) {
    take_in(bencher, hosts, true);
}

fn main() {
    divan::main();
}
