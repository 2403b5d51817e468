//! Every option by Kafka's name, with Java's default unless a reason stands beside it.
//!
//! One table, [`describe`], drives the parser, its errors and the documentation; another, [`foreign`],
//! holds what Java's clients have besides.

mod jaas;
mod java;
mod security;
mod table;

pub use java::{DEVIATIONS, Deviation, Fate, Foreign, OURS, foreign};
pub use security::{
    Credentials, Mechanism, Secret, SecurityOptions, SecurityProtocol, TlsOptions, TokenSource,
};

use crate::group::assignor::Strategy;
use std::collections::{BTreeMap, BTreeSet};
use table::{Row, Value, rows};
use tidewatch_protocol::compression::{Codec, Compression};

/// All options, as they stand before a client, a producer or a consumer is made with them.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections and metadata.
    pub client: ClientOptions,
    /// What producers start from.
    pub producer: ProducerOptions,
    /// What consumers start from.
    pub consumer: ConsumerOptions,
    /// Names that were set, as against defaults.
    explicit: BTreeSet<&'static str>,
    /// What was set, though this client does not have it.
    ignored: BTreeMap<&'static str, Foreign>,
}

/// An option that cannot be set so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option.
    #[error("unknown option {name}{}", nearest.map(|n| format!(": did you mean {n}?")).unwrap_or_default())]
    Unknown {
        /// As it was written.
        name: String,
        /// The known name that comes closest, if one comes close.
        nearest: Option<&'static str>,
    },
    /// An option of Java's clients whose meaning this one cannot give it.
    #[error("{name} is not supported: {why}")]
    Refused {
        /// The option.
        name: &'static str,
        /// Why not, and what to do instead.
        why: &'static str,
    },
    /// A value that is not one of its values.
    #[error("{name} must be {accepts}, not {value:?}")]
    Value {
        /// The option.
        name: &'static str,
        /// As it was written.
        value: String,
        /// What it can be.
        accepts: String,
    },
    /// Values that cannot stand together, or one that is missing.
    #[error("{0}")]
    Conflict(String),
}

/// One option, for documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Kafka's name.
    pub name: &'static str,
    /// The default, as it would be written; empty for none.
    pub default: &'static str,
    /// What it can be.
    pub accepts: String,
    /// What it is for.
    pub says: &'static str,
}

/// Every option there is, in the table's order.
pub fn describe() -> impl Iterator<Item = Description> {
    rows().map(|row| Description {
        name: row.name,
        default: row.default,
        accepts: row.accepts.to_string(),
        says: row.says,
    })
}

impl Default for Options {
    fn default() -> Self {
        let mut options = Self::blank();
        for row in rows().filter(|row| !row.default.is_empty()) {
            // A test holds every default to its own row's range.
            let _ = options.apply(row, row.default);
        }
        options
    }
}

