//! The one thread that changes a shelf: it writes what waits, evicts, sweeps, keeps the index durable, and brings a disk
//! that failed back into use. Everything it does not get done is something not kept, never an error.

mod change;
mod opening;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tutti_base::Tick;

use super::blobs::FOLDERS;
use super::index::{Index, IndexError, Totals};
use super::ledger::{Call, Op};
use super::{Shared, Shelved};
use crate::metrics::gauge_value;
use change::Change;

/// Changes in one transaction at most …
const BATCH_COUNT: usize = 256;
/// … and about so many bytes.
const BATCH_BYTES: u64 = 16 << 20;
/// How long the writer sleeps while something is due soon (a sync, a retry, a sweep).
const SOON: Duration = Duration::from_millis(100);
/// How long it rests between two folders that it sweeps.
const SWEEP_PAUSE: Duration = Duration::from_millis(5);
/// How long it sleeps otherwise: how late it notices that somebody else fills the volume.
const SELDOM: Duration = Duration::from_secs(5);

/// The writer of a shelf.
pub(super) struct Writer<L: Shelved> {
    shared: Arc<Shared<L>>,
    totals: Totals,
    /// When the disk, which failed, is tried again.
    retry_at: Option<Tick>,
    /// When changes that are not on stable storage have to be.
    durable_at: Option<Tick>,
    /// The next folder to be swept of files that the index does not know.
    sweep: u16,
    /// The index was found to be damaged while in use: it is moved aside whatever its checksums say.
    distrusts_index: bool,
    /// It is over its limit and has not been able to evict enough in one go.
    is_over: bool,
}

/// What stops a shelf from being written.
#[derive(Debug, thiserror::Error)]
enum DiskError {
    /// A blob's file, or its folder.
    #[error("{op}: {error}")]
    File { op: &'static str, error: std::io::Error },
    /// The index.
    #[error("index: {0}")]
    Index(#[from] IndexError),
}

impl<L: Shelved> Writer<L> {
    pub(super) fn new(shared: Arc<Shared<L>>) -> Self {
        Self {
            shared,
            totals: Totals::default(),
            retry_at: None,
            durable_at: None,
            sweep: 0,
            distrusts_index: false,
            is_over: false,
        }
    }

    /// Runs until the shelf is closed.
    pub(super) fn run(mut self) {
        loop {
            let call = self.shared.ledger.wait(self.patience());
            let done = self.turn();
            if let Err(error) = &done {
                self.suspend(error);
            }
            if call == Call::Close
                && (done.is_err() || self.retry_at.is_some() || self.shared.ledger.is_idle())
            {
                return self.end();
            }
        }
    }

    fn patience(&self) -> Duration {
        let never_opened = self.shared.index().is_none() && self.retry_at.is_none();
        if never_opened || self.is_over {
            Duration::ZERO
        } else if self.retry_at.is_some() {
            SOON
        } else if self.sweep < FOLDERS {
            SWEEP_PAUSE
        } else if self.durable_at.is_some() {
            SOON
        } else {
            SELDOM
        }
    }

    /// Does what there is to do now.
    fn turn(&mut self) -> Result<(), DiskError> {
        if let Some(error) = self.shared.complaint.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error.into());
        }
        let Some(index) = self.working_index()? else { return Ok(()) };
        if self.shared.ledger.clear_waits() {
            self.clear(&index)?;
        }
        self.write(&index)?;
        self.sync(&index)?;
        self.sweep(&index)
    }

    fn clear(&mut self, index: &Index) -> Result<(), DiskError> {
        index.clear()?;
        self.shared.blobs.clear().map_err(|error| DiskError::File { op: "clear", error })?;
        self.shared.checked().clear();
        self.shared.ledger.cleared();
        self.set_totals(Totals::default());
        Ok(())
    }

    /// Writes one batch of what waits, and evicts what is over the limit.
    fn write(&mut self, index: &Index) -> Result<(), DiskError> {
        let space = self.shared.space();
        let Shared { around, kind, .. } = &*self.shared;
        self.shared.limit.store(around.limits.limit(*kind, space), Ordering::Relaxed);
        let allowed = around.limits.allowed(*kind, space);
        let taken = self.shared.ledger.take(BATCH_COUNT, BATCH_BYTES);
        if taken.is_empty() && self.totals.bytes <= allowed {
            self.is_over = false;
            return Ok(());
        }
        let mut change = Change::new(&self.shared, self.totals, allowed);
        let done = index.edit(|edit| change.carry_out(edit, &taken))?;
        self.is_over = done.is_over;
        self.set_totals(done.totals);
        self.shared.ledger.settle(&taken, &done.kept, &done.gone);
        let forgot = taken.iter().any(|one| matches!(one.op, Op::Forget));
        self.note_undurable(if forgot { Duration::ZERO } else { self.shared.around.config.durable_after() });
        done.failed.map_or(Ok(()), |error| Err(DiskError::File { op: "write", error }))
    }

    fn note_undurable(&mut self, within: Duration) {
        let due = self.now() + within;
        self.durable_at = Some(self.durable_at.map_or(due, |before| before.min(due)));
    }

    fn sync(&mut self, index: &Index) -> Result<(), DiskError> {
        if self.durable_at.is_some_and(|due| due <= self.now()) {
            index.make_durable()?;
            self.durable_at = None;
        }
        Ok(())
    }

    /// Removes the files of one folder that the index does not know: those of a process that died before it could
    /// enter them, or of an index that was lost.
    fn sweep(&mut self, index: &Index) -> Result<(), DiskError> {
        let Some(folder) = u8::try_from(self.sweep).ok().filter(|_| self.sweep < FOLDERS) else {
            return Ok(());
        };
        let blobs = &self.shared.blobs;
        let failed = |error| DiskError::File { op: "sweep", error };
        for hash in blobs.folder(folder).map_err(failed)? {
            if !index.knows_blob(&hash)? {
                blobs.remove(&hash).map_err(failed)?;
                self.shared.metrics.orphans.inc();
            }
        }
        self.sweep += 1;
        Ok(())
    }

    fn set_totals(&mut self, totals: Totals) {
        self.totals = totals;
        self.shared.around.limits.set_used(self.shared.kind, totals.bytes);
        self.shared.metrics.bytes.set(gauge_value(totals.bytes));
        self.shared.metrics.entries.set(gauge_value(totals.names));
    }

    fn end(mut self) {
        if let Some(index) = self.shared.index()
            && let Err(error) = index.make_durable()
        {
            self.suspend(&error.into());
        }
        self.shared.set_index(None);
        let (ended, told) = &self.shared.ended;
        *ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        told.notify_all();
    }

    fn now(&self) -> Tick {
        self.shared.around.clock.now()
    }
}
