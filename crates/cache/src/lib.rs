//! Bytes in memory and on disk, behind [`Results`] and [`Originals`]: look up, put, evict. Knows no peers, flights or purges.

mod caches;
mod config;
mod disk;
mod memory;
mod metrics;
mod originals;
pub mod record;
mod results;

use std::sync::Arc;

use bytes::Bytes;
use tutti_base::{BoxFuture, ContentHash, FileBody, RequestKey, ResultKey, SourceKey};

pub use caches::{Caches, Ground, OpenError};
pub use config::{CacheConfig, ConfigError};
pub use disk::faults::{Faults, FileOp, NoFaults};
pub use disk::limits::{MachineVolume, Space, Volume};
pub use originals::DiskOriginals;
pub use record::{Binding, Entry, OriginalRecord, ResultMeta};
pub use results::TieredResults;

/// The cache of results ("render cache"). A request key points to a binding, a binding to a result's bytes.
///
/// No method fails: a disk that is full, read-only or broken means that things are not found or not kept, which is
/// counted in metrics and said once in the log.
pub trait Results: Send + Sync {
    /// What memory holds for `key`, fresh or stale. Never blocks; this is the path of a hit.
    fn resident(&self, key: &RequestKey) -> Option<Arc<Entry>>;

    /// What memory or disk holds for `key`, fresh or stale. A small entry found on disk becomes resident.
    fn find<'a>(&'a self, key: &'a RequestKey) -> BoxFuture<'a, Option<Arc<Entry>>>;

    /// The bytes of `result`, whatever request led to them; none when they are not kept.
    fn find_result<'a>(
        &'a self,
        result: &'a ResultKey,
    ) -> BoxFuture<'a, Option<(ResultMeta, tutti_base::Body)>>;

    /// Keeps a result and its binding. Returns as soon as it is resident; the disk follows in the background, bounded:
    /// what the disk cannot keep up with is not kept there.
    fn put(&self, key: RequestKey, binding: Binding, meta: ResultMeta, body: Bytes) -> Arc<Entry>;

    /// Points `key` to a new binding of bytes that are already kept (revalidated, or another request's result).
    /// None when the bytes are gone.
    fn rebind<'a>(&'a self, key: RequestKey, binding: Binding) -> BoxFuture<'a, Option<Arc<Entry>>>;

    /// Forgets `key`, in memory and on disk; its bytes go when nothing points to them any more.
    fn forget(&self, key: &RequestKey);

    /// Forgets everything.
    fn clear(&self);

    /// What it holds.
    fn stats(&self) -> Stats;
}

/// The cache of originals from outside ("asset cache"), on disk.
pub trait Originals: Send + Sync {
    /// What is kept for `source`, fresh or stale.
    fn find<'a>(&'a self, source: &'a SourceKey) -> BoxFuture<'a, Option<(OriginalRecord, FileBody)>>;

    /// Begins to write an original. Works without a disk too: then its bytes live in an unnamed memory file.
    fn writer(&self) -> Box<dyn OriginalWriter>;

    /// Changes the record of an original that is kept (revalidated). False when it is gone.
    fn update<'a>(&'a self, source: &'a SourceKey, record: OriginalRecord) -> BoxFuture<'a, bool>;

    /// Forgets `source`.
    fn forget(&self, source: &SourceKey);

    /// Forgets everything.
    fn clear(&self);

    /// What it holds.
    fn stats(&self) -> Stats;
}

/// An original on its way in. Dropping it unfinished leaves nothing behind.
pub trait OriginalWriter: Send {
    /// Adds the next bytes. Blocks for a disk write at most; call it off the front's threads. An error means that the
    /// bytes are lost and the original has to be fetched again.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()>;
    /// Seals it. Its hash is then known and its body readable; it is not kept under any name until
    /// [`SealedOriginal::keep`].
    fn seal(self: Box<Self>) -> std::io::Result<SealedOriginal>;
}

/// An original that arrived whole.
pub struct SealedOriginal {
    /// The hash of its bytes.
    pub hash: ContentHash,
    /// Its bytes.
    pub body: FileBody,
    /// Keeps it under a name, where the disk allows. Not calling it means that it goes with its last reader.
    pub keep: Box<dyn FnOnce(SourceKey, OriginalRecord) + Send>,
}

/// What a cache holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Entries in memory.
    pub resident: u64,
    /// Their bytes.
    pub resident_bytes: u64,
    /// Entries on disk.
    pub kept: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// The most bytes that the disk may take.
    pub disk_limit: u64,
    /// Whether the disk is in use; false after a failure until it works again.
    pub disk_ok: bool,
}
