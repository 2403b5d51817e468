//! No bytes from a peer make us panic, abort, hang, or allocate more than a small multiple of the
//! frame: every message that we decode, damaged in every way, under an allocator that counts.
#![expect(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without"
)]

use bytes::Bytes;
use fastrand::Rng;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use tidewatch_it::wire::valid::{self, Body, Style, put_varint};
use tidewatch_it::wire::{decode_request_frame, decode_response_frame, spoken};
use tidewatch_protocol::compression::Compression;
use tidewatch_protocol::guard::{Direction, shape};
use tidewatch_protocol::messages::ApiKey;
use tidewatch_protocol::records::{BatchBuilder, Batches, Header, ProducerStamp, RecordsError};

/// What decoding may add to the live heap at any moment.
const TIMES_THE_FRAME: usize = 64;
const AND_BYTES: usize = 64 << 10;

/// All cases of a run; `TIDEWATCH_CASES` overrides.
const CASES: usize = 1_000_000;

struct Counting;

thread_local! {
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let live = LIVE_BYTES.get() + change;
    LIVE_BYTES.set(live);
    PEAK_BYTES.set(PEAK_BYTES.get().max(live));
}

// SAFETY: every call is passed on to `System` as it came; the counters are thread-local cells that
// need neither allocation nor destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `act` and says by how much the live heap grew at its highest.
fn heap_growth<T>(act: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE_BYTES.get();
    PEAK_BYTES.set(before);
    let result = act();
    (result, (PEAK_BYTES.get() - before).unsigned_abs())
}

/// The ways of damaging a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    /// One to four bits flipped.
    Flip,
    /// Cut short.
    Cut,
    /// A count or length raised, or made negative.
    Raise,
    /// A count raised, and bytes put behind it that could be that many elements.
    RaiseAndFill,
    /// Bytes from elsewhere in the frame written over others.
    Splice,
    /// Nothing: a valid message, mostly with a great many tiny elements.
    Dense,
}

const DAMAGES: [Damage; 5] = [
    Damage::Flip,
    Damage::Cut,
    Damage::Raise,
    Damage::RaiseAndFill,
    Damage::Splice,
];
/// Every so many cases of a version are whole but dense; they take a thousand times longer.
const DENSE_EVERY: usize = 500;
/// A valid message is damaged this often before another is made.
const CASES_PER_MESSAGE: usize = 50;

/// A valid frame without its length.
struct Whole {
    header_bytes: usize,
    body: Body,
}

impl Whole {
    fn random(kind: (ApiKey, Direction, i16), style: Style, rng: &mut Rng) -> (Vec<u8>, Self) {
        let (api, direction, version) = kind;
        let mut bytes = Vec::new();
        let flexible = match direction {
            Direction::Request => {
                bytes.extend((api as i16).to_be_bytes());
                bytes.extend(version.to_be_bytes());
                bytes.extend(rng.i32(..).to_be_bytes());
                bytes.extend(*b"\0\x05agent");
                api.request_header_version(version) >= 2
            }
            Direction::Response => {
                bytes.extend(rng.i32(..).to_be_bytes());
                api.response_header_version(version) >= 1
            }
        };
        if flexible {
            let tagged = [&[0][..], &[1, 77, 0], &[2, 0, 1, 9, 1, 2, 8, 8]];
            bytes.extend(tagged[rng.usize(..tagged.len())]);
        }
        let message = shape::find(api, direction).unwrap();
        let body = valid::body(message, version, style, rng);
        let header_bytes = bytes.len();
        bytes.extend(&body.bytes);
        (bytes, Self { header_bytes, body })
    }

    fn damage(&self, bytes: &mut Vec<u8>, damage: Damage, rng: &mut Rng) {
        match damage {
            Damage::Flip => {
                for _ in 0..rng.usize(1..=4) {
                    let at = rng.usize(..bytes.len());
                    bytes[at] ^= 1 << rng.u8(..8);
                }
            }
            Damage::Cut => bytes.truncate(rng.usize(..bytes.len())),
            Damage::Raise => {
                self.raise(bytes, rng);
            }
            Damage::RaiseAndFill => {
                let behind = self.raise(bytes, rng);
                let filler = [0, 1, 2, 0xff][rng.usize(..4)];
                let filled = vec![filler; rng.usize(1..2_000)];
                bytes.splice(behind..behind, filled);
            }
            Damage::Splice => {
                let size = rng.usize(1..=bytes.len().min(16));
                let from = rng.usize(..=bytes.len() - size);
                let to = rng.usize(..=bytes.len() - size);
                bytes.copy_within(from..from + size, to);
            }
            Damage::Dense => {}
        }
    }

