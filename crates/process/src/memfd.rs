//! Bytes as a descriptor: anonymous files, sealed against change or of a fixed size. Never on a disk.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

/// An anonymous file holding what `from` gives, sealed for ever and reopened read-only, and its length in bytes.
///
/// Blocks as long as `from` does; reads no further than `limit` bytes and fails with `FileTooLarge` when there is more.
pub fn sealed(from: impl Read, limit: u64) -> io::Result<(File, u64)> {
    let mut file = File::from(memfd("tutti-input")?);
    let len = io::copy(&mut from.take(limit.saturating_add(1)), &mut file)?;
    if len > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
    }
    seal(file).map(|file| (file, len))
}

/// An anonymous file holding `bytes`, sealed for ever and reopened read-only.
pub fn sealed_bytes(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd("tutti-input")?);
    file.write_all(bytes)?;
    seal(file)
}

/// A writable anonymous file of exactly `len` bytes that can neither grow nor shrink. It takes memory only where it is
/// written.
pub(crate) fn arena(len: u64) -> io::Result<OwnedFd> {
    let fd = memfd("tutti-arena")?;
    rustix::fs::ftruncate(&fd, len)?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(fd)
}

fn memfd(name: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?)
}

fn seal(file: File) -> io::Result<File> {
    let all = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, all)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_sealed_file_reads_back_and_takes_no_change_by_any_descriptor() {
        let (file, len) = sealed(&b"original"[..], 8).unwrap();
        let mut back = [0; 8];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!((&back, len), (b"original", 8));
        assert!(file.write_at(b"x", 0).is_err(), "through the read-only descriptor");
        let again = File::options().write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd()));
        assert!(
            again.is_err() || again.unwrap().write_at(b"x", 0).is_err(),
            "through one opened for writing"
        );
        assert!(rustix::fs::ftruncate(&file, 3).is_err(), "by cutting it");
    }

    #[test]
    fn a_reader_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
        assert_eq!(sealed(&[1; 10][..], 10).unwrap().1, 10);
        assert_eq!(sealed(&[1; 11][..], 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn an_arena_keeps_its_size() {
        let arena = File::from(arena(4096).unwrap());
        assert!(arena.write_at(b"x", 4096).is_err());
        assert!(arena.set_len(1).is_err());
        assert!(arena.write_at(b"x", 4095).is_ok());
    }
}
