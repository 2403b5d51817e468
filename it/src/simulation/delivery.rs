//! Producers, and one reader: each acknowledged record once and in order per partition.

use crate::simulation::check::{Fate, Partition, RecordName, Violation};
use crate::simulation::plan::{Failure, Plan, Report};
use crate::simulation::play::{World, play};
use crate::simulation::records::{append, logged, name_of, read_names};
use crate::simulation::trial::{TOPIC, Trial, partition_of};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tidewatch_client_core::fetch::inbox::Inbox;
use tidewatch_client_core::options::ConsumerOptions;
use tidewatch_client_core::producer::accumulator::Accumulator;
use tidewatch_client_core::producer::delivery::Delivery;

/// Runs a plan to its end.
///
/// # Errors
/// A promise that was broken, or a stall.
pub fn run_delivery(plan: Plan) -> Result<Report, Failure> {
    play(Deliveries::new(plan))
}

struct Producer {
    accumulator: Arc<Accumulator>,
    next: u32,
    next_append_us: u64,
    waiting: Vec<(usize, usize, Delivery)>,
}

struct Deliveries {
    trial: Trial,
    start_us: u64,
    producers: Vec<Producer>,
    inbox: Arc<Inbox>,
    partitions: Vec<Partition>,
}

impl World for Deliveries {
    const STALL_US: u64 = 600_000_000;

    fn trial(&mut self) -> &mut Trial {
        &mut self.trial
    }

    fn begin_turn(&mut self) -> Result<(), Violation> {
        self.trial.begin_turn();
        Ok(())
    }

    fn step(&mut self) -> Result<bool, Violation> {
        let mut moved = self.trial.stage.deliver();
        moved |= self.append();
        moved |= self.poll_deliveries();
        let partitions = &mut self.partitions;
        moved |= read_names(&self.inbox, |partition, offset, name| {
            partitions[partition].read.push((offset, name));
        })?;
        Ok(moved | self.trial.stage.drive())
    }

    fn next_us(&self) -> Option<u64> {
        let unfinished = |p: &&Producer| p.next < self.records_each();
        let appends = self.producers.iter().filter(unfinished);
        let appends = appends.map(|p| p.next_append_us);
        self.trial.next_us().into_iter().chain(appends).min()
    }

    fn progress_us(&self) -> u64 {
        self.start_us
    }

    fn is_done(&mut self) -> bool {
        let each = self.records_each();
        let sent = self
            .producers
            .iter()
            .all(|p| p.next == each && p.waiting.is_empty());
        sent && self.trial.is_up() && (0..self.partitions.len()).all(|p| self.is_read(p))
    }

    fn check(&mut self) -> Result<BTreeMap<&'static str, u64>, Violation> {
        let cluster = &self.trial.stage.cluster;
        for (at, partition) in self.partitions.iter_mut().enumerate() {
            let number = i32::try_from(at).unwrap_or(0);
            for record in logged(cluster, TOPIC, number)? {
                partition.log.push((record.offset, name_of(&record)?));
            }
            partition.check(at)?;
        }
        let sent = self.partitions.iter().flat_map(|p| &p.sent);
        let acknowledged = sent.filter(|(_, fate)| matches!(fate, Some(Fate::Acknowledged(_))));
        Ok(BTreeMap::from([(
            "records acknowledged",
            acknowledged.count() as u64,
        )]))
    }

    fn describe_wait(&self) -> String {
        let unresolved: usize = self.producers.iter().map(|p| p.waiting.len()).sum();
        let stuck = (0..self.partitions.len())
            .filter(|p| !self.is_read(*p))
            .map(|partition| {
                let number = i32::try_from(partition).unwrap_or(0);
                let status = self.inbox.status(&partition_of(number));
                let view = self.trial.stage.cluster.view(TOPIC, number);
                format!("partition {partition} is not read to its end: {status:?}, {view:?}")
            });
        let stuck: Vec<_> = stuck.collect();
        let clients = &self.trial.stage.clients;
        let timers: Vec<_> = clients.iter().map(|c| c.timeout_us()).collect();
        format!("{unresolved} deliveries unresolved, {stuck:?}, clients' timers: {timers:?}")
    }
}

impl Deliveries {
    fn new(plan: Plan) -> Self {
        let mut trial = Trial::new(plan);
        let start_us = trial.stage.now.monotonic_us;
        let mut producers = Vec::new();
        for _ in 0..plan.clients {
            let client = trial.open_client();
            let options = trial.producer_options();
            let (_, accumulator) = trial.open_producer(client, options);
            producers.push(Producer {
                accumulator,
                next: 0,
                next_append_us: start_us,
                waiting: Vec::new(),
            });
        }
        let inbox = trial.open_reader(ConsumerOptions::default());
        trial.schedule_strikes();
        Self {
            trial,
            start_us,
            producers,
            inbox,
            partitions: (0..plan.partitions).map(|_| Partition::default()).collect(),
        }
    }

    fn records_each(&self) -> u32 {
        self.trial.plan.records / u32::try_from(self.trial.plan.clients).unwrap_or(1)
    }

    fn append(&mut self) -> bool {
        let each = self.records_each();
        let mut moved = false;
        for (number, producer) in self.producers.iter_mut().enumerate() {
            let stage = &mut self.trial.stage;
            while producer.next < each && producer.next_append_us <= stage.now.monotonic_us {
                let partition = stage.random.usize(0..self.partitions.len());
                let name = RecordName {
                    producer: number,
                    number: producer.next,
                };
                let mut value = name.encode();
                value.extend(std::iter::repeat_n('x', stage.random.usize(0..200)));
                let to = i32::try_from(partition).expect("few partitions");
                let sent = append(&producer.accumulator, stage.now, TOPIC, to, (None, &value));
                let Some(delivery) = sent else {
                    producer.next_append_us = stage.now.monotonic_us + 5_000;
                    continue;
                };
                let story = &mut self.partitions[partition];
                story.sent.push((name, None));
                let place = story.sent.len() - 1;
                producer.waiting.push((partition, place, delivery));
                producer.next += 1;
                let pause_us = stage.random.u64(0..40_000);
                producer.next_append_us = stage.now.monotonic_us + pause_us;
                moved = true;
            }
        }
        moved
    }

    fn poll_deliveries(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut moved = false;
        for producer in &mut self.producers {
            let mut still = Vec::new();
            for (partition, index, mut delivery) in producer.waiting.drain(..) {
                match Pin::new(&mut delivery).poll(&mut context) {
                    Poll::Pending => still.push((partition, index, delivery)),
                    Poll::Ready(outcome) => {
                        moved = true;
                        let fate = match outcome {
                            Ok(told) => Fate::Acknowledged(told.offset),
                            Err(error) if error.possibly_written => Fate::PossiblyWritten,
                            Err(_) => Fate::NotWritten,
                        };
                        self.partitions[partition].sent[index].1 = Some(fate);
                    }
                }
            }
            producer.waiting = still;
        }
        moved
    }

    fn is_read(&self, partition: usize) -> bool {
        let number = i32::try_from(partition).unwrap_or(0);
        let read = self.partitions[partition].read.last();
        let next = read.map_or(0, |(offset, _)| offset + 1);
        next >= self.trial.high_watermark(number)
    }
}
