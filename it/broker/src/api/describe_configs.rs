//! DescribeConfigs (32), versions 1 to 4, for topics and brokers.

use super::{Api, Call, Outcome};
use crate::state::{State, wire};
use crate::topic::{ConfigEntry, ConfigSource, ConfigType};
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::describe_configs_request::DescribeConfigsResource;
use tidewatch_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use tidewatch_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

impl Api for DescribeConfigsRequest {
    fn topics(&self, _state: &State) -> Vec<String> {
        let topics = self
            .resources
            .iter()
            .filter(|resource| resource.resource_type == TOPIC);
        topics
            .map(|resource| resource.resource_name.to_string())
            .collect()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<DescribeConfigsResponse> {
        let synonyms = self.include_synonyms;
        let results = self.resources.iter().map(|resource| {
            let entries = call.on_topic(&resource.resource_name, || entries(state, resource));
            let answer = DescribeConfigsResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone());
            match entries {
                Ok(entries) => {
                    let wanted = entries
                        .iter()
                        .filter(|entry| is_wanted(resource, entry.name));
                    answer.with_configs(wanted.map(|entry| tell(entry, synonyms)).collect())
                }
                Err(code) => answer
                    .with_error_code(code.0)
                    .with_error_message(Some(wire(code.meaning().says))),
            }
        });
        Outcome::Answer(
            DescribeConfigsResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_results(results.collect()),
        )
    }
}

fn is_wanted(resource: &DescribeConfigsResource, name: &str) -> bool {
    match &resource.configuration_keys {
        None => true,
        Some(keys) => keys.is_empty() || keys.iter().any(|key| key.as_str() == name),
    }
}

fn entries(
    state: &State,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, ErrorCode> {
    match resource.resource_type {
        TOPIC => state
            .topics
            .get(resource.resource_name.as_str())
            .map(|topic| topic.config.entries().collect())
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        BROKER => Ok(broker_entries(state)),
        _ => Err(ErrorCode::INVALID_REQUEST),
    }
}

fn broker_entries(state: &State) -> Vec<ConfigEntry> {
    let options = &state.options;
    let entry = |name, value, kind| ConfigEntry {
        name,
        value,
        kind,
        source: ConfigSource::Broker,
    };
    vec![
        entry(
            "auto.create.topics.enable",
            options.auto_create_topics.to_string(),
            ConfigType::Boolean,
        ),
        entry(
            "num.partitions",
            options.default_partitions.to_string(),
            ConfigType::Int,
        ),
        entry(
            "default.replication.factor",
            options.default_replication_factor.to_string(),
            ConfigType::Int,
        ),
    ]
}

fn tell(entry: &ConfigEntry, synonyms: bool) -> DescribeConfigsResourceResult {
    let name = StrBytes::from_static_str(entry.name);
    let synonym = DescribeConfigsSynonym::default()
        .with_name(name.clone())
        .with_value(Some(wire(&entry.value)))
        .with_source(entry.source as i8);
    DescribeConfigsResourceResult::default()
        .with_name(name)
        .with_value(Some(wire(&entry.value)))
        .with_config_source(entry.source as i8)
        .with_config_type(entry.kind as i8)
        .with_documentation(None)
        .with_synonyms(synonyms.then_some(synonym).into_iter().collect())
}
