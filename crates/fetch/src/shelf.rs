//! This node's folders of originals where they may be changed: listed, written and removed beneath their roots. Knows no
//! other node and no deletion on record.

mod counts;
mod error;
mod place;
mod walk;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::Semaphore;
use tutti_base::{Body, Clock, Problem, Wall};
use tutti_telemetry::Metrics;

use crate::FileStamp;
use crate::folders::{Folders, well_formed};
use crate::wait;
use counts::Counts;
use error::ShelfError;
pub use error::no_folder;
use place::Draft;

/// Lists, writes and removals under way at once. Each may hold a thread until the file system answers.
pub const WORKS_AT_ONCE: usize = 16;
/// The most files of one page.
pub const PAGE_MAX: usize = 1000;
/// A page ends once its paths have this many bytes, so that it fits into one message.
pub const PAGE_BYTES_MAX: usize = 256 << 10;
/// Names that are looked at for one page; a folder with more of them is listed by prefix.
pub const LOOKED_MAX: usize = 1_000_000;
/// No single step waits longer for the file system.
const STEP_WITHIN: Duration = Duration::from_secs(20);
/// How much of a body is written at once.
const PIECE_BYTES: u64 = 1 << 20;
/// What the name of a file begins with that is being written; such names are nobody else's, and are not listed.
const TEMPORARY: &str = ".tutti-put-";

/// Says of a path and a modification time in ns since 1970 whether that file was deleted, and only is not removed yet.
pub type Gone = Arc<dyn Fn(&str, i128) -> bool + Send + Sync>;

/// Which files of a folder are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShelfQuery {
    /// The folder's name.
    pub folder: String,
    /// Only paths that begin with this.
    pub prefix: String,
    /// Only paths after this one, in the order of their bytes.
    pub after: String,
    /// At most this many, up to [`PAGE_MAX`].
    pub limit: usize,
}

/// One file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShelfFile {
    /// Its path in the folder.
    pub path: String,
    /// Its identity.
    pub stamp: FileStamp,
}

/// A page of files.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShelfPage {
    /// In the order of the bytes of their paths.
    pub files: Vec<ShelfFile>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// What became of a file that was to be removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removed {
    /// It is removed.
    Yes,
    /// There was none.
    NotThere,
    /// It was changed after the moment that was named, and stays.
    Newer,
}

