//! What the log says and what applying it answers. Pure data.

use std::io::Cursor;

use openraft::EmptyNode;
use serde::{Deserialize, Serialize};
use tutti_base::envelope::Versioned;

use super::runtime::Runtime;
use crate::store::{LEASES_MAX, LeaseId, StoreError};
use crate::txn::{Check, Key, Op, Txn};
use crate::work::{Command, Reply};

openraft::declare_raft_types!(
    /// Openraft's types, as this store uses them. A node's id is the number of its `NodeId`.
    pub(crate) Types:
        D = Batch,
        R = Outcomes,
        NodeId = u64,
        Node = EmptyNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
        Responder = openraft::impls::OneshotResponder<Types>,
        AsyncRuntime = Runtime,
);

pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type Membership = openraft::Membership<u64, EmptyNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, EmptyNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, EmptyNode>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type Raft = openraft::Raft<Types>;

/// One entry of the log: what was waiting when it was proposed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// Leases whose time was over at the leader. They end before the writes.
    pub(crate) expired: Vec<LeaseId>,
    /// In order.
    pub(crate) writes: Vec<Write>,
    /// Begins an epoch: its number, and the last entry of the log that it took over.
    pub(crate) epoch: Option<(u64, u64)>,
}

/// A write with the name that makes it safe to send twice.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Write {
    pub(crate) from: Origin,
    pub(crate) command: Command,
}

/// Which write of which run of which node. Runs and sequences only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) node: u64,
    pub(crate) run: u64,
    pub(crate) sequence: u64,
}

/// What became of a write.
pub(crate) type Outcome = Result<Reply, Refused>;

/// What became of a batch, write by write.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcomes(pub(crate) Vec<Outcome>);

/// Why a write was not applied; the same on every node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Refused {
    NoLease(LeaseId),
    TooManyLeases(usize),
    /// It is too old for the list of outcomes: whether it was applied is not known any more.
    Forgotten,
    Invalid(String),
    /// Only where there is one copy.
    Damaged(Key, String),
}

impl Refused {
    /// Why `error` refuses a write, where it does so on every node; otherwise the error.
    pub(crate) fn of(error: StoreError) -> Result<Self, StoreError> {
        match error {
            StoreError::NoLease(lease) => Ok(Refused::NoLease(lease)),
            StoreError::TooLong { len, .. } => Ok(Refused::TooManyLeases(len)),
            StoreError::Invalid(text) => Ok(Refused::Invalid(text)),
            other => Err(other),
        }
    }
}

impl From<Refused> for StoreError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoLease(lease) => StoreError::NoLease(lease),
            Refused::TooManyLeases(len) => {
                StoreError::TooLong { what: "number of leases", len, limit: LEASES_MAX }
            }
            Refused::Forgotten => StoreError::Unknown,
            Refused::Invalid(text) => StoreError::Invalid(text),
            Refused::Damaged(at, reason) => StoreError::Damaged { at, reason },
        }
    }
}

impl Write {
    /// About how many bytes it has.
    pub(crate) fn size(&self) -> usize {
        match &self.command {
            Command::Commit(txn) => size(txn),
            Command::Grant(_) | Command::Revoke(_) => 32,
        }
    }
}

fn size(txn: &Txn) -> usize {
    let check = |check: &Check| match check {
        Check::Equals(key, value) => key.key.len() + value.len() + 64,
        other => other.key().key.len() + 64,
    };
    let op = |op: &Op| match op {
        Op::Put { at, value, .. } => at.key.len() + value.len() + 64,
        Op::Delete { at } => at.key.len() + 64,
    };
    let ops = txn.then.iter().chain(&txn.otherwise).map(op).sum::<usize>();
    txn.when.iter().map(check).sum::<usize>() + ops
}

/// About how many bytes `entry` has.
pub(crate) fn entry_size(entry: &Entry) -> usize {
    let writes = match &entry.payload {
        openraft::EntryPayload::Normal(batch) => batch.writes.iter().map(Write::size).sum(),
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => 0,
    };
    writes + 64
}

/// An entry of the log as it is stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct LogRecord(pub(crate) Entry);
impl Versioned for LogRecord {
    const KIND: u8 = 24;
    const VERSION: u16 = 1;
}

/// A position of the log as it is stored: what was purged, or committed.
#[derive(Serialize, Deserialize)]
pub(crate) struct PlaceRecord(pub(crate) Option<LogId>);
impl Versioned for PlaceRecord {
    const KIND: u8 = 25;
    const VERSION: u16 = 1;
}

/// The vote as it is stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct VoteRecord(pub(crate) Vote);
impl Versioned for VoteRecord {
    const KIND: u8 = 26;
    const VERSION: u16 = 1;
}

/// How far the state is, as it is stored: in one transaction with the state itself.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct AppliedRecord {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
}
impl Versioned for AppliedRecord {
    const KIND: u8 = 27;
    const VERSION: u16 = 1;
}

/// What became of a write, as it is stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct OutcomeRecord(pub(crate) Outcome);
impl Versioned for OutcomeRecord {
    const KIND: u8 = 28;
    const VERSION: u16 = 1;
}
