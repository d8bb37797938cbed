//! The replicated store's own tables in the one file, beside the state's. Opens and reads them; changes nothing by itself.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tutti_base::envelope::{self, EnvelopeError, Versioned};

use super::types::{AppliedRecord, LogId, LogRecord, PlaceRecord, Vote, VoteRecord};

/// The log: index -> [`LogRecord`].
pub(crate) const LOG: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("raft-log");
/// Single values of this node: [`VOTE`], [`PURGED`], [`COMMITTED`], [`APPLIED`].
pub(crate) const CELLS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("raft");
/// Numbers of this node: [`EPOCH`], [`RUN`].
pub(crate) const NUMBERS: TableDefinition<'static, &str, u64> = TableDefinition::new("raft-numbers");
/// Replicated: what became of the newest writes, (node, sequence) -> `OutcomeRecord`.
pub(crate) const OUTCOMES: TableDefinition<'static, (u64, u64), &[u8]> = TableDefinition::new("outcomes");
/// Replicated: the newest run and sequence of each node that wrote.
pub(crate) const CLIENTS: TableDefinition<'static, u64, (u64, u64)> = TableDefinition::new("clients");
/// Replicated: epoch -> the last entry of the log before it.
pub(crate) const EPOCHS: TableDefinition<'static, u64, u64> = TableDefinition::new("epochs");

pub(crate) const VOTE: &str = "vote";
pub(crate) const PURGED: &str = "purged";
pub(crate) const COMMITTED: &str = "committed";
pub(crate) const APPLIED: &str = "applied";
/// The epoch that this node belongs to.
pub(crate) const EPOCH: &str = "epoch";
/// How often this node has been started.
pub(crate) const RUN: &str = "run";

/// Why the storage failed; either way the node stops taking part.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The disk or redb.
    #[error("{0}")]
    Disk(String),
    /// A checksum.
    #[error("{0}")]
    Damaged(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

macro_rules! disk_failures {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::Disk(redb::Error::from(error).to_string())
            }
        }
    )*};
}
disk_failures!(
    redb::Error,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError
);

/// What damage of `what` is.
pub(crate) fn damaged(what: &str) -> impl Fn(EnvelopeError) -> Failure + '_ {
    move |error| Failure::Damaged(format!("{what} is damaged ({error})"))
}

/// What this node knew of the log and the state when it was opened.
#[derive(Clone, Default)]
pub(crate) struct Known {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    pub(crate) applied: AppliedRecord,
    /// The newest entry of the log, or what was purged.
    pub(crate) last: Option<LogId>,
    pub(crate) epoch: u64,
    pub(crate) run: u64,
}

impl Known {
    /// Whether this node was ever part of a cluster.
    pub(crate) fn is_new(&self) -> bool {
        self.vote.is_none() && self.last.is_none() && self.applied.last.is_none()
    }
}

/// Makes the tables where they are not there, and reads what is known.
pub(crate) fn open(database: &Database) -> Result<Known, Failure> {
    let disk = database.begin_write()?;
    make(&disk)?;
    disk.commit()?;
    let disk = database.begin_read()?;
    let cells = disk.open_table(CELLS)?;
    let numbers = disk.open_table(NUMBERS)?;
    let number = |name: &str| Ok::<_, Failure>(numbers.get(name)?.map_or(0, |found| found.value()));
    let purged = cell::<PlaceRecord>(&cells, PURGED)?.and_then(|place| place.0);
    let last = match disk.open_table(LOG)?.last()? {
        Some((_, bytes)) => Some(entry(bytes.value())?.0.log_id),
        None => purged,
    };
    Ok(Known {
        vote: cell::<VoteRecord>(&cells, VOTE)?.map(|vote| vote.0),
        purged,
        committed: cell::<PlaceRecord>(&cells, COMMITTED)?.and_then(|place| place.0),
        applied: cell::<AppliedRecord>(&cells, APPLIED)?.unwrap_or_default(),
        last,
        epoch: number(EPOCH)?,
        run: number(RUN)?,
    })
}

fn make(disk: &WriteTransaction) -> Result<(), Failure> {
    disk.open_table(LOG)?;
    disk.open_table(CELLS)?;
    disk.open_table(NUMBERS)?;
    disk.open_table(OUTCOMES)?;
    disk.open_table(CLIENTS)?;
    disk.open_table(EPOCHS)?;
    Ok(())
}

/// Opens an entry of the log.
pub(crate) fn entry(bytes: &[u8]) -> Result<LogRecord, Failure> {
    envelope::open(bytes).map_err(damaged("an entry of the log"))
}

/// One of this node's values.
pub(crate) fn cell<T: Versioned>(
    cells: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<T>, Failure> {
    match cells.get(name)? {
        Some(bytes) => Ok(Some(envelope::open(bytes.value()).map_err(damaged(name))?)),
        None => Ok(None),
    }
}

/// Writes one of this node's values.
pub(crate) fn put_cell<T: Versioned>(disk: &WriteTransaction, name: &str, value: &T) -> Result<(), Failure> {
    disk.open_table(CELLS)?.insert(name, envelope::seal(value).as_slice())?;
    Ok(())
}
