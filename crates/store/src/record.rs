//! What stands on the disk, and under which names. Every value is in a version envelope with its checksum.

use redb::TableDefinition;
use serde::{Deserialize, Serialize};
use tutti_base::envelope::{self, Versioned};

use crate::store::{Entry, LeaseId, Revision, StoreError};
use crate::txn::Key;

/// Values: table name, a zero byte, key -> [`Stored`].
pub(crate) const VALUES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("values");
/// Leases: id -> [`StoredLease`].
pub(crate) const LEASES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("leases");
/// Which keys live by which lease: id and name in [`VALUES`].
pub(crate) const HELD: TableDefinition<'static, (u64, &[u8]), ()> = TableDefinition::new("held");
/// Numbers: [`FORMAT`] and [`REVISION`].
pub(crate) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// The version of the layout of these tables.
pub(crate) const FORMAT: &str = "format";
/// The layout that this code reads and writes.
pub(crate) const FORMAT_VERSION: u64 = 1;
/// The newest revision.
pub(crate) const REVISION: &str = "revision";

/// A value.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) created: u64,
    pub(crate) modified: u64,
    pub(crate) lease: Option<u64>,
    pub(crate) value: Vec<u8>,
}

impl Versioned for Stored {
    const KIND: u8 = 20;
    const VERSION: u16 = 1;
}

impl Stored {
    /// Opens what stands under `at`.
    pub(crate) fn read(at: &Key, bytes: &[u8]) -> Result<Self, StoreError> {
        envelope::open(bytes)
            .map_err(|error| StoreError::Damaged { at: at.clone(), reason: error.to_string() })
    }

    pub(crate) fn into_entry(self) -> Entry {
        Entry {
            value: self.value.into(),
            created: Revision(self.created),
            modified: Revision(self.modified),
            lease: self.lease.map(LeaseId),
        }
    }
}

/// A lease: its time starts anew when the store is opened, because the clock that it ran by is gone.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct StoredLease {
    pub(crate) ttl_ms: u64,
}

impl Versioned for StoredLease {
    const KIND: u8 = 21;
    const VERSION: u16 = 1;
}

/// The name of `key` of `table` in [`VALUES`].
pub(crate) fn full_name(table: &str, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(table.len() + 1 + key.len());
    full.extend_from_slice(table.as_bytes());
    full.push(0);
    full.extend_from_slice(key);
    full
}

/// The reverse of [`full_name`].
pub(crate) fn split_name(full: &[u8]) -> Option<Key> {
    let zero = full.iter().position(|byte| *byte == 0)?;
    let table = std::str::from_utf8(&full[..zero]).ok()?;
    Some(Key::new(table, &full[zero + 1..]))
}
