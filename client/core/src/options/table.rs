//! The table of options: name, default, range, meaning, and where the value goes.

mod security;

use super::jaas::{self, Login};
use super::security::Secret;
use super::{OffsetReset, Options, parse_host_port};
use crate::group::assignor::Strategy;
use std::fmt;
use tidewatch_protocol::compression::Compression;

/// Kafka's times and sizes are 32-bit integers.
const MAX_MS: u64 = i32::MAX as u64;
const MAX_BYTES: u64 = i32::MAX as u64;
/// Room in one response frame for what is not records.
const MAX_FETCH_BYTES: u64 = tidewatch_protocol::frame::MAX_FETCH_FRAME_BYTES as u64 - (1 << 20);
/// Java's are 64-bit; this is a bound against slips.
const MAX_MEMORY: u64 = 1 << 40;

/// One option.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) accepts: Accepts,
    pub(super) says: &'static str,
    pub(super) set: fn(&mut Options, Value<'_>),
}

/// What an option can be.
pub(super) enum Accepts {
    Number(u64, u64),
    /// Of a codec.
    Level(Compression),
    Flag,
    OneOf(&'static [&'static str]),
    Text,
    /// Text that no error shows.
    SecretText,
    Servers,
    Assignors,
    TlsVersions,
    Jaas,
}

/// What `ssl.enabled.protocols` may list.
const TLS_VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];

/// Every option.
pub(super) fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().chain(security::SECURITY)
}

/// A value that passed its row's range.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) text: &'a str,
    pub(super) number: u64,
}

impl Accepts {
    /// The number that a text stands for, 0 for those that are none; `None` out of range.
    pub(super) fn parse(&self, text: &str) -> Option<u64> {
        let text = text.trim();
        match self {
            Self::Number(min, max) => text.parse().ok().filter(|n| (min..=max).contains(&n)),
            Self::Level(codec) => {
                let level = text.parse().ok()?;
                let default = *codec == Compression::Gzip && level == -1;
                let is_one = codec.levels().is_some_and(|levels| levels.contains(&level));
                (is_one || default).then_some(0)
            }
            Self::Flag => text.parse::<bool>().ok().map(u64::from),
            Self::OneOf(choices) => choices.contains(&text).then_some(0),
            Self::Text | Self::SecretText => Some(0),
            Self::Assignors => {
                let mut named = split(text).map(Strategy::named);
                let count = named.try_fold(0, |count, strategy| strategy.map(|_| count + 1));
                count.filter(|count| *count > 0)
            }
            Self::Servers => {
                let mut servers = split(text).map(parse_host_port);
                let count = servers.try_fold(0, |count, server| server.map(|_| count + 1));
                count.filter(|count| *count > 0)
            }
            Self::TlsVersions => {
                let mut listed = split(text).peekable();
                let some = listed.peek().is_some();
                (some && listed.all(|version| TLS_VERSIONS.contains(&version))).then_some(0)
            }
            Self::Jaas => Login::parse(text).map(|_| 0),
        }
    }

    /// Whether a value must not be shown.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Self::SecretText | Self::Jaas)
    }
}

impl fmt::Display for Accepts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(min, max) => write!(f, "a whole number from {min} to {max}"),
            Self::Level(codec) => match codec.levels() {
                Some(levels) => {
                    write!(f, "a level from {} to {}", levels.start(), levels.end())
                }
                None => write!(f, "nothing: {} has no levels", codec.name()),
            },
            Self::Flag => write!(f, "true or false"),
            Self::OneOf([only]) => write!(f, "{only} (the others are not supported yet)"),
            Self::OneOf([only, ""]) => write!(f, "{only} or nothing"),
            Self::OneOf(choices) => write!(f, "one of {}", choices.join(", ")),
            Self::Text | Self::SecretText => write!(f, "text"),
            Self::Assignors => write!(
                f,
                "range, roundrobin, sticky or cooperative-sticky, or several with commas between them"
            ),
            Self::Servers => write!(f, "host:port, or several with commas between them"),
            Self::TlsVersions => write!(f, "{}", TLS_VERSIONS.join(" or ")),
            Self::Jaas => f.write_str(jaas::EXAMPLE),
        }
    }
}

