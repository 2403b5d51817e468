//! Fetching from the replica in one's own rack, on three real brokers (KIP-392).

use std::time::Duration;
use tidewatch_client::options::Options;
use tidewatch_client::{Client, ProducerRecord, StartAt};
use tidewatch_it::kafka::{Kafka, Version, skips_on_foreign_cluster};

const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "near";

fn client(bootstrap: &str, settings: &[(&str, &str)]) -> Client {
    let mut options = Options::default();
    options.set("bootstrap.servers", bootstrap).unwrap();
    for (name, value) in settings {
        options.set(name, value).unwrap();
    }
    Client::spawn(options).unwrap()
}

/// Whether this process has a connection to a local port, as the kernel tells it.
fn is_connected_to(port: u16) -> bool {
    const ESTABLISHED: &str = "01";
    let own: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|target| {
            let target = target.to_str()?;
            let inode = target.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let sockets = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    sockets.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[2].ends_with(&remote)
            && fields[3] == ESTABLISHED
            && own.iter().any(|inode| inode == fields[9])
    })
}

#[tokio::test(flavor = "current_thread")]
async fn line_25_the_replica_in_the_same_rack_is_read_from_and_the_leader_once_that_is_gone() {
    if skips_on_foreign_cluster("the replica in one's own rack: it kills a node") {
        return;
    }
    let mut kafka = Kafka::cluster(Version::V4_3, &[]);
    let addresses: Vec<String> = kafka.bootstrap().split(',').map(str::to_owned).collect();
    let (_, near) = addresses[1].rsplit_once(':').unwrap();
    let near: u16 = near.parse().unwrap();
    let create = [
        "--create",
        "--topic",
        TOPIC,
        "--replica-assignment",
        "1:2:3",
    ];
    let (said, errors) = kafka.tools().topic_command(&create);
    assert!(said.contains("Created topic"), "{said}{errors}");

    // Only the leader is known to begin with, so whatever meets node 2 was sent there by it.
    let producer = client(&addresses[0], &[]).producer().await.unwrap();
    let settings = [("client.rack", "rack-2"), ("auto.offset.reset", "earliest")];
    let mut consumer = client(&addresses[0], &settings).consumer().await.unwrap();
    consumer
        .assign([(TOPIC, 0, StartAt::Earliest)])
        .await
        .unwrap();
    let mut next_offset = 0;
    let mut was_near = false;
    // Written and read until the replica has caught up and the leader names it; then until it is
    // gone and the leader is read from again.
    loop {
        let value = next_offset.to_string();
        let record = ProducerRecord::to(TOPIC).partition(0).value(&value);
        let delivery = producer.send(record).await.unwrap();
        producer.flush().await.unwrap();
        delivery.await.unwrap();
        let mut records = consumer.records();
        let read = tokio::time::timeout(PATIENCE, records.next()).await;
        let read = read.expect("a record").unwrap().unwrap();
        assert_eq!(read.record.offset, next_offset, "once and in order");
        next_offset += 1;
        assert!(next_offset < 10_000, "node 2 was never read from");
        if was_near {
            break;
        }
        if is_connected_to(near) {
            was_near = true;
            kafka.kill(2);
        }
    }
    assert!(!is_connected_to(near));
}
