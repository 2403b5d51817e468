//! The embedded broker as kcat sees it, which is librdkafka underneath: the client that most programs
//! outside of Java use.

use std::process::Command;
use tidewatch_client::options::Options;
use tidewatch_client::{Client, ProducerRecord, TopicPartition};
use tidewatch_it::process::Process;
use tidewatch_it::programs::{Devbroker, PATIENCE};
use tidewatch_it::suite::reading::read_all;

fn start(broker: &Devbroker, arguments: &[&str]) -> Process {
    let mut command = Command::new("kcat");
    command.args(["-b", broker.bootstrap()]).args(arguments);
    Process::start("kcat", command)
}

/// Runs kcat with `input`, to a good end, and returns the lines of its standard output.
#[track_caller]
fn kcat(broker: &Devbroker, arguments: &[&str], input: &str) -> Vec<String> {
    let mut process = start(broker, arguments);
    process.write(input);
    process.close_stdin();
    let status = process.wait(PATIENCE);
    let complaint = process.stderr();
    assert!(status.success(), "kcat {arguments:?}: {complaint}");
    assert!(
        !complaint.contains("ERROR"),
        "kcat {arguments:?}: {complaint}"
    );
    process.stdout().lines().map(str::to_owned).collect()
}

/// Everything that the topic holds, as `FORMAT` has it, in order.
#[track_caller]
fn consume(broker: &Devbroker, topic: &str, more: &[&str]) -> Vec<String> {
    let arguments = [
        "-C",
        "-t",
        topic,
        "-o",
        "beginning",
        "-e",
        "-q",
        "-f",
        FORMAT,
    ];
    let mut lines = kcat(broker, &[&arguments, more].concat(), "");
    lines.sort();
    lines
}

/// Partition, offset, key, value, headers.
const FORMAT: &str = "%p %o %k=%s %h\\n";
const CODECS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];

fn client(broker: &Devbroker, settings: &[(&str, &str)]) -> Client {
    let mut options = Options::default();
    options
        .set("bootstrap.servers", broker.bootstrap())
        .unwrap();
    for (name, value) in settings {
        options.set(name, value).unwrap();
    }
    Client::spawn(options).unwrap()
}

#[tokio::test]
async fn kcat_and_ours_read_what_the_other_wrote_with_every_codec() {
    let broker = Devbroker::start(&["--topic", "kcats", "--topic", "ours"]);
    let (mut kcats, mut ours) = (Vec::new(), Vec::new());
    for codec in CODECS {
        let input: String = (0..200)
            .map(|number| format!("{codec}={number}\n"))
            .collect();
        let arguments = [
            "-P", "-t", "kcats", "-K", "=", "-z", codec, "-H", "kind=cpu",
        ];
        kcat(&broker, &arguments, &input);
        let client = client(&broker, &[("compression.type", codec)]);
        let producer = client.producer().await.unwrap();
        for number in 0..200 {
            let value = number.to_string();
            let record = ProducerRecord::to("ours").key(codec).value(&value);
            drop(producer.send(record.header("kind", "cpu")).await.unwrap());
            for lines in [&mut kcats, &mut ours] {
                let offset = lines.len();
                lines.push(format!("0 {offset} {codec}={value} kind=cpu"));
            }
        }
        producer.flush().await.unwrap();
    }
    kcats.sort();
    ours.sort();
    assert_eq!(consume(&broker, "kcats", &[]), kcats);
    assert_eq!(consume(&broker, "ours", &[]), ours);
    let rows = read_all(&client(&broker, &[]), "kcats", 1).await;
    let read = rows
        .iter()
        .map(|row| format!("0 {} {}={} kind=cpu", row.offset, row.key, row.value));
    let mut read: Vec<_> = read.collect();
    read.sort();
    assert_eq!(read, kcats);
}

