//! The whole line on a real Kafka: collector, topics, aggregator, with Kafka's own tools as the other
//! side.

use std::time::Duration;
use tidewatch_it::kafka::{Kafka, Version, skips_on_foreign_cluster, unique};
use tidewatch_it::suite::Sides;
use tidewatch_it::suite::pipeline::{
    self, TOPICS, assert_whole, assert_windows, await_rows, await_samples, collector,
    ensure_sample_topics, printed, terminate,
};

#[tokio::test(flavor = "current_thread")]
async fn thirty_seconds_of_samples_reach_javas_consumer_without_a_gap() {
    let kafka = Kafka::at_hand();
    let sides = Sides::of(&kafka);
    let (client, host) = (sides.client(&[]), unique("web"));
    ensure_sample_topics(&client).await;
    let mut collector = collector(sides, &host, "2s");
    // 15 ticks of two seconds; awaited, not slept.
    await_samples(&client, &host, 15).await;
    terminate(&mut collector);
    for topic in TOPICS {
        let records = printed(kafka.tools(), topic, &host);
        assert!(records.len() >= 15, "{topic}: {} records", records.len());
        assert_whole(&records);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn records_of_javas_producer_without_headers_give_the_mean_computed_by_hand() {
    pipeline::javas_records_give_the_mean_by_hand(Sides::of(&Kafka::at_hand())).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_killed_broker_costs_no_sample_and_doubles_none() {
    if skips_on_foreign_cluster("a killed broker costs no sample: it kills brokers") {
        return;
    }
    let outage = Duration::from_secs(20);
    let mut kafka = Kafka::single(Version::V4_3, &[]);
    ensure_sample_topics(&Sides::of(&kafka).client(&[])).await;
    let mut collector = collector(Sides::of(&kafka), "web-1", "500ms");
    let mut aggregator = pipeline::aggregator(Sides::of(&kafka), "survivor");
    await_rows(&aggregator, 0, 1, "web-1");
    for _ in 0..3 {
        kafka.kill(1);
        collector.assert_runs_for(outage);
        kafka.restart(1);
        // Rows of after the restart: what was printed before it does not count.
        await_rows(&aggregator, aggregator.lines().len(), 1, "web-1");
    }
    terminate(&mut collector);
    terminate(&mut aggregator);
    for topic in TOPICS {
        let records = printed(kafka.tools(), topic, "web-1");
        assert!(records.len() > 120, "{topic}: {} records", records.len());
        assert_whole(&records);
        assert_windows(&printed(
            kafka.tools(),
            &format!("{topic}-agg-result"),
            "web-1",
        ));
    }
}