    /// Writes another value over a count or length; returns where it ends.
    fn raise(&self, bytes: &mut Vec<u8>, rng: &mut Rng) -> usize {
        let Some(length) = rng.choice(&self.body.lengths) else {
            return bytes.len();
        };
        let left = bytes.len() as u32;
        let raised = [
            left,
            left + 1,
            rng.u32(..4_000),
            1 << 16,
            1 << 20,
            1 << 24,
            i32::MAX as u32,
            u32::MAX,
            u32::MAX - 1,
        ];
        let value = raised[rng.usize(..raised.len())];
        let at = self.header_bytes + length.at;
        let mut written = Vec::new();
        if length.compact {
            put_varint(&mut written, value);
        } else {
            written.extend(&value.to_be_bytes()[4 - length.size..]);
        }
        let end = at + written.len();
        bytes.splice(at..at + length.size, written);
        end
    }
}

/// What became of the cases.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    valid: usize,
    refused: usize,
}

#[derive(Debug, Default)]
struct Report {
    /// Over all messages and versions.
    by_damage: BTreeMap<Damage, Tally>,
    worst_times: usize,
    worst: String,
}

fn attack(kind: (ApiKey, Direction, i16), cases: usize, report: &mut Report) {
    let (api, direction, version) = kind;
    let seed = u64::from((api as i16).unsigned_abs()) << 32
        | u64::from(direction as u8) << 16
        | u64::from(version.unsigned_abs());
    let mut rng = Rng::with_seed(seed);
    let mut whole = Whole::random(kind, Style::Ordinary, &mut rng);
    for case in 0..cases {
        let mut damage = DAMAGES[case % DAMAGES.len()];
        if case % CASES_PER_MESSAGE == 0 {
            whole = Whole::random(kind, Style::Ordinary, &mut rng);
        }
        let mut bytes = whole.0.clone();
        if case % DENSE_EVERY == 0 {
            damage = Damage::Dense;
            let style = if rng.bool() {
                Style::Dense
            } else {
                Style::DenseTagged
            };
            bytes = Whole::random(kind, style, &mut rng).0;
        }
        whole.1.damage(&mut bytes, damage, &mut rng);
        let frame = Bytes::from(bytes);
        let (decoded, growth) = heap_growth(|| match direction {
            Direction::Request => decode_request_frame(frame.clone()),
            Direction::Response => decode_response_frame(api, version, frame.clone()),
        });
        let allowed = TIMES_THE_FRAME * frame.len() + AND_BYTES;
        let what = format_args!("{api:?} {direction:?} {version}, case {case}, {damage:?}");
        assert!(
            growth <= allowed,
            "{what}: {growth} bytes for a frame of {}",
            frame.len()
        );
        if growth > AND_BYTES && growth / frame.len() > report.worst_times {
            report.worst_times = growth / frame.len();
            report.worst = what.to_string();
        }
        let tally = report.by_damage.entry(damage).or_default();
        match decoded {
            Ok(()) => tally.valid += 1,
            Err(_) => tally.refused += 1,
        }
    }
}

