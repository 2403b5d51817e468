//! The job: consume, feed the engines, write what they hand out, and only then commit.
//!
//! Each `--commit-interval` ends one batch, in this order: results and rejects are acknowledged by
//! Kafka, the table is printed, the offsets are committed. Whatever dies in between, a restart
//! begins at the last commit and hands out the same bytes again.

use crate::options::{Plan, Query};
use crate::output::Batch;
use crate::task::Task;
use crate::topics::{self, Absent};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tidewatch_client::{
    Client, Consumer, Event, NewTopic, OffsetAndMetadata, Producer, StartAt, TopicPartition,
};
use tidewatch_command::{Failure, Stop};
use tidewatch_engine::{HashSeed, Output};
use tidewatch_sample::{rejected_topic, results_topic};
use tokio::time::MissedTickBehavior;

/// Records under way before a batch ends early: what bounds a batch's memory.
const MAX_IN_FLIGHT: usize = 50_000;

/// Runs the job until it is asked to end or, with `--available-now`, has worked through its input.
pub(crate) async fn run(plan: Plan, stop: Stop) -> Result<(), Failure> {
    let mut job = tokio::select! {
        () = stop.requested() => return Ok(()),
        job = Job::start(&plan) => job?,
    };
    let mut tick = tokio::time::interval(plan.commit_interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.requested() => break,
            _ = tick.tick() => job.end_batch().await?,
            event = job.consumer.next() => job.handle_event(event.map_err(Failure::running)?).await?,
        }
        if job.batch.in_flight() > MAX_IN_FLIGHT {
            job.end_batch().await?;
        }
        if plan.available_now && job.is_done() {
            job.finish().await?;
            break;
        }
    }
    job.end_batch().await?;
    job.report();
    Ok(())
}

/// The topics to read and the consumer that reads them.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) client: Client,
    pub(crate) consumer: Consumer,
    pub(crate) partitions: Vec<TopicPartition>,
}

impl Inputs {
    /// Connects, and finds the partitions of the plan's topics.
    pub(crate) async fn open(plan: &Plan) -> Result<Self, Failure> {
        let mut options = plan.kafka.clone();
        options.consumer.group_id = Some(plan.group.clone());
        let client = Client::spawn(options).map_err(Failure::running)?;
        let topics: Vec<&str> = plan.topics.iter().map(String::as_str).collect();
        // What is there now is to be worked through: nothing is.
        let absent = if plan.available_now {
            Absent::Fail
        } else {
            Absent::Wait
        };
        let cluster = topics::find(&client, &topics, absent).await?;
        let mut partitions = Vec::new();
        for topic in &plan.topics {
            let count = cluster.partition_count(topic).unwrap_or(0);
            let topic: Arc<str> = topic.as_str().into();
            let numbers = 0..i32::try_from(count).unwrap_or(i32::MAX);
            partitions.extend(numbers.map(|partition| TopicPartition {
                topic: Arc::clone(&topic),
                partition,
            }));
        }
        let consumer = client.consumer().await.map_err(Failure::running)?;
        Ok(Self {
            client,
            consumer,
            partitions,
        })
    }

    /// Where each partition ends now, if the work is to end there.
    pub(crate) async fn ends(
        &self,
        wanted: bool,
    ) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
        if !wanted {
            return Ok(BTreeMap::new());
        }
        let ends = self
            .consumer
            .end_offsets(&self.partitions)
            .await
            .map_err(Failure::running)?;
        Ok(ends.into_iter().collect())
    }
}

/// Whether every partition was read to its end; never where no ends are given.
pub(crate) fn is_read(consumer: &Consumer, ends: &BTreeMap<TopicPartition, i64>) -> bool {
    let reached = |(partition, end): (&TopicPartition, &i64)| {
        consumer.position(partition).is_some_and(|at| at >= *end)
    };
    !ends.is_empty() && ends.iter().all(reached)
}

struct Job {
    consumer: Consumer,
    producer: Producer,
    tasks: BTreeMap<TopicPartition, Task>,
    batch: Batch,
    output: Output,
    // The last, so that the handles above go first: it ends the driver.
    _client: Client,
}

impl Job {
    async fn start(plan: &Plan) -> Result<Self, Failure> {
        let inputs = Inputs::open(plan).await?;
        create_outputs(&inputs).await?;
        let running = plan.query == Query::Running;
        let committed: BTreeMap<_, _> = if running {
            // The mean of all time needs all of it: it starts over.
            BTreeMap::new()
        } else {
            let found = inputs
                .consumer
                .committed(&inputs.partitions)
                .await
                .map_err(Failure::running)?;
            found
                .into_iter()
                .filter_map(|(partition, at)| Some((partition, at?)))
                .collect()
        };
        let starts = inputs
            .consumer
            .beginning_offsets(&inputs.partitions)
            .await
            .map_err(Failure::running)?;
        let ends = inputs.ends(plan.available_now).await?;
        let seed = hash_seed();
        let mut tasks = BTreeMap::new();
        let mut assigned = Vec::new();
        for (partition, start) in starts {
            let committed = committed.get(&partition);
            let task = Task::new(plan.engine.clone(), seed, committed, start);
            let mut task = task.map_err(|why| {
                Failure::running(CannotStart {
                    partition: partition.clone(),
                    why,
                })
            })?;
            task.end = ends.get(&partition).copied();
            let start = StartAt::Offset(task.engine.position());
            assigned.push((Arc::clone(&partition.topic), partition.partition, start));
            tasks.insert(partition, task);
        }
        inputs
            .consumer
            .assign(assigned)
            .await
            .map_err(Failure::running)?;
        let producer = inputs.client.producer().await.map_err(Failure::running)?;
        Ok(Self {
            consumer: inputs.consumer,
            producer,
            tasks,
            batch: Batch::new(),
            output: Output::default(),
            _client: inputs.client,
        })
    }