impl Options {
    /// Sets an option by its name. One that only Java's clients have and that does no harm is taken, and
    /// [`ignored`](Self::ignored).
    ///
    /// # Errors
    /// An unknown name, with the nearest known one; a value out of its range, with the range; an option
    /// of Java's clients that would not be obeyed, with what to do instead.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        let Some(row) = rows().find(|row| row.name == name) else {
            return self.set_foreign(name);
        };
        self.apply(row, value)?;
        self.explicit.insert(row.name);
        Ok(())
    }

    fn set_foreign(&mut self, name: &str) -> Result<(), OptionError> {
        let unknown = || OptionError::Unknown {
            name: name.to_owned(),
            nearest: nearest(name),
        };
        let found = foreign().find(|foreign| foreign.name == name);
        let Foreign { name, fate, why } = found.ok_or_else(unknown)?;
        match fate {
            Fate::Refused => Err(OptionError::Refused { name, why }),
            Fate::Ignored => {
                self.ignored.insert(name, Foreign { name, fate, why });
                Ok(())
            }
        }
    }

    /// What was set to no effect, by name: a client warns of each when it is made.
    pub fn ignored(&self) -> impl Iterator<Item = Foreign> {
        self.ignored.values().copied()
    }

    /// The options as a whole: what is missing, what contradicts, what follows from what was set.
    ///
    /// # Errors
    /// The first contradiction, naming both options.
    pub fn validated(mut self) -> Result<Self, OptionError> {
        let conflict = |why: &str| Err(OptionError::Conflict(why.to_owned()));
        if self.client.bootstrap_servers.is_empty() {
            return conflict("bootstrap.servers is missing: give at least one host:port");
        }
        self.client.security.validate()?;
        let producer = &mut self.producer;
        if producer.transactional_id.is_some() {
            producer.check_transactional()?;
        }
        match producer.unfit_for_idempotence() {
            Some(need) if self.explicit.contains("enable.idempotence") && producer.idempotence => {
                return conflict(&format!("enable.idempotence=true needs {need}"));
            }
            // As Java: idempotence is the default, and yields to what was asked for.
            Some(_) => producer.idempotence = false,
            None => {}
        }
        let needed = producer
            .linger_ms
            .saturating_add(producer.request_timeout_ms);
        if producer.delivery_timeout_ms < needed {
            if self.explicit.contains("delivery.timeout.ms") {
                return conflict(
                    "delivery.timeout.ms must be at least linger.ms + request.timeout.ms",
                );
            }
            producer.delivery_timeout_ms = needed;
        }
        let consumer = &self.consumer;
        if consumer.heartbeat_interval_ms >= consumer.session_timeout_ms {
            return conflict("heartbeat.interval.ms must be below session.timeout.ms");
        }
        Ok(self)
    }

    fn apply(&mut self, row: &'static Row, text: &str) -> Result<(), OptionError> {
        let number = row.accepts.parse(text).ok_or_else(|| OptionError::Value {
            name: row.name,
            value: match row.accepts.is_secret() {
                true => "(hidden)".to_owned(),
                false => text.to_owned(),
            },
            accepts: row.accepts.to_string(),
        })?;
        (row.set)(
            self,
            Value {
                text: text.trim(),
                number,
            },
        );
        Ok(())
    }

    /// Zeros, before the defaults of the table.
    fn blank() -> Self {
        Self {
            client: ClientOptions {
                bootstrap_servers: Vec::new(),
                client_id: String::new(),
                request_timeout_ms: 0,
                connection_setup_timeout_ms: 0,
                connection_setup_timeout_max_ms: 0,
                connections_max_idle_ms: 0,
                reconnect_backoff_ms: 0,
                reconnect_backoff_max_ms: 0,
                retry_backoff_ms: 0,
                retry_backoff_max_ms: 0,
                metadata_max_age_ms: 0,
                rebootstraps: true,
                rebootstrap_trigger_ms: 0,
                default_api_timeout_ms: 0,
                security: SecurityOptions::default(),
            },
            producer: ProducerOptions {
                acks: -1,
                idempotence: true,
                batch_size: 0,
                linger_ms: 0,
                compression: Compression::None,
                gzip_level: None,
                zstd_level: Some(1),
                buffer_memory: 0,
                max_block_ms: 0,
                metadata_max_idle_ms: 0,
                delivery_timeout_ms: 0,
                request_timeout_ms: 0,
                max_request_size: 0,
                max_in_flight: 0,
                retry_backoff_ms: (0, 0),
                transactional_id: None,
                transaction_timeout_ms: 0,
            },
            consumer: ConsumerOptions {
                group_id: None,
                offset_reset: OffsetReset::Latest,
                read_committed: false,
                fetch_min_bytes: 0,
                fetch_max_wait_ms: 0,
                fetch_max_bytes: 0,
                max_partition_fetch_bytes: 0,
                check_crcs: true,
                max_buffered_bytes: 0,
                rack: String::new(),
                group_instance_id: None,
                session_timeout_ms: 0,
                heartbeat_interval_ms: 0,
                max_poll_interval_ms: 0,
                assignors: Vec::new(),
                auto_commit: true,
                auto_commit_interval_ms: 0,
                retry_backoff_ms: (0, 0),
                request_timeout_ms: 0,
                default_api_timeout_ms: 0,
            },
            explicit: BTreeSet::new(),
            ignored: BTreeMap::new(),
        }
    }
}

