//! The files of procfs: read whole and bounded, parsed from bytes.

mod meminfo;
mod stat;

pub(crate) use meminfo::{Meminfo, MeminfoError};
pub(crate) use stat::{CpuTicks, Stat, StatError};

use procfs::Uptime;
use procfs::prelude::FromRead;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The longest file read, in bytes. /proc/stat is the longest: 80 bytes per CPU and some ten per
/// interrupt line, so that a host of 8,192 CPUs stays well below.
const FILE_MAX_BYTES: u64 = 4 << 20;

/// A procfs, usually that at /proc.
#[derive(Debug, Clone)]
pub(crate) struct Procfs {
    root: PathBuf,
}

impl Procfs {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where the file `name` is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The file `name`, whole.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        let path = self.path(name);
        read(&path).map_err(|why| ReadError { path, why })
    }

    /// How long the host has been up, in seconds.
    pub(crate) fn uptime_s(&self) -> Option<u64> {
        let bytes = self.read("uptime").ok()?;
        Uptime::from_read(bytes.as_slice())
            .ok()
            .map(|uptime| uptime.uptime_duration().as_secs())
    }
}

/// Why a file of procfs could not be read.
#[derive(Debug, Error)]
#[error("failed to read {path}: {why}; is procfs mounted there and readable? (--procfs PATH names another place)", path = path.display())]
pub(crate) struct ReadError {
    path: PathBuf,
    why: std::io::Error,
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    // A pipe by that name would make opening it wait for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(std::io::Error::other(format!(
            "it is longer than {FILE_MAX_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

/// A counter: digits only, at most 64 bits.
fn parse_counter(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The words of a line.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// Enough of a line for a message.
fn excerpt(line: &[u8]) -> String {
    const EXCERPT_BYTES: usize = 60;
    let start = line.get(..EXCERPT_BYTES).unwrap_or(line);
    let more = if start.len() < line.len() { "…" } else { "" };
    format!("{}{more}", String::from_utf8_lossy(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_digits_of_at_most_64_bits() {
        assert_eq!(parse_counter(b"18446744073709551615"), Some(u64::MAX));
        for text in ["", "18446744073709551616", "-1", "+1", "1.0", "1 ", "x"] {
            assert_eq!(parse_counter(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_the_remedy() {
        let failed = Procfs::new("/nowhere".into())
            .read("stat")
            .unwrap_err()
            .to_string();
        assert!(
            failed.starts_with("failed to read /nowhere/stat: No such file"),
            "{failed}"
        );
        assert!(failed.contains("--procfs PATH"), "{failed}");
    }

    #[test]
    fn a_file_without_end_and_a_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("stat")).unwrap();
        let long = vec![b'0'; usize::try_from(FILE_MAX_BYTES).unwrap() + 1];
        std::fs::write(folder.path().join("meminfo"), long).unwrap();
        let procfs = Procfs::new(folder.path().into());
        assert!(
            procfs
                .read("stat")
                .unwrap_err()
                .to_string()
                .contains("not a file")
        );
        assert!(
            procfs
                .read("meminfo")
                .unwrap_err()
                .to_string()
                .contains("longer than")
        );
    }

    #[test]
    fn uptime_is_read_and_its_absence_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let procfs = Procfs::new(folder.path().into());
        assert_eq!(procfs.uptime_s(), None);
        std::fs::write(folder.path().join("uptime"), "3861.52 7012.33\n").unwrap();
        assert_eq!(procfs.uptime_s(), Some(3_861));
        std::fs::write(folder.path().join("uptime"), "soon\n").unwrap();
        assert_eq!(procfs.uptime_s(), None);
    }
}
