//! `--raw`: the samples as they are, one line each.

use crate::job::{self, Inputs};
use crate::options::Plan;
use std::fmt::Write;
use std::sync::Arc;
use tidewatch_client::{Event, Fetched, StartAt};
use tidewatch_command::{Failure, Stop, print};

/// Prints topic, partition, offset, timestamp, key and value until it is asked to end.
pub(crate) async fn run(plan: Plan, stop: Stop) -> Result<(), Failure> {
    let mut inputs = tokio::select! {
        () = stop.requested() => return Ok(()),
        inputs = Inputs::open(&plan) => inputs?,
    };
    let starts = inputs
        .partitions
        .iter()
        .map(|p| (Arc::clone(&p.topic), p.partition, StartAt::Earliest));
    inputs
        .consumer
        .assign(starts.collect::<Vec<_>>())
        .await
        .map_err(Failure::running)?;
    let ends = inputs.ends(plan.available_now).await?;
    loop {
        if job::is_read(&inputs.consumer, &ends) {
            return Ok(());
        }
        tokio::select! {
            () = stop.requested() => return Ok(()),
            event = inputs.consumer.next() => {
                if let Event::Records(fetched) = event.map_err(Failure::running)? {
                    print(lines(fetched)?).await?;
                }
            }
        }
    }
}

fn lines(mut fetched: Fetched) -> Result<String, Failure> {
    let partition = fetched.topic_partition().clone();
    let mut text = String::new();
    while let Some(record) = fetched.next_ref() {
        let record = record.map_err(Failure::running)?;
        let (key, value) = (shown(record.key), shown(record.value));
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{key}\t{value}",
            partition.topic, partition.partition, record.offset, record.timestamp_ms
        );
    }
    Ok(text)
}

/// Text as it is; what would break the line or the terminal, escaped; null as `-`.
fn shown(bytes: Option<&[u8]>) -> String {
    bytes.map_or("-".to_owned(), |bytes| {
        String::from_utf8_lossy(bytes).escape_debug().to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_line_is_escaped() {
        assert_eq!(shown(None), "-");
        assert_eq!(shown(Some(b"web-1")), "web-1");
        assert_eq!(shown(Some(b"a\tb\n\x1b[31m")), "a\\tb\\n\\u{1b}[31m");
    }
}
