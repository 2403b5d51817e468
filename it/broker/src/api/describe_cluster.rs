//! DescribeCluster (60), versions 0 to 2.

use super::{Api, Call, Outcome, code_of};
use crate::state::{State, wire};
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use tidewatch_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

/// Brokers; controllers (KIP-919) cannot be asked here.
const BROKER_ENDPOINTS: i8 = 1;

impl Api for DescribeClusterRequest {
    fn handle(self, state: &mut State, call: &Call) -> Outcome<DescribeClusterResponse> {
        let checked = call.on_whole(|| match self.endpoint_type {
            BROKER_ENDPOINTS => Ok(()),
            _ => Err(ErrorCode::MISMATCHED_ENDPOINT_TYPE),
        });
        let brokers = state.brokers().map(|endpoint| {
            DescribeClusterBroker::default()
                .with_broker_id(BrokerId(endpoint.node.0))
                .with_host(wire(&endpoint.host))
                .with_port(i32::from(endpoint.port))
        });
        Outcome::Answer(
            DescribeClusterResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_error_code(code_of(&checked))
                .with_endpoint_type(BROKER_ENDPOINTS)
                .with_cluster_id(wire(&state.cluster_id))
                .with_controller_id(BrokerId(state.controller()))
                .with_brokers(brokers.collect()),
        )
    }
}
