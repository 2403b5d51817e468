//! A record's key as the name of a host.

use thiserror::Error;

/// The longest host name taken, in bytes: DNS allows 253, Linux 64. A bound, because every host
/// costs the aggregator its name in state.
pub const HOST_MAX_BYTES: usize = 255;

/// Why a key names no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HostError {
    /// The key is null.
    #[error("the record has no key, so it belongs to no host")]
    Missing,
    /// The key is there, and empty.
    #[error("the key is empty, so it names no host")]
    Empty,
    /// The key is longer than [`HOST_MAX_BYTES`].
    #[error("the key takes {size_bytes} bytes; a host name takes at most {HOST_MAX_BYTES}")]
    TooLong {
        /// The key's length.
        size_bytes: usize,
    },
    /// The key is not text.
    #[error("the key is not UTF-8 from byte {valid_up_to} on")]
    NotUtf8 {
        /// How many of its first bytes are UTF-8.
        valid_up_to: usize,
    },
}

/// Reads a record's key as a host name.
pub fn parse_host(key: Option<&[u8]>) -> Result<&str, HostError> {
    let key = key.ok_or(HostError::Missing)?;
    if key.is_empty() {
        return Err(HostError::Empty);
    }
    if key.len() > HOST_MAX_BYTES {
        return Err(HostError::TooLong {
            size_bytes: key.len(),
        });
    }
    std::str::from_utf8(key).map_err(|why| HostError::NotUtf8 {
        valid_up_to: why.valid_up_to(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_keys_are_told_apart() {
        assert_eq!(parse_host(None), Err(HostError::Missing));
        assert_eq!(parse_host(Some(b"")), Err(HostError::Empty));
    }

    #[test]
    fn the_longest_name_is_taken_and_one_byte_more_is_not() {
        let longest = vec![b'a'; HOST_MAX_BYTES];
        assert_eq!(parse_host(Some(&longest)).map(str::len), Ok(HOST_MAX_BYTES));
        let longer = vec![b'a'; HOST_MAX_BYTES + 1];
        assert_eq!(
            parse_host(Some(&longer)),
            Err(HostError::TooLong { size_bytes: 256 })
        );
    }

    #[test]
    fn any_utf8_is_a_name_and_nothing_else_is() {
        assert_eq!(parse_host(Some("räumlich-7".as_bytes())), Ok("räumlich-7"));
        assert_eq!(
            parse_host(Some(b"ab\xff")),
            Err(HostError::NotUtf8 { valid_up_to: 2 })
        );
    }
}
