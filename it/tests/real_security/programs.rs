//! Our own programs, as an operator sets them up.

use crate::client::key;
use crate::log::assert_no_secret;
use tidewatch_it::kafka::SecureKafka;
use tidewatch_it::process::Process;
use tidewatch_it::programs::{PATIENCE, command};

const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

/// The password is in a file of its own, and everything else in a configuration.
fn configuration(kafka: &SecureKafka) -> String {
    let dir = kafka.work_dir();
    let secrets = dir.join("secrets.properties");
    std::fs::write(&secrets, "# Bob's\npassword=bob-secret\n").unwrap();
    let text = format!(
        "[kafka]\nbootstrap.servers = \"{}\"\nsecurity.protocol = \"SASL_SSL\"\n\
         sasl.mechanism = \"SCRAM-SHA-512\"\nssl.truststore.location = \"{}\"\n\
         sasl.jaas.config = 'org.apache.kafka.common.security.scram.ScramLoginModule required \
         username=\"bob\" password=\"${{file:{}:password}}\";'\n",
        kafka.address("SASLTLS"),
        key(kafka, "trusted.pem"),
        secrets.display()
    );
    let path = dir.join("collector.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

pub(crate) fn collector(kafka: &SecureKafka) {
    for topic in ["cpu-monitor", "mem-monitor"] {
        kafka.tools().create_topic(topic, 1, &[]);
    }
    let config = configuration(kafka);
    let start = |more: &[&str]| {
        let mut command = command("tidewatch-collector");
        command.args(["web-1", "--config", &config, "--log", "trace"]);
        command.args(more);
        Process::start("tidewatch-collector", command)
    };
    let mut checked = start(&["--check-config", "-X", "sasl.password=not-the-password"]);
    assert!(checked.wait(PATIENCE).success(), "{}", checked.stderr());
    assert!(
        checked.stdout().contains("(hidden)"),
        "{}",
        checked.stdout()
    );
    assert_no_secret(&checked.stdout());
    assert_no_secret(&checked.stderr());

    let mut collector = start(&["--interval", "200ms"]);
    let arguments = [
        "--topic",
        "cpu-monitor",
        "--from-beginning",
        "--max-messages",
        "5",
        "--timeout-ms",
        "60000",
    ];
    let (received, _) = kafka.tools().run(CONSUMER, &arguments, "");
    assert_eq!(received.lines().count(), 5, "{received}");
    collector.signal("TERM");
    assert!(collector.wait(PATIENCE).success(), "{}", collector.stderr());
    assert!(
        collector.stderr().contains("goes to"),
        "{}",
        collector.stderr()
    );
    assert_no_secret(&collector.stderr());
    assert_no_secret(&collector.stdout());
}

pub(crate) fn aggregator(kafka: &SecureKafka) {
    let mut command = command("tidewatch-aggregator");
    command
        .args([
            "-b",
            &kafka.address("SASL"),
            "--available-now",
            "--log",
            "trace",
        ])
        .args(["-X", "security.protocol=SASL_PLAINTEXT"])
        .args(["-X", "sasl.mechanism=PLAIN", "-X", "sasl.username=alice"])
        .env("TIDEWATCH_KAFKA_SASL_PASSWORD", "not-the-password");
    let mut process = Process::start("tidewatch-aggregator", command);
    let status = process.wait(PATIENCE);
    assert_eq!(status.code(), Some(1), "{}", process.stderr());
    let stderr = process.stderr();
    let last = stderr.lines().last().unwrap_or_default();
    println!("  {last}");
    assert!(
        last.contains("refuses the credentials for PLAIN"),
        "{stderr}"
    );
    assert_no_secret(&stderr);
}
