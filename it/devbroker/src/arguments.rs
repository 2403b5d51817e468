//! What was typed, and the cluster that it asks for.

use clap::{Parser, ValueEnum};
use std::fmt;
use std::str::FromStr;
use tidewatch_broker::{Apis, Cluster, ControlError, Now, Options, Release, TRANSACTION_VERSION};
use tracing::level_filters::LevelFilter;

/// Replicas of the topics made by --topic, where there are as many nodes.
const REPLICATION_FACTOR: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  tidewatch-devbroker
      One node on 127.0.0.1:9092. Topics are created as clients ask for them.
  tidewatch-devbroker --nodes 3 --topic cpu-monitor:6 --topic mem-monitor:6
      Three nodes on ports 9092 to 9094, and two topics.
  tidewatch-devbroker --listen 127.0.0.1:0
      A free port; read it from the line LISTENING 127.0.0.1:PORT on standard output.
  tidewatch-devbroker --deny-write secret --message-max-bytes 1000
      A broker that refuses things, to see how a client says so.

Everything is kept in memory and gone at the end. Old records are dropped once a partition
holds --retention-bytes. Ctrl-C ends it.";

/// A Kafka cluster in memory, for trying things out.
///
/// It speaks Kafka's protocol as Apache Kafka 4.3 does, so any client and Kafka's own tools can
/// use it: topics, producing (idempotent and transactional too), fetching, and consumer groups of
/// the classic protocol.
#[derive(Debug, Parser)]
#[command(name = "tidewatch-devbroker", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Where node 1 listens; further nodes take the ports after it. Port 0 lets the kernel choose
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    pub(crate) listen: HostPort,

    /// How many nodes the cluster has
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) nodes: u8,

    /// The address that clients are told for node 1, if it is not the one listened on; further
    /// nodes take the ports after it
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<HostPort>,

    /// Creates a topic at the start; one partition unless told. May be repeated
    #[arg(long = "topic", value_name = "NAME[:PARTITIONS]")]
    topics: Vec<NewTopic>,

    /// Refuses every write to this topic with TOPIC_AUTHORIZATION_FAILED. May be repeated
    #[arg(long, value_name = "TOPIC")]
    deny_write: Vec<String>,

    /// The largest record batch that is taken, in bytes
    #[arg(long, value_name = "BYTES")]
    message_max_bytes: Option<u32>,

    /// Bytes kept per partition before the oldest records are dropped
    #[arg(long, value_name = "BYTES", default_value_t = tidewatch_broker::DEFAULT_RETENTION_BYTES)]
    retention_bytes: u32,

    /// Partitions of topics that are created without a count
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    default_partitions: u16,

    /// Creates no topics because clients ask about them
    #[arg(long)]
    no_auto_create: bool,

    /// Poses as this version of Apache Kafka: its ranges of API versions are advertised
    #[arg(long, value_enum, value_name = "VERSION", default_value_t = KafkaVersion::V4_3)]
    kafka_version: KafkaVersion,

    /// Finalises this level of the feature transaction.version; 4.3 has 2, the others have none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(0..=2))]
    transaction_version: Option<i16>,

    /// Advertises another range for one API, by its number: 18=0-5. May be repeated
    #[arg(long = "api", value_name = "KEY=MIN-MAX")]
    apis: Vec<ApiRange>,

    /// Topic ids, producer ids and the cluster id follow from it
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Logs more: connections as they come and go
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KafkaVersion {
    #[value(name = "2.1")]
    V2_1,
    #[value(name = "2.8")]
    V2_8,
    #[value(name = "3.9")]
    V3_9,
    #[value(name = "4.3")]
    V4_3,
}

impl Arguments {
    pub(crate) fn log_level(&self) -> LevelFilter {
        if self.verbose {
            LevelFilter::DEBUG
        } else {
            LevelFilter::INFO
        }
    }

    /// What is wrong with flags that are each right.
    pub(crate) fn check(&self) -> Result<(), String> {
        let is_wildcard = matches!(self.listen.host.as_str(), "0.0.0.0" | "::");
        if is_wildcard && self.advertise.is_none() {
            let host = &self.listen.host;
            return Err(format!(
                "--listen {host} is every address of this host, and clients must be told one: \
                 add --advertise HOST:PORT"
            ));
        }
        let last = u16::from(self.nodes - 1);
        let told = self.advertise.iter().chain([&self.listen]);
        for address in told {
            if address.port != 0 && address.port.checked_add(last).is_none() {
                let nodes = self.nodes;
                return Err(format!("there are no {nodes} ports from {address} on"));
            }
        }
        Ok(())
    }

