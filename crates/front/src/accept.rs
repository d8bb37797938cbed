//! Taking connections in: spread over the threads, bounded in number, never failing the loop.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use crate::answers::Answers;
use crate::connection::Connection;
use crate::mailbox::Letter;
use crate::refusal::Refusal;
use crate::turn::{Step, Turn};

/// Most connections accepted from one listener in one turn.
const ACCEPTS: usize = 32;

/// Connections above the limit that are still told so; further ones are closed without a word.
const TOLD: usize = 64;

/// How many connections more than the emptiest thread a thread may have before it hands new ones on.
const LEAD: usize = 4;

impl<A: Answers> Turn<A> {
    /// Accepts what waits at the listener `at`.
    pub(crate) fn accept(&mut self, at: usize) {
        for _ in 0..ACCEPTS {
            match acceptfrom_with(&self.listeners[at], SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((socket, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    self.house.metrics.accepted.inc();
                    self.place(socket, peer.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))));
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(errno) => return self.pause(errno),
            }
        }
    }

    /// Without descriptors or memory, accepting again at once would spin: the next sweep listens again.
    fn pause(&mut self, errno: Errno) {
        self.house.metrics.accept_failures.inc();
        tracing::warn!(%errno, "cannot accept connections; trying again soon");
        self.deafen();
    }

    /// Keeps the connection, or gives it to the thread that has the fewest.
    fn place(&mut self, socket: OwnedFd, peer: SocketAddr) {
        let before = self.house.open.fetch_add(1, Ordering::Relaxed);
        self.house.metrics.connections.inc();
        if before >= self.house.connection_limit {
            return self.turn_away(socket, peer, before);
        }
        let loads = &self.house.loads;
        let (emptiest, load) = loads
            .iter()
            .map(|load| load.load(Ordering::Relaxed))
            .enumerate()
            .min_by_key(|(_, load)| *load)
            .unwrap_or((self.index, 0));
        if emptiest != self.index && self.open > load + LEAD && self.draining.is_none() {
            // Counted at once, so that a burst is spread evenly before its letters are read.
            loads[emptiest].fetch_add(1, Ordering::Relaxed);
            self.house.mailboxes[emptiest].post(Letter::Adopt(socket, peer));
        } else {
            self.adopt(socket, peer);
        }
    }

    /// Says why there is no room, as long as there is room for that.
    fn turn_away(&mut self, socket: OwnedFd, peer: SocketAddr, before: usize) {
        if before >= self.house.connection_limit + TOLD {
            self.house.metrics.refuse(Refusal::Connections.word());
            self.house.leave();
            return;
        }
        let (mut connection, step) = self.watch_socket(socket, peer);
        let step =
            if step == Step::Again { self.refuse(&mut connection, Refusal::Connections, &[]) } else { step };
        self.drive(connection, step);
    }

    /// Makes the connection, which is counted already, this thread's own.
    pub(crate) fn adopt(&mut self, socket: OwnedFd, peer: SocketAddr) {
        let (connection, step) = self.watch_socket(socket, peer);
        self.drive(connection, step);
    }

    fn watch_socket(&mut self, socket: OwnedFd, peer: SocketAddr) -> (Box<Connection>, Step) {
        use epoll::EventFlags as Flags;
        let token = self.reserve();
        let connection = Box::new(Connection::new(token, socket, peer, self.now));
        let flags = Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET;
        match epoll::add(&self.epoll, &*connection, epoll::EventData::new_u64(token.to_u64()), flags) {
            Ok(()) => (connection, Step::Again),
            Err(errno) => {
                tracing::warn!(%errno, "cannot watch a connection");
                (connection, Step::Close)
            }
        }
    }
}
