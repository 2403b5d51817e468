//! What the reader sees of what was fetched.

use super::log::{batch, marker, set};
use super::*;
use tidewatch_protocol::compression::Compression;
use tidewatch_protocol::messages::fetch_response::AbortedTransaction;
use tidewatch_protocol::records::{Attributes, RecordsError};

fn read_committed() -> ConsumerOptions {
    ConsumerOptions {
        read_committed: true,
        ..options()
    }
}

fn aborted(list: &[(i64, i64)]) -> Option<Vec<AbortedTransaction>> {
    let entry = |(producer_id, first_offset): &(i64, i64)| {
        AbortedTransaction::default()
            .with_producer_id((*producer_id).into())
            .with_first_offset(*first_offset)
    };
    Some(list.iter().map(entry).collect())
}

fn source(error: Option<Result<Record, Error>>) -> RecordsError {
    match error {
        Some(Err(Error::Records { source, .. })) => source,
        other => panic!("no error of records: {other:?}"),
    }
}

use tidewatch_protocol::records::Record;

#[test]
fn line_20_records_below_the_fetch_offset_are_dropped() {
    let mut script = Script::reading(options(), 13);
    script.exchange(data(batch(10, 6).bytes(), 16));
    assert_eq!(script.read_all(), [13, 14, 15]);
}

#[test]
fn line_20_the_position_passes_what_cannot_be_seen() {
    let compacted_tail = batch(0, 5).keeping(&[0, 1]);
    let emptied = batch(5, 5).keeping(&[]);
    let aborted_data = batch(10, 2).transactional(7);
    let log = [compacted_tail, emptied, aborted_data, marker(12, 7, false)];
    let mut script = Script::reading(read_committed(), 0);
    script.exchange(data(set(&log), 13).with_aborted_transactions(aborted(&[(7, 10)])));
    let mut records = script.records();
    assert_eq!(records.next().unwrap().unwrap().offset, 0);
    assert_eq!(script.position(), Some(1));
    assert_eq!(records.next().unwrap().unwrap().offset, 1);
    assert_eq!(script.position(), Some(5));
    assert!(records.next().is_none());
    assert_eq!(script.position(), Some(13));
    assert_eq!(script.fetch().1.topics[0].partitions[0].fetch_offset, 13);
}

#[test]
fn line_20_a_position_in_a_compacted_tail_moves_on() {
    let mut script = Script::reading(options(), 4);
    script.exchange(data(batch(0, 6).keeping(&[0, 1]).bytes(), 6));
    assert_eq!(script.read_all(), [] as [i64; 0]);
    assert_eq!(script.position(), Some(6));
}

#[test]
fn line_21_a_truncated_last_batch_is_ignored() {
    let whole = set(&[batch(0, 2), batch(2, 2)]);
    for cut in 1..batch(2, 2).bytes().len() {
        let mut script = Script::reading(options(), 0);
        script.exchange(data(whole.slice(..whole.len() - cut), 4));
        assert_eq!(script.read_all(), [0, 1], "{cut} bytes cut");
        assert_eq!(script.fetch().1.topics[0].partitions[0].fetch_offset, 2);
    }
}

#[test]
fn line_21_a_first_batch_over_the_limit_is_delivered() {
    let options = ConsumerOptions {
        max_partition_fetch_bytes: 100,
        ..options()
    };
    let mut script = Script::reading(options, 0);
    script.exchange(data(batch(0, 3).with_values_of(500).bytes(), 3));
    assert_eq!(script.read_all(), [0, 1, 2]);
}

#[test]
fn line_21_bytes_without_progress_are_an_error_and_no_hot_loop() {
    let mut script = Script::reading(options(), 0);
    let whole = batch(0, 1).with_values_of(5000).bytes();
    for _ in 0..3 {
        script.exchange(data(whole.slice(..1000), 1));
        let error = script.error().to_string();
        assert!(
            error.contains("max.partition.fetch.bytes (now 1048576)"),
            "{error}"
        );
        assert!(error.contains("fetch t/0 at 0"), "{error}");
        assert!(error.contains(&whole.len().to_string()), "{error}");
        assert!(
            script.call().is_none(),
            "it must wait before it tries again"
        );
        script.wait_for_timer();
    }
}

#[test]
fn line_21_whole_batches_that_end_below_the_offset_are_an_error() {
    let mut script = Script::reading(options(), 10);
    script.exchange(data(batch(0, 3).bytes(), 12));
    let error = script.error().to_string();
    assert!(error.contains("end below the offset asked for"), "{error}");
    assert!(script.call().is_none());
}

