//! The index of one disk cache: names lead to targets, targets to blobs, both counted. Knows no files but its own, and
//! never panics: a file that makes redb panic is a damaged file.

mod edit;
mod rows;

use std::fs::{self, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{
    BackendError, Builder, Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase,
    ReadableTable, ReadableTableMetadata, StorageBackend, StorageError, TableDefinition, TableError,
};
use tutti_base::envelope;
use tutti_base::{ContentHash, envelope::Versioned};

use super::faults::{Faults, FileOp};
use super::limits::{NAME_OVERHEAD, file_cost};

pub(crate) use edit::{Edit, Placing};
pub(crate) use rows::{BlobRow, NameRow, TargetRow};

/// A name or a target: the 32 bytes of the key that it is outside of here.
pub(crate) type Name = [u8; 32];

/// Memory that redb may use for pages.
const PAGE_CACHE_BYTES: usize = 8 << 20;
/// The layout of the tables. An index of another layout is moved aside.
const LAYOUT: u64 = 1;

const NAMES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("names");
const TARGETS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("targets");
const BLOBS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("blobs");
/// Names in the order in which they are next looked at for eviction.
const ORDER: TableDefinition<'_, u64, &[u8; 32]> = TableDefinition::new("order");
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");

/// Why the index could not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// Another process has it open.
    #[error("another process uses this cache folder")]
    InUse,
    /// The file is not an index, or not one any more.
    #[error("the index is damaged: {0}")]
    Damaged(String),
    /// The disk said no; the index has to be opened again.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An open index. Dropping the last handle closes it cleanly.
pub(crate) struct Index {
    database: Database,
}

/// What the index says of a name.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// What the name leads to.
    pub(crate) target: Name,
    /// The record of the name.
    pub(crate) record: Vec<u8>,
    /// What it leads to.
    pub(crate) kept: Kept,
}

/// What the index says of a target.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// What is said of the bytes.
    pub(crate) facts: Vec<u8>,
    /// Where the bytes are.
    pub(crate) blob: ContentHash,
    /// Their number.
    pub(crate) len: u64,
}

/// What an index holds in total.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Totals {
    /// Names.
    pub(crate) names: u64,
    /// Disk that names and blobs take, in bytes.
    pub(crate) bytes: u64,
}

impl Index {
    /// Opens the index at `path`, or makes it, and checks all of it.
    pub(crate) fn open(path: &Path, faults: Arc<dyn Faults>) -> Result<Self, IndexError> {
        guarded(|| {
            faults.before(FileOp::Open)?;
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)?;
            let backend = Backend { file: FileBackend::new(file).map_err(of_opening)?, faults };
            let mut builder = Builder::new();
            builder.set_cache_size(PAGE_CACHE_BYTES).set_check_integrity_on_open(true);
            let index = Self { database: builder.create_with_backend(backend).map_err(of_opening)? };
            index.lay_out()?;
            Ok(index)
        })
    }

    fn lay_out(&self) -> Result<(), IndexError> {
        let txn = self.database.begin_write().map_err(damage)?;
        {
            let mut about = txn.open_table(ABOUT).map_err(of_table)?;
            let layout = about.get("layout").map_err(of_storage)?.map(|found| found.value());
            match layout {
                None => drop(about.insert("layout", LAYOUT).map_err(of_storage)?),
                Some(LAYOUT) => {}
                Some(other) => {
                    return Err(IndexError::Damaged(format!("its layout is {other}, not {LAYOUT}")));
                }
            }
            for table in [NAMES, TARGETS, BLOBS] {
                txn.open_table(table).map_err(of_table)?;
            }
            txn.open_table(ORDER).map_err(of_table)?;
        }
        txn.commit().map_err(|error| of_storage(error.into_storage()))
    }

    /// What `name` leads to.
    pub(crate) fn find(&self, name: &Name) -> Result<Option<Found>, IndexError> {
        guarded(|| {
            let txn = self.read()?;
            let Some(row) = row::<NameRow>(&txn, NAMES, name)? else { return Ok(None) };
            let kept = kept(&txn, &row.target)?.ok_or_else(|| lost("target"))?;
            Ok(Some(Found { target: row.target, record: row.record, kept }))
        })
    }

    /// What `target` is.
    pub(crate) fn find_target(&self, target: &Name) -> Result<Option<Kept>, IndexError> {
        guarded(|| kept(&self.read()?, target))
    }

    /// Whether `hash` is the blob of anything.
    pub(crate) fn knows_blob(&self, hash: &ContentHash) -> Result<bool, IndexError> {
        guarded(|| Ok(row::<BlobRow>(&self.read()?, BLOBS, hash.as_bytes())?.is_some()))
    }

    /// Goes through the whole index: each name is shown to `each`.
    pub(crate) fn survey(&self, mut each: impl FnMut(&Name)) -> Result<Totals, IndexError> {
        guarded(|| {
            let txn = self.read()?;
            let mut totals = Totals::default();
            let order = txn.open_table(ORDER).map_err(of_table)?;
            for entry in order.iter().map_err(of_storage)? {
                each(entry.map_err(of_storage)?.1.value());
                totals.names += 1;
            }
            if totals.names != txn.open_table(NAMES).map_err(of_table)?.len().map_err(of_storage)? {
                return Err(lost("order"));
            }
            totals.bytes = totals.names * NAME_OVERHEAD;
            for entry in txn.open_table(BLOBS).map_err(of_table)?.iter().map_err(of_storage)? {
                let row: BlobRow = open_row(entry.map_err(of_storage)?.1.value())?;
                totals.bytes = totals.bytes.saturating_add(file_cost(row.len));
            }
            Ok(totals)
        })
    }

    /// Changes the index: all that `change` does, or nothing when it fails.
    pub(crate) fn edit<T>(
        &self,
        change: impl FnOnce(&mut Edit<'_>) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        guarded(|| {
            let mut txn = self.database.begin_write().map_err(damage)?;
            txn.set_durability(Durability::None).map_err(|error| IndexError::Damaged(error.to_string()))?;
            let out = change(&mut Edit::new(&txn)?)?;
            txn.commit().map_err(|error| of_storage(error.into_storage()))?;
            Ok(out)
        })
    }

    /// Makes every change so far survive a power failure.
    pub(crate) fn make_durable(&self) -> Result<(), IndexError> {
        guarded(|| {
            let txn = self.database.begin_write().map_err(damage)?;
            txn.commit().map_err(|error| of_storage(error.into_storage()))
        })
    }

    /// Forgets everything, durably.
    pub(crate) fn clear(&self) -> Result<(), IndexError> {
        guarded(|| {
            let txn = self.database.begin_write().map_err(damage)?;
            for table in [NAMES, TARGETS, BLOBS] {
                txn.delete_table(table).map_err(of_table)?;
                txn.open_table(table).map_err(of_table)?;
            }
            txn.delete_table(ORDER).map_err(of_table)?;
            txn.open_table(ORDER).map_err(of_table)?;
            txn.commit().map_err(|error| of_storage(error.into_storage()))
        })
    }

    fn read(&self) -> Result<ReadTransaction, IndexError> {
        self.database.begin_read().map_err(damage)
    }
}

