//! The seam of small, strong state: what one node on redb, a Raft group and an external store have in common.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tutti_base::{BoxFuture, Kind, NodeId, Problem};

use crate::txn::{Commit, Key, Txn};

/// The shortest lease.
pub const LEASE_TTL_MIN: Duration = Duration::from_millis(100);
/// The longest lease.
pub const LEASE_TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// The most leases alive at once.
pub const LEASES_MAX: usize = 4096;
/// The most entries of one page of a range.
pub const PAGE_ENTRIES_MAX: usize = 1000;
/// The most bytes of values in one page of a range; a single larger value still fits.
pub const PAGE_BYTES_MAX: usize = 8 << 20;

/// A moment in the store's history: grows by one with every transaction that changes something, lasts over restarts,
/// and is the same on every node. 0 is the empty store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names a lease, and is its fencing token: the revision of its grant, so that a later lease is always the higher.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

impl LeaseId {
    /// The fencing token. Who guards a thing outside the store refuses every token lower than the highest it has seen.
    pub fn token(self) -> u64 {
        self.0
    }
}

/// A granted lease. Its time runs at the store from when the grant was acknowledged; a holder counts from before it
/// asked, and stops well before the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// Its name and fencing token.
    pub id: LeaseId,
    /// How long it lives after the grant and after each keep-alive.
    pub ttl: Duration,
}

/// A value with its history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// When the key came to be, last.
    pub created: Revision,
    /// When it was last written.
    pub modified: Revision,
    /// The lease that it lives by.
    pub lease: Option<LeaseId>,
}

/// What to read of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    /// The table.
    pub table: String,
    /// Only keys that begin with this.
    pub prefix: Vec<u8>,
    /// Only keys after this one: the last key of the page before.
    pub after: Option<Vec<u8>>,
    /// At most this many entries; [`PAGE_ENTRIES_MAX`] holds besides.
    pub limit: usize,
}

impl Scan {
    /// All keys of `table` that begin with `prefix`, as many as a page holds.
    pub fn prefix(table: &str, prefix: impl AsRef<[u8]>) -> Self {
        Self { table: table.into(), prefix: prefix.as_ref().into(), after: None, limit: PAGE_ENTRIES_MAX }
    }
}

/// A part of a table as it was at one revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The state that was read. A watch after this revision misses nothing.
    pub revision: Revision,
    /// In the order of the keys.
    pub entries: Vec<(Vec<u8>, Entry)>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// One key's change, as a watch sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which key.
    pub at: Key,
    /// By which transaction.
    pub revision: Revision,
    /// Its value from then on; none if it is gone.
    pub entry: Option<Entry>,
}

/// Why a watch has no next change.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WatchError {
    /// Changes were missed. Read the range again, then go on: the watch continues after `resumed_after`. Changes that
    /// the reading already showed may come again; their revision tells.
    #[error("the watch fell behind; read again and go on after revision {resumed_after}")]
    Behind {
        /// What follows is complete from here on.
        resumed_after: Revision,
    },
    /// The store was closed.
    #[error("the store was closed")]
    Closed,
}

/// A stream of changes in the order in which they happened. It never holds up a writer: one that reads too slowly falls
/// behind and is told so.
pub trait Watch: Send {
    /// The next change. Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, Result<Change, WatchError>>;
}

/// Replicated tables with conditional transactions, watches and leases.
///
/// Reads are local and need no quorum; on a node that is cut off they show the past. Writes are acknowledged when they
/// are on stable storage wherever the implementation promises them. `contract::check_all` is the meaning of every word
/// here, for every implementation.
pub trait Store: Send + Sync {
    /// One value. Usually from memory; may read the disk.
    fn get(&self, at: &Key) -> Result<Option<Entry>, StoreError>;

    /// A page of a table, at one revision. May read the disk.
    fn range(&self, scan: &Scan) -> Result<Page, StoreError>;

    /// Applies a transaction. Not cancel-safe: a dropped future leaves open whether it is applied.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Commit, StoreError>>;

    /// All changes after `after` to keys of `table` that begin with `prefix`.
    fn watch(&self, table: &str, prefix: &[u8], after: Revision) -> Result<Box<dyn Watch>, StoreError>;

