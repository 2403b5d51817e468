//! Random inputs with restarts: what the engines of an interrupted run hand out is what one engine
//! hands out, record by record and byte by byte.

use super::scenario::{Line, SEED, lines};
use super::{Engine, Progress};
use crate::{HashSeed, Output, Settings};
use bytes::Bytes;
use proptest::prelude::*;

const HOSTS: usize = 7;

/// What may happen to a partition and to who reads it.
#[derive(Debug, Clone)]
enum Step {
    /// A host's next sample, `jitter_s` off its clock.
    Sample {
        host: usize,
        jitter_s: i64,
    },
    /// A round of samples of every host that is not silent, `rounds` times, 2 s apart.
    Rounds {
        rounds: u8,
    },
    /// A copy of one of the latest records.
    Again {
        back: usize,
    },
    /// An unreadable record.
    Bad {
        host: usize,
    },
    /// Hosts fall silent or come back, by the bits.
    Silence {
        hosts: u8,
    },
    /// A host's clock or spool jumps.
    Skew {
        host: usize,
        skew_s: i64,
    },
    /// Wall-clock time passes: hosts not heard of in so many records are closed.
    Idle {
        back: i64,
    },
    Commit,
    Crash,
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..HOSTS, -18..4_i64).prop_map(|(host, jitter_s)| Step::Sample { host, jitter_s }),
        6 => (1..8_u8).prop_map(|rounds| Step::Rounds { rounds }),
        2 => (0..12_usize).prop_map(|back| Step::Again { back }),
        1 => (0..HOSTS).prop_map(|host| Step::Bad { host }),
        2 => any::<u8>().prop_map(|hosts| Step::Silence { hosts }),
        2 => (0..HOSTS, prop_oneof![4 => -40..20_i64, 1 => -400..400_i64])
            .prop_map(|(host, skew_s)| Step::Skew { host, skew_s }),
        1 => (0..30_i64).prop_map(|back| Step::Idle { back }),
        4 => Just(Step::Commit),
        2 => Just(Step::Crash),
    ]
}

/// What one or another engine reads and is told.
#[derive(Debug)]
enum Event {
    Record(Line),
    Idle { back: i64 },
    Commit,
    Crash,
}

/// Makes events of steps: the agents of the hosts.
struct Agents {
    events: Vec<Event>,
    offset: i64,
    now_s: i64,
    silent: u8,
    skew_s: [i64; HOSTS],
    sequence: [u64; HOSTS],
    idles: usize,
    name_bytes: usize,
}

impl Agents {
    fn events(name_bytes: usize, steps: Vec<Step>) -> Vec<Event> {
        let mut agents = Self {
            events: Vec::new(),
            offset: 0,
            now_s: 1000,
            silent: 0,
            skew_s: [0; HOSTS],
            sequence: [0; HOSTS],
            idles: if name_bytes > 1 { 1 } else { 5 },
            name_bytes,
        };
        steps.into_iter().for_each(|step| agents.take(step));
        agents.events
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Sample { host, jitter_s } => self.sample(host, jitter_s),
            Step::Rounds { rounds } => {
                for _ in 0..rounds {
                    self.now_s += 2;
                    let live = |host: &usize| self.silent >> host & 1 == 0;
                    let live: Vec<usize> = (0..HOSTS).filter(live).collect();
                    live.into_iter().for_each(|host| self.sample(host, 0));
                }
            }
            Step::Again { back } => {
                let records = self.events.iter().filter_map(|event| match event {
                    Event::Record(line) => Some(line.clone()),
                    _ => None,
                });
                let records: Vec<Line> = records.collect();
                if let Some(line) = records.iter().rev().nth(back) {
                    self.push(line.clone());
                }
            }
            Step::Bad { host } => {
                let mut line = self.line(host, 0);
                line.value = Some(Bytes::from_static(b"abc"));
                self.push(line);
            }
            Step::Silence { hosts } => self.silent = hosts,
            Step::Skew { host, skew_s } => self.skew_s[host] = skew_s,
            // As many as always find room in a commit: where there is none, none is made, and one
            // run may have room where another has not.
            Step::Idle { back } if self.idles > 0 => {
                self.idles -= 1;
                self.events.push(Event::Idle { back });
            }
            Step::Idle { .. } => {}
            Step::Commit => self.events.push(Event::Commit),
            Step::Crash => self.events.push(Event::Crash),
        }
    }

    fn sample(&mut self, host: usize, jitter_s: i64) {
        let line = self.line(host, jitter_s);
        self.sequence[host] += 1;
        self.push(line);
    }

    fn line(&self, host: usize, jitter_s: i64) -> Line {
        let tag = format!("{host:016x}.{}.2000", self.sequence[host]);
        let value = format!("{}.{}", self.sequence[host] % 90, self.offset % 97);
        Line {
            offset: 0,
            timestamp_ms: (self.now_s + self.skew_s[host] + jitter_s) * 1000,
            key: Some(Bytes::from(format!(
                "{host:0width$}",
                width = self.name_bytes
            ))),
            value: Some(Bytes::from(value)),
            // One host has an agent that is not ours.
            tag: (host > 0).then_some(Some(tag)),
        }
    }

    fn push(&mut self, line: Line) {
        // Offsets have gaps, as transactions and compaction leave them.
        self.offset += 1 + i64::from(self.offset % 5 == 0);
        let offset = self.offset;
        self.events.push(Event::Record(Line { offset, ..line }));
    }
}

