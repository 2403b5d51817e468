//! CreateTopics (19), versions 2 to 7.

use super::{Api, Call, Outcome};
use crate::options::NodeId;
use crate::state::{MAX_PARTITIONS, NewTopic, Refused, State, wire};
use crate::topic::TopicConfig;
use std::collections::BTreeSet;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic,
};
use tidewatch_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use tidewatch_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

/// Asks for the broker's default (KIP-464).
const DEFAULT: i32 = -1;

impl Api for CreateTopicsRequest {
    fn topics(&self, _state: &State) -> Vec<String> {
        self.topics
            .iter()
            .map(|topic| topic.name.to_string())
            .collect()
    }

    fn handle(self, state: &mut State, call: &Call) -> Outcome<CreateTopicsResponse> {
        let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for topic in &self.topics {
            if !seen.insert(topic.name.clone()) {
                twice.insert(topic.name.clone());
            }
        }
        let topics = self.topics.iter().map(|topic| {
            let created = call.on_topic(&topic.name, || {
                if twice.contains(&topic.name) {
                    let name = topic.name.as_str();
                    return refuse(ErrorCode::INVALID_REQUEST, format!("{name} is named twice"));
                }
                create(state, topic, self.validate_only)
            });
            tell(topic, created)
        });
        let topics = topics.collect();
        Outcome::Answer(
            CreateTopicsResponse::default()
                .with_throttle_time_ms(call.throttle_ms)
                .with_topics(topics),
        )
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: code.meaning().says.to_owned(),
        }
    }
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused {
        code,
        message: message.into(),
    })
}

struct Created {
    id: uuid::Uuid,
    partitions: usize,
    factor: usize,
    config: TopicConfig,
}

fn create(state: &mut State, topic: &CreatableTopic, dry: bool) -> Result<Created, Refused> {
    state.check_new_name(&topic.name)?;
    let set = topic.configs.iter().map(|config| {
        let value = config.value.as_ref().map(|value| value.as_str());
        value
            .map(|value| (config.name.as_str(), value))
            .ok_or_else(|| Refused {
                code: ErrorCode::INVALID_CONFIG,
                message: format!(
                    "Null value not supported for topic configs: {}",
                    config.name
                ),
            })
    });
    let config = state.topic_config(set.collect::<Result<Vec<_>, _>>()?)?;
    let assignment = if topic.assignments.is_empty() {
        assign(state, topic)?
    } else {
        check_assignment(state, topic)?
    };
    state.check_room_for(assignment.len())?;
    let partitions = assignment.len();
    let factor = assignment.first().map_or(0, Vec::len);
    let id = if dry {
        uuid::Uuid::nil()
    } else {
        let config = config.clone();
        state.create_topic(NewTopic {
            name: topic.name.to_string(),
            assignment,
            config,
        })
    };
    Ok(Created {
        id,
        partitions,
        factor,
        config,
    })
}

fn assign(state: &State, topic: &CreatableTopic) -> Result<Vec<Vec<NodeId>>, Refused> {
    let partitions = match topic.num_partitions {
        DEFAULT => state.options.default_partitions,
        asked => asked,
    };
    let factor = match i32::from(topic.replication_factor) {
        DEFAULT => i32::from(state.options.default_replication_factor),
        asked => asked,
    };
    let brokers = state.brokers().count();
    let factor = match usize::try_from(factor) {
        Ok(0) | Err(_) => {
            let message =
                "Replication factor must be larger than 0, or -1 to use the default value.";
            return refuse(ErrorCode::INVALID_REPLICATION_FACTOR, message);
        }
        Ok(factor) if factor > brokers => {
            let message = format!(
                "Unable to replicate the partition {factor} time(s): \
                 the cluster has {brokers} broker(s)"
            );
            return refuse(ErrorCode::INVALID_REPLICATION_FACTOR, message);
        }
        Ok(factor) => factor,
    };
    match usize::try_from(partitions) {
        Ok(0) | Err(_) => {
            let message = "Number of partitions was set to an invalid non-positive value.";
            refuse(ErrorCode::INVALID_PARTITIONS, message)
        }
        Ok(partitions) => {
            state.check_room_for(partitions.min(MAX_PARTITIONS + 1))?;
            Ok(state.assign(partitions, factor))
        }
    }
}

fn check_assignment(state: &State, topic: &CreatableTopic) -> Result<Vec<Vec<NodeId>>, Refused> {
    let wrong = |message: &str| refuse(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
    if topic.num_partitions != DEFAULT || i32::from(topic.replication_factor) != DEFAULT {
        let message = "with an assignment, partitions and replication factor must be -1";
        return refuse(ErrorCode::INVALID_REQUEST, message);
    }
    let mut given: Vec<&CreatableReplicaAssignment> = topic.assignments.iter().collect();
    given.sort_by_key(|assignment| assignment.partition_index);
    if given
        .iter()
        .zip(0..)
        .any(|(assignment, index)| assignment.partition_index != index)
    {
        return wrong("partitions should be a consecutive 0-based integer sequence");
    }
    let factor = given
        .first()
        .map_or(0, |assignment| assignment.broker_ids.len());
    let mut assignment = Vec::with_capacity(given.len());
    for partition in given {
        let replicas: Vec<NodeId> = partition.broker_ids.iter().map(|id| NodeId(id.0)).collect();
        if replicas.is_empty() || replicas.len() != factor {
            return wrong("every partition needs the same number of replicas, at least one");
        }
        if replicas.iter().collect::<BTreeSet<_>>().len() != replicas.len() {
            return wrong("a partition names a broker twice");
        }
        if replicas.iter().any(|node| !state.nodes.contains_key(node)) {
            return wrong("a partition names a broker that does not exist");
        }
        assignment.push(replicas);
    }
    Ok(assignment)
}

fn tell(topic: &CreatableTopic, created: Result<Created, Refused>) -> CreatableTopicResult {
    let answer = CreatableTopicResult::default().with_name(topic.name.clone());
    match created {
        Ok(created) => {
            let configs = created.config.entries().map(|entry| {
                CreatableTopicConfigs::default()
                    .with_name(wire(entry.name))
                    .with_value(Some(wire(&entry.value)))
                    .with_config_source(entry.source as i8)
            });
            answer
                .with_topic_id(created.id)
                .with_error_message(None)
                .with_num_partitions(i32::try_from(created.partitions).unwrap_or(i32::MAX))
                .with_replication_factor(i16::try_from(created.factor).unwrap_or(i16::MAX))
                .with_configs(Some(configs.collect()))
        }
        Err(refused) => answer
            .with_error_code(refused.code.0)
            .with_error_message(Some(wire(&refused.message)))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_configs(Some(Vec::new())),
    }
}
