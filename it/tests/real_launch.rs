//! The launchers themselves, against a real Kafka and its own tools.

use tidewatch_it::kafka::{Kafka, Version, skips_on_foreign_cluster};

#[test]
fn what_the_console_producer_writes_the_console_consumer_reads_before_and_after_a_kill() {
    if skips_on_foreign_cluster("the launchers: they start brokers of their own") {
        return;
    }
    let mut kafka = Kafka::single(Version::V4_3, &[]);
    let write = |kafka: &Kafka, input| {
        let keyed = ["parse.key=true", "key.separator=="];
        kafka.tools().console_produce("t", &keyed, &[], input);
    };
    kafka.tools().create_topic("t", 1, &[]);
    write(&kafka, "a=1\nb=2\n");
    kafka.kill(1);
    kafka.restart(1);
    write(&kafka, "c=3\n");
    let lines = kafka.tools().console_consume("t", "read_committed");
    let ends: Vec<_> = lines
        .iter()
        .map(|line| line.rsplit_once("NO_HEADERS").unwrap().1)
        .collect();
    assert_eq!(ends, ["\ta\t1", "\tb\t2", "\tc\t3"]);
}