/// Splits `host:port` or `[IPv6]:port`.
pub(crate) fn parse_host_port(server: &str) -> Option<(&str, u16)> {
    let (host, port) = server.trim().rsplit_once(':')?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(inner) => inner,
        // A bare IPv6 address would leave it open where the port begins.
        None if host.contains([':', '[', ']', '/']) => return None,
        None => host,
    };
    let port: u16 = port.parse().ok()?;
    (!host.is_empty() && port > 0 && !host.contains(char::is_whitespace)).then_some((host, port))
}

fn nearest(name: &str) -> Option<&'static str> {
    const CLOSE_ENOUGH: f64 = 0.8;
    let name = name.to_ascii_lowercase().replace(['_', '-'], ".");
    let scored = rows().map(|row| (strsim::jaro_winkler(&name, row.name), row.name));
    let close = scored.filter(|(score, _)| *score >= CLOSE_ENOUGH);
    close
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Options of the client itself: connections and metadata.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `bootstrap.servers`: host:port each.
    pub bootstrap_servers: Vec<String>,
    /// `client.id`.
    pub client_id: String,
    /// `request.timeout.ms`.
    pub request_timeout_ms: u64,
    /// `socket.connection.setup.timeout.ms`.
    pub connection_setup_timeout_ms: u64,
    /// `socket.connection.setup.timeout.max.ms`.
    pub connection_setup_timeout_max_ms: u64,
    /// `connections.max.idle.ms`.
    pub connections_max_idle_ms: u64,
    /// `reconnect.backoff.ms`.
    pub reconnect_backoff_ms: u64,
    /// `reconnect.backoff.max.ms`.
    pub reconnect_backoff_max_ms: u64,
    /// `retry.backoff.ms`.
    pub retry_backoff_ms: u64,
    /// `retry.backoff.max.ms`.
    pub retry_backoff_max_ms: u64,
    /// `metadata.max.age.ms`.
    pub metadata_max_age_ms: u64,
    /// `metadata.recovery.strategy` rebootstrap.
    pub rebootstraps: bool,
    /// `metadata.recovery.rebootstrap.trigger.ms`.
    pub rebootstrap_trigger_ms: u64,
    /// `default.api.timeout.ms`: how long a user's request (offsets, topics, commits) may take.
    pub default_api_timeout_ms: u64,
    /// How connections are secured.
    pub security: SecurityOptions,
}

/// Options of a producer.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// `acks`: -1 (all), 0 or 1.
    pub acks: i16,
    /// `enable.idempotence`.
    pub idempotence: bool,
    /// `batch.size`, uncompressed bytes.
    pub batch_size: usize,
    /// `linger.ms`.
    pub linger_ms: u64,
    /// `compression.type`.
    pub compression: Compression,
    /// `compression.gzip.level`; zlib's own default where `None`.
    pub gzip_level: Option<i32>,
    /// `compression.zstd.level`; the codec's default where `None`.
    pub zstd_level: Option<i32>,
    /// `buffer.memory`.
    pub buffer_memory: usize,
    /// `max.block.ms`.
    pub max_block_ms: u64,
    /// `metadata.max.idle.ms`.
    pub metadata_max_idle_ms: u64,
    /// `delivery.timeout.ms`.
    pub delivery_timeout_ms: u64,
    /// `request.timeout.ms`, as a producer's requests carry it.
    pub request_timeout_ms: u64,
    /// `max.request.size`.
    pub max_request_size: usize,
    /// `max.in.flight.requests.per.connection`; here per partition, at most 5 when idempotent.
    pub max_in_flight: usize,
    /// `retry.backoff.ms` and `retry.backoff.max.ms`.
    pub retry_backoff_ms: (u64, u64),
    /// `transactional.id`; a producer with one sends in transactions only.
    pub transactional_id: Option<String>,
    /// `transaction.timeout.ms`.
    pub transaction_timeout_ms: u64,
}

