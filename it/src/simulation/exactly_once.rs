//! Consume, transform, produce: a group whose members read committed records of one topic and write to
//! another in transactions that carry the offsets of what they read (KIP-98, KIP-447). Members come,
//! go, crash, stand still and are succeeded while they live on; and in the end each input stands once
//! in the committed output.

mod copier;
mod model;
mod source;
mod strikes;

use crate::simulation::check::Violation;
use crate::simulation::plan::{Failure, Plan, Report};
use crate::simulation::play::{World, play};
use crate::simulation::trial::{OF_GROUPS, OF_TRANSACTIONS, REQUEST_MS, TOPIC, Trial};
use copier::{Copier, Fate};
use source::Source;
use std::collections::BTreeMap;
use tidewatch_protocol::messages::ApiKey;

/// What is written to.
const OUTPUT: &str = "out";
const GROUP: &str = "g";
const SESSION_MS: u64 = 3_000;
/// `max.poll.interval.ms`, and so the longest that a rebalance waits for a member.
const MAX_POLL_MS: u64 = 6_000;
const TRANSACTION_TIMEOUT_MS: u64 = 8_000;
/// `retry.backoff.max.ms`.
const BACKOFF_MS: u64 = 1_000;
/// No process stands still for longer, and no reader stays away.
const LONGEST_TROUBLE_US: u64 = 12_000_000;
/// Keys of inputs.
const KEYS: u32 = 7;

/// Runs a plan to its end.
///
/// # Errors
/// A promise that was broken, or a stall.
pub fn run_exactly_once(plan: Plan) -> Result<Report, Failure> {
    play(Loops::new(plan))
}

struct Loops {
    trial: Trial,
    strategy: &'static str,
    source: Source,
    copiers: Vec<Copier>,
    /// Transactional ids that wait for a process, and until when.
    reopening: Vec<(u64, usize)>,
    ids: usize,
    /// Of the group, over all partitions.
    committed: i64,
    /// When last something was written or committed.
    advanced_us: u64,
    /// Where the group has to get to, once all inputs are there.
    goal: Option<Vec<i64>>,
    tally: BTreeMap<&'static str, u64>,
}

impl World for Loops {
    /// A transaction that nobody ends, in a group whose member has to be given up first, and each
    /// of them only found out by a request that is never answered: one trouble at most takes all of
    /// it.
    const STALL_US: u64 = LONGEST_TROUBLE_US
        + 1000 * (SESSION_MS + MAX_POLL_MS + TRANSACTION_TIMEOUT_MS + 2 * REQUEST_MS + BACKOFF_MS);

    fn trial(&mut self) -> &mut Trial {
        &mut self.trial
    }

    fn begin_turn(&mut self) -> Result<(), Violation> {
        for kind in self.trial.begin_turn() {
            self.strike(kind);
        }
        let now_us = self.trial.stage.now.monotonic_us;
        while let Some((_, id)) = self.reopening.pop_if(|(at_us, _)| *at_us <= now_us) {
            self.open(id);
        }
        Ok(())
    }

    fn step(&mut self) -> Result<bool, Violation> {
        let mut moved = self.trial.stage.deliver();
        moved |= self.source.step(&mut self.trial);
        for copier in &mut self.copiers {
            moved |= copier.step(&mut self.trial)?;
        }
        moved |= self.trial.stage.drive();
        for (client, request, end) in std::mem::take(&mut self.trial.stage.ended) {
            moved = true;
            if self.source.is_asked(client, request) {
                self.source.finish(&mut self.trial, end)?;
            } else if let Some(copier) = self
                .copiers
                .iter_mut()
                .find(|copier| copier.is_asked(client, request))
            {
                copier.finish(&mut self.trial, end)?;
            }
        }
        self.bury();
        self.note_progress();
        Ok(moved)
    }

    fn next_us(&self) -> Option<u64> {
        let copiers = self.copiers.iter();
        let copiers = copiers.filter_map(|copier| copier.next_us(&self.trial));
        let reopening = self.reopening.iter().map(|(at_us, _)| *at_us);
        let all = self.trial.next_us().into_iter().chain(copiers);
        all.chain(reopening).chain(self.source.next_us()).min()
    }

    fn progress_us(&self) -> u64 {
        self.advanced_us.max(self.trial.troubled_us)
    }

