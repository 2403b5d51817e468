//! Our tables of options beside the ConfigDefs of Kafka's own clients: no property of theirs is without a
//! place in ours, and no default differs without a reason.

use std::collections::{BTreeMap, BTreeSet};
use tidewatch_client::options::{DEVIATIONS, OURS, describe, foreign};
use tidewatch_it::kafka::{Tools, Version};
use tidewatch_it::process::Process;
use tidewatch_it::programs::PATIENCE;

/// The defaults of each property by name; one where all of Java's clients agree, `None` for none.
fn javas() -> BTreeMap<String, BTreeSet<Option<String>>> {
    let tools = Tools::new(Version::V4_3, "");
    let mut process = Process::start("Properties.java", tools.java_program("Properties.java"));
    assert!(process.wait(PATIENCE).success(), "{}", process.stderr());
    let mut properties: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for line in process.stdout().lines() {
        let [_client, name, default] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not a property: {line}");
        };
        let default = (!["null", ""].contains(&default)).then(|| default.to_owned());
        properties
            .entry(name.to_owned())
            .or_default()
            .insert(default);
    }
    properties
}

#[test]
fn every_property_of_javas_clients_has_a_place_and_every_other_default_a_reason() {
    let java = javas();
    assert!(java.len() > 120, "only {} properties", java.len());

    let supported: BTreeMap<_, _> = describe().map(|row| (row.name, row.default)).collect();
    let foreign: BTreeSet<_> = foreign().map(|option| option.name).collect();
    let ours: BTreeSet<_> = OURS.iter().map(|(name, _)| *name).collect();
    for name in java.keys() {
        let places =
            usize::from(supported.contains_key(&**name)) + usize::from(foreign.contains(&**name));
        assert_eq!(places, 1, "{name} stands in {places} tables");
    }
    let stale: Vec<_> = foreign
        .iter()
        .filter(|name| !java.contains_key(**name))
        .collect();
    assert!(stale.is_empty(), "Java's clients do not have {stale:?}");

    for (name, default) in supported {
        let Some(javas) = java.get(name) else {
            assert!(ours.contains(name), "Java's clients do not have {name}");
            continue;
        };
        assert!(!ours.contains(name), "Java's clients have {name}");
        let default = (!default.is_empty()).then(|| default.to_owned());
        let other: Vec<_> = javas.iter().filter(|java| **java != default).collect();
        let deviation = DEVIATIONS.iter().find(|deviation| deviation.name == name);
        match (&other[..], deviation) {
            ([], None) => {}
            ([other], Some(told)) => {
                assert_eq!(other.as_deref().unwrap_or_default(), told.java, "{name}");
            }
            (_, None) => panic!("{name} is {default:?} here and {other:?} there, without a reason"),
            (_, Some(_)) => panic!("{name} is {default:?} here, and there {other:?}"),
        }
    }
}
