//! Kafka's own properties, by Kafka's names, on their way to the client.

use crate::failure::UsageError;
use crate::layer::Origin;
use crate::placeholder;
use std::collections::BTreeMap;
use std::fmt;

/// The property that `-b` sets.
pub(crate) const BOOTSTRAP_SERVERS: &str = "bootstrap.servers";

/// What a name holds if its value is secret.
const SECRET_MARKS: [&str; 6] = [
    "password",
    "secret",
    "jaas",
    "token",
    "keystore.key",
    "credentials",
];

/// One property and where it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Property {
    /// As it was written.
    pub value: String,
    /// Where.
    pub origin: Origin,
}

impl fmt::Debug for Property {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the value, which may be a secret.
        write!(out, "Property from {}", self.origin)
    }
}

/// Kafka's properties that were set, by name and in order; the rest keep their defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    by_name: BTreeMap<String, Property>,
}

impl Properties {
    /// The property of that name, if it was set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.by_name
            .get(name)
            .map(|property| property.value.as_str())
    }

    /// What `bootstrap.servers` says.
    ///
    /// # Errors
    /// Where it was not set: there is no Kafka to talk to.
    pub fn bootstrap_servers(&self) -> Result<&str, UsageError> {
        self.get(BOOTSTRAP_SERVERS).filter(|servers| !servers.trim().is_empty()).ok_or_else(|| {
            UsageError::new(
                "no Kafka to talk to; give -b HOST:PORT, or bootstrap.servers in the file's [kafka] table",
            )
        })
    }

    /// Gives each property to `set`, such as the client's options, in the order of their names, with
    /// what `${file:…}` and its like stand for in their place.
    ///
    /// # Errors
    /// The first that `set` refuses, or that stands for something which cannot be read, with the
    /// place where it was written.
    pub fn apply<E: fmt::Display>(
        &self,
        mut set: impl FnMut(&str, &str) -> Result<(), E>,
    ) -> Result<(), UsageError> {
        self.by_name.iter().try_for_each(|(name, property)| {
            let refused =
                |why: &dyn fmt::Display| UsageError::new(format!("{}: {why}", property.origin));
            let value = placeholder::expand(&property.value);
            let value = value.map_err(|why| refused(&format!("{name}: {why}")))?;
            set(name, &value).map_err(|why| refused(&why))
        })
    }

    /// Each with its name, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Property)> {
        self.by_name
            .iter()
            .map(|(name, property)| (name.as_str(), property))
    }

    pub(crate) fn insert(&mut self, name: String, value: String, origin: Origin) {
        self.by_name.insert(name, Property { value, origin });
    }
}

/// Whether a property's value must not be shown.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_MARKS.iter().any(|mark| name.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(all: &[(&str, &str)]) -> Properties {
        let mut properties = Properties::default();
        for (name, value) in all {
            properties.insert((*name).into(), (*value).into(), Origin::Flag("-X"));
        }
        properties
    }

    #[test]
    fn a_refusal_says_where_the_property_was_written() {
        let set = |name: &str, _: &str| match name {
            "acks" => Ok(()),
            name => Err(format!("unknown property `{name}`")),
        };
        let failed = properties(&[("acks", "all"), ("aks", "1")])
            .apply(set)
            .unwrap_err();
        assert_eq!(failed.to_string(), "-X: unknown property `aks`");
        assert!(properties(&[("acks", "all")]).apply(set).is_ok());
    }

    #[test]
    fn without_an_address_the_remedy_is_named() {
        for missing in [properties(&[]), properties(&[(BOOTSTRAP_SERVERS, " ")])] {
            assert!(
                missing
                    .bootstrap_servers()
                    .unwrap_err()
                    .to_string()
                    .contains("-b HOST:PORT")
            );
        }
        let properties = properties(&[(BOOTSTRAP_SERVERS, "a:1")]);
        assert_eq!(properties.bootstrap_servers(), Ok("a:1"));
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "sasl.password",
            "ssl.key.password",
            "ssl.keystore.key",
            "sasl.jaas.config",
            "sasl.oauthbearer.client.credentials.client.secret",
            "SSL.KEY.PASSWORD",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["sasl.username", "ssl.keystore.location", "compression.type"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn a_debug_line_shows_no_values() {
        let shown = format!("{:?}", properties(&[("sasl.password", "hunter2")]));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
