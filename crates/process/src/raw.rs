//! The few calls that no safe wrapper has, each with the reason why it is sound. Decides nothing.
#![expect(
    unsafe_code,
    reason = "file descriptors by number, memory maps and allocator settings of an engine process"
)]

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::UnshareFlags;
use tokio::io::unix::AsyncFd;

/// Puts `fd` at the number `at`, closing what was there, and owns it there. It is closed on exec.
///
/// Only for a process that is about to become an engine: whoever owned `at` before is robbed of it.
pub(crate) fn place(fd: impl AsFd, at: c_int) -> io::Result<OwnedFd> {
    // SAFETY: dup3 takes numbers, not memory. In a process that becomes an engine nobody uses the old owner of `at`.
    let placed = unsafe { libc::dup3(fd.as_fd().as_raw_fd(), at, libc::O_CLOEXEC) };
    if placed != at {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: dup3 has just opened this number for us.
    Ok(unsafe { OwnedFd::from_raw_fd(placed) })
}

/// The descriptor that [`place`] has put at `at`, for whoever cannot be handed its owner.
pub(crate) fn borrowed(at: c_int) -> BorrowedFd<'static> {
    // SAFETY: an engine never closes what it has placed: its station owns it until the process ends.
    unsafe { BorrowedFd::borrow_raw(at) }
}

/// `fd`, watched by the runtime that this is called in.
pub(crate) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, always gives the same number, and is closed only by the AsyncFd that owns it now.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Closes every descriptor from `first` on. Only for a process that is about to become an engine.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range takes numbers; their owners are never used again in a process that becomes an engine.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Leaves the network and IPC namespaces for new, empty ones.
pub(crate) fn leave_network() -> io::Result<()> {
    // SAFETY: neither flag changes memory, descriptors or the file system view of this process.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWIPC) }?)
}

/// Lets the allocator keep up to `keep_bytes` between jobs: touching fresh pages costs more than most small jobs.
pub(crate) fn keep_memory(keep_bytes: c_int) {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets parameters of the allocator, and this process has one thread.
    unsafe {
        const MMAP_THRESHOLD_MAX: c_int = 32 * 1024 * 1024;
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, keep_bytes);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = keep_bytes;
}

/// Ends this process at once, without running anything else of it.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: it never returns, so nothing can be seen in a broken state.
    unsafe { libc::_exit(code) }
}

/// A file's first bytes, mapped read-only and private.
pub(crate) struct Mapping {
    start: *mut std::ffi::c_void,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes of `file`. Reading past the file's true end kills the process, so check the length before.
    pub(crate) fn of(file: &File, len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self { start: std::ptr::null_mut(), len: 0 });
        }
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: the kernel chooses a free address; the mapping lives until `drop` and is never written.
        let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, ProtFlags::READ, flags, file, 0) }?;
        Ok(Self { start, len })
    }

    /// The bytes. Their file is immutable by contract; if someone changed it none the less, this process computes
    /// nonsense, and it is one that may.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: `start` is a mapping of `len` readable bytes that lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: it is our own mapping, and no slice of it outlives `self`. It can only fail on a wrong range.
            let _ = unsafe { rustix::mm::munmap(self.start, self.len) };
        }
    }
}
