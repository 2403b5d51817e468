//! Finding topics that may be created later than the job is started.

use std::sync::Arc;
use std::time::Duration;
use tidewatch_client::{Client, Cluster, ErrorCode};
use tidewatch_command::Failure;

/// Between two looks for a topic, beside the time that a look itself waits for it.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What to do about a topic that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Say so, and wait until somebody creates it.
    Wait,
    /// Fail.
    Fail,
}

/// The cluster with all of `names` in it.
///
/// Cancellation-safe: it only asks.
pub(crate) async fn find(
    client: &Client,
    names: &[&str],
    absent: Absent,
) -> Result<Arc<Cluster>, Failure> {
    let mut said: Option<MissingTopic> = None;
    loop {
        let cluster = client.cluster(names).await.map_err(Failure::running)?;
        let Some(missing) = first_missing(&cluster, names) else {
            return Ok(cluster);
        };
        if absent == Absent::Fail || !missing.may_come() {
            return Err(Failure::running(missing));
        }
        if said.as_ref() != Some(&missing) {
            tracing::warn!("{missing}; waiting for it");
            said = Some(missing);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The first of `names` that has no partition, and why.
fn first_missing(cluster: &Cluster, names: &[&str]) -> Option<MissingTopic> {
    names.iter().find_map(|name| {
        let topic = cluster.topics.get(*name);
        let code = topic.map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |topic| topic.error);
        let has_partitions = topic.is_some_and(|topic| !topic.partitions.is_empty());
        (!code.is_ok() || !has_partitions).then(|| MissingTopic {
            topic: (*name).to_owned(),
            code,
        })
    })
}

/// A topic that cannot be used as it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.explain())]
struct MissingTopic {
    topic: String,
    code: ErrorCode,
}

impl MissingTopic {
    /// Whether somebody may still create it, or it is only on its way.
    fn may_come(&self) -> bool {
        self.code.is_ok() || self.code.meaning().retriable
    }

    fn explain(&self) -> String {
        let Self { topic, code } = self;
        match *code {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => format!(
                "the topic {topic} does not exist: create it (kafka-topics --create --topic \
                 {topic}), or name the topics to read with --topic"
            ),
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => format!(
                "this client is not allowed to see the topic {topic}: give its user the ACL \
                 operation Read on it (kafka-acls --add --operation Read --topic {topic}); the \
                 broker says: {code}"
            ),
            code if code.is_ok() => format!("the topic {topic} has no partitions yet"),
            code => format!("the topic {topic} cannot be used: the broker says {code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(code: ErrorCode) -> MissingTopic {
        MissingTopic {
            topic: "cpu-monitor".to_owned(),
            code,
        }
    }

    #[test]
    fn a_topic_that_nobody_created_may_come_and_the_remedy_is_named() {
        let unknown = missing(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert!(unknown.may_come());
        let line = unknown.to_string();
        assert!(
            line.contains("cpu-monitor does not exist") && line.contains("--topic"),
            "{line}"
        );
    }

    #[test]
    fn a_topic_that_is_forbidden_or_misnamed_never_comes() {
        for code in [
            ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
        ] {
            assert!(!missing(code).may_come());
            let line = missing(code).to_string();
            assert!(
                line.contains("cpu-monitor") && line.contains(&code.to_string()),
                "{line}"
            );
        }
    }
}
