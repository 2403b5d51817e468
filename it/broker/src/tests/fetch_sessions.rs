//! Fetch sessions: what a node remembers, and what it need not say again (KIP-227).

use super::script::{Script, fetch, name, produce, records};
use crate::{NodeId, Options};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use tidewatch_protocol::messages::{FetchRequest, FetchResponse};
use uuid::Uuid;

/// One node and the topic "t" of three partitions, with room for so many sessions.
fn cluster(slots: usize) -> Script {
    let mut script = Script::with(Options {
        fetch_session_slots: slots,
        ..Options::default()
    });
    script.topic("t", 3, &[]);
    script
}

/// These partitions of "t", each from its offset, in the session's next request.
fn request(session: (i32, i32), partitions: &[(i32, i64)]) -> FetchRequest {
    let wanted = partitions.iter().map(|(index, offset)| {
        FetchPartition::default()
            .with_partition(*index)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20)
    });
    let topic = FetchTopic::default()
        .with_topic(name("t"))
        .with_partitions(wanted.collect());
    fetch("t", 0, 0)
        .with_session_id(session.0)
        .with_session_epoch(session.1)
        .with_topics(vec![topic])
}

fn forgetting(request: FetchRequest, partition: i32) -> FetchRequest {
    let topic = ForgottenTopic::default()
        .with_topic(name("t"))
        .with_partitions(vec![partition]);
    request.with_forgotten_topics_data(vec![topic])
}

const ALL: [(i32, i64); 3] = [(0, 0), (1, 0), (2, 0)];

/// A session of all three partitions, just begun.
fn begin(script: &mut Script) -> i32 {
    let response = script.call(1, 12, &request((0, 0), &ALL));
    assert_eq!(told(&response), [0, 1, 2]);
    response.session_id
}

fn told(response: &FetchResponse) -> Vec<i32> {
    let topics = response.responses.iter();
    topics
        .flat_map(|topic| &topic.partitions)
        .map(|data| data.partition_index)
        .collect()
}

#[test]
fn line_24_a_session_is_told_only_what_is_new() {
    let mut script = cluster(10);
    let id = begin(&mut script);
    assert!(id > 0);
    let response = script.call(1, 12, &request((id, 1), &[]));
    assert_eq!((response.session_id, told(&response)), (id, vec![]));
    script.call(1, 12, &produce("t", 1, records(2).bytes()));
    let response = script.call(1, 12, &request((id, 2), &[]));
    assert_eq!(told(&response), [1]);
    // The broker does not move a fetch offset by itself.
    let response = script.call(1, 12, &request((id, 3), &[]));
    assert_eq!(told(&response), [1]);
    let response = script.call(1, 12, &request((id, 4), &[(1, 2)]));
    assert_eq!(told(&response), [] as [i32; 0]);
}

#[test]
fn line_24_a_log_that_begins_elsewhere_is_news() {
    let mut script = cluster(10);
    script.call(1, 12, &produce("t", 0, records(3).bytes()));
    let response = script.call(1, 12, &request((0, 0), &[(0, 3), (1, 0)]));
    let id = response.session_id;
    script
        .cluster
        .delete_records(script.now, "t", 0, 2)
        .unwrap();
    let response = script.call(1, 12, &request((id, 1), &[]));
    assert_eq!(told(&response), [0]);
    assert_eq!(response.responses[0].partitions[0].log_start_offset, 2);
    let response = script.call(1, 12, &request((id, 2), &[]));
    assert_eq!(told(&response), [] as [i32; 0]);
}

#[test]
fn line_24_an_error_is_told_each_time_and_so_is_its_end() {
    let mut script = cluster(10);
    let id = begin(&mut script);
    let beyond = script.call(1, 12, &request((id, 1), &[(2, 99)]));
    assert_eq!(told(&beyond), [2]);
    let again = script.call(1, 12, &request((id, 2), &[]));
    let code = again.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::OFFSET_OUT_OF_RANGE.0);
    let mended = script.call(1, 12, &request((id, 3), &[(2, 0)]));
    assert_eq!(told(&mended), [2]);
    assert_eq!(mended.responses[0].partitions[0].high_watermark, 0);
}

#[test]
fn line_24_forgotten_partitions_are_told_no_more_and_an_empty_session_ends() {
    let mut script = cluster(10);
    let id = begin(&mut script);
    script.call(1, 12, &produce("t", 1, records(1).bytes()));
    let response = script.call(1, 12, &forgetting(request((id, 1), &[]), 1));
    assert_eq!(told(&response), [] as [i32; 0]);
    for (epoch, partition) in [(2, 0), (3, 2)] {
        script.call(1, 12, &forgetting(request((id, epoch), &[]), partition));
    }
    let response = script.call(1, 12, &request((id, 4), &[]));
    let code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND.0;
    assert_eq!(response.error_code, code);
}

