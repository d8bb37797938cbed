//! One file of a folder: written beside its place and moved there, or taken away. Never outside of its root, as for reading.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use tutti_base::{FileBody, Wall};

use super::Removed;
use super::error::ShelfError;
use crate::FileStamp;
use crate::folders::{OpenError, open_at, open_file, open_root, stamp};

/// Nanoseconds of a millisecond.
const MS: i128 = 1_000_000;
/// The coarsest times that file systems keep (FAT), in seconds.
const COARSEST_S: i64 = 2;

/// A file that is being written. Taken away when it is dropped before it is placed.
pub(super) struct Draft {
    root: OwnedFd,
    path: String,
    /// Taken once there is nothing to take away any more.
    folder: Option<OwnedFd>,
    temporary: String,
    file: File,
    len: u64,
}

impl Draft {
    /// Begins to write `path` beneath `root` under a name of its own; makes the folders on the way.
    pub(super) fn begin(root: &Path, path: &str, temporary: String) -> Result<Self, ShelfError> {
        let root = open_root(root)?;
        check_name(&root, path)?;
        let folder = folder_of(&root, path, Missing::Make)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let file = File::from(rustix::fs::openat(&folder, temporary.as_str(), flags, mode)?);
        Ok(Self { root, path: path.to_owned(), folder: Some(folder), temporary, file, len: 0 })
    }

    /// Writes the next piece.
    pub(super) fn write(mut self, piece: &[u8]) -> Result<Self, ShelfError> {
        self.file.write_all_at(piece, self.len)?;
        self.len += piece.len() as u64;
        Ok(self)
    }

    /// Writes `count` bytes of `from`, from `at` on.
    pub(super) fn copy(self, from: &FileBody, at: u64, count: u64) -> Result<Self, ShelfError> {
        let mut piece = vec![0; count as usize];
        from.file.read_exact_at(&mut piece, from.offset + at)?;
        self.write(&piece)
    }

    /// Puts it in its place, dated `dated` or later: later than the file that it replaces. On stable storage when this
    /// returns.
    pub(super) fn place(mut self, dated: Wall, turn: &Mutex<()>) -> Result<FileStamp, ShelfError> {
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        check_name(&self.root, &self.path)?;
        let before = open_file(&self.root, &self.path).ok();
        let later = before.map_or(0, |before| (before.stamp.modified_ns.div_euclid(MS) + 1) * MS);
        date(&self.file, later.max(i128::from(dated.0) * MS))?;
        self.file.sync_all()?;
        let (_, name) = split(&self.path);
        let folder = self.folder.take().expect("it is taken here and when dropped alone");
        if let Err(errno) = rustix::fs::renameat(&folder, self.temporary.as_str(), &folder, name) {
            self.folder = Some(folder);
            return Err(errno.into());
        }
        rustix::fs::fsync(&folder)?;
        Ok(stamp(&rustix::fs::fstat(&self.file)?))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let Some(folder) = self.folder.take() else { return };
        let temporary = std::mem::take(&mut self.temporary);
        let discard = move || {
            if let Err(error) = rustix::fs::unlinkat(&folder, temporary.as_str(), AtFlags::empty()) {
                tracing::warn!(temporary, %error, "a file that was not written to its end could not be removed");
            }
        };
        // Whoever drops it may be a thread that must not wait for a file system.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(discard)),
            Err(_) => discard(),
        }
    }
}

/// Removes `path` if it was last changed at `at` or before.
pub(super) fn remove(root: &Path, path: &str, at: Wall, turn: &Mutex<()>) -> Result<Removed, ShelfError> {
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    let root = open_root(root)?;
    let found = match open_file(&root, path) {
        Ok(found) => found,
        // What cannot be served from here, like a folder or a link that leads out, is no original.
        Err(OpenError::Irregular(_)) => return Ok(Removed::NotThere),
        Err(OpenError::File(
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::XDEV | Errno::LOOP,
        )) => {
            return Ok(Removed::NotThere);
        }
        Err(error) => return Err(error.into()),
    };
    if found.stamp.modified_ns.div_euclid(MS) > i128::from(at.0) {
        return Ok(Removed::Newer);
    }
    let folder = folder_of(&root, path, Missing::Fail)?;
    let (_, name) = split(path);
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(Removed::NotThere),
        Err(errno) => return Err(errno.into()),
    }
    rustix::fs::fsync(&folder)?;
    Ok(Removed::Yes)
}

/// Whether a file may stand at `path`: nothing else does, not even behind a link.
fn check_name(root: &OwnedFd, path: &str) -> Result<(), ShelfError> {
    match open_file(root, path) {
        Err(OpenError::Irregular(what)) => Err(ShelfError::Taken(what)),
        _ => Ok(()),
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or((".", path))
}

/// What is done about folders on the way that are missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Fail,
}

/// The folder in which `path` lies, open, and beneath `root` whatever links say.
fn folder_of(root: &OwnedFd, path: &str, missing: Missing) -> Result<OwnedFd, ShelfError> {
    let (way, _) = split(path);
    match open_at(root, way, OFlags::DIRECTORY) {
        Err(Errno::NOENT) if missing == Missing::Make => make(root, way),
        opened => Ok(opened?),
    }
}

/// Makes what is missing of `way`, and opens it.
fn make(root: &OwnedFd, way: &str) -> Result<OwnedFd, ShelfError> {
    let mut folder = open_at(root, ".", OFlags::DIRECTORY)?;
    let ends = way.match_indices('/').map(|(at, _)| at).chain([way.len()]);
    let mut begin = 0;
    for end in ends {
        let (upto, name) = (&way[..end], &way[begin..end]);
        folder = match open_at(root, upto, OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) => rustix::fs::fsync(&folder)?,
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
                open_at(root, upto, OFlags::DIRECTORY)?
            }
            opened => opened?,
        };
        begin = end + 1;
    }
    Ok(folder)
}

/// Dates `file`; later where its file system keeps coarser times and would make it earlier.
fn date(file: &File, modified_ns: i128) -> Result<(), ShelfError> {
    let second = 1_000_000_000;
    let at = |tv_sec: i64, tv_nsec: i64| Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec, tv_nsec },
    };
    let secs = i64::try_from(modified_ns.div_euclid(second)).unwrap_or(i64::MAX);
    rustix::fs::futimens(file, &at(secs, modified_ns.rem_euclid(second) as i64))?;
    if stamp(&rustix::fs::fstat(file)?).modified_ns < modified_ns {
        let up = secs.saturating_add(COARSEST_S) / COARSEST_S * COARSEST_S;
        rustix::fs::futimens(file, &at(up, 0))?;
    }
    Ok(())
}
