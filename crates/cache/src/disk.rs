//! One cache on disk: names that lead to bytes in files, kept by a writer thread and read by the readers' threads.
//! No caller waits for a write, and no failure of the disk reaches one.

pub(crate) mod blobs;
pub(crate) mod faults;
pub(crate) mod index;
pub(crate) mod ledger;
pub(crate) mod limits;
pub(crate) mod readers;
mod writer;

use std::collections::HashSet;
use std::future::ready;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tutti_base::{BoxFuture, Clock, ContentHash, FileBody, KeptBody};

use blobs::{BlobError, Blobs, Incoming};
use faults::Faults;
use index::{Index, IndexError, Kept, Name};
use ledger::{Ledger, Overflow, Standing, short};
use limits::{Limits, ShelfKind, Space, Volume};
use readers::{Busy, Readers};
use writer::Writer;

use crate::Stats;
use crate::config::CacheConfig;
use crate::metrics::{CacheMetrics, ShelfMetrics};

/// How long a start waits for the index to be checked; after that it goes on without, and the disk is used once it is.
const OPEN_PATIENCE: Duration = Duration::from_secs(2);
/// How long closing waits for what is queued to be written.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// What a shelf keeps.
pub(crate) trait Shelved: Clone + Send + Sync + 'static {
    /// What its name leads to.
    fn target(&self) -> Name;
    /// The sealed record of the name.
    fn record(&self) -> Vec<u8>;
    /// The sealed record of the bytes.
    fn facts(&self) -> Vec<u8>;
    /// The hash of the bytes.
    fn hash(&self) -> ContentHash;
    /// Their number.
    fn len(&self) -> u64;
    /// The bytes, where memory has them.
    fn bytes(&self) -> Option<&Bytes>;
}

/// What both shelves have in common.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) config: CacheConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: CacheMetrics,
    pub(crate) limits: Arc<Limits>,
    pub(crate) volume: Arc<dyn Volume>,
    pub(crate) faults: Arc<dyn Faults>,
}

/// Says of a name whether memory uses it, so that eviction spares it.
type InUse = Box<dyn Fn(&Name) -> bool + Send + Sync>;

/// One cache on disk. Dropping it closes it.
pub(crate) struct Shelf<L: Shelved> {
    shared: Arc<Shared<L>>,
}

/// A shelf with the threads that read it.
pub(crate) struct OnDisk<L: Shelved> {
    pub(crate) shelf: Arc<Shelf<L>>,
    pub(crate) readers: Arc<Readers>,
}

impl<L: Shelved> OnDisk<L> {
    /// Runs `job` on a reader's thread; not found when they are too busy. Cancel-safe: the job runs on.
    pub(crate) fn look_up<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> BoxFuture<'static, Option<T>> {
        match self.readers.submit(job) {
            Ok(answer) => Box::pin(async move { answer.await.ok().flatten() }),
            Err(Busy) => {
                self.shelf.shared.metrics.dropped_reads.inc();
                Box::pin(ready(None))
            }
        }
    }
}

/// What callers, readers and the writer of a shelf share.
struct Shared<L> {
    kind: ShelfKind,
    around: Surroundings,
    metrics: ShelfMetrics,
    blobs: Blobs,
    ledger: Ledger<L>,
    /// None while the disk is not in use.
    index: RwLock<Option<Arc<Index>>>,
    /// What a reader found wrong with the index, for the writer to act on.
    complaint: Mutex<Option<IndexError>>,
    /// The first eight bytes of the hashes of blobs that this process wrote or checked.
    checked: Mutex<HashSet<u64>>,
    in_use: InUse,
    ok: AtomicBool,
    limit: AtomicU64,
    ended: (Mutex<bool>, Condvar),
}

/// What was found on disk.
pub(crate) struct Loaded {
    /// The sealed record of the name; empty when it was found by target.
    pub(crate) record: Vec<u8>,
    /// The sealed record of the bytes.
    pub(crate) facts: Vec<u8>,
    /// Their hash.
    pub(crate) hash: ContentHash,
    /// The bytes: whole when they are few.
    pub(crate) body: KeptBody,
}