    pub(crate) fn options(&self) -> Options {
        let mut apis = Apis::of(match self.kafka_version {
            KafkaVersion::V2_1 => Release::V2_1,
            KafkaVersion::V2_8 => Release::V2_8,
            KafkaVersion::V3_9 => Release::V3_9,
            KafkaVersion::V4_3 => Release::V4_3,
        });
        for api in &self.apis {
            apis.advertise(api.key, api.min, api.max);
        }
        let mut options = Options::with_nodes(self.nodes);
        options.apis = apis;
        let level = match self.kafka_version {
            KafkaVersion::V4_3 => 2,
            KafkaVersion::V2_1 | KafkaVersion::V2_8 | KafkaVersion::V3_9 => 0,
        };
        let level = self.transaction_version.unwrap_or(level);
        options
            .features
            .insert(TRANSACTION_VERSION.to_owned(), level);
        options.seed = self.seed;
        options.auto_create_topics = !self.no_auto_create;
        // As in the configuration that Kafka comes with: who tries things out is alone in the group.
        options.group_initial_rebalance_delay_ms = 0;
        options.default_partitions = i32::from(self.default_partitions);
        let retention = self.retention_bytes.to_string();
        options
            .topic_defaults
            .insert("retention.bytes".to_owned(), retention);
        if let Some(bytes) = self.message_max_bytes {
            options
                .topic_defaults
                .insert("max.message.bytes".to_owned(), bytes.to_string());
        }
        options
    }

    pub(crate) fn prepare(&self, cluster: &mut Cluster, now: Now) -> Result<(), ControlError> {
        for topic in &self.topics {
            let factor = REPLICATION_FACTOR.min(self.nodes);
            cluster.create_topic(now, &topic.name, topic.partitions, factor, &[])?;
        }
        for topic in &self.deny_write {
            cluster.deny_write(topic);
        }
        Ok(())
    }
}

/// An address as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl HostPort {
    /// The address of the node `number` places after the first; port 0 stays 0.
    pub(crate) fn offset(&self, number: u8) -> Self {
        let port = match self.port {
            0 => 0,
            port => port.saturating_add(u16::from(number)),
        };
        Self {
            host: self.host.clone(),
            port,
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not HOST:PORT, such as 127.0.0.1:9092 or [::1]:9092");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if host.is_empty() || (bare.is_none() && host.contains(':')) {
            return Err(wrong());
        }
        let port = port.parse().map_err(|_| wrong())?;
        Ok(Self {
            host: bare.unwrap_or(host).to_owned(),
            port,
        })
    }
}

#[derive(Debug, Clone)]
struct NewTopic {
    name: String,
    partitions: u16,
}

impl FromStr for NewTopic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, partitions) = match text.split_once(':') {
            None => (text, 1),
            Some((name, count)) => match count.parse() {
                Ok(count) if count > 0 => (name, count),
                Ok(_) | Err(_) => {
                    return Err(format!(
                        "{count:?} is not a number of partitions, 1 to 65535"
                    ));
                }
            },
        };
        Ok(Self {
            name: name.to_owned(),
            partitions,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct ApiRange {
    key: i16,
    min: i16,
    max: i16,
}

impl FromStr for ApiRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(key, range)| {
            let (min, max) = range.split_once('-')?;
            Some((key.parse().ok()?, min.parse().ok()?, max.parse().ok()?))
        });
        match parts {
            Some((key, min, max)) if min <= max => Ok(Self { key, min, max }),
            Some(_) | None => Err(format!("{text:?} is not KEY=MIN-MAX, such as 18=0-5")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, host, port) in [
            ("127.0.0.1:9092", "127.0.0.1", 9092),
            ("[::1]:0", "::1", 0),
            ("localhost:65535", "localhost", 65535),
        ] {
            let address: HostPort = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.to_string(), text);
        }
        for wrong in ["9092", ":9092", "::1:9092", "host:", "host:65536"] {
            assert!(wrong.parse::<HostPort>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_address_needs_one_that_clients_can_be_told() {
        let parse = |flags: &[&str]| Arguments::parse_from([&["devbroker"], flags].concat());
        assert!(parse(&["--listen", "0.0.0.0:9092"]).check().is_err());
        assert!(
            parse(&["--listen", "0.0.0.0:9092", "--advertise", "me:9092"])
                .check()
                .is_ok()
        );
        assert!(
            parse(&["--listen", "127.0.0.1:65535", "--nodes", "2"])
                .check()
                .is_err()
        );
    }

    #[test]
    fn flags_become_the_cluster_they_ask_for() {
        let arguments = Arguments::parse_from([
            "devbroker",
            "--nodes",
            "3",
            "--topic",
            "a:2",
            "--topic",
            "b",
            "--api",
            "18=0-5",
            "--kafka-version",
            "2.1",
        ]);
        let options = arguments.options();
        assert_eq!(options.apis.range(18).map(|range| range.max), Some(5));
        assert_eq!(options.apis.range(1).map(|range| range.max), Some(10));
        let mut cluster = Cluster::new(options);
        arguments.prepare(&mut cluster, Now::default()).unwrap();
        assert_eq!(cluster.view("a", 1).unwrap().replicas.len(), 3);
        assert!(cluster.view("b", 1).is_err());
    }
}
