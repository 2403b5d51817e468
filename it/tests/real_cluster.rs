//! Three nodes under load, one of them killed or stopped as soon as all are in sync again, over and
//! over: what was acknowledged is there once and in order, nothing waits for long, and no memory grows.

use std::time::{Duration, Instant};
use tidewatch_client::{
    Client, Consumer, Delivery, Event, NewTopic, Partition, Producer, ProducerRecord, Refused,
    StartAt, TopicPartition,
};
use tidewatch_it::kafka::{Kafka, Version, skips_on_foreign_cluster};
use tidewatch_it::suite::{Sides, ensure_topics};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

const TOPIC: &str = "load";
const PARTITIONS: usize = 6;
const WRITERS: usize = 3;
/// Each writer sends one record a tick, where there is room for it.
const TICK: Duration = Duration::from_millis(4);
const VALUE_BYTES: usize = 1000;
/// Less than a writer sends while a stopped leader is waited for.
const BUFFER_MEMORY: usize = 128 << 10;
const REQUEST_TIMEOUT_MS: &str = "5000";
/// How long the controller waits for a broker before it makes others leaders.
const SESSION_TIMEOUT: &str = "broker.session.timeout.ms=6000";
/// A request to a leader that hangs, 5 s, and its session, 6 s, run side by side; the rest is for
/// elections and a busy machine. Two timeouts in a row, 5 s and 6 s and more, must not be.
const STALL_LIMIT: Duration = Duration::from_secs(12);
/// What the process may grow by under load: buffers of three producers and of a consumer that fetches
/// 1 MiB a partition at most.
const MAX_GROWTH_KIB: u64 = 16 << 10;
/// Everything else that is awaited comes within this.
const PATIENCE: Duration = Duration::from_secs(90);
/// The picture of the cluster is asked for again after so many acknowledgements.
const ACKS_BETWEEN_LOOKS: u64 = 50;

/// Nodes 2 and 3 are to be harmed, never 1: it is the only controller.
const FAULTS: [(usize, Fault); 4] = [
    (2, Fault::Stop),
    (3, Fault::Kill),
    (3, Fault::Stop),
    (2, Fault::Kill),
];

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// `kill -9`, and a start with the data that is there.
    Kill,
    /// SIGSTOP: connections are accepted and nothing is answered; then SIGCONT.
    Stop,
}

/// How long nodes are harmed.
fn load_time() -> Duration {
    if std::env::var_os("TIDEWATCH_SOAK").is_some() {
        Duration::from_secs(600)
    } else {
        Duration::from_secs(90)
    }
}

/// Acknowledged records of each partition.
type Acks = [u64; PARTITIONS];

/// Leaders go back to where they belong by themselves, a second after they can: leader moves without
/// a fault, between the faults.
fn start_cluster() -> Kafka {
    Kafka::cluster(
        Version::V4_3,
        &[
            "auto.leader.rebalance.enable=true",
            "leader.imbalance.check.interval.seconds=1",
            "leader.imbalance.per.broker.percentage=0",
            SESSION_TIMEOUT,
        ],
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_die_and_hang_cost_no_acknowledged_record_and_no_long_wait() {
    if skips_on_foreign_cluster("nodes that die and hang: it kills and stops them") {
        return;
    }
    let mut kafka = start_cluster();
    let memory = BUFFER_MEMORY.to_string();
    let client = Sides::of(&kafka).client(&[
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("request.timeout.ms", REQUEST_TIMEOUT_MS),
        ("buffer.memory", &memory),
        ("batch.size", "4096"),
    ]);
    // min.insync.replicas is 2 by the nodes' own properties.
    let topic = NewTopic::new(TOPIC, PARTITIONS as i32).replication(3);
    ensure_topics(&client, vec![topic]).await;

    let (acks, mut acked) = watch::channel([0; PARTITIONS]);
    let (stop, stopped) = watch::channel(false);
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let writer = Writer::new(number, client.producer().await.unwrap(), acks.clone());
        writers.push(tokio::spawn(writer.write_until(stopped.clone())));
    }
    let (total, written) = watch::channel(None);
    let reader = Reader::new(client.consumer().await.unwrap()).await;
    let reader: JoinHandle<_> = tokio::spawn(reader.read(written));

    let (begun, mut faults, before_kib) = (Instant::now(), 0, peak_rss_kib());
    while begun.elapsed() < load_time() || faults < 2 {
        let (node, fault) = FAULTS[faults % FAULTS.len()];
        harm(&mut kafka, &client, &mut acked, node, fault).await;
        faults += 1;
    }

    stop.send_replace(true);
    let (mut records, mut refused, mut slowest) = (0, 0, Duration::ZERO);
    for writer in writers {
        let writer = writer.await.unwrap();
        records += writer.next;
        refused += writer.refused;
        slowest = slowest.max(writer.slowest);
    }
    let peak_kib = peak_rss_kib();
    println!(
        "{faults} faults in {:?}: {records} records, the slowest took {slowest:?}, {refused} times \
         buffer.memory was full; resident set at most {peak_kib} KiB, {before_kib} KiB before",
        begun.elapsed()
    );
    assert!(
        peak_kib - before_kib <= MAX_GROWTH_KIB,
        "{before_kib} KiB grew to {peak_kib} KiB"
    );
    assert!(
        refused > 0,
        "buffer.memory was never full: the load is too small"
    );
    total.send_replace(Some(records));
    let ended = tokio::time::timeout(PATIENCE, reader).await;
    ended.expect("everything is read in time").unwrap();
}

/// The most that this process has had in memory so far (proc_pid_status(5)).
fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse().unwrap()
}