/// Options of a consumer.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// `group.id`; needed to commit.
    pub group_id: Option<String>,
    /// `auto.offset.reset`.
    pub offset_reset: OffsetReset,
    /// `isolation.level` read_committed.
    pub read_committed: bool,
    /// `fetch.min.bytes`.
    pub fetch_min_bytes: i32,
    /// `fetch.max.wait.ms`.
    pub fetch_max_wait_ms: u64,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: i32,
    /// `max.partition.fetch.bytes`.
    pub max_partition_fetch_bytes: i32,
    /// `check.crcs`.
    pub check_crcs: bool,
    /// Bytes of fetched frames that may wait to be read; the next fetches wait beyond it.
    pub max_buffered_bytes: usize,
    /// `client.rack`.
    pub rack: String,
    /// `group.instance.id`: a static member keeps its place over restarts (KIP-345).
    pub group_instance_id: Option<String>,
    /// `session.timeout.ms`.
    pub session_timeout_ms: u64,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval_ms: u64,
    /// `max.poll.interval.ms`.
    pub max_poll_interval_ms: u64,
    /// `partition.assignment.strategy`, the most wanted first.
    pub assignors: Vec<Strategy>,
    /// `enable.auto.commit`, of partitions that the group assigns.
    pub auto_commit: bool,
    /// `auto.commit.interval.ms`.
    pub auto_commit_interval_ms: u64,
    /// `retry.backoff.ms` and `retry.backoff.max.ms`.
    pub retry_backoff_ms: (u64, u64),
    /// `request.timeout.ms`.
    pub request_timeout_ms: u64,
    /// `default.api.timeout.ms`.
    pub default_api_timeout_ms: u64,
}

/// What to do when there is no valid position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// The log's start.
    Earliest,
    /// The log's end.
    Latest,
    /// An error.
    None,
}

impl ProducerOptions {
    /// `compression.type` at its level.
    pub fn codec(&self) -> Codec {
        let level = match self.compression {
            Compression::Gzip => self.gzip_level,
            Compression::Zstd => self.zstd_level,
            Compression::None | Compression::Snappy | Compression::Lz4 => None,
        };
        Codec {
            compression: self.compression,
            level,
        }
    }

    /// The same for a producer of transactions under `transactional_id`.
    ///
    /// # Errors
    /// Options that transactions do not go with.
    pub fn transactional(mut self, transactional_id: &str) -> Result<Self, OptionError> {
        self.transactional_id = Some(transactional_id.to_owned());
        self.check_transactional()?;
        Ok(self)
    }

    fn check_transactional(&self) -> Result<(), OptionError> {
        let need = match self.unfit_for_idempotence() {
            Some(need) => need,
            None if !self.idempotence => "enable.idempotence=true",
            None if self.transactional_id.as_deref() == Some("") => "at least one character",
            None => return Ok(()),
        };
        let why = format!("transactional.id needs {need}");
        Err(OptionError::Conflict(why))
    }

    /// What idempotence needs and these options do not have.
    fn unfit_for_idempotence(&self) -> Option<&'static str> {
        match (self.acks, self.max_in_flight) {
            (-1, ..=5) => None,
            (-1, _) => Some("max.in.flight.requests.per.connection at most 5"),
            _ => Some("acks=all"),
        }
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Options::default().client
    }
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Options::default().producer
    }
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Options::default().consumer
    }
}

#[cfg(test)]
mod tests;
