//! Data goes to stdout; a reader that leaves ends the command quietly.

use std::io::{ErrorKind, Write};
use thiserror::Error;

/// Writes data to stdout. `println!` would panic where the reader has left.
#[derive(Debug)]
pub struct Stdout<W: Write = std::io::Stdout> {
    out: W,
}

impl Stdout {
    /// This process's stdout.
    pub fn new() -> Self {
        Self {
            out: std::io::stdout(),
        }
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Write> Stdout<W> {
    /// Writes all of `text` and flushes it, so that a reader sees it now.
    pub fn write(&mut self, text: &str) -> Result<(), StdoutError> {
        let written = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => StdoutError::Closed,
            _ => StdoutError::Failed(error),
        })
    }
}

/// Writes all of `text` to this process's stdout without holding up the thread that awaits it: a
/// reader may stop reading, as a pager does, and signals must still be heard.
///
/// Dropped, it may still write what it has begun.
pub async fn print(text: String) -> Result<(), StdoutError> {
    let written = tokio::task::spawn_blocking(move || Stdout::new().write(&text)).await;
    written.map_err(|why| StdoutError::Failed(why.into()))?
}

/// Why nothing can be written any more.
#[derive(Debug, Error)]
pub enum StdoutError {
    /// Whoever read stdout has left.
    #[error("stdout was closed")]
    Closed,
    /// Any other reason, such as a full disk.
    #[error("failed to write to stdout: {0}")]
    Failed(#[source] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;

    struct Refusing(ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_no_failure_and_a_full_disk_is() {
        let written = |kind| {
            Failure::from(
                Stdout {
                    out: Refusing(kind),
                }
                .write("a\n")
                .unwrap_err(),
            )
        };
        assert!(matches!(
            written(ErrorKind::BrokenPipe),
            Failure::StdoutClosed
        ));
        assert!(matches!(
            written(ErrorKind::StorageFull),
            Failure::Running(_)
        ));
    }

    #[test]
    fn what_is_written_is_written_whole() {
        let mut stdout = Stdout { out: Vec::new() };
        stdout.write("web-1\t48.0\n").unwrap();
        assert_eq!(stdout.out, b"web-1\t48.0\n");
    }
}
