//! How a suite plays its runs: many seeds over all cores, or one again.

use crate::simulation::plan::{Failure, Plan, Report};
use std::ops::Range;

const FIRST_SEED: u64 = 1;

/// A kind of run, and how many are played.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    /// The plan of a seed.
    pub plan: fn(u64) -> Plan,
    /// Plays it.
    pub run: fn(Plan) -> Result<Report, Failure>,
    /// In `make test`.
    pub runs: u64,
    /// In `make soak`.
    pub soak_runs: u64,
    /// Fewer faults in a run, or of fewer kinds, prove too little.
    pub least: (u64, usize),
}

impl Suite {
    /// Plays every seed and tells what was in all of them; `TIDEWATCH_RUNS` says how many.
    ///
    /// # Panics
    /// A run failed, or too little went wrong.
    pub fn play(&self) {
        let seeds = self.seeds();
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut total = Report::default();
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers)
                .map(|worker| {
                    let mine = seeds.clone().skip(worker).step_by(workers);
                    scope.spawn(move || self.play_all(mine))
                })
                .collect();
            for handle in handles {
                let part = handle.join();
                total.merge(&part.unwrap_or_else(|why| std::panic::resume_unwind(why)));
            }
        });
        println!("{} runs, {total}", seeds.end - seeds.start);
        for kind in (self.plan)(FIRST_SEED).kinds() {
            assert!(total.faults.of(kind) > 0, "no run had a {kind:?}");
        }
    }

    /// The same seed is the same run.
    ///
    /// # Panics
    /// It is not, or it fails.
    pub fn play_twice(&self, seed: u64) {
        let play = || (self.run)((self.plan)(seed)).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(play(), play());
    }

    /// Plays the seed that `TIDEWATCH_SEED` names, with its log; without it, a good one.
    ///
    /// # Panics
    /// The run fails.
    pub fn replay(&self) {
        let seed = number("TIDEWATCH_SEED").unwrap_or(FIRST_SEED);
        let plan = Plan {
            log: true,
            ..(self.plan)(seed)
        };
        let report = (self.run)(plan).unwrap_or_else(|failure| panic!("{failure}"));
        println!("seed {seed}: {report}");
    }

    fn play_all(&self, seeds: impl Iterator<Item = u64>) -> Report {
        let mut total = Report::default();
        for seed in seeds {
            let plan = (self.plan)(seed);
            let report = (self.run)(plan).unwrap_or_else(|failure| {
                // Without a log it is faster; and the same run again has one.
                let logged = (self.run)(Plan { log: true, ..plan });
                panic!("{}", logged.err().unwrap_or(failure).shortened())
            });
            let (faults, kinds) = self.least;
            assert!(
                report.faults.total() >= faults && report.faults.kinds() >= kinds,
                "seed {seed}: too little went wrong: {}",
                report.faults
            );
            total.merge(&report);
        }
        total
    }

    fn seeds(&self) -> Range<u64> {
        let soak = std::env::var_os("TIDEWATCH_SOAK").is_some();
        let runs = if soak { self.soak_runs } else { self.runs };
        let first = number("TIDEWATCH_SEED").unwrap_or(FIRST_SEED);
        first..first + number("TIDEWATCH_RUNS").unwrap_or(runs)
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is a number")))
}
