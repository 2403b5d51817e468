//! The arrows between our crates, and where the crates of others come from.

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use std::collections::BTreeMap;
use tidewatch_protocol::compression::Compression;

/// Each crate and which of ours it may use; they run only downwards. A new crate is added here.
const ARROWS: &[(&str, &[&str])] = &[
    ("tidewatch-protocol", &[]),
    ("tidewatch-sample", &[]),
    ("tidewatch-client-core", &["tidewatch-protocol"]),
    (
        "tidewatch-client",
        &["tidewatch-client-core", "tidewatch-protocol"],
    ),
    ("tidewatch-command", &["tidewatch-client"]),
    (
        "tidewatch-collector",
        &["tidewatch-sample", "tidewatch-client", "tidewatch-command"],
    ),
    ("tidewatch-engine", &["tidewatch-sample"]),
    (
        "tidewatch-aggregator",
        &[
            "tidewatch-engine",
            "tidewatch-sample",
            "tidewatch-client",
            "tidewatch-command",
        ],
    ),
    ("tidewatch-broker", &["tidewatch-protocol"]),
    (
        "tidewatch-devbroker",
        &["tidewatch-broker", "tidewatch-protocol"],
    ),
    ("tidewatch-check-no-c", &[]),
    (
        "tidewatch-manual",
        &[
            "tidewatch-collector",
            "tidewatch-aggregator",
            "tidewatch-devbroker",
        ],
    ),
];

/// Licences that let an operator ship the binaries. An expression passes if one way through it does.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
];

fn packages() -> Vec<Package> {
    MetadataCommand::new()
        .other_options(["--locked".to_owned()])
        .exec()
        .expect("cargo metadata")
        .packages
}

#[test]
fn arrows_run_only_downwards() {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for package in packages()
        .iter()
        .filter(|p| p.source.is_none() && p.name.as_str() != "tidewatch-it")
    {
        let allowed = arrows
            .get(package.name.as_str())
            .unwrap_or_else(|| panic!("{} has no row in ARROWS", package.name));
        for used in package
            .dependencies
            .iter()
            .filter(|d| d.kind != DependencyKind::Development)
        {
            if used.name.starts_with("tidewatch") {
                assert!(
                    allowed.contains(&used.name.as_str()),
                    "{} must not use {}",
                    package.name,
                    used.name
                );
            }
        }
    }
}

#[test]
fn pure_crates_do_not_depend_on_a_runtime() {
    for package in packages() {
        let pure = [
            "tidewatch-protocol",
            "tidewatch-sample",
            "tidewatch-client-core",
            "tidewatch-engine",
            "tidewatch-broker",
        ];
        if pure.contains(&package.name.as_str()) {
            for used in &package.dependencies {
                assert!(
                    !["tokio", "socket2", "rustix", "procfs"].contains(&used.name.as_str()),
                    "{} uses {}",
                    package.name,
                    used.name
                );
            }
        }
    }
}

// Each program chooses its codecs, and tests pass over one that is not compiled in.
#[test]
fn the_suites_have_every_codec() {
    let codecs = Compression::ALL.map(|codec| (codec.name(), codec.is_compiled_in()));
    assert!(codecs.iter().all(|(_, has)| *has), "{codecs:?}");
}

#[test]
fn licences_are_on_the_allow_list() {
    for package in packages() {
        let expression = package
            .license
            .clone()
            .unwrap_or_default()
            .replace('/', " OR ");
        let one_way = expression.split(" OR ").any(|way| {
            way.split(" AND ")
                .all(|licence| LICENCES.contains(&licence.trim().trim_matches(['(', ')'])))
        });
        assert!(
            one_way,
            "{} {} has the licence {expression:?}",
            package.name, package.version
        );
    }
}

#[test]
fn crates_come_from_the_registry_only() {
    for package in packages() {
        if let Some(source) = &package.source {
            assert!(
                source.is_crates_io(),
                "{} comes from {source}",
                package.name
            );
        }
    }
}
