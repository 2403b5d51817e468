//! The client's examples, each run as a process against the embedded broker, with what it prints held
//! to what the broker has.

use std::process::Command;
use tidewatch_client::options::Options;
use tidewatch_client::{Client, TopicPartition};
use tidewatch_it::process::Process;
use tidewatch_it::programs::{Devbroker, PATIENCE, path};
use tidewatch_it::suite::examples::{self, wait_for_records};
use tidewatch_it::suite::reading::{Row, read_all};

fn example(name: &str, broker: &Devbroker, arguments: &[&str]) -> Process {
    examples::start(name, broker.bootstrap(), arguments)
}

/// Runs it to its end, which must be a good one, and returns the lines of its standard output.
#[track_caller]
fn run(name: &str, broker: &Devbroker, arguments: &[&str]) -> Vec<String> {
    let mut process = example(name, broker, arguments);
    let status = process.wait(PATIENCE);
    assert!(status.success(), "{name}: {}", process.stderr());
    process.stdout().lines().map(str::to_owned).collect()
}

fn client(broker: &Devbroker, group: &str) -> Client {
    let mut options = Options::default();
    let settings = [
        ("bootstrap.servers", broker.bootstrap()),
        ("isolation.level", "read_committed"),
        ("group.id", group),
    ];
    for (name, value) in settings {
        options.set(name, value).unwrap();
    }
    Client::spawn(options).unwrap()
}

#[tokio::test]
async fn produce_prints_where_the_broker_has_each_record() {
    let broker = Devbroker::start(&[]);
    let printed = run("produce", &broker, &["readings"]);
    let records = read_all(&client(&broker, "readers"), "readings", 3).await;
    assert_eq!(records.len(), 300);
    let stored = records.iter().map(|row| {
        let Row {
            partition,
            offset,
            key,
            ..
        } = row;
        format!("{key} readings/{partition} at {offset}")
    });
    let mut stored: Vec<_> = stored.collect();
    let mut printed = printed;
    printed.sort();
    stored.sort();
    assert_eq!(printed, stored);
    // One host's readings lie in one partition, in the order in which they were sent.
    for host in ["web-1", "web-2", "db-1"] {
        let of_host = records.iter().filter(|row| row.key == host);
        let (partitions, values): (Vec<_>, Vec<_>) = of_host
            .map(|row| (row.partition, row.value.clone()))
            .unzip();
        assert!(partitions.windows(2).all(|pair| pair[0] == pair[1]));
        let sent: Vec<_> = (0..100).map(|reading| format!("{reading}.5")).collect();
        assert_eq!(values, sent);
    }
    // The topic is there already: that is no error.
    assert_eq!(run("produce", &broker, &["readings"]).len(), 300);
}

/// Waits until the group has committed so many offsets of all partitions together.
async fn committed(client: &Client, count: usize) {
    let partitions = [0, 1, 2].map(|number| TopicPartition::new("readings", number));
    let consumer = client.consumer().await.unwrap();
    let all = async {
        loop {
            let committed = consumer.committed(&partitions).await.unwrap();
            let offsets = committed.iter().flat_map(|(_, found)| found);
            if offsets.map(|found| found.offset).sum::<i64>() == count as i64 {
                return;
            }
        }
    };
    let within = tokio::time::timeout(PATIENCE, all).await;
    within.unwrap_or_else(|_| panic!("the group has not committed {count} records"));
}

#[tokio::test]
async fn consume_in_a_group_shares_partitions_and_begins_where_it_ended() {
    let broker = Devbroker::start(&[]);
    let arguments = ["readings", "printers"];
    let mut sent = run("produce", &broker, &["readings"]);
    let mut first = example("consume_in_a_group", &broker, &arguments);
    wait_for_records(&first, sent.len());

    let given = |line: &str| line.strip_prefix("was given ").map(|all| all != "nothing");
    let mut second = example("consume_in_a_group", &broker, &arguments);
    second.wait_for_line(PATIENCE, "assignment", |line| {
        given(&line.text) == Some(true)
    });
    let more = run("produce", &broker, &["readings"]);
    // Between them they have it all.
    committed(&client(&broker, "printers"), sent.len() + more.len()).await;
    for member in [&mut first, &mut second] {
        member.signal("INT");
        assert!(member.wait(PATIENCE).success(), "{}", member.stderr());
        assert!(member.stderr().ends_with("has left printers"));
    }
    assert_ne!(second.stdout(), "", "the second member read nothing");

    // Nobody reads again what was committed.
    let mut third = example("consume_in_a_group", &broker, &arguments);
    let again = run("produce", &broker, &["readings"]);
    wait_for_records(&third, again.len());
    third.signal("INT");
    assert!(third.wait(PATIENCE).success(), "{}", third.stderr());

    sent.extend(more);
    sent.extend(again);
    let mut read = Vec::new();
    for member in [&first, &second, &third] {
        read.extend(member.stdout().lines().map(place));
    }
    let mut sent: Vec<_> = sent.iter().map(|line| written_at(line)).collect();
    sent.sort();
    read.sort();
    assert_eq!(read, sent);
}

/// `readings/0 17 web-1 17.5`: host, partition and offset.
fn place(line: &str) -> (String, String, String) {
    let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
    (words[2].clone(), words[0].clone(), words[1].clone())
}

/// `web-1 readings/0 at 17`: the same.
fn written_at(line: &str) -> (String, String, String) {
    let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
    (words[0].clone(), words[1].clone(), words[3].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exactly_once_loop_writes_each_input_once_though_it_is_killed() {
    let broker = Devbroker::start(&[]);
    examples::the_loop_is_exact(broker.bootstrap()).await;
}

#[test]
fn error_handling_tells_what_went_wrong_and_what_to_do() {
    let broker = Devbroker::start(&[
        "--no-auto-create",
        "--topic",
        "alarms",
        "--topic",
        "secret",
        "--deny-write",
        "secret",
    ]);
    let printed = run("error_handling", &broker, &["alarms", "secret", "missing"]);
    let wanted = [
        "option: unknown option compression.typ: did you mean compression.type?",
        "1 brokers",
        "written: alarms/0 at 0",
        "not taken, put aside: failed to send a record to alarms: the record takes up to",
        "not delivered, put aside: failed to deliver a record to secret/0: TOPIC_AUTHORIZATION_FAILED",
        "not taken, put aside: failed to send a record to secret: the record takes up to",
        "not taken, try later: failed to send a record to missing: the topic is not known (yet)",
        "not taken, put aside: failed to send a record to missing: the record takes up to",
        "failed: failed to fetch alarms/0 at 1000000: OFFSET_OUT_OF_RANGE",
        "read: alarms/0 at 0",
    ];
    assert_eq!(printed.len(), wanted.len(), "{printed:#?}");
    for (line, beginning) in printed.iter().zip(wanted) {
        assert!(
            line.starts_with(beginning),
            "{line}\ninstead of\n{beginning}"
        );
    }
    assert!(
        printed[4].contains("grant this user Write on the topic"),
        "{}",
        printed[4]
    );
}

#[test]
fn error_handling_names_an_address_where_nobody_is() {
    let nobody = format!("127.0.0.1:{}", tidewatch_it::ports::free_port());
    let mut command = Command::new(path("examples").join("error_handling"));
    command.args([&nobody, "alarms"]);
    let mut process = Process::start("error_handling", command);
    assert_eq!(process.wait(PATIENCE).code(), Some(1));
    let stderr = process.stderr();
    assert!(stderr.contains("failed for now: "), "{stderr}");
    assert!(stderr.contains(&nobody), "{stderr}");
}
