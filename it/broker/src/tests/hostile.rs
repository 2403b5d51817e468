//! Bytes from strangers: they get an answer or lose their connection, and hurt nobody else.

use super::script::{Script, fetch, produce, records};
use crate::CloseReason;
use proptest::prelude::*;
use tidewatch_protocol::Request;
use tidewatch_protocol::message::encode_request;
use tidewatch_protocol::messages::{
    CreateTopicsRequest, DescribeConfigsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest,
};

fn frame<R: Request>(request: &R, version: i16) -> Vec<u8> {
    encode_request(request, version, 1, "x").unwrap().head[4..].to_vec()
}

fn templates() -> Vec<Vec<u8>> {
    vec![
        frame(&produce("t", 0, records(3).bytes()), 9),
        frame(&produce("t", 0, records(3).by(4, 0, 0).bytes()), 8),
        frame(&fetch("t", 0, 0), 12),
        frame(&fetch("t", 0, 0).with_max_wait_ms(10), 4),
        frame(&MetadataRequest::default().with_topics(None), 12),
        frame(&CreateTopicsRequest::default(), 7),
        frame(&ListOffsetsRequest::default(), 6),
        frame(&OffsetCommitRequest::default(), 8),
        frame(&OffsetFetchRequest::default(), 8),
        frame(&DescribeConfigsRequest::default(), 4),
    ]
}

/// Sends the bytes on a connection of their own, then checks that another client is served.
fn survives(script: &mut Script, bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let stranger = script.connect(1);
    script.send_bytes(stranger, bytes);
    script.pass_ms(60);
    let end = script
        .cluster
        .view("t", 0)
        .map_or(0, |view| view.end_offset);
    prop_assert!((0..=3).contains(&end));
    let friend = script.call(2, 12, &MetadataRequest::default().with_topics(None));
    prop_assert_eq!(friend.brokers.len(), 3);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn line_41_noise_hurts_nobody(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        survives(&mut Script::three_nodes(), bytes)?;
    }

    #[test]
    fn line_41_damaged_requests_hurt_nobody(
        which in 0..10_usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = templates().swap_remove(which);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut cut_short = bytes.clone();
        cut_short.truncate(cut.index(bytes.len()));
        survives(&mut Script::three_nodes(), bytes)?;
        survives(&mut Script::three_nodes(), cut_short)?;
    }

    #[test]
    fn line_41_raised_counts_hurt_nobody(
        which in 0..10_usize,
        at in any::<prop::sample::Index>(),
        huge in prop_oneof![Just(i32::MAX), Just(i32::MIN), Just(-2), Just(0x0fff_ffff)],
    ) {
        let mut bytes = templates().swap_remove(which);
        let at = at.index(bytes.len() - 4);
        bytes[at..at + 4].copy_from_slice(&huge.to_be_bytes());
        survives(&mut Script::three_nodes(), bytes)?;
    }
}

#[test]
fn a_client_that_sends_too_far_ahead_is_closed() {
    let mut script = Script::three_nodes();
    let connection = script.connect(1);
    script.send(connection, 12, &fetch("t", 0, 0).with_max_wait_ms(500));
    for _ in 0..1000 {
        script.send(connection, 12, &MetadataRequest::default());
    }
    assert_eq!(script.closed(connection), None);
    script.send(connection, 12, &MetadataRequest::default());
    assert_eq!(script.closed(connection), Some(&CloseReason::TooFarAhead));
    assert_eq!(script.cluster.poll_timeout(), None);
}

#[test]
fn extreme_numbers_in_a_fetch_are_taken_for_what_they_are() {
    let mut script = Script::three_nodes();
    script.produce(records(1).bytes());
    for offset in [i64::MIN, i64::MAX] {
        let request = fetch("t", 0, offset)
            .with_max_bytes(i32::MIN)
            .with_min_bytes(i32::MAX)
            .with_max_wait_ms(i32::MAX);
        let answer = script.call::<FetchRequest>(1, 12, &request);
        assert_eq!(answer.responses[0].partitions[0].error_code, 1);
    }
}
