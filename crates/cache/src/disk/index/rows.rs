//! The rows of the index, each sealed in the version envelope.

use serde::{Deserialize, Serialize};
use tutti_base::envelope::Versioned;

/// A name: a request's key or a source's.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct NameRow {
    /// What it leads to.
    pub(crate) target: [u8; 32],
    /// Its place in the order of eviction.
    pub(crate) place: u64,
    /// The sealed record that belongs to the name.
    pub(crate) record: Vec<u8>,
}

impl Versioned for NameRow {
    const KIND: u8 = 40;
    const VERSION: u16 = 1;
}

/// A target: a result's key or an original's hash.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct TargetRow {
    /// The hash of its bytes.
    pub(crate) blob: [u8; 32],
    /// How many names lead to it.
    pub(crate) names: u32,
    /// The sealed record that belongs to the bytes.
    pub(crate) facts: Vec<u8>,
}

impl Versioned for TargetRow {
    const KIND: u8 = 41;
    const VERSION: u16 = 1;
}

/// A blob.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct BlobRow {
    /// Its length in bytes.
    pub(crate) len: u64,
    /// How many targets have these bytes.
    pub(crate) targets: u32,
}

impl Versioned for BlobRow {
    const KIND: u8 = 42;
    const VERSION: u16 = 1;
}
