//! A child process whose output is read as it comes, and which never outlives its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Lines of both outputs, in the order in which they came.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    all: Vec<Line>,
    open_streams: usize,
}

/// One line of output.
#[derive(Debug, Clone)]
pub struct Line {
    /// From standard error.
    pub stderr: bool,
    /// Without its end.
    pub text: String,
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
}

impl Process {
    /// Starts `command` with all three streams piped.
    ///
    /// # Panics
    /// If it cannot be started: the message names the program.
    pub fn start(name: &str, mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("failed to start {name} ({command:?}): {e}"));
        let output = Arc::new(Output::default());
        output.lines.lock().unwrap().open_streams = 2;
        read_lines(child.stdout.take().unwrap(), false, &output);
        read_lines(child.stderr.take().unwrap(), true, &output);
        Self {
            name: name.to_owned(),
            stdin: child.stdin.take(),
            child,
            output,
        }
    }

    /// Writes to its standard input.
    pub fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("stdin was closed before");
        stdin
            .write_all(text.as_bytes())
            .unwrap_or_else(|e| panic!("failed to write to {}: {e}", self.name));
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line, from `from` on, that `wanted` likes, with its number.
    ///
    /// # Panics
    /// If none comes within `limit` or before the output ends; the message holds the output so far.
    pub fn wait_for_line_from(
        &self,
        from: usize,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Line) -> bool,
    ) -> (usize, String) {
        let deadline = Instant::now() + limit;
        let mut seen = from;
        let mut lines = self.output.lines.lock().unwrap();
        loop {
            while let Some(line) = lines.all.get(seen) {
                if wanted(line) {
                    return (seen, line.text.clone());
                }
                seen += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if lines.open_streams == 0 || left.is_zero() {
                let ended = if lines.open_streams == 0 {
                    "ended"
                } else {
                    "is still running"
                };
                let tail: Vec<_> = lines
                    .all
                    .iter()
                    .rev()
                    .take(60)
                    .rev()
                    .map(|l| l.text.as_str())
                    .collect();
                let tail = tail.join("\n  ");
                drop(lines);
                panic!(
                    "{}: no {what} within {limit:?}; it {ended}; its output:\n  {tail}",
                    self.name
                );
            }
            lines = self.output.grown.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// The first line that `wanted` likes.
    ///
    /// # Panics
    /// As [`Process::wait_for_line_from`].
    pub fn wait_for_line(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Line) -> bool,
    ) -> String {
        self.wait_for_line_from(0, limit, what, wanted).1
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.output.lines.lock().unwrap().all.clone()
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.joined(false)
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.joined(true)
    }

    fn joined(&self, stderr: bool) -> String {
        let lines = self.lines();
        let texts: Vec<_> = lines
            .iter()
            .filter(|l| l.stderr == stderr)
            .map(|l| l.text.as_str())
            .collect();
        texts.join("\n")
    }

    /// Sends a signal by name (`TERM`, `KILL`, `STOP`, `CONT`, `INT`).
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Watches it for `period`.
    ///
    /// # Panics
    /// If it ends within that; the message holds its output.
    pub fn assert_runs_for(&self, period: Duration) {
        let deadline = Instant::now() + period;
        let mut lines = self.output.lines.lock().unwrap();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if lines.open_streams == 0 {
                let all: Vec<_> = lines.all.iter().map(|l| l.text.as_str()).collect();
                panic!("{} ended by itself:\n  {}", self.name, all.join("\n  "));
            }
            lines = self.output.grown.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits for its end and for the end of its output.
    ///
    /// # Panics
    /// If that takes longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        let mut lines = self.output.lines.lock().unwrap();
        while lines.open_streams > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{} has not ended within {limit:?}",
                self.name
            );
            lines = self.output.grown.wait_timeout(lines, left).unwrap().0;
        }
        drop(lines);
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to any process. A process that is gone already is no error.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status();
    assert!(
        sent.is_ok(),
        "the `kill` command could not be run: {sent:?}"
    );
}

fn read_lines(stream: impl Read + Send + 'static, stderr: bool, output: &Arc<Output>) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut raw = Vec::new();
        while reader.read_until(b'\n', &mut raw).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&raw)
                .trim_end_matches(['\n', '\r'])
                .to_owned();
            raw.clear();
            output.lines.lock().unwrap().all.push(Line { stderr, text });
            output.grown.notify_all();
        }
        output.lines.lock().unwrap().open_streams -= 1;
        output.grown.notify_all();
    });
}
