//! Random valid messages, made by walking the same table that the guard walks.

use bytes::BufMut;
use fastrand::Rng;
use tidewatch_protocol::guard::shape::{Field, Kind, Message, Shape};

/// What kind of message is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A few elements of everything.
    Ordinary,
    /// Arrays of many elements with nothing in them: the most memory for the fewest bytes.
    Dense,
    /// The same, with a tagged field that nobody knows in each.
    DenseTagged,
}

/// A message's body, and where in it the counts and lengths are.
#[derive(Debug, Default)]
pub struct Body {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The counts of arrays and of tagged fields, and the lengths of strings and bytes.
    pub lengths: Vec<Length>,
}

/// Where a count or length is.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    /// Its first byte.
    pub at: usize,
    /// Its bytes.
    pub size: usize,
    /// A varint of its value and one (for tagged fields, of its value), not a big-endian integer.
    pub compact: bool,
}

/// A random message that is valid at `version`. `kafka-protocol` writes the same bytes for it: the
/// tagged fields that it holds differ from their defaults, and come in the order of their tags.
pub fn body(message: &'static Message, version: i16, style: Style, rng: &mut Rng) -> Body {
    let mut maker = Maker {
        out: Body::default(),
        version,
        flexible: version >= message.flexible_from,
        style,
        depth: 0,
        rng,
    };
    maker.structure(&message.body);
    maker.out
}

/// In a dense message the outermost array has this many elements.
const DENSE_ELEMENTS: usize = 3_000;
/// Tags that no schema uses.
const UNKNOWN_TAG: u32 = 10_000;
const LETTERS: [&str; 8] = ["a", "Z", "0", "-", "ä", "名", "🦀", "\0"];

struct Maker<'r> {
    out: Body,
    version: i16,
    flexible: bool,
    style: Style,
    /// How many arrays we are inside.
    depth: usize,
    rng: &'r mut Rng,
}

impl Maker<'_> {
    fn structure(&mut self, shape: &'static Shape) {
        for field in shape.fields {
            if field.tag.is_none() && field.versions.contains(self.version) {
                self.field(field);
            }
        }
        if self.flexible {
            self.tagged_fields(shape);
        }
    }

    fn field(&mut self, field: &'static Field) {
        let nullable = field.is_nullable(self.version);
        if nullable && self.rng.u8(..4) == 0 {
            self.null(&field.kind);
        } else {
            if let (Kind::Struct(_), true) = (&field.kind, nullable) {
                self.out.bytes.put_i8(1);
            }
            self.value(&field.kind);
        }
    }

    fn null(&mut self, kind: &'static Kind) {
        match kind {
            Kind::Struct(_) => self.out.bytes.put_i8(-1),
            _ if self.flexible => self.out.bytes.put_u8(0),
            Kind::String => self.out.bytes.put_i16(-1),
            _ => self.out.bytes.put_i32(-1),
        }
    }

    fn value(&mut self, kind: &'static Kind) {
        match kind {
            Kind::Fixed(size) => self.random(*size),
            Kind::Bool => self.out.bytes.put_u8(self.rng.u8(..2)),
            Kind::Uuid => {
                self.random(15);
                self.out.bytes.put_u8(1);
            }
            Kind::String => {
                let letters = if self.style == Style::Ordinary {
                    self.rng.usize(..12)
                } else {
                    0
                };
                let text: String = (0..letters).map(|_| LETTERS[self.rng.usize(..8)]).collect();
                self.length(text.len(), 2);
                self.out.bytes.extend_from_slice(text.as_bytes());
            }
            Kind::Bytes => {
                let size = if self.style == Style::Ordinary {
                    self.rng.usize(..60)
                } else {
                    0
                };
                self.length(size, 4);
                self.random(size);
            }
            Kind::Struct(shape) => self.structure(shape),
            Kind::Array(element) => self.array(element, 0),
        }
    }

    fn array(&mut self, element: &'static Kind, least: usize) {
        let count = match (self.style, self.depth) {
            (Style::Ordinary, _) => self.rng.usize(least..4),
            (_, 0) => DENSE_ELEMENTS,
            _ => least,
        };
        self.length(count, 4);
        self.depth += 1;
        for _ in 0..count {
            self.value(element);
        }
        self.depth -= 1;
    }

    fn tagged_fields(&mut self, shape: &'static Shape) {
        let mut known: Vec<_> = shape
            .fields
            .iter()
            .filter(|f| f.tag.is_some() && f.versions.contains(self.version))
            .filter(|_| self.style == Style::Ordinary && self.rng.bool())
            .collect();
        known.sort_by_key(|field| field.tag);
        let unknown = match self.style {
            Style::Ordinary if self.rng.u8(..8) == 0 => self.rng.u32(1..4),
            Style::DenseTagged => 1,
            _ => 0,
        };
        self.mark(1);
        self.varint(known.len() as u32 + unknown);
        for field in known {
            self.known_tagged_field(field);
        }
        for nth in 0..unknown {
            self.varint(
                if self.style == Style::Ordinary {
                    UNKNOWN_TAG
                } else {
                    99
                } + nth,
            );
            let size = if self.style == Style::Ordinary {
                self.rng.usize(..9)
            } else {
                0
            };
            self.varint(size as u32);
            self.random(size);
        }
    }

    /// Its size precedes it, so it is made apart.
    fn known_tagged_field(&mut self, field: &'static Field) {
        let outer = std::mem::take(&mut self.out);
        match &field.kind {
            Kind::Bool => self.out.bytes.put_u8(1),
            Kind::Array(element) => self.array(element, 1),
            kind => self.value(kind),
        }
        let inner = std::mem::replace(&mut self.out, outer);
        self.varint(field.tag.unwrap_or_default());
        self.varint(inner.bytes.len() as u32);
        let at = self.out.bytes.len();
        let moved = inner
            .lengths
            .into_iter()
            .map(|l| Length { at: at + l.at, ..l });
        self.out.lengths.extend(moved);
        self.out.bytes.extend(inner.bytes);
    }

    fn length(&mut self, length: usize, size: usize) {
        if self.flexible {
            self.mark(varint_size(length as u32 + 1));
            self.varint(length as u32 + 1);
        } else {
            self.out.lengths.push(Length {
                at: self.out.bytes.len(),
                size,
                compact: false,
            });
            self.out.bytes.put_int(length as i64, size);
        }
    }

    fn mark(&mut self, size: usize) {
        self.out.lengths.push(Length {
            at: self.out.bytes.len(),
            size,
            compact: true,
        });
    }

    fn varint(&mut self, value: u32) {
        put_varint(&mut self.out.bytes, value);
    }

    fn random(&mut self, size: usize) {
        let bytes = std::iter::repeat_with(|| self.rng.u8(..)).take(size);
        self.out.bytes.extend(bytes);
    }
}

/// Appends an unsigned varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_size(value: u32) -> usize {
    (32 - value.leading_zeros()).div_ceil(7).max(1) as usize
}
