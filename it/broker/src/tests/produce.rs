//! Produce: what is appended, what is refused, and when it is answered.

use super::script::{Records, START_MS, Script, produce, records};
use crate::{NodeId, Options};
use bytes::Bytes;
use tidewatch_protocol::compression::Compression;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::{BrokerId, InitProducerIdRequest, ProduceRequest};
use tidewatch_protocol::records::TimestampType;

#[test]
fn batches_get_consecutive_offsets_and_come_back_as_they_were() {
    let mut script = Script::three_nodes();
    for (codec, base_offset) in [
        (Compression::None, 0),
        (Compression::Gzip, 3),
        (Compression::Snappy, 6),
        (Compression::Lz4, 9),
        (Compression::Zstd, 12),
    ] {
        let batch = records(3).compressed(codec).bytes();
        let answer = script.produce(batch.clone());
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (0, base_offset),
            "{codec:?}"
        );
        let fetched = script.fetch(base_offset).records.unwrap();
        // But for base offset and leader epoch, which the CRC leaves out.
        assert_eq!(fetched[16..], batch[16..], "{codec:?}");
        assert_eq!(fetched[..8], base_offset.to_be_bytes());
    }
}

#[test]
fn a_producer_id_is_new_every_time_and_its_retries_are_written_once() {
    let mut script = Script::three_nodes();
    let init = |script: &mut Script| {
        script.call(
            1,
            5,
            &InitProducerIdRequest::default().with_transactional_id(None),
        )
    };
    let (first, second) = (init(&mut script), init(&mut script));
    assert_eq!((first.error_code, first.producer_epoch), (0, 0));
    assert_ne!(first.producer_id, second.producer_id);

    let id = first.producer_id.0;
    for (what, sequence, error, offset) in [
        ("the first batch", 0, ErrorCode::NONE, 0),
        ("the next", 2, ErrorCode::NONE, 2),
        ("the first again", 0, ErrorCode::NONE, 0),
        ("a gap", 6, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1),
        ("the one in the gap", 4, ErrorCode::NONE, 4),
    ] {
        let answer = script.produce(records(2).by(id, 0, sequence).bytes());
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (error.0, offset),
            "{what}"
        );
    }
    let answer = script.produce(records(1).by(id, 1, 0).bytes());
    assert_eq!(
        (answer.error_code, answer.base_offset),
        (0, 6),
        "a new epoch"
    );
    let answer = script.produce(records(1).by(id, 0, 6).bytes());
    assert_eq!(answer.error_code, ErrorCode::INVALID_PRODUCER_EPOCH.0);
    assert_eq!(script.cluster.view("t", 0).unwrap().end_offset, 7);
}

#[test]
fn line_11_a_topic_made_again_remembers_no_sequences() {
    let mut script = Script::three_nodes();
    script.produce(records(2).by(9, 0, 0).bytes());
    script.cluster.delete_topic(script.now, "t").unwrap();
    script.topic("t", 2, &[]);
    let answer = script.produce(records(2).by(9, 0, 41).bytes());
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
}

#[test]
fn what_a_leader_would_refuse_is_refused_and_nothing_is_written() {
    let damaged = |at: usize| {
        let mut batch = records(2).bytes().to_vec();
        batch[at] ^= 1;
        Bytes::from(batch)
    };
    let twice = [records(1).bytes(), records(1).bytes()].concat().into();
    let cut = records(2).bytes().slice(..70);
    let large = records(0).add(START_MS, None, &[b'x'; 2000]).bytes();
    let wide = records(0).add(START_MS, None, &[b'x'; 100]).bytes();
    for (what, batch, error) in [
        (
            "a flipped bit in a record",
            damaged(70),
            ErrorCode::CORRUPT_MESSAGE,
        ),
        (
            "a flipped bit in the CRC",
            damaged(20),
            ErrorCode::CORRUPT_MESSAGE,
        ),
        ("a base offset", damaged(7), ErrorCode::INVALID_RECORD),
        ("another magic", damaged(16), ErrorCode::INVALID_RECORD),
        ("two batches", twice, ErrorCode::INVALID_RECORD),
        ("a cut batch", cut, ErrorCode::INVALID_RECORD),
        ("nothing", Bytes::new(), ErrorCode::INVALID_RECORD),
        (
            "a batch over the limit",
            large,
            ErrorCode::MESSAGE_TOO_LARGE,
        ),
        ("a batch within it", wide, ErrorCode::NONE),
        (
            "an id without a sequence",
            records(1).by(5, 0, -1).bytes(),
            ErrorCode::INVALID_RECORD,
        ),
    ] {
        let mut script = Script::with(Options::with_nodes(3));
        script.topic("t", 1, &[("max.message.bytes", "1000")]);
        assert_eq!(script.produce(batch).error_code, error.0, "{what}");
        let written = i64::from(error == ErrorCode::NONE);
        assert_eq!(
            script.cluster.view("t", 0).unwrap().end_offset,
            written,
            "{what}"
        );
    }
}

