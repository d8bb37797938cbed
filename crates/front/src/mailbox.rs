//! Letters to a front thread: answers, pieces of bodies, connections, orders. Rings the thread's bell; never blocks.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::event::{EventfdFlags, eventfd};
use tutti_base::Tick;
use tutti_flow::Answer;

use crate::router::Router;

/// Names one connection of one thread; never used again for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Token {
    /// Its place in the thread's table.
    pub(crate) slot: u32,
    /// How many connections had that place before.
    pub(crate) generation: u32,
}

impl Token {
    /// As the kernel keeps it.
    pub(crate) const fn to_u64(self) -> u64 {
        ((self.generation as u64) << 32) | self.slot as u64
    }
    /// As the kernel gave it back.
    pub(crate) const fn from_u64(value: u64) -> Self {
        Self { slot: value as u32, generation: (value >> 32) as u32 }
    }
}

/// What a front thread is told.
pub(crate) enum Letter {
    /// The answer that a connection waits for.
    Answer(Token, Answer),
    /// A connection's body has another piece, or has ended.
    More(Token),
    /// The piece of a file that a connection waits for.
    Piece(Token, io::Result<Bytes>),
    /// A connection that another thread accepted.
    Adopt(OwnedFd, SocketAddr),
    /// New routes.
    Routes(Arc<Router>),
    /// Stop accepting, finish what runs, and end by then.
    Drain(Tick),
}

/// Where a thread's letters lie.
pub(crate) struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    bell: OwnedFd,
}

impl Mailbox {
    /// An empty one.
    pub(crate) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { letters: Mutex::default(), bell })
    }

    /// Puts a letter in and wakes the thread. How many lie there is bounded by what each connection may have under way.
    pub(crate) fn post(&self, letter: Letter) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push(letter);
        let first = letters.len() == 1;
        drop(letters);
        if first {
            self.ring();
        }
    }

    /// Wakes the thread.
    pub(crate) fn ring(&self) {
        // A full counter means that the bell is ringing already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Takes all letters out and silences the bell.
    pub(crate) fn collect(&self, into: &mut Vec<Letter>) {
        let mut count = [0; 8];
        // Nothing to read means that the bell was not ringing.
        let _ = rustix::io::read(&self.bell, &mut count);
        into.append(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
