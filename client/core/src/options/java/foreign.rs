//! The table: name, fate, why.

use super::{Fate, Foreign};
use Fate::{Ignored, Refused};

const KERBEROS: &str =
    "Kerberos is not supported; set sasl.mechanism to SCRAM-SHA-512 or another that is";
const TOKENS: &str = "no class can be loaded; bring tokens by Client::spawn_with_tokens, or set sasl.oauthbearer.token.endpoint.url";
const SETUP: &str =
    "getting a token is part of setting a connection up; set socket.connection.setup.timeout.ms";
const RENEWAL: &str =
    "a token is asked for anew when a connection needs one after 80% of the last one's life";
const AGAIN: &str = "a token that cannot be had is asked for again with the next attempt to connect, 1 to 30 s later";
const ASSERTION: &str = "tokens are not asked for by assertions; set sasl.oauthbearer.client.credentials.client.id and .secret, or bring tokens by Client::spawn_with_tokens";
const JUDGE: &str = "the broker judges a token; this client shows it as it is";
const CRYPTOGRAPHY: &str = "no class can be loaded; cryptography is that of rustls and graviola";
const KERNEL: &str = "the kernel sizes the buffers of sockets by itself";
const SHARE: &str = "there are no share groups (KIP-932); read in a consumer group";
const SAMPLES: &str = "there are no metrics to sample";
const JAVAS_TLS: &str = "it names a part of Java's TLS";

const fn row(name: &'static str, fate: Fate, why: &'static str) -> Foreign {
    Foreign { name, fate, why }
}

