//! Transactions as values: conditions, then operations. Checks their limits, applies nothing.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::store::{LeaseId, Revision, StoreError};

/// The longest name of a table, in bytes.
pub const TABLE_NAME_MAX: usize = 64;
/// The longest key, in bytes.
pub const KEY_MAX: usize = 512;
/// The longest value, in bytes.
pub const VALUE_MAX: usize = 1 << 20;
/// The most conditions and operations of one transaction together.
pub const TXN_OPS_MAX: usize = 128;
/// The most bytes of one transaction: its keys and values together.
pub const TXN_BYTES_MAX: usize = 4 << 20;

/// How shared bytes are written.
mod as_bytes {
    use std::fmt;

    use bytes::Bytes;
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        from.deserialize_byte_buf(Raw)
    }

    struct Raw;

    impl<'de> Visitor<'de> for Raw {
        type Value = Bytes;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }
        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
            Ok(Bytes::copy_from_slice(bytes))
        }
        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
            Ok(bytes.into())
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = seq.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes.into())
        }
    }
}

/// Where a value lives: a table and a key in it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The table: 1 to [`TABLE_NAME_MAX`] of `a-z`, `0-9`, `_` and `-`. Tables need not be made first.
    pub table: String,
    /// The key: 1 to [`KEY_MAX`] bytes, ordered bytewise.
    pub key: Vec<u8>,
}

impl Key {
    /// The key `key` in `table`.
    pub fn new(table: &str, key: impl AsRef<[u8]>) -> Self {
        Self { table: table.into(), key: key.as_ref().into() }
    }

    fn check(&self) -> Result<(), StoreError> {
        check_table(&self.table)?;
        if self.key.is_empty() {
            return Err(StoreError::Invalid(format!("an empty key in table `{}`", self.table)));
        }
        StoreError::within("key", self.key.len(), KEY_MAX)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.table, self.key.escape_ascii())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// Whether `table` may name a table.
pub(crate) fn check_table(table: &str) -> Result<(), StoreError> {
    StoreError::within("table name", table.len(), TABLE_NAME_MAX)?;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    if table.is_empty() || !table.bytes().all(fits) {
        return Err(StoreError::Invalid(format!(
            "`{table}` cannot name a table; use lower-case letters, digits, `_` and `-`"
        )));
    }
    Ok(())
}

/// A condition on the state before the transaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Check {
    /// The key exists and was last written at this revision.
    Modified(Key, Revision),
    /// The key does not exist.
    Absent(Key),
    /// The key exists.
    Exists(Key),
    /// The key exists and has this value.
    Equals(Key, #[serde(with = "as_bytes")] Bytes),
    /// The key exists and is attached to this lease. A holder that writes under this condition is fenced: once its
    /// lease is gone, nothing of it is applied any more.
    Held(Key, LeaseId),
}

impl Check {
    /// The key that it is about.
    pub fn key(&self) -> &Key {
        match self {
            Check::Modified(key, _) | Check::Absent(key) | Check::Exists(key) => key,
            Check::Equals(key, _) | Check::Held(key, _) => key,
        }
    }
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Op {
    /// Writes a value; with a lease, the key vanishes when the lease does.
    Put {
        /// Where.
        at: Key,
        /// What.
        #[serde(with = "as_bytes")]
        value: Bytes,
        /// The lease that it lives by; it must be alive.
        lease: Option<LeaseId>,
    },
    /// Removes a key; nothing happens if it is not there.
    Delete {
        /// Which.
        at: Key,
    },
}

impl Op {
    /// Writes `value` without a lease.
    pub fn put(at: Key, value: impl Into<Bytes>) -> Self {
        Op::Put { at, value: value.into(), lease: None }
    }
    /// Removes `at`.
    pub fn delete(at: Key) -> Self {
        Op::Delete { at }
    }
    /// The key that it changes.
    pub fn key(&self) -> &Key {
        match self {
            Op::Put { at, .. } | Op::Delete { at } => at,
        }
    }
}

/// If all of `when` hold, `then` is applied, otherwise `otherwise`; each as a whole or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Txn {
    /// The conditions.
    pub when: Vec<Check>,
    /// Applied if all conditions hold. No key may stand twice.
    pub then: Vec<Op>,
    /// Applied if one does not. No key may stand twice.
    pub otherwise: Vec<Op>,
}

impl Txn {
    /// An unconditional change.
    pub fn of(ops: impl IntoIterator<Item = Op>) -> Self {
        Self { then: ops.into_iter().collect(), ..Self::default() }
    }
    /// Adds a condition.
    pub fn when(mut self, check: Check) -> Self {
        self.when.push(check);
        self
    }
    /// Adds an operation for the case that a condition fails.
    pub fn otherwise(mut self, op: Op) -> Self {
        self.otherwise.push(op);
        self
    }

    /// Whether it keeps all limits of this file. Every implementation refuses what this refuses.
    pub fn validate(&self) -> Result<(), StoreError> {
        let ops = self.when.len() + self.then.len() + self.otherwise.len();
        StoreError::within("number of conditions and operations", ops, TXN_OPS_MAX)?;
        let mut bytes = 0;
        for check in &self.when {
            check.key().check()?;
            if let Check::Equals(_, value) = check {
                StoreError::within("value", value.len(), VALUE_MAX)?;
                bytes += value.len();
            }
        }
        for op in self.then.iter().chain(&self.otherwise) {
            op.key().check()?;
            if let Op::Put { value, .. } = op {
                StoreError::within("value", value.len(), VALUE_MAX)?;
                bytes += value.len();
            }
            bytes += op.key().key.len();
        }
        StoreError::within("transaction", bytes, TXN_BYTES_MAX)?;
        no_key_twice(&self.then)?;
        no_key_twice(&self.otherwise)
    }
}

fn no_key_twice(ops: &[Op]) -> Result<(), StoreError> {
    let mut seen = HashSet::new();
    match ops.iter().find(|op| !seen.insert(op.key())) {
        Some(op) => Err(StoreError::Invalid(format!("{} is changed twice in one transaction", op.key()))),
        None => Ok(()),
    }
}

/// What became of a transaction. Either way it is on stable storage.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Commit {
    /// All conditions held; the operations carry this revision.
    Done(Revision),
    /// A condition failed.
    Failed {
        /// The index in [`Txn::when`] of the first that failed.
        check: usize,
        /// When its key was last written; none if it does not exist.
        found: Option<Revision>,
        /// The revision of the other operations; none if there were none.
        otherwise: Option<Revision>,
    },
}

impl Commit {
    /// The revision, if all conditions held.
    pub fn done(&self) -> Option<Revision> {
        match self {
            Commit::Done(revision) => Some(*revision),
            Commit::Failed { .. } => None,
        }
    }
}
