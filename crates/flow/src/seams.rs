//! What the journey needs of the outside, beside the caches' and the fetcher's own traits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use tutti_base::{Body, BoxFuture, ContentHash, Context, FileBody, Kind, Problem, TenantId, Wall};
use tutti_fetch::{FolderFile, Gone, Removed, ShelfFile, ShelfPage, ShelfQuery};
use tutti_service::registry::ServiceId;
use tutti_service::{Output, OwnedInput, Refined, Tenant};

use crate::purge::{Stored, Write};

/// Does jobs on this machine.
pub trait Work: Send + Sync {
    /// Waits for a CPU permit, then runs `task`. The deadline in its context bounds the run; cancel-safe: dropping it
    /// frees the permit and kills the engine's job.
    ///
    /// Errors: `Unprocessable` for malformed input, limits, and a second crash; `Timeout` when the deadline passed in
    /// the engine; `Overloaded` when it passed while waiting for a permit.
    fn run(&self, task: Task) -> BoxFuture<'_, Result<Output, Problem>>;

    /// What this machine can give to jobs.
    fn capacity(&self) -> Capacity;
}

/// One job with everything it needs.
#[derive(Debug)]
pub struct Task {
    /// Whose job it is.
    pub service: ServiceId,
    /// The job.
    pub job: Refined,
    /// Its inputs, in the order of the plan.
    pub inputs: Vec<OwnedInput>,
    /// For whose sake.
    pub context: Context,
    /// Set to true by the worker when an engine begins with it: time in a queue is not the job's fault.
    pub started: Arc<AtomicBool>,
}

/// What a machine can give to jobs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Capacity {
    /// Cores, after the front's share: jobs run at once.
    pub permits: usize,
    /// CPU milliseconds a millisecond: cores or quota, less the front's reserve.
    pub cpu: f32,
    /// Bytes that jobs may use together.
    pub bytes: u64,
}

/// Starts work that nobody waits for.
pub trait Spawn: Send + Sync {
    /// Runs `work` until it ends or the process stops.
    fn spawn(&self, name: &'static str, work: BoxFuture<'static, ()>);
}

/// Copies bytes to where they cannot change, and back into memory. Off the caller's thread.
pub trait Copies: Send + Sync {
    /// An unchanging copy of a folder's file, and its hash. Fails when it is longer than `limit` bytes.
    fn freeze<'a>(
        &'a self,
        file: &'a FolderFile,
        limit: u64,
    ) -> BoxFuture<'a, io::Result<(FileBody, ContentHash)>>;
    /// An unchanging file of these bytes.
    fn file(&self, bytes: Bytes) -> BoxFuture<'_, io::Result<FileBody>>;
    /// All bytes of `body`, at most `limit`.
    fn read(&self, body: Body, limit: u64) -> BoxFuture<'_, io::Result<Bytes>>;
}

/// Where the purge log is kept over a restart.
pub trait PurgeKeeper: Send + Sync {
    /// The log as it was kept.
    fn load(&self) -> Stored;
    /// Keeps all of `write`, or nothing; on stable storage when this returns. Never called again before it has ended.
    fn write<'a>(&'a self, write: &'a Write) -> BoxFuture<'a, Result<(), Problem>>;
}

/// When a file that is being written is to be dated: asked once all of it is there.
pub type Dated = Box<dyn FnOnce() -> Wall + Send>;

/// This node's own folders of originals, where they may be changed. A file of another name is never touched, and nothing
/// outside of a folder. What fails says for people why, and what they can do.
pub trait Shelf: Send + Sync {
    /// The names of its folders; the unnamed one has the empty name.
    fn folders(&self) -> Vec<String>;
    /// A page of a folder's files, without those that `gone` says are deleted. Cancel-safe.
    fn list(&self, query: ShelfQuery, gone: Gone) -> BoxFuture<'_, Result<ShelfPage, Problem>>;
    /// Writes `body` as a file, whole or not at all, dated as `dated` says or later: later than what it replaces. On
    /// stable storage when this returns. Cancel-safe: a dropped write leaves nothing, or the whole file.
    fn put<'a>(
        &'a self,
        folder: &'a str,
        path: &'a str,
        body: Body,
        bytes_max: u64,
        dated: Dated,
    ) -> BoxFuture<'a, Result<ShelfFile, Problem>>;
    /// Removes the file `path` of the folder `folder` if it was last changed at `at` or before. A dropped removal may
    /// still happen.
    fn remove<'a>(
        &'a self,
        folder: &'a str,
        path: &'a str,
        at: Wall,
    ) -> BoxFuture<'a, Result<Removed, Problem>>;
    /// As [`Self::remove`], by itself. Never blocks; called inside the runtime.
    fn remove_older(&self, folder: &str, path: &str, at: Wall);
}

/// A machine without folders.
impl Shelf for () {
    fn folders(&self) -> Vec<String> {
        Vec::new()
    }
    fn list(&self, _query: ShelfQuery, _gone: Gone) -> BoxFuture<'_, Result<ShelfPage, Problem>> {
        Box::pin(async { Err(no_folders()) })
    }
    fn put<'a>(
        &'a self,
        _folder: &'a str,
        _path: &'a str,
        _body: Body,
        _bytes_max: u64,
        _dated: Dated,
    ) -> BoxFuture<'a, Result<ShelfFile, Problem>> {
        Box::pin(async { Err(no_folders()) })
    }
    fn remove<'a>(&'a self, _: &'a str, _: &'a str, _: Wall) -> BoxFuture<'a, Result<Removed, Problem>> {
        Box::pin(async { Err(no_folders()) })
    }
    fn remove_older(&self, _folder: &str, _path: &str, _at: Wall) {}
}

fn no_folders() -> Problem {
    Problem::new(Kind::NotFound, "this node has no folder of originals; add one with `--originals`")
}

/// The folders of a machine.
impl Shelf for Arc<tutti_fetch::Shelf> {
    fn folders(&self) -> Vec<String> {
        tutti_fetch::Shelf::folders(self)
    }
    fn list(&self, query: ShelfQuery, gone: Gone) -> BoxFuture<'_, Result<ShelfPage, Problem>> {
        Box::pin(tutti_fetch::Shelf::list(self, query, gone))
    }
    fn put<'a>(
        &'a self,
        folder: &'a str,
        path: &'a str,
        body: Body,
        bytes_max: u64,
        dated: Dated,
    ) -> BoxFuture<'a, Result<ShelfFile, Problem>> {
        Box::pin(tutti_fetch::Shelf::put(self, folder, path, body, bytes_max, dated))
    }
    fn remove<'a>(
        &'a self,
        folder: &'a str,
        path: &'a str,
        at: Wall,
    ) -> BoxFuture<'a, Result<Removed, Problem>> {
        Box::pin(tutti_fetch::Shelf::remove(self, folder, path, at))
    }
    fn remove_older(&self, folder: &str, path: &str, at: Wall) {
        tutti_fetch::Shelf::remove_older(self, folder, path, at);
    }
}

/// The tenants' settings.
pub trait Tenants: Send + Sync {
    /// The settings of `id` as of now.
    fn get(&self, id: &TenantId) -> Arc<Tenant>;
    /// Changes whenever any setting that plans depend on has changed.
    fn generation(&self) -> u64;
}