impl<L: Shelved> Shelf<L> {
    /// Starts the shelf in `dir`. Fails only when no thread can be started: a bad disk is tried again later.
    pub(crate) fn start(
        kind: ShelfKind,
        dir: &Path,
        around: Surroundings,
        in_use: InUse,
    ) -> io::Result<Self> {
        let metrics = around.metrics.shelf(kind.word());
        let CacheConfig { queue_bytes, queue_entries, .. } = around.config;
        // Originals are on disk already while they wait: only their number counts.
        let queue_bytes = if kind == ShelfKind::Originals { u64::MAX } else { queue_bytes };
        let limit = around.limits.limit(kind, None);
        let shared = Arc::new(Shared {
            kind,
            metrics: metrics.clone(),
            blobs: Blobs::new(&dir.join(kind.word()), around.faults.clone()),
            ledger: Ledger::new(queue_bytes, queue_entries, metrics),
            index: RwLock::default(),
            complaint: Mutex::default(),
            checked: Mutex::default(),
            in_use,
            ok: AtomicBool::new(false),
            limit: AtomicU64::new(limit),
            ended: Default::default(),
            around,
        });
        let writer = Writer::new(shared.clone());
        thread::Builder::new().name(format!("cache-{}", kind.word())).spawn(move || writer.run())?;
        Ok(Self { shared })
    }

    /// Returns once the disk is in use or has failed, or after [`OPEN_PATIENCE`].
    pub(crate) fn wait_until_opened(&self) {
        self.shared.ledger.wait_until_opened(OPEN_PATIENCE);
    }

    pub(crate) fn standing(&self, name: &Name) -> Standing<L> {
        self.shared.ledger.standing(name)
    }

    /// Queues `live` to be kept; see [`Ledger::keep`]. `bytes` is the memory that waiting takes.
    pub(crate) fn keep(
        &self,
        name: Name,
        live: L,
        incoming: Option<Arc<Incoming>>,
        bytes: u64,
        overflow: Overflow,
    ) -> bool {
        self.shared.ledger.keep(name, live, incoming, bytes, overflow)
    }

    pub(crate) fn amend(&self, name: &Name, change: impl FnOnce(&L) -> Option<L>) -> bool {
        self.shared.ledger.amend(name, change)
    }

    pub(crate) fn forget(&self, name: &Name) {
        self.shared.ledger.forget(name);
    }

    pub(crate) fn clear(&self) {
        self.shared.ledger.clear();
    }

    /// Begins a file for bytes that are still to come; none where the disk is not in use.
    pub(crate) fn incoming(&self) -> Option<Incoming> {
        if !self.shared.ledger.may_write() {
            return None;
        }
        self.shared.blobs.incoming().inspect_err(|_| self.shared.metrics.error("create")).ok()
    }

    /// Counts an operation that failed outside of the shelf.
    pub(crate) fn count_error(&self, op: &'static str) {
        self.shared.metrics.error(op);
    }

    /// Reads what `name` leads to; whole if it has at most `whole_max` bytes and any. Blocks: for the readers' threads.
    pub(crate) fn load(&self, name: &Name, whole_max: u64) -> Option<Loaded> {
        self.shared.load(name, whole_max)
    }

    /// Reads `target`, as [`Shelf::load`] does.
    pub(crate) fn load_target(&self, target: &Name, whole_max: u64) -> Option<Loaded> {
        self.shared.load_target(target, whole_max)
    }

    /// Adds what the disk holds to `stats`.
    pub(crate) fn add_to(&self, stats: &mut Stats) {
        let shared = &self.shared;
        stats.kept = shared.ledger.names();
        stats.kept_bytes = shared.around.limits.used(shared.kind);
        stats.disk_limit = shared.limit.load(Ordering::Relaxed);
        stats.disk_ok = shared.ok.load(Ordering::Relaxed);
    }

