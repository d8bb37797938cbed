//! One front thread: an epoll loop over its own connections. Decides who gets the next turn, not what is answered.
//!
//! Sockets are watched edge-triggered for everything from their first day to their last, so that no turn costs a system
//! call beside the wait itself, the reads and the writes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use tutti_base::rng::SplitMix;
use tutti_base::{Tick, Wall};

use crate::access::LogBuffer;
use crate::answers::Answers;
use crate::connection::{Connection, Phase};
use crate::date::DateLine;
use crate::doors::OpenDoor;
use crate::head::HeadLimits;
use crate::mailbox::{Letter, Mailbox, Token};
use crate::metrics::Tally;
use crate::pump::Outlet;
use crate::router::Router;
use crate::server::House;

/// How often limits of time are checked.
pub(crate) const SWEEP: Duration = Duration::from_millis(250);

/// Most events taken from the kernel at once.
const EVENTS: usize = 256;

/// Bytes of the thread's read buffer.
const SCRATCH: usize = 64 * 1024;

/// No connection's slot: the bell.
const BELL: u32 = u32::MAX;

/// No connection's slot: the doors, by their ids as generations.
pub(crate) const DOOR: u32 = u32::MAX - 1;

/// The load of a thread that has ended: nobody hands it anything.
const ENDED: usize = usize::MAX / 2;

/// What a connection does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// It has more to do now.
    Again,
    /// It waits for its socket or for a letter.
    Park,
    /// It has more to do once others had their turn.
    Yield,
    /// It is over.
    Close,
}

/// One front thread.
pub(crate) struct Turn<A: Answers> {
    pub(crate) house: Arc<House>,
    pub(crate) answers: A,
    pub(crate) memo: A::Memo,
    pub(crate) router: Arc<Router>,
    pub(crate) limits: HeadLimits,
    /// Which of the threads this is.
    pub(crate) index: usize,
    pub(crate) epoll: OwnedFd,
    pub(crate) outlet: Outlet,
    pub(crate) doors: Vec<OpenDoor>,
    /// Whether the doors are watched.
    pub(crate) listening: bool,
    pub(crate) slots: Vec<Slot>,
    free: Vec<u32>,
    pub(crate) open: usize,
    yielded: Vec<Token>,
    pub(crate) scratch: Vec<u8>,
    pub(crate) tail: Vec<u8>,
    /// Room for a host in lower case.
    pub(crate) host: String,
    pub(crate) date: DateLine,
    pub(crate) now: Tick,
    pub(crate) wall: Wall,
    next_sweep: Tick,
    pub(crate) tally: Tally,
    pub(crate) log: LogBuffer,
    pub(crate) log_flushed: Tick,
    pub(crate) rng: SplitMix,
    /// When everything must have ended, once a drain has begun.
    pub(crate) draining: Option<Tick>,
}

/// A place for a connection.
#[derive(Default)]
pub(crate) struct Slot {
    generation: u32,
    pub(crate) connection: Option<Box<Connection>>,
}

/// What a thread is made of beside the house.
pub(crate) struct Parts<A: Answers> {
    pub(crate) answers: A,
    pub(crate) router: Arc<Router>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) doors: Vec<OpenDoor>,
    pub(crate) tally: Tally,
    pub(crate) log: LogBuffer,
    pub(crate) seed: u64,
}

impl<A: Answers> Turn<A> {
    /// A thread that watches its mailbox and the doors.
    pub(crate) fn new(house: Arc<House>, index: usize, parts: Parts<A>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = epoll::EventData::new_u64(Token { slot: BELL, generation: 0 }.to_u64());
        epoll::add(&epoll, &parts.mailbox, bell, epoll::EventFlags::IN)?;
        let now = house.clock.now();
        let mut turn = Self {
            memo: parts.answers.memo(house.config.memo_entries),
            limits: HeadLimits::of(&house.config),
            outlet: Outlet { runtime: house.runtime.clone(), mailbox: parts.mailbox },
            wall: house.clock.wall(),
            house,
            answers: parts.answers,
            router: parts.router,
            index,
            epoll,
            doors: parts.doors,
            listening: false,
            slots: Vec::new(),
            free: Vec::new(),
            open: 0,
            yielded: Vec::new(),
            scratch: vec![0; SCRATCH],
            tail: Vec::with_capacity(1024),
            host: String::new(),
            date: DateLine::default(),
            now,
            next_sweep: now + SWEEP,
            tally: parts.tally,
            log: parts.log,
            log_flushed: now,
            rng: SplitMix::new(parts.seed),
            draining: None,
        };
        turn.listen()?;
        Ok(turn)
    }

