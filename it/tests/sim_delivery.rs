//! Each acknowledged record exactly once and in order per partition, whatever goes wrong: thousands of
//! seeded runs of the pure client against the pure broker.

use tidewatch_it::simulation::plan::Plan;
use tidewatch_it::simulation::{Suite, delivery};

const SUITE: Suite = Suite {
    plan: Plan::delivery,
    run: delivery::run_delivery,
    runs: 2_000,
    soak_runs: 20_000,
    least: (20, 6),
};

#[test]
fn every_acknowledged_record_is_there_once_and_in_order() {
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