#[test]
fn line_22_the_aborted_list_may_be_in_any_order() {
    let log = [
        batch(0, 1).transactional(1),
        batch(1, 1).transactional(2),
        marker(2, 1, false),
        batch(3, 1).transactional(1),
        marker(4, 2, false),
        marker(5, 1, true),
        batch(6, 1).transactional(2),
        marker(7, 2, false),
        batch(8, 1),
    ];
    for list in [[(1, 0), (2, 1), (2, 6)], [(2, 6), (2, 1), (1, 0)]] {
        let mut script = Script::reading(read_committed(), 0);
        script.exchange(data(set(&log), 9).with_aborted_transactions(aborted(&list)));
        // Each marker ends one entry: producer 1's second transaction was committed.
        assert_eq!(script.read_all(), [3, 8]);
    }
}

#[test]
fn line_22_a_null_aborted_list_is_an_empty_one() {
    let log = [batch(0, 2).transactional(1), marker(2, 1, true)];
    let mut script = Script::reading(read_committed(), 0);
    script.exchange(data(set(&log), 3).with_aborted_transactions(None));
    assert_eq!(script.read_all(), [0, 1]);
    assert_eq!(script.position(), Some(3));
}

#[test]
fn line_22_an_aborted_batch_is_passed_over_without_being_read() {
    let mut damaged = batch(0, 2)
        .transactional(1)
        .compressed(Compression::Lz4)
        .bytes()
        .to_vec();
    let end = damaged.len();
    damaged[61..end].fill(0xff);
    damaged.extend(set(&[marker(2, 1, false), batch(3, 1)]));
    let mut script = Script::reading(read_committed(), 0);
    script.exchange(data(damaged, 4).with_aborted_transactions(aborted(&[(1, 0)])));
    assert_eq!(script.read_all(), [3]);
}

#[test]
fn line_22_read_uncommitted_delivers_aborted_records_and_no_markers() {
    let log = [batch(0, 2).transactional(1), marker(2, 1, false)];
    let mut script = Script::reading(options(), 0);
    script.exchange(data(set(&log), 3).with_aborted_transactions(aborted(&[(1, 0)])));
    assert_eq!(script.read_all(), [0, 1]);
    assert_eq!(script.position(), Some(3));
}

#[test]
fn line_23_every_record_takes_the_time_of_the_append() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 2).with_log_append_time().bytes(), 2));
    let times = script.records().map(|record| record.unwrap().timestamp_ms);
    assert_eq!(times.collect::<Vec<_>>(), [9_000, 9_000]);
}

#[test]
fn line_23_a_bad_crc_is_its_own_error_and_the_batch_is_fetched_again() {
    let good = batch(0, 2).bytes();
    let mut bad = set(&[batch(0, 2), batch(2, 2), batch(4, 2)]).to_vec();
    bad[good.len() + 70] ^= 1;
    let mut script = Script::reading(options(), 0);
    script.exchange(data(bad, 6));
    // The next fetch is on its way before the first answer is read.
    let (early, _) = script.fetch();
    script.reply_fetch(&early, vec![data(batch(6, 2).bytes(), 8)]);

    let mut records = script.records();
    assert_eq!(records.next().unwrap().unwrap().offset, 0);
    assert_eq!(records.next().unwrap().unwrap().offset, 1);
    let error = records.next();
    assert!(matches!(
        source(error),
        RecordsError::BadCrc { base_offset: 2, .. }
    ));
    assert!(records.next().is_none(), "it ends after an error");
    drop(records);

    assert_eq!(script.position(), Some(2));
    assert_eq!(
        script.read_all(),
        [] as [i64; 0],
        "nothing behind it is delivered"
    );
    assert!(script.driver.0.load(Ordering::SeqCst) > 0);
    assert!(
        script.call().is_none(),
        "it must wait before it tries again"
    );
    script.wait_for_timer();
    let again = script.exchange(data(set(&[batch(2, 2), batch(4, 2)]), 8));
    assert_eq!(again.topics[0].partitions[0].fetch_offset, 2);
    assert_eq!(script.read_all(), [2, 3, 4, 5]);
}

#[test]
fn a_batch_that_stays_unreadable_is_tried_ever_more_slowly_and_can_be_skipped() {
    let mut bad = batch(0, 2).bytes().to_vec();
    bad[70] ^= 1;
    let mut script = Script::reading(options(), 0);
    let mut waits_us = Vec::new();
    for _ in 0..5 {
        script.exchange(data(bad.clone(), 3));
        let error = script.records().next().unwrap().unwrap_err();
        assert!(
            error.to_string().ends_with("seek to 2 to go on without it"),
            "{error}"
        );
        assert!(script.call().is_none());
        let before = script.now.monotonic_us;
        script.wait_for_timer();
        waits_us.push(script.now.monotonic_us - before);
    }
    assert!(waits_us[4] > waits_us[0] * 5, "{waits_us:?}");
    script.seek(0, 2);
    script.exchange(data(batch(2, 1).bytes(), 3));
    assert_eq!(script.read_all(), [2]);
}

