//! What the table says of a message: its fields, in which versions each is there, and how large
//! the decoded struct is. [`MESSAGES`] is generated from Kafka's own schemas.

use super::{Direction, table};
use crate::api::Versions;
use crate::messages::ApiKey;

/// One request or response of one API.
#[derive(Debug)]
pub struct Message {
    /// The API.
    pub api: ApiKey,
    /// Request or response.
    pub direction: Direction,
    /// The versions that the table covers: those that our client or our broker speaks.
    pub versions: Versions,
    /// The first version with compact lengths and tagged fields (KIP-482); `i16::MAX` for none.
    pub flexible_from: i16,
    /// The body.
    pub body: Shape,
}

/// A struct of a message, or its body.
#[derive(Debug)]
pub struct Shape {
    /// At most so many bytes does the struct of `kafka-protocol` take in memory, without what it
    /// points to.
    pub memory_bytes: usize,
    /// In the order of the wire; tagged ones anywhere among them.
    pub fields: &'static [Field],
}

/// One field of a struct.
#[derive(Debug)]
pub struct Field {
    /// The path to it, `FetchResponse.Responses.Partitions.Records`.
    pub name: &'static str,
    /// Where it is there at all.
    pub versions: Versions,
    /// Where it may be null.
    pub nullable: Option<Versions>,
    /// Where it is a tagged field, its tag.
    pub tag: Option<u32>,
    /// What it holds.
    pub kind: Kind,
}

/// What a field or an array's element holds.
#[derive(Debug)]
pub enum Kind {
    /// A number of so many bytes.
    Fixed(usize),
    /// One byte, zero or not.
    Bool,
    /// 16 bytes.
    Uuid,
    /// UTF-8 of at most 32,767 bytes, as Kafka reads it.
    String,
    /// Bytes or a record set.
    Bytes,
    /// Another struct, in place.
    Struct(&'static Shape),
    /// A count, then as many elements.
    Array(&'static Kind),
}

impl Kind {
    /// The bytes of one of these in the memory of the struct or array that holds it. A string is a
    /// `Bytes` of four words, an array a `Vec` of three.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Kind::Fixed(size) => *size,
            Kind::Bool => 1,
            Kind::Uuid => 16,
            Kind::String | Kind::Bytes => 4 * size_of::<usize>(),
            Kind::Array(_) => 3 * size_of::<usize>(),
            Kind::Struct(shape) => shape.memory_bytes,
        }
    }

    /// The fewest bytes that one of these takes on the wire.
    pub(super) fn min_wire_bytes(&self, version: i16, flexible: bool) -> usize {
        match self {
            Kind::Fixed(size) => *size,
            Kind::Bool => 1,
            Kind::Uuid => 16,
            Kind::String | Kind::Bytes | Kind::Array(_) if flexible => 1,
            Kind::String => 2,
            Kind::Bytes | Kind::Array(_) => 4,
            Kind::Struct(shape) => {
                let fields = shape.fields.iter();
                let fields = fields.filter(|f| f.tag.is_none() && f.versions.contains(version));
                let sizes = fields.map(|f| match f.kind {
                    Kind::Struct(_) if f.is_nullable(version) => 1,
                    ref kind => kind.min_wire_bytes(version, flexible),
                });
                sizes.sum::<usize>() + usize::from(flexible)
            }
        }
    }
}

impl Field {
    /// Whether it may be null at `version`.
    pub fn is_nullable(&self, version: i16) -> bool {
        self.nullable
            .is_some_and(|versions| versions.contains(version))
    }
}

/// Every message that we decode, by key, requests before responses.
pub static MESSAGES: &[Message] = table::MESSAGES;

/// The shape of a message; `None` where we do not speak the API.
pub fn find(api: ApiKey, direction: Direction) -> Option<&'static Message> {
    let place = |message: &Message| (message.api as i16, message.direction as u8);
    let found = MESSAGES
        .binary_search_by_key(&(api as i16, direction as u8), place)
        .ok()?;
    MESSAGES.get(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{broker_versions, client_versions};
    use crate::guard::MAX_EXPANSION;

    fn arrays_of(shape: &'static Shape, found: &mut Vec<(&'static Field, &'static Kind)>) {
        for field in shape.fields {
            match field.kind {
                Kind::Array(element) => {
                    found.push((field, element));
                    if let Kind::Struct(inner) = element {
                        arrays_of(inner, found);
                    }
                }
                Kind::Struct(inner) => arrays_of(inner, found),
                _ => {}
            }
        }
    }

    #[test]
    fn the_table_has_every_version_that_client_and_broker_speak() {
        for api in ApiKey::iter() {
            for direction in [Direction::Request, Direction::Response] {
                let ours = client_versions(api).into_iter().chain(broker_versions(api));
                for spoken in ours {
                    let message = find(api, direction).unwrap();
                    assert!(message.versions.contains(spoken.min), "{api:?} {spoken}");
                    assert!(message.versions.contains(spoken.max), "{api:?} {spoken}");
                }
            }
        }
    }

    #[test]
    fn every_element_of_an_array_has_bytes_enough_for_the_memory_that_it_takes() {
        for message in MESSAGES {
            let mut arrays = Vec::new();
            arrays_of(&message.body, &mut arrays);
            for version in message.versions.min..=message.versions.max {
                let there = |(field, _): &&(&Field, _)| field.versions.contains(version);
                for (field, element) in arrays.iter().filter(there) {
                    let wire = element.min_wire_bytes(version, version >= message.flexible_from);
                    let memory = element.memory_bytes();
                    assert!(memory <= MAX_EXPANSION * wire, "{}: {memory}", field.name);
                }
            }
        }
    }
}
