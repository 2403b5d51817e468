//! What stands in the source files.

use std::path::{Path, PathBuf};
use std::process::Command;

const MAX_LINES: usize = 700;
const PURE: &[&str] = &[
    "protocol/src/",
    "protocol/sample/src/",
    "client/core/src/",
    "aggregator/engine/src/",
    "it/broker/src/",
];

/// The project's root.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("it/ stands in the root")
        .to_owned()
}

/// The project's files by their path from the root, with their text; binary files are left out.
pub(super) fn files() -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    let names = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    let files: Vec<_> = names
        .lines()
        .filter_map(|name| {
            Some((
                name.to_owned(),
                std::fs::read_to_string(root().join(name)).ok()?,
            ))
        })
        .collect();
    assert!(files.len() > 50, "only {} files were found", files.len());
    files
}

fn rust_files() -> Vec<(String, String)> {
    files()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".rs"))
        .collect()
}

fn is_test(name: &str) -> bool {
    name.contains("/tests/") || name.starts_with("it/src/") || name.ends_with("tests.rs")
}

/// Where `needle` stands in the code of `text`, comments left out: line numbers from 1.
fn lines_with<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.lines()
        .enumerate()
        .filter(move |(_, line)| line.contains(needle) && !line.trim_start().starts_with("//"))
        .map(|(at, _)| at + 1)
}

fn assert_absent(files: &[(String, String)], needles: &[&str], rule: &str) {
    let mut found = Vec::new();
    for (name, text) in files {
        for needle in needles {
            found.extend(lines_with(text, needle).map(|line| format!("{name}:{line}: {needle}")));
        }
    }
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn no_file_is_longer_than_700_lines() {
    for (name, text) in rust_files() {
        let generated = text.lines().take(5).any(|line| line.contains("@generated"));
        let lines = text.lines().count();
        assert!(
            generated || lines <= MAX_LINES,
            "{name} has {lines} lines; split it by ideas"
        );
    }
}

#[test]
fn every_source_file_says_what_it_is_for() {
    for (name, text) in rust_files() {
        let first = text.lines().find(|line| !line.starts_with("// @generated"));
        assert!(
            first.is_some_and(|line| line.starts_with("//!")),
            "{name} does not begin with a //! line"
        );
    }
}

#[test]
fn pure_crates_name_no_clock_no_runtime_and_no_global_randomness() {
    let pure: Vec<_> = rust_files()
        .into_iter()
        .filter(|(name, _)| PURE.iter().any(|p| name.starts_with(p)))
        .collect();
    assert!(pure.len() > 20, "the pure crates have moved");
    let banned = [
        "tokio",
        "std::net",
        "std::fs",
        "std::thread",
        "std::io::std",
        "Instant::now",
        "SystemTime",
        "fastrand::u",
        "fastrand::i",
        "Rng::new()",
        "RandomState",
        "std::env",
        "std::process",
    ];
    assert_absent(
        &pure,
        &banned,
        "a pure crate takes time, randomness and bytes as arguments",
    );
}

#[test]
fn no_test_is_ignored() {
    let attribute = concat!("#[", "ignore");
    assert_absent(
        &rust_files(),
        &[attribute],
        "a test that does not run proves nothing",
    );
}

#[test]
fn no_test_sleeps() {
    let tests: Vec<_> = rust_files()
        .into_iter()
        .map(|(name, text)| {
            let text = if is_test(&name) {
                text
            } else {
                text.split_once("#[cfg(test)]")
                    .map_or(String::new(), |(_, tests)| tests.to_owned())
            };
            (name, text)
        })
        .collect();
    assert_absent(
        &tests,
        &[concat!("sle", "ep(")],
        "a test awaits an event; it does not sleep",
    );
}

#[test]
fn an_allow_attribute_gives_its_reason() {
    // An expect is better, except where a lint fires in one set of features and not in another.
    let mut found = Vec::new();
    for (name, text) in rust_files() {
        for attribute in [concat!("#[", "allow("), concat!("#![", "allow(")] {
            let bare = text.lines().enumerate().filter(|(_, line)| {
                line.trim_start().starts_with(attribute) && !line.contains("reason = ")
            });
            found.extend(bare.map(|(at, _)| format!("{name}:{}", at + 1)));
        }
    }
    assert!(
        found.is_empty(),
        "an allow without a reason:\n{}",
        found.join("\n")
    );
}

#[test]
fn no_work_is_left_as_a_note() {
    let notes = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
    ];
    let mut found = Vec::new();
    for (name, text) in rust_files() {
        for note in notes {
            found.extend(
                text.lines()
                    .enumerate()
                    .filter(|(_, l)| l.contains(note))
                    .map(|(at, _)| format!("{name}:{}: {note}", at + 1)),
            );
        }
    }
    assert!(
        found.is_empty(),
        "unfinished work belongs in an issue:\n{}",
        found.join("\n")
    );
}

#[test]
fn no_machine_paths_and_no_registry_hosts() {
    let needles = [
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("crates", ".io"),
        concat!("repo.maven", ".apache"),
        concat!("static.", "rust-lang"),
    ];
    let mut found = Vec::new();
    for (name, text) in files() {
        if name == "Cargo.lock" {
            continue;
        }
        for needle in needles {
            found.extend(
                text.lines()
                    .enumerate()
                    .filter(|(_, l)| l.contains(needle))
                    .map(|(at, _)| format!("{name}:{}: {needle}", at + 1)),
            );
        }
    }
    assert!(
        found.is_empty(),
        "the project names no machine and no host:\n{}",
        found.join("\n")
    );
}
