//! Samples to Kafka: each metric's in order and once, whatever the brokers do meanwhile.

use crate::backlog::Backlog;
use crate::clock;
use crate::complaint::Complaint;
use crate::lane::{Handed, Lane, MAX_HANDED_OVER};
use crate::outage::Outage;
use crate::probe::{self, Probe};
use crate::refusal::explain;
use crate::sampler::Reading;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tidewatch_client::options::Options;
use tidewatch_client::{
    Client, Delivery, DeliveryError, Producer, ProducerRecord, RecordMetadata, Refused, SendError,
};
use tidewatch_command::Failure;
use tidewatch_sample::{Metric, TAG_HEADER};

/// How long nothing is delivered before the reason is looked for; a new leader is found sooner.
const STALLED: Duration = Duration::from_secs(2);
/// How long nothing is delivered before it is said although brokers and topics seem to be there.
const STALLED_UNEXPLAINED: Duration = Duration::from_secs(30);
/// Between two looks for the reason, once it was said and before.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN_SOON: Duration = Duration::from_secs(5);
/// How often what waits is offered again: after a delivery soon, then half as often each time.
const OFFER_SOON: Duration = Duration::from_millis(10);
const OFFER_AGAIN: Duration = Duration::from_millis(500);
/// How long the last samples may take at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(8);

/// Batches' worth of memory that the client needs for what is handed over: for each of the two
/// topics one that is open and some on their way.
const CLIENT_BATCHES: usize = 8;
/// What one record can take at most: a host's name is bounded, and the rest is small.
const RECORD_MAX_BYTES: usize = 1_024;

/// The lanes of both metrics, and the producer that they lead to.
pub(crate) struct Kafka {
    host: String,
    options: Options,
    producer: Producer,
    /// When what is not taken is offered again.
    offer_again: Duration,
    cpu: Lane<Delivery>,
    memory: Lane<Delivery>,
    outage: Outage,
    probe: Option<Probe>,
    next_probe: Duration,
    dropped: Complaint,
    refused: Complaint,
    totals: Totals,
}

#[derive(Debug, Default)]
struct Totals {
    delivered: u64,
    refused: u64,
}

/// What came while waiting.
enum News {
    Outcome(Reading, Result<RecordMetadata, DeliveryError>),
    Probed(Option<String>),
}

#[derive(Debug, Error)]
#[error("the Kafka client ended by itself")]
pub(crate) struct ClientEnded;

/// The options that the client gets: `buffer.memory` bounds the backlog in front of it, and what
/// is handed over has to fit beside.
pub(crate) fn client_options(options: &Options) -> Options {
    let mut options = options.clone();
    let producer = &mut options.producer;
    let needed = producer
        .batch_size
        .saturating_mul(CLIENT_BATCHES)
        .max(2 * MAX_HANDED_OVER * RECORD_MAX_BYTES);
    producer.buffer_memory = producer.buffer_memory.max(needed);
    options
}

impl Kafka {
    /// Asks for a producer; the client's driver must be polled meanwhile.
    pub(crate) async fn open(
        client: &Client,
        options: Options,
        host: &str,
    ) -> Result<Self, Failure> {
        let half = options.producer.buffer_memory / 2;
        let lane = || Lane::new(Backlog::new(half, host));
        let producer = client.producer().await.map_err(Failure::running)?;
        // So that the first tick need not wait for a connection and for the topics.
        for metric in [Metric::Memory, Metric::Cpu] {
            let _not_yet = producer.partitions_for(metric.topic());
        }
        Ok(Self {
            host: host.to_owned(),
            producer,
            offer_again: OFFER_SOON,
            options,
            cpu: lane(),
            memory: lane(),
            outage: Outage::default(),
            probe: None,
            next_probe: Duration::ZERO,
            dropped: Complaint::default(),
            refused: Complaint::default(),
            totals: Totals::default(),
        })
    }