/// Reads the events with one engine after another; gives what each event led to.
fn read(settings: &Settings, events: &[Event], crashes: bool) -> Vec<Output> {
    let mut engine = Engine::new(settings.clone(), SEED, 0).unwrap();
    let mut outputs: Vec<Output> = Vec::new();
    let start = engine.progress().unwrap();
    let mut committed: (Progress, usize) = (start, 0);
    let mut at = 0;
    while let Some(event) = events.get(at) {
        let mut output = Output::default();
        at += 1;
        match event {
            Event::Record(line) => engine.handle_records(&[line.record()], &mut output),
            Event::Idle { back } => engine.close_unheard(engine.position() - back, &mut output),
            Event::Commit => {
                if let Some(progress) = engine.progress() {
                    assert!(progress.offset >= committed.0.offset, "it never goes back");
                    committed = (progress, at);
                }
            }
            Event::Crash if crashes => {
                let (progress, next) = committed.clone();
                let seed = HashSeed([at as u64, 3]);
                engine =
                    Engine::resume(settings.clone(), seed, progress.offset, &progress.metadata)
                        .unwrap();
                repeat(&mut engine, &progress, &events[..next]);
                let again = outputs.split_off(next.min(outputs.len()));
                for (event, before) in events[next..at].iter().zip(again) {
                    let mut output = Output::default();
                    match event {
                        Event::Record(line) => engine.handle_records(&[line.record()], &mut output),
                        Event::Idle { back } => {
                            engine.close_unheard(engine.position() - back, &mut output)
                        }
                        Event::Commit | Event::Crash => {}
                    }
                    assert_eq!(lines(&output), lines(&before), "handed out again");
                    outputs.push(output);
                }
                if outputs.len() < at {
                    outputs.push(Output::default());
                }
                continue;
            }
            Event::Crash => {}
        }
        outputs.push(output);
    }
    let mut output = Output::default();
    engine.finish(true, &mut output);
    outputs.push(output);
    outputs
}

/// Reads again what lies between the committed offset and the commit.
fn repeat(engine: &mut Engine, progress: &Progress, events: &[Event]) {
    let mut output = Output::default();
    for event in events {
        if let Event::Record(line) = event
            && line.offset >= progress.offset
        {
            engine.handle_records(&[line.record()], &mut output);
        }
    }
    assert_eq!(
        output,
        Output::default(),
        "what was handed out before the commit"
    );
}

fn settings() -> impl Strategy<Value = Settings> {
    let of = |(silence_ms, max_future_ms, forget_after_ms, delay_ms)| Settings {
        size_ms: 10_000,
        delay_ms,
        silence_ms,
        max_future_ms,
        forget_after_ms,
        ..Settings::default()
    };
    (
        prop::sample::select(vec![1_000, 5_000, 20_000]),
        prop::sample::select(vec![10_000, 60_000, 600_000]),
        prop::sample::select(vec![100_000, 3_600_000]),
        prop::sample::select(vec![0, 4_000, 25_000]),
    )
        .prop_map(of)
}

/// Of the longest names only a few fit a commit's metadata, so that silent hosts keep it back.
fn name_bytes() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![1, 200, 255])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn restarts_change_no_byte(settings in settings(), name_bytes in name_bytes(), steps in prop::collection::vec(a_step(), 1..120)) {
        let events = Agents::events(name_bytes, steps);
        let whole = read(&settings, &events, false);
        let interrupted = read(&settings, &events, true);
        prop_assert_eq!(whole.len(), interrupted.len());
        for (at, (whole, interrupted)) in whole.iter().zip(&interrupted).enumerate() {
            prop_assert_eq!(lines(whole), lines(interrupted), "at {}: {:?}", at, events.get(at));
            prop_assert_eq!(whole, interrupted);
        }
    }

    #[test]
    fn fetch_sizes_change_no_byte(settings in settings(), steps in prop::collection::vec(a_step(), 1..60), size in 1..40_usize) {
        let events = Agents::events(1, steps);
        let read_lines = events.iter().filter_map(|event| match event {
            Event::Record(line) => Some(line.record()),
            _ => None,
        });
        let records: Vec<_> = read_lines.collect();
        let (mut one, mut other) = (Output::default(), Output::default());
        Engine::new(settings.clone(), SEED, 0).unwrap().handle_records(&records, &mut one);
        let mut engine = Engine::new(settings, SEED, 0).unwrap();
        for records in records.chunks(size) {
            engine.handle_records(records, &mut other);
            engine.progress();
        }
        prop_assert_eq!(one, other);
    }

    #[test]
    fn the_order_within_a_window_changes_no_byte(
        samples in prop::collection::vec((0..10_000_i64, 0..=100_000_000_u32), 1..40).prop_shuffle(),
    ) {
        let read = |samples: &[(i64, u32)]| {
            let mut output = Output::default();
            let mut engine = Engine::new(Settings::default(), SEED, 0).unwrap();
            let texts: Vec<String> = samples.iter().map(|(_, value)| format!("{}e-6", value)).collect();
            let record = |offset: i64, timestamp_ms, text: &str| Line {
                offset,
                timestamp_ms,
                key: Some(Bytes::from_static(b"a")),
                value: Some(Bytes::copy_from_slice(text.as_bytes())),
                tag: None,
            };
            for (offset, ((time_ms, _), text)) in (0..).zip(samples.iter().zip(&texts)) {
                engine.handle_records(&[record(offset, *time_ms, text).record()], &mut output);
            }
            engine.handle_records(&[record(1000, 14_000, "1").record()], &mut output);
            output
        };
        let mut sorted = samples.clone();
        sorted.sort_unstable();
        prop_assert_eq!(read(&samples), read(&sorted));
    }
}
