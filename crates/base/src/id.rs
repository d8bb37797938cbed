//! Identifiers as types, so that one cannot be passed where another is meant.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident, $context:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Hashes `parts` under this type's own domain; each part is length-prefixed, so no two lists collide.
            pub fn of(parts: &[&[u8]]) -> Self {
                let mut hasher = blake3::Hasher::new_derive_key($context);
                for part in parts {
                    hasher.update(&(part.len() as u64).to_le_bytes());
                    hasher.update(part);
                }
                Self(*hasher.finalize().as_bytes())
            }
        }
        hash_bytes!($name);
    };
}

macro_rules! hash_bytes {
    ($name:ident) => {
        impl $name {
            /// Takes 32 bytes that are known to be such an id (read back from disk or from the wire).
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
            /// Lower-case hexadecimal, 64 characters.
            pub fn hex(&self) -> String {
                blake3::Hash::from_bytes(self.0).to_hex().to_string()
            }
            /// The first eight bytes as a number, for sharding and for ranking owners.
            pub fn prefix(&self) -> u64 {
                let [a, b, c, d, e, f, g, h, ..] = self.0;
                u64::from_le_bytes([a, b, c, d, e, f, g, h])
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.hex()[..12])
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.hex())
            }
        }
    };
}

hash_id!(
    /// Names a request without I/O: tenant, canonical plan, source identity and format class.
    RequestKey, "tutti 2026 request key v1"
);
hash_id!(
    /// Names the bytes of a result: tenant, refined plan, content hash of the originals, engine epoch.
    ResultKey, "tutti 2026 result key v1"
);
hash_id!(
    /// Names an original: tenant and canonical source.
    SourceKey, "tutti 2026 source key v1"
);

/// The BLAKE3 hash of a body's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContentHash([u8; 32]);
hash_bytes!(ContentHash);

impl ContentHash {
    /// Hashes a whole body. For a stream, use a [`ContentHasher`].
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// Builds a [`ContentHash`] piece by piece.
#[derive(Default)]
pub struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// Adds the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    /// The hash of all pieces so far.
    pub fn finish(&self) -> ContentHash {
        ContentHash(*self.0.finalize().as_bytes())
    }
}

/// Whose keys, sources, presets, limits, quotas, purges and counters a request counts under.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The tenant of everything that names none.
    pub const MAIN: &'static str = "main";

    /// A tenant of this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self::new(Self::MAIN)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_length_prefixed_and_domains_are_apart() {
        assert_ne!(RequestKey::of(&[b"ab", b"c"]), RequestKey::of(&[b"a", b"bc"]));
        assert_ne!(RequestKey::of(&[b"a"]).as_bytes(), ResultKey::of(&[b"a"]).as_bytes());
    }

    #[test]
    fn a_streamed_hash_equals_the_whole() {
        let mut hasher = ContentHasher::default();
        hasher.update(b"one ");
        hasher.update(b"two");
        assert_eq!(hasher.finish(), ContentHash::of(b"one two"));
    }
}
