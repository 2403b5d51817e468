//! The properties of Java's producer, consumer and admin client that this client does not have: which of
//! them do no harm when they are ignored, which are refused, and where our defaults are not Java's.

mod foreign;

use foreign::FOREIGN;
use std::fmt;

/// A property of Java's clients that this client does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// Kafka's name.
    pub name: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// Why, and what to do instead.
    pub why: &'static str,
}

/// What becomes of a property that this client does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The client warns and goes on: what the property tunes does not exist here, and no record, no
    /// offset and no secret is treated otherwise for want of it.
    Ignored,
    /// The client would not do what was asked for.
    Refused,
}

/// A default that is not Java's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deviation {
    /// The option.
    pub name: &'static str,
    /// Java's default, as it would be written; where its clients differ, the one that is not ours.
    pub java: &'static str,
    /// Why ours is another one.
    pub why: &'static str,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignored => "ignored, with a warning",
            Self::Refused => "refused",
        })
    }
}

/// Every property of Java's clients that this client does not have, by name.
pub fn foreign() -> impl Iterator<Item = Foreign> {
    FOREIGN.iter().copied()
}

/// Options that Java's clients do not have.
pub const OURS: [(&str, &str); 3] = [
    ("fetch.max.buffered.bytes", "ours"),
    ("sasl.username", "librdkafka's"),
    ("sasl.password", "librdkafka's"),
];

/// Every default that is not Java's, by name.
pub const DEVIATIONS: [Deviation; 8] = [
    Deviation {
        name: "allow.auto.create.topics",
        java: "true",
        why: "a consumer that makes topics hides a misspelt name (KIP-361)",
    },
    Deviation {
        name: "client.id",
        java: "",
        why: "brokers' logs and quotas should tell whose connection it is",
    },
    Deviation {
        name: "compression.zstd.level",
        java: "3",
        why: "this encoder's 1 packs samples as small as its 3, three times as fast; other text 6 % larger",
    },
    Deviation {
        name: "connections.max.idle.ms",
        java: "300000",
        why: "so for the admin client alone; here one client's connections serve all of them",
    },
    Deviation {
        name: "partition.assignment.strategy",
        java: "class org.apache.kafka.clients.consumer.RangeAssignor,\
               class org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
        why: "the same two, by their names in the protocol; Java's classes are taken too",
    },
    Deviation {
        name: "sasl.mechanism",
        java: "GSSAPI",
        why: "Kerberos is not supported, so the mechanism has to be named",
    },
    Deviation {
        name: "ssl.keystore.type",
        java: "JKS",
        why: "JKS is Java's own format",
    },
    Deviation {
        name: "ssl.truststore.type",
        java: "JKS",
        why: "JKS is Java's own format",
    },
];