    /// Writes what waits and ends; false when that took longer than [`CLOSE_PATIENCE`].
    pub(crate) fn close(&self) -> bool {
        self.shared.ledger.close();
        let (ended, told) = &self.shared.ended;
        let guard = ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = told.wait_timeout_while(guard, CLOSE_PATIENCE, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl<L: Shelved> Drop for Shelf<L> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<L: Shelved> Shared<L> {
    fn load(&self, name: &Name, whole_max: u64) -> Option<Loaded> {
        let found = self.ask(|index| index.find(name))?;
        match self.fetch(&found.kept, whole_max) {
            Ok(body) => {
                self.ledger.visit(name);
                Some(Loaded { record: found.record, facts: found.kept.facts, hash: found.kept.blob, body })
            }
            Err(error) => {
                if self.is_lost(&found.kept.blob, &error) {
                    self.ledger.forget_if_gone(name, found.target);
                }
                None
            }
        }
    }

    fn load_target(&self, target: &Name, whole_max: u64) -> Option<Loaded> {
        let kept = self.ask(|index| index.find_target(target))?;
        match self.fetch(&kept, whole_max) {
            Ok(body) => Some(Loaded { record: vec![], facts: kept.facts, hash: kept.blob, body }),
            Err(error) => {
                self.is_lost(&kept.blob, &error);
                None
            }
        }
    }

    /// Asks the index; what goes wrong is left for the writer to act on.
    fn ask<T>(&self, question: impl FnOnce(&Index) -> Result<Option<T>, IndexError>) -> Option<T> {
        if !self.ledger.may_read() {
            return None;
        }
        let index = self.index()?;
        question(&index).unwrap_or_else(|error| {
            *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            self.ledger.poke();
            None
        })
    }

    /// The bytes of a blob, checked: few always, many when this process has not seen them yet.
    fn fetch(&self, kept: &Kept, whole_max: u64) -> Result<KeptBody, BlobError> {
        let Kept { blob, len, .. } = kept;
        let file = self.blobs.open(blob, *len)?;
        if (1..=whole_max).contains(len) {
            return Ok(KeptBody::Whole(self.blobs.read(&file, blob, *len)?));
        }
        if !self.checked().contains(&short(blob.as_bytes())) {
            self.blobs.check(&file, blob, *len)?;
            self.checked().insert(short(blob.as_bytes()));
        }
        Ok(KeptBody::File(FileBody { file: Arc::new(file), offset: 0, len: *len }))
    }

    /// Whether `error` means that the bytes are gone for good; their file is then removed.
    fn is_lost(&self, blob: &ContentHash, error: &BlobError) -> bool {
        let lost = match error {
            BlobError::Missing => true,
            BlobError::Damaged => self.remove_damaged(blob),
            BlobError::Io(error) => {
                self.metrics.error("read");
                is_bad_medium(error) && self.remove_damaged(blob)
            }
        };
        if lost {
            self.metrics.damaged.inc();
        }
        lost
    }

    fn remove_damaged(&self, blob: &ContentHash) -> bool {
        self.checked().remove(&short(blob.as_bytes()));
        tracing::warn!(target: "cache", kind = self.kind.word(), hash = %blob, "a kept file is damaged and is removed");
        self.blobs.remove(blob).inspect_err(|_| self.metrics.error("remove")).is_ok()
    }

    fn index(&self) -> Option<Arc<Index>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_index(&self, index: Option<Arc<Index>>) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
    }

    fn checked(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn space(&self) -> Option<Space> {
        let space = self.around.volume.space(self.blobs.root());
        space.inspect_err(|_| self.metrics.error("space")).ok()
    }
}

/// Whether reading failed because of this file's place on the medium, and not for want of descriptors or memory.
fn is_bad_medium(error: &io::Error) -> bool {
    // 5 is EIO on every Linux; a file that ends early has been cut after it was opened.
    error.raw_os_error() == Some(5) || error.kind() == io::ErrorKind::UnexpectedEof
}