    /// Runs until a drain is over.
    pub(crate) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        let mut letters = Vec::new();
        while !(self.draining.is_some() && self.open == 0 && self.outlet.mailbox.close_if_empty()) {
            self.wait(&mut events);
            self.wall = self.house.clock.wall();
            self.now = self.house.clock.now();
            self.date.update(self.wall);
            let yielded = std::mem::take(&mut self.yielded);
            for event in events.drain(..) {
                let token = Token::from_u64(event.data.u64());
                match token.slot {
                    BELL => self.outlet.mailbox.collect(&mut letters),
                    DOOR => self.accept(token.generation),
                    _ => self.wake(token, event.flags),
                }
            }
            for letter in letters.drain(..) {
                self.open_letter(letter);
            }
            for token in yielded {
                self.resume(token);
            }
            if self.now >= self.next_sweep {
                // A little early, so that a tick that comes early is not passed over.
                self.next_sweep = self.now + SWEEP * 3 / 4;
                self.sweep();
            }
            self.tally.flush();
        }
        self.house.loads[self.index].store(ENDED, Ordering::Relaxed);
        self.log.flush();
    }

    /// Waits without a time-out of its own: arming one would cost each turn more than its parse. The house's ticker
    /// rings the bell once a sweep.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = if self.yielded.is_empty() { None } else { Some(&AT_ONCE) };
        // Interrupted means no events; nothing else can fail on a descriptor that is ours.
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), timeout);
    }

    fn wake(&mut self, token: Token, flags: epoll::EventFlags) {
        use epoll::EventFlags as Flags;
        let Some(mut connection) = self.take(token) else { return };
        if flags.intersects(Flags::IN | Flags::RDHUP | Flags::HUP | Flags::ERR) {
            connection.readable = true;
        }
        if flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR) {
            connection.hung_up = true;
        }
        self.drive(connection, Step::Again);
    }

    fn resume(&mut self, token: Token) {
        if let Some(connection) = self.take(token) {
            self.drive(connection, Step::Again);
        }
    }

    /// Takes steps until the connection waits or is over.
    pub(crate) fn drive(&mut self, mut connection: Box<Connection>, mut step: Step) {
        while step == Step::Again {
            step = match connection.phase {
                Phase::Head => self.read_head(&mut connection),
                Phase::Body(_) => self.read_body(&mut connection),
                Phase::Waiting(_) => self.watch(&mut connection),
                Phase::Writing(_) => self.write(&mut connection),
                Phase::Linger { .. } => self.linger(&mut connection),
            };
        }
        match step {
            Step::Again | Step::Park => self.put_back(connection),
            Step::Yield => {
                self.yielded.push(connection.token);
                self.put_back(connection);
            }
            Step::Close => self.close(&connection),
        }
    }

    /// Takes the connection out of its place while something is done with it.
    pub(crate) fn take(&mut self, token: Token) -> Option<Box<Connection>> {
        let slot =
            self.slots.get_mut(token.slot as usize).filter(|slot| slot.generation == token.generation)?;
        slot.connection.take()
    }

    fn put_back(&mut self, connection: Box<Connection>) {
        let slot = connection.token.slot as usize;
        self.slots[slot].connection = Some(connection);
    }

    /// A place for another connection.
    pub(crate) fn reserve(&mut self) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        self.open += 1;
        self.house.loads[self.index].store(self.open, Ordering::Relaxed);
        Token { slot, generation: self.slots[slot as usize].generation }
    }

    /// Frees the place of a connection that was taken; the socket is closed when the caller drops it.
    fn close(&mut self, connection: &Connection) {
        let slot = &mut self.slots[connection.token.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(connection.token.slot);
        self.open -= 1;
        self.house.loads[self.index].store(self.open, Ordering::Relaxed);
        self.house.leave();
    }

    fn open_letter(&mut self, letter: Letter) {
        match letter {
            Letter::Answer(token, answer) => self.take_answer(token, answer),
            Letter::More(token) => self.resume(token),
            Letter::Piece(token, piece) => self.take_piece(token, piece),
            Letter::Adopt(came) => self.adopt(came),
            Letter::Open(opened) => self.open_door(opened),
            Letter::Shut(door, held) => {
                self.shut_door(&door);
                drop(held);
            }
            Letter::Routes(router) => self.router = router,
            Letter::Drain(deadline) => self.begin_drain(deadline),
        }
    }
}
