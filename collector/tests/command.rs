//! The binary as an operator meets it: what it prints, how it ends.
#![expect(
    clippy::unwrap_used,
    reason = "what a test is built from fails as the test does"
)]

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn collector(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch-collector"));
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEWATCH_") {
            command.env_remove(name);
        }
    }
    command
}

fn output(arguments: &[&str]) -> Output {
    collector(arguments).output().unwrap()
}

fn spawn_piped(mut command: Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A procfs of one CPU that is half busy and of memory that is a quarter used.
fn procfs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "stat", "cpu  10 0 0 10\ncpu0 10 0 0 10\n");
    write(
        folder.path(),
        "meminfo",
        "MemTotal: 1000 kB\nMemAvailable: 750 kB\n",
    );
    folder
}

/// At once, as procfs does: no reader sees half of it.
fn write(folder: &Path, name: &str, text: &str) {
    let whole = folder.join("whole");
    std::fs::write(&whole, text).unwrap();
    std::fs::rename(whole, folder.join(name)).unwrap();
}

fn dry_run(procfs: &Path) -> Command {
    let procfs = procfs.to_str().unwrap();
    collector(&[
        "web-1",
        "--dry-run",
        "--interval",
        "100ms",
        "--procfs",
        procfs,
    ])
}

#[test]
fn a_dry_run_prints_samples_at_aligned_ticks_until_it_is_told_to_end() {
    let procfs = procfs();
    let mut agent = spawn_piped(dry_run(procfs.path()));
    let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines();

    for sequence in 0..3 {
        let line = lines.next().unwrap().unwrap();
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(fields[..3], ["mem-monitor", "web-1", "25.0"], "{line}");
        assert_eq!(fields[3].parse::<i64>().unwrap() % 100, 0, "{line}");
        assert!(fields[4].ends_with(&format!(".{sequence}.100")), "{line}");
    }

    let pid = Pid::from_child(&agent);
    kill_process(pid, Signal::TERM).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(
        rest.iter().all(|line| line.starts_with("mem-monitor\t")),
        "{rest:?}"
    );
    assert_eq!(agent.wait().unwrap().code(), Some(0));
}

#[test]
fn a_source_that_fails_for_a_while_is_left_out_and_comes_back() {
    let procfs = procfs();
    let mut agent = spawn_piped(dry_run(procfs.path()));
    let mut lines = BufReader::new(agent.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let mut until = |prefix: &str| lines.find(|line| line.starts_with(prefix)).unwrap();

    until("mem-monitor\t");
    write(procfs.path(), "meminfo", "MemTotal: many kB\n");
    write(procfs.path(), "stat", "cpu0 20 0 0 20\n");
    assert!(until("cpu-monitor\t").starts_with("cpu-monitor\tweb-1\t50.0\t"));
    write(
        procfs.path(),
        "meminfo",
        "MemTotal: 1000 kB\nMemAvailable: 500 kB\n",
    );
    assert!(until("mem-monitor\tweb-1\t50.0\t").contains(".100"));

    agent.kill().unwrap();
    let mut log = String::new();
    agent
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    agent.wait().unwrap();
    assert!(log.contains("line 1, `MemTotal: many kB`"), "{log}");
}

#[test]
fn a_reader_that_leaves_ends_the_agent_quietly() {
    let procfs = procfs();
    let mut command = dry_run(procfs.path());
    command.args(["--log", "off"]);
    let mut agent = spawn_piped(command);
    drop(agent.stdout.take());
    let output = agent.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), stderr(&output)),
        (Some(0), String::new())
    );
}

#[test]
fn what_cannot_be_done_is_one_line_with_its_remedy_and_exit_code() {
    let nowhere = ["web-1", "--dry-run", "--log", "off", "--procfs", "/nowhere"];
    for (arguments, code, part) in [
        (["web-1"].as_slice(), 2, "give -b HOST:PORT"),
        (&["web-1", "--intervall", "2s"], 2, "'--interval'"),
        (&["web-1", "--interval", "2"], 2, "the unit is missing"),
        (
            &["web-1", "--dry-run", "--interval", "1ms"],
            2,
            "100ms or more",
        ),
        (&["", "--dry-run"], 2, "give another as HOST"),
        (
            &["web-1", "--dry-run", "-X", "compresion.type=zstd"],
            2,
            "-X: unknown option compresion.type: did you mean compression.type?",
        ),
        (
            &["web-1", "-b", "localhost", "--check-config"],
            2,
            "bootstrap.servers must be host:port",
        ),
        (
            &["web-1", "--dry-run", "--config", "/nowhere.toml"],
            2,
            "/nowhere.toml",
        ),
        (
            &["web-1", "--dry-run", "--log", "a=loud"],
            2,
            "use off, error",
        ),
        (&nowhere, 1, "failed to read /nowhere/stat"),
    ] {
        let output = output(arguments);
        let line = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {line}");
        assert!(
            line.starts_with("tidewatch-collector: ") && line.contains(part),
            "{line}"
        );
        assert_eq!(
            (line.lines().count(), output.stdout.len()),
            (1, 0),
            "{line}"
        );
    }
}

#[test]
fn a_checked_configuration_is_printed_and_nothing_is_run() {
    let output = output(&[
        "web-1",
        "--dry-run",
        "--procfs",
        "/nowhere",
        "--check-config",
    ]);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        text.contains("host = \"web-1\"  # command line\n"),
        "{text}"
    );
    assert!(
        text.contains("memory-formula = \"available\"  # default\n"),
        "{text}"
    );
}
