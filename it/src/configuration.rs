//! The page `client/CONFIGURATION.md`, written from the tables that the client obeys.

use std::fmt::Write;
use tidewatch_client::options::{DEVIATIONS, Description, Fate, OURS, describe, foreign};

const HEAD: &str = "\
# Configuration

Options have Kafka's names and are set by [`Options::set`](crate::options::Options::set), in the programs by
`-X name=value`, in a file's `[kafka]` table, or in the environment. This page is written from the tables
that the client obeys (`it/src/bin/configuration-page.rs`), and a test holds it to the ConfigDefs of Kafka
4.3: every property of Java's producer, consumer and admin client stands in exactly one of the three lists.

An unknown name is refused with the nearest known one, a value out of its range with the range.
";

const SUPPORTED: &str = "
## Supported

Where the default is not Java's, the reason stands beside it. A dash is no default.

| option | default | takes | what it is for |
|---|---|---|---|
";

const IGNORED: &str = "
## Ignored, with a warning

So that a Java client's properties file can be used as it is. What these tune does not exist here; no record,
offset or secret is treated otherwise for want of it.

| option | why |
|---|---|
";

const REFUSED: &str = "
## Refused

The client would not do what is asked for, so it says so instead of starting.

| option | why, and what to do instead |
|---|---|
";

/// The whole page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str(SUPPORTED);
    for option in describe() {
        supported(&mut page, &option);
    }
    for (title, fate) in [(IGNORED, Fate::Ignored), (REFUSED, Fate::Refused)] {
        page.push_str(title);
        for option in foreign().filter(|option| option.fate == fate) {
            line(&mut page, &[&code(option.name), option.why]);
        }
    }
    page
}

fn supported(page: &mut String, option: &Description) {
    let mut says = option.says.to_owned();
    if let Some(deviation) = DEVIATIONS.iter().find(|found| found.name == option.name) {
        let java = match deviation.java {
            "" => "Java has none".to_owned(),
            java => format!("Java's default is {}", code(&spaced(java))),
        };
        let _ = write!(says, " {java}: {}.", deviation.why);
    }
    if let Some((_, whose)) = OURS.iter().find(|(name, _)| *name == option.name) {
        let _ = write!(says, " Not Java's but {whose}.");
    }
    let default = match option.default {
        "" => "–".to_owned(),
        default => code(default),
    };
    line(
        page,
        &[&code(option.name), &default, &option.accepts, &says],
    );
}

/// A class list with room to break.
fn spaced(java: &str) -> String {
    java.replace("class ", "").replace(',', ", ")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn line(page: &mut String, cells: &[&str]) {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}
