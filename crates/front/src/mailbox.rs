//! Letters to a front thread: answers, pieces of bodies, connections, orders. Rings the thread's bell; never blocks.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc;
use tutti_base::Tick;
use tutti_flow::Answer;

use crate::connection::Came;
use crate::doors::{Door, OpenDoor};
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
    /// A connection that another thread accepted, and where it came in.
    Adopt(Came),
    /// Accept here too.
    Open(OpenDoor),
    /// Accept here no more, and end what came in; let go of the channel once the socket is let go.
    Shut(Arc<Door>, mpsc::Sender<Infallible>),
    /// New routes.
    Routes(Arc<Router>),
    /// Stop accepting, finish what runs, and end by then.
    Drain(Tick),
}

/// Where a thread's letters lie.
pub(crate) struct Mailbox {
    lying: Mutex<Lying>,
    bell: OwnedFd,
}

#[derive(Default)]
struct Lying {
    letters: Vec<Letter>,
    /// Whether nobody will read any more.
    closed: bool,
}

impl Mailbox {
    /// An empty one.
    pub(crate) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { lying: Mutex::default(), bell })
    }

    /// Puts a letter in and wakes the thread. What is sent to a thread that has ended is dropped. How many lie there is
    /// bounded by what each connection may have under way.
    pub(crate) fn post(&self, letter: Letter) {
        drop(self.offer(letter));
    }

    /// As [`Mailbox::post`], but gives the letter back where the thread has ended.
    pub(crate) fn offer(&self, letter: Letter) -> Option<Letter> {
        let mut lying = self.lock();
        if lying.closed {
            return Some(letter);
        }
        lying.letters.push(letter);
        let first = lying.letters.len() == 1;
        drop(lying);
        if first {
            self.ring();
        }
        None
    }

    /// Closes it if nothing lies there: then no letter comes any more. Else its bell is ringing.
    pub(crate) fn close_if_empty(&self) -> bool {
        let mut lying = self.lock();
        lying.closed |= lying.letters.is_empty();
        lying.closed
    }

    /// Closes it and drops what lies there: its thread has ended, however it did.
    pub(crate) fn close(&self) {
        let mut lying = self.lock();
        lying.closed = true;
        let letters = std::mem::take(&mut lying.letters);
        drop(lying);
        drop(letters);
    }

    fn lock(&self) -> MutexGuard<'_, Lying> {
        self.lying.lock().unwrap_or_else(PoisonError::into_inner)
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
        into.append(&mut self.lock().letters);
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_closes_only_when_nothing_lies_in_it_and_then_gives_letters_back() {
        let mailbox = Mailbox::new().unwrap();
        let token = Token { slot: 0, generation: 0 };
        assert!(mailbox.offer(Letter::More(token)).is_none());
        assert!(!mailbox.close_if_empty(), "a letter lies there");
        let mut letters = Vec::new();
        mailbox.collect(&mut letters);
        assert_eq!(letters.len(), 1);
        assert!(mailbox.close_if_empty());
        assert!(matches!(mailbox.offer(Letter::More(token)), Some(Letter::More(back)) if back == token));
        mailbox.post(Letter::More(token));
        letters.clear();
        mailbox.collect(&mut letters);
        assert!(letters.is_empty(), "nobody reads it, so nothing is kept");
    }
}