fn cases() -> usize {
    std::env::var("TIDEWATCH_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(CASES)
}

impl Report {
    fn add(&mut self, other: Report) {
        for (damage, tally) in other.by_damage {
            let sum = self.by_damage.entry(damage).or_default();
            sum.valid += tally.valid;
            sum.refused += tally.refused;
        }
        if other.worst_times > self.worst_times {
            (self.worst_times, self.worst) = (other.worst_times, other.worst);
        }
    }
}

/// Every kind gets the same cases whatever the number of threads.
fn attack_all(kinds: &[(ApiKey, Direction, i16)], each: usize) -> Report {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let attack_some = |first: usize| {
        let mut report = Report::default();
        for &kind in kinds.iter().skip(first).step_by(threads) {
            attack(kind, each, &mut report);
        }
        report
    };
    let mut total = Report::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|n| scope.spawn(move || attack_some(n)))
            .collect();
        for thread in running {
            match thread.join() {
                Ok(report) => total.add(report),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    total
}

/// A million brokers are claimed and none follows. Small enough to be allocated where nothing
/// guards the decoder, so that this fails before a larger claim aborts the process.
fn assert_that_a_claimed_count_takes_no_memory() {
    let frame = Bytes::from_static(&[0, 0, 0, 1, 0, 0x10, 0, 0]);
    let (decoded, growth) = heap_growth(|| decode_response_frame(ApiKey::Metadata, 0, frame));
    assert!(
        decoded.is_err() && growth <= AND_BYTES,
        "{growth} bytes for 8, {decoded:?}"
    );
}

#[test]
fn no_damaged_message_panics_aborts_or_allocates_beyond_its_bound() {
    assert_that_a_claimed_count_takes_no_memory();
    let kinds = spoken();
    let each = cases().div_ceil(kinds.len());
    let total = attack_all(&kinds, each);

    println!("{} cases: {each} of each of", each * kinds.len());
    let mut versions = BTreeMap::<_, Vec<i16>>::new();
    for &(api, direction, version) in &kinds {
        versions
            .entry(format!("{api:?} {direction:?}"))
            .or_default()
            .push(version);
    }
    for (message, versions) in &versions {
        println!("  {message} in versions {versions:?}");
    }
    println!(
        "the most memory: {} times the frame, {}",
        total.worst_times, total.worst
    );
    for (damage, tally) in &total.by_damage {
        println!(
            "{damage:?}: {} valid, {} refused",
            tally.valid, tally.refused
        );
    }

    let all: usize = total
        .by_damage
        .values()
        .map(|tally| tally.valid + tally.refused)
        .sum();
    assert!(each > 0 && all == each * kinds.len(), "{all} cases");
    assert_eq!(total.by_damage.len(), DAMAGES.len() + 1);
    for (damage, tally) in &total.by_damage {
        assert_eq!(
            tally.valid > 0,
            *damage != Damage::Cut,
            "{damage:?} {tally:?}"
        );
        assert!(tally.refused > 0, "{damage:?} {tally:?}");
    }
}

/// What one record set may decompress to here.
const RECORDS_CAP_BYTES: usize = 64 << 10;
/// What decompression may add to the live heap beyond twice the cap: a codec's own tables and
/// window, however small the batch.
const CODEC_BYTES: usize = 512 << 10;
/// Record sets take longer than messages, so there are fewer.
const MESSAGES_PER_RECORD_SET: usize = 10;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Two batches, with keys, headers and nulls, as they would stand in a Fetch response. The first of
/// one set in eight has a value that alone is over the cap.
fn record_set(codec: Compression, rng: &mut Rng) -> Vec<u8> {
    let mut set = Vec::new();
    let mut large = rng.u8(..8) == 0;
    for _ in 0..2 {
        let mut builder = BatchBuilder::with_capacity(0);
        for _ in 0..rng.usize(1..20) {
            let size = if large {
                2 * RECORDS_CAP_BYTES
            } else {
                rng.usize(..200)
            };
            large = false;
            let value = vec![rng.u8(..4); size];
            let headers = [Header {
                key: "tw",
                value: rng.bool().then_some(&value),
            }];
            let key = rng.bool().then_some(&b"host-a"[..]);
            builder.append(
                rng.i64(..1 << 40),
                key,
                Some(&value),
                &headers[rng.usize(..2)..],
            );
        }
        let sealed = builder.seal().compress(codec).unwrap();
        set.extend(sealed.stamp(ProducerStamp::NONE).concat());
    }
    set
}

/// Reads everything that a consumer would read, whatever the CRC says.
fn read_record_set(set: Bytes) -> Result<usize, RecordsError> {
    let mut read = 0;
    for batch in Batches::new(set) {
        let batch = batch?;
        let _ = batch.verify_crc();
        batch.control()?;
        for record in batch.records(RECORDS_CAP_BYTES)? {
            let record = record?;
            read += record.value.map_or(0, |value| value.len());
            read += record.headers.iter().filter(|(key, _)| key == "tw").count();
        }
    }
    Ok(read)
}

#[test]
fn no_damaged_record_set_panics_aborts_or_allocates_beyond_its_bound() {
    let each = (cases() / MESSAGES_PER_RECORD_SET).div_ceil(CODECS.len());
    for codec in CODECS {
        let mut rng = Rng::with_seed(codec as u64);
        let mut tally = Tally::default();
        let mut worst = 0;
        let mut whole = Vec::new();
        for case in 0..each {
            if case % CASES_PER_MESSAGE == 0 {
                whole = record_set(codec, &mut rng);
            }
            let mut bytes = whole.clone();
            match case % 3 {
                0 => bytes.truncate(rng.usize(..bytes.len())),
                1 => {
                    let at = rng.usize(..bytes.len());
                    bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.usize(..5)];
                }
                _ => {
                    for _ in 0..rng.usize(1..=4) {
                        let at = rng.usize(..bytes.len());
                        bytes[at] ^= 1 << rng.u8(..8);
                    }
                }
            }
            let frame = Bytes::from(bytes);
            let (read, growth) = heap_growth(|| read_record_set(frame.clone()));
            let allowed = TIMES_THE_FRAME * frame.len() + 2 * RECORDS_CAP_BYTES + CODEC_BYTES;
            let size = frame.len();
            assert!(
                growth <= allowed,
                "{codec:?}, case {case}: {growth} bytes for {size}"
            );
            worst = worst.max(growth);
            match read {
                Ok(_) => tally.valid += 1,
                Err(_) => tally.refused += 1,
            }
        }
        println!("{each} record sets with {codec:?}: {tally:?}, at most {worst} bytes of heap");
        assert!(tally.valid > 0 && tally.refused > 0, "{codec:?} {tally:?}");
    }
}
