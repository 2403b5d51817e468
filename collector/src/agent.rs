//! The agent's loop: waits for a tick, reads procfs, hands the readings on. One thread,
//! but for what a dry run prints and for looking up hosts' names.

use crate::arguments::Plan;
use crate::clock;
use crate::complaint::Complaint;
use crate::kafka::{self, ClientEnded, Kafka};
use crate::outlet::Outlet;
use crate::proc::Procfs;
use crate::sampler::{Reading, Sampler};
use crate::ticks::{Step, Ticks};
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use tidewatch_client::Client;
use tidewatch_client::options::Options;
use tidewatch_command::{Failure, Stop, block_on};
use tidewatch_sample::RunId;

/// How long the agent may take to end.
const GRACE: Duration = Duration::from_secs(10);

const STAT: &str = "stat";
const MEMINFO: &str = "meminfo";

/// Runs until it is told to end.
pub(crate) fn run(plan: Plan) -> Result<(), Failure> {
    let run = draw_run().map_err(Failure::running)?;
    let interval_ms = plan.interval_ms;
    let kafka = plan.kafka.clone();
    let mut agent = Agent::new(plan, run);
    agent.check_sources().map_err(Failure::running)?;
    let uptime_s = agent.procfs.uptime_s();
    tracing::info!(host = agent.host, %run, interval_ms, uptime_s, "sampling");
    block_on(GRACE, async |stop| match kafka {
        None => agent.watch(stop).await,
        Some(options) => agent.send(options, stop).await,
    })
}

struct Agent {
    host: String,
    procfs: Procfs,
    ticks: Ticks,
    sampler: Sampler,
    outlet: Outlet,
    unreadable_stat: Complaint,
    unreadable_meminfo: Complaint,
    missed: Complaint,
    estimate_said: bool,
}

impl Agent {
    fn new(plan: Plan, run: RunId) -> Self {
        Self {
            procfs: Procfs::new(plan.procfs),
            ticks: Ticks::new(plan.interval_ms),
            sampler: Sampler::new(run, plan.interval_ms, plan.formula),
            outlet: Outlet::DryRun,
            unreadable_stat: Complaint::default(),
            unreadable_meminfo: Complaint::default(),
            missed: Complaint::default(),
            estimate_said: false,
            host: plan.host,
        }
    }

    /// Reads every source once: what cannot be read at the start will hardly be later, and an
    /// operator who has mistaken a path should hear it now.
    fn check_sources(&self) -> Result<(), SourceError> {
        // A copy, because this is no tick.
        let mut sampler = self.sampler.clone();
        let stat = self.read(STAT)?;
        sampler
            .sample_cpu(0, &stat)
            .map_err(|why| self.malformed(STAT, why))?;
        let meminfo = self.read(MEMINFO)?;
        sampler
            .sample_memory(0, &meminfo)
            .map_err(|why| self.malformed(MEMINFO, why))?;
        Ok(())
    }

    /// Watches, with the client's driver polled beside it on this thread.
    async fn send(&mut self, options: Options, stop: Stop) -> Result<(), Failure> {
        let built = Client::build(kafka::client_options(&options));
        let (client, driver) = built.map_err(Failure::running)?;
        let watched = async {
            let kafka = Kafka::open(&client, options, &self.host).await?;
            self.outlet = Outlet::Kafka(Box::new(kafka));
            self.watch(stop).await
        };
        tokio::select! {
            biased;
            done = watched => done,
            () = driver => Err(Failure::running(ClientEnded)),
        }
    }

