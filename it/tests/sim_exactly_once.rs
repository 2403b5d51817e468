//! Exactly once from topic to topic, whatever goes wrong: seeded runs of a group whose members read
//! committed records, transform them and write them in transactions that carry their offsets. Each
//! input stands once in the committed output, in order, and nothing stalls.

use tidewatch_it::simulation::plan::Plan;
use tidewatch_it::simulation::{Suite, exactly_once};

const SUITE: Suite = Suite {
    plan: Plan::exactly_once,
    run: exactly_once::run_exactly_once,
    runs: 5_000,
    soak_runs: 100_000,
    least: (20, 8),
};

#[test]
fn each_input_is_once_in_the_committed_output() {
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
