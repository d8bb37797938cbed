//! One engine as the server sees it: a child process that does one job at a time and can be killed at any instruction.
//! Believes nothing that it says.

pub mod child;
mod socket;
mod spec;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;
use tokio::time::{timeout, timeout_at};

use crate::frame::{self, FRAME_MAX, FromChild, INPUTS_MAX, TEXT_MAX, ToChild};
use crate::memfd;
use crate::nursery::{self, Process};
use crate::raw;
use crate::sandbox::{SandboxReport, Setup};

pub use spec::{CallError, Death, EngineLimits, EngineSpec, Identity, Reply, Wear};

/// How long an engine may take from its start to its first word.
const START_WITHIN: Duration = Duration::from_secs(5);

/// How much of the arena keeps its memory after a job, in bytes. Fresh pages cost more to touch than to keep.
const ARENA_KEPT: u64 = 8 * 1024 * 1024;

/// How much is copied out of the arena in one go, in bytes: bounds the time on an async thread.
const COPIED_AT_ONCE: usize = 512 * 1024;

/// A running engine. Dropping it kills the process.
#[derive(Debug)]
pub struct Engine {
    process: Option<Process>,
    socket: AsyncFd<OwnedFd>,
    arena: OwnedFd,
    limits: EngineLimits,
    report: SandboxReport,
    outgoing: Vec<u8>,
    incoming: Box<[u8]>,
    jobs: u32,
    rss_bytes: u64,
}

/// What came between a job and its reply, before it is known how the process ended.
#[derive(Debug)]
enum Broken {
    Gone(io::Error),
    Panicked(String),
    Unready(String),
    Protocol(String),
    TooLong(u64),
}

impl Engine {
    /// Starts an engine and waits until it has locked itself in. Cancel-safe: a dropped start leaves no process.
    ///
    /// Needs a tokio runtime. Errors: [`CallError::Spawn`], with the engine's own words where it has any.
    pub async fn spawn(spec: &EngineSpec) -> Result<Self, CallError> {
        let failed = |reason: &dyn std::fmt::Display| {
            CallError::Spawn(format!("{}: {reason}", spec.program.display()))
        };
        let (ours, theirs) = socket_pair().map_err(|error| failed(&error))?;
        let arena = memfd::arena(spec.limits.output_bytes).map_err(|error| failed(&error))?;
        let command = command(spec, theirs, &arena).map_err(|error| failed(&error))?;
        let process = nursery::spawn(command).await.map_err(|error| failed(&error))?;
        let mut engine = Self {
            process: Some(process),
            socket: raw::watched(ours).map_err(|error| failed(&error))?,
            arena,
            limits: spec.limits.clone(),
            report: SandboxReport::unknown(),
            outgoing: Vec::new(),
            // One byte more than is allowed, so that a longer datagram is seen as too long and not as cut.
            incoming: vec![0; FRAME_MAX + 1].into(),
            jobs: 0,
            rss_bytes: 0,
        };
        match timeout(START_WITHIN, engine.greet(spec)).await {
            Ok(Ok(report)) => engine.report = report,
            Ok(Err(Broken::Unready(reason))) => return Err(failed(&reason)),
            Ok(Err(broken)) => return Err(failed(&engine.explain(broken).await)),
            Err(_) => return Err(failed(&format!("no word from it within {START_WITHIN:?}"))),
        }
        Ok(engine)
    }

    /// Does one job: `params` and the first bytes of each file go to the engine; what comes back is checked and copied.
    ///
    /// Files must be open for reading only and must not change. Cancel-safe: dropping the future kills the engine, as
    /// does the deadline. After an error other than [`CallError::Rejected`] and [`CallError::OutputTooLong`] the engine
    /// is dead ([`Engine::wear`]).
    pub async fn call(
        &mut self,
        params: &[u8],
        inputs: &[(Arc<File>, u64)],
        deadline: Option<Instant>,
    ) -> Result<Reply, CallError> {
        self.check(params, inputs)?;
        let mut turn = Turn { engine: self, over: false };
        let outcome = match deadline {
            None => Ok(turn.engine.exchange(params, inputs).await),
            Some(at) => timeout_at(at.into(), turn.engine.exchange(params, inputs)).await,
        };
        match outcome {
            Ok(Ok(reply)) => {
                turn.over = true;
                Ok(reply)
            }
            Ok(Err(Broken::TooLong(len))) => {
                turn.over = true;
                Err(CallError::OutputTooLong { len, limit: turn.engine.limits.output_bytes })
            }
            Ok(Err(broken)) => Err(turn.engine.explain(broken).await),
            Err(_) => Err(CallError::TimedOut),
        }
    }