    async fn handle_event(&mut self, event: Event) -> Result<(), Failure> {
        let partition = match &event {
            Event::Records(fetched) => fetched.topic_partition().clone(),
            Event::CaughtUp(partition) => partition.clone(),
            // Its partitions are assigned by hand.
            Event::Rebalance(_) => return Ok(()),
        };
        let Some(task) = self.tasks.get_mut(&partition) else {
            return Ok(());
        };
        if let Event::Records(fetched) = event {
            task.handle_fetched(fetched, &mut self.output)
                .map_err(Failure::running)?;
        }
        self.batch
            .take(&partition, &mut self.output, &self.producer, wall_ms())
            .await
    }

    /// Makes everything so far durable and commits it.
    async fn end_batch(&mut self) -> Result<(), Failure> {
        for (partition, task) in &mut self.tasks {
            let status = self.consumer.status(partition);
            if let Some((position, caught_up)) =
                status.and_then(|s| Some((s.position?, s.caught_up?)))
            {
                task.handle_caught_up(position, caught_up, &mut self.output);
            }
            self.output.rows.extend(task.engine.take_running());
            self.batch
                .take(partition, &mut self.output, &self.producer, wall_ms())
                .await?;
        }
        self.batch.complete(&self.producer).await?;
        let progress: Vec<_> = self
            .tasks
            .iter_mut()
            .filter_map(|(p, task)| Some((p.clone(), task.uncommitted()?)))
            .collect();
        if progress.is_empty() {
            return Ok(());
        }
        let offsets: Vec<_> = progress
            .iter()
            .map(|(partition, progress)| (partition.clone(), offset_of(progress)))
            .collect();
        match self.consumer.commit(offsets).await {
            Ok(()) => {}
            // What is not committed now is committed with the next batch.
            Err(error) if error.is_retriable() => {
                tracing::warn!("{error}; going on, the next batch commits");
                return Ok(());
            }
            Err(error) => return Err(Failure::running(error)),
        }
        for (partition, progress) in progress {
            if let Some(task) = self.tasks.get_mut(&partition) {
                task.handle_committed(progress);
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.tasks
            .iter()
            .all(|(partition, task)| task.is_done(self.consumer.position(partition)))
    }

    /// The end of `--available-now`: nothing more will say whether held records are to be believed.
    async fn finish(&mut self) -> Result<(), Failure> {
        for (partition, task) in &mut self.tasks {
            task.engine.finish(false, &mut self.output);
            self.batch
                .take(partition, &mut self.output, &self.producer, wall_ms())
                .await?;
        }
        Ok(())
    }

    fn report(&self) {
        for (partition, task) in &self.tasks {
            let counters = task.engine.counters();
            let rejected: u64 = counters.rejected.values().sum();
            tracing::info!(
                "{partition}: {} samples counted, {} late, {} duplicates, {rejected} rejected, {} hosts",
                counters.accepted,
                counters.late,
                counters.duplicates,
                task.engine.hosts()
            );
        }
    }
}

fn offset_of(progress: &tidewatch_engine::Progress) -> OffsetAndMetadata {
    OffsetAndMetadata {
        metadata: progress.metadata.clone(),
        ..OffsetAndMetadata::new(progress.offset, -1)
    }
}

/// Result and reject topics have as many partitions as their input, so that a row stands in the
/// partition that its samples came from.
async fn create_outputs(inputs: &Inputs) -> Result<(), Failure> {
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    for partition in &inputs.partitions {
        *counts.entry(&partition.topic).or_default() += 1;
    }
    let wanted: Vec<_> = counts
        .iter()
        .flat_map(|(topic, count)| {
            [results_topic(topic), rejected_topic(topic)].map(|name| (name, *count))
        })
        .collect();
    let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    let created = inputs.client.create_topics(
        wanted
            .iter()
            .map(|(name, count)| NewTopic::new(name, *count))
            .collect(),
    );
    for (name, result) in names.iter().zip(created.await.map_err(Failure::running)?) {
        if let (_, Err(error)) = result
            && !error.is_topic_exists()
        {
            return Err(Failure::running(error));
        }
        tracing::debug!("{name} is there");
    }
    let cluster = topics::find(&inputs.client, &names, Absent::Wait).await?;
    for (name, count) in &wanted {
        let has = cluster.partition_count(name).unwrap_or(0);
        if has < usize::try_from(*count).unwrap_or(0) {
            return Err(Failure::running(TooFewPartitions {
                name: name.clone(),
                has,
                wants: *count,
            }));
        }
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error(
    "{name} has {has} partitions and its input {wants}; give it as many, for example with kafka-topics --alter --partitions {wants}"
)]
struct TooFewPartitions {
    name: String,
    has: usize,
    wants: i32,
}

#[derive(Debug, thiserror::Error)]
#[error("failed to go on with {partition}: {why}")]
struct CannotStart {
    partition: TopicPartition,
    why: tidewatch_engine::StartError,
}

fn wall_ms() -> i64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

/// Hash tables are keyed by chance, so that nobody can choose host names that collide.
fn hash_seed() -> HashSeed {
    let draw = || RandomState::new().build_hasher().finish();
    HashSeed([draw(), draw()])
}
