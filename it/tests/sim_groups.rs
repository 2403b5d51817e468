//! A group whose members come, go, crash and hang while its coordinator moves and requests fail: every
//! record is delivered, each to a member that has its partition, and everything ends committed.

use std::collections::BTreeMap;
use tidewatch_it::simulation::groups::{Plan, run};

const RUNS: u64 = 100;
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
fn every_record_is_delivered_to_a_member_that_has_it() {
    let seeds = seeds();
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut simulated_us, mut generations, mut repeated) = (0, 0, 0);
    for seed in seeds.clone() {
        let report = run(Plan::of_seed(seed)).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(
            report.faults.len() >= 8,
            "seed {seed}: too little went wrong"
        );
        for (kind, count) in report.faults {
            *totals.entry(kind).or_default() += count;
        }
        simulated_us += report.simulated_us;
        generations += report.generations;
        repeated += report.repeated;
    }
    println!(
        "{} runs, {} simulated seconds, {generations} generations, {repeated} records again, {totals:?}",
        seeds.end - seeds.start,
        simulated_us / 1_000_000
    );
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
    println!("seed {seed}: {report:?}");
}