#[test]
fn timestamps_out_of_bounds_are_named_by_their_index() {
    let mut script = Script::with(Options::with_nodes(3));
    let bounds = [
        ("message.timestamp.before.max.ms", "1000"),
        ("message.timestamp.after.max.ms", "500"),
    ];
    script.topic("t", 1, &bounds);
    let at = |offset: i64| records(1).add(START_MS + offset, None, b"v").bytes();
    assert_eq!(script.produce(at(500)).error_code, 0);
    for offset in [501, -1001] {
        let answer = script.produce(at(offset));
        assert_eq!(
            answer.error_code,
            ErrorCode::INVALID_TIMESTAMP.0,
            "{offset}"
        );
        let indexes: Vec<i32> = answer.record_errors.iter().map(|e| e.batch_index).collect();
        assert_eq!(indexes, [1], "{offset}");
    }
}

#[test]
fn line_23_log_append_time_stamps_the_batch_with_the_brokers_clock() {
    let mut script = Script::with(Options::with_nodes(3));
    script.topic("t", 1, &[("message.timestamp.type", "LogAppendTime")]);
    script.pass_ms(77);
    let answer = script.produce(records(2).bytes());
    assert_eq!(answer.log_append_time_ms, START_MS + 77);

    let batch = script
        .cluster
        .batches("t", 0)
        .unwrap()
        .next()
        .unwrap()
        .clone();
    assert_eq!(
        batch.header.attributes.timestamp_type(),
        TimestampType::LogAppendTime
    );
    assert_eq!(batch.header.max_timestamp, START_MS + 77);
    batch.verify_crc().unwrap();
}

#[test]
fn line_53_zstd_is_refused_below_produce_7() {
    let mut script = Script::three_nodes();
    let request = produce("t", 0, records(1).compressed(Compression::Zstd).bytes());
    let code = |script: &mut Script, version| {
        script.call(1, version, &request).responses[0].partition_responses[0].error_code
    };
    assert_eq!(
        code(&mut script, 6),
        ErrorCode::UNSUPPORTED_COMPRESSION_TYPE.0
    );
    assert_eq!(code(&mut script, 7), 0);
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key() {
    let mut script = Script::with(Options::with_nodes(3));
    script.topic("t", 1, &[("cleanup.policy", "compact")]);
    let answer = script.produce(records(1).add(START_MS, None, b"v").bytes());
    assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD.0);
    assert_eq!(answer.record_errors[0].batch_index, 1);
    assert_eq!(script.produce(records(1).bytes()).error_code, 0);
}

#[test]
fn line_9_without_acks_there_is_no_answer_and_an_error_closes() {
    let mut script = Script::three_nodes();
    let connection = script.connect(1);
    let fine = produce("t", 0, records(2).bytes()).with_acks(0);
    script.send(connection, 12, &fine);
    assert_eq!(script.take_bytes(connection), None);
    assert_eq!(script.cluster.view("t", 0).unwrap().end_offset, 2);

    script.send(connection, 12, &produce("t", 0, records(1).bytes()));
    let answer = script.take::<ProduceRequest>(connection, 12).unwrap();
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 2);

    script.send(
        connection,
        12,
        &produce("nowhere", 0, records(1).bytes()).with_acks(0),
    );
    assert!(script.closed(connection).is_some());
}

fn code_at(script: &mut Script, node: i32, version: i16, request: &ProduceRequest) -> i16 {
    script.call(node, version, request).responses[0].partition_responses[0].error_code
}

