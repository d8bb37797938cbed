//! What an engine is started with and what comes of a call: plain values.

use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How to start an engine.
#[derive(Clone, Debug)]
pub struct EngineSpec {
    /// The program; it must call [`super::child::serve`]. `/proc/self/exe` is this very binary, even if its file has
    /// been replaced meanwhile.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it may use.
    pub limits: EngineLimits,
    /// As whom it runs.
    pub identity: Identity,
    /// Added to the server's niceness, 0 to 19. The server must come first when the CPU is short.
    pub nice: u8,
}

/// What an engine may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineLimits {
    /// Memory that it allocates, in bytes. An allocation over it fails, which mostly ends the engine.
    pub memory_bytes: u64,
    /// The longest output of one job, in bytes: the size of its arena.
    pub output_bytes: u64,
    /// The inputs of one job together, in bytes.
    pub input_bytes: u64,
    /// Resident memory after a job, in bytes, over which it gets no further one.
    pub grown_bytes: u64,
    /// How many jobs it gets.
    pub jobs_max: u32,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            output_bytes: 128 << 20,
            input_bytes: 256 << 20,
            grown_bytes: 192 << 20,
            jobs_max: 1000,
        }
    }
}

/// As whom an engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// As the server.
    Server,
    /// As a user of its own; the server needs CAP_SETUID, CAP_SETGID and CAP_KILL for it, the first two ambient unless
    /// it is root.
    Own {
        /// The user; no other process should have it.
        uid: u32,
        /// The group.
        gid: u32,
    },
}

/// What a job gives back.
#[derive(Debug)]
pub struct Reply {
    /// What the program says of the output; as untrusted as the output.
    pub header: Vec<u8>,
    /// The output.
    pub output: Bytes,
    /// CPU time that the engine says it took, in milliseconds, no more than has passed.
    pub cpu_ms: f32,
    /// Resident memory that it says it has afterwards, in bytes.
    pub rss_bytes: u64,
}

/// Why an engine should get no further job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wear {
    /// It has ended, or was killed.
    Dead,
    /// It has done its number of jobs.
    Jobs,
    /// It has grown over its limit.
    Grown,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// By a signal.
    Signal(i32),
    /// By itself, with this status.
    Exit(i32),
    /// Its program panicked, and said so before it ended.
    Panicked,
    /// Not known.
    Unknown,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (signal, name) = match *self {
            Death::Exit(code) => return write!(f, "it exited with status {code}"),
            Death::Panicked => return f.write_str("its program panicked"),
            Death::Unknown => return f.write_str("it is not known how it ended"),
            Death::Signal(libc::SIGSYS) => (libc::SIGSYS, "SIGSYS: a system call that the sandbox forbids"),
            Death::Signal(libc::SIGABRT) => (libc::SIGABRT, "SIGABRT: out of memory, or a check that failed"),
            Death::Signal(libc::SIGSEGV) => (libc::SIGSEGV, "SIGSEGV"),
            Death::Signal(libc::SIGBUS) => (libc::SIGBUS, "SIGBUS: an input was shorter than its length"),
            Death::Signal(libc::SIGKILL) => {
                (libc::SIGKILL, "SIGKILL: by the kernel when memory ran out, or by someone")
            }
            Death::Signal(signal) => (signal, "of no further meaning here"),
        };
        write!(f, "it was killed by signal {signal} ({name})")
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The engine died on the job.
    #[error("the engine died: {death}{}", note.as_ref().map(|note| format!(": {note}")).unwrap_or_default())]
    Crashed {
        /// How.
        death: Death,
        /// Its last words, where it had any; for the log only.
        note: Option<String>,
    },
    /// The deadline passed; the engine was killed.
    #[error("the deadline passed in the engine, which was killed")]
    TimedOut,
    /// The output does not fit into the arena. The engine lives on.
    #[error("an output of {len} bytes; the limit is {limit}")]
    OutputTooLong {
        /// What the engine had, in bytes.
        len: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// It said what it must not say; it was killed.
    #[error("the engine broke the protocol and was killed: {0}")]
    Protocol(String),
    /// It could not be started.
    #[error("cannot start an engine: {0}")]
    Spawn(String),
    /// The job breaks a rule of the caller's side; the engine never saw it and lives on.
    #[error("not a job for an engine: {0}")]
    Rejected(String),
}
