//! The client's examples, as processes.

use super::reading::read_all;
use crate::process::Process;
use crate::programs::{PATIENCE, path};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;
use tidewatch_client::options::Options;
use tidewatch_client::{Client, NewTopic, ProducerRecord};

/// How often a worker is killed.
const KILLS: usize = 16;

/// Starts an example, which finds its cluster at `bootstrap`.
///
/// # Panics
/// If it has not been built.
pub fn start(name: &str, bootstrap: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new(path("examples").join(name));
    command.arg(bootstrap).args(arguments);
    Process::start(name, command)
}

/// Waits for the `count`th line on standard output.
///
/// # Panics
/// If it does not come.
pub fn wait_for_records(process: &Process, count: usize) {
    let mut from = 0;
    for _ in 0..count {
        let (at, _) = process.wait_for_line_from(from, PATIENCE, "record", |line| !line.stderr);
        from = at + 1;
    }
}

/// Kills one worker after the other and begins it anew under its name. Each has done something, and then
/// some more acknowledgements go by, so that it dies at any moment of its work.
fn kill_again_and_again(
    mut workers: [Process; 2],
    acks: &Receiver<()>,
    begin: impl Fn(usize) -> Process,
) -> [Process; 2] {
    for kill in 0..KILLS {
        let victim = kill % 2;
        wait_for_records(&workers[victim], 1);
        acks.try_iter().for_each(drop);
        for _ in 0..1 + kill {
            acks.recv().expect("records are being sent");
        }
        workers[victim].signal("KILL");
        workers[victim].wait(PATIENCE);
        workers[victim] = begin(victim);
    }
    // Each goes on after its last death.
    for worker in &workers {
        wait_for_records(worker, 1);
    }
    workers
}

/// Two workers of `exactly_once_loop` on the cluster at `bootstrap`, killed and begun anew while they work:
/// readers of committed data find each input's output once.
///
/// # Panics
/// If one is missing or came twice.
pub async fn the_loop_is_exact(bootstrap: &str) {
    let mut options = Options::default();
    for (name, value) in [
        ("bootstrap.servers", bootstrap),
        ("isolation.level", "read_committed"),
    ] {
        options.set(name, value).unwrap();
    }
    let client = Client::spawn(options).unwrap();
    let topics = vec![NewTopic::new("readings", 3), NewTopic::new("doubled", 2)];
    let created = client.create_topics(topics).await.unwrap();
    assert!(created.iter().all(|(_, result)| result.is_ok()));

    let at = bootstrap.to_owned();
    let begin = move |number: usize| {
        let name = ["worker-1", "worker-2"][number];
        start("exactly_once_loop", &at, &["readings", "doubled", name])
    };
    let workers = [begin(0), begin(1)];
    let (acked, acks) = channel();
    let killing = std::thread::spawn(move || kill_again_and_again(workers, &acks, begin));
    let producer = client.producer().await.unwrap();
    let mut wanted = BTreeMap::new();
    while !killing.is_finished() {
        let (key, value) = (
            format!("reading-{}", wanted.len()),
            wanted.len().to_string(),
        );
        let record = ProducerRecord::to("readings").key(&key).value(&value);
        let delivery = producer.send(record).await.unwrap();
        // Many batches, hence many transactions.
        producer.flush().await.unwrap();
        delivery.await.unwrap();
        let _ = acked.send(());
        wanted.insert(key, (2 * wanted.len()).to_string());
    }
    let mut workers = killing.join().unwrap();

    let deadline = Instant::now() + PATIENCE;
    while read_all(&client, "doubled", 2).await.len() < wanted.len() {
        assert!(Instant::now() < deadline, "some outputs never came");
    }
    for worker in &mut workers {
        worker.signal("INT");
        assert!(worker.wait(PATIENCE).success(), "{}", worker.stderr());
    }
    let doubled = read_all(&client, "doubled", 2).await;
    println!("{} records, {KILLS} kills", doubled.len());
    assert_eq!(doubled.len(), wanted.len(), "something came twice");
    let doubled = doubled.into_iter().map(|row| (row.key, row.value));
    assert_eq!(doubled.collect::<BTreeMap<_, _>>(), wanted);
}
