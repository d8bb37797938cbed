//! One node's own folder in memory: what the journey may list, write and remove there.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tutti_base::{Body, BoxFuture, ContentHash, Kind, Problem, Wall};
use tutti_fetch::{FileStamp, FolderFile, Gone, Removed, ShelfFile, ShelfPage, ShelfQuery};
use tutti_flow::{Dated, Shelf};

use crate::world::file_of;

/// Nanoseconds of a millisecond.
const MS: i128 = 1_000_000;

/// The unnamed folder, once it is held.
#[derive(Default)]
pub(crate) struct TestShelf {
    held: AtomicBool,
    /// By path: the bytes, and when they were last changed, in ms.
    files: Mutex<BTreeMap<String, (Bytes, u64)>>,
    /// Nothing can be removed while this is set.
    pub(crate) is_stuck: AtomicBool,
    /// Writing takes this long.
    pub(crate) takes: Mutex<Duration>,
}

impl TestShelf {
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }
    pub(crate) fn is_open(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }
    /// Puts a file there by hand.
    pub(crate) fn lay(&self, path: &str, text: &str, modified: Wall) {
        let bytes = Bytes::from(text.to_owned());
        self.files.lock().unwrap().insert(path.into(), (bytes, modified.0));
    }
    /// What is there, deleted or not.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.lock().unwrap().contains_key(path)
    }
    pub(crate) fn open(&self, path: &str) -> Option<FolderFile> {
        let (bytes, modified) = self.files.lock().unwrap().get(path).cloned()?;
        Some(FolderFile { file: file_of(&bytes).file, stamp: stamp(&bytes, modified) })
    }
    fn take(&self, path: &str, at: Wall) -> Removed {
        let mut files = self.files.lock().unwrap();
        match files.get(path) {
            None => Removed::NotThere,
            Some((_, modified)) if *modified > at.0 => Removed::Newer,
            Some(_) => {
                files.remove(path);
                Removed::Yes
            }
        }
    }
}

fn stamp(bytes: &Bytes, modified: u64) -> FileStamp {
    FileStamp {
        device: 0,
        inode: ContentHash::of(bytes).prefix(),
        len: bytes.len() as u64,
        modified_ns: i128::from(modified) * MS,
        changed_ns: 0,
    }
}

impl Shelf for TestShelf {
    fn folders(&self) -> Vec<String> {
        if self.is_open() { vec![String::new()] } else { Vec::new() }
    }
    fn list(&self, query: ShelfQuery, gone: Gone) -> BoxFuture<'_, Result<ShelfPage, Problem>> {
        let all = self.files.lock().unwrap().clone();
        let file = |(path, (bytes, modified)): (String, (Bytes, u64))| ShelfFile {
            path,
            stamp: stamp(&bytes, modified),
        };
        let wanted = |file: &ShelfFile| {
            let is_on_page = file.path.starts_with(&query.prefix) && file.path > query.after;
            is_on_page && !gone(&file.path, file.stamp.modified_ns)
        };
        let mut files: Vec<ShelfFile> = all.into_iter().map(file).filter(wanted).collect();
        let more = files.len() > query.limit;
        files.truncate(query.limit);
        Box::pin(async move { Ok(ShelfPage { files, more }) })
    }
    fn put<'a>(
        &'a self,
        _folder: &'a str,
        path: &'a str,
        body: Body,
        bytes_max: u64,
        dated: Dated,
    ) -> BoxFuture<'a, Result<ShelfFile, Problem>> {
        Box::pin(async move {
            let takes = *self.takes.lock().unwrap();
            tokio::time::sleep(takes).await;
            let bytes = match body {
                Body::Whole(bytes) => bytes,
                Body::Stream(mut stream) => stream.chunks.next().await.expect("a piece").expect("whole"),
                Body::File(_) => panic!("no files here"),
            };
            if bytes.len() as u64 > bytes_max {
                return Err(Problem::new(Kind::Unprocessable, "too long"));
            }
            let mut files = self.files.lock().unwrap();
            let before = files.get(path).map_or(0, |(_, modified)| modified + 1);
            let modified = dated().0.max(before);
            let file = ShelfFile { path: path.into(), stamp: stamp(&bytes, modified) };
            files.insert(path.into(), (bytes, modified));
            Ok(file)
        })
    }
    fn remove<'a>(&'a self, _: &'a str, path: &'a str, at: Wall) -> BoxFuture<'a, Result<Removed, Problem>> {
        Box::pin(async move {
            if self.is_stuck.load(Ordering::SeqCst) {
                return Err(Problem::new(Kind::Forbidden, "the folder is read-only"));
            }
            Ok(self.take(path, at))
        })
    }
    fn remove_older(&self, _folder: &str, path: &str, at: Wall) {
        if !self.is_stuck.load(Ordering::SeqCst) {
            self.take(path, at);
        }
    }
}
