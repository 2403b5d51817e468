//! Settings in variables: `TIDEWATCH_INTERVAL`, and `TIDEWATCH_KAFKA_…` for Kafka's properties.

use crate::failure::UsageError;
use crate::layer::{Layer, Origin, Written, nearest};
use std::collections::BTreeMap;
use std::ffi::OsString;

const PREFIX: &str = "TIDEWATCH_";
const KAFKA_PREFIX: &str = "TIDEWATCH_KAFKA_";

/// What the environment says, and what in it looks like a slip of the pen.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) layer: Layer,
    pub(crate) warnings: Vec<String>,
}

/// Reads those variables that are ours; `keys` are the command's own. A variable that no key of
/// this command has may be another's, so it is at most warned of.
pub(crate) fn parse(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    keys: &[String],
) -> Result<Environment, UsageError> {
    let known: BTreeMap<String, &String> =
        keys.iter().map(|key| (variable_name(key), key)).collect();
    let mut environment = Environment {
        layer: Layer::default(),
        warnings: Vec::new(),
    };
    // In order, so that the same environment gives the same messages.
    let ours: BTreeMap<String, OsString> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    for (name, value) in ours {
        let layer = &mut environment.layer;
        let property = name.strip_prefix(KAFKA_PREFIX).map(property_name);
        let (place, key) = match (known.get(&name), property) {
            (Some(key), _) => (&mut layer.settings, (*key).clone()),
            (None, Some(property)) => (&mut layer.properties, property),
            (None, None) => {
                environment.warnings.extend(slip(&name, keys));
                continue;
            }
        };
        let Ok(value) = value.into_string() else {
            return Err(UsageError::new(format!(
                "the variable {name} is not UTF-8; set it again"
            )));
        };
        place.insert(
            key,
            Written {
                values: vec![value],
                origin: Origin::Variable(name),
            },
        );
    }
    Ok(environment)
}

/// A warning where the variable looks like one of this command's, misspelt.
fn slip(name: &str, keys: &[String]) -> Option<String> {
    let key = name
        .strip_prefix(PREFIX)?
        .to_ascii_lowercase()
        .replace('_', "-");
    let meant = variable_name(nearest(&key, keys.iter().map(String::as_str))?);
    Some(format!(
        "the variable {name} is not known and has no effect; did you mean {meant}?"
    ))
}

/// The variable of a key: `memory-formula` is `TIDEWATCH_MEMORY_FORMULA`.
fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('-', "_"))
}

/// The property of a variable: Kafka's names have points where a variable has underscores.
fn property_name(rest: &str) -> String {
    rest.to_ascii_lowercase().replace('_', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(variables: &[(&str, &str)]) -> Environment {
        let keys = ["interval".to_owned(), "memory-formula".to_owned()];
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        parse(variables, &keys).unwrap()
    }

    #[test]
    fn a_flag_and_a_property_each_have_their_variable() {
        let read = parse_all(&[
            ("TIDEWATCH_MEMORY_FORMULA", "tutorial"),
            ("TIDEWATCH_KAFKA_COMPRESSION_TYPE", "zstd"),
            ("PATH", "/bin"),
        ]);
        assert_eq!(read.layer.settings["memory-formula"].values, ["tutorial"]);
        assert_eq!(read.layer.properties["compression.type"].values, ["zstd"]);
        assert_eq!(read.warnings, [""; 0]);
    }

    #[test]
    fn a_slip_is_warned_of_and_what_may_be_anothers_is_left_alone() {
        let read = parse_all(&[
            ("TIDEWATCH_INTERVALL", "1s"),
            ("TIDEWATCH_SERVICE_HOST", "10.0.0.7"),
        ]);
        assert_eq!(read.layer, Layer::default());
        assert_eq!(read.warnings.len(), 1, "{:?}", read.warnings);
        assert!(read.warnings[0].contains("did you mean TIDEWATCH_INTERVAL?"));
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_text_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let value = OsString::from_vec(vec![0xff]);
        let failed =
            parse([("TIDEWATCH_INTERVAL".into(), value)], &["interval".into()]).unwrap_err();
        assert!(
            failed
                .to_string()
                .contains("TIDEWATCH_INTERVAL is not UTF-8")
        );
    }
}