/// The folders where they may be changed.
pub struct Shelf {
    folders: Arc<Folders>,
    slots: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    counts: Counts,
    temporary: AtomicU64,
    /// By folder: whoever replaces or removes a file holds it, so that no removal takes a file that came meanwhile.
    turns: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl Shelf {
    pub(crate) fn new(folders: Arc<Folders>, clock: Arc<dyn Clock>, metrics: &Metrics) -> Self {
        Self {
            folders,
            slots: Arc::new(Semaphore::new(WORKS_AT_ONCE)),
            counts: Counts::register(metrics),
            temporary: AtomicU64::new(clock.wall().0 << 16),
            clock,
            turns: Mutex::default(),
        }
    }

    /// The names of this node's folders; the unnamed one has the empty name.
    pub fn folders(&self) -> Vec<String> {
        self.folders.names()
    }

    /// The files of a folder, without those that `gone` says are deleted. Links to files within the folder are listed,
    /// folders behind links and names that are not UTF-8 are not. Cancel-safe.
    ///
    /// Errors: `NotFound` where there is no such folder, `Unprocessable` over [`LOOKED_MAX`], and those of the file system.
    pub async fn list(&self, query: ShelfQuery, gone: Gone) -> Result<ShelfPage, Problem> {
        let old = Wall(self.clock.wall().0.saturating_sub(walk::LEFT_OVER_AFTER.as_millis() as u64));
        let (folder, prefix) = (query.folder.clone(), query.prefix.clone());
        let work = move |root: PathBuf| walk::list(&root, &query, &gone, old);
        self.told("listed", &folder, &prefix, self.on_thread(&folder, work).await)
    }

    /// Writes `body` as the file `path`, whole or not at all: beside its place first, and on stable storage when this
    /// returns. Folders on the way are made. It is dated `dated()`, which is asked once the body has arrived, and later
    /// than the file that it replaces. A dropped write leaves nothing.
    ///
    /// Errors: `NotFound` where there is no such folder; `Unprocessable` over `bytes_max`; `Conflict` where the name is a
    /// folder's; `Forbidden` where this user may not write; `Unavailable` without room; `BadRequest` for a broken body.
    pub async fn put(
        &self,
        folder: &str,
        path: &str,
        body: Body,
        bytes_max: u64,
        dated: impl FnOnce() -> Wall + Send,
    ) -> Result<ShelfFile, Problem> {
        let put = self.put_file(folder, path, body, bytes_max, dated).await;
        self.told("written", folder, path, put.map(|stamp| ShelfFile { path: path.to_owned(), stamp }))
    }

    /// Removes the file `path` if it was last changed at `at` or before, compared in ms. Of a link, the link.
    ///
    /// Errors: `NotFound` where there is no such folder, and those of the file system. A dropped removal may still happen.
    pub async fn remove(&self, folder: &str, path: &str, at: Wall) -> Result<Removed, Problem> {
        let (turn, name) = (self.turn(folder), path.to_owned());
        let removed = match well_formed(path) {
            true => self.on_thread(folder, move |root| place::remove(&root, &name, at, &turn)).await,
            false => Err(ShelfError::Path),
        };
        self.told("removed", folder, path, removed)
    }

    /// As [`Self::remove`], by itself: what becomes of it is counted and logged. Must be called inside a runtime.
    pub fn remove_older(self: &Arc<Self>, folder: &str, path: &str, at: Wall) {
        if self.folders.root(folder).is_none() {
            return;
        }
        let (shelf, folder, path) = (Arc::clone(self), folder.to_owned(), path.to_owned());
        tokio::spawn(async move {
            if let Err(problem) = shelf.remove(&folder, &path, at).await {
                let detail = problem.detail;
                tracing::error!(folder, path, %detail, "a deleted original is hidden, and could not be removed");
            }
        });
    }

    async fn put_file(
        &self,
        folder: &str,
        path: &str,
        body: Body,
        bytes_max: u64,
        dated: impl FnOnce() -> Wall + Send,
    ) -> Result<FileStamp, ShelfError> {
        if !well_formed(path) || path.split('/').any(|part| part.starts_with(TEMPORARY)) {
            return Err(ShelfError::Path);
        }
        if body.len().is_some_and(|len| len > bytes_max) {
            return Err(ShelfError::TooLong(bytes_max));
        }
        let temporary = format!("{TEMPORARY}{:x}", self.temporary.fetch_add(1, Ordering::Relaxed));
        let name = path.to_owned();
        let draft = self.on_thread(folder, move |root| Draft::begin(&root, &name, temporary)).await?;
        let draft = self.fill(folder, draft, body, bytes_max).await?;
        let (turn, dated) = (self.turn(folder), dated());
        self.on_thread(folder, move |_| draft.place(dated, &turn)).await
    }

    /// Writes what arrives. The draft goes along to each step, so that a dropped one is taken away off this thread.
    async fn fill(
        &self,
        folder: &str,
        mut draft: Draft,
        body: Body,
        bytes_max: u64,
    ) -> Result<Draft, ShelfError> {
        match body {
            Body::Whole(bytes) => self.write(folder, draft, bytes).await,
            Body::File(file) => {
                let mut at = 0;
                while at < file.len {
                    let (from, count) = (file.clone(), (file.len - at).min(PIECE_BYTES));
                    let copy = move |_| draft.copy(&from, at, count);
                    draft = self.on_thread(folder, copy).await?;
                    at += count;
                }
                Ok(draft)
            }
            Body::Stream(mut stream) => {
                let mut len = 0u64;
                while let Some(piece) = stream.chunks.next().await {
                    let piece = piece.map_err(ShelfError::Body)?;
                    len += piece.len() as u64;
                    if len > bytes_max {
                        return Err(ShelfError::TooLong(bytes_max));
                    }
                    draft = self.write(folder, draft, piece).await?;
                }
                if stream.len.is_some_and(|announced| announced != len) {
                    return Err(ShelfError::Body(tutti_base::BodyError::Broken(format!(
                        "after {len} bytes"
                    ))));
                }
                Ok(draft)
            }
        }
    }

    async fn write(&self, folder: &str, draft: Draft, piece: Bytes) -> Result<Draft, ShelfError> {
        self.on_thread(folder, move |_| draft.write(&piece)).await
    }

    /// Does `work` with the folder's root on a thread of its own, within [`WORKS_AT_ONCE`] and [`STEP_WITHIN`].
    async fn on_thread<T: Send + 'static>(
        &self,
        folder: &str,
        work: impl FnOnce(PathBuf) -> Result<T, ShelfError> + Send + 'static,
    ) -> Result<T, ShelfError> {
        let root = self.folders.root(folder).ok_or(ShelfError::NoFolder)?;
        let slots = Arc::clone(&self.slots);
        let done = async move {
            let slot = slots.acquire_owned().await.expect("this semaphore is never closed");
            let done = tokio::task::spawn_blocking(move || {
                let done = work(root);
                drop(slot);
                done
            });
            done.await.map_err(|error| ShelfError::Thread(error.to_string()))?
        };
        let until = self.clock.now() + STEP_WITHIN;
        wait::until(&*self.clock, until, done).await.unwrap_or(Err(ShelfError::Slow))
    }

    fn turn(&self, folder: &str) -> Arc<Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if self.folders.root(folder).is_none() {
            return Arc::default();
        }
        Arc::clone(turns.entry(folder.to_owned()).or_default())
    }

    /// Counts what was done, and says of a failure what people can do about it.
    fn told<T>(
        &self,
        what: &'static str,
        folder: &str,
        path: &str,
        done: Result<T, ShelfError>,
    ) -> Result<T, Problem> {
        match done {
            Ok(done) => {
                self.counts.done(what);
                Ok(done)
            }
            Err(error) => {
                self.counts.failed(error.word());
                let root = self.folders.root(folder).unwrap_or_default();
                Err(error.problem(folder, path, &root, &self.folders.names()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
