//! The disk of a real machine: files of mode 0600 in one folder, each opened by one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tutti_base::disk::{Disk, DiskFile};

const PRIVATE: u32 = 0o600;

/// A folder on this machine.
#[derive(Clone, Debug)]
pub struct RealDisk {
    folder: PathBuf,
}

impl RealDisk {
    /// The folder `folder`, which must exist.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

impl Disk for RealDisk {
    /// Refuses a name with a separator, a file that others may read, and a file that another handle has open.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{name}` is no name of a file"),
            ));
        }
        let path = self.folder.join(name);
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(&path)
            .map_err(|error| named(&path, error))?;
        check_private(&path, &file)?;
        lock(&path, &file)?;
        if is_new {
            // Without this the file's name itself may not survive a power cut.
            File::open(&self.folder)?.sync_all()?;
        }
        Ok(Box::new(RealFile(file)))
    }
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn check_private(path: &Path, file: &File) -> io::Result<()> {
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let text = format!("{} is open to other users (mode {mode:o}); run `chmod 600` on it", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

fn lock(path: &Path, file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let text =
                format!("{} is in use by another server; stop it, or use another --data", path.display());
            Err(io::Error::new(io::ErrorKind::WouldBlock, text))
        }
        Err(TryLockError::Error(error)) => Err(named(path, error)),
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, offset)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// Makes `folder` and its parents, private to this user where they are new.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| named(folder, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_and_opened_once() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::at(folder.path());
        let file = disk.open("a").unwrap();
        file.write_at(2, b"xy").unwrap();
        file.sync().unwrap();
        let mut read = [9; 4];
        file.read_at(0, &mut read).unwrap();
        assert_eq!(&read, b"\0\0xy");
        let mode = fs::metadata(folder.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let refused = disk.open("a").err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock, "{refused}");
        drop(file);
        disk.open("a").unwrap();
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b"), b"").unwrap();
        fs::set_permissions(folder.path().join("b"), fs::Permissions::from_mode(0o644)).unwrap();
        let refused = RealDisk::at(folder.path()).open("b").err().unwrap();
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
        assert!(RealDisk::at(folder.path()).open("../b").is_err());
    }
}
