//! What is kept of each origin: its connections under their cap, who waits for one, and its breaker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;
use tutti_base::{Clock, Tick};

use crate::breaker::{Admission, Breaker, Condition, Ticket, Verdict};
use crate::cap::Cap;
use crate::count::Counts;
use crate::failure::{Failure, Step};
use crate::link::{Link, Slot};
use crate::target::OriginId;
use crate::{Config, Network, guard, wait};

/// All origins that something is kept of.
pub(crate) struct Pool {
    origins: Mutex<HashMap<OriginId, Arc<Origin>>>,
    counts: Arc<Counts>,
}

/// What is kept of one origin.
pub(crate) struct Origin {
    /// One permit for each request that uses a connection or is about to open one.
    turns: Cap,
    /// One permit for each connection that exists.
    slots: Cap,
    idle: Mutex<Vec<Link>>,
    breaker: Mutex<Breaker>,
    waiting: AtomicUsize,
    last_used: AtomicU64,
    counts: Arc<Counts>,
}

/// The right to use one connection to an origin.
pub(crate) struct Turn {
    origin: Arc<Origin>,
    _permit: OwnedSemaphorePermit,
}

/// A connection in use. Dropping it closes the connection; [`Lease::give_back`] keeps it for the next request.
pub(crate) struct Lease {
    /// The connection.
    pub(crate) link: Link,
    turn: Turn,
}

impl Pool {
    pub(crate) fn new(counts: Arc<Counts>) -> Self {
        Self { origins: Mutex::default(), counts }
    }

    /// The origin `id`, remembered; the longest unused one is forgotten when there are too many.
    pub(crate) fn origin(&self, id: &OriginId, config: &Config, now: Tick) -> Result<Arc<Origin>, Failure> {
        let mut origins = lock(&self.origins);
        if let Some(origin) = origins.get(id) {
            origin.last_used.store(now.0, Ordering::Relaxed);
            return Ok(origin.clone());
        }
        while origins.len() >= config.origins_max {
            let unused = origins.iter().filter(|(_, origin)| Arc::strong_count(origin) == 1);
            let oldest = unused
                .min_by_key(|(_, origin)| (origin.troubled(), origin.last_used.load(Ordering::Relaxed)));
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
                return Err(Failure::TooManyOrigins(config.origins_max));
            };
            origins.remove(&oldest);
        }
        let origin = Arc::new(Origin::new(config.connections_per_origin, now, self.counts.clone()));
        origins.insert(id.clone(), origin.clone());
        Ok(origin)
    }

    /// Applies new settings: caps change, connections made under the old settings are not used again.
    pub(crate) fn reconfigure(&self, config: &Config) {
        for origin in lock(&self.origins).values() {
            origin.turns.resize(config.connections_per_origin);
            origin.slots.resize(config.connections_per_origin);
            lock(&origin.idle).clear();
        }
    }
}

impl Origin {
    fn new(connections: usize, now: Tick, counts: Arc<Counts>) -> Self {
        Self {
            turns: Cap::new(connections),
            slots: Cap::new(connections),
            idle: Mutex::default(),
            breaker: Mutex::default(),
            waiting: AtomicUsize::new(0),
            last_used: AtomicU64::new(now.0),
            counts,
        }
    }

    fn troubled(&self) -> bool {
        lock(&self.breaker).condition() != Condition::Closed
    }

    /// Asks the breaker.
    pub(crate) fn admit(self: &Arc<Self>, clock: &Arc<dyn Clock>) -> Result<Trial, Failure> {
        match self.on_breaker(|breaker| breaker.admit(clock.now())) {
            Admission::Pass(ticket) => {
                Ok(Trial { origin: self.clone(), clock: clock.clone(), ticket, verdict: Verdict::Unknown })
            }
            Admission::Refuse(left) => Err(Failure::Breaker(left)),
        }
    }