#[test]
fn topics_and_partitions_that_are_not_there() {
    let mut script = Script::three_nodes();
    let batch = || records(1).bytes();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
    assert_eq!(
        code_at(&mut script, 1, 12, &produce("nowhere", 0, batch())),
        unknown
    );
    assert_eq!(
        code_at(&mut script, 1, 12, &produce("t", 9, batch())),
        unknown
    );
    assert_eq!(
        code_at(&mut script, 1, 12, &produce("t", -1, batch())),
        unknown
    );
    let acks = produce("t", 0, batch()).with_acks(2);
    assert_eq!(
        code_at(&mut script, 1, 12, &acks),
        ErrorCode::INVALID_REQUIRED_ACKS.0
    );
    script.cluster.deny_write("t");
    let denied = ErrorCode::TOPIC_AUTHORIZATION_FAILED.0;
    assert_eq!(
        code_at(&mut script, 1, 12, &produce("t", 0, batch())),
        denied
    );
    script.cluster.allow_write("t");
    assert_eq!(code_at(&mut script, 1, 12, &produce("t", 0, batch())), 0);
}

#[test]
fn line_37_from_version_13_on_topics_go_by_id() {
    let mut script = Script::three_nodes();
    let id = script.cluster.topic_id("t").unwrap();
    let mut request = produce("t", 0, records(1).bytes());
    let unknown = ErrorCode::UNKNOWN_TOPIC_ID.0;
    request.topic_data[0].topic_id = uuid::Uuid::from_u128(77);
    assert_eq!(
        code_at(&mut script, 1, 13, &request),
        unknown,
        "an id of nothing"
    );
    request.topic_data[0].topic_id = id;
    assert_eq!(code_at(&mut script, 1, 13, &request), 0);
    script.cluster.delete_topic(script.now, "t");
    script.topic("t", 1, &[]);
    assert_eq!(
        code_at(&mut script, 1, 13, &request),
        unknown,
        "the id of the deleted topic"
    );
}

#[test]
fn line_26_a_node_that_does_not_lead_tells_who_does() {
    let mut script = Script::three_nodes();
    script
        .cluster
        .move_leader(script.now, "t", 0, NodeId(3))
        .unwrap();
    let request = produce("t", 0, records(1).bytes());
    for (version, leader, endpoints) in [(9, -1, 0), (10, 3, 1)] {
        let answer = script.call(1, version, &request);
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.0);
        assert_eq!(partition.current_leader.leader_id, BrokerId(leader));
        assert_eq!(answer.node_endpoints.len(), endpoints);
    }
    let answer = script.call(1, 10, &request);
    assert_eq!(
        answer.responses[0].partition_responses[0]
            .current_leader
            .leader_epoch,
        1
    );
    assert_eq!(answer.node_endpoints[0].port, 9094);
}

#[test]
fn too_few_replicas_in_sync_refuse_acks_all_only() {
    let mut script = Script::with(Options::with_nodes(3));
    script.topic("t", 1, &[("min.insync.replicas", "3")]);
    script.cluster.stop_node(script.now, NodeId(3)).unwrap();
    let all = produce("t", 0, records(1).bytes());
    assert_eq!(
        code_at(&mut script, 1, 12, &all),
        ErrorCode::NOT_ENOUGH_REPLICAS.0
    );
    assert_eq!(code_at(&mut script, 1, 12, &all.with_acks(1)), 0);
}

/// t/0 with its followers held, one batch sent with acks=all and not answered yet.
fn waiting_for_followers() -> (Script, crate::ConnectionId) {
    let mut script = Script::three_nodes();
    script.cluster.hold_replication("t", 0).unwrap();
    let connection = script.connect(1);
    script.send(connection, 12, &produce("t", 0, records(2).bytes()));
    assert_eq!(script.take_bytes(connection), None);
    (script, connection)
}

fn answer(script: &mut Script, connection: crate::ConnectionId) -> Option<(i16, i64)> {
    let response = script.take::<ProduceRequest>(connection, 12)?;
    let partition = &response.responses[0].partition_responses[0];
    Some((partition.error_code, partition.base_offset))
}

