//! What an operator sees when something is wrong: one clear line (what, where, why, what to try) and
//! the right exit code.

use std::io::{Read, Write};
use std::net::TcpListener;
use tidewatch_client::options::Options;
use tidewatch_client::{Client, NewTopic};
use tidewatch_it::ports::free_port;
use tidewatch_it::process::Process;
use tidewatch_it::programs::{Devbroker, PATIENCE, command};

const WRONG_USAGE: i32 = 2;
const FAILED: i32 = 1;

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run(program: &str, arguments: &[&str]) -> Ended {
    let mut command = command(program);
    command.args(arguments);
    let mut process = Process::start(program, command);
    process.close_stdin();
    let status = process.wait(PATIENCE);
    Ended {
        code: status.code().expect("it ended by itself"),
        stdout: process.stdout(),
        stderr: process.stderr(),
    }
}

/// The last line on standard error holds all of `parts`; nothing panicked.
#[track_caller]
fn assert_one_clear_line(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(
        ended.code, code,
        "stdout: {}\nstderr: {}",
        ended.stdout, ended.stderr
    );
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    let last = ended.stderr.lines().last().unwrap_or_default();
    for part in parts {
        assert!(
            last.contains(part),
            "the last line does not say {part:?}: {}",
            ended.stderr
        );
    }
}

/// Accepts connections and answers whatever comes first with `answer`, for as long as it lives.
fn answering(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut first = [0; 64];
            if stream.read(&mut first).is_ok() {
                let _ = stream.write_all(answer);
            }
        }
    });
    address
}

/// The aggregator against `bootstrap`, made to give up soon.
fn aggregate(bootstrap: &str, more: &[&str]) -> Ended {
    let mut arguments = vec![
        "-b",
        bootstrap,
        "--available-now",
        "-X",
        "default.api.timeout.ms=2000",
    ];
    arguments.extend(more);
    run("tidewatch-aggregator", &arguments)
}

#[test]
fn a_wrong_address_is_named() {
    let nobody = format!("127.0.0.1:{}", free_port());
    assert_one_clear_line(
        &aggregate(&nobody, &[]),
        FAILED,
        &[&nobody, "refused", "within 2000 ms"],
    );
}

#[test]
fn a_host_that_does_not_resolve_is_named() {
    assert_one_clear_line(
        &aggregate("kafka.invalid:9092", &[]),
        FAILED,
        &["kafka.invalid"],
    );
}

#[test]
fn an_unreachable_advertised_address_is_told_from_the_bootstrap_address() {
    let advertised = format!("127.0.0.1:{}", free_port());
    let broker = Devbroker::start(&[
        "--advertise",
        &advertised,
        "--topic",
        "cpu-monitor:1",
        "--topic",
        "mem-monitor:1",
    ]);
    let ended = aggregate(broker.bootstrap(), &[]);
    assert_one_clear_line(
        &ended,
        FAILED,
        &[&advertised, broker.bootstrap(), "advertised.listeners"],
    );
}

#[test]
fn a_port_that_speaks_http_is_recognised() {
    let address = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_one_clear_line(&aggregate(&address, &[]), FAILED, &[&address, "HTTP"]);
}

#[test]
fn a_port_that_speaks_tls_is_recognised() {
    // A TLS alert: handshake failure.
    let address = answering(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28]);
    assert_one_clear_line(&aggregate(&address, &[]), FAILED, &[&address, "TLS"]);
}

#[test]
fn an_unknown_flag_is_wrong_usage() {
    for program in [
        "tidewatch-collector",
        "tidewatch-aggregator",
        "tidewatch-devbroker",
    ] {
        let ended = run(program, &["--intervall", "2s"]);
        assert_eq!(ended.code, WRONG_USAGE, "{}", ended.stderr);
        assert!(ended.stderr.contains("--intervall"), "{}", ended.stderr);
    }
}

#[test]
fn an_unknown_property_names_the_nearest_known_one() {
    for program in ["tidewatch-collector", "tidewatch-aggregator"] {
        let ended = run(
            program,
            &[
                "-b",
                "127.0.0.1:1",
                "-X",
                "compresion.type=zstd",
                "--check-config",
            ],
        );
        assert_one_clear_line(
            &ended,
            WRONG_USAGE,
            &["compresion.type", "compression.type"],
        );
    }
}