    /// Lets `act` change the breaker and counts what came of it.
    fn on_breaker<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = lock(&self.breaker);
        let before = breaker.condition();
        let result = act(&mut breaker);
        match (before, breaker.condition()) {
            (Condition::Closed, Condition::Open) => {
                self.counts.breakers_open.inc();
                self.counts.breaker_opened.inc();
            }
            (Condition::HalfOpen, Condition::Closed) => {
                self.counts.breakers_open.dec();
            }
            _ => {}
        }
        result
    }

    /// Waits for the right to use a connection, until `deadline`. Cancel-safe.
    pub(crate) async fn turn(
        self: &Arc<Self>,
        clock: &dyn Clock,
        waiting_max: usize,
        deadline: Tick,
    ) -> Result<Turn, Failure> {
        if let Some(permit) = self.turns.try_acquire() {
            return Ok(Turn { origin: self.clone(), _permit: permit });
        }
        let _place = Place::take(self, waiting_max)?;
        let limit = deadline.since(clock.now());
        let permit = wait::until(clock, deadline, self.turns.acquire()).await;
        let permit = permit.ok_or(Failure::Timeout { step: Step::Queue, limit })?;
        Ok(Turn { origin: self.clone(), _permit: permit })
    }

    /// A resting connection whose address `networks` permit, the last used first.
    fn resting(&self, now: Tick, era: u64, networks: &[Network]) -> Option<Link> {
        let mut idle = lock(&self.idle);
        idle.retain(|link| link.usable(now, era));
        let fits = idle.iter().rposition(|link| guard::check(link.peer, networks).is_ok());
        let link = idle.remove(fits?);
        link.wake();
        Some(link)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if self.troubled() {
            self.counts.breakers_open.dec();
        }
    }
}

impl Turn {
    /// Takes a resting connection, if one will do.
    pub(crate) fn resume(self, now: Tick, era: u64, networks: &[Network]) -> Result<Lease, Self> {
        match self.origin.resting(now, era, networks) {
            Some(link) => Ok(Lease { link, turn: self }),
            None => Err(self),
        }
    }

    /// Waits for the place of a new connection: there is one as soon as those that are closing are closed.
    pub(crate) async fn slot(&self) -> Slot {
        let origin = &self.origin;
        let permit = match origin.slots.try_acquire() {
            Some(permit) => permit,
            None => {
                // Whatever rests on a slot will not do for this request: one has to make room.
                drop(lock(&origin.idle).pop());
                origin.slots.acquire().await
            }
        };
        Slot::new(permit, origin.counts.connections.clone())
    }

    /// Uses `link`.
    pub(crate) fn with(self, link: Link) -> Lease {
        Lease { link, turn: self }
    }
}

impl Lease {
    /// Keeps the connection for the next request. Only after a whole answer.
    pub(crate) fn give_back(self, now: Tick) {
        let Self { link, turn } = self;
        link.rest(now);
        if link.usable(now, link.era) {
            lock(&turn.origin.idle).push(link);
        }
    }
    /// Closes the connection and keeps the right to use another.
    pub(crate) fn discard(self) -> Turn {
        self.turn
    }
}

/// A request that the breaker let pass; its verdict is told when this is dropped.
pub(crate) struct Trial {
    origin: Arc<Origin>,
    clock: Arc<dyn Clock>,
    ticket: Ticket,
    verdict: Verdict,
}

impl Trial {
    /// Tells the breaker.
    pub(crate) fn settle(mut self, verdict: Verdict) {
        self.verdict = verdict;
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let now = self.clock.now();
        self.origin.on_breaker(|breaker| breaker.settle(self.ticket, self.verdict, now));
    }
}

/// A place among those who wait.
struct Place<'a>(&'a Origin);

impl<'a> Place<'a> {
    fn take(origin: &'a Origin, most: usize) -> Result<Self, Failure> {
        if origin.waiting.fetch_add(1, Ordering::AcqRel) >= most {
            origin.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(Failure::Crowded(most));
        }
        origin.counts.waiting.inc();
        Ok(Self(origin))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.counts.waiting.dec();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
