//! Bytes as files named by their hash. A file under its final name was whole when it was named; whether it still is, is
//! checked when it is opened. Knows nothing of the index.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tutti_base::ContentHash;
use tutti_base::id::ContentHasher;

use super::faults::{Faults, FileOp};

/// Bytes read at once when a large file is checked.
const CHECK_CHUNK: usize = 256 * 1024;
/// What a probe writes: enough that a full volume refuses it.
const PROBE_LEN: usize = 4096;
/// Blobs are spread over as many folders, by the first byte of their hash.
pub(crate) const FOLDERS: u16 = 256;

/// The blob files of one cache: `blobs/ab/cdef…`, and `incoming/` for those that are being written.
#[derive(Clone)]
pub(crate) struct Blobs {
    root: PathBuf,
    faults: Arc<dyn Faults>,
    next: Arc<AtomicU64>,
}

/// A file that is being written; dropped before it is placed, it is removed.
pub(crate) struct Incoming {
    path: PathBuf,
    file: File,
    faults: Arc<dyn Faults>,
    placed: AtomicBool,
}

/// Why a blob cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    /// It is not there.
    #[error("the file is missing")]
    Missing,
    /// It is not what was written.
    #[error("the file does not match its length or hash")]
    Damaged,
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Blobs {
    /// The blobs below `root`; nothing is touched before [`Blobs::prepare`].
    pub(crate) fn new(root: &Path, faults: Arc<dyn Faults>) -> Self {
        Self { root: root.to_owned(), faults, next: Arc::default() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the folders.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        self.make_folder(&self.root.join("incoming"))?;
        self.make_folder(&self.root.join("blobs"))
    }

    /// Removes what an earlier process left unfinished. Only for the owner of the index.
    pub(crate) fn sweep_unfinished(&self) -> io::Result<()> {
        self.faults.before(FileOp::List)?;
        for found in fs::read_dir(self.root.join("incoming"))? {
            self.faults.before(FileOp::Remove)?;
            gone_is_fine(fs::remove_file(found?.path()))?;
        }
        for found in fs::read_dir(&self.root)? {
            let found = found?;
            if found.file_name().to_string_lossy().starts_with("trash-") {
                fs::remove_dir_all(found.path())?;
            }
        }
        Ok(())
    }

    /// Begins a file.
    pub(crate) fn incoming(&self) -> io::Result<Incoming> {
        self.faults.before(FileOp::Create)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join("incoming").join(format!("{}-{number}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Incoming { path, file, faults: self.faults.clone(), placed: AtomicBool::new(false) })
    }

    /// Writes `bytes` as the blob `hash`.
    pub(crate) fn write(&self, hash: &ContentHash, bytes: &[u8]) -> io::Result<()> {
        let incoming = self.incoming()?;
        incoming.write_at(bytes, 0)?;
        self.place(&incoming, hash)
    }

    /// Names a finished file: from here on it is found. Placing a hash that is there replaces it by the same bytes.
    pub(crate) fn place(&self, incoming: &Incoming, hash: &ContentHash) -> io::Result<()> {
        let path = self.path(hash);
        self.faults.before(FileOp::Rename)?;
        match fs::rename(&incoming.path, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_folder(path.parent().expect("a blob's path ends in its folder and its name"))?;
                fs::rename(&incoming.path, &path)?;
            }
            other => other?,
        }
        incoming.placed.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether a file of this length has the name of `hash`.
    pub(crate) fn is_there(&self, hash: &ContentHash, len: u64) -> bool {
        fs::metadata(self.path(hash)).is_ok_and(|found| found.is_file() && found.len() == len)
    }

    /// Opens a blob for reading and checks its length. The file stays readable after it is removed.
    pub(crate) fn open(&self, hash: &ContentHash, len: u64) -> Result<File, BlobError> {
        self.faults.before(FileOp::Open)?;
        let file = match File::open(self.path(hash)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BlobError::Missing),
            other => other?,
        };
        if file.metadata()?.len() != len {
            return Err(BlobError::Damaged);
        }
        Ok(file)
    }

    /// The bytes of an open blob, checked against its hash.
    pub(crate) fn read(&self, file: &File, hash: &ContentHash, len: u64) -> Result<Bytes, BlobError> {
        self.faults.before(FileOp::Read)?;
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        if ContentHash::of(&bytes) != *hash {
            return Err(BlobError::Damaged);
        }
        Ok(bytes.into())
    }

    /// Reads an open blob through and checks it against its hash.
    pub(crate) fn check(&self, file: &File, hash: &ContentHash, len: u64) -> Result<(), BlobError> {
        let mut hasher = ContentHasher::default();
        let mut chunk = vec![0; CHECK_CHUNK];
        let mut at = 0;
        while at < len {
            self.faults.before(FileOp::Read)?;
            let part = usize::try_from(len - at).map_or(CHECK_CHUNK, |left| left.min(CHECK_CHUNK));
            file.read_exact_at(&mut chunk[..part], at)?;
            hasher.update(&chunk[..part]);
            at += part as u64;
        }
        if hasher.finish() == *hash { Ok(()) } else { Err(BlobError::Damaged) }
    }

    /// Removes a blob; one that is not there is removed already.
    pub(crate) fn remove(&self, hash: &ContentHash) -> io::Result<()> {
        self.faults.before(FileOp::Remove)?;
        gone_is_fine(fs::remove_file(self.path(hash)))
    }

    /// Removes all blobs: at once for whoever looks, their space follows.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.faults.before(FileOp::Remove)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let trash = self.root.join(format!("trash-{}-{number}", std::process::id()));
        fs::rename(self.root.join("blobs"), &trash)?;
        self.prepare()?;
        fs::remove_dir_all(trash)
    }

    /// The hashes in folder `number`; files with other names are removed.
    pub(crate) fn folder(&self, number: u8) -> io::Result<Vec<ContentHash>> {
        self.faults.before(FileOp::List)?;
        let entries = match fs::read_dir(self.root.join("blobs").join(format!("{number:02x}"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            other => other?,
        };
        let mut hashes = vec![];
        for entry in entries {
            let entry = entry?;
            match hash_of_name(number, &entry.file_name().to_string_lossy()) {
                Some(hash) => hashes.push(hash),
                None => gone_is_fine(fs::remove_file(entry.path()))?,
            }
        }
        Ok(hashes)
    }

    /// Whether files can be written here, found out by writing one.
    pub(crate) fn probe(&self) -> io::Result<()> {
        self.prepare()?;
        let incoming = self.incoming()?;
        incoming.write_at(&[0; PROBE_LEN], 0)
    }

    fn path(&self, hash: &ContentHash) -> PathBuf {
        let name = hash.hex();
        let (folder, rest) = name.split_at(2);
        self.root.join("blobs").join(folder).join(rest)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.faults.before(FileOp::MakeFolder)?;
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }
}

impl Incoming {
    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.faults.before(FileOp::Write)?;
        self.file.write_all_at(bytes, offset)
    }

    /// Fills `into` from `offset`.
    pub(crate) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    /// The same file, opened for reading only.
    pub(crate) fn reader(&self) -> io::Result<File> {
        self.faults.before(FileOp::Open)?;
        File::open(&self.path)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.placed.load(Ordering::Acquire) {
            // What cannot be removed now is removed by the sweep of the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn hash_of_name(folder: u8, rest: &str) -> Option<ContentHash> {
    let rest = rest.as_bytes();
    if rest.len() != 62 || rest.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut hash = [folder; 32];
    for (byte, pair) in hash[1..].iter_mut().zip(rest.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(ContentHash::from_bytes(hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::faults::NoFaults;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path(), Arc::new(NoFaults));
        blobs.prepare().unwrap();
        (dir, blobs)
    }

    #[test]
    fn what_was_written_is_read_and_listed_under_its_hash() {
        let (_dir, blobs) = blobs();
        let bytes = b"some bytes";
        let hash = ContentHash::of(bytes);
        blobs.write(&hash, bytes).unwrap();
        let file = blobs.open(&hash, 10).unwrap();
        assert_eq!(blobs.read(&file, &hash, 10).unwrap(), &bytes[..]);
        blobs.check(&file, &hash, 10).unwrap();
        assert_eq!(blobs.folder(hash.as_bytes()[0]).unwrap(), [hash]);
        blobs.remove(&hash).unwrap();
        assert!(matches!(blobs.open(&hash, 10), Err(BlobError::Missing)));
        assert_eq!(blobs.read(&file, &hash, 10).unwrap(), &bytes[..], "an open file outlives its name");
    }

    #[test]
    fn a_short_file_and_a_flipped_bit_are_damage() {
        let (_dir, blobs) = blobs();
        let hash = ContentHash::of(b"whole");
        blobs.write(&hash, b"who").unwrap();
        assert!(matches!(blobs.open(&hash, 5), Err(BlobError::Damaged)));
        blobs.write(&hash, b"whale").unwrap();
        let file = blobs.open(&hash, 5).unwrap();
        assert!(matches!(blobs.read(&file, &hash, 5), Err(BlobError::Damaged)));
        assert!(matches!(blobs.check(&file, &hash, 5), Err(BlobError::Damaged)));
    }

    #[test]
    fn an_unfinished_file_goes_when_it_is_dropped_and_when_its_process_died() {
        let (dir, blobs) = blobs();
        let count = || fs::read_dir(dir.path().join("incoming")).unwrap().count();
        let incoming = blobs.incoming().unwrap();
        incoming.write_at(b"half", 0).unwrap();
        assert_eq!(count(), 1);
        drop(incoming);
        assert_eq!(count(), 0);
        fs::write(dir.path().join("incoming/1-1"), b"left by a process that died").unwrap();
        blobs.sweep_unfinished().unwrap();
        assert_eq!(count(), 0);
    }

    #[test]
    fn clearing_leaves_nothing_and_a_stray_name_is_removed() {
        let (dir, blobs) = blobs();
        let hash = ContentHash::of(b"x");
        blobs.write(&hash, b"x").unwrap();
        let stray = dir.path().join("blobs").join(&hash.hex()[..2]).join("README");
        fs::write(&stray, b"not a blob").unwrap();
        assert_eq!(blobs.folder(hash.as_bytes()[0]).unwrap(), [hash]);
        assert!(!stray.exists());
        blobs.clear().unwrap();
        assert!(!blobs.is_there(&hash, 1));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "incoming and blobs are left");
    }
}
