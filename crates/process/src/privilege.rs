//! Giving up root: the server keeps a user of its own and a few capabilities. Runs once, before any thread is started.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

pub use rustix::thread::CapabilitySet;
use rustix::thread::{CapabilitySets, Gid, Uid};

use crate::sandbox::holds;

/// What the server needs once it is no longer root: reading folders beneath their root, low ports, and starting and
/// killing engines that are other users.
pub const SERVER_KEEPS: CapabilitySet = CapabilitySet::DAC_READ_SEARCH
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::KILL);

/// What an engine inherits to become a user of its own; it drops both before its first job.
const PASSED_ON: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);

/// Why root could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Capabilities belong to threads; it is too late.
    #[error(
        "cannot give up root: {threads} threads run already, and it must be done before the second starts"
    )]
    Threads {
        /// How many run.
        threads: usize,
    },
    /// A folder cannot be handed over or read.
    #[error("uid {uid} cannot use the folder {}: {reason}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The user that the server runs as.
        uid: u32,
        /// Why.
        reason: String,
    },
    /// The kernel refused a step.
    #[error("cannot give up root: {step}: {reason}")]
    Step {
        /// The step.
        step: &'static str,
        /// What the kernel said.
        reason: io::Error,
    },
}

/// Whether this process runs as root, and should give that up.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether engines can be given users of their own ([`crate::Identity::Own`]).
pub fn may_change_user() -> bool {
    let held = holds(CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::KILL));
    held && (is_root() || passes_on())
}

fn passes_on() -> bool {
    PASSED_ON.iter().all(|one| rustix::thread::capability_is_in_ambient_set(one).unwrap_or(false))
}

/// Becomes `uid`:`gid` for good, keeping what it has of `keep`; the folders `own` and all in them belong to it
/// afterwards. Returns what was kept. Must run while the process has one thread.
///
/// A folder that is someone else's already is refused: whoever owned it could have put links to foreign files there.
pub fn drop_to(
    uid: u32,
    gid: u32,
    keep: CapabilitySet,
    own: &[&Path],
) -> Result<CapabilitySet, PrivilegeError> {
    let threads = fs::read_dir("/proc/self/task").map_err(step("counting threads"))?.count();
    if threads != 1 {
        return Err(PrivilegeError::Threads { threads });
    }
    for folder in own {
        hand_over(folder, uid, gid)?;
    }
    change_user(uid, gid)?;
    keep_only(keep)
}

/// Whether the folder can be listed by the user that this process is now; the error names folder and uid.
pub fn must_read(folder: &Path) -> Result<(), PrivilegeError> {
    let uid = rustix::process::geteuid().as_raw();
    fs::read_dir(folder).map(drop).map_err(|error| refused(folder, uid, &error))
}

fn change_user(uid: u32, gid: u32) -> Result<(), PrivilegeError> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_keep_capabilities(true).map_err(step("keeping capabilities"))?;
    rustix::thread::set_thread_groups(&[]).map_err(step("dropping groups"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(step("changing the group"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(step("changing the user"))?;
    rustix::thread::set_keep_capabilities(false).map_err(step("keeping capabilities"))
}

fn keep_only(keep: CapabilitySet) -> Result<CapabilitySet, PrivilegeError> {
    let had = rustix::thread::capabilities(None).map_err(step("reading capabilities"))?.permitted;
    let kept = had & keep;
    for gone in had.difference(kept).iter() {
        // Without CAP_SETPCAP the bounding set stays; no_new_privs below makes it harmless.
        let _ = rustix::thread::remove_capability_from_bounding_set(gone);
    }
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept & PASSED_ON };
    rustix::thread::set_capabilities(None, sets).map_err(step("dropping capabilities"))?;
    for one in (kept & PASSED_ON).iter() {
        rustix::thread::configure_capability_in_ambient_set(one, true)
            .map_err(step("passing on to engines"))?;
    }
    rustix::thread::set_no_new_privs(true).map_err(step("no_new_privs"))?;
    Ok(kept)
}

fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> PrivilegeError {
    move |reason| PrivilegeError::Step { step, reason: reason.into() }
}

fn refused(folder: &Path, uid: u32, reason: &dyn std::fmt::Display) -> PrivilegeError {
    PrivilegeError::Folder { folder: folder.into(), uid, reason: reason.to_string() }
}

fn hand_over(folder: &Path, uid: u32, gid: u32) -> Result<(), PrivilegeError> {
    let refuse = |reason: &dyn std::fmt::Display| refused(folder, uid, reason);
    let true_path = fs::canonicalize(folder).map_err(|error| refuse(&error))?;
    if true_path.parent().is_none() {
        return Err(refuse(&"it is the root of the file system"));
    }
    let meta = fs::metadata(&true_path).map_err(|error| refuse(&error))?;
    if meta.uid() == uid {
        return Ok(());
    }
    if meta.uid() != 0 {
        return Err(refuse(&format_args!(
            "it belongs to uid {}; give it to root or to uid {uid} first",
            meta.uid()
        )));
    }
    if meta.mode() & 0o022 != 0 && !is_empty(&true_path) {
        return Err(refuse(&"others may write to it, and it is not empty; chmod go-w it first"));
    }
    give_tree(&true_path, uid, gid).map_err(|error| refuse(&error))
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Gives `folder` and all beneath it away, the folder last, so that a broken-off attempt is repeated at the next start.
/// Links are given, never followed; what is mounted beneath is left alone.
fn give_tree(folder: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let device = fs::symlink_metadata(folder)?.dev();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.dev() != device {
            continue;
        }
        if meta.is_dir() {
            give_tree(&entry.path(), uid, gid)?;
        } else {
            lchown(entry.path(), Some(uid), Some(gid))?;
        }
    }
    lchown(folder, Some(uid), Some(gid))
}
