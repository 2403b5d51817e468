//! Java's consumers and ours in one classic group on a real Kafka: members come, go and die, ours lead
//! and follow, and every record goes to one member.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tidewatch_client::options::Options;
use tidewatch_client::{Client, ProducerRecord};
use tidewatch_it::kafka::{Kafka, Tools, Version};
use tidewatch_it::member::{self, Tell};
use tidewatch_it::process::Process;
use tidewatch_it::programs::{Devbroker, path};
use tokio::sync::oneshot;

const PARTITIONS: i32 = 6;
/// Written at each step.
const RECORDS: usize = 300;
const LIMIT: Duration = Duration::from_secs(60);
/// The shortest that a broker allows: how long a dead member's partitions lie idle.
const SESSION_MS: &str = "6000";
/// Of members that are not killed: whoever waits for them to be gone waits for what they say.
const LONG_SESSION_MS: u64 = 600_000;

/// What a member does.
#[derive(Debug)]
enum Seen {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
    Record(String),
    /// The next offset of a partition.
    Committed(i32, i64),
    /// It made the assignment of so many members. Only ours tell.
    Led(u64),
}

type Log = Sender<(&'static str, Seen)>;

/// A member in a process of its own; killed with SIGKILL when dropped.
struct Member(Child);

impl Member {
    fn java(kafka: &Kafka, name: &'static str, topic: &str, strategy: &str, log: &Log) -> Self {
        let mut command = kafka
            .tools()
            .tool("org.apache.kafka.tools.VerifiableConsumer");
        command
            .args(["--bootstrap-server", kafka.bootstrap()])
            .args(["--topic", topic, "--group-id", topic, "--verbose"])
            .args(["--session-timeout", SESSION_MS])
            .args(["--assignment-strategy", strategy]);
        Self::start(command, name, log)
    }

    fn ours(kafka: &Kafka, name: &'static str, topic: &str, strategy: &str, log: &Log) -> Self {
        let mut command = Command::new(path("group-member"));
        command.args([kafka.bootstrap(), topic, topic, strategy, SESSION_MS]);
        Self::start(command, name, log)
    }

    fn start(mut command: Command, name: &'static str, log: &Log) -> Self {
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the member starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let log = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_default();
                for seen in read_event(&event) {
                    let _ = log.send((name, seen));
                }
            }
        });
        Self(child)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One of VerifiableConsumer's events, or of ours.
fn read_event(event: &serde_json::Value) -> Vec<Seen> {
    let partition = |of: &serde_json::Value| of["partition"].as_i64().unwrap() as i32;
    let partitions = || {
        let all = event["partitions"].as_array().unwrap();
        all.iter().map(partition).collect()
    };
    match event["name"].as_str() {
        Some("partitions_assigned") => vec![Seen::Assigned(partitions())],
        Some("partitions_revoked") => vec![Seen::Revoked(partitions())],
        Some("record_data") => vec![Seen::Record(event["value"].as_str().unwrap().to_owned())],
        Some("offsets_committed") if event["success"] == true => {
            let offsets = event["offsets"].as_array().unwrap();
            let committed = |of| Seen::Committed(partition(of), of["offset"].as_i64().unwrap());
            offsets.iter().map(committed).collect()
        }
        Some("led") => vec![Seen::Led(event["members"].as_u64().unwrap())],
        _ => Vec::new(),
    }
}

/// One of ours in this process; dropping the sender has it close.
struct Ours {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Ours {
    async fn start(
        kafka: &Kafka,
        client: &Client,
        name: &'static str,
        topic: &str,
        strategy: &str,
        log: &Log,
    ) -> Self {
        let log = log.clone();
        let tell: Tell = Arc::new(move |event| {
            for seen in read_event(&event) {
                let _ = log.send((name, seen));
            }
        });
        let mut options = member::options(kafka.bootstrap(), topic, strategy, &tell).consumer;
        options.session_timeout_ms = LONG_SESSION_MS;
        let consumer = client.consumer_with(options).await.unwrap();
        consumer.subscribe([topic]).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let task = tokio::spawn(member::run(consumer, tell, stopped));
        Self { stop, task }
    }

    async fn close(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }

