//! Scripts for tests: records written down briefly, results as lines.

use super::Engine;
use crate::{HashSeed, InputRecord, Output, Settings};
use bytes::Bytes;

pub(super) const SEED: HashSeed = HashSeed([7, 11]);

/// A record of the input.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) offset: i64,
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) tag: Option<Option<String>>,
}

impl Line {
    pub(super) fn record(&self) -> InputRecord<'_> {
        InputRecord {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            tag: self
                .tag
                .as_ref()
                .map(|tag| tag.as_ref().map(|tag| tag.as_bytes())),
        }
    }
}

/// A partition's records, offsets from 0 on.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(pub(super) Vec<Line>);

impl Log {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A sample of `host` at a time in seconds.
    pub(super) fn sample(self, host: &str, seconds: f64, value: &str) -> Self {
        let timestamp_ms = (seconds * 1000.0) as i64;
        self.raw(Some(host.as_bytes()), Some(value.as_bytes()), timestamp_ms)
    }

    /// A sample with a tag whose interval is 2 s.
    pub(super) fn tagged(self, host: &str, seconds: f64, value: &str, run: u64, seq: u64) -> Self {
        let mut log = self.sample(host, seconds, value);
        log.0.last_mut().unwrap().tag = Some(Some(format!("{run:016x}.{seq}.2000")));
        log
    }

    pub(super) fn raw(
        mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp_ms: i64,
    ) -> Self {
        self.0.push(Line {
            offset: i64::try_from(self.0.len()).unwrap(),
            timestamp_ms,
            key: key.map(Bytes::copy_from_slice),
            value: value.map(Bytes::copy_from_slice),
            tag: None,
        });
        self
    }

    /// Samples of each host every 2 s from `from` to before `to`, in seconds, all worth 1.
    pub(super) fn steady(mut self, hosts: &[&str], from: i64, to: i64) -> Self {
        for seconds in (from..to).step_by(2) {
            for host in hosts {
                self = self.sample(host, seconds as f64, "1");
            }
        }
        self
    }

    /// Reads it all with an engine of its own.
    pub(super) fn run(&self, settings: Settings) -> Run {
        let mut run = Run::new(settings);
        run.read(self);
        run
    }
}

/// An engine and what it has handed out.
pub(super) struct Run {
    pub(super) engine: Engine,
    pub(super) output: Output,
}

impl Run {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            engine: Engine::new(settings, SEED, 0).unwrap(),
            output: Output::default(),
        }
    }

    pub(super) fn read(&mut self, log: &Log) {
        let records: Vec<_> = log.0.iter().map(Line::record).collect();
        self.engine.handle_records(&records, &mut self.output);
    }

    /// Windows closed: host, window in seconds, mean, samples.
    pub(super) fn rows(&self) -> Vec<String> {
        lines(&self.output)
    }

    /// Windows closed, of one host.
    pub(super) fn rows_of(&self, host: &str) -> Vec<String> {
        let prefix = format!("{host} ");
        self.rows()
            .into_iter()
            .filter(|row| row.starts_with(&prefix))
            .collect()
    }

    /// Rejects: offset and reason.
    pub(super) fn rejects(&self) -> Vec<String> {
        let rejects = self.output.rejects.iter();
        rejects
            .map(|reject| format!("{} {}", reject.offset, reject.reason))
            .collect()
    }
}

pub(super) fn lines(output: &Output) -> Vec<String> {
    let results = output.rows.iter().map(|row| row.result().unwrap());
    results
        .map(|row| {
            let tidewatch_sample::Window::Span { start_ms, end_ms } = row.window else {
                panic!("a window has two ends")
            };
            let (start, end) = (start_ms as f64 / 1e3, end_ms as f64 / 1e3);
            format!("{} {start}/{end} {} {}", row.host, row.mean, row.samples)
        })
        .collect()
}
