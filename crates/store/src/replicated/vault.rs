//! The open file of the replicated store: hands out read transactions, and can be emptied and opened anew. Writes nothing.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redb::{Database, ReadTransaction, ReadableDatabase};
use tutti_base::Clock;
use tutti_base::disk::Disk;

use super::tables::{self, Failure, Known};
use crate::backend::Backend;
use crate::redb_store::{FILE, prepare};
use crate::store::{Revision, StoreError};

/// How often emptying the file asks whether the last reader has gone.
const READERS_GONE_TRIES: usize = 500;

/// The database, where it is open.
pub(crate) struct Vault {
    disk: Arc<dyn Disk>,
    cache_bytes: usize,
    database: ArcSwapOption<Database>,
}

impl Vault {
    /// Opens or makes the file. Blocks; checks the whole file.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        cache_bytes: usize,
    ) -> Result<(Arc<Self>, Known, Revision), StoreError> {
        let vault = Self { disk, cache_bytes, database: ArcSwapOption::empty() };
        let (known, revision) = vault.load()?;
        Ok((Arc::new(vault), known, revision))
    }

    fn load(&self) -> Result<(Known, Revision), StoreError> {
        let file = self.disk.open(FILE).map_err(|error| StoreError::Open(error.to_string()))?;
        let advice = "repair it from a peer, or restore it from a backup";
        let database = Database::builder()
            .set_cache_size(self.cache_bytes)
            .set_check_integrity_on_open(true)
            .create_with_backend(Backend(file))
            .map_err(|error| StoreError::Open(format!("{FILE}: {error}; {advice}")))?;
        let revision = prepare(&database)?;
        let known = tables::open(&database)
            .map_err(|failure| StoreError::Open(format!("{FILE}: {failure}; {advice}")))?;
        self.database.store(Some(Arc::new(database)));
        Ok((known, revision))
    }

    /// The database; `Closed` while the file is being emptied and after the end.
    pub(crate) fn database(&self) -> Result<Arc<Database>, Failure> {
        self.database.load_full().ok_or(Failure::Closed)
    }

    /// The state as of now.
    pub(crate) fn read(&self) -> Result<ReadTransaction, Failure> {
        Ok(self.database()?.begin_read()?)
    }

    /// Closes the file; what is being read is still read.
    pub(crate) fn close(&self) {
        self.database.store(None);
    }

    /// Forgets everything on disk and opens an empty file. Waits for readers, half a minute at most.
    pub(crate) async fn empty(&self, clock: &dyn Clock) -> Result<(Known, Revision), StoreError> {
        self.close();
        let mut refused = StoreError::Closed;
        for _ in 0..READERS_GONE_TRIES {
            match wipe(&*self.disk) {
                Ok(()) => return self.load(),
                Err(error) => refused = error,
            }
            clock.sleep_until(clock.now() + Duration::from_millis(60)).await;
        }
        Err(refused)
    }
}

/// Forgets the replicated store of `disk`. For a file that cannot be opened any more, on a node that is not the only
/// voter: it opens as a new node afterwards, and repairs itself from a peer.
pub fn wipe(disk: &dyn Disk) -> Result<(), StoreError> {
    let work = || {
        let file = disk.open(FILE)?;
        file.set_len(0)?;
        file.sync()
    };
    work().map_err(|error| StoreError::Open(error.to_string()))
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Closed => StoreError::Closed,
            other => StoreError::Failed(other.to_string()),
        }
    }
}
