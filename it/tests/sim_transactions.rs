//! A reader of committed data sees exactly what was committed, whatever goes wrong: seeded runs of
//! transactional producers that are killed between any two steps, on both transaction versions.

use tidewatch_it::simulation::plan::Plan;
use tidewatch_it::simulation::{Suite, transactions};

const SUITE: Suite = Suite {
    plan: Plan::transactions,
    run: transactions::run_transactions,
    runs: 400,
    soak_runs: 10_000,
    least: (20, 8),
};

#[test]
fn committed_records_are_read_once_and_aborted_ones_never() {
    SUITE.play();
}

#[test]
fn a_seed_replays_to_the_same_run() {
    SUITE.play_twice(7);
}

/// `TIDEWATCH_SEED=N` plays one run with its log; without it, one good run.
#[test]
fn replay() {
    SUITE.replay();
}