/// One fault, begun when all replicas are in sync and ended when all partitions take records again.
async fn harm(
    kafka: &mut Kafka,
    client: &Client,
    acked: &mut watch::Receiver<Acks>,
    node: usize,
    fault: Fault,
) {
    let is_whole = |partition: &Partition| {
        partition.in_sync_replicas.len() == 3
            && partition.leader == partition.replicas.first().copied()
    };
    await_partitions(client, acked, "all replicas in sync", is_whole).await;
    match fault {
        Fault::Kill => kafka.kill(node),
        Fault::Stop => kafka.signal(node, "STOP"),
    }
    let led_by_others = |partition: &Partition| {
        partition
            .leader
            .is_some_and(|leader| leader.0 != node as i32)
    };
    await_partitions(client, acked, "leaders elsewhere", led_by_others).await;
    let before = *acked.borrow_and_update();
    let all_moved = async {
        // What it gives back is a lock, which the writers wait for.
        let moved = acked.wait_for(|now| now.iter().zip(before).all(|(now, then)| *now > then));
        moved.await.map(drop).expect("the writers live");
    };
    let in_time = tokio::time::timeout(PATIENCE, all_moved).await;
    assert!(
        in_time.is_ok(),
        "{fault:?} of {node}: a partition stands still"
    );
    match fault {
        Fault::Kill => tokio::task::block_in_place(|| kafka.restart(node)),
        Fault::Stop => kafka.signal(node, "CONT"),
    }
}

