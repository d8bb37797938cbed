//! How an engine locks itself in before it sees a byte that it was sent. Each layer holds if the others fail.

mod filter;

use std::io;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use serde::{Deserialize, Serialize};

use crate::engine::{EngineLimits, Identity};
use crate::frame::INPUTS_MAX;
use crate::raw;

/// How likely the kernel is to choose an engine when memory runs out (-1000 to 1000): before the server.
const OOM_SCORE: &str = "500";

/// How an engine is to lock itself in: the server's first message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The server's process id; an engine that has another parent has lost its server already, and ends.
    pub parent: u32,
    /// Its limits.
    pub limits: EngineLimits,
    /// As whom it runs.
    pub identity: Identity,
    /// Added to the server's niceness.
    pub nice: u8,
}

/// How far a layer that the kernel may have in part is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer {
    /// All that we ask for.
    Full,
    /// What this kernel knows of it.
    Partial,
    /// The kernel does not have it.
    Absent,
}

/// Which layers hold an engine, as it reported them itself; for `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxReport {
    /// The system call filter: anything but computing and answering kills the engine.
    pub seccomp: Layer,
    /// No file, no TCP, no abstract socket and no signal to anyone else.
    pub landlock: Layer,
    /// Whether it has a network namespace of its own, with nothing in it. Only where CAP_SYS_ADMIN was held.
    pub netns: bool,
    /// As which user it runs.
    pub uid: u32,
    /// Whether that user is its own and not the server's.
    pub own_uid: bool,
    /// Its niceness.
    pub nice: i32,
}

impl SandboxReport {
    /// Before the engine has said anything.
    pub(crate) fn unknown() -> Self {
        Self {
            seccomp: Layer::Absent,
            landlock: Layer::Absent,
            netns: false,
            uid: 0,
            own_uid: false,
            nice: 0,
        }
    }
    /// What is missing, in words for people; empty when nothing is.
    pub fn gaps(&self) -> Vec<&'static str> {
        let mut gaps = Vec::new();
        match self.seccomp {
            Layer::Full => {}
            Layer::Partial | Layer::Absent => {
                gaps.push("no system call filter (seccomp): the kernel lacks it")
            }
        }
        match self.landlock {
            Layer::Full => {}
            Layer::Partial => gaps.push("landlock only in part: the kernel is older than 6.12"),
            Layer::Absent => gaps.push("no landlock: the kernel lacks it or it is switched off at boot"),
        }
        if !self.own_uid {
            gaps.push("engines run as the server's user: start it as root to give them their own");
        }
        gaps
    }
}

/// Which step of locking in failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot lock the engine in: {step}: {reason}")]
pub struct SandboxError {
    step: &'static str,
    reason: String,
}

/// Locks this process in for good. It must have one thread, and hold no descriptor that the engine may not use.
///
/// Fails closed: what the kernel has but refuses is an error; what it does not have is left out and reported.
pub(crate) fn enter(setup: &Setup) -> Result<SandboxReport, SandboxError> {
    // Best effort: it guards the server against the engine's hunger, not against its malice.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    std::env::set_current_dir("/").map_err(step("leaving the working directory"))?;
    let nice = rustix::process::nice(i32::from(setup.nice)).map_err(step("niceness"))?;
    let netns = holds(CapabilitySet::SYS_ADMIN) && raw::leave_network().is_ok();
    become_nobody(setup.identity)?;
    follow_parent(setup.parent)?;
    limit_resources(&setup.limits)?;
    rustix::thread::set_no_new_privs(true).map_err(step("no_new_privs"))?;
    let uid = rustix::process::getuid().as_raw();
    let landlock = forbid_files()?;
    let seccomp = filter::apply()?;
    Ok(SandboxReport {
        seccomp,
        landlock,
        netns,
        uid,
        own_uid: matches!(setup.identity, Identity::Own { .. }),
        nice,
    })
}

fn step<E: ToString>(step: &'static str) -> impl FnOnce(E) -> SandboxError {
    move |error| SandboxError { step, reason: error.to_string() }
}

/// Whether this thread may use `capability` now.
pub(crate) fn holds(capability: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

fn become_nobody(identity: Identity) -> Result<(), SandboxError> {
    if let Identity::Own { uid, gid } = identity {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::thread::set_thread_groups(&[]).map_err(step("dropping groups"))?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(step("the engine's group"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(step("the engine's user"))?;
    }
    rustix::thread::clear_ambient_capability_set().map_err(step("dropping ambient capabilities"))?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(step("dropping capabilities"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("forbidding dumps"))
}

fn follow_parent(parent: u32) -> Result<(), SandboxError> {
    // After the change of user, which clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(step("dying with the server"))?;
    // The server may have died before the line above; then nobody would ever tell us.
    let now = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if i64::from(now) != i64::from(parent) {
        return Err(step("dying with the server")("the server is gone already"));
    }
    Ok(())
}

fn limit_resources(limits: &EngineLimits) -> Result<(), SandboxError> {
    let mapped = mapped_bytes().map_err(step("reading its own size"))?;
    // Data is what the program allocates; the address space bounds what could be taken in other ways.
    let address_space = mapped.saturating_add(limits.memory_bytes).saturating_add(limits.input_bytes);
    let descriptors = u64::from(crate::engine::child::FIRST_FREE_FD) + INPUTS_MAX as u64;
    for (resource, most) in [
        (Resource::Data, limits.memory_bytes),
        (Resource::As, address_space),
        (Resource::Fsize, limits.output_bytes),
        (Resource::Nofile, descriptors),
        (Resource::Nproc, 0),
        (Resource::Core, 0),
    ] {
        let both = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(resource, both).map_err(step("resource limits"))?;
    }
    Ok(())
}

/// The address space in use, in bytes.
fn mapped_bytes() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 =
        statm.split(' ').next().and_then(|word| word.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages.saturating_mul(rustix::param::page_size() as u64))
}

fn forbid_files() -> Result<Layer, SandboxError> {
    let newest = ABI::V6;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(newest))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(newest)))
        .and_then(|rules| rules.scope(Scope::from_all(newest)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(step("landlock"))?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Layer::Full,
        RulesetStatus::PartiallyEnforced => Layer::Partial,
        RulesetStatus::NotEnforced => Layer::Absent,
    })
}
