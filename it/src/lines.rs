//! Records as lines, the way `it/java/Lines.java` writes and reads them: every byte as hex, null as
//! `-`, so that null, empty and "null" stay apart.

use std::fmt::Write;

/// One record, as both sides see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The partition.
    pub partition: i32,
    /// Milliseconds.
    pub timestamp_ms: i64,
    /// Null or not.
    pub key: Option<Vec<u8>>,
    /// Null or not.
    pub value: Option<Vec<u8>>,
    /// In order; names may repeat, values may be null.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Line {
    /// As text, without an end of line.
    pub fn encode(&self) -> String {
        let mut text = format!(
            "{}\t{}\t{}\t{}\t",
            self.partition,
            self.timestamp_ms,
            hex(self.key.as_deref()),
            hex(self.value.as_deref())
        );
        for (at, (name, value)) in self.headers.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(
                text,
                "{comma}{}:{}",
                hex(Some(name.as_bytes())),
                hex(value.as_deref())
            );
        }
        text
    }
}

/// Bytes as hex, null as `-`.
pub fn hex(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else {
        return "-".to_owned();
    };
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// `count` records over `partitions` with everything that is easily lost: null and empty keys and
/// values, repeated, empty and null headers, times that go backwards, sizes from nothing to a
/// kilobyte.
pub fn varied(seed: u64, count: usize, partitions: i32) -> Vec<Line> {
    let mut random = fastrand::Rng::with_seed(seed);
    let now_ms = 1_700_000_000_000;
    (0..count)
        .map(|number| {
            let headers = (0..random.usize(0..4))
                .map(|_| {
                    (
                        ["tw", "", "tw", "größe"][random.usize(0..4)].to_owned(),
                        field(&mut random, number, 20),
                    )
                })
                .collect();
            Line {
                partition: random.i32(0..partitions),
                timestamp_ms: now_ms + number as i64 - random.i64(0..50),
                key: field(&mut random, number, 30),
                value: field(&mut random, number, 1000),
                headers,
            }
        })
        .collect()
}

fn field(random: &mut fastrand::Rng, number: usize, longest: usize) -> Option<Vec<u8>> {
    match random.u8(0..10) {
        0 => None,
        1 => Some(Vec::new()),
        2 => Some(b"null".to_vec()),
        // Text that compresses, and bytes that do not.
        3..=7 => Some(
            format!("{number} ")
                .repeat(random.usize(0..longest / 4))
                .into_bytes(),
        ),
        _ => Some(
            (0..random.usize(0..longest))
                .map(|_| random.u8(..))
                .collect(),
        ),
    }
}