#[test]
fn kcat_is_told_the_brokers_the_topics_and_the_offsets() {
    let arguments = ["--nodes", "3", "--topic", "samples:2", "--topic", "other"];
    let broker = Devbroker::start(&arguments);
    let told: serde_json::Value =
        serde_json::from_str(&kcat(&broker, &["-L", "-J", "-t", "samples"], "").join("\n"))
            .unwrap();
    let brokers = told["brokers"].as_array().unwrap();
    let names: Vec<_> = brokers
        .iter()
        .map(|broker| broker["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, broker.addresses);
    assert_eq!(told["topics"].as_array().unwrap().len(), 1);
    let partitions = told["topics"][0]["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 2);
    for partition in partitions {
        assert_eq!(partition["isrs"].as_array().unwrap().len(), 3, "{told}");
    }
    let all = kcat(&broker, &["-L"], "").join("\n");
    assert!(
        all.contains("3 brokers") && all.contains("\"other\" with 1 partitions"),
        "{all}"
    );

    kcat(&broker, &["-P", "-t", "samples", "-p", "1"], "a\nb\nc\n");
    // The end, the beginning, and what is not older than 1970.
    for (time, offset) in [("-1", 3), ("-2", 0), ("1", 0)] {
        let asked = format!("samples:1:{time}");
        let answer = kcat(&broker, &["-Q", "-t", &asked], "");
        assert_eq!(answer, [format!("samples [1] offset {offset}")], "{asked}");
    }
    let answer = kcat(&broker, &["-Q", "-t", "samples:0:-1"], "");
    assert_eq!(answer, ["samples [0] offset 0"]);
}

/// The rest of a member's command line: topics come last.
const MEMBER: [&str; 5] = [
    "-X",
    "auto.offset.reset=earliest",
    "-u",
    "-f",
    "%p %o %k=%s\\n",
];

fn member<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&MEMBER, more, &["-G", "readers", "samples"]].concat()
}

fn write(broker: &Devbroker, round: &str) {
    for partition in ["0", "1", "2"] {
        let input: String = (0..50)
            .map(|number| format!("{round}={number}\n"))
            .collect();
        kcat(
            broker,
            &["-P", "-t", "samples", "-K", "=", "-p", partition],
            &input,
        );
    }
}

/// Waits until the group has committed so many of each partition.
async fn committed(client: &Client, each: i64) {
    let partitions = [0, 1, 2].map(|number| TopicPartition::new("samples", number));
    let consumer = client.consumer().await.unwrap();
    let all = async {
        loop {
            let found = consumer.committed(&partitions).await.unwrap();
            let mut offsets = found.iter().flat_map(|(_, offset)| offset);
            if offsets.clone().count() == 3 && offsets.all(|found| found.offset == each) {
                return;
            }
        }
    };
    let within = tokio::time::timeout(PATIENCE, all).await;
    within.unwrap_or_else(|_| panic!("the group has not committed {each} of each partition"));
}

#[tokio::test]
async fn kcat_members_share_a_topic_and_go_on_where_the_group_ended() {
    let broker = Devbroker::start(&["--topic", "samples:3"]);
    let client = client(&broker, &[("group.id", "readers")]);
    write(&broker, "alone");
    let mut first = start(&broker, &member(&[]));
    committed(&client, 50).await;

    // It tells on standard error what it is given.
    let mut second = start(&broker, &member(&[]));
    second.wait_for_line(PATIENCE, "assignment", |line| {
        line.stderr && line.text.contains("assigned: samples [")
    });
    write(&broker, "together");
    committed(&client, 100).await;
    for process in [&mut first, &mut second] {
        process.signal("INT");
        process.wait(PATIENCE);
    }
    let of_both = [first.stdout(), second.stdout()];
    assert!(of_both[1].contains("together="), "the second read nothing");

    write(&broker, "after");
    let after = kcat(&broker, &member(&["-c", "150"]), "");
    let mut seen: Vec<_> = of_both.iter().flat_map(|text| text.lines()).collect();
    seen.extend(after.iter().map(String::as_str));
    seen.sort_unstable();
    let mut wanted: Vec<_> = (0..3)
        .flat_map(|partition| {
            (0..150).map(move |offset| {
                let round = ["alone", "together", "after"][offset / 50];
                format!("{partition} {offset} {round}={}", offset % 50)
            })
        })
        .collect();
    wanted.sort();
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn kcat_commits_transactions_and_passes_over_aborted_ones() {
    let broker = Devbroker::start(&["--topic", "moves"]);
    let transaction = ["-P", "-t", "moves", "-X", "transactional.id=kcat"];
    kcat(&broker, &transaction, "one\ntwo\n");
    let client = client(&broker, &[]);
    let mut producer = client.transactional_producer_as("ours").await.unwrap();
    let aborted = producer.begin().await.unwrap();
    let sent = aborted
        .send(ProducerRecord::to("moves").value("never"))
        .await;
    drop(sent.unwrap());
    aborted.flush().await.unwrap();
    aborted.abort().await.unwrap();
    kcat(&broker, &transaction, "three\n");

    let values = |isolation| {
        let lines = consume(&broker, "moves", &["-X", isolation]);
        let value = |line: &String| line.split(' ').nth(2).unwrap().to_owned();
        lines.iter().map(value).collect::<Vec<_>>()
    };
    assert_eq!(
        values("isolation.level=read_committed"),
        ["=one", "=two", "=three"]
    );
    // Markers take offsets and are never shown.
    let all = ["=one", "=two", "=never", "=three"];
    assert_eq!(values("isolation.level=read_uncommitted"), all);
}
