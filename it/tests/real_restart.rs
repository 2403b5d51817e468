//! An aggregator that ends within windows, by itself or by force, while samples go on coming, and is
//! started again: no window is cut, and none that was settled comes again.

use std::collections::BTreeSet;
use tidewatch_client::{Client, TopicPartition};
use tidewatch_it::kafka::{Kafka, skips_on_foreign_cluster, unique};
use tidewatch_it::programs::PATIENCE;
use tidewatch_it::suite::Sides;
use tidewatch_it::suite::pipeline::{
    Printed, TOPICS, aggregator, assert_whole, assert_windows, await_rows, await_samples,
    collector, ensure_sample_topics, printed, terminate,
};

#[tokio::test(flavor = "current_thread")]
async fn an_aggregator_started_again_cuts_no_window_and_repeats_none_that_was_committed() {
    // Hosts that fell silent there long ago would hold back what is committed.
    if skips_on_foreign_cluster("restarts of the aggregator: they want the topics for themselves") {
        return;
    }
    let kafka = Kafka::at_hand();
    let sides = Sides::of(&kafka);
    let (host, group) = (unique("web"), unique("restarts"));
    let client = sides.client(&[("group.id", &group)]);
    ensure_sample_topics(&client).await;
    let mut collector = collector(sides, &host, "500ms");

    let mut ends = Vec::new();
    for signal in ["TERM", "KILL"] {
        let mut aggregator = aggregator(sides, &group);
        // Windows of each topic are out, and a sample of the next has come.
        await_rows(&aggregator, 0, 4, &host);
        await_samples(&client, &host, 1).await;
        aggregator.signal(signal);
        let status = aggregator.wait(PATIENCE);
        assert_eq!(
            status.success(),
            signal == "TERM",
            "{}",
            aggregator.stderr()
        );
        for topic in TOPICS {
            ends.push(End::of(&client, topic, signal).await);
        }
        // Whole windows pass while nobody aggregates.
        await_samples(&client, &host, 8).await;
    }
    let mut last = aggregator(sides, &group);
    await_rows(&last, 0, 8, &host);
    terminate(&mut collector);
    terminate(&mut last);

    for topic in TOPICS {
        let samples = printed(kafka.tools(), topic, &host);
        let results = printed(kafka.tools(), &format!("{topic}-agg-result"), &host);
        assert_whole(&samples);
        assert_windows(&results);
        for end in ends.iter().filter(|end| end.topic == topic) {
            end.assert_not_repeated(&samples, &results);
        }
    }
}

/// What stood in Kafka when an aggregator had ended: an offset for each partition of the topic.
struct End {
    topic: &'static str,
    signal: &'static str,
    /// The oldest sample that an open window still needs.
    committed: Vec<u64>,
    /// Where the results ended.
    results: Vec<u64>,
}

impl End {
    async fn of(client: &Client, topic: &'static str, signal: &'static str) -> Self {
        let consumer = client.consumer().await.unwrap();
        let cluster = client.cluster(&[topic]).await.unwrap();
        let count = cluster.partition_count(topic).expect("the topic is there");
        let partitions = |topic: &str| -> Vec<_> {
            let all = 0..count as i32;
            all.map(|partition| TopicPartition::new(topic, partition))
                .collect()
        };
        let committed = consumer.committed(&partitions(topic)).await.unwrap();
        let results = partitions(&format!("{topic}-agg-result"));
        let results = consumer.end_offsets(&results).await.unwrap();
        Self {
            topic,
            signal,
            committed: committed
                .into_iter()
                .map(|(_, offset)| offset.map_or(0, |found| found.offset as u64))
                .collect(),
            results: results.into_iter().map(|(_, end)| end as u64).collect(),
        }
    }

    /// A window before the one of the oldest sample still needed was settled; after a clean end all
    /// that had come out was.
    fn assert_not_repeated(&self, samples: &[Printed], results: &[Printed]) {
        let partition = &samples[0].partition["Partition:".len()..];
        let partition: usize = partition.parse().unwrap();
        let needed = samples
            .iter()
            .find(|sample| sample.offset >= self.committed[partition])
            .expect("samples went on coming");
        let settled = |result: &&Printed| result.window_ms().1 <= needed.timestamp_ms;
        let (before, after): (Vec<_>, Vec<_>) = results
            .iter()
            .partition(|result| result.offset < self.results[partition]);
        let what = format!("{} after {}", self.topic, self.signal);
        assert!(before.iter().any(settled), "{what}: nothing was settled");
        let again = after.iter().find(|result| settled(result));
        assert_eq!(again, None, "{what}: settled, and there again");
        if self.signal == "TERM" {
            let windows = |results: &[&Printed]| -> BTreeSet<_> {
                results.iter().map(|result| result.window_ms()).collect()
            };
            let both = &windows(&before) & &windows(&after);
            assert!(both.is_empty(), "{what}: twice, {both:?}");
        }
    }
}
