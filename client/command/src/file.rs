//! Settings in a TOML file: the command's own keys at the top, Kafka's in the table `[kafka]`.

use crate::failure::UsageError;
use crate::layer::{Layer, Origin, Written, nearest};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use toml::{Table, Value};

/// The longest file read, in bytes; a configuration is a page or two.
const FILE_MAX_BYTES: u64 = 1 << 20;

const KAFKA_TABLE: &str = "kafka";

/// Reads the file at `path`; `keys` are the command's own.
pub(crate) fn read(path: &Path, keys: &[String]) -> Result<Layer, UsageError> {
    let failed = |why: &dyn std::fmt::Display| {
        let path = path.display();
        UsageError::new(format!("failed to read the configuration {path}: {why}"))
    };
    let mut text = String::new();
    let file = File::open(path).map_err(|why| failed(&why))?;
    file.take(FILE_MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|why| failed(&why))?;
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(failed(&format_args!(
            "it is longer than {FILE_MAX_BYTES} bytes"
        )));
    }
    parse(&text, path, keys)
}

fn parse(text: &str, path: &Path, keys: &[String]) -> Result<Layer, UsageError> {
    let at = path.display();
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error
            .span()
            .and_then(|span| text.get(..span.start))
            .unwrap_or("");
        let line = before.matches('\n').count() + 1;
        UsageError::new(format!("{at}, line {line}: {}", error.message().trim()))
    })?;
    let mut layer = Layer::default();
    for (key, value) in table {
        let refused = |why: String| UsageError::new(format!("{at}: {why}"));
        if key == KAFKA_TABLE {
            let Value::Table(properties) = value else {
                return Err(refused(
                    "`kafka` is not a table; begin it by a line `[kafka]`".into(),
                ));
            };
            flatten("", properties, path, &mut layer.properties).map_err(refused)?;
            continue;
        }
        if !keys.contains(&key) {
            return Err(refused(unknown_key(&key, keys)));
        }
        let values = texts(&key, value).map_err(refused)?;
        layer.settings.insert(
            key,
            Written {
                values,
                origin: Origin::File(path.to_owned()),
            },
        );
    }
    Ok(layer)
}

/// In TOML `compression.type = "zstd"` is a table in a table; Kafka means one name by it.
fn flatten(
    prefix: &str,
    table: Table,
    path: &Path,
    properties: &mut BTreeMap<String, Written>,
) -> Result<(), String> {
    for (key, value) in table {
        let name = if prefix.is_empty() {
            key
        } else {
            format!("{prefix}.{key}")
        };
        if let Value::Table(table) = value {
            flatten(&name, table, path, properties)?;
            continue;
        }
        let values = vec![texts(&name, value)?.join(",")];
        let written = Written {
            values,
            origin: Origin::File(path.to_owned()),
        };
        if properties.insert(name.clone(), written).is_some() {
            return Err(format!("`{name}` stands there twice, once in quotes"));
        }
    }
    Ok(())
}

fn texts(key: &str, value: Value) -> Result<Vec<String>, String> {
    match value {
        Value::Array(values) => values.into_iter().map(|value| text(key, value)).collect(),
        value => Ok(vec![text(key, value)?]),
    }
}

fn text(key: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(truth) => Ok(truth.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => Err(format!(
            "`{key}` takes text, a number, true or false, or a list of these"
        )),
    }
}

fn unknown_key(key: &str, keys: &[String]) -> String {
    match nearest(key, keys.iter().map(String::as_str)) {
        Some(known) => format!("unknown key `{key}`; did you mean `{known}`?"),
        None if key.contains('.') => {
            format!("unknown key `{key}`; a property of Kafka stands under `[kafka]`")
        }
        None => format!(
            "unknown key `{key}`; the keys are {}, and `[kafka]` for Kafka's properties",
            keys.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Layer, String> {
        let keys = [
            "interval".to_owned(),
            "dry-run".to_owned(),
            "topics".to_owned(),
        ];
        parse(text, Path::new("agent.toml"), &keys).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_at_the_top_are_the_commands_and_the_table_is_kafkas() {
        let layer = parse_text(
            "interval = \"5s\"\ndry-run = true\ntopics = [\"a\", \"b\"]\n\
             [kafka]\ncompression.type = \"zstd\"\n\"linger.ms\" = 50\nbootstrap.servers = [\"a:1\", \"b:2\"]\n",
        )
        .unwrap();
        assert_eq!(layer.settings["interval"].values, ["5s"]);
        assert_eq!(layer.settings["dry-run"].values, ["true"]);
        assert_eq!(layer.settings["topics"].values, ["a", "b"]);
        let properties: Vec<(&str, &str)> = layer
            .properties
            .iter()
            .map(|(name, written)| (name.as_str(), written.values[0].as_str()))
            .collect();
        assert_eq!(
            properties,
            [
                ("bootstrap.servers", "a:1,b:2"),
                ("compression.type", "zstd"),
                ("linger.ms", "50")
            ]
        );
        assert_eq!(
            layer.properties["linger.ms"].origin,
            Origin::File("agent.toml".into())
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest() {
        let failed = parse_text("intervall = \"5s\"\n").unwrap_err();
        assert_eq!(
            failed,
            "agent.toml: unknown key `intervall`; did you mean `interval`?"
        );
        let failed = parse_text("\"linger.ms\" = 5\n").unwrap_err();
        assert_eq!(
            failed,
            "agent.toml: unknown key `linger.ms`; a property of Kafka stands under `[kafka]`"
        );
        let failed = parse_text("colour = 5\n").unwrap_err();
        assert!(
            failed.contains("the keys are interval, dry-run, topics"),
            "{failed}"
        );
    }

    #[test]
    fn what_is_no_toml_is_named_by_its_line() {
        let failed = parse_text("interval = \"5s\"\n\ndry-run = = true\n").unwrap_err();
        assert!(failed.starts_with("agent.toml, line 3: "), "{failed}");
        assert!(!failed.contains('\n'), "{failed}");
    }

    #[test]
    fn values_of_other_kinds_are_refused() {
        for text in [
            "interval = 1979-05-27\n",
            "interval = [[\"a\"]]\n",
            "[interval]\na = 1\n",
            "kafka = 1\n",
            "[kafka]\na.b = 1\n\"a.b\" = 2\n",
        ] {
            assert!(parse_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_nested_without_end_are_refused_and_not_followed() {
        let name = vec!["a"; 100_000].join(".");
        assert!(parse_text(&format!("[kafka]\n{name} = 1\n")).is_err());
        let deep = format!(
            "[kafka]\na = {}1{}\n",
            "{ a = ".repeat(50_000),
            " }".repeat(50_000)
        );
        assert!(parse_text(&deep).is_err());
    }

    #[test]
    fn a_file_without_end_is_not_read_to_its_end() {
        let failed = read(Path::new("/dev/zero"), &[]).unwrap_err().to_string();
        assert!(failed.contains("longer than 1048576 bytes"), "{failed}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failed = read(Path::new("/nowhere/agent.toml"), &[])
            .unwrap_err()
            .to_string();
        assert!(
            failed.contains("/nowhere/agent.toml: No such file"),
            "{failed}"
        );
    }
}
