//! How every run is played: from event to event, until it is done, breaks a promise or stalls.

use crate::simulation::check::Violation;
use crate::simulation::plan::{Failure, Report};
use crate::simulation::trial::Trial;
use std::collections::BTreeMap;

/// Nothing in a run takes more events than this; a core that spins is caught.
const MAX_STEPS: u64 = 2_000_000;

/// Cluster, network, clients and what they do.
pub(super) trait World {
    /// The longest time without progress: all timeouts of a run together.
    const STALL_US: u64;

    /// What all runs have in common.
    fn trial(&mut self) -> &mut Trial;

    /// What time brings.
    fn begin_turn(&mut self) -> Result<(), Violation>;

    /// Carries out what is due now; true if that was something.
    fn step(&mut self) -> Result<bool, Violation>;

    /// When something happens by itself.
    fn next_us(&self) -> Option<u64>;

    /// Since when nothing has got on.
    fn progress_us(&self) -> u64;

    fn is_done(&mut self) -> bool;

    /// Holds a run that is done to its promises, and counts what was in it.
    fn check(&mut self) -> Result<BTreeMap<&'static str, u64>, Violation>;

    /// What it waits for, for the words of a stall.
    fn describe_wait(&self) -> String;
}

/// Plays a run to its end.
pub(super) fn play<W: World>(mut world: W) -> Result<Report, Failure> {
    let mut longest_us = 0;
    let end = play_to_end(&mut world, &mut longest_us);
    let trial = world.trial();
    match end {
        Ok(tally) => Ok(Report {
            longest_us,
            faults: trial.counts.clone(),
            simulated_us: trial.stage.now.monotonic_us,
            tally,
        }),
        Err(why) => Err(Failure {
            plan: trial.plan,
            why,
            log: trial.stage.log.take().unwrap_or_default(),
        }),
    }
}

fn play_to_end<W: World>(
    world: &mut W,
    longest_us: &mut u64,
) -> Result<BTreeMap<&'static str, u64>, Violation> {
    for _ in 0..MAX_STEPS {
        world.begin_turn()?;
        while world.step()? {}
        if world.is_done() {
            world.trial().count_strikes();
            return world.check();
        }
        let next_us = world.next_us().unwrap_or(u64::MAX);
        let without_us = next_us.saturating_sub(world.progress_us());
        *longest_us = without_us.max(*longest_us);
        if without_us > W::STALL_US {
            return Err(Violation(format!("stalled: {}", world.describe_wait())));
        }
        let stage = &mut world.trial().stage;
        stage.advance_to(next_us.max(stage.now.monotonic_us));
    }
    let wait = world.describe_wait();
    Err(Violation(format!("no end after {MAX_STEPS} steps: {wait}")))
}