pub(super) static FOREIGN: &[Foreign] = &[
    row(
        "bootstrap.controllers",
        Refused,
        "controllers are not spoken to; set bootstrap.servers",
    ),
    row(
        "compression.lz4.level",
        Ignored,
        "lz4 has one level here, the fastest",
    ),
    row(
        "config.providers",
        Refused,
        "no class can be loaded; read the value before it is set. The programs know ${file:PATH:KEY}, ${dir:PATH:FILE} and ${env:NAME}",
    ),
    row(
        "enable.metrics.push",
        Ignored,
        "no metrics are pushed to brokers (KIP-714)",
    ),
    row(
        "exclude.internal.topics",
        Ignored,
        "topics are subscribed by name, so an internal one is read only where it is named",
    ),
    row(
        "group.remote.assignor",
        Refused,
        "it belongs to the group protocol of KIP-848; set partition.assignment.strategy",
    ),
    row(
        "interceptor.classes",
        Refused,
        "no class can be loaded; call it before Producer::send or after Consumer::next",
    ),
    row("key.deserializer", Ignored, "keys are bytes"),
    row("key.serializer", Ignored, "keys are bytes"),
    row(
        "max.poll.records",
        Ignored,
        "records are decoded one by one as they are taken; what is not taken comes again",
    ),
    row(
        "metric.reporters",
        Ignored,
        "there are no metrics to report; Consumer::status has positions and lag",
    ),
    row("metrics.num.samples", Ignored, SAMPLES),
    row(
        "metrics.recording.level",
        Ignored,
        "there are no metrics to record",
    ),
    row("metrics.sample.window.ms", Ignored, SAMPLES),
    row(
        "partitioner.adaptive.partitioning.enable",
        Ignored,
        "records without a key stay with a partition until a batch is full, whatever the brokers' load",
    ),
    row(
        "partitioner.availability.timeout.ms",
        Ignored,
        "records without a key avoid partitions without a leader, and no others",
    ),
    row(
        "partitioner.class",
        Refused,
        "no class can be loaded; bring one by Client::producer_partitioned_by, or choose by ProducerRecord::partition",
    ),
    row(
        "partitioner.ignore.keys",
        Refused,
        "records of one key go to one partition; bring another rule by Client::producer_partitioned_by",
    ),
    row("receive.buffer.bytes", Ignored, KERNEL),
    row(
        "retries",
        Ignored,
        "a request is tried again until delivery.timeout.ms or default.api.timeout.ms is over; set those",
    ),
    row(
        "sasl.client.callback.handler.class",
        Refused,
        "no class can be loaded; set sasl.jaas.config, or bring tokens by Client::spawn_with_tokens",
    ),
    row("sasl.kerberos.kinit.cmd", Refused, KERBEROS),
    row("sasl.kerberos.min.time.before.relogin", Refused, KERBEROS),
    row("sasl.kerberos.service.name", Refused, KERBEROS),
    row("sasl.kerberos.ticket.renew.jitter", Refused, KERBEROS),
    row(
        "sasl.kerberos.ticket.renew.window.factor",
        Refused,
        KERBEROS,
    ),
    row("sasl.login.callback.handler.class", Refused, TOKENS),
    row("sasl.login.class", Refused, TOKENS),
    row("sasl.login.connect.timeout.ms", Ignored, SETUP),
    row("sasl.login.read.timeout.ms", Ignored, SETUP),
    row("sasl.login.refresh.buffer.seconds", Ignored, RENEWAL),
    row("sasl.login.refresh.min.period.seconds", Ignored, RENEWAL),
    row("sasl.login.refresh.window.factor", Ignored, RENEWAL),
    row("sasl.login.refresh.window.jitter", Ignored, RENEWAL),
    row("sasl.login.retry.backoff.max.ms", Ignored, AGAIN),
    row("sasl.login.retry.backoff.ms", Ignored, AGAIN),
    row("sasl.oauthbearer.assertion.algorithm", Refused, ASSERTION),
    row("sasl.oauthbearer.assertion.claim.aud", Refused, ASSERTION),
    row(
        "sasl.oauthbearer.assertion.claim.exp.seconds",
        Refused,
        ASSERTION,
    ),
    row("sasl.oauthbearer.assertion.claim.iss", Refused, ASSERTION),
    row(
        "sasl.oauthbearer.assertion.claim.jti.include",
        Refused,
        ASSERTION,
    ),
    row(
        "sasl.oauthbearer.assertion.claim.nbf.seconds",
        Refused,
        ASSERTION,
    ),
    row("sasl.oauthbearer.assertion.claim.sub", Refused, ASSERTION),
    row("sasl.oauthbearer.assertion.file", Refused, ASSERTION),
    row(
        "sasl.oauthbearer.assertion.private.key.file",
        Refused,
        ASSERTION,
    ),
    row(
        "sasl.oauthbearer.assertion.private.key.passphrase",
        Refused,
        ASSERTION,
    ),
    row(
        "sasl.oauthbearer.assertion.template.file",
        Refused,
        ASSERTION,
    ),
    row("sasl.oauthbearer.clock.skew.seconds", Ignored, JUDGE),
    row("sasl.oauthbearer.expected.audience", Ignored, JUDGE),
    row("sasl.oauthbearer.expected.issuer", Ignored, JUDGE),
    row(
        "sasl.oauthbearer.header.urlencode",
        Refused,
        "id and secret are sent as they are, as Java does by default; bring tokens by Client::spawn_with_tokens",
    ),
    row("sasl.oauthbearer.jwks.endpoint.refresh.ms", Ignored, JUDGE),
    row(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
        Ignored,
        JUDGE,
    ),
    row(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
        Ignored,
        JUDGE,
    ),
    row("sasl.oauthbearer.jwks.endpoint.url", Ignored, JUDGE),
    row("sasl.oauthbearer.jwt.retriever.class", Refused, TOKENS),
    row("sasl.oauthbearer.jwt.validator.class", Ignored, JUDGE),
    row("sasl.oauthbearer.scope.claim.name", Ignored, JUDGE),
    row("sasl.oauthbearer.sub.claim.name", Ignored, JUDGE),
    row("security.providers", Refused, CRYPTOGRAPHY),
    row("send.buffer.bytes", Ignored, KERNEL),
    row("share.acknowledgement.mode", Refused, SHARE),
    row("share.acquire.mode", Refused, SHARE),
    row(
        "ssl.cipher.suites",
        Refused,
        "all that rustls has are safe, and all are offered; ssl.enabled.protocols chooses versions",
    ),
    row(
        "ssl.engine.factory.class",
        Refused,
        "no class can be loaded; set the ssl.keystore and ssl.truststore options",
    ),
    row(
        "ssl.key.password",
        Refused,
        "keys are not decrypted; store it as PKCS#8 PEM without a password, readable by its owner alone",
    ),
    row("ssl.keymanager.algorithm", Ignored, JAVAS_TLS),
    row(
        "ssl.keystore.password",
        Refused,
        "key stores are PEM files, which have none; see ssl.keystore.location",
    ),
    row(
        "ssl.protocol",
        Ignored,
        "ssl.enabled.protocols says which versions may be spoken",
    ),
    row("ssl.provider", Refused, CRYPTOGRAPHY),
    row(
        "ssl.secure.random.implementation",
        Ignored,
        "it names a part of Java's TLS; random bytes are the system's",
    ),
    row("ssl.trustmanager.algorithm", Ignored, JAVAS_TLS),
    row(
        "ssl.truststore.password",
        Refused,
        "trust stores are PEM files, which have none; see ssl.truststore.location",
    ),
    row(
        "transaction.two.phase.commit.enable",
        Refused,
        "transactions of an outside coordinator (KIP-939) are not supported",
    ),
    row("value.deserializer", Ignored, "values are bytes"),
    row("value.serializer", Ignored, "values are bytes"),
];