#[test]
fn line_23_unknown_codecs_and_formats_are_errors_of_their_own() {
    let mut unknown_codec = batch(0, 1);
    unknown_codec.attributes = Attributes(6);
    let mut old_format = batch(0, 1).bytes().to_vec();
    old_format[16] = 1;
    let mut script = Script::reading(options(), 0);
    script.exchange(data(unknown_codec.bytes(), 1));
    assert!(matches!(
        source(script.records().next()),
        RecordsError::UnknownCodec { codec: 6, .. }
    ));
    script.seek(0, 0);
    script.exchange(data(old_format, 1));
    assert!(script.call().is_none(), "nothing behind it can be fetched");
    assert!(matches!(
        source(script.records().next()),
        RecordsError::UnsupportedMagic { magic: 1, .. }
    ));
}

#[test]
fn line_27_a_pause_keeps_what_was_fetched_and_delivers_nothing() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 4).bytes(), 8));
    let (in_flight, _) = script.fetch();
    let mut records = script.records();
    assert_eq!(records.next().unwrap().unwrap().offset, 0);
    script.command(Command::Pause(vec![tp("t", 0)]));
    assert!(records.next().is_none());
    drop(records);
    script.reply_fetch(&in_flight, vec![data(batch(4, 4).bytes(), 8)]);
    assert!(script.event().is_none());
    assert!(script.call().is_none(), "a paused partition is not fetched");
    script.command(Command::Resume(vec![tp("t", 0)]));
    assert_eq!(script.read_all(), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn line_27_a_seek_discards_what_was_fetched_and_what_is_in_flight() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 4).bytes(), 100));
    let (in_flight, _) = script.fetch();
    let mut records = script.records();
    assert_eq!(records.next().unwrap().unwrap().offset, 0);
    script.seek(0, 50);
    assert!(records.next().is_none());
    drop(records);
    script.reply_fetch(&in_flight, vec![data(batch(4, 4).bytes(), 100)]);
    assert_eq!(script.read_all(), [] as [i64; 0]);
    assert_eq!(script.position(), Some(50));
    let request = script.exchange(data(batch(50, 1).bytes(), 100));
    assert_eq!(request.topics[0].partitions[0].fetch_offset, 50);
    assert_eq!(script.read_all(), [50]);
}

#[test]
fn line_28_nothing_is_delivered_after_the_assignment_has_ended() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 4).bytes(), 8));
    let mut records = script.records();
    assert_eq!(records.next().unwrap().unwrap().offset, 0);
    script.command(Command::Unassign(vec![tp("t", 0)]));
    assert!(records.next().is_none());
    drop(records);
    assert!(script.event().is_none());
    assert!(script.inbox.status(&tp("t", 0)).is_none());
}

#[test]
fn line_28_the_position_moves_only_on_delivery_and_the_rest_comes_again() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 4).bytes(), 4));
    assert_eq!(script.position(), Some(0));
    let mut records = script.records();
    assert_eq!(script.position(), Some(0));
    assert_eq!(records.next().unwrap().unwrap().offset, 0);
    assert_eq!(script.position(), Some(1));
    drop(records);
    assert_eq!(script.read_all(), [1, 2, 3]);
    assert_eq!(script.position(), Some(4));
}

#[test]
fn the_leader_epoch_of_the_last_delivered_record_is_kept_for_the_commit() {
    let mut later = batch(2, 2);
    later.leader_epoch = 5;
    let mut script = Script::reading(options(), 0);
    script.exchange(data(set(&[batch(0, 2), later]), 4));
    let mut records = script.records();
    records.next();
    assert_eq!(script.status(0).leader_epoch, 3);
    records.nth(1);
    assert_eq!(script.status(0).leader_epoch, 5);
}

#[test]
fn one_piece_of_a_partition_is_out_at_a_time() {
    let mut script = Script::reading(options(), 0);
    script.exchange(data(batch(0, 2).bytes(), 4));
    script.exchange(data(batch(2, 2).bytes(), 4));
    let first = script.records();
    assert!(script.event().is_none());
    drop(first);
    assert_eq!(script.read_all(), [0, 1, 2, 3]);
}

#[test]
fn compressed_batches_of_every_codec_are_read() {
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut script = Script::reading(options(), 1);
        script.exchange(data(batch(0, 4).compressed(codec).bytes(), 4));
        assert_eq!(script.read_all(), [1, 2, 3], "{}", codec.name());
    }
}
