//! The engine's own side: locks itself in, then does one job after the other until the server hangs up.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags, SocketType, sockopt,
};
use rustix::time::ClockId;

use crate::frame::{self, FRAME_MAX, FromChild, INPUTS_MAX, TEXT_MAX, ToChild};
use crate::raw::{self, Mapping};
use crate::sandbox::{self, Setup};

/// Where the socket to the server lies.
pub(crate) const SOCKET_FD: i32 = 3;
/// Where the arena lies.
pub(crate) const ARENA_FD: i32 = 4;
/// Where `/proc/self/statm` lies: how large we are can be read inside the sandbox.
pub(crate) const STATM_FD: i32 = 5;
/// The first descriptor that inputs take.
pub(crate) const FIRST_FREE_FD: u32 = 6;

/// How much memory the allocator keeps between jobs, in bytes.
const MEMORY_KEPT: i32 = 64 * 1024 * 1024;

/// How much the output buffer keeps between jobs, in bytes.
const OUTPUT_KEPT: usize = 16 * 1024 * 1024;

/// The exit status of a program that panicked, as Rust's own.
const PANICKED: i32 = 101;

/// A program: parameters, inputs and the (empty) output buffer in; a header for the reply out.
pub type Program<'a> = dyn FnMut(&[u8], &[&[u8]], &mut Vec<u8>) -> Vec<u8> + 'a;

/// Makes this process an engine that does jobs with `run` until the server goes. Call it first thing in a process that
/// [`super::Engine::spawn`] has started, before any thread. Nothing but computing works inside `run`: no file, socket,
/// thread or process; a panic or a forbidden call ends the process.
pub fn serve(run: &mut Program<'_>) -> ExitCode {
    match Station::open().and_then(|mut station| station.work(run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("tutti engine: {reason}");
            ExitCode::from(2)
        }
    }
}

struct Station {
    socket: OwnedFd,
    arena: OwnedFd,
    statm: OwnedFd,
    outgoing: Vec<u8>,
    incoming: Box<[u8]>,
    output_max: u64,
    page_bytes: u64,
    cpu_us: u64,
}

impl Station {
    fn open() -> io::Result<Self> {
        if sockopt::socket_type(rustix::stdio::stdin()).ok() != Some(SocketType::SEQPACKET) {
            return Err(io::Error::other("this is started by the server itself, not by hand"));
        }
        let (socket, arena, statm) = take_descriptors()?;
        let page_bytes = rustix::param::page_size() as u64;
        let mut station = Self {
            socket,
            arena,
            statm,
            outgoing: Vec::new(),
            incoming: vec![0; FRAME_MAX].into(),
            output_max: 0,
            page_bytes,
            cpu_us: cpu_us(),
        };
        station.lock_in()?;
        Ok(station)
    }

    fn lock_in(&mut self) -> io::Result<()> {
        let setup = self.receive_setup()?;
        self.output_max = setup.limits.output_bytes;
        raw::keep_memory(MEMORY_KEPT);
        report_panics();
        match sandbox::enter(&setup) {
            Ok(report) => self.send(&FromChild::Ready(report)),
            Err(error) => {
                self.send(&FromChild::Unready(&error.to_string()))?;
                Err(io::Error::other(error))
            }
        }
    }

