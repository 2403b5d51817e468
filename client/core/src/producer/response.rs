//! What a Produce call's end means for each batch in it.

use super::delivery::{DeliveryCause, Failure, Written};
use crate::call::{BrokerId, Fact, TopicPartition};
use crate::error::{CallError, CallErrorKind};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::ProduceResponse;
use tidewatch_protocol::messages::produce_response::PartitionProduceResponse;
use uuid::Uuid;

/// The end of one attempt at one batch.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Written(Written),
    Refused(Refusal),
    /// No answer.
    Lost(CallError),
    /// No answer, and none was to come (acks=0): perhaps written, but nothing detects a double.
    Unacknowledged(CallError),
}

/// A broker's refusal of one batch.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) log_start_offset: i64,
    message: Option<String>,
    /// The records that the batch was refused for, by index, and what the broker says about each
    /// (KIP-467). Empty where the batch as a whole is at fault, or the broker is older than Produce 8.
    records: BTreeMap<i32, Option<String>>,
}

impl Refusal {
    /// The leader had appended the batch when it gave up on its replicas.
    pub(crate) fn possibly_written(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND | ErrorCode::REQUEST_TIMED_OUT
        )
    }

    /// Whether the broker named the record at `index` as one that it will not take.
    pub(crate) fn names(&self, index: i32) -> bool {
        self.records.contains_key(&index)
    }

    /// Whether the batch was refused for some of its records only.
    pub(crate) fn names_some_of(&self, count: i32) -> bool {
        let named = self.records.range(0..count.max(0)).count();
        named > 0 && i32::try_from(named).is_ok_and(|named| named < count)
    }

    /// For a part of the batch, which begins with the record at `first`; 0 for the whole.
    pub(crate) fn failure_from(&self, first: i32, possibly_written: bool) -> Failure {
        let own = self.records.range(first..);
        let own = own.filter_map(|(index, message)| Some((index - first, message.clone()?)));
        Failure {
            cause: DeliveryCause::Broker {
                code: self.code,
                message: self.message.clone(),
            },
            possibly_written,
            record_messages: own.collect(),
        }
    }
}

/// A partition as one call named it.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    /// The partition's queue number.
    pub(crate) number: u32,
    pub(crate) name: TopicPartition,
    pub(crate) topic_id: Option<Uuid>,
}

/// A response, by partition.
#[derive(Debug)]
pub(crate) struct Answers {
    by_id: HashMap<(Uuid, i32), PartitionProduceResponse>,
    by_name: HashMap<(String, i32), PartitionProduceResponse>,
    addresses: HashMap<i32, (Arc<str>, u16)>,
}

impl Answers {
    pub(crate) fn new(response: ProduceResponse) -> Self {
        let (mut by_id, mut by_name) = (HashMap::new(), HashMap::new());
        for topic in response.responses {
            for answer in topic.partition_responses {
                if topic.topic_id.is_nil() {
                    by_name.insert((topic.name.to_string(), answer.index), answer);
                } else {
                    by_id.insert((topic.topic_id, answer.index), answer);
                }
            }
        }
        let nodes = response.node_endpoints.into_iter();
        let addresses = nodes.filter_map(|node| {
            let port = u16::try_from(node.port).ok()?;
            Some((node.node_id.0, (Arc::from(node.host.as_str()), port)))
        });
        Self {
            by_id,
            by_name,
            addresses: addresses.collect(),
        }
    }

    /// What became of the batch for `named`, and a hint about its leader.
    pub(crate) fn take(&mut self, named: &Named, broker: BrokerId) -> (End, Option<Fact>) {
        let partition = named.name.partition;
        let id = named
            .topic_id
            .and_then(|id| self.by_id.remove(&(id, partition)));
        let name = || (named.name.topic.to_string(), partition);
        match id.or_else(|| self.by_name.remove(&name())) {
            Some(answer) => {
                let hint = self.hint(&answer, &named.name);
                (end_of(answer), hint)
            }
            None => (left_out(broker), None),
        }
    }

    fn hint(&self, answer: &PartitionProduceResponse, name: &TopicPartition) -> Option<Fact> {
        let leader = answer.current_leader.leader_id.0;
        (leader >= 0).then(|| Fact::LeaderHint {
            partition: name.clone(),
            leader: BrokerId(leader),
            epoch: answer.current_leader.leader_epoch,
            address: self.addresses.get(&leader).cloned(),
        })
    }
}

/// The response does not mention a batch of the request: nobody knows whether it was written.
fn left_out(broker: BrokerId) -> End {
    let kind = CallErrorKind::Disconnected {
        address: format!("broker {}", broker.0),
        why: "its Produce response leaves a partition of the request out".to_owned(),
    };
    End::Lost(CallError {
        kind,
        written: true,
        broker: Some(broker),
    })
}

fn end_of(answer: PartitionProduceResponse) -> End {
    let code = ErrorCode(answer.error_code);
    let log_append_time_ms = Some(answer.log_append_time_ms).filter(|ms| *ms >= 0);
    match code {
        ErrorCode::NONE => End::Written(Written {
            base_offset: answer.base_offset,
            log_append_time_ms,
        }),
        // The broker has it from an earlier attempt, and no longer knows where.
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => End::Written(Written::UNPLACED),
        code => {
            let records = answer.record_errors.into_iter().map(|error| {
                let message = error.batch_index_error_message;
                (
                    error.batch_index,
                    message.map(|message| message.to_string()),
                )
            });
            End::Refused(Refusal {
                code,
                log_start_offset: answer.log_start_offset,
                message: answer.error_message.map(|message| message.to_string()),
                records: records.collect(),
            })
        }
    }
}
