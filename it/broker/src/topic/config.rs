//! A topic's configuration: every name that Kafka 4.3 knows is kept, a few of them act.

use std::collections::BTreeMap;

/// Kafka's type codes in DescribeConfigs (`ConfigResponse.ConfigType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

struct Known {
    name: &'static str,
    default: &'static str,
    kind: ConfigType,
}

const fn known(name: &'static str, default: &'static str, kind: ConfigType) -> Known {
    Known {
        name,
        default,
        kind,
    }
}

const FOREVER: &str = "9223372036854775807";

/// Kafka 4.3's `LogConfig`, in the order of the names.
const KNOWN: &[Known] = &[
    known("cleanup.policy", "delete", ConfigType::List),
    known("compression.gzip.level", "-1", ConfigType::Int),
    known("compression.lz4.level", "9", ConfigType::Int),
    known("compression.type", "producer", ConfigType::String),
    known("compression.zstd.level", "3", ConfigType::Int),
    known("delete.retention.ms", "86400000", ConfigType::Long),
    known("file.delete.delay.ms", "60000", ConfigType::Long),
    known("flush.messages", FOREVER, ConfigType::Long),
    known("flush.ms", FOREVER, ConfigType::Long),
    known(
        "follower.replication.throttled.replicas",
        "",
        ConfigType::List,
    ),
    known("index.interval.bytes", "4096", ConfigType::Int),
    known(
        "leader.replication.throttled.replicas",
        "",
        ConfigType::List,
    ),
    known("local.retention.bytes", "-2", ConfigType::Long),
    known("local.retention.ms", "-2", ConfigType::Long),
    known("max.compaction.lag.ms", FOREVER, ConfigType::Long),
    known("max.message.bytes", "1048588", ConfigType::Int),
    known(
        "message.timestamp.after.max.ms",
        "3600000",
        ConfigType::Long,
    ),
    known("message.timestamp.before.max.ms", FOREVER, ConfigType::Long),
    known("message.timestamp.type", "CreateTime", ConfigType::String),
    known("min.cleanable.dirty.ratio", "0.5", ConfigType::Double),
    known("min.compaction.lag.ms", "0", ConfigType::Long),
    known("min.insync.replicas", "1", ConfigType::Int),
    known("preallocate", "false", ConfigType::Boolean),
    known("remote.log.copy.disable", "false", ConfigType::Boolean),
    known("remote.log.delete.on.disable", "false", ConfigType::Boolean),
    known("remote.storage.enable", "false", ConfigType::Boolean),
    known("retention.bytes", "-1", ConfigType::Long),
    known("retention.ms", "604800000", ConfigType::Long),
    known("segment.bytes", "1073741824", ConfigType::Int),
    known("segment.index.bytes", "10485760", ConfigType::Int),
    known("segment.jitter.ms", "0", ConfigType::Long),
    known("segment.ms", "604800000", ConfigType::Long),
    known(
        "unclean.leader.election.enable",
        "false",
        ConfigType::Boolean,
    ),
];

/// One line of a topic's configuration as DescribeConfigs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigEntry {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) kind: ConfigType,
    pub(crate) source: ConfigSource,
}

/// Kafka's codes for where a value comes from (`ConfigResponse.ConfigSource`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConfigSource {
    Topic = 1,
    Broker = 4,
    Default = 5,
}

/// What was set, over the broker's defaults, over Kafka's.
#[derive(Debug, Clone, Default)]
pub(crate) struct TopicConfig {
    set: BTreeMap<&'static str, String>,
    broker: BTreeMap<&'static str, String>,
    acting: Acting,
}

/// The values that this broker acts on, parsed once.
#[derive(Debug, Clone, Default)]
struct Acting {
    retention_bytes: Option<usize>,
    max_message_bytes: usize,
    log_append_time: bool,
    before_max_ms: i64,
    after_max_ms: i64,
    min_insync_replicas: usize,
    compacted: bool,
    deletes: bool,
}