#[test]
fn acks_all_is_answered_once_the_followers_have_it() {
    let (mut script, connection) = waiting_for_followers();
    assert_eq!(script.cluster.view("t", 0).unwrap().high_watermark, 0);
    script
        .cluster
        .release_replication(script.now, "t", 0)
        .unwrap();
    script.collect();
    assert_eq!(answer(&mut script, connection), Some((0, 0)));
}

#[test]
fn line_6_acks_all_times_out_although_the_leader_has_written_it() {
    let (mut script, connection) = waiting_for_followers();
    script.pass_ms(999);
    assert_eq!(answer(&mut script, connection), None);
    script.pass_ms(1);
    assert_eq!(
        answer(&mut script, connection),
        Some((ErrorCode::REQUEST_TIMED_OUT.0, -1))
    );
    assert_eq!(script.cluster.view("t", 0).unwrap().end_offset, 2);
}

#[test]
fn a_leader_that_is_replaced_answers_what_waited_and_its_tail_is_lost() {
    let (mut script, connection) = waiting_for_followers();
    script
        .cluster
        .move_leader(script.now, "t", 0, NodeId(2))
        .unwrap();
    script.collect();
    let moved = ErrorCode::NOT_LEADER_OR_FOLLOWER.0;
    assert_eq!(answer(&mut script, connection), Some((moved, -1)));
    assert_eq!(script.cluster.view("t", 0).unwrap().end_offset, 0);
}

#[test]
fn a_deleted_topic_answers_what_waited() {
    let (mut script, connection) = waiting_for_followers();
    script.cluster.delete_topic(script.now, "t");
    script.collect();
    let gone = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
    assert_eq!(answer(&mut script, connection), Some((gone, -1)));
}

#[test]
fn old_batches_are_dropped_whole_once_a_partition_holds_too_much() {
    let mut script = Script::with(Options::with_nodes(3));
    let batch = || records(10).bytes();
    let limit = (3 * batch().len()).to_string();
    script.topic("t", 1, &[("retention.bytes", &limit)]);
    for _ in 0..5 {
        script.produce(batch());
    }
    let view = script.cluster.view("t", 0).unwrap();
    assert_eq!((view.start_offset, view.end_offset), (20, 50));
    assert_eq!(
        script.fetch(19).error_code,
        ErrorCode::OFFSET_OUT_OF_RANGE.0
    );
    assert_eq!(script.fetch(20).error_code, 0);
}

#[test]
fn a_log_that_is_never_trimmed_refuses_to_grow_without_bound() {
    let batch = || records(10).bytes();
    let options = Options {
        max_log_bytes: 2 * batch().len(),
        ..Options::with_nodes(3)
    };
    let mut script = Script::with(options);
    script.topic("t", 1, &[("retention.bytes", "-1")]);
    let codes: Vec<i16> = (0..3).map(|_| script.produce(batch()).error_code).collect();
    assert_eq!(codes, [0, 0, ErrorCode::KAFKA_STORAGE_ERROR.0]);
}

#[test]
fn records_that_do_not_match_their_header_are_refused() {
    let patched = |at: usize, value: i32| {
        let mut batch = records(2).bytes().to_vec();
        batch[at..at + 4].copy_from_slice(&value.to_be_bytes());
        let crc = crc_of(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        Bytes::from(batch)
    };
    let mut script = Script::three_nodes();
    let (last_offset_delta, record_count) = (23, 57);
    for batch in [
        patched(last_offset_delta, 5),
        patched(record_count, 1),
        patched(record_count, -1),
    ] {
        assert_eq!(
            script.produce(batch).error_code,
            ErrorCode::INVALID_RECORD.0
        );
    }
    assert_eq!(script.produce(patched(record_count, 2)).error_code, 0);
}

/// CRC-32C, bit by bit.
fn crc_of(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let shifted = crc >> 1;
            if crc & 1 == 1 {
                shifted ^ 0x82f6_3b78
            } else {
                shifted
            }
        })
    })
}

#[test]
fn the_builder_of_these_scripts_makes_what_it_says() {
    let batch: Records = records(2);
    assert_eq!(crc_of(&batch.bytes()[21..]), {
        let bytes = records(2).bytes();
        u32::from_be_bytes(bytes[17..21].try_into().unwrap())
    });
}
