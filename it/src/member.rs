//! A member of ours in a classic group that tells what it does as Java's VerifiableConsumer does: one
//! JSON object per event, with the same names. It tells one thing more: each time that it leads.

use serde_json::{Value, json};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use tidewatch_client::assignor::{
    Assignor, GroupMember, PartitionCounts, RebalanceProtocol, Strategy,
};
use tidewatch_client::options::Options;
use tidewatch_client::{Assignment, Consumer, Event, Rebalance, TopicPartition};

/// Takes up what a member tells.
pub type Tell = Arc<dyn Fn(Value) + Send + Sync>;

/// The options of a member of `group` that has the assignor `strategy`, commits by itself, and tells
/// by `tell` when it leads.
///
/// # Panics
/// If there is no such assignor.
pub fn options(bootstrap: &str, group: &str, strategy: &str, tell: &Tell) -> Options {
    let mut options = Options::default();
    for (name, value) in [
        ("bootstrap.servers", bootstrap),
        ("client.id", "ours"),
        ("group.id", group),
        ("auto.offset.reset", "earliest"),
        ("enable.auto.commit", "false"),
        ("heartbeat.interval.ms", "500"),
    ] {
        options.set(name, value).unwrap();
    }
    let known = Strategy::named(strategy).unwrap();
    let tell = Arc::clone(tell);
    options.consumer.assignors = vec![Strategy::custom(move || Leading {
        assignor: known.make(),
        tell: Arc::clone(&tell),
    })];
    options
}

/// Reads and commits until `stop`, then closes.
///
/// # Panics
/// If anything fails, or if partitions are lost without having been asked for.
pub async fn run(mut consumer: Consumer, tell: Tell, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    loop {
        let event = tokio::select! {
            event = consumer.next() => event.unwrap(),
            () = &mut stop => break,
        };
        match event {
            Event::Records(records) => {
                for record in records {
                    let record = record.unwrap();
                    let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    tell(json!({"name": "record_data", "value": value}));
                }
                commit(&consumer, &tell).await;
            }
            Event::Rebalance(Rebalance::Revoking(revoking)) => {
                commit(&consumer, &tell).await;
                let partitions = listed(revoking.partitions());
                tell(json!({"name": "partitions_revoked", "partitions": partitions}));
            }
            Event::Rebalance(Rebalance::Assigned(partitions)) => {
                let partitions = listed(&partitions);
                tell(json!({"name": "partitions_assigned", "partitions": partitions}));
            }
            Event::Rebalance(Rebalance::Lost(partitions)) => {
                panic!("{partitions:?} lost without having been away")
            }
            Event::CaughtUp(_) => {}
        }
    }
    consumer.close().await.unwrap();
}

async fn commit(consumer: &Consumer, tell: &Tell) {
    let statuses = consumer.statuses();
    consumer.commit_positions().await.unwrap();
    let positions = statuses.into_iter().filter_map(|(of, status)| {
        let offset = status.position?;
        Some(json!({"topic": &*of.topic, "partition": of.partition, "offset": offset}))
    });
    let offsets: Vec<Value> = positions.collect();
    tell(json!({"name": "offsets_committed", "success": true, "offsets": offsets}));
}

fn listed(partitions: &[TopicPartition]) -> Vec<Value> {
    let partitions = partitions.iter();
    partitions
        .map(|of| json!({"topic": &*of.topic, "partition": of.partition}))
        .collect()
}

/// An assignor that tells when it is asked: only a leader is.
struct Leading {
    assignor: Box<dyn Assignor>,
    tell: Tell,
}

impl fmt::Debug for Leading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.assignor.fmt(f)
    }
}

impl Assignor for Leading {
    fn name(&self) -> &str {
        self.assignor.name()
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        self.assignor.protocols()
    }

    fn user_data(&self, topics: &[Arc<str>]) -> Option<bytes::Bytes> {
        self.assignor.user_data(topics)
    }

    fn assign(
        &self,
        partitions: &PartitionCounts,
        members: &[GroupMember],
    ) -> Vec<(String, Assignment)> {
        (self.tell)(json!({"name": "led", "members": members.len()}));
        self.assignor.assign(partitions, members)
    }

    fn handle_assignment(&mut self, assignment: &Assignment, generation: i32) {
        self.assignor.handle_assignment(assignment, generation);
    }
}
