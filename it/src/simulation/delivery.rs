//! A run: cluster, network, clients and what they do, stepped from event to event.

use crate::simulation::check::{Fate, Partition, RecordName, Violation};
use crate::simulation::client::SimulatedClient;
use crate::simulation::faults::Counts;
use crate::simulation::trial::{Failure, Plan, TOPIC, Trial, client_options, open_reader_with};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tidewatch_client_core::Now;
use tidewatch_client_core::call::TopicPartition;
use tidewatch_client_core::fetch::inbox::{Event, Inbox};
use tidewatch_client_core::options::{ConsumerOptions, ProducerOptions};
use tidewatch_client_core::producer::accumulator::{Accumulator, RecordRef, Refused};
use tidewatch_client_core::producer::delivery::Delivery;
use tidewatch_protocol::compression::Compression;

/// Longer than all timeouts of a run together: beyond it the run has stalled.
const STALL_US: u64 = 600_000_000;
/// Nothing in a run takes more events than this; a core that spins is caught.
const MAX_STEPS: u64 = 2_000_000;

/// What a good run tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Faults that struck, by kind.
    pub faults: Counts,
    /// How long it took, in simulated microseconds.
    pub simulated_us: u64,
    /// Records acknowledged.
    pub acknowledged: usize,
}

/// Runs a plan to its end.
pub fn run(plan: Plan) -> Result<Report, Failure> {
    let mut world = World::new(plan);
    let result = world.run_to_end();
    let log = world.trial.stage.log.take().unwrap_or_default();
    result.map_err(|why| Failure {
        seed: plan.seed,
        why,
        log,
        test: "sim_delivery",
    })?;
    Ok(Report {
        faults: world.trial.counts.clone(),
        simulated_us: world.trial.stage.now.monotonic_us,
        acknowledged: world.acknowledged(),
    })
}

struct Producer {
    accumulator: Arc<Accumulator>,
    next: u32,
    next_append_us: u64,
    waiting: Vec<(usize, usize, Delivery)>,
}