impl Value<'_> {
    fn text(self) -> String {
        self.text.to_owned()
    }

    fn secret(self) -> Secret {
        Secret::new(self.text)
    }

    fn flag(self) -> bool {
        self.number == 1
    }

    fn size(self) -> usize {
        usize::try_from(self.number).unwrap_or(usize::MAX)
    }

    fn int(self) -> i32 {
        i32::try_from(self.number).unwrap_or(i32::MAX)
    }

    fn list(self) -> Vec<String> {
        split(self.text).map(str::to_owned).collect()
    }

    fn assignors(self) -> Vec<Strategy> {
        split(self.text).filter_map(Strategy::named).collect()
    }

    fn offset_reset(self) -> OffsetReset {
        match self.text {
            "earliest" => OffsetReset::Earliest,
            "none" => OffsetReset::None,
            _ => OffsetReset::Latest,
        }
    }
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

const fn row(
    name: &'static str,
    default: &'static str,
    accepts: Accepts,
    says: &'static str,
    set: fn(&mut Options, Value<'_>),
) -> Row {
    Row {
        name,
        default,
        accepts,
        says,
        set,
    }
}

use Accepts::{Assignors, Flag, Level, Number, OneOf, Servers, Text};

/// The client's options, then producers', then consumers'; how connections are secured stands apart.
static TABLE: &[Row] = &[
    row(
        "bootstrap.servers",
        "",
        Servers,
        "The brokers to begin with; the rest of the cluster is learnt from them.",
        |o, v| o.client.bootstrap_servers = v.list(),
    ),
    row(
        "client.dns.lookup",
        "use_all_dns_ips",
        OneOf(&["use_all_dns_ips"]),
        "Every address of a host is tried in turn.",
        |_, _| {},
    ),
    row(
        "client.id",
        "tidewatch",
        Text,
        "The name by which brokers know this client, in their logs and quotas.",
        |o, v| o.client.client_id = v.text(),
    ),
    row(
        "request.timeout.ms",
        "30000",
        Number(1, MAX_MS),
        "How long a broker may take to answer.",
        |o, v| {
            o.client.request_timeout_ms = v.number;
            o.producer.request_timeout_ms = v.number;
            o.consumer.request_timeout_ms = v.number;
        },
    ),
    row(
        "default.api.timeout.ms",
        "60000",
        Number(1, MAX_MS),
        "How long a user's request may take, all its retries included.",
        |o, v| {
            o.client.default_api_timeout_ms = v.number;
            o.consumer.default_api_timeout_ms = v.number;
        },
    ),
    row(
        "socket.connection.setup.timeout.ms",
        "10000",
        Number(1, MAX_MS),
        "How long resolving, connecting and the handshake may take, each.",
        |o, v| o.client.connection_setup_timeout_ms = v.number,
    ),
    row(
        "socket.connection.setup.timeout.max.ms",
        "30000",
        Number(1, MAX_MS),
        "What that grows to while a broker cannot be reached, doubling with each failure.",
        |o, v| o.client.connection_setup_timeout_max_ms = v.number,
    ),
    row(
        "connections.max.idle.ms",
        "540000",
        Number(1000, MAX_MS),
        "An unused connection is closed after this long; below the brokers' ten minutes.",
        |o, v| o.client.connections_max_idle_ms = v.number,
    ),
    row(
        "reconnect.backoff.ms",
        "50",
        Number(0, MAX_MS),
        "The first wait before connecting again; doubles with each failure.",
        |o, v| o.client.reconnect_backoff_ms = v.number,
    ),
    row(
        "reconnect.backoff.max.ms",
        "1000",
        Number(0, MAX_MS),
        "The longest wait before connecting again.",
        |o, v| o.client.reconnect_backoff_max_ms = v.number,
    ),
    row(
        "retry.backoff.ms",
        "100",
        Number(0, MAX_MS),
        "The first wait before a request is tried again; doubles with each failure.",
        |o, v| {
            o.client.retry_backoff_ms = v.number;
            o.producer.retry_backoff_ms.0 = v.number;
            o.consumer.retry_backoff_ms.0 = v.number;
        },
    ),
    row(
        "retry.backoff.max.ms",
        "1000",
        Number(0, MAX_MS),
        "The longest wait before a request is tried again.",
        |o, v| {
            o.client.retry_backoff_max_ms = v.number;
            o.producer.retry_backoff_ms.1 = v.number;
            o.consumer.retry_backoff_ms.1 = v.number;
        },
    ),
    row(
        "metadata.max.age.ms",
        "300000",
        Number(1000, MAX_MS),
        "The picture of the cluster is read again after this long, even if nothing seems to have changed.",
        |o, v| o.client.metadata_max_age_ms = v.number,
    ),
    row(
        "metadata.max.idle.ms",
        "300000",
        Number(5000, MAX_MS),
        "A topic that nothing was sent to for this long is forgotten by its producer, until something is.",
        |o, v| o.producer.metadata_max_idle_ms = v.number,
    ),
    row(
        "metadata.recovery.strategy",
        "rebootstrap",
        OneOf(&["none", "rebootstrap"]),
        "Whether bootstrap.servers are asked again when no known broker helps.",
        |o, v| o.client.rebootstraps = v.text == "rebootstrap",
    ),
    row(
        "metadata.recovery.rebootstrap.trigger.ms",
        "300000",
        Number(0, MAX_MS),
        "How long metadata may fail to come before the known brokers are given up.",
        |o, v| o.client.rebootstrap_trigger_ms = v.number,
    ),
    row(
        "acks",
        "all",
        OneOf(&["all", "-1", "0", "1"]),
        "Who must have a batch before it counts as delivered: all in-sync replicas, the leader, nobody.",
        |o, v| o.producer.acks = v.text.parse().unwrap_or(-1),
    ),
    row(
        "enable.idempotence",
        "true",
        Flag,
        "No record twice and none out of order, whatever is retried. Needs acks=all.",
        |o, v| o.producer.idempotence = v.flag(),
    ),
    row(
        "batch.size",
        "16384",
        Number(0, MAX_BYTES),
        "Uncompressed bytes of one partition's batch.",
        |o, v| o.producer.batch_size = v.size(),
    ),
    row(
        "linger.ms",
        "5",
        Number(0, MAX_MS),
        "How long an open batch waits for more records.",
        |o, v| o.producer.linger_ms = v.number,
    ),
    row(
        "compression.type",
        "none",
        OneOf(&["none", "gzip", "snappy", "lz4", "zstd"]),
        "How batches are compressed.",
        |o, v| o.producer.compression = Compression::parse(v.text).unwrap_or_default(),
    ),
    row(
        "compression.gzip.level",
        "-1",
        Level(Compression::Gzip),
        "How hard gzip tries; -1 is 6.",
        |o, v| o.producer.gzip_level = v.text.parse().ok().filter(|level| *level > 0),
    ),
    row(
        "compression.zstd.level",
        "1",
        Level(Compression::Zstd),
        "How hard zstd tries.",
        |o, v| o.producer.zstd_level = v.text.parse().ok(),
    ),
    row(
        "buffer.memory",
        "33554432",
        Number(1, MAX_MEMORY),
        "Bytes of records that may wait to be delivered; beyond it sending waits.",
        |o, v| o.producer.buffer_memory = v.size(),
    ),
    row(
        "max.block.ms",
        "60000",
        Number(0, MAX_MS),
        "How long sending may wait for memory or for a topic's metadata.",
        |o, v| o.producer.max_block_ms = v.number,
    ),
    row(
        "delivery.timeout.ms",
        "120000",
        Number(0, MAX_MS),
        "How long a record may take from sending to its acknowledgement, all retries included.",
        |o, v| o.producer.delivery_timeout_ms = v.number,
    ),
    row(
        "max.request.size",
        "1048576",
        Number(1, MAX_BYTES),
        "The largest record and the largest request that is sent.",
        |o, v| o.producer.max_request_size = v.size(),
    ),
    row(
        "max.in.flight.requests.per.connection",
        "5",
        Number(1, 1000),
        "Batches in flight; counted per partition, at most 5 with idempotence.",
        |o, v| o.producer.max_in_flight = v.size(),
    ),
    row(
        "transactional.id",
        "",
        Text,
        "The name under which transactions go on over restarts; whoever takes it over fences the producer before.",
        |o, v| o.producer.transactional_id = Some(v.text()),
    ),
    row(
        "transaction.timeout.ms",
        "60000",
        Number(1, MAX_MS),
        "How long a transaction may be open before the brokers abort it.",
        |o, v| o.producer.transaction_timeout_ms = v.number,
    ),
    row(
        "group.id",
        "",
        Text,
        "The consumer group whose offsets are committed and read.",
        |o, v| o.consumer.group_id = Some(v.text()),
    ),
    row(
        "group.instance.id",
        "",
        Text,
        "Makes the consumer a static member: it keeps its partitions over restarts within session.timeout.ms.",
        |o, v| o.consumer.group_instance_id = Some(v.text()).filter(|id| !id.is_empty()),
    ),
    row(
        "group.protocol",
        "classic",
        OneOf(&["classic"]),
        "How members and their coordinator speak.",
        |_, _| {},
    ),
    row(
        "partition.assignment.strategy",
        "range,cooperative-sticky",
        Assignors,
        "Who reads what: assignors in the order of preference, by short name or Java class.",
        |o, v| o.consumer.assignors = v.assignors(),
    ),
    row(
        "session.timeout.ms",
        "45000",
        Number(1, MAX_MS),
        "A member that is silent for so long is out; the brokers allow 6000 to 1800000.",
        |o, v| o.consumer.session_timeout_ms = v.number,
    ),
    row(
        "heartbeat.interval.ms",
        "3000",
        Number(1, MAX_MS),
        "How often a member shows that it is alive.",
        |o, v| o.consumer.heartbeat_interval_ms = v.number,
    ),
    row(
        "max.poll.interval.ms",
        "300000",
        Number(1, MAX_MS),
        "A member whose reader does not come for so long leaves its group until it does.",
        |o, v| o.consumer.max_poll_interval_ms = v.number,
    ),
    row(
        "enable.auto.commit",
        "true",
        Flag,
        "Whether what was delivered is committed by itself. Only of partitions that the group assigns; those assigned by hand are committed by hand.",
        |o, v| o.consumer.auto_commit = v.flag(),
    ),
    row(
        "auto.commit.interval.ms",
        "5000",
        Number(1, MAX_MS),
        "How often that is.",
        |o, v| o.consumer.auto_commit_interval_ms = v.number,
    ),
    row(
        "auto.offset.reset",
        "latest",
        OneOf(&["earliest", "latest", "none"]),
        "Where to begin without a valid position; none makes it an error.",
        |o, v| o.consumer.offset_reset = v.offset_reset(),
    ),
    row(
        "isolation.level",
        "read_uncommitted",
        OneOf(&["read_uncommitted", "read_committed"]),
        "Whether records of open and aborted transactions are delivered.",
        |o, v| o.consumer.read_committed = v.text == "read_committed",
    ),
    row(
        "fetch.min.bytes",
        "1",
        Number(0, MAX_BYTES),
        "A fetch waits until there is this much.",
        |o, v| o.consumer.fetch_min_bytes = v.int(),
    ),
    row(
        "fetch.max.wait.ms",
        "500",
        Number(0, MAX_MS),
        "A fetch waits no longer than this.",
        |o, v| o.consumer.fetch_max_wait_ms = v.number,
    ),
    row(
        "fetch.max.bytes",
        "52428800",
        Number(1, MAX_FETCH_BYTES),
        "Bytes of one fetch, all partitions together.",
        |o, v| o.consumer.fetch_max_bytes = v.int(),
    ),
    row(
        "max.partition.fetch.bytes",
        "1048576",
        Number(1, MAX_FETCH_BYTES),
        "Bytes of one partition in one fetch; a larger first batch comes all the same.",
        |o, v| o.consumer.max_partition_fetch_bytes = v.int(),
    ),
    row(
        "check.crcs",
        "true",
        Flag,
        "Whether the checksum of every batch is checked.",
        |o, v| o.consumer.check_crcs = v.flag(),
    ),
    row(
        "fetch.max.buffered.bytes",
        "67108864",
        Number(1, MAX_MEMORY),
        "Bytes of fetched frames that may wait to be read. Ours; Java has none.",
        |o, v| o.consumer.max_buffered_bytes = v.size(),
    ),
    row(
        "allow.auto.create.topics",
        "false",
        OneOf(&["false"]),
        "Consumers create no topics. Producers do, where the brokers allow it.",
        |_, _| {},
    ),
    row(
        "client.rack",
        "",
        Text,
        "Where this client is, for fetching from the nearest replica.",
        |o, v| o.consumer.rack = v.text(),
    ),
];
