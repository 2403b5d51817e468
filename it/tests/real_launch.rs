//! The launchers themselves, against a real Kafka and its own tools.

use tidewatch_it::kafka::{Kafka, Version};

const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";

#[test]
fn what_the_console_producer_writes_the_console_consumer_reads_before_and_after_a_kill() {
    let mut kafka = Kafka::single(Version::V4_3, &[]);
    kafka.create_topic("t", 1, &[]);
    let keyed = [
        "--topic",
        "t",
        "--reader-property",
        "parse.key=true",
        "--reader-property",
        "key.separator==",
    ];
    kafka.run_tool(PRODUCER, &keyed, "a=1\nb=2\n");
    kafka.kill(1);
    kafka.restart(1);
    kafka.run_tool(PRODUCER, &keyed, "c=3\n");
    let lines = kafka.console_consume("t", "read_committed");
    let ends: Vec<_> = lines
        .iter()
        .map(|line| line.rsplit_once("NO_HEADERS").unwrap().1)
        .collect();
    assert_eq!(ends, ["\ta\t1", "\tb\t2", "\tc\t3"]);
}
