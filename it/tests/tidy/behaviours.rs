//! The page of behaviours: every line has its tests and its patches, and none is left out.

use super::sources::{files, root};
use std::collections::BTreeSet;

/// The one that is spoken of and not done: the group protocol of KIP-848.
const NOT_YET: usize = 35;
const LINES: usize = 56;

/// What stands before a behaviour beyond the numbered ones.
const UNNUMBERED: &str = "–";

struct Row {
    /// 0 beyond the numbered ones.
    line: usize,
    tests: Vec<String>,
    patches: Vec<String>,
    /// Tests, or why there is none.
    real: String,
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn rows() -> Vec<Row> {
    let page = std::fs::read_to_string(root().join("client/BEHAVIOURS.md"))
        .expect("there is a client/BEHAVIOURS.md");
    page.lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.split(" | ").collect();
            let number = match cells[0].strip_prefix("| ")? {
                UNNUMBERED => 0,
                number => number.parse().ok()?,
            };
            assert_eq!(cells.len(), 5, "line {number} has other columns: {line}");
            Some(Row {
                line: number,
                tests: quoted(cells[2]),
                patches: quoted(cells[3]),
                real: cells[4].trim_end_matches(" |").to_owned(),
            })
        })
        .collect()
}

/// Whether `path::name` is a function in a file.
fn is_test(sources: &[(String, String)], test: &str) -> bool {
    let Some((path, name)) = test.split_once("::") else {
        return false;
    };
    let declared = format!("fn {name}(");
    let file = sources.iter().find(|(file, _)| file == path);
    file.is_some_and(|(_, text)| text.contains(&declared))
}

#[test]
fn every_line_names_tests_and_patches_that_exist() {
    let sources = files();
    let rows = rows();
    let numbers = rows.iter().map(|row| row.line);
    let lines: Vec<_> = numbers.filter(|line| *line > 0).collect();
    let wanted: Vec<_> = (1..=LINES).filter(|line| *line != NOT_YET).collect();
    assert_eq!(lines, wanted, "a line is missing, or out of place");
    for Row {
        line,
        tests,
        patches,
        real,
    } in &rows
    {
        assert!(!tests.is_empty(), "line {line} has no test");
        assert!(!patches.is_empty(), "line {line} has no patch");
        for test in tests {
            assert!(
                is_test(&sources, test),
                "line {line}: there is no test {test}"
            );
        }
        let real_tests = quoted(real);
        assert!(
            !real_tests.is_empty() || real.starts_with("no: "),
            "line {line}: neither seen on a real Kafka nor a reason why not"
        );
        for test in real_tests {
            assert!(
                test.starts_with("it/tests/real_"),
                "line {line}: {test} is not real"
            );
            assert!(
                is_test(&sources, &test),
                "line {line}: there is no test {test}"
            );
        }
    }
}

#[test]
fn every_patch_has_a_line_and_breaks_one_of_its_tests() {
    let rows = rows();
    let named: Vec<_> = rows.iter().flat_map(|row| &row.patches).collect();
    let folder = root().join("it/mutants");
    let mut there = BTreeSet::new();
    for entry in std::fs::read_dir(&folder).expect("there is a folder of patches") {
        let name = entry.expect("it can be read").file_name().into_string();
        if let Some(patch) = name.expect("its name is UTF-8").strip_suffix(".patch") {
            there.insert(patch.to_owned());
        }
    }
    let once: BTreeSet<_> = named.iter().map(|patch| (*patch).clone()).collect();
    let left_out: Vec<_> = there.difference(&once).collect();
    assert!(
        left_out.is_empty(),
        "no line of client/BEHAVIOURS.md names {left_out:?}"
    );
    let gone: Vec<_> = once.difference(&there).collect();
    assert!(gone.is_empty(), "there are no patches {gone:?}");
    assert_eq!(named.len(), once.len(), "a patch is named twice");
    for row in &rows {
        for patch in &row.patches {
            let text = std::fs::read_to_string(folder.join(format!("{patch}.patch")))
                .expect("it can be read");
            let first = text.lines().next().unwrap_or_default();
            let filter = first.split_whitespace().last().unwrap_or_default();
            // As cargo names tests: by their modules.
            let is_run = |test: &String| {
                test.replace(".rs::", "::")
                    .replace('/', "::")
                    .contains(filter)
            };
            assert!(
                row.tests.iter().any(is_run),
                "line {} names no test that {patch} runs ({filter})",
                row.line
            );
        }
    }
}

/// The numbers in a test's name: `line_07_…`, `lines_46_and_47_…`.
fn numbers(name: &str) -> Vec<usize> {
    let Some(rest) = name.strip_prefix("line_").or(name.strip_prefix("lines_")) else {
        return Vec::new();
    };
    let words = rest
        .split('_')
        .take_while(|word| *word == "and" || word.parse::<usize>().is_ok());
    words.filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn every_test_with_a_number_stands_in_its_line() {
    let rows = rows();
    let ours = ["client/", "protocol/", "it/tests/real_"];
    for (file, text) in files() {
        if !file.ends_with(".rs") || !ours.iter().any(|folder| file.starts_with(folder)) {
            continue;
        }
        let functions = text
            .lines()
            .filter_map(|line| line.trim_start().split_once("fn "));
        for (_, function) in functions {
            let name = function.split(['(', '<']).next().unwrap_or_default();
            let test = format!("{file}::{name}");
            for line in numbers(name) {
                let row = rows.iter().find(|row| row.line == line);
                let row = row.unwrap_or_else(|| panic!("{test}: there is no line {line}"));
                assert!(
                    row.tests.contains(&test) || row.real.contains(&test),
                    "line {line} does not name {test}"
                );
            }
        }
    }
}