    /// Grants a lease of `ttl` ([`LEASE_TTL_MIN`] to [`LEASE_TTL_MAX`]). Not cancel-safe: a dropped future may leave a
    /// lease that nobody keeps alive.
    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>>;

    /// Lets a lease live for its whole time again. `NoLease` if it is gone. Cancel-safe.
    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Ends a lease now; its keys go in the same revision. `NoLease` if it is gone already.
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The newest revision that reads here show.
    fn revision(&self) -> Revision;
}

/// Why the store did not do it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// Something is longer than allowed.
    #[error("the {what} is {len} long, over the store's limit of {limit}")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// Its length in bytes, or its number.
        len: usize,
        /// The most allowed.
        limit: usize,
    },
    /// The call makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The queue of writes is full.
    #[error("{limit} writes are waiting already; try again in a moment")]
    Busy {
        /// How many may wait.
        limit: usize,
    },
    /// The lease has expired, was revoked, or never was.
    #[error("lease {} is not alive", .0.0)]
    NoLease(LeaseId),
    /// A stored value is damaged.
    #[error("the value of {at} is damaged ({reason}); restore it from a backup, or delete the key")]
    Damaged {
        /// Which.
        at: Key,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk failed. Nothing is written any more until a restart, because what a failed disk kept is unknown.
    #[error("the store's disk failed ({0}); it takes no writes until the server is restarted")]
    Failed(String),
    /// The store cannot be opened.
    #[error("the store cannot be opened: {0}")]
    Open(String),
    /// Nobody leads the replicas, or nobody who could be reached. Nothing was written.
    #[error("the store takes no writes now: {0}")]
    NoLeader(String),
    /// Only the leader does this.
    #[error("this node does not lead the store{}", .leader.map_or(String::new(), |id| format!("; ask node {id}")))]
    NotLeader {
        /// Who does, as far as is known.
        leader: Option<NodeId>,
    },
    /// The answer did not arrive in time. The write may or may not have been applied: read before writing it again.
    #[error("it is not known whether the write was applied; read the key before writing it again")]
    Unknown,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Whether `ttl` may be a lease's.
pub(crate) fn check_ttl(ttl: Duration) -> Result<(), StoreError> {
    if (LEASE_TTL_MIN..=LEASE_TTL_MAX).contains(&ttl) {
        return Ok(());
    }
    let text = format!("a lease of {ttl:?}; it must be {LEASE_TTL_MIN:?} to {LEASE_TTL_MAX:?}");
    Err(StoreError::Invalid(text))
}

impl StoreError {
    /// An error if `len` is over `limit`.
    pub(crate) fn within(what: &'static str, len: usize, limit: usize) -> Result<(), Self> {
        if len > limit { Err(StoreError::TooLong { what, len, limit }) } else { Ok(()) }
    }

    /// A short word for the metric.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            StoreError::TooLong { .. } => "limit",
            StoreError::Invalid(_) => "invalid",
            StoreError::Busy { .. } => "busy",
            StoreError::NoLease(_) => "no-lease",
            StoreError::Damaged { .. } => "damaged",
            StoreError::Failed(_) | StoreError::Open(_) => "failed",
            StoreError::NoLeader(_) | StoreError::NotLeader { .. } => "no-leader",
            StoreError::Unknown => "unknown",
            StoreError::Closed => "closed",
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::TooLong { .. } | StoreError::Invalid(_) => Kind::BadRequest,
            StoreError::Busy { .. } => Kind::Overloaded,
            StoreError::NoLease(_) => Kind::Conflict,
            StoreError::Damaged { .. } => Kind::Internal,
            StoreError::NoLeader(_) | StoreError::NotLeader { .. } => Kind::Unavailable,
            StoreError::Unknown => Kind::Timeout,
            StoreError::Failed(_) | StoreError::Open(_) | StoreError::Closed => Kind::Unavailable,
        };
        let problem = Problem::new(kind, error.to_string());
        let is_passing = matches!(error, StoreError::Busy { .. } | StoreError::NoLeader(_));
        if is_passing { problem.retry_after(Duration::from_secs(1)) } else { problem }
    }
}
