//! Nodes that stop and start, leaders that move, records that are lost.

use super::script::{Script, fetch, only, produce, records};
use crate::{CloseReason, ControlError, Endpoint, NodeId, Options};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::MetadataRequest;

#[test]
fn a_stopped_node_drops_its_clients_and_another_leads() {
    let mut script = Script::three_nodes();
    script.produce(records(2).bytes());
    let client = script.connect(1);
    script.cluster.stop_node(script.now, NodeId(1)).unwrap();
    script.collect();
    assert_eq!(script.closed(client), Some(&CloseReason::NodeStopped));
    assert_eq!(script.cluster.handle_connected(NodeId(1)), None);

    let view = script.cluster.view("t", 0).unwrap();
    assert_eq!(
        (view.leader, view.leader_epoch, view.end_offset),
        (Some(NodeId(2)), 1, 2)
    );
    assert_eq!(view.in_sync, [NodeId(2), NodeId(3)]);
    let all = script.call(2, 12, &MetadataRequest::default().with_topics(None));
    assert_eq!(all.brokers.len(), 2);

    script.cluster.start_node(script.now, NodeId(1)).unwrap();
    let view = script.cluster.view("t", 0).unwrap();
    assert_eq!((view.leader, view.in_sync.len()), (Some(NodeId(2)), 3));
    assert!(script.cluster.handle_connected(NodeId(1)).is_some());
}

#[test]
fn until_the_failover_everybody_counts_on_the_dead_leader() {
    let options = Options {
        failover_us: 1_500_000,
        ..Options::with_nodes(3)
    };
    let mut script = Script::with(options);
    script.topic("t", 2, &[]);
    script.cluster.stop_node(script.now, NodeId(1)).unwrap();
    script.pass_ms(1499);
    let answer = script.call(2, 12, &produce("t", 0, records(1).bytes()));
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.0);
    assert_eq!(partition.current_leader.leader_id.0, 1);
    script.pass_ms(1);
    let answer = script.call(2, 12, &produce("t", 0, records(1).bytes()));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

#[test]
fn a_node_that_is_back_before_its_failover_goes_on_leading() {
    let options = Options {
        failover_us: 1_500_000,
        ..Options::with_nodes(3)
    };
    let mut script = Script::with(options);
    script.topic("t", 2, &[]);
    script.cluster.stop_node(script.now, NodeId(1)).unwrap();
    script.pass_ms(1000);
    script.cluster.start_node(script.now, NodeId(1)).unwrap();
    script.pass_ms(1000);
    let view = script.cluster.view("t", 0).unwrap();
    assert_eq!((view.leader, view.leader_epoch), (Some(NodeId(1)), 0));
}

#[test]
fn the_last_replica_in_sync_keeps_its_records_and_leads_again() {
    let mut script = Script::three_nodes();
    script.produce(records(2).bytes());
    for node in [2, 3, 1] {
        script.cluster.stop_node(script.now, NodeId(node)).unwrap();
    }
    assert_eq!(script.cluster.view("t", 0).unwrap().leader, None);
    script.cluster.start_node(script.now, NodeId(2)).unwrap();
    assert_eq!(
        script.cluster.view("t", 0).unwrap().leader,
        None,
        "node 2 was not in sync"
    );
    script.cluster.start_node(script.now, NodeId(1)).unwrap();
    let view = script.cluster.view("t", 0).unwrap();
    assert_eq!((view.leader, view.end_offset), (Some(NodeId(1)), 2));
}

#[test]
fn line_25_an_unclean_leader_has_lost_acknowledged_records_and_their_sequences() {
    let mut script = Script::three_nodes();
    for sequence in [0, 2, 4] {
        assert_eq!(
            script
                .produce(records(2).by(5, 0, sequence).bytes())
                .error_code,
            0
        );
    }
    script
        .cluster
        .elect_unclean(script.now, "t", 0, NodeId(3), 3)
        .unwrap();
    let view = script.cluster.view("t", 0).unwrap();
    assert_eq!(
        (view.leader, view.leader_epoch, view.end_offset),
        (Some(NodeId(3)), 1, 2)
    );

    let lost = only(&script.call(3, 12, &fetch("t", 0, 6)));
    assert_eq!(lost.error_code, ErrorCode::OFFSET_OUT_OF_RANGE.0);
    let again = produce("t", 0, records(2).by(5, 0, 2).bytes());
    let answer = script.call(3, 12, &again).responses[0].partition_responses[0].clone();
    assert_eq!(
        (answer.error_code, answer.base_offset),
        (0, 2),
        "written anew, not a duplicate"
    );
}

#[test]
fn what_cannot_be_done_is_refused_in_words() {
    let mut script = Script::with(Options::with_nodes(3));
    script
        .cluster
        .create_topic(script.now, "alone", 1, 1, &[])
        .unwrap();
    let now = script.now;
    let cluster = &mut script.cluster;
    let not_replica = cluster.move_leader(now, "alone", 0, NodeId(2)).unwrap_err();
    assert_eq!(
        not_replica.to_string(),
        "node 2 holds no replica of alone/0"
    );
    assert!(matches!(
        cluster.view("alone", 1),
        Err(ControlError::NoPartition { .. })
    ));
    assert_eq!(
        cluster.stop_node(now, NodeId(9)),
        Err(ControlError::NoNode(NodeId(9)))
    );
    cluster.stop_node(now, NodeId(1)).unwrap();
    let stopped = cluster.move_leader(now, "alone", 0, NodeId(1));
    assert_eq!(stopped, Err(ControlError::NodeStopped(NodeId(1))));
    let error = cluster.create_topic(now, "alone", 1, 1, &[]).unwrap_err();
    assert!(
        error.to_string().contains("TOPIC_ALREADY_EXISTS"),
        "{error}"
    );
}

#[test]
fn clients_are_told_the_address_that_was_set() {
    let mut script = Script::three_nodes();
    let wrong = Endpoint {
        node: NodeId(2),
        host: "nowhere.invalid".to_owned(),
        port: 1,
    };
    script.cluster.set_endpoint(wrong).unwrap();
    let all = script.call(1, 12, &MetadataRequest::default().with_topics(None));
    let second = &all.brokers[1];
    assert_eq!((second.host.as_str(), second.port), ("nowhere.invalid", 1));
}