#[test]
fn line_24_a_wrong_id_epoch_or_way_to_name_topics_is_refused() {
    let mut script = cluster(10);
    let id = begin(&mut script);
    let code = |script: &mut Script, version, session| {
        let mut request = request(session, &[]);
        request.topics.clear();
        ErrorCode(script.call(1, version, &request).error_code)
    };
    let not_found = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
    assert_eq!(
        code(&mut script, 12, (id.wrapping_add(1).max(1), 1)),
        not_found
    );
    let wrong_epoch = ErrorCode::INVALID_FETCH_SESSION_EPOCH;
    assert_eq!(code(&mut script, 12, (id, 2)), wrong_epoch);
    let topic_ids = ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR;
    assert_eq!(code(&mut script, 13, (id, 1)), topic_ids);
    assert_eq!(code(&mut script, 12, (id, 1)), ErrorCode::NONE);
}

#[test]
fn line_24_a_session_ends_when_it_is_closed_or_its_node_stops() {
    let mut script = cluster(10);
    let not_found = ErrorCode::FETCH_SESSION_ID_NOT_FOUND.0;
    for closing in [-1, 0] {
        let id = begin(&mut script);
        script.call(1, 12, &request((id, closing), &ALL));
        let response = script.call(1, 12, &request((id, 1), &[]));
        assert_eq!(response.error_code, not_found, "epoch {closing}");
    }
    let id = begin(&mut script);
    script.cluster.stop_node(script.now, NodeId(1)).unwrap();
    script.cluster.start_node(script.now, NodeId(1)).unwrap();
    let response = script.call(1, 12, &request((id, 1), &[]));
    assert_eq!(response.error_code, not_found);
}

#[test]
fn line_24_an_id_from_before_a_restart_is_not_another_clients_session() {
    let mut script = cluster(10);
    let id = begin(&mut script);
    script.cluster.stop_node(script.now, NodeId(1)).unwrap();
    script.cluster.start_node(script.now, NodeId(1)).unwrap();
    begin(&mut script);
    let response = script.call(1, 12, &request((id, 1), &[]));
    let not_found = ErrorCode::FETCH_SESSION_ID_NOT_FOUND.0;
    assert_eq!(response.error_code, not_found);
}

#[test]
fn line_24_without_a_slot_there_is_no_session_until_one_is_stale() {
    let mut script = cluster(1);
    let first = begin(&mut script);
    assert_eq!(begin(&mut script), 0);
    script.pass_ms(100_000);
    script.call(1, 12, &request((first, 1), &[]));
    // Old by now, but in use and no smaller than the new one would be.
    script.pass_ms(100_000);
    assert_eq!(begin(&mut script), 0);
    script.pass_ms(30_000);
    let second = begin(&mut script);
    assert!(second > 0 && second != first);
    let response = script.call(1, 12, &request((first, 2), &[]));
    let not_found = ErrorCode::FETCH_SESSION_ID_NOT_FOUND.0;
    assert_eq!(response.error_code, not_found);
}

#[test]
fn line_24_an_old_session_gives_way_to_a_larger_one() {
    let mut script = cluster(1);
    let response = script.call(1, 12, &request((0, 0), &ALL[..1]));
    let small = response.session_id;
    script.pass_ms(100_000);
    script.call(1, 12, &request((small, 1), &[]));
    script.pass_ms(30_000);
    assert!(begin(&mut script) > 0);
}

#[test]
fn line_24_who_had_records_last_comes_last() {
    let mut script = cluster(10);
    for partition in [0, 1, 2] {
        script.call(1, 12, &produce("t", partition, records(3).bytes()));
    }
    let size = i32::try_from(records(3).bytes().len()).unwrap();
    let one_at_a_time = |session| request(session, &[]).with_max_bytes(size);
    let id = script
        .call(1, 12, &request((0, 0), &ALL).with_max_bytes(1))
        .session_id;
    let served: Vec<i32> = (1..=6)
        .map(|epoch| told(&script.call(1, 12, &one_at_a_time((id, epoch))))[0])
        .collect();
    assert_eq!(served, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn line_24_a_session_by_topic_id_follows_the_id() {
    let mut script = cluster(10);
    let id_of = |script: &Script| script.cluster.topic_id("t").unwrap();
    let with_id = |session, partitions: &[(i32, i64)], id: Uuid| {
        let mut request = request(session, partitions);
        request
            .topics
            .iter_mut()
            .for_each(|topic| topic.topic_id = id);
        request
    };
    let id = id_of(&script);
    let session = script.call(1, 13, &with_id((0, 0), &ALL, id)).session_id;
    script.cluster.delete_topic(script.now, "t");
    script.topic("t", 3, &[]);
    let response = script.call(1, 13, &request((session, 1), &[]).with_topics(Vec::new()));
    let codes = response.responses[0].partitions.iter();
    let unknown = ErrorCode::UNKNOWN_TOPIC_ID.0;
    assert!(codes.clone().all(|data| data.error_code == unknown));
    assert_eq!(codes.count(), 3);
}
