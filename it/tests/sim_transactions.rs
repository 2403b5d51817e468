//! A reader of committed data sees exactly what was committed, whatever goes wrong: seeded runs of
//! transactional producers that are killed between any two steps, on both transaction versions.

use tidewatch_it::simulation::transactions::run_transactions;
use tidewatch_it::simulation::{Counts, Kind, Plan};

const RUNS: u64 = 400;
const SOAK_RUNS: u64 = 10_000;
const FIRST_SEED: u64 = 1;

fn plan(seed: u64) -> Plan {
    Plan {
        faults: 20,
        ..Plan::of_seed(seed)
    }
}

fn runs() -> u64 {
    let soak = std::env::var_os("TIDEWATCH_SOAK").is_some();
    let runs = std::env::var("TIDEWATCH_RUNS").ok();
    let runs = runs.map(|runs| runs.parse().expect("TIDEWATCH_RUNS is a number"));
    runs.unwrap_or(if soak { SOAK_RUNS } else { RUNS })
}

#[test]
fn committed_records_are_read_once_and_aborted_ones_never() {
    let mut totals = Counts::default();
    let (mut committed, mut simulated_us) = (0, 0);
    for seed in FIRST_SEED..FIRST_SEED + runs() {
        let report = run_transactions(plan(seed)).unwrap_or_else(|failure| panic!("{failure}"));
        totals.merge(&report.faults);
        committed += report.acknowledged;
        simulated_us += report.simulated_us;
    }
    let seconds = simulated_us / 1_000_000;
    println!("{committed} records committed in {seconds} simulated seconds, faults: {totals}");
    for kind in Kind::ALL {
        assert!(totals.of(kind) > 0, "no run had a {kind:?}");
    }
}

#[test]
fn a_seed_replays_to_the_same_run() {
    let first = run_transactions(plan(7)).expect("seed 7 is good");
    assert_eq!(first, run_transactions(plan(7)).expect("seed 7 is good"));
}

/// `TIDEWATCH_SEED=N` plays one run with its log; without it, one good run.
#[test]
fn replay() {
    let seed = std::env::var("TIDEWATCH_SEED").map_or(FIRST_SEED, |seed| {
        seed.parse().expect("TIDEWATCH_SEED is a number")
    });
    let plan = Plan {
        log: true,
        ..plan(seed)
    };
    let report = run_transactions(plan).unwrap_or_else(|failure| panic!("{failure}"));
    println!(
        "seed {seed}: {} committed, faults: {}",
        report.acknowledged, report.faults
    );
}