/// Moves a damaged index out of the way, over an earlier one.
pub(crate) fn move_aside(path: &Path) -> io::Result<()> {
    fs::rename(path, path.with_extension("damaged"))
}

fn kept(txn: &ReadTransaction, target: &Name) -> Result<Option<Kept>, IndexError> {
    let Some(row) = row::<TargetRow>(txn, TARGETS, target)? else { return Ok(None) };
    let blob = self::row::<BlobRow>(txn, BLOBS, &row.blob)?.ok_or_else(|| lost("blob"))?;
    Ok(Some(Kept { facts: row.facts, blob: ContentHash::from_bytes(row.blob), len: blob.len }))
}

fn row<R: Versioned>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, &'static [u8; 32], &'static [u8]>,
    key: &Name,
) -> Result<Option<R>, IndexError> {
    let table = txn.open_table(table).map_err(of_table)?;
    let found = table.get(key).map_err(of_storage)?;
    found.map(|bytes| open_row(bytes.value())).transpose()
}

fn open_row<R: Versioned>(bytes: &[u8]) -> Result<R, IndexError> {
    envelope::open(bytes).map_err(|error| IndexError::Damaged(error.to_string()))
}

fn lost(what: &str) -> IndexError {
    IndexError::Damaged(format!("a row of its table `{what}` is missing"))
}

/// Turns a panic of redb, which a damaged file may cause, into the error that it is.
fn guarded<T>(work: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    // The database is dropped after any error, so that no broken invariant is seen again.
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(IndexError::Damaged("reading it panicked".into())))
}

fn of_storage(error: StorageError) -> IndexError {
    match error {
        // A file that ends where a page should be, or that begins with something else, is damage and no failing disk.
        StorageError::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                IndexError::Damaged(error.to_string())
            }
            _ => IndexError::Io(error),
        },
        StorageError::Corrupted(reason) => IndexError::Damaged(reason),
        other => IndexError::Io(io::Error::other(other.to_string())),
    }
}

fn of_table(error: TableError) -> IndexError {
    match error {
        TableError::Storage(error) => of_storage(error),
        other => IndexError::Damaged(other.to_string()),
    }
}

fn of_opening(error: DatabaseError) -> IndexError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => IndexError::InUse,
        DatabaseError::Storage(error) => of_storage(error),
        other => IndexError::Damaged(other.to_string()),
    }
}

fn damage(error: redb::TransactionError) -> IndexError {
    of_storage(error.into_storage())
}

trait IntoStorage {
    fn into_storage(self) -> StorageError;
}

impl IntoStorage for redb::TransactionError {
    fn into_storage(self) -> StorageError {
        match self {
            redb::TransactionError::Storage(error) => error,
            other => StorageError::Io(io::Error::other(other.to_string())),
        }
    }
}

impl IntoStorage for redb::CommitError {
    fn into_storage(self) -> StorageError {
        match self {
            redb::CommitError::Storage(error) => error,
            other => StorageError::Io(io::Error::other(other.to_string())),
        }
    }
}

/// redb's file with the fault seam before it.
#[derive(Debug)]
struct Backend {
    file: FileBackend,
    faults: Arc<dyn Faults>,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.faults.before(FileOp::IndexRead)?;
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.before(FileOp::IndexWrite)?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.faults.before(FileOp::IndexSync)?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.before(FileOp::IndexWrite)?;
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
