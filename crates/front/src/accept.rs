//! Taking connections in: spread over the threads, bounded in number, never failing the loop; and a thread's doors.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use crate::answers::Answers;
use crate::connection::{Came, Connection};
use crate::doors::{Door, OpenDoor};
use crate::listeners::BACKLOG;
use crate::mailbox::{Letter, Token};
use crate::refusal::Refusal;
use crate::turn::{DOOR, Step, Turn};

/// Most connections accepted from one listener in one turn.
const ACCEPTS: usize = 32;

/// Connections above the limit that are still told so; further ones are closed without a word.
const TOLD: usize = 64;

/// How many connections more than the emptiest thread a thread may have before it hands new ones on.
const LEAD: usize = 4;

impl<A: Answers> Turn<A> {
    /// Accepts what waits at the door `id`; others have their turn too.
    pub(crate) fn accept(&mut self, id: u32) {
        if let Some(opened) = self.doors.iter().find(|opened| opened.door.id == id).cloned() {
            self.accept_most(&opened, ACCEPTS);
        }
    }

    fn accept_most(&mut self, opened: &OpenDoor, most: usize) {
        for _ in 0..most {
            match acceptfrom_with(&opened.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((socket, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    let peer = peer.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
                    self.house.metrics.accepted.inc();
                    self.place(Came { socket, peer, door: Arc::clone(&opened.door) });
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
    fn place(&mut self, came: Came) {
        let before = self.house.open.fetch_add(1, Ordering::Relaxed);
        self.house.metrics.connections.inc();
        if before >= self.house.connection_limit {
            return self.turn_away(came, before);
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
            // A thread that has drained meanwhile takes no letters: then it stays here.
            if let Some(Letter::Adopt(came)) = self.house.mailboxes[emptiest].offer(Letter::Adopt(came)) {
                self.adopt(came);
            }
        } else {
            self.adopt(came);
        }
    }

    /// Says why there is no room, as long as there is room for that.
    fn turn_away(&mut self, came: Came, before: usize) {
        if before >= self.house.connection_limit + TOLD {
            self.house.metrics.refuse(Refusal::Connections.word());
            self.house.leave();
            return;
        }
        let (mut connection, step) = self.watch_socket(came);
        let step =
            if step == Step::Again { self.refuse(&mut connection, Refusal::Connections, &[]) } else { step };
        self.drive(connection, step);
    }

    /// Makes the connection, which is counted already, this thread's own.
    pub(crate) fn adopt(&mut self, came: Came) {
        let (connection, step) = self.watch_socket(came);
        self.drive(connection, step);
    }

    fn watch_socket(&mut self, came: Came) -> (Box<Connection>, Step) {
        use epoll::EventFlags as Flags;
        let token = self.reserve();
        let connection = Box::new(Connection::new(token, came, self.now));
        let flags = Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET;
        match epoll::add(&self.epoll, &*connection, epoll::EventData::new_u64(token.to_u64()), flags) {
            Ok(()) => (connection, Step::Again),
            Err(errno) => {
                tracing::warn!(%errno, "cannot watch a connection");
                (connection, Step::Close)
            }
        }
    }

    /// Watches all doors. One that is watched already stays so.
    pub(crate) fn listen(&mut self) -> io::Result<()> {
        for opened in &self.doors {
            let token = Token { slot: DOOR, generation: opened.door.id };
            let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
            match epoll::add(&self.epoll, &opened.listener, epoll::EventData::new_u64(token.to_u64()), flags)
            {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.listening = true;
        Ok(())
    }

    /// Stops watching the doors.
    pub(crate) fn deafen(&mut self) {
        self.listening = false;
        for opened in &self.doors {
            // What is not watched needs no unwatching.
            let _ = epoll::delete(&self.epoll, &opened.listener);
        }
    }

    /// Begins to accept at another door.
    pub(crate) fn open_door(&mut self, opened: OpenDoor) {
        if self.draining.is_some() {
            return;
        }
        self.doors.push(opened);
        if self.listening && self.listen().is_err() {
            // Without descriptors or memory; the next sweep tries again.
            self.listening = false;
        }
    }

    /// Lets go of a door, and ends what came in through it.
    pub(crate) fn shut_door(&mut self, door: &Door) {
        if let Some(at) = self.doors.iter().position(|opened| opened.door.id == door.id) {
            let opened = self.doors.swap_remove(at);
            self.let_go(&opened);
        }
        self.wind_up(|connection| connection.door.id == door.id);
    }

    /// Lets go of all doors.
    pub(crate) fn let_go_of_all(&mut self) {
        self.listening = false;
        for opened in std::mem::take(&mut self.doors) {
            self.let_go(&opened);
        }
    }

    /// Who is in the queue already was promised an answer.
    fn let_go(&mut self, opened: &OpenDoor) {
        // Another thread may still hold the socket, and this one is not to hear of it.
        let _ = epoll::delete(&self.epoll, &opened.listener);
        self.accept_most(opened, BACKLOG as usize);
    }
}