struct World {
    trial: Trial,
    producers: Vec<Producer>,
    inbox: Arc<Inbox>,
    partitions: Vec<Partition>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut trial = Trial::new(plan);
        let now = trial.stage.now;
        let opened = (0..plan.producers)
            .map(|number| open_producer(plan, number, now, &mut trial.stage.random));
        let (clients, producers): (Vec<_>, Vec<_>) = opened.unzip();
        trial.stage.clients = clients;
        let (reader, inbox) = open_reader(plan, now, &mut trial.stage.random);
        trial.stage.clients.push(reader);
        trial.schedule_strikes();
        Self {
            trial,
            producers,
            inbox,
            partitions: (0..plan.partitions).map(|_| Partition::default()).collect(),
        }
    }

    fn run_to_end(&mut self) -> Result<(), Violation> {
        let deadline = self.trial.stage.now.monotonic_us + STALL_US;
        for _ in 0..MAX_STEPS {
            self.settle()?;
            if self.is_done() {
                return self.check();
            }
            let next = self.next_us();
            if next > deadline {
                return Err(Violation(format!("stalled: {}", self.describe_wait())));
            }
            self.trial
                .stage
                .advance_to(next.max(self.trial.stage.now.monotonic_us));
        }
        Err(Violation(format!(
            "no end after {MAX_STEPS} steps: {}",
            self.describe_wait()
        )))
    }

    /// Carries out everything that is due now, until nothing moves.
    fn settle(&mut self) -> Result<(), Violation> {
        self.trial.begin_turn();
        loop {
            let mut moved = self.trial.stage.deliver();
            moved |= self.append();
            moved |= self.poll_deliveries()?;
            moved |= self.read()?;
            moved |= self.trial.stage.drive();
            if !moved {
                return Ok(());
            }
        }
    }

    fn next_us(&self) -> u64 {
        let appends = self
            .producers
            .iter()
            .filter(|p| p.next < self.records_each())
            .map(|p| p.next_append_us);
        self.trial
            .next_us()
            .into_iter()
            .chain(appends)
            .min()
            .unwrap_or(u64::MAX)
    }

    fn records_each(&self) -> u32 {
        self.trial.plan.records / u32::try_from(self.trial.plan.producers).unwrap_or(1)
    }

    fn append(&mut self) -> bool {
        let each = self.records_each();
        let mut moved = false;
        for (number, producer) in self.producers.iter_mut().enumerate() {
            while producer.next < each
                && producer.next_append_us <= self.trial.stage.now.monotonic_us
            {
                let partition = self.trial.stage.random.usize(0..self.partitions.len());
                let name = RecordName {
                    producer: number,
                    number: producer.next,
                };
                let mut value = name.encode();
                value.extend(std::iter::repeat_n(
                    'x',
                    self.trial.stage.random.usize(0..200),
                ));
                let record = RecordRef {
                    topic: TOPIC,
                    partition: Some(i32::try_from(partition).expect("few partitions")),
                    timestamp_ms: None,
                    key: None,
                    value: Some(value.as_bytes()),
                    headers: &[],
                };
                match producer.accumulator.append(self.trial.stage.now, record) {
                    Ok(appended) => {
                        let story = &mut self.partitions[partition];
                        story.sent.push((name, None));
                        producer
                            .waiting
                            .push((partition, story.sent.len() - 1, appended.delivery));
                        producer.next += 1;
                        producer.next_append_us = self.trial.stage.now.monotonic_us
                            + self.trial.stage.random.u64(0..40_000);
                        moved = true;
                    }
                    Err(Refused::UnknownTopic | Refused::Full) => {
                        producer.next_append_us = self.trial.stage.now.monotonic_us + 5_000
                    }
                    Err(refused) => unreachable!("a small record was refused: {refused:?}"),
                }
            }
        }
        moved
    }

    fn poll_deliveries(&mut self) -> Result<bool, Violation> {
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
        Ok(moved)
    }

    fn read(&mut self) -> Result<bool, Violation> {
        let mut context = Context::from_waker(Waker::noop());
        let mut moved = false;
        loop {
            match self.inbox.poll_event(&mut context) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(Event::Records(records))) => {
                    moved = true;
                    let partition =
                        usize::try_from(records.topic_partition().partition).expect("not negative");
                    for record in records {
                        let record = record
                            .map_err(|e| Violation(format!("the consumer cannot read: {e}")))?;
                        let name = record.value.as_deref().and_then(RecordName::parse);
                        let name =
                            name.ok_or_else(|| Violation("a record that nobody sent".to_owned()))?;
                        self.partitions[partition].read.push((record.offset, name));
                    }
                }
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Ready(Err(error)) => {
                    return Err(Violation(format!("the consumer failed: {error}")));
                }
            }
        }
    }

    fn is_done(&self) -> bool {
        let each = self.records_each();
        let sent = self
            .producers
            .iter()
            .all(|p| p.next == each && p.waiting.is_empty());
        sent && self.trial.stopped.is_empty() && (0..self.partitions.len()).all(|p| self.is_read(p))
    }

    fn is_read(&self, partition: usize) -> bool {
        let number = i32::try_from(partition).unwrap_or(0);
        let end = self
            .trial
            .stage
            .cluster
            .view(TOPIC, number)
            .map_or(0, |view| view.high_watermark);
        let read = self.partitions[partition]
            .read
            .last()
            .map_or(0, |(offset, _)| offset + 1);
        read >= end
    }

    fn check(&mut self) -> Result<(), Violation> {
        self.trial.count_strikes();
        for at in 0..self.partitions.len() {
            let number = i32::try_from(at).unwrap_or(0);
            let batches = self
                .trial
                .stage
                .cluster
                .batches(TOPIC, number)
                .map_err(|e| Violation(e.to_string()))?;
            for batch in batches {
                let records = batch
                    .records(1 << 20)
                    .map_err(|e| Violation(e.to_string()))?;
                for record in records {
                    let record = record.map_err(|e| Violation(e.to_string()))?;
                    let name = record.value.as_deref().and_then(RecordName::parse);
                    let name = name.ok_or_else(|| {
                        Violation("the log has a record that nobody sent".to_owned())
                    })?;
                    self.partitions[at].log.push((record.offset, name));
                }
            }
            self.partitions[at].check(at)?;
        }
        Ok(())
    }

    fn acknowledged(&self) -> usize {
        let sent = self.partitions.iter().flat_map(|p| &p.sent);
        sent.filter(|(_, fate)| matches!(fate, Some(Fate::Acknowledged(_))))
            .count()
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
        let timers: Vec<_> = self
            .trial
            .stage
            .clients
            .iter()
            .map(|c| c.core.poll_timeout())
            .collect();
        format!("{unresolved} deliveries unresolved, {stuck:?}, clients' timers: {timers:?}")
    }
}

pub(super) fn partition_of(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TOPIC.into(),
        partition,
    }
}

fn open_producer(
    plan: Plan,
    number: usize,
    now: Now,
    random: &mut fastrand::Rng,
) -> (SimulatedClient, Producer) {
    let mut client = SimulatedClient::new(number, client_options(plan), random.u64(..));
    let options = producer_options(random);
    let accumulator = Accumulator::new(&options, client.waker());
    client
        .core
        .open_producer(now, options, Arc::clone(&accumulator));
    let producer = Producer {
        accumulator,
        next: 0,
        next_append_us: now.monotonic_us,
        waiting: Vec::new(),
    };
    (client, producer)
}

fn open_reader(plan: Plan, now: Now, random: &mut fastrand::Rng) -> (SimulatedClient, Arc<Inbox>) {
    open_reader_with(ConsumerOptions::default(), plan, now, random)
}

pub(super) fn producer_options(random: &mut fastrand::Rng) -> ProducerOptions {
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    ProducerOptions {
        compression: codecs[random.usize(0..codecs.len())],
        linger_ms: random.u64(0..20),
        batch_size: random.usize(200..4_000),
        request_timeout_ms: 2_000,
        max_in_flight: random.usize(1..=5),
        ..ProducerOptions::default()
    }
}