    fn receive_setup(&mut self) -> io::Result<Setup> {
        let len = self.receive(&mut Vec::new())?;
        match frame::decode(&self.incoming[..len]) {
            Ok(ToChild::Setup(setup)) => Ok(setup),
            Ok(ToChild::Job { .. }) => Err(io::Error::other("a job before the set-up")),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn work(&mut self, run: &mut Program<'_>) -> io::Result<()> {
        let mut files = Vec::new();
        let mut output = Vec::new();
        loop {
            let len = self.receive(&mut files)?;
            if len == 0 {
                return Ok(());
            }
            let header = {
                let message = frame::decode(&self.incoming[..len]).map_err(io::Error::other)?;
                let ToChild::Job { params, lens } = message else {
                    return Err(io::Error::other("a second set-up"));
                };
                let inputs = map(&files, &lens)?;
                let views: Vec<&[u8]> = inputs.iter().map(Mapping::bytes).collect();
                output.clear();
                run(params, &views, &mut output)
            };
            files.clear();
            self.reply(&header, &output)?;
            if output.capacity() > OUTPUT_KEPT {
                output = Vec::new();
            }
        }
    }

    fn reply(&mut self, header: &[u8], output: &[u8]) -> io::Result<()> {
        let output_len = output.len() as u64;
        if output_len > self.output_max {
            return self.send(&FromChild::TooLong { output_len });
        }
        if header.len() > TEXT_MAX {
            return Err(io::Error::other("the reply's header is over its limit"));
        }
        let mut written = 0;
        while written < output.len() {
            written += rustix::io::pwrite(&self.arena, &output[written..], written as u64)?;
        }
        let now = cpu_us();
        let spent = now.saturating_sub(std::mem::replace(&mut self.cpu_us, now));
        self.send(&FromChild::Done { output_len, cpu_us: spent, rss_bytes: self.rss_bytes()?, header })
    }

    fn rss_bytes(&self) -> io::Result<u64> {
        let mut text = [0; 128];
        let len = rustix::io::pread(&self.statm, &mut text, 0)?;
        let text = std::str::from_utf8(&text[..len]).unwrap_or_default();
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        Ok(pages.unwrap_or(0).saturating_mul(self.page_bytes))
    }

    fn send(&mut self, message: &FromChild<'_>) -> io::Result<()> {
        frame::encode(message, &mut self.outgoing).map_err(io::Error::other)?;
        send_frame(&self.socket, &self.outgoing)
    }

    /// Receives one frame and the files that came with it; 0 when the server has gone.
    fn receive(&mut self, files: &mut Vec<File>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(INPUTS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut self.incoming)];
        let got = loop {
            match rustix::net::recvmsg(&self.socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                result => break result?.bytes,
            }
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                files.extend(rights.map(File::from));
            }
        }
        Ok(got)
    }
}

/// Moves what the server gave as standard input and output to their places, and closes everything else but standard
/// error.
fn take_descriptors() -> io::Result<(OwnedFd, OwnedFd, OwnedFd)> {
    let statm = above_places(File::open("/proc/self/statm")?)?;
    let null = above_places(File::options().read(true).write(true).open("/dev/null")?)?;
    let socket = raw::place(rustix::stdio::stdin(), SOCKET_FD)?;
    let arena = raw::place(rustix::stdio::stdout(), ARENA_FD)?;
    let statm = raw::place(statm, STATM_FD)?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    drop(null);
    raw::close_from(FIRST_FREE_FD)?;
    Ok((socket, arena, statm))
}

/// Moves `file` out of the way of the places that are about to be filled.
fn above_places(file: File) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(&file, FIRST_FREE_FD as i32)?)
}

fn map(files: &[File], lens: &[u64]) -> io::Result<Vec<Mapping>> {
    if files.len() != lens.len() {
        return Err(io::Error::other("as many descriptors as lengths were promised"));
    }
    files.iter().zip(lens).map(|(file, &len)| map_one(file, len)).collect()
}

fn map_one(file: &File, len: u64) -> io::Result<Mapping> {
    let end = rustix::fs::seek(file, rustix::fs::SeekFrom::End(0))?;
    if end < len {
        return Err(io::Error::other("an input is shorter than its length"));
    }
    let len = usize::try_from(len).map_err(io::Error::other)?;
    Mapping::of(file, len)
}

fn send_frame(socket: impl AsFd, frame: &[u8]) -> io::Result<()> {
    let mut none = SendAncillaryBuffer::default();
    rustix::net::sendmsg(socket, &[IoSlice::new(frame)], &mut none, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// CPU time of this process so far, in microseconds.
fn cpu_us() -> u64 {
    let spent = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    (spent.tv_sec as u64).saturating_mul(1_000_000).saturating_add(spent.tv_nsec as u64 / 1000)
}

/// A panic's words go to the server's log instead of nowhere, and end the process before anything unwinds.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let words = panic.to_string();
        let short: String = words.chars().take(500).collect();
        let mut frame = Vec::new();
        if frame::encode(&FromChild::Panicked(&short), &mut frame).is_ok() {
            // Nobody is left to tell when even this fails.
            let _ = send_frame(raw::borrowed(SOCKET_FD), &frame);
        }
        raw::exit_now(PANICKED);
    }));
}
