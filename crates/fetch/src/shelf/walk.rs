//! A page of a folder's files in the order of their paths, in bounded memory however many there are. Changes nothing but
//! to take away what writes that were cut off left over.

use std::collections::BinaryHeap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use tutti_base::Wall;

use super::error::ShelfError;
use super::{Gone, LOOKED_MAX, PAGE_BYTES_MAX, PAGE_MAX, ShelfFile, ShelfPage, ShelfQuery, TEMPORARY};
use crate::FileStamp;
use crate::folders::{open_at, open_file, open_root, stamp};

/// Names of one folder that are held at once; the folder is read again for the next ones.
const NAMES_MAX: usize = 4096;
/// Folders within folders that are walked into.
const DEPTH_MAX: usize = 64;
/// What a write left over this long ago is taken away.
pub(super) const LEFT_OVER_AFTER: Duration = Duration::from_secs(3600);

/// The page that `query` wants of the folder at `root`.
pub(super) fn list(root: &Path, query: &ShelfQuery, gone: &Gone, old: Wall) -> Result<ShelfPage, ShelfError> {
    let root = open_root(root)?;
    let folder = open_at(&root, ".", OFlags::DIRECTORY)?;
    let mut walk = Walk { root: &root, query, gone, old, looked: 0, bytes: 0, page: ShelfPage::default() };
    walk.folder(&folder, "", 0)?;
    Ok(walk.page)
}

struct Walk<'a> {
    root: &'a OwnedFd,
    query: &'a ShelfQuery,
    gone: &'a Gone,
    old: Wall,
    looked: usize,
    bytes: usize,
    page: ShelfPage,
}

impl Walk<'_> {
    /// Walks `folder`, whose files' paths begin with `at`: empty, or with a slash at its end. Entries come in the order of
    /// their names, folders' with a slash behind, and that is the order of whole paths.
    fn folder(&mut self, folder: &OwnedFd, at: &str, depth: usize) -> Result<(), ShelfError> {
        let mut floor = String::new();
        loop {
            let (names, more) = self.names(folder, at, &floor)?;
            for name in &names {
                match name.strip_suffix('/') {
                    Some(within) => self.enter(folder, within, &format!("{at}{name}"), depth)?,
                    None => self.file(folder, name, format!("{at}{name}")),
                }
                if self.page.more {
                    return Ok(());
                }
            }
            match names.into_iter().next_back() {
                Some(last) if more => floor = last,
                _ => return Ok(()),
            }
        }
    }

    /// The first [`NAMES_MAX`] entries after `floor` that may matter, and whether there are more.
    fn names(&mut self, folder: &OwnedFd, at: &str, floor: &str) -> Result<(Vec<String>, bool), ShelfError> {
        let mut first: BinaryHeap<String> = BinaryHeap::new();
        let mut more = false;
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") {
                continue;
            }
            self.looked += 1;
            if self.looked > LOOKED_MAX {
                return Err(ShelfError::TooMany);
            }
            if name.starts_with(TEMPORARY) {
                self.take_away(folder, name);
                continue;
            }
            let mut name = name.to_owned();
            if is_folder(folder, &name, entry.file_type()) {
                name.push('/');
            }
            if name.as_str() > floor && self.may_matter(&format!("{at}{name}")) {
                first.push(name);
                if first.len() > NAMES_MAX {
                    first.pop();
                    more = true;
                }
            }
        }
        Ok((first.into_sorted_vec(), more))
    }

    /// Whether a file of this path, or one in the folder of this path, may belong on the page.
    fn may_matter(&self, path: &str) -> bool {
        let (prefix, after) = (self.query.prefix.as_str(), self.query.after.as_str());
        if path.ends_with('/') {
            let leads_there = path.starts_with(prefix) || prefix.starts_with(path);
            return leads_there && (path > after || after.starts_with(path));
        }
        path.starts_with(prefix) && path > after
    }

    /// Walks into the folder `name`; one that cannot be opened has no files to serve.
    fn enter(&mut self, folder: &OwnedFd, name: &str, at: &str, depth: usize) -> Result<(), ShelfError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if depth == DEPTH_MAX {
            return Ok(());
        }
        match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(within) => self.folder(&within, at, depth + 1),
            Err(_) => Ok(()),
        }
    }

    fn file(&mut self, folder: &OwnedFd, name: &str, path: String) {
        let Some(stamp) = self.stamp(folder, name, &path) else { return };
        if (self.gone)(&path, stamp.modified_ns) {
            return;
        }
        if self.page.files.len() >= self.query.limit.clamp(1, PAGE_MAX) || self.bytes >= PAGE_BYTES_MAX {
            self.page.more = true;
            return;
        }
        self.bytes += path.len();
        self.page.files.push(ShelfFile { path, stamp });
    }

    /// How a regular file is, or one behind a link within the root.
    fn stamp(&self, folder: &OwnedFd, name: &str, path: &str) -> Option<FileStamp> {
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Some(stamp(&stat)),
            FileType::Symlink => open_file(self.root, path).ok().map(|file| file.stamp),
            _ => None,
        }
    }

    /// Takes away what a write left over, unless it may be under way.
    fn take_away(&self, folder: &OwnedFd, name: &str) {
        let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
        if stamp(&stat).changed_ns < i128::from(self.old.0) * 1_000_000 {
            let gone = rustix::fs::unlinkat(folder, name, AtFlags::empty());
            tracing::info!(name, is_gone = gone.is_ok(), "a file that was not written to its end");
        }
    }
}

fn is_folder(folder: &OwnedFd, name: &str, said: FileType) -> bool {
    match said {
        FileType::Unknown => rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        said => said == FileType::Directory,
    }
}