    fn is_done(&mut self) -> bool {
        if !self.source.is_done() || !self.trial.is_calm() || !self.reopening.is_empty() {
            return false;
        }
        if self.goal.is_none() {
            self.goal = model::ends_of_input(&self.trial);
        }
        let Some(goal) = &self.goal else { return false };
        let cluster = &self.trial.stage.cluster;
        let is_there = |(partition, end): (i32, &i64)| {
            let committed = cluster.committed(GROUP, TOPIC, partition);
            committed.map_or(0, |committed| committed.offset) >= *end
        };
        let mut ids = self.trial.transactional_ids.iter();
        (0..).zip(goal).all(is_there) && ids.all(|id| !cluster.has_open_transaction(id))
    }

    fn check(&mut self) -> Result<BTreeMap<&'static str, u64>, Violation> {
        let inputs = model::check(&self.trial)?;
        let mut tally = std::mem::take(&mut self.tally);
        tally.insert("inputs", inputs);
        for copier in &self.copiers {
            copier.tally(&mut tally);
        }
        Ok(tally)
    }

    fn describe_wait(&self) -> String {
        let cluster = &self.trial.stage.cluster;
        let committed: Vec<_> = self
            .trial
            .partitions()
            .map(|p| cluster.committed(GROUP, TOPIC, p).map(|c| c.offset))
            .collect();
        let ids = self.trial.transactional_ids.iter();
        let open: Vec<_> = ids.filter(|id| cluster.has_open_transaction(id)).collect();
        let copiers: Vec<_> = self
            .copiers
            .iter()
            .map(|c| c.describe(&self.trial))
            .collect();
        format!(
            "the group stands at {committed:?} of {:?}; open {open:?}; {}; {copiers:#?}",
            self.goal,
            self.source.describe()
        )
    }
}

impl Loops {
    fn new(plan: Plan) -> Self {
        let mut trial = Trial::new(plan);
        trial.create_topic(OUTPUT);
        trial.targets = vec![ApiKey::Produce, ApiKey::Fetch];
        trial.targets.extend(OF_TRANSACTIONS);
        trial.targets.extend(OF_GROUPS);
        trial.groups = vec![GROUP.to_owned()];
        let strategies = ["range", "roundrobin", "sticky", "cooperative-sticky"];
        let strategy = strategies[trial.stage.random.usize(0..strategies.len())];
        let source = Source::open(&mut trial);
        let start_us = trial.stage.now.monotonic_us;
        trial.schedule_strikes();
        let mut world = Self {
            trial,
            strategy,
            source,
            copiers: Vec::new(),
            reopening: Vec::new(),
            ids: 0,
            committed: 0,
            advanced_us: start_us,
            goal: None,
            tally: BTreeMap::new(),
        };
        for _ in 0..plan.clients {
            world.come();
        }
        world
    }

    /// A process more, with a transactional id of its own.
    fn come(&mut self) {
        let id = self.ids;
        self.ids += 1;
        self.trial
            .transactional_ids
            .push(copier::transactional_id(id));
        self.open(id);
    }

    /// A process for a transactional id; it fences the one before.
    fn open(&mut self, id: usize) {
        let copier = Copier::open(&mut self.trial, id, self.strategy);
        self.copiers.push(copier);
    }

    /// Processes that have ended: successors come for those that should not have.
    fn bury(&mut self) {
        while let Some(at) = self.copiers.iter().position(|c| c.fate != Fate::Lives) {
            let copier = self.copiers.remove(at);
            copier.tally(&mut self.tally);
            let client = copier.client();
            if copier.fate == Fate::MustBeSucceeded && !copier.is_zombie {
                self.trial.kill(client);
                self.open(copier.id);
            } else if copier.fate == Fate::MustBeSucceeded {
                self.trial.kill(client);
            }
        }
    }

    fn note_progress(&mut self) {
        let cluster = &self.trial.stage.cluster;
        let committed = self.trial.partitions().map(|p| {
            let committed = cluster.committed(GROUP, TOPIC, p);
            committed.map_or(0, |committed| committed.offset)
        });
        let advanced = committed.sum::<i64>() + i64::from(self.source.committed());
        if advanced != self.committed {
            self.committed = advanced;
            self.advanced_us = self.trial.stage.now.monotonic_us;
        }
    }
}
