//! The walk itself: one pass over a body, nothing allocated.

use super::shape::{Field, Kind, Shape};
use super::{Cursor, DecodeError, MAX_EXPANSION, MAX_EXPANSION_FLOOR_BYTES, Walked};

/// `BTreeMap<i32, Bytes>` holds 11 entries of 36 bytes in a leaf, with a parent in front.
const TAG_LEAF_BYTES: usize = 416;
/// What one more entry costs at worst once there is more than one leaf: nodes at least five full,
/// and inner nodes of 96 bytes more above them.
const TAG_BYTES: usize = 112;
/// A count of tagged fields is at most half of the bytes left: tag and size are a byte each.
const MIN_TAGGED_FIELD_BYTES: usize = 2;

pub(super) struct Walk<'a> {
    cursor: Cursor<'a>,
    body_bytes: usize,
    version: i16,
    flexible: bool,
    /// What the decoder will have allocated for what was walked so far.
    memory_bytes: usize,
    memory_limit_bytes: usize,
    has_nil_uuid: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(body: &'a [u8], version: i16, flexible: bool) -> Self {
        Self {
            cursor: Cursor::new(body),
            body_bytes: body.len(),
            version,
            flexible,
            memory_bytes: 0,
            memory_limit_bytes: body
                .len()
                .saturating_mul(MAX_EXPANSION)
                .saturating_add(MAX_EXPANSION_FLOOR_BYTES),
            has_nil_uuid: false,
        }
    }

    pub(super) fn message(mut self, shape: &'static Shape) -> Result<Walked, DecodeError> {
        self.structure(shape, "message")?;
        Ok(Walked {
            size_bytes: self.body_bytes - self.cursor.remaining(),
            has_nil_uuid: self.has_nil_uuid,
        })
    }

    fn structure(&mut self, shape: &'static Shape, what: &'static str) -> Result<(), DecodeError> {
        for field in shape.fields {
            if field.tag.is_none() && field.versions.contains(self.version) {
                self.field(field)?;
            }
        }
        if self.flexible {
            self.tagged_fields(shape, what)
        } else {
            Ok(())
        }
    }

    fn field(&mut self, field: &'static Field) -> Result<(), DecodeError> {
        self.value(&field.kind, field.name, field.is_nullable(self.version))
    }

    fn value(
        &mut self,
        kind: &'static Kind,
        what: &'static str,
        nullable: bool,
    ) -> Result<(), DecodeError> {
        match kind {
            Kind::Fixed(size) => self.cursor.take(*size, what).map(drop),
            Kind::Bool => self.cursor.i8(what).map(drop),
            Kind::Uuid => {
                let id = self.cursor.take(16, what)?;
                self.has_nil_uuid |= id.iter().all(|&byte| byte == 0);
                Ok(())
            }
            Kind::String => self.string(what, nullable),
            Kind::Bytes => match self.length(what, nullable)? {
                Some(length) => self.cursor.take(length, what).map(drop),
                None => Ok(()),
            },
            Kind::Struct(shape) if nullable => match self.cursor.i8(what)? {
                1 => self.structure(shape, what),
                -1 => Ok(()),
                marker => Err(malformed(what, format!("neither null nor there: {marker}"))),
            },
            Kind::Struct(shape) => self.structure(shape, what),
            Kind::Array(element) => self.array(element, what, nullable),
        }
    }

    fn string(&mut self, what: &'static str, nullable: bool) -> Result<(), DecodeError> {
        let length = if self.flexible {
            self.length(what, nullable)?
        } else {
            let length = self.cursor.i16(what)?;
            self.unless_null(length.into(), what, nullable)?
        };
        let Some(length) = length else { return Ok(()) };
        if length > i16::MAX.unsigned_abs().into() {
            return Err(malformed(what, format!("a string of {length} bytes")));
        }
        let text = self.cursor.take(length, what)?;
        match str::from_utf8(text) {
            Ok(_) => Ok(()),
            Err(error) => Err(malformed(what, error.to_string())),
        }
    }

    fn array(
        &mut self,
        element: &'static Kind,
        what: &'static str,
        nullable: bool,
    ) -> Result<(), DecodeError> {
        let Some(count) = self.length(what, nullable)? else {
            return Ok(());
        };
        let least = element.min_wire_bytes(self.version, self.flexible);
        self.fits(count, least, what)?;
        self.will_allocate(count.saturating_mul(element.memory_bytes()), what)?;
        if let Kind::Fixed(size) = element {
            return self
                .cursor
                .take(count.saturating_mul(*size), what)
                .map(drop);
        }
        for _ in 0..count {
            self.value(element, what, false)?;
        }
        Ok(())
    }

    fn tagged_fields(
        &mut self,
        shape: &'static Shape,
        what: &'static str,
    ) -> Result<(), DecodeError> {
        let count = self.cursor.unsigned_varint(what)? as usize;
        if count == 0 {
            return Ok(());
        }
        self.fits(count, MIN_TAGGED_FIELD_BYTES, what)?;
        let mut unknown = 0;
        for _ in 0..count {
            let tag = self.cursor.unsigned_varint(what)?;
            let size = self.cursor.unsigned_varint(what)? as usize;
            match shape.fields.iter().find(|field| field.tag == Some(tag)) {
                Some(field) => self.known_tagged_field(field, size)?,
                None => {
                    self.cursor.take(size, what)?;
                    unknown += 1;
                    let node = if unknown == 1 {
                        TAG_LEAF_BYTES
                    } else {
                        TAG_BYTES
                    };
                    self.will_allocate(node, what)?;
                }
            }
        }
        Ok(())
    }

    /// The decoder does not look at the size of a field that it knows, so it must be right.
    fn known_tagged_field(
        &mut self,
        field: &'static Field,
        size: usize,
    ) -> Result<(), DecodeError> {
        if !field.versions.contains(self.version) {
            let why = format!("its tag does not exist in version {}", self.version);
            return Err(malformed(field.name, why));
        }
        let before = self.cursor.remaining();
        self.field(field)?;
        let taken = before - self.cursor.remaining();
        if taken != size {
            let why = format!("it takes {taken} bytes, its tag says {size}");
            return Err(malformed(field.name, why));
        }
        Ok(())
    }

    /// Reads a length or count of 32 bits; `None` for null.
    fn length(&mut self, what: &'static str, nullable: bool) -> Result<Option<usize>, DecodeError> {
        let length = if self.flexible {
            i64::from(self.cursor.unsigned_varint(what)?) - 1
        } else {
            self.cursor.i32(what)?.into()
        };
        self.unless_null(length, what, nullable)
    }

    fn unless_null(
        &self,
        length: i64,
        what: &'static str,
        nullable: bool,
    ) -> Result<Option<usize>, DecodeError> {
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 && nullable => Ok(None),
            Err(_) if length == -1 => Err(malformed(what, "null is not allowed".to_owned())),
            Err(_) => Err(malformed(what, format!("a length of {length}"))),
        }
    }

    fn fits(&self, count: usize, least: usize, what: &'static str) -> Result<(), DecodeError> {
        let left = self.cursor.remaining();
        if count.saturating_mul(least) <= left {
            return Ok(());
        }
        Err(DecodeError::Count {
            what,
            count: i64::try_from(count).unwrap_or(i64::MAX),
            left,
        })
    }

    fn will_allocate(&mut self, size_bytes: usize, what: &'static str) -> Result<(), DecodeError> {
        self.memory_bytes = self.memory_bytes.saturating_add(size_bytes);
        if self.memory_bytes <= self.memory_limit_bytes {
            return Ok(());
        }
        let why = format!(
            "decoded, it takes over {MAX_EXPANSION} times its {} bytes",
            self.body_bytes
        );
        Err(malformed(what, why))
    }
}

fn malformed(what: &'static str, why: String) -> DecodeError {
    DecodeError::Malformed { what, why }
}
