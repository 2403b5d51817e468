//! The embedded broker satisfies not only us but Kafka's own tools, of the newest release too.

use std::collections::BTreeSet;
use tidewatch_it::kafka::{Tools, Version};
use tidewatch_it::ports::free_port;
use tidewatch_it::programs::Devbroker;
use tidewatch_it::proxy::Proxy;
use tidewatch_protocol::messages::ApiKey;

const READER: [&str; 4] = [
    "parse.key=true",
    "key.separator==",
    "parse.headers=true",
    "headers.delimiter=|",
];
const INPUT: &str = "kind:cpu,core:0|host-a=12.5\nkind:mem|host-b=80\nkind:cpu|host-a=\n";

/// A topic made, listed, described, written to with `codec`, read and measured. Returns the versions
/// of ApiVersions that the tools asked for.
fn use_the_tools(version: Version, codec: &str) -> BTreeSet<i16> {
    let port = free_port();
    let advertised = format!("127.0.0.1:{port}");
    let broker = Devbroker::start(&["--no-auto-create", "--advertise", &advertised]);
    let proxy = Proxy::start(port, broker.bootstrap(), None);
    let tools = Tools::new(version, proxy.address());

    tools.create_topic("samples", 1, &["max.message.bytes=100000"]);
    let (listed, complaint) = tools.topic_command(&["--list"]);
    assert_eq!(listed, "samples", "{complaint}");
    let (described, complaint) = tools.topic_command(&["--describe", "--topic", "samples"]);
    for part in ["PartitionCount: 1", "max.message.bytes=100000", "Leader: 1"] {
        assert!(described.contains(part), "{part}: {described}{complaint}");
    }

    tools.console_produce("samples", &READER, &["--compression-codec", codec], INPUT);
    assert_eq!(tools.end_offsets("samples"), [3]);
    let lines = tools.console_consumer(&[
        "--topic",
        "samples",
        "--partition",
        "0",
        "--offset",
        "earliest",
        "--max-messages",
        "3",
        "--timeout-ms",
        "60000",
    ]);
    let after_the_time = |line: &String| {
        let (time, rest) = line.split_once('\t').expect("fields between tabs");
        assert!(time.starts_with("CreateTime:"), "{line}");
        rest.to_owned()
    };
    let lines: Vec<_> = lines.iter().map(after_the_time).collect();
    assert_eq!(
        lines,
        [
            "Partition:0\tOffset:0\tkind:cpu,core:0\thost-a\t12.5",
            "Partition:0\tOffset:1\tkind:mem\thost-b\t80",
            "Partition:0\tOffset:2\tkind:cpu\thost-a\t",
        ]
    );
    proxy.asked()[&(ApiKey::ApiVersions as i16)].clone()
}

#[test]
fn the_tools_of_4_3_create_list_describe_write_read_and_measure_a_topic() {
    use_the_tools(Version::V4_3, "zstd");
}

#[test]
fn line_36_the_tools_of_4_4_ask_for_api_versions_5_and_go_on_with_an_older_one() {
    let asked = use_the_tools(Version::V4_4, "lz4");
    assert!(asked.contains(&5) && asked.contains(&4), "{asked:?}");
}
