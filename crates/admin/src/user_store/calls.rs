//! The users' store on the wire: values as text where they are text, else as base64. Values only.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tutti_base::{Kind, Problem};
use tutti_store::{Check, Entry, LeaseId, Op, Revision, Txn};

use super::key_of;

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As it is.
    #[default]
    Text,
    /// As base64 with padding (RFC 4648 §4), because it is not UTF-8.
    Base64,
}

impl Encoding {
    /// `bytes` as text where they are text, else as base64.
    pub fn write(bytes: &[u8]) -> (String, Self) {
        match std::str::from_utf8(bytes) {
            Ok(text) => (text.to_owned(), Encoding::Text),
            Err(_) => (STANDARD.encode(bytes), Encoding::Base64),
        }
    }

    /// The bytes that `value` stands for.
    pub fn read(self, value: &str) -> Result<Vec<u8>, String> {
        match self {
            Encoding::Text => Ok(value.as_bytes().to_vec()),
            Encoding::Base64 => {
                STANDARD.decode(value).map_err(|error| format!("the value is not base64: {error}"))
            }
        }
    }

    fn bytes(self, value: &str) -> Result<Bytes, Problem> {
        self.read(value).map(Bytes::from).map_err(|text| Problem::new(Kind::BadRequest, text).about("value"))
    }
}

/// A key with its value.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StoreEntry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// How the value is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// The revision that made the key.
    pub created: u64,
    /// The revision that wrote it last.
    pub modified: u64,
    /// The lease that it lives by.
    #[serde(default)]
    pub lease: Option<u64>,
}

impl StoreEntry {
    pub(super) fn of(key: &[u8], entry: &Entry) -> Self {
        let (value, encoding) = Encoding::write(&entry.value);
        Self {
            key: String::from_utf8_lossy(key).into_owned(),
            value,
            encoding,
            created: entry.created.0,
            modified: entry.modified.0,
            lease: entry.lease.map(LeaseId::token),
        }
    }
}

/// Keys with their values, at one revision.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StorePage {
    /// The state that was read; a watch after it misses nothing.
    pub revision: u64,
    /// In the order of the keys.
    pub entries: Vec<StoreEntry>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// Writes one key.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PutCall {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// How the value is written.
    pub encoding: Encoding,
    /// The lease that the key lives by.
    pub lease: Option<u64>,
    /// Only if the key was last written at this revision.
    pub if_revision: Option<u64>,
    /// Only if the key does not exist.
    pub if_absent: bool,
}

impl PutCall {
    pub(crate) fn txn(&self) -> Result<Txn, Problem> {
        let at = key_of(&self.key)?;
        let value = self.encoding.bytes(&self.value)?;
        let put = Op::Put { at: at.clone(), value, lease: self.lease.map(LeaseId) };
        let txn = Txn::of([put]);
        match (self.if_revision, self.if_absent) {
            (Some(_), true) => {
                Err(Problem::new(Kind::BadRequest, "give one of if_revision and if_absent")
                    .about("if_absent"))
            }
            (Some(revision), false) => Ok(txn.when(Check::Modified(at, Revision(revision)))),
            (None, true) => Ok(txn.when(Check::Absent(at))),
            (None, false) => Ok(txn),
        }
    }
}

/// A condition on the state before a transaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Condition {
    /// The key was last written at this revision.
    Modified {
        /// The key.
        key: String,
        /// The revision.
        revision: u64,
    },
    /// The key does not exist.
    Absent {
        /// The key.
        key: String,
    },
    /// The key exists.
    Exists {
        /// The key.
        key: String,
    },
    /// The key has this value.
    Equals {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// How the value is written.
        #[serde(default)]
        encoding: Encoding,
    },
    /// The key lives by this lease: who holds it is not fenced off.
    Held {
        /// The key.
        key: String,
        /// The lease.
        lease: u64,
    },
}

impl Condition {
    fn check(&self) -> Result<Check, Problem> {
        Ok(match self {
            Condition::Modified { key, revision } => Check::Modified(key_of(key)?, Revision(*revision)),
            Condition::Absent { key } => Check::Absent(key_of(key)?),
            Condition::Exists { key } => Check::Exists(key_of(key)?),
            Condition::Equals { key, value, encoding } => Check::Equals(key_of(key)?, encoding.bytes(value)?),
            Condition::Held { key, lease } => Check::Held(key_of(key)?, LeaseId(*lease)),
        })
    }
}

