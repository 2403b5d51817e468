//! Each acknowledged record exactly once and in order per partition, whatever goes wrong: thousands of
//! seeded runs of the pure client against the pure broker.

use tidewatch_it::simulation::{Counts, Kind, Plan, run};

const RUNS: u64 = 2_000;
const SOAK_RUNS: u64 = 20_000;
const FIRST_SEED: u64 = 1;

fn seeds() -> std::ops::Range<u64> {
    let soak = std::env::var_os("TIDEWATCH_SOAK").is_some();
    let runs = std::env::var("TIDEWATCH_RUNS")
        .ok()
        .map(|runs| runs.parse().expect("TIDEWATCH_RUNS is a number"));
    FIRST_SEED..FIRST_SEED + runs.unwrap_or(if soak { SOAK_RUNS } else { RUNS })
}

#[test]
fn every_acknowledged_record_is_there_once_and_in_order() {
    let seeds = seeds();
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let mut totals = Counts::default();
    let mut simulated_us = 0;
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                let mine = seeds
                    .clone()
                    .skip(worker as usize)
                    .step_by(workers as usize);
                scope.spawn(move || {
                    let mut counts = Counts::default();
                    let mut simulated_us = 0;
                    for seed in mine {
                        let report =
                            run(Plan::of_seed(seed)).unwrap_or_else(|failure| panic!("{failure}"));
                        let kinds = Kind::ALL
                            .iter()
                            .filter(|k| report.faults.of(**k) > 0)
                            .count();
                        assert!(
                            report.faults.total() >= 20 && kinds >= 6,
                            "seed {seed}: too little went wrong: {}",
                            report.faults
                        );
                        counts.merge(&report.faults);
                        simulated_us += report.simulated_us;
                    }
                    (counts, simulated_us)
                })
            })
            .collect();
        for handle in handles {
            let (counts, us) = handle
                .join()
                .unwrap_or_else(|why| std::panic::resume_unwind(why));
            totals.merge(&counts);
            simulated_us += us;
        }
    });
    println!(
        "{} runs, {} simulated seconds, faults: {totals}",
        seeds.end - seeds.start,
        simulated_us / 1_000_000
    );
    for kind in Kind::ALL {
        assert!(totals.of(kind) > 0, "no run had a {kind:?}");
    }
}

#[test]
fn a_seed_replays_to_the_same_run() {
    let plan = Plan::of_seed(7);
    let (first, second) = (run(plan), run(plan));
    assert_eq!(
        first.expect("seed 7 is good"),
        second.expect("seed 7 is good")
    );
}

/// `TIDEWATCH_SEED=N` plays one run with its log; without it, one good run.
#[test]
fn replay() {
    let seed = std::env::var("TIDEWATCH_SEED").map_or(FIRST_SEED, |seed| {
        seed.parse().expect("TIDEWATCH_SEED is a number")
    });
    let plan = Plan {
        log: true,
        ..Plan::of_seed(seed)
    };
    let report = run(plan).unwrap_or_else(|failure| panic!("{failure}"));
    println!(
        "seed {seed}: {} acknowledged, faults: {}",
        report.acknowledged, report.faults
    );
}
