//! Asks why nothing is delivered: with a client of its own, whose picture of the cluster is fresh.

use crate::refusal::explain_code;
use std::future::Future;
use std::pin::Pin;
use tidewatch_client::options::Options;
use tidewatch_client::{Client, Cluster, Error};
use tidewatch_sample::Metric;

/// How long brokers may take to tell about the topics.
const LIMIT_MS: u64 = 5_000;
/// How long one address may take, so that its failure is known before the limit.
const CONNECT_LIMIT_MS: u64 = 3_000;

/// A probe under way.
pub(crate) type Probe = Pin<Box<dyn Future<Output = Option<String>>>>;

/// Ends with what stands in the way, or `None` where brokers and topics are all there.
pub(crate) fn start(mut options: Options) -> Probe {
    let client = &mut options.client;
    client.default_api_timeout_ms = LIMIT_MS;
    client.connection_setup_timeout_ms = client.connection_setup_timeout_ms.min(CONNECT_LIMIT_MS);
    Box::pin(async {
        let asked = async {
            let (client, driver) = Client::build(options)?;
            let topics = [Metric::Cpu, Metric::Memory].map(Metric::topic);
            tokio::select! {
                cluster = client.cluster(&topics) => cluster,
                () = driver => Err(Error::Closed { doing: "learn why".to_owned() }),
            }
        };
        match asked.await {
            Ok(cluster) => find_trouble(&cluster),
            Err(Error::TimedOut { why, .. }) => Some(format!("no broker can be reached: {why}")),
            Err(error) => Some(error.to_string()),
        }
    })
}

fn find_trouble(cluster: &Cluster) -> Option<String> {
    let troubles: Vec<String> = [Metric::Cpu, Metric::Memory]
        .into_iter()
        .filter_map(|metric| topic_trouble(cluster, metric.topic()))
        .collect();
    (!troubles.is_empty()).then(|| troubles.join("; "))
}

fn topic_trouble(cluster: &Cluster, name: &str) -> Option<String> {
    let topic = cluster.topics.get(name)?;
    if !topic.error.is_ok() {
        return Some(explain_code(name, 0, topic.error, None));
    }
    let without = topic.partitions.iter().position(|p| p.leader.is_none())?;
    Some(format!(
        "{name}/{without} has no leader: the brokers that hold it are away"
    ))
}