/// One change of a transaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum StoreAction {
    /// Writes a key.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// How the value is written.
        #[serde(default)]
        encoding: Encoding,
        /// The lease that the key lives by.
        #[serde(default)]
        lease: Option<u64>,
    },
    /// Removes a key; nothing happens if it is not there.
    Delete {
        /// The key.
        key: String,
    },
}

impl StoreAction {
    fn op(&self) -> Result<Op, Problem> {
        Ok(match self {
            StoreAction::Put { key, value, encoding, lease } => {
                Op::Put { at: key_of(key)?, value: encoding.bytes(value)?, lease: lease.map(LeaseId) }
            }
            StoreAction::Delete { key } => Op::delete(key_of(key)?),
        })
    }
}

/// A transaction: `then` if all of `when` hold, otherwise `otherwise`; each as a whole or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TxnCall {
    /// The conditions.
    pub when: Vec<Condition>,
    /// Done if all conditions hold.
    pub then: Vec<StoreAction>,
    /// Done if one does not.
    pub otherwise: Vec<StoreAction>,
}

impl TxnCall {
    pub(crate) fn txn(&self) -> Result<Txn, Problem> {
        let ops = |actions: &[StoreAction]| actions.iter().map(StoreAction::op).collect::<Result<_, _>>();
        let when = self.when.iter().map(Condition::check).collect::<Result<_, _>>()?;
        Ok(Txn { when, then: ops(&self.then)?, otherwise: ops(&self.otherwise)? })
    }
}

/// What became of a transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TxnAnswer {
    /// Whether all conditions held.
    pub done: bool,
    /// The revision of what was written, by either branch.
    pub revision: Option<u64>,
    /// The index of the first condition that did not hold.
    pub failed: Option<usize>,
    /// When the key of that condition was last written; none if it does not exist.
    pub found: Option<u64>,
}

/// Asks for a lease.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantCall {
    /// How long it lives after the grant and after each keep-alive, in ms.
    pub ttl_ms: u64,
}

/// A lease.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeaseAnswer {
    /// Its name, and its fencing token: a later lease has the higher one.
    pub lease: u64,
    /// How long it lives after the grant and after each keep-alive, in ms.
    pub ttl_ms: u64,
}

/// One key's change.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StoreChange {
    /// The key.
    pub key: String,
    /// By which transaction.
    pub revision: u64,
    /// Its value from then on; none if it is gone.
    pub entry: Option<StoreEntry>,
}

impl StoreChange {
    pub(super) fn of(key: &[u8], revision: Revision, entry: Option<&Entry>) -> Self {
        let entry = entry.map(|entry| StoreEntry::of(key, entry));
        Self { key: String::from_utf8_lossy(key).into_owned(), revision: revision.0, entry }
    }
}

/// Some changes, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WatchPage {
    /// Whole transactions only.
    pub changes: Vec<StoreChange>,
    /// What to watch after next.
    pub next: u64,
    /// Whether changes were missed: read again, then go on after `next`.
    pub behind: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_come_back_as_they_were() {
        for bytes in [&b"text"[..], &[0xff, 0, 0x80], b""] {
            let (value, encoding) = Encoding::write(bytes);
            assert_eq!(encoding.read(&value).unwrap(), bytes);
        }
        assert!(Encoding::Base64.read("!").is_err());
    }

    #[test]
    fn a_transaction_is_written_as_people_would() {
        let json = r#"{"when":[{"absent":{"key":"a"}},{"equals":{"key":"b","value":"1"}},{"held":{"key":"c","lease":7}}],
            "then":[{"put":{"key":"a","value":"AA==","encoding":"base64"}}],"otherwise":[{"delete":{"key":"b"}}]}"#;
        let txn = serde_json::from_str::<TxnCall>(json).unwrap().txn().unwrap();
        assert_eq!((txn.when.len(), txn.then.len(), txn.otherwise.len()), (3, 1, 1));
        assert!(matches!(&txn.then[0], Op::Put { value, .. } if value.as_ref() == [0]));
        assert!(serde_json::from_str::<TxnCall>(r#"{"than":[]}"#).is_err());
        let both = PutCall { key: "k".into(), if_revision: Some(1), if_absent: true, ..PutCall::default() };
        assert!(both.txn().unwrap_err().detail.contains("one of"));
    }
}
