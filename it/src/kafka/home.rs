//! Which Kafka, and where its jars are: the cache that `it/kafka/setup.sh` fills.

use std::path::PathBuf;
use std::process::Command;

/// Which Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 4.4.0: its tools only, because no broker of it is set up.
    V4_4,
    /// 4.3.1.
    V4_3,
    /// 3.9.1, the last before 4.0 dropped the old protocols.
    V3_9,
}

impl Version {
    fn number(self) -> &'static str {
        match self {
            Self::V4_4 => "4.4.0",
            Self::V4_3 => "4.3.1",
            Self::V3_9 => "3.9.1",
        }
    }
}

/// The jars of one version.
#[derive(Debug, Clone)]
pub(super) struct Home {
    pub(super) version: Version,
    pub(super) dir: PathBuf,
    class_path: String,
}

impl Home {
    pub(super) fn of(version: Version) -> Self {
        let cache = std::env::var_os("TIDEWATCH_CACHE").map_or_else(
            || {
                PathBuf::from(std::env::var_os("HOME").expect("HOME is set"))
                    .join(".cache/tidewatch")
            },
            PathBuf::from,
        );
        let dir = cache.join(format!("kafka-{}", version.number()));
        assert!(
            dir.join("ready").exists(),
            "Kafka {} is not in the cache: run `make setup`",
            version.number()
        );
        let mut jars: Vec<_> = std::fs::read_dir(dir.join("libs"))
            .expect("the cache can be read")
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .into_os_string()
                    .into_string()
                    .expect("jar names are UTF-8")
            })
            .filter(|path| path.ends_with(".jar"))
            .collect();
        // The class archive wants the very class path that it was made with: sorted by bytes.
        jars.sort_unstable();
        Self {
            version,
            class_path: jars.join(":"),
            dir,
        }
    }

    pub(super) fn java_arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let archive = self.dir.join("broker.jsa");
        if archive.exists() {
            arguments.push(format!("-XX:SharedArchiveFile={}", archive.display()));
        }
        arguments.extend(
            [
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-cp",
            ]
            .map(str::to_owned),
        );
        arguments.push(self.class_path.clone());
        arguments
    }

    pub(super) fn java(&self) -> Command {
        let mut command = Command::new("java");
        command.arg("-Xmx256m").args(self.java_arguments());
        command
    }
}
