//! A group whose members come, go, crash and hang while its coordinator moves and requests fail: every
//! record is delivered, each to a member that has its partition, and everything ends committed.

use tidewatch_it::simulation::plan::Plan;
use tidewatch_it::simulation::{Suite, groups};

const SUITE: Suite = Suite {
    plan: Plan::groups,
    run: groups::run_groups,
    runs: 100,
    soak_runs: 20_000,
    least: (12, 8),
};

#[test]
fn every_record_is_delivered_to_a_member_that_has_it() {
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