    async fn watch(&mut self, stop: Stop) -> Result<(), Failure> {
        while !stop.is_requested() {
            match self.ticks.poll_step(clock::wall_ms()) {
                Step::Wait { wait_ms } => {
                    tokio::select! {
                        _ = stop.within(Duration::from_millis(wait_ms)) => {}
                        failure = self.outlet.run() => return Err(failure),
                    }
                }
                Step::Sample { tick_ms } => {
                    let readings = self.sample(tick_ms);
                    tokio::select! {
                        taken = self.outlet.handle_tick(&self.host, &readings) => taken?,
                        () = stop.requested() => {}
                    }
                }
                Step::Missed { ticks } => self.warn_missed(ticks),
                Step::WentBack { by_ms } => {
                    tracing::warn!(by_ms, "the wall clock went back; samples follow it");
                }
            }
        }
        self.outlet.finish().await
    }

    /// One tick's readings; a source that cannot be read is left out of this tick.
    fn sample(&mut self, tick_ms: i64) -> Vec<Reading> {
        let mut readings = Vec::new();
        match self.sample_cpu(tick_ms) {
            Ok(reading) => readings.extend(reading),
            Err(error) => warn_of(&mut self.unreadable_stat, &error),
        }
        match self.sample_memory(tick_ms) {
            Ok(reading) => readings.push(reading),
            Err(error) => warn_of(&mut self.unreadable_meminfo, &error),
        }
        readings
    }

    fn sample_cpu(&mut self, tick_ms: i64) -> Result<Option<Reading>, SourceError> {
        let stat = self.read(STAT)?;
        let reading = self.sampler.sample_cpu(tick_ms, &stat);
        let reading = reading.map_err(|why| self.malformed(STAT, why))?;
        if reading.is_none() {
            tracing::debug!(
                tick_ms,
                "no CPU can be compared with the tick before: no value"
            );
        }
        Ok(reading)
    }

    fn sample_memory(&mut self, tick_ms: i64) -> Result<Reading, SourceError> {
        let meminfo = self.read(MEMINFO)?;
        let sampled = self.sampler.sample_memory(tick_ms, &meminfo);
        let (reading, estimated) = sampled.map_err(|why| self.malformed(MEMINFO, why))?;
        if estimated && !self.estimate_said {
            self.estimate_said = true;
            tracing::warn!(
                "there is no MemAvailable in {}: estimating it as MemFree + Buffers + Cached + \
                 SReclaimable - Shmem",
                self.procfs.path(MEMINFO).display()
            );
        }
        Ok(reading)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, SourceError> {
        Ok(self.procfs.read(name)?)
    }

    fn malformed<E: std::error::Error + Send + Sync + 'static>(
        &self,
        name: &str,
        why: E,
    ) -> SourceError {
        SourceError::Malformed {
            path: self.procfs.path(name),
            why: Box::new(why),
        }
    }

    fn warn_missed(&mut self, ticks: u64) {
        if let Some(unsaid) = self.missed.admit(clock::monotonic()) {
            tracing::warn!(
                ticks,
                unsaid,
                "missed: the host slept, was too busy, or its clock stepped; these have no sample"
            );
        }
    }
}

/// Why a source gives no reading.
#[derive(Debug, Error)]
enum SourceError {
    #[error(transparent)]
    Read(#[from] crate::proc::ReadError),
    #[error(
        "failed to understand {path}: {why}; is this a procfs? (--procfs PATH names another place)",
        path = path.display()
    )]
    Malformed {
        path: PathBuf,
        why: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn warn_of(complaint: &mut Complaint, error: &SourceError) {
    if let Some(unsaid) = complaint.admit(clock::monotonic()) {
        tracing::warn!(unsaid, "no sample at this tick: {error}");
    }
}

/// A run's name: drawn from the kernel, so that no two starts anywhere share one.
fn draw_run() -> Result<RunId, DrawError> {
    let mut bytes = [0; 8];
    let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match drawn {
        Ok(8) => Ok(RunId(u64::from_ne_bytes(bytes))),
        Ok(_) => Err(DrawError(rustix::io::Errno::AGAIN)),
        Err(why) => Err(DrawError(why)),
    }
}

#[derive(Debug, Error)]
#[error("failed to draw random bytes for this run's name: {0}")]
struct DrawError(rustix::io::Errno);
