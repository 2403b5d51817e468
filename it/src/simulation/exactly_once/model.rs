//! The reference: what must stand in the output, by what stands committed in the input. Both are taken
//! from the brokers' logs, so that no client's reading can hide what it did.

use super::{KEYS, OUTPUT};
use crate::simulation::check::Violation;
use crate::simulation::records::{committed, name_of};
use crate::simulation::trial::{TOPIC, Trial};
use std::collections::BTreeMap;
use tidewatch_protocol::records::Record;

/// Where an input stands.
type Place = (i32, i64);

/// Where an output goes, and what it is.
pub(super) fn transform(
    trial: &Trial,
    partition: i32,
    record: &Record,
) -> Result<(i32, String, String), Violation> {
    let number = name_of(record)?.number;
    let key = number % KEYS;
    let to = i32::try_from(key).unwrap_or(0) % i32::from(trial.plan.partitions);
    let value = record.value.as_deref().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    let (offset, key) = (record.offset, format!("k{key}"));
    Ok((to, key, format!("{partition}/{offset}={value}")))
}

/// The offset after the last committed input of each partition; `None` while a transaction is open.
pub(super) fn ends_of_input(trial: &Trial) -> Option<Vec<i64>> {
    let end = |partition| {
        trial.settled_end(TOPIC, partition)?;
        let inputs = committed(&trial.stage.cluster, TOPIC, partition).ok()?;
        Some(inputs.last().map_or(0, |last| last.offset + 1))
    };
    trial.partitions().map(end).collect()
}

/// Each input once in the output, as it should be, in order for each input partition and key; and
/// nothing else. How many there are.
pub(super) fn check(trial: &Trial) -> Result<u64, Violation> {
    let mut inputs = BTreeMap::new();
    for partition in trial.partitions() {
        for record in committed(&trial.stage.cluster, TOPIC, partition)? {
            let wanted = transform(trial, partition, &record)?;
            inputs.insert((partition, record.offset), wanted);
        }
    }
    let wanted = u64::from(trial.plan.records);
    if (inputs.len() as u64) < wanted {
        let of = inputs.len();
        return Err(Violation(format!("{of} inputs, not {wanted}")));
    }
    let mut found: BTreeMap<Place, i64> = BTreeMap::new();
    for to in trial.partitions() {
        let mut last: BTreeMap<(i32, String), i64> = BTreeMap::new();
        for output in committed(&trial.stage.cluster, OUTPUT, to)? {
            let offset = output.offset;
            let broken = |what: String| Err(Violation(format!("output {to} at {offset}: {what}")));
            let Some(place) = place_of(&output) else {
                return broken(format!("{:?} is of no input", output.value));
            };
            let Some((partition, key, value)) = inputs.get(&place) else {
                return broken(format!("its input {place:?} was not committed"));
            };
            let is_it = *partition == to
                && output.key.as_deref() == Some(key.as_bytes())
                && output.value.as_deref() == Some(value.as_bytes());
            if !is_it {
                return broken(format!("not what input {place:?} makes"));
            }
            if let Some(first) = found.insert(place, offset) {
                return broken(format!(
                    "input {place:?} again, which is at {first} already"
                ));
            }
            let before = last.insert((place.0, key.clone()), place.1);
            if before.is_some_and(|before| before >= place.1) {
                return broken(format!("input {place:?} after {before:?}, key {key}"));
            }
        }
    }
    match inputs.keys().find(|place| !found.contains_key(place)) {
        Some(place) => Err(Violation(format!("input {place:?} is not in the output"))),
        None => Ok(inputs.len() as u64),
    }
}

fn place_of(output: &Record) -> Option<Place> {
    let text = std::str::from_utf8(output.value.as_deref()?).ok()?;
    let (place, _) = text.split_once('=')?;
    let (partition, offset) = place.split_once('/')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}