    /// Takes the readings of one tick.
    pub(crate) fn handle_tick(&mut self, readings: &[Reading]) -> Result<(), Failure> {
        let now = clock::monotonic();
        for reading in readings {
            let lane = match reading.metric {
                Metric::Cpu => &mut self.cpu,
                Metric::Memory => &mut self.memory,
            };
            if let Some(oldest) = lane.push(*reading, now)
                && let Some(unsaid) = self.dropped.admit(now)
            {
                tracing::warn!(
                    unsaid,
                    "buffer.memory is full: dropped the oldest sample of {}, of tick {}; raise \
                     buffer.memory to outlast longer outages",
                    oldest.metric.topic(),
                    oldest.tick_ms
                );
            }
        }
        self.fill()
    }

    /// Keeps samples moving; ends only with a failure that makes going on senseless.
    ///
    /// Cancellation-safe: dropped anywhere, it goes on where it was when called again.
    pub(crate) async fn run(&mut self) -> Failure {
        loop {
            if let Err(failure) = self.fill() {
                return failure;
            }
            self.look(clock::monotonic());
            self.wait_for_news().await;
        }
    }

    /// Until something happens or it is time to offer again.
    async fn wait_for_news(&mut self) {
        let is_idle = self.waiting() == 0 && self.probe.is_none();
        let offer_again = self.offer_again;
        tokio::select! {
            news = poll_fn(|context| self.poll_news(context)) => self.handle_news(news),
            () = tokio::time::sleep(offer_again), if !is_idle => {
                self.offer_again = OFFER_AGAIN.min(offer_again * 2);
            }
        }
    }

    fn poll_news(&mut self, context: &mut Context<'_>) -> Poll<News> {
        let now = clock::monotonic();
        for lane in [&mut self.cpu, &mut self.memory] {
            if let Poll::Ready((reading, outcome)) = lane.poll_outcome(context, now) {
                return Poll::Ready(News::Outcome(reading, outcome));
            }
        }
        let Some(probe) = &mut self.probe else {
            return Poll::Pending;
        };
        probe.as_mut().poll(context).map(News::Probed)
    }

    fn handle_news(&mut self, news: News) {
        match news {
            News::Outcome(_, Ok(_)) => {
                self.totals.delivered = self.totals.delivered.saturating_add(1);
                self.offer_again = OFFER_SOON;
                self.outage.handle_delivered();
            }
            News::Outcome(reading, Err(error)) => {
                self.totals.refused = self.totals.refused.saturating_add(1);
                let topic = reading.metric.topic();
                warn_refused(
                    &mut self.refused,
                    &explain(topic, reading.tick_ms, &error),
                    error.possibly_written,
                );
            }
            News::Probed(reason) => self.handle_probed(clock::monotonic(), reason),
        }
    }

    /// Hands over what the client has room for.
    fn fill(&mut self) -> Result<(), Failure> {
        let mut ended = None;
        for lane in [&mut self.cpu, &mut self.memory] {
            let (producer, host) = (&self.producer, &self.host);
            let (refused, totals) = (&mut self.refused, &mut self.totals);
            lane.fill(|reading| {
                let sent = send(producer, host, reading);
                match sent {
                    Ok(delivery) => Handed::Over(delivery),
                    Err(SendError {
                        why:
                            Refused::UnknownTopic
                            | Refused::Unsecured(_)
                            | Refused::Full
                            | Refused::Topic(_),
                        ..
                    }) => Handed::Later,
                    Err(error) if error.why == Refused::Closed => {
                        ended = Some(Failure::running(error));
                        Handed::Later
                    }
                    Err(error) => {
                        totals.refused = totals.refused.saturating_add(1);
                        warn_refused(refused, &error.to_string(), false);
                        Handed::Refused
                    }
                }
            });
        }
        ended.map_or(Ok(()), Err)
    }