#[test]
fn a_property_that_only_java_has_is_refused_with_what_to_do_instead() {
    for program in ["tidewatch-collector", "tidewatch-aggregator"] {
        let property = "ssl.key.password=hunter2";
        let ended = run(
            program,
            &["-b", "127.0.0.1:1", "-X", property, "--check-config"],
        );
        assert_one_clear_line(&ended, WRONG_USAGE, &["ssl.key.password", "PKCS#8"]);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
}

#[test]
fn a_property_that_only_java_has_and_that_does_no_harm_is_warned_of() {
    let broker = Devbroker::start(&["--topic", "cpu-monitor:1", "--topic", "mem-monitor:1"]);
    let ended = aggregate(broker.bootstrap(), &["-X", "receive.buffer.bytes=65536"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let warned = ended.stderr.lines().filter(|line| line.contains("WARN"));
    let warned: Vec<_> = warned.collect();
    assert_eq!(warned.len(), 1, "{}", ended.stderr);
    assert!(
        warned[0].contains("receive.buffer.bytes is ignored: the kernel"),
        "{warned:?}"
    );
}

#[test]
fn an_unknown_key_in_the_file_names_the_file_and_the_nearest_known_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    std::fs::write(
        &file,
        "intervall = \"2s\"\n\n[kafka]\n\"bootstrap.servers\" = \"127.0.0.1:1\"\n",
    )
    .unwrap();
    let ended = run(
        "tidewatch-collector",
        &["--config", file.to_str().unwrap(), "--check-config"],
    );
    assert_one_clear_line(
        &ended,
        WRONG_USAGE,
        &["agent.toml", "intervall", "interval"],
    );
}

#[test]
fn a_configuration_that_is_right_is_printed_and_nothing_is_done() {
    let ended = run(
        "tidewatch-collector",
        &["-b", "127.0.0.1:1", "-X", "linger.ms=7", "--check-config"],
    );
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stdout.contains("linger.ms") && ended.stdout.contains('7'),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_topic_that_may_not_be_written_ends_the_aggregator_with_its_name() {
    let broker = Devbroker::start(&[
        "--topic",
        "cpu-monitor:1",
        "--topic",
        "mem-monitor:1",
        "--topic",
        "cpu-monitor-agg-result:1",
        "--deny-write",
        "cpu-monitor-agg-result",
    ]);
    let mut collector = command("tidewatch-collector");
    collector.args(["web-1", "--interval", "200ms", "-b", broker.bootstrap()]);
    let _collector = Process::start("tidewatch-collector", collector);
    let mut aggregator = command("tidewatch-aggregator");
    aggregator.args([
        "-b",
        broker.bootstrap(),
        "--window",
        "400ms",
        "--delay",
        "0s",
    ]);
    let mut aggregator = Process::start("tidewatch-aggregator", aggregator);
    let status = aggregator.wait(PATIENCE);
    let ended = Ended {
        code: status.code().unwrap(),
        stdout: aggregator.stdout(),
        stderr: aggregator.stderr(),
    };
    assert_one_clear_line(
        &ended,
        FAILED,
        &["cpu-monitor-agg-result", "TOPIC_AUTHORIZATION_FAILED"],
    );
}

#[test]
fn a_record_over_the_limit_is_said_with_the_limits_name() {
    let broker = Devbroker::start(&[
        "--topic",
        "cpu-monitor:1",
        "--topic",
        "mem-monitor:1",
        "--message-max-bytes",
        "60",
    ]);
    let mut collector = command("tidewatch-collector");
    collector.args(["web-1", "--interval", "200ms", "-b", broker.bootstrap()]);
    let collector = Process::start("tidewatch-collector", collector);
    let line = collector.wait_for_line(PATIENCE, "line about the limit", |l| {
        l.stderr && l.text.contains("MESSAGE_TOO_LARGE")
    });
    assert!(
        line.contains("message.max.bytes") || line.contains("max.message.bytes"),
        "{line}"
    );
    assert!(
        line.contains("cpu-monitor") || line.contains("mem-monitor"),
        "{line}"
    );
}

#[test]
fn a_topic_that_is_not_there_is_named_and_work_begins_once_it_is() {
    let broker = Devbroker::start(&["--no-auto-create"]);
    let mut collector = start(
        "tidewatch-collector",
        &broker,
        &["web-1", "--interval=200ms"],
    );
    let windows = ["--window=400ms", "--delay=0s"];
    let mut aggregator = start("tidewatch-aggregator", &broker, &windows);
    for process in [&collector, &aggregator] {
        process.wait_for_line(PATIENCE, "line about the topic", |line| {
            line.stderr
                && line
                    .text
                    .contains("the topic cpu-monitor does not exist: create it")
        });
    }

    create_topics(&broker, &["cpu-monitor", "mem-monitor"]);

    aggregator.wait_for_line(PATIENCE, "row of the collector's host", |line| {
        !line.stderr && line.text.contains("web-1")
    });
    for process in [&mut aggregator, &mut collector] {
        process.signal("TERM");
        assert!(process.wait(PATIENCE).success(), "{}", process.stderr());
    }
}

#[test]
fn a_job_that_waits_for_a_topic_ends_when_asked_to() {
    let broker = Devbroker::start(&["--no-auto-create"]);
    for query in ["--running", "--raw"] {
        let mut aggregator = start("tidewatch-aggregator", &broker, &[query]);
        aggregator.wait_for_line(PATIENCE, "line about the topic", |line| {
            line.text.contains("waiting for it")
        });
        aggregator.signal("INT");
        assert!(
            aggregator.wait(PATIENCE).success(),
            "{}",
            aggregator.stderr()
        );
    }
}

#[test]
fn what_is_there_now_cannot_be_read_from_a_topic_that_is_not() {
    let broker = Devbroker::start(&["--no-auto-create"]);
    let ended = run(
        "tidewatch-aggregator",
        &["-b", broker.bootstrap(), "--available-now"],
    );
    assert_one_clear_line(&ended, FAILED, &["cpu-monitor does not exist", "--topic"]);
}

fn start(program: &str, broker: &Devbroker, arguments: &[&str]) -> Process {
    let mut command = command(program);
    command.args(["-b", broker.bootstrap()]).args(arguments);
    Process::start(program, command)
}

fn create_topics(broker: &Devbroker, names: &[&str]) {
    let mut options = Options::default();
    options
        .set("bootstrap.servers", broker.bootstrap())
        .unwrap();
    let client = Client::spawn(options).unwrap();
    let topics = names.iter().map(|name| NewTopic::new(name, 1)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for (_, created) in runtime.block_on(client.create_topics(topics)).unwrap() {
        created.unwrap();
    }
}
