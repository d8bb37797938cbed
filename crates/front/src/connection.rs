//! One client connection: its socket, what it has sent so far, and what it is in the middle of.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use tutti_base::{Deadline, Tick};

use crate::body::BodyReader;
use crate::doors::Door;
use crate::exchange::Exchange;
use crate::mailbox::Token;
use crate::metrics::Label;
use crate::output::Output;
use crate::pump::Task;

/// Bytes of held input above which the buffer is given back once it is empty.
const KEPT_BUFFER: usize = 4096;

/// One client connection.
pub(crate) struct Connection {
    pub(crate) token: Token,
    socket: OwnedFd,
    pub(crate) peer: SocketAddr,
    /// Where it came in.
    pub(crate) door: Arc<Door>,
    /// The peer as the log writes it; made when first needed.
    pub(crate) peer_text: Option<Box<str>>,
    /// Input that belongs to no request yet. Empty nearly always: reads go to the thread's buffer.
    pub(crate) held: Vec<u8>,
    /// How much of `held` was looked at and found to be no whole head.
    pub(crate) seen: usize,
    /// Whether the kernel may have input for us.
    pub(crate) readable: bool,
    /// Whether the client has closed its side, or the connection is broken.
    pub(crate) hung_up: bool,
    pub(crate) phase: Phase,
    /// When the phase began, or last got on.
    pub(crate) since: Tick,
    /// Requests so far.
    pub(crate) requests: u64,
}

/// A socket that was accepted.
pub(crate) struct Came {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: SocketAddr,
    /// Where.
    pub(crate) door: Arc<Door>,
}

/// What a connection is in the middle of.
pub(crate) enum Phase {
    /// Idle, or a head is arriving.
    Head,
    /// A body is arriving that will be thrown away.
    Body(Box<Pending>),
    /// The answer is being made.
    Waiting(Box<Waiting>),
    /// The answer is going out.
    Writing(Box<Writing>),
    /// The last answer is out; what the client still sends is thrown away so that it can read the answer.
    Linger {
        /// Bytes that are still thrown away before the connection is cut.
        left: usize,
    },
}

/// A request whose body is arriving.
pub(crate) struct Pending {
    /// Its head, as it was sent.
    pub(crate) head: Vec<u8>,
    pub(crate) reader: BodyReader,
}

/// A request whose answer is being made.
pub(crate) struct Waiting {
    pub(crate) exchange: Exchange<'static>,
    pub(crate) deadline: Deadline,
    /// Held so that it is stopped when the client goes.
    pub(crate) _task: Task,
}

/// A request whose answer is going out.
pub(crate) struct Writing {
    pub(crate) exchange: Exchange<'static>,
    pub(crate) label: Label,
    pub(crate) output: Output,
    /// Since when the client has taken nothing, if we wait for it.
    pub(crate) blocked: Option<Tick>,
    /// How long we have waited for the client before that, in ns.
    pub(crate) blocked_nanos: u64,
}

/// What reading gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Read {
    Bytes(usize),
    Nothing,
    End,
}

impl Connection {
    /// A fresh connection.
    pub(crate) fn new(token: Token, came: Came, now: Tick) -> Self {
        let Came { socket, peer, door } = came;
        Self {
            token,
            socket,
            peer,
            door,
            peer_text: None,
            held: Vec::new(),
            seen: 0,
            readable: true,
            hung_up: false,
            phase: Phase::Head,
            since: now,
            requests: 0,
        }
    }

    /// Reads into `room`, which is not empty. A short read means that the kernel has no more, unless the client has
    /// hung up: then the end is still to be read (epoll(7), edge-triggered).
    pub(crate) fn read(&mut self, room: &mut [u8]) -> Read {
        loop {
            let size = room.len();
            return match rustix::io::read(&self.socket, &mut *room) {
                Ok(0) => Read::End,
                Ok(read) => {
                    self.readable = read == size || self.hung_up;
                    Read::Bytes(read)
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    Read::Nothing
                }
                Err(_) => Read::End,
            };
        }
    }

    /// Writes `text` at once or not at all.
    pub(crate) fn write_short(&self, text: &[u8]) -> io::Result<()> {
        match rustix::io::write(&self.socket, text) {
            Ok(written) if written == text.len() => Ok(()),
            Ok(_) => Err(io::ErrorKind::WriteZero.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sets the input that belongs to no request yet.
    pub(crate) fn hold(&mut self, rest: &[u8], seen: usize) {
        self.seen = seen;
        if rest.is_empty() && self.held.capacity() > KEPT_BUFFER {
            self.held = Vec::new();
            return;
        }
        self.held.clear();
        self.held.extend_from_slice(rest);
    }

    /// Whether nothing is going on.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.held.is_empty()
    }

    /// Tells the client that nothing more will come.
    pub(crate) fn shut(&self) {
        // A connection that is gone already needs no telling.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
