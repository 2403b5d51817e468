//! The table of properties: every name, its default, and what is refused.

use super::*;

mod security;

fn refused(name: &str, value: &str) -> String {
    let mut options = Options::default();
    match options.set(name, value) {
        Err(error) => error.to_string(),
        Ok(()) => panic!("{name}={value} was taken"),
    }
}

#[test]
fn every_default_lies_in_its_own_range() {
    for row in rows().filter(|row| !row.default.is_empty()) {
        assert!(row.accepts.parse(row.default).is_some(), "{}", row.name);
    }
}

#[test]
fn defaults_are_those_of_the_java_client() {
    let options = Options::default();
    assert_eq!(options.client.client_id, "tidewatch");
    assert_eq!(options.client.request_timeout_ms, 30_000);
    assert_eq!(options.client.connections_max_idle_ms, 540_000);
    assert_eq!(options.producer.acks, -1);
    assert!(options.producer.idempotence);
    assert_eq!(options.producer.linger_ms, 5);
    assert_eq!(options.producer.batch_size, 16_384);
    assert_eq!(options.producer.buffer_memory, 32 << 20);
    assert_eq!(options.producer.retry_backoff_ms, (100, 1000));
    assert_eq!(options.consumer.offset_reset, OffsetReset::Latest);
    assert_eq!(options.consumer.fetch_max_bytes, 50 << 20);
    assert_eq!(options.consumer.group_id, None);
}

#[test]
fn every_option_can_be_set_to_its_default_and_is_described() {
    let mut options = Options::default();
    for row in describe().filter(|row| !row.default.is_empty()) {
        assert_eq!(options.set(row.name, row.default), Ok(()), "{}", row.name);
        assert!(row.says.ends_with('.'), "{}", row.name);
    }
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest_known_one() {
    let said = refused("linger_ms", "3");
    assert_eq!(said, "unknown option linger_ms: did you mean linger.ms?");
    let said = refused("bootstrap.server", "a:1");
    assert!(said.ends_with("did you mean bootstrap.servers?"), "{said}");
    assert_eq!(refused("zzz", "1"), "unknown option zzz");
}

#[test]
fn what_only_java_has_is_ignored_where_that_does_no_harm_and_told() {
    let mut options = Options::default();
    let serializer = "org.apache.kafka.common.serialization.StringSerializer";
    options.set("key.serializer", serializer).unwrap();
    options.set("retries", "2147483647").unwrap();
    let ignored: Vec<_> = options.ignored().map(|foreign| foreign.name).collect();
    assert_eq!(ignored, ["key.serializer", "retries"]);
    assert_eq!(Options::default().ignored().count(), 0);
}

#[test]
fn what_only_java_has_is_refused_where_it_would_not_be_obeyed() {
    let said = refused("ssl.key.password", "secret");
    assert!(
        said.starts_with("ssl.key.password is not supported: "),
        "{said}"
    );
    assert!(said.contains("PKCS#8"), "{said}");
    assert!(!said.contains("secret"), "{said}");
    assert!(refused("sasl.kerberos.service.name", "kafka").contains("SCRAM-SHA-512"));
    assert!(refused("partitioner.class", "Mine").contains("producer_partitioned_by"));
    assert!(refused("allow.auto.create.topics", "true").contains("must be false"));
}

#[test]
fn every_name_stands_in_one_table_and_deviations_are_of_options_that_are_there() {
    let mut names: Vec<_> = rows().map(|row| row.name).collect();
    names.extend(foreign().map(|foreign| foreign.name));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a name stands in two tables");
    assert!(foreign().is_sorted_by_key(|foreign| foreign.name));
    for deviation in DEVIATIONS {
        let row = rows().find(|row| row.name == deviation.name).unwrap();
        assert!(row.default != deviation.java);
    }
}

#[test]
fn a_bad_value_is_refused_with_its_range() {
    let said = refused("linger.ms", "soon");
    assert_eq!(
        said,
        "linger.ms must be a whole number from 0 to 2147483647, not \"soon\""
    );
    assert!(refused("linger.ms", "-1").contains("from 0 to"));
    assert!(refused("acks", "2").contains("one of all, -1, 0, 1"));
    assert!(refused("check.crcs", "yes").contains("true or false"));
    assert!(refused("compression.gzip.level", "10").contains("a level from 1 to 9"));
    assert!(refused("ssl.truststore.type", "JKS").contains("not supported yet"));
}

#[test]
fn each_codec_has_its_own_level() {
    let mut options = Options::default();
    let mut codec = |name: &str, value: &str| {
        options.set(name, value).unwrap();
        let codec = options.producer.codec();
        (codec.compression, codec.level)
    };
    assert_eq!(
        codec("compression.gzip.level", "9"),
        (Compression::None, None)
    );
    assert_eq!(
        codec("compression.type", "gzip"),
        (Compression::Gzip, Some(9))
    );
    assert_eq!(
        codec("compression.gzip.level", "-1"),
        (Compression::Gzip, None)
    );
    assert_eq!(
        codec("compression.type", "zstd"),
        (Compression::Zstd, Some(1))
    );
    assert_eq!(
        codec("compression.zstd.level", "-7"),
        (Compression::Zstd, Some(-7))
    );
    assert_eq!(codec("compression.type", "lz4"), (Compression::Lz4, None));
}

#[test]
fn bootstrap_servers_are_hosts_and_ports() {
    let mut options = Options::default();
    let servers = " kafka-1:9092, [::1]:9093 ,";
    assert_eq!(options.set("bootstrap.servers", servers), Ok(()));
    assert_eq!(
        options.client.bootstrap_servers,
        ["kafka-1:9092", "[::1]:9093"]
    );
    for bad in [
        "kafka-1",
        "kafka-1:0",
        "kafka-1:99999",
        "::1:9092",
        "",
        ":9092",
        "a b:1",
    ] {
        assert!(
            refused("bootstrap.servers", bad).contains("host:port"),
            "{bad}"
        );
    }
    assert_eq!(parse_host_port("[fe80::1]:1"), Some(("fe80::1", 1)));
}

fn with(settings: &[(&str, &str)]) -> Result<Options, OptionError> {
    let mut options = Options::default();
    options.set("bootstrap.servers", "a:9092")?;
    for (name, value) in settings {
        options.set(name, value)?;
    }
    options.validated()
}

#[test]
fn idempotence_yields_to_weaker_settings_unless_it_was_asked_for() {
    assert!(with(&[]).unwrap().producer.idempotence);
    assert!(!with(&[("acks", "1")]).unwrap().producer.idempotence);
    let six = ("max.in.flight.requests.per.connection", "6");
    assert!(!with(&[six]).unwrap().producer.idempotence);
    let said = with(&[six, ("enable.idempotence", "true")]).unwrap_err();
    assert!(said.to_string().contains("at most 5"), "{said}");
}

#[test]
fn the_delivery_timeout_covers_lingering_and_one_request() {
    let raised = with(&[("request.timeout.ms", "200000")]).unwrap();
    assert_eq!(raised.producer.delivery_timeout_ms, 200_005);
    let said = with(&[("delivery.timeout.ms", "1000")]).unwrap_err();
    assert!(said.to_string().contains("delivery.timeout.ms"), "{said}");
    assert!(Options::default().validated().is_err());
}
