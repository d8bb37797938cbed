//! The disk seam of what must survive: files that are read and written by position and synced on demand.

use std::io;

/// A folder of named files; the lab's version forgets what was not synced.
pub trait Disk: Send + Sync {
    /// Opens or makes the file `name` (no separators in it).
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
}

/// One file, read and written by position.
pub trait DiskFile: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `into` from `offset`; an error when the file ends before.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts or extends it (with zeros).
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns once everything written is on stable storage.
    fn sync(&self) -> io::Result<()>;
}