    /// Notes whether samples move, and has the reason looked for where they do not.
    fn look(&mut self, now: Duration) {
        if self.waiting() == 0 {
            self.probe = None;
            self.next_probe = Duration::ZERO;
            if let Some(ended) = self.outage.handle_caught_up(now) {
                let (lasted, caught_up) = (ended.lasted, ended.caught_up);
                tracing::info!(
                    "Kafka takes samples again: {caught_up} caught up, {lasted:.1?} after the outage \
                     was seen"
                );
            }
        } else if self.stalled_for(now) < STALLED {
            // It moves: a probe would only tell of what was.
            self.probe = None;
        } else if self.probe.is_none() && now >= self.next_probe {
            self.probe = Some(probe::start(self.options.clone()));
        }
    }

    fn handle_probed(&mut self, now: Duration, reason: Option<String>) {
        self.probe = None;
        let stalled_for = self.stalled_for(now);
        let unexplained = || {
            (stalled_for >= STALLED_UNEXPLAINED)
                .then(|| "brokers and topics are there, but no sample was acknowledged".to_owned())
        };
        if stalled_for >= STALLED
            && let Some(reason) = reason.or_else(unexplained)
            && self.outage.handle_stalled(now, &reason)
        {
            let waiting = self.waiting();
            tracing::warn!(waiting, "Kafka takes no samples: {reason}; they are kept");
        }
        self.next_probe = now
            + if self.outage.reason().is_some() {
                LOOK_AGAIN
            } else {
                LOOK_AGAIN_SOON
            };
    }

    /// The longest that a lane has waited for a delivery.
    fn stalled_for(&self, now: Duration) -> Duration {
        let stalled = [&self.cpu, &self.memory].map(|lane| lane.stalled_for(now));
        stalled.into_iter().flatten().max().unwrap_or_default()
    }

    fn waiting(&self) -> usize {
        self.cpu.len() + self.memory.len()
    }

    /// Delivers what is left, within a bound, and says what became of all.
    pub(crate) async fn finish(&mut self) -> Result<(), Failure> {
        let drained = tokio::time::timeout(FLUSH_LIMIT, self.drain()).await;
        let left = self.waiting();
        let dropped = [&self.cpu, &self.memory].map(|lane| lane.backlog().dropped());
        let dropped: u64 = dropped.iter().map(|d| d.cpu + d.memory).sum();
        let Totals { delivered, refused } = self.totals;
        if left > 0 {
            let why = self
                .outage
                .reason()
                .unwrap_or("no broker has acknowledged them, and the reason is not known yet");
            tracing::warn!(
                "{left} samples were not delivered within {FLUSH_LIMIT:?} and are lost: {why}"
            );
        }
        tracing::info!(delivered, refused, dropped, left, "ended");
        drained.unwrap_or(Ok(()))
    }

    async fn drain(&mut self) -> Result<(), Failure> {
        loop {
            self.fill()?;
            if self.waiting() == 0 {
                return Ok(());
            }
            // Without it an open batch would wait for all of linger.ms.
            let producer = self.producer.clone();
            tokio::select! {
                flushed = producer.flush() => flushed.map_err(Failure::running)?,
                () = tokio::time::sleep(OFFER_AGAIN) => {}
            }
            self.wait_for_news().await;
        }
    }
}

fn send(producer: &Producer, host: &str, reading: &Reading) -> Result<Delivery, SendError> {
    let (value, tag) = (reading.value.to_string(), reading.tag.to_string());
    producer.try_send(
        &ProducerRecord::to(reading.metric.topic())
            .key(host)
            .value(&value)
            .timestamp_ms(reading.tick_ms)
            .header(TAG_HEADER, &tag),
    )
}

fn warn_refused(complaint: &mut Complaint, why: &str, possibly_written: bool) {
    if let Some(unsaid) = complaint.admit(clock::monotonic()) {
        tracing::warn!(unsaid, possibly_written, "a sample was dropped: {why}");
    }
}
