//! The version envelope: every byte stored or sent between nodes says what it is, which version, and whether it is whole.
//!
//! Layout: kind (u8), version (u16, little endian), CRC-32 of the payload (u32), payload (postcard).

use serde::{Serialize, de::DeserializeOwned};

const HEAD_LEN: usize = 7;

/// Something that is stored or sent, with its place in the list of kinds and its version.
pub trait Versioned: Serialize + DeserializeOwned {
    /// A number of its own, append-only over the whole project.
    const KIND: u8;
    /// The version that this code writes.
    const VERSION: u16;

    /// Reads a payload of an older version; each type keeps at least N-1.
    fn migrate(version: u16, _payload: &[u8]) -> Result<Self, EnvelopeError> {
        Err(EnvelopeError::Version { kind: Self::KIND, found: version, newest: Self::VERSION })
    }
}

/// Why an envelope could not be opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Too short, or the payload does not parse.
    #[error("not an envelope of kind {kind}: {reason}")]
    Malformed {
        /// The kind that was wanted.
        kind: u8,
        /// What is wrong with it.
        reason: String,
    },
    /// Of another kind.
    #[error("an envelope of kind {found} where kind {kind} was wanted")]
    Kind {
        /// The kind that was wanted.
        kind: u8,
        /// The kind that it is.
        found: u8,
    },
    /// Of a version that this code does not know.
    #[error("version {found} of kind {kind} is unknown here (this build writes {newest})")]
    Version {
        /// Its kind.
        kind: u8,
        /// Its version.
        found: u16,
        /// The newest that this build knows.
        newest: u16,
    },
    /// Damaged.
    #[error("the checksum of an envelope of kind {kind} does not match: it is damaged")]
    Damaged {
        /// Its kind.
        kind: u8,
    },
}

/// Seals `value`.
pub fn seal<T: Versioned>(value: &T) -> Vec<u8> {
    let payload = postcard::to_stdvec(value).expect("postcard writes any of our plain types to a vector");
    let mut out = Vec::with_capacity(HEAD_LEN + payload.len());
    out.push(T::KIND);
    out.extend_from_slice(&T::VERSION.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    out.extend_from_slice(&payload);
    out
}

/// Opens what [`seal`] made, of this version or of one that `T` migrates.
pub fn open<T: Versioned>(bytes: &[u8]) -> Result<T, EnvelopeError> {
    let malformed = |reason: &str| EnvelopeError::Malformed { kind: T::KIND, reason: reason.into() };
    let (head, payload) = bytes.split_at_checked(HEAD_LEN).ok_or_else(|| malformed("too short"))?;
    if head[0] != T::KIND {
        return Err(EnvelopeError::Kind { kind: T::KIND, found: head[0] });
    }
    let version = u16::from_le_bytes([head[1], head[2]]);
    if crc32fast::hash(payload) != u32::from_le_bytes([head[3], head[4], head[5], head[6]]) {
        return Err(EnvelopeError::Damaged { kind: T::KIND });
    }
    if version != T::VERSION {
        return T::migrate(version, payload);
    }
    postcard::from_bytes(payload).map_err(|error| malformed(&error.to_string()))
}

/// Parses a payload of an older version, for [`Versioned::migrate`].
pub fn payload<T: DeserializeOwned>(kind: u8, payload: &[u8]) -> Result<T, EnvelopeError> {
    let malformed = |error: postcard::Error| EnvelopeError::Malformed { kind, reason: error.to_string() };
    postcard::from_bytes(payload).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Now(u32, String);
    impl Versioned for Now {
        const KIND: u8 = 250;
        const VERSION: u16 = 2;
        fn migrate(version: u16, payload: &[u8]) -> Result<Self, EnvelopeError> {
            match version {
                1 => {
                    Ok(Now(postcard::from_bytes(payload).expect("a version 1 payload"), "was absent".into()))
                }
                found => Err(EnvelopeError::Version { kind: 250, found, newest: 2 }),
            }
        }
    }
    #[derive(Serialize, Deserialize)]
    struct Before(u32);
    impl Versioned for Before {
        const KIND: u8 = 250;
        const VERSION: u16 = 1;
    }

    #[test]
    fn the_version_before_is_read_and_the_one_after_is_refused() {
        assert_eq!(open::<Now>(&seal(&Before(7))), Ok(Now(7, "was absent".into())));
        assert!(matches!(open::<Before>(&seal(&Now(7, "x".into()))), Err(EnvelopeError::Version { .. })));
    }

    #[test]
    fn a_flipped_bit_is_damage() {
        let mut bytes = seal(&Now(1, "hello".into()));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(open::<Now>(&bytes), Err(EnvelopeError::Damaged { kind: 250 }));
    }
}
