//! Each compression, both ways between our client and Java's, field by field; and Kafka's own check of
//! the log that we wrote.

use std::path::Path;
use std::time::Duration;
use tidewatch_it::kafka::{Kafka, Tools, skips_on_foreign_cluster};
use tidewatch_it::process::Process;
use tidewatch_it::suite::Sides;
use tidewatch_it::suite::codecs::{self, CODECS, PARTITIONS};

/// 100,000 records each way, over all codecs.
const RECORDS_PER_CODEC: usize = 20_000;
const SOAK_RECORDS_PER_CODEC: usize = 100_000;
const LIMIT: Duration = Duration::from_secs(180);

fn records_per_codec() -> usize {
    if std::env::var_os("TIDEWATCH_SOAK").is_some() {
        SOAK_RECORDS_PER_CODEC
    } else {
        RECORDS_PER_CODEC
    }
}

#[tokio::test(flavor = "current_thread")]
async fn each_compression_is_read_by_java_as_it_was_written_and_the_other_way_round() {
    let kafka = Kafka::at_hand();
    let written = codecs::both_ways(Sides::of(&kafka), &CODECS, records_per_codec()).await;
    let Some(data_dir) = kafka.data_dir() else {
        assert!(skips_on_foreign_cluster(
            "DumpLogSegments over what we wrote: it reads a broker's files"
        ));
        return;
    };
    for topic in written {
        assert_log_is_valid(kafka.tools(), &data_dir, &topic);
    }
}

/// Kafka's DumpLogSegments finds every batch and record of what we wrote valid.
fn assert_log_is_valid(tools: &Tools, data_dir: &Path, topic: &str) {
    for partition in 0..PARTITIONS {
        let file = data_dir.join(format!("{topic}-{partition}/00000000000000000000.log"));
        let mut command = tools.tool("org.apache.kafka.tools.DumpLogSegments");
        command.args(["--deep-iteration", "--files"]).arg(&file);
        let mut process = Process::start("DumpLogSegments", command);
        process.close_stdin();
        let status = process.wait(LIMIT);
        let (stdout, stderr) = (process.stdout(), process.stderr());
        assert!(status.success(), "{stderr}");
        let valid = stdout
            .lines()
            .filter(|line| line.contains("isvalid: true"))
            .count();
        let invalid = stdout.lines().find(|line| line.contains("isvalid: false"));
        assert!(
            valid > 0 && invalid.is_none(),
            "{topic}-{partition}: {valid} valid batches, {invalid:?}"
        );
        let complaint = stdout
            .lines()
            .chain(stderr.lines())
            .find(|line| line.starts_with("Found") || line.contains("Exception"));
        assert_eq!(complaint, None, "{topic}-{partition}");
    }
}
