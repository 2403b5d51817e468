//! How a command ends: its exit code, and one line that says what, where, why and what to try.

use crate::stdout::StdoutError;
use std::error::Error as StdError;
use std::io::Write;
use std::process::ExitCode;
use thiserror::Error;

const FAILED_WHILE_RUNNING: u8 = 1;
const WRONG_USAGE: u8 = 2;

/// Flags, variables or a file ask for what cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct UsageError(String);

impl UsageError {
    /// With the line that the operator reads: what is wrong, where, and what to write instead.
    pub fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }
}

/// Why a command ended before it was done.
#[derive(Debug, Error)]
pub enum Failure {
    /// Wrong usage or configuration; exits 2.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// It failed while running; exits 1.
    #[error(transparent)]
    Running(Box<dyn StdError + Send + Sync>),
    /// Whoever read stdout has left, as `head` does: nothing to say; exits 0.
    #[error("stdout was closed")]
    StdoutClosed,
}

impl Failure {
    /// A failure while running.
    pub fn running(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Running(error.into())
    }

    /// The code to exit with, after a line to stderr that begins with the command's `name`.
    pub(crate) fn report(&self, name: &str) -> ExitCode {
        let code = match self {
            Self::StdoutClosed => return ExitCode::SUCCESS,
            Self::Usage(_) => WRONG_USAGE,
            Self::Running(_) => FAILED_WHILE_RUNNING,
        };
        // Where stderr is gone too, the exit code has to say it all.
        let _ = writeln!(std::io::stderr(), "{name}: {}", one_line(self));
        ExitCode::from(code)
    }
}

impl From<StdoutError> for Failure {
    fn from(error: StdoutError) -> Self {
        match error {
            StdoutError::Closed => Self::StdoutClosed,
            StdoutError::Failed(_) => Self::running(error),
        }
    }
}

/// The error and what caused it; a cause that its error has quoted already is not said twice.
fn one_line(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Error)]
    #[error("failed to read /proc/stat")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_failure_is_one_line_with_its_causes() {
        let failure = Failure::running(Outer(std::io::Error::other("no such\nfile")));
        assert_eq!(
            one_line(&failure),
            "failed to read /proc/stat: no such file"
        );
    }

    #[test]
    fn a_cause_that_was_quoted_is_not_repeated() {
        #[derive(Debug, Error)]
        #[error("failed to send: {0}")]
        struct Quoting(#[source] std::io::Error);
        let failure = Failure::running(Quoting(std::io::Error::other("refused")));
        assert_eq!(one_line(&failure), "failed to send: refused");
    }
}