/// Looks at the cluster, through our own client, until each partition is as it should be.
async fn await_partitions(
    client: &Client,
    acked: &mut watch::Receiver<Acks>,
    what: &str,
    holds: impl Fn(&Partition) -> bool,
) {
    let count = |acks: &Acks| acks.iter().sum::<u64>();
    let look = async {
        loop {
            let cluster = client.cluster(&[TOPIC]).await.unwrap();
            let partitions = &cluster.topics[TOPIC].partitions;
            if partitions.len() == PARTITIONS && partitions.iter().all(&holds) {
                return;
            }
            let next = count(&acked.borrow()) + ACKS_BETWEEN_LOOKS;
            acked.wait_for(|acks| count(acks) >= next).await.unwrap();
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, look).await;
    assert!(in_time.is_ok(), "no {what} within {PATIENCE:?}");
}

/// One task's records: `writer sequence`, the sequence choosing the partition.
struct Writer {
    number: usize,
    producer: Producer,
    acks: watch::Sender<Acks>,
    next: u64,
    outstanding: Vec<(Instant, Delivery)>,
    refused: usize,
    slowest: Duration,
}

impl Writer {
    fn new(number: usize, producer: Producer, acks: watch::Sender<Acks>) -> Self {
        Self {
            number,
            producer,
            acks,
            next: 0,
            outstanding: Vec::new(),
            refused: 0,
            slowest: Duration::ZERO,
        }
    }

    async fn write_until(mut self, stopped: watch::Receiver<bool>) -> Self {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !*stopped.borrow() {
            ticks.tick().await;
            self.take_acks();
            self.send_one();
        }
        while !self.outstanding.is_empty() {
            ticks.tick().await;
            self.take_acks();
        }
        self
    }

    fn send_one(&mut self) {
        let value = format!("{:VALUE_BYTES$}", format!("{} {}", self.number, self.next));
        let partition = (self.next % PARTITIONS as u64) as i32;
        let record = ProducerRecord::to(TOPIC).partition(partition).value(&value);
        match self.producer.try_send(&record) {
            Ok(delivery) => {
                self.outstanding.push((Instant::now(), delivery));
                self.next += 1;
            }
            Err(error) if error.why == Refused::Full => self.refused += 1,
            Err(error) => assert_eq!(error.why, Refused::UnknownTopic, "{error}"),
        }
        self.take_acks();
        assert!(
            self.outstanding.len() * VALUE_BYTES <= BUFFER_MEMORY,
            "{} values of {VALUE_BYTES} bytes are in buffer.memory={BUFFER_MEMORY}",
            self.outstanding.len()
        );
    }

    fn take_acks(&mut self) {
        let mut news = [0; PARTITIONS];
        self.outstanding.retain(|(sent, delivery)| {
            self.slowest = self.slowest.max(sent.elapsed());
            match delivery.try_result() {
                None => true,
                Some(Ok(_)) => {
                    news[delivery.partition() as usize] += 1;
                    false
                }
                Some(Err(error)) => panic!("after {:?}: {error}", sent.elapsed()),
            }
        });
        assert!(
            self.slowest < STALL_LIMIT,
            "a record has waited for {:?}",
            self.slowest
        );
        if news != [0; PARTITIONS] {
            self.acks.send_modify(|acks| {
                acks.iter_mut().zip(news).for_each(|(all, new)| *all += new);
            });
        }
    }
}

/// Reads all of it while it is written.
struct Reader {
    consumer: Consumer,
    /// The next sequence of each writer in each partition.
    expected: [[u64; WRITERS]; PARTITIONS],
    read: u64,
}

impl Reader {
    async fn new(consumer: Consumer) -> Self {
        let all = (0..PARTITIONS).map(|partition| (TOPIC, partition as i32, StartAt::Earliest));
        consumer.assign(all).await.unwrap();
        let mut expected = [[0; WRITERS]; PARTITIONS];
        for (first, of_writers) in (0..).zip(&mut expected) {
            *of_writers = [first; WRITERS];
        }
        Self {
            consumer,
            expected,
            read: 0,
        }
    }

    /// Ends when as many records were read as were acknowledged, and there are no more.
    async fn read(mut self, mut total: watch::Receiver<Option<u64>>) {
        while total.borrow().is_none_or(|total| self.read < total) {
            tokio::select! {
                event = self.consumer.next() => {
                    if let Event::Records(records) = event.unwrap() {
                        self.check(records);
                    }
                }
                _ = total.changed(), if total.borrow().is_none() => {}
            }
        }
        let all = (0..PARTITIONS).map(|partition| TopicPartition::new(TOPIC, partition as i32));
        let ends = self.consumer.end_offsets(&all.collect::<Vec<_>>()).await;
        let end: i64 = ends.unwrap().iter().map(|(_, end)| *end).sum();
        assert_eq!(
            end as u64, self.read,
            "records in the logs, and acknowledged"
        );
    }

    fn check(&mut self, mut records: tidewatch_client::Fetched) {
        let partition = records.topic_partition().partition as usize;
        while let Some(record) = records.next_ref() {
            let record = record.unwrap();
            let value = std::str::from_utf8(record.value.unwrap()).unwrap();
            let (writer, sequence) = value.trim_end().split_once(' ').unwrap();
            let (writer, sequence): (usize, u64) =
                (writer.parse().unwrap(), sequence.parse().unwrap());
            let expected = &mut self.expected[partition][writer];
            assert_eq!(
                sequence, *expected,
                "writer {writer} in partition {partition} at offset {}",
                record.offset
            );
            *expected += PARTITIONS as u64;
            self.read += 1;
        }
    }
}
