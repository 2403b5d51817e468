//! What a client costs that has nothing to do, seen from outside of its process: memory over the
//! smallest tokio program's, wake-ups beyond those that Kafka asks for, and nothing once it is dropped.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tidewatch_it::process::Process;
use tidewatch_it::programs::{Devbroker, PATIENCE, path};

const MAX_ALLOCATED_KIB: u64 = 2 << 10;
/// How long wake-ups are counted, and how often Kafka asks for one: a heartbeat and a long poll each.
const WINDOW: Duration = Duration::from_secs(30);
const INTERVAL_S: u64 = 10;
/// A wait of 10 s goes down tokio's timer wheel in two steps or three; then comes the answer. More
/// than three on average is something else.
const WAKE_UPS_PER_WAIT: u64 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

fn start(program: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new(path(program));
    command.args(arguments);
    let process = Process::start(program, command);
    process.wait_for_line(PATIENCE, "hello", |line| line.text == "hello");
    process
}

/// A client on the devbroker, with a producer and a consumer that is a member of a group.
fn start_client(devbroker: &Devbroker) -> Process {
    let interval_ms = INTERVAL_S * 1000;
    start(
        "idle-client",
        &[
            "idle",
            &format!("bootstrap.servers={}", devbroker.bootstrap()),
            "group.id=idle",
            "auto.offset.reset=earliest",
            &format!("heartbeat.interval.ms={interval_ms}"),
            &format!("fetch.max.wait.ms={interval_ms}"),
            // It would be seen if it ran for nothing.
            "auto.commit.interval.ms=500",
        ],
    )
}

fn tell(process: &mut Process, command: &str, answer: &str) {
    process.write(&format!("{command}\n"));
    process.wait_for_line(PATIENCE, answer, |line| line.text == answer);
}

/// The numbers of a file like `/proc/PID/status` (proc_pid_status(5)).
fn number(file: PathBuf, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_whitespace().nth(1));
    value
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .unwrap()
}

fn proc(process: &Process, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{file}", process.pid()))
}

fn entries(process: &Process, folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(proc(process, folder)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// How often its threads have slept so far.
fn wake_ups(process: &Process) -> u64 {
    let threads = entries(process, "task").into_iter();
    let of_thread = |thread: PathBuf| number(thread.join("status"), "voluntary_ctxt_switches:");
    threads.map(of_thread).sum()
}

/// What it has allocated. The code that it runs is the page cache's, and how much of it is mapped the
/// kernel's guess: that is printed, not bounded.
fn allocated_kib(process: &Process) -> u64 {
    number(proc(process, "status"), "RssAnon:")
}

#[test]
fn an_idle_client_takes_little_memory_and_sleeps_until_kafka_wants_something() {
    let devbroker = Devbroker::start(&["--topic", "idle:1"]);
    let hello = start("hello-tokio", &[]);
    let mut client = start_client(&devbroker);
    tell(&mut client, "open", "idle");
    // What it still has to tell after the last answer is not idling.
    client.assert_runs_for(Duration::from_secs(2));

    let before = wake_ups(&client);
    client.assert_runs_for(WINDOW);
    let woken = wake_ups(&client) - before;
    let resident = [&client, &hello].map(|p| number(proc(p, "status"), "VmRSS:"));
    let [client_kib, hello_kib] = [&client, &hello].map(allocated_kib);
    println!(
        "{woken} wake-ups in {WINDOW:?}; allocated {client_kib} KiB, hello-tokio {hello_kib} KiB; \
         resident {resident:?} KiB"
    );
    let waits = 2 * (WINDOW.as_secs() / INTERVAL_S + 1);
    assert!(
        (1..=waits * WAKE_UPS_PER_WAIT).contains(&woken),
        "{woken} wake-ups for {waits} heartbeats and long polls"
    );
    assert!(
        client_kib - hello_kib <= MAX_ALLOCATED_KIB,
        "{client_kib} KiB, and {hello_kib} KiB without a client"
    );
}

#[test]
fn a_dropped_client_leaves_no_thread_and_no_socket() {
    let devbroker = Devbroker::start(&["--topic", "idle:1"]);
    let mut client = start_client(&devbroker);
    let held = |client: &Process| {
        let count = |folder| entries(client, folder).len();
        (count("task"), count("fd"))
    };
    let before = held(&client);
    tell(&mut client, "open", "idle");
    let open = held(&client);
    assert!(
        open.0 > before.0 && open.1 > before.1,
        "{before:?} {open:?}"
    );
    tell(&mut client, "drop", "dropped");
    let begun = Instant::now();
    while held(&client) != before {
        assert!(begun.elapsed() < PATIENCE, "{before:?} {:?}", held(&client));
        client.assert_runs_for(LOOK_AGAIN);
    }
    // Once more, in the same process.
    tell(&mut client, "open", "idle");
}
