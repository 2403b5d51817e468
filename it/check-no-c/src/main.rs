//! Fails when the product's resolved graph can compile or link C, for every shipped target and
//! feature set, and proves on a planted case that it would.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, ExitCode};

const TARGETS: &[&str] = &[
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-musl",
    "armv7-unknown-linux-musleabihf",
];

const PRODUCT: &[&str] = &[
    "tidewatch-collector",
    "tidewatch-aggregator",
    "tidewatch-devbroker",
    "tidewatch-client",
];

/// Crates that run a C compiler, an assembler or a C build system, or look for C libraries.
const BUILDERS: &[&str] = &[
    "cc",
    "cmake",
    "bindgen",
    "pkg-config",
    "nasm-rs",
    "autotools",
    "vcpkg",
    "system-deps",
    "meson",
    "swig",
    "cxx-build",
];

/// `links` keys of crates that hold no C, each with its reason.
const LINKS_ALLOWED: &[(&str, &str)] = &[
    // Declarations only; the key keeps two versions of the crate apart.
    ("rayon-core", "guards a global thread pool, links nothing"),
];

/// What the resolved graph may name as long as `cargo tree` shows that nothing builds it, each with how
/// it comes in. Anything else that touches C is refused, built or not.
const NAMED_NOT_BUILT: &[(&str, &str)] = &[
    (
        "ring",
        "rustls-webpki names it weakly, `ring?/alloc`; graviola takes its place",
    ),
    ("cc", "a build dependency of ring"),
];

fn main() -> ExitCode {
    let mut found = BTreeSet::new();
    let mut graphs = 0;
    for target in TARGETS {
        for features in [
            &[][..],
            &["--all-features"][..],
            &["--no-default-features"][..],
        ] {
            let mut options = vec![
                "--locked".to_owned(),
                "--filter-platform".to_owned(),
                (*target).to_owned(),
            ];
            options.extend(features.iter().map(|f| (*f).to_owned()));
            // Of the workspace that it is run in.
            let metadata = match MetadataCommand::new().other_options(options).exec() {
                Ok(metadata) => metadata,
                Err(e) => return fail(&format!("cargo metadata failed for {target}: {e}")),
            };
            graphs += 1;
            let mut options = vec!["--locked", "--target", target];
            options.extend(features);
            let built = match built(None, PRODUCT, &options) {
                Ok(built) => built,
                Err(why) => return fail(&format!("cargo tree failed for {target}: {why}")),
            };
            let offences = offences(&metadata, PRODUCT, &built);
            found.extend(
                offences
                    .into_iter()
                    .map(|offence| format!("{offence} ({target}{})", features.join(""))),
            );
        }
    }
    if !found.is_empty() {
        return fail(&format!(
            "the product's build would need C:\n  {}",
            Vec::from_iter(found).join("\n  ")
        ));
    }
    match planted() {
        Ok(()) => {
            println!(
                "no C: {graphs} resolved graphs of {} packages are clean, and the planted C is found",
                PRODUCT.len()
            );
            ExitCode::SUCCESS
        }
        Err(why) => fail(&format!("the check itself is broken: {why}")),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("check-no-c: {why}");
    ExitCode::FAILURE
}

/// Packages by name and version.
type Built = BTreeSet<(String, String)>;

/// What building `roots` builds. The graph that `cargo metadata` gives is larger: it has optional
/// dependencies too that a feature of theirs names weakly (`ring?/alloc`), though nothing asks for
/// them; the lock file has them for the same reason.
fn built(manifest: Option<&Path>, roots: &[&str], options: &[&str]) -> Result<Built, String> {
    let mut command = Command::new("cargo");
    command.args(["tree", "--edges", "normal,build", "--prefix", "none"]);
    command.args(["--format", "{p}"]);
    if let Some(manifest) = manifest {
        command.arg("--manifest-path").arg(manifest);
    }
    for root in roots {
        command.args(["--package", root]);
    }
    let output = command.args(options).output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    // `name vVERSION`, and perhaps a path behind it.
    let packages = listed.lines().filter_map(|line| {
        let (name, rest) = line.split_once(" v")?;
        let version = rest.split_whitespace().next()?;
        Some((name.to_owned(), version.to_owned()))
    });
    Ok(packages.collect())
}

/// Every way in which those of the packages reached from `roots` by normal and build edges touch C
/// that are built.
fn offences(metadata: &Metadata, roots: &[&str], built: &Built) -> Vec<String> {
    let packages: BTreeMap<&PackageId, &Package> =
        metadata.packages.iter().map(|p| (&p.id, p)).collect();
    let Some(resolve) = &metadata.resolve else {
        return vec!["nothing was resolved".to_owned()];
    };
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|n| (&n.id, n)).collect();
    let mut waiting: Vec<(&PackageId, String)> = metadata
        .packages
        .iter()
        .filter(|p| roots.contains(&p.name.as_str()))
        .map(|p| (&p.id, p.name.to_string()))
        .collect();
    let mut offences = Vec::new();
    if waiting.len() != roots.len() {
        offences.push(format!(
            "only {} of {} packages to check exist",
            waiting.len(),
            roots.len()
        ));
    }
    let mut seen = BTreeSet::new();
    while let Some((id, way)) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        let package = packages[id];
        let is_built = built.contains(&(package.name.to_string(), package.version.to_string()));
        let may_be_named = NAMED_NOT_BUILT
            .iter()
            .any(|(name, _)| *name == package.name.as_str());
        if !is_built && may_be_named {
            continue;
        }
        if BUILDERS.contains(&package.name.as_str()) {
            offences.push(format!("{way}: {} builds or finds C", package.name));
        }
        if let Some(links) = package
            .links
            .as_deref()
            .filter(|l| !LINKS_ALLOWED.iter().any(|(allowed, _)| allowed == l))
        {
            offences.push(format!("{way}: {} links {links}", package.name));
        }
        for next in &nodes[id].deps {
            if next
                .dep_kinds
                .iter()
                .any(|kind| kind.kind != DependencyKind::Development)
            {
                waiting.push((&next.pkg, format!("{way} > {}", packages[&next.pkg].name)));
            }
        }
    }
    offences
}

