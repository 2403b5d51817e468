//! One place where settings are written: the environment, or a file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag(&'static str),
    /// In this variable.
    Variable(String),
    /// In this file.
    File(PathBuf),
    /// Nowhere: the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => out.write_str(flag),
            Self::Variable(name) => out.write_str(name),
            Self::File(path) => write!(out, "{}", path.display()),
            Self::Default => out.write_str("default"),
        }
    }
}

/// A key's values and where they stand; only a list has other than one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) values: Vec<String>,
    pub(crate) origin: Origin,
}

/// The settings of one place, or of several where the stronger has been laid over the weaker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layer {
    /// The command's own, by the flag's name without dashes.
    pub(crate) settings: BTreeMap<String, Written>,
    /// Kafka's, by Kafka's name.
    pub(crate) properties: BTreeMap<String, Written>,
}

impl Layer {
    /// This layer where it says something, and `weaker` elsewhere.
    pub(crate) fn over(self, mut weaker: Self) -> Self {
        weaker.settings.extend(self.settings);
        weaker.properties.extend(self.properties);
        weaker
    }
}

/// The known name nearest to `name`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const NEAR_ENOUGH: f64 = 0.8;
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness >= NEAR_ENOUGH)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(origin: &Origin, settings: &[(&str, &str)]) -> Layer {
        let written = |value: &str| Written {
            values: vec![value.into()],
            origin: origin.clone(),
        };
        let settings = settings
            .iter()
            .map(|(key, value)| ((*key).into(), written(value)))
            .collect();
        Layer {
            settings,
            ..Layer::default()
        }
    }

    #[test]
    fn the_stronger_layer_wins_key_by_key() {
        let file = Origin::File("agent.toml".into());
        let variable = Origin::Variable("TIDEWATCH_INTERVAL".into());
        let weaker = layer(&file, &[("interval", "5s"), ("procfs", "/host/proc")]);
        let merged = layer(&variable, &[("interval", "1s")]).over(weaker);
        assert_eq!(merged.settings["interval"].values, ["1s"]);
        assert_eq!(merged.settings["interval"].origin, variable);
        assert_eq!(merged.settings["procfs"].origin, file);
    }

    #[test]
    fn the_nearest_name_is_offered_only_where_it_is_near() {
        let known = ["interval", "procfs", "memory-formula"];
        assert_eq!(nearest("intervall", known), Some("interval"));
        assert_eq!(nearest("memory_formula", known), Some("memory-formula"));
        assert_eq!(nearest("colour", known), None);
    }
}