    /// Its process id, 0 once it is dead.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::id)
    }
    /// Which layers of the sandbox hold it.
    pub fn report(&self) -> &SandboxReport {
        &self.report
    }
    /// Whether its process has ended while it waited, such as by the kernel when memory ran out.
    pub fn has_ended(&self) -> bool {
        self.process.as_ref().is_none_or(Process::has_ended)
    }
    /// How many jobs it has been given.
    pub fn jobs(&self) -> u32 {
        self.jobs
    }
    /// Its resident memory after its last job, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.rss_bytes
    }
    /// Why it should get no further job, if there is a reason.
    pub fn wear(&self) -> Option<Wear> {
        if self.process.is_none() {
            Some(Wear::Dead)
        } else if self.jobs >= self.limits.jobs_max {
            Some(Wear::Jobs)
        } else if self.rss_bytes > self.limits.grown_bytes {
            Some(Wear::Grown)
        } else {
            None
        }
    }

    fn check(&self, params: &[u8], inputs: &[(Arc<File>, u64)]) -> Result<(), CallError> {
        let reject = |reason: String| Err(CallError::Rejected(reason));
        if self.process.is_none() {
            return reject("this engine is dead".into());
        }
        if params.len() > TEXT_MAX {
            return reject(format!("{} bytes of parameters; the limit is {TEXT_MAX}", params.len()));
        }
        if inputs.len() > INPUTS_MAX {
            return reject(format!("{} inputs; the limit is {INPUTS_MAX}", inputs.len()));
        }
        let total = inputs.iter().fold(0_u64, |sum, (_, len)| sum.saturating_add(*len));
        if total > self.limits.input_bytes {
            return reject(format!("{total} bytes of input; the limit is {}", self.limits.input_bytes));
        }
        for (file, _) in inputs {
            let flags =
                rustix::fs::fcntl_getfl(file).map_err(|error| CallError::Rejected(error.to_string()))?;
            if flags & OFlags::ACCMODE != OFlags::RDONLY {
                return reject("an input is open for writing".into());
            }
        }
        Ok(())
    }

    async fn greet(&mut self, spec: &EngineSpec) -> Result<SandboxReport, Broken> {
        let setup = Setup {
            parent: std::process::id(),
            limits: spec.limits.clone(),
            identity: spec.identity,
            nice: spec.nice,
        };
        self.send(&ToChild::Setup(setup), &[]).await?;
        let len = self.receive().await?;
        match frame::decode(&self.incoming[..len]) {
            Ok(FromChild::Ready(report)) => Ok(report),
            Ok(FromChild::Unready(reason)) => Err(Broken::Unready(reason.into())),
            Ok(other) => Err(Broken::Protocol(format!("{other:?} for a greeting"))),
            Err(error) => Err(Broken::Protocol(error.to_string())),
        }
    }

    async fn exchange(&mut self, params: &[u8], inputs: &[(Arc<File>, u64)]) -> Result<Reply, Broken> {
        let started = Instant::now();
        self.jobs += 1;
        let lens = inputs.iter().map(|(_, len)| *len).collect();
        let files: Vec<_> = inputs.iter().map(|(file, _)| file.as_fd()).collect();
        self.send(&ToChild::Job { params, lens }, &files).await?;
        let len = self.receive().await?;
        let (output_len, cpu_us, rss_bytes, header) = match frame::decode(&self.incoming[..len]) {
            Ok(FromChild::Done { output_len, cpu_us, rss_bytes, header }) => {
                (output_len, cpu_us, rss_bytes, header.to_vec())
            }
            Ok(FromChild::TooLong { output_len }) => return Err(Broken::TooLong(output_len)),
            Ok(FromChild::Panicked(note)) => return Err(Broken::Panicked(note.chars().take(500).collect())),
            Ok(other) => return Err(Broken::Protocol(format!("{other:?} for a reply"))),
            Err(error) => return Err(Broken::Protocol(error.to_string())),
        };
        if output_len > self.limits.output_bytes {
            return Err(Broken::Protocol(format!(
                "an output of {output_len} bytes, more than the arena holds"
            )));
        }
        let output = self.copy_output(output_len as usize).await?;
        self.rss_bytes = rss_bytes;
        // One thread cannot use more CPU time than has passed; an engine that says so must not spoil the cost model.
        let cpu = Duration::from_micros(cpu_us).min(started.elapsed());
        Ok(Reply { header, output, cpu_ms: cpu.as_secs_f32() * 1000.0, rss_bytes })
    }

    /// Copies the arena's first `len` bytes. It is never mapped: the engine could still write to it.
    async fn copy_output(&self, len: usize) -> Result<Bytes, Broken> {
        let mut output = vec![0; len];
        let mut filled = 0;
        while filled < len {
            let until = len.min(filled + COPIED_AT_ONCE);
            let got = rustix::io::pread(&self.arena, &mut output[filled..until], filled as u64)
                .map_err(|error| Broken::Gone(error.into()))?;
            if got == 0 {
                return Err(Broken::Protocol("the arena is shorter than the output".into()));
            }
            filled += got;
            if filled < len {
                tokio::task::yield_now().await;
            }
        }
        self.shrink_arena(len as u64);
        Ok(output.into())
    }

    fn shrink_arena(&self, used: u64) {
        if used > ARENA_KEPT {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Only memory is at stake, and the engine's end gives it back in any case.
            let _ = rustix::fs::fallocate(&self.arena, hole, ARENA_KEPT, used - ARENA_KEPT);
        }
    }

    async fn send(
        &mut self,
        message: &ToChild<'_>,
        files: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<(), Broken> {
        frame::encode(message, &mut self.outgoing).map_err(|error| Broken::Protocol(error.to_string()))?;
        socket::send(&self.socket, &self.outgoing, files).await.map_err(Broken::Gone)
    }

    async fn receive(&mut self) -> Result<usize, Broken> {
        match socket::receive(&self.socket, &mut self.incoming).await {
            Ok(0) => Err(Broken::Gone(io::ErrorKind::UnexpectedEof.into())),
            Ok(len) => Ok(len),
            Err(error) => Err(Broken::Gone(error)),
        }
    }

    /// Ends the process, and says what its failure was.
    async fn explain(&mut self, broken: Broken) -> CallError {
        let status = match self.process.take() {
            Some(process) => process.end().await,
            None => None,
        };
        let death = status.map_or(Death::Unknown, death);
        match broken {
            Broken::Protocol(what) => CallError::Protocol(what),
            // It may have been killed between its last words and its exit, so the status says nothing.
            Broken::Panicked(note) => CallError::Crashed { death: Death::Panicked, note: Some(note) },
            Broken::Unready(reason) => CallError::Spawn(reason),
            Broken::Gone(error) => {
                tracing::debug!(%error, %death, "an engine's socket broke");
                CallError::Crashed { death, note: None }
            }
            Broken::TooLong(len) => CallError::OutputTooLong { len, limit: self.limits.output_bytes },
        }
    }
}

/// One job under way; unless it comes to its end, the engine dies with it.
struct Turn<'a> {
    engine: &'a mut Engine,
    over: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.engine.process = None;
        }
    }
}

fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// Nothing is inherited but three descriptors: the socket as standard input, the arena as standard output, and
/// `/dev/null`. No closure runs between fork and exec, so that the child shares the server's memory until exec instead
/// of copying its page tables.
fn command(spec: &EngineSpec, socket: OwnedFd, arena: &OwnedFd) -> io::Result<Command> {
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).env_clear();
    command.stdin(Stdio::from(socket)).stdout(Stdio::from(arena.try_clone()?)).stderr(Stdio::null());
    Ok(command)
}

fn death(status: ExitStatus) -> Death {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(signal), _) => Death::Signal(signal),
        (None, Some(code)) => Death::Exit(code),
        (None, None) => Death::Unknown,
    }
}
