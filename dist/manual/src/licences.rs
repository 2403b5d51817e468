//! The licences of everything that is linked into a shipped program, as one text.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

const TARGETS: [&str; 3] = [
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-musl",
    "armv7-unknown-linux-musleabihf",
];

const SHIPPED: [&str; 3] = [
    "tidewatch-collector",
    "tidewatch-aggregator",
    "tidewatch-devbroker",
];

/// What names a file of a crate as one that holds its licence.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// What is linked besides crates, and by which licence; the texts stand at the end.
const BESIDE_CRATES: &str = "\
Rust's standard library (MIT OR Apache-2.0), copyright The Rust Project contributors
musl, the C library (MIT), copyright 2005-2020 Rich Felker and others
LLVM's libunwind (Apache-2.0 WITH LLVM-exception), by the LLVM project
";

/// Why the licences are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cargo could not say what is linked: {0}")]
    Metadata(#[from] cargo_metadata::Error),
    #[error("failed to read {}: {source}", at.display())]
    Read { at: PathBuf, source: std::io::Error },
    #[error("{0} names no licence")]
    Unlicensed(String),
}

/// A list of all crates with their licences, then each text once with the crates that it is of.
pub(crate) fn collect() -> Result<String, Error> {
    let linked = linked()?;
    let mut list = String::new();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in linked.values() {
        let name = format!("{} {}", package.name, package.version);
        let Some(licence) = &package.license else {
            return Err(Error::Unlicensed(name));
        };
        // Writing to a String cannot fail.
        let _ = writeln!(list, "{name} ({licence})");
        for text in texts_of(package)? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    let mut all = format!("Linked into Tidewatch's programs\n\n{list}\n{BESIDE_CRATES}");
    for (text, names) in texts {
        let rule = "-".repeat(79);
        let _ = write!(all, "\n{rule}\n{}\n{rule}\n\n{text}\n", names.join(", "));
    }
    Ok(all)
}

/// The crates of others in any shipped program, for any target, by name and version.
fn linked() -> Result<BTreeMap<String, Package>, Error> {
    let mut linked = BTreeMap::new();
    for target in TARGETS {
        let options = ["--locked", "--filter-platform", target].map(str::to_owned);
        let metadata = MetadataCommand::new().other_options(options).exec()?;
        let reached = reached(&metadata);
        let foreign = metadata
            .packages
            .into_iter()
            .filter(|package| package.source.is_some() && reached.contains(&package.id));
        linked.extend(foreign.map(|p| (format!("{} {}", p.name, p.version), p)));
    }
    Ok(linked)
}

/// What the shipped programs reach by normal edges: build scripts are run and not linked.
fn reached(metadata: &Metadata) -> BTreeSet<PackageId> {
    let edges: BTreeMap<&PackageId, Vec<&PackageId>> = metadata
        .resolve
        .iter()
        .flat_map(|resolve| &resolve.nodes)
        .map(|node| {
            let normal = node.deps.iter().filter(|dep| {
                let mut kinds = dep.dep_kinds.iter();
                kinds.any(|kind| kind.kind == DependencyKind::Normal)
            });
            (&node.id, normal.map(|dep| &dep.pkg).collect())
        })
        .collect();
    let mut waiting: Vec<&PackageId> = metadata
        .packages
        .iter()
        .filter(|package| SHIPPED.contains(&package.name.as_str()))
        .map(|package| &package.id)
        .collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if reached.insert(id.clone()) {
            waiting.extend(edges.get(id).into_iter().flatten());
        }
    }
    reached
}

/// The licence files of a crate; none where it has no such file and only names its licence.
fn texts_of(package: &Package) -> Result<Vec<String>, Error> {
    let Some(folder) = package.manifest_path.parent() else {
        return Ok(Vec::new());
    };
    let failed = |source| Error::Read {
        at: folder.into(),
        source,
    };
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(failed)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.to_ascii_uppercase();
            path.is_file() && NAMES.iter().any(|known| name.starts_with(known))
        })
        .collect();
    files.sort();
    let texts = files.iter().map(fs::read_to_string);
    texts
        .map(|text| text.map(|text| text.trim_end().to_owned()))
        .collect::<Result<_, _>>()
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_linked_crate_is_listed_and_the_texts_are_there() {
        let all = collect().unwrap();
        for linked in ["tokio ", "clap ", "kafka-protocol ", "rustix "] {
            assert!(all.lines().any(|line| line.starts_with(linked)), "{linked}");
        }
        assert!(all.contains("Permission is hereby granted"));
        // Used by the tests and by this generator, and linked into nothing that is shipped.
        for foreign in ["proptest ", "cargo_metadata ", "clap_mangen "] {
            assert!(
                !all.lines().any(|line| line.starts_with(foreign)),
                "{foreign}"
            );
        }
    }
}