impl TopicConfig {
    /// `set` over `broker`; an error says what Kafka would refuse.
    pub(crate) fn parse<'a, 'b>(
        set: impl IntoIterator<Item = (&'a str, &'a str)>,
        broker: impl IntoIterator<Item = (&'b str, &'b str)>,
    ) -> Result<Self, String> {
        let mut config = Self {
            set: check_all(set)?,
            broker: check_all(broker)?,
            ..Self::default()
        };
        config.acting = config.parse_acting()?;
        Ok(config)
    }

    fn value(&self, name: &str) -> &str {
        let set = self
            .set
            .get(name)
            .or_else(|| self.broker.get(name))
            .map(String::as_str);
        set.or_else(|| find(name).map(|known| known.default))
            .unwrap_or_default()
    }

    fn source(&self, name: &str) -> ConfigSource {
        if self.set.contains_key(name) {
            ConfigSource::Topic
        } else if self.broker.contains_key(name) {
            ConfigSource::Broker
        } else {
            ConfigSource::Default
        }
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, String> {
        let value = self.value(name);
        value
            .parse()
            .map_err(|_| format!("Invalid value {value} for configuration {name}"))
    }

    fn parse_acting(&self) -> Result<Acting, String> {
        let policies: Vec<&str> = self
            .value("cleanup.policy")
            .split(',')
            .map(str::trim)
            .collect();
        Ok(Acting {
            retention_bytes: usize::try_from(self.number::<i64>("retention.bytes")?).ok(),
            max_message_bytes: self.number("max.message.bytes")?,
            log_append_time: self.value("message.timestamp.type") == "LogAppendTime",
            before_max_ms: self.number("message.timestamp.before.max.ms")?,
            after_max_ms: self.number("message.timestamp.after.max.ms")?,
            min_insync_replicas: self.number("min.insync.replicas")?,
            compacted: policies.contains(&"compact"),
            deletes: policies.contains(&"delete"),
        })
    }

    /// Bytes per partition, where old batches are to be dropped beyond some size.
    pub(crate) fn retention_bytes(&self) -> Option<usize> {
        self.acting.retention_bytes.filter(|_| self.acting.deletes)
    }

    pub(crate) fn max_message_bytes(&self) -> usize {
        self.acting.max_message_bytes
    }

    pub(crate) fn is_log_append_time(&self) -> bool {
        self.acting.log_append_time
    }

    pub(crate) fn min_insync_replicas(&self) -> usize {
        self.acting.min_insync_replicas
    }

    pub(crate) fn is_compacted(&self) -> bool {
        self.acting.compacted
    }

    /// Whether a producer may write `timestamp_ms` at `wall_ms`; -1 is no timestamp.
    pub(crate) fn is_timestamp_allowed(&self, timestamp_ms: i64, wall_ms: i64) -> bool {
        if self.acting.log_append_time || timestamp_ms == -1 {
            return true;
        }
        let ahead = timestamp_ms.saturating_sub(wall_ms);
        let behind = wall_ms.saturating_sub(timestamp_ms);
        ahead <= self.acting.after_max_ms && behind <= self.acting.before_max_ms
    }

    /// Every entry, by name.
    pub(crate) fn entries(&self) -> impl Iterator<Item = ConfigEntry> {
        KNOWN.iter().map(|known| ConfigEntry {
            name: known.name,
            value: self.value(known.name).to_owned(),
            kind: known.kind,
            source: self.source(known.name),
        })
    }
}

fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

fn check_all<'a>(
    entries: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<BTreeMap<&'static str, String>, String> {
    entries
        .into_iter()
        .map(|(name, value)| {
            let known = find(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
            if is_valid(known, value) {
                Ok((known.name, value.to_owned()))
            } else {
                Err(format!("Invalid value {value} for configuration {name}"))
            }
        })
        .collect()
}

fn is_valid(known: &Known, value: &str) -> bool {
    let least = match known.name {
        "min.insync.replicas" => 1,
        "retention.bytes" | "retention.ms" | "compression.gzip.level" => -1,
        "local.retention.bytes" | "local.retention.ms" => -2,
        "compression.zstd.level" => -131_072,
        _ => 0,
    };
    match (known.name, known.kind) {
        ("message.timestamp.type", _) => matches!(value, "CreateTime" | "LogAppendTime"),
        ("compression.type", _) => matches!(
            value,
            "uncompressed" | "zstd" | "lz4" | "snappy" | "gzip" | "producer"
        ),
        ("cleanup.policy", _) => value
            .split(',')
            .all(|policy| matches!(policy.trim(), "delete" | "compact")),
        (_, ConfigType::Boolean) => matches!(value, "true" | "false"),
        (_, ConfigType::Int) => value.parse::<i32>().is_ok_and(|n| i64::from(n) >= least),
        (_, ConfigType::Long) => value.parse::<i64>().is_ok_and(|n| n >= least),
        (_, ConfigType::Double) => value.parse::<f64>().is_ok_and(|n| (0.0..=1.0).contains(&n)),
        (_, ConfigType::String | ConfigType::List) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(set: &[(&str, &str)]) -> Result<TopicConfig, String> {
        TopicConfig::parse(set.iter().copied(), [("retention.bytes", "1000")])
    }

    #[test]
    fn a_topic_overrides_the_broker_and_the_broker_overrides_kafka() {
        assert_eq!(parse(&[]).unwrap().retention_bytes(), Some(1000));
        assert_eq!(
            parse(&[("retention.bytes", "5")])
                .unwrap()
                .retention_bytes(),
            Some(5)
        );
        assert_eq!(
            parse(&[("retention.bytes", "-1")])
                .unwrap()
                .retention_bytes(),
            None
        );
        assert_eq!(
            parse(&[("cleanup.policy", "compact")])
                .unwrap()
                .retention_bytes(),
            None
        );
    }

    #[test]
    fn what_kafka_refuses_is_refused() {
        for (name, value) in [
            ("no.such.config", "1"),
            ("max.message.bytes", "-1"),
            ("max.message.bytes", "many"),
            ("retention.bytes", "-2"),
            ("cleanup.policy", "shred"),
            ("message.timestamp.type", "createtime"),
            ("preallocate", "yes"),
            ("min.insync.replicas", "0"),
            ("min.cleanable.dirty.ratio", "NaN"),
        ] {
            assert!(parse(&[(name, value)]).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn entries_tell_what_was_set() {
        let config = parse(&[("segment.bytes", "16777216")]).unwrap();
        let set: Vec<_> = config
            .entries()
            .filter(|entry| entry.source == ConfigSource::Topic)
            .collect();
        assert_eq!(set.len(), 1);
        assert_eq!(
            (set[0].name, set[0].value.as_str()),
            ("segment.bytes", "16777216")
        );
        assert_eq!(config.entries().count(), KNOWN.len());
    }

    #[test]
    fn timestamps_are_bounded_on_both_sides_unless_the_broker_stamps() {
        let bounds = [
            ("message.timestamp.before.max.ms", "60000"),
            ("message.timestamp.after.max.ms", "1000"),
        ];
        let config = parse(&bounds).unwrap();
        for (timestamp, allowed) in [
            (1_000_000, true),
            (1_001_000, true),
            (1_001_001, false),
            (940_000, true),
            (939_999, false),
            (-1, true),
        ] {
            assert_eq!(
                config.is_timestamp_allowed(timestamp, 1_000_000),
                allowed,
                "{timestamp}"
            );
        }
        let stamps = parse(&[
            bounds[0],
            bounds[1],
            ("message.timestamp.type", "LogAppendTime"),
        ]);
        assert!(stamps.unwrap().is_timestamp_allowed(0, 1_000_000));
    }
}