    /// Has the consumer dropped as it is.
    async fn drop(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Everything that was seen so far.
struct Group {
    seen: Receiver<(&'static str, Seen)>,
    has: BTreeMap<&'static str, BTreeSet<i32>>,
    got: BTreeMap<String, Vec<&'static str>>,
    committed: BTreeMap<i32, i64>,
    /// Who of ours led, and the largest group.
    led: BTreeMap<&'static str, u64>,
}

impl Group {
    fn new(seen: Receiver<(&'static str, Seen)>) -> Self {
        Self {
            seen,
            has: BTreeMap::new(),
            got: BTreeMap::new(),
            committed: BTreeMap::new(),
            led: BTreeMap::new(),
        }
    }

    /// A member has died: what it had is free.
    fn forget(&mut self, name: &str) {
        self.has.remove(name);
    }

    /// Who of ours led since this was asked last, and the largest group each.
    fn take_led(&mut self) -> Vec<(&'static str, u64)> {
        std::mem::take(&mut self.led).into_iter().collect()
    }

    #[track_caller]
    fn wait(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let Ok((name, seen)) = self.seen.recv_timeout(LIMIT) else {
                let records = self.got.len();
                panic!(
                    "waited for {what}: {records} records, {:?}, committed {:?}",
                    self.has, self.committed
                );
            };
            let has = self.has.entry(name).or_default();
            match seen {
                Seen::Assigned(partitions) => has.extend(partitions),
                Seen::Revoked(partitions) => has.retain(|p| !partitions.contains(p)),
                Seen::Record(value) => self.got.entry(value).or_default().push(name),
                Seen::Committed(partition, offset) => {
                    let known = self.committed.entry(partition).or_default();
                    *known = offset.max(*known);
                }
                Seen::Led(members) => {
                    let largest = self.led.entry(name).or_default();
                    *largest = members.max(*largest);
                }
            }
        }
    }

    /// Until exactly these members share the partitions.
    #[track_caller]
    fn wait_until_shared(&mut self, members: &[&str]) {
        self.wait(&format!("{members:?} to share the topic"), |group| {
            let all: Vec<i32> = group.has.values().flatten().copied().collect();
            let once: BTreeSet<i32> = all.iter().copied().collect();
            let everybody = members
                .iter()
                .all(|m| group.has.get(m).is_some_and(|has| !has.is_empty()));
            everybody && all.len() == once.len() && once.len() == PARTITIONS as usize
        });
    }

    #[track_caller]
    fn wait_for_records(&mut self, count: usize) {
        self.wait(&format!("{count} records"), |group| {
            group.got.len() >= count
        });
        self.wait("all of them committed", |group| {
            group.committed.values().sum::<i64>() == i64::try_from(count).unwrap()
        });
    }
}

/// What ConsoleConsumer reads of `topic` in a group, and then closes.
fn console_consume(bootstrap: &str, topic: &str, count: usize) -> BTreeSet<String> {
    let tools = Tools::new(Version::V4_3, bootstrap);
    let mut command = tools.tool("org.apache.kafka.tools.consumer.ConsoleConsumer");
    command
        .args([
            "--bootstrap-server",
            bootstrap,
            "--topic",
            topic,
            "--group",
            topic,
        ])
        .args(["--from-beginning", "--max-messages", &count.to_string()]);
    let mut console = Process::start("ConsoleConsumer", command);
    console.close_stdin();
    console.wait(LIMIT);
    console.stdout().lines().map(str::to_owned).collect()
}

#[test]
fn javas_console_consumer_is_a_member_on_the_devbroker() {
    let devbroker = Devbroker::start(&["--topic", "console:3"]);
    let mut options = Options::default();
    options
        .set("bootstrap.servers", devbroker.bootstrap())
        .unwrap();
    let client = Client::spawn(options).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut written = 0;
    for _ in 0..2 {
        let first = written;
        runtime.block_on(write(&client, "console", 3, &mut written));
        let read = console_consume(devbroker.bootstrap(), "console", RECORDS);
        let expected = (first..written).map(|number| format!("r{number}"));
        // The second begins where the first has committed.
        assert_eq!(read, expected.collect());
    }
}

/// Writes the next records, round the partitions.
async fn write(client: &Client, topic: &str, partitions: i32, written: &mut usize) {
    let producer = client.producer().await.unwrap();
    let mut deliveries = Vec::new();
    for number in *written..*written + RECORDS {
        let value = format!("r{number}");
        let partition = i32::try_from(number).unwrap() % partitions;
        let record = ProducerRecord::to(topic)
            .partition(partition)
            .value(value.as_bytes());
        deliveries.push(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    *written += RECORDS;
}

fn client(kafka: &Kafka) -> Client {
    let mut options = Options::default();
    for (name, value) in [
        ("bootstrap.servers", kafka.bootstrap()),
        ("client.id", "ours"),
    ] {
        options.set(name, value).unwrap();
    }
    Client::spawn(options).unwrap()
}

async fn share(kafka: &Kafka, strategy: &str, topic: &'static str) {
    kafka.tools().create_topic(topic, PARTITIONS as u32, &[]);
    let client = client(kafka);
    let (log, seen) = channel();
    let mut group = Group::new(seen);
    let mut written = 0;

    // Ours come first and lead, Java follows.
    let zero = Member::ours(kafka, "ours-0", topic, strategy, &log);
    group.wait_until_shared(&["ours-0"]);
    let first = Member::java(kafka, "java-1", topic, strategy, &log);
    group.wait_until_shared(&["ours-0", "java-1"]);
    write(&client, topic, PARTITIONS, &mut written).await;
    group.wait_for_records(written);
    assert_eq!(group.take_led(), [("ours-0", 2)]);

    // The leader of ours is killed: Java leads, ours follow. Two of ours share a client and must not
    // wait for each other.
    drop(zero);
    group.forget("ours-0");
    group.wait_until_shared(&["java-1"]);
    let one = Ours::start(kafka, &client, "ours-1", topic, strategy, &log).await;
    group.wait_until_shared(&["java-1", "ours-1"]);
    write(&client, topic, PARTITIONS, &mut written).await;
    group.wait_for_records(written);
    let two = Ours::start(kafka, &client, "ours-2", topic, strategy, &log).await;
    write(&client, topic, PARTITIONS, &mut written).await;
    group.wait_until_shared(&["java-1", "ours-1", "ours-2"]);
    group.wait_for_records(written);
    assert_eq!(group.take_led(), []);

    // Java dies: ours lead.
    drop(first);
    group.forget("java-1");
    group.wait_until_shared(&["ours-1", "ours-2"]);
    write(&client, topic, PARTITIONS, &mut written).await;
    group.wait_for_records(written);
    let second = Member::java(kafka, "java-2", topic, strategy, &log);
    write(&client, topic, PARTITIONS, &mut written).await;
    group.wait_until_shared(&["java-2", "ours-1", "ours-2"]);
    group.wait_for_records(written);
    assert_described(kafka, topic, written);
    let led = group.take_led();
    assert!(matches!(led[..], [("ours-1" | "ours-2", 3)]), "{led:?}");

    // A follower of ours is killed.
    let third = Member::ours(kafka, "ours-3", topic, strategy, &log);
    group.wait_until_shared(&["java-2", "ours-1", "ours-2", "ours-3"]);
    write(&client, topic, PARTITIONS, &mut written).await;
    group.wait_for_records(written);
    drop(third);
    group.forget("ours-3");
    write(&client, topic, PARTITIONS, &mut written).await;
    group.wait_until_shared(&["java-2", "ours-1", "ours-2"]);
    group.wait_for_records(written);

    // One of ours leaves and another is dropped, at once for the others.
    one.close().await;
    group.forget("ours-1");
    write(&client, topic, PARTITIONS, &mut written).await;
    group.wait_until_shared(&["java-2", "ours-2"]);
    group.wait_for_records(written);
    two.drop().await;
    group.forget("ours-2");
    group.wait_until_shared(&["java-2"]);
    write(&client, topic, PARTITIONS, &mut written).await;
    group.wait_for_records(written);
    drop(second);

    let twice: Vec<_> = group.got.iter().filter(|(_, by)| by.len() > 1).collect();
    assert!(twice.is_empty(), "read by more than one: {twice:?}");
    assert_eq!(group.got.len(), written);
}

/// Java's own view: three members, ours among them, and nothing left to read.
fn assert_described(kafka: &Kafka, topic: &str, written: usize) {
    let tool = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let (stdout, stderr) = kafka
        .tools()
        .run(tool, &["--describe", "--group", topic], "");
    let rows: Vec<Vec<&str>> = stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|row: &Vec<&str>| row.len() >= 9 && row[1] == topic)
        .collect();
    assert_eq!(rows.len(), PARTITIONS as usize, "{stdout}{stderr}");
    let sum = |column: usize| {
        rows.iter()
            .map(|row| row[column].parse::<usize>().unwrap())
            .sum::<usize>()
    };
    assert_eq!((sum(3), sum(5)), (written, 0), "{stdout}");
    let members: BTreeSet<&str> = rows.iter().map(|row| row[6]).collect();
    assert_eq!(members.len(), 3, "{stdout}");
    assert_eq!(
        members.iter().filter(|m| m.starts_with("ours-")).count(),
        2,
        "{stdout}"
    );
}

#[test]
fn java_and_ours_share_a_topic() {
    let kafka = Kafka::single(Version::V4_3, &[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (strategy, topic) in [
        (
            "org.apache.kafka.clients.consumer.RangeAssignor",
            "by-range",
        ),
        (
            "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
            "by-cooperative-sticky",
        ),
    ] {
        runtime.block_on(share(&kafka, strategy, topic));
    }
}
