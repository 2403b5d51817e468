//! What the documents promise: files, make targets, lengths.

use super::sources::{files, root};
use std::collections::BTreeSet;

const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
];

fn documents() -> Vec<(String, String)> {
    let all: Vec<_> = files()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".md"))
        .collect();
    for document in DOCUMENTS {
        assert!(
            all.iter().any(|(name, _)| name == document),
            "{document} is missing"
        );
    }
    all
}

/// Everything between backticks on one line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn make_targets() -> BTreeSet<String> {
    let makefile = std::fs::read_to_string(root().join("Makefile")).expect("there is a Makefile");
    makefile
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|line| line.split_once(':'))
        .flat_map(|(names, _)| {
            names
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn documents_name_only_make_targets_that_exist() {
    let targets = make_targets();
    for (name, text) in documents() {
        for word in quoted(&text).chain(
            text.lines()
                .filter(|l| l.starts_with("make ") || l.starts_with("$ make "))
                .map(|l| l.trim_start_matches("$ ")),
        ) {
            if let Some(rest) = word.strip_prefix("make ") {
                for target in rest
                    .split_whitespace()
                    .take_while(|w| !w.starts_with('#'))
                    .filter(|w| !w.contains('='))
                {
                    assert!(
                        targets.contains(target),
                        "{name} names `make {target}`, which the Makefile does not have"
                    );
                }
            }
        }
    }
}

#[test]
fn documents_name_only_files_that_exist() {
    let folders = [
        "protocol/",
        "client/",
        "collector/",
        "aggregator/",
        "it/",
        "dist/",
        ".ci/",
    ];
    for (name, text) in documents() {
        for word in quoted(&text) {
            let is_path = folders.iter().any(|f| word.starts_with(f))
                && !word.contains(['*', ' ', '<', '{', '…']);
            if is_path {
                let path = word.split(':').next().unwrap_or(word);
                assert!(
                    root().join(path).exists(),
                    "{name} names {word}, which does not exist"
                );
            }
        }
    }
}

#[test]
fn the_architecture_fits_in_250_lines() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md"))
        .expect("there is an ARCHITECTURE.md");
    assert!(
        text.lines().count() <= 250,
        "ARCHITECTURE.md has {} lines",
        text.lines().count()
    );
}

#[test]
fn make_help_lists_every_target() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).expect("there is a Makefile");
    for target in make_targets() {
        let documented = makefile
            .lines()
            .any(|l| l.starts_with(&format!("{target}:")) && l.contains("## "));
        assert!(
            documented,
            "`make help` does not say what `make {target}` does"
        );
    }
}