/// Plants a crate that needs `cc` in its build, and one with a `links` key, and wants both found.
fn planted() -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let plant = |name: &str, more: &str| -> Result<(), String> {
        let at = dir.path().join(name);
        std::fs::create_dir_all(at.join("src")).map_err(|e| e.to_string())?;
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n{more}"
        );
        std::fs::write(at.join("Cargo.toml"), manifest).map_err(|e| e.to_string())?;
        std::fs::write(at.join("src/lib.rs"), "").map_err(|e| e.to_string())?;
        std::fs::write(at.join("build.rs"), "fn main() {}").map_err(|e| e.to_string())
    };
    plant("cc", "")?;
    plant("linker", "links = \"z\"\n")?;
    plant(
        "innocent",
        "[dev-dependencies]\ncc = { path = \"../cc\" }\n",
    )?;
    plant(
        "middle",
        "[build-dependencies]\ncc = { path = \"../cc\" }\n[dependencies]\nlinker = { path = \"../linker\" }\n",
    )?;
    plant(
        "guilty",
        "[dependencies]\nmiddle = { path = \"../middle\" }\n",
    )?;
    let of = |name: &str| -> Result<Vec<String>, String> {
        let manifest = dir.path().join(name).join("Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(&manifest)
            .exec()
            .map_err(|e| e.to_string())?;
        let built = built(Some(&manifest), &[name], &[])?;
        Ok(offences(&metadata, &[name], &built))
    };
    let guilty = of("guilty")?;
    if guilty.len() != 2
        || !guilty.iter().any(|o| o.contains("builds"))
        || !guilty.iter().any(|o| o.contains("links z"))
    {
        return Err(format!("the planted crates gave {guilty:?}"));
    }
    match of("innocent")?.as_slice() {
        [] => Ok(()),
        wrong => Err(format!("a dev-dependency was counted: {wrong:?}")),
    }
}
