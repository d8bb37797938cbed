//! A duty of the cluster that one node at a time holds, under a lease: the cluster's address, a schedule. Does not know
//! what the duty is.
//!
//! The holder counts by its own clock, from before each renewal was sent, and lets go after two thirds of the lease
//! without a confirmed one; the store counts the whole lease from when the renewal arrived. So a holder whose timers run
//! has let go a third of the lease before another can take the duty, and one that was stopped finds out by its clock. The
//! fencing token settles what remains: who guards the thing refuses a lower one than the highest that it has seen. It is
//! the revision at which the duty was taken, and not the lease's own: of two leases granted at once the older may be the
//! second to take the duty.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tutti_base::envelope::{self, Versioned};
use tutti_base::rng::Rng;
use tutti_base::{Clock, NodeId, Tick, Wall};
use tutti_store::{Check, Key, LeaseId, Op, Revision, Store, StoreError, Txn, Watch, WatchError};

use crate::counts::Counts;
use crate::journal::Journal;

/// The table of the duties.
pub const TABLE: &str = "duties";
/// The longest lease of a duty.
pub const TTL_MAX: Duration = Duration::from_secs(60);

/// The holder lets go after this part of the lease without a confirmed renewal.
const LET_GO: (u32, u32) = (2, 3);
/// A renewal is sent every this part of the lease; a failed one is tried again after a quarter of that.
const RENEW: u32 = 4;
/// A duty that has come free is tried for after a random part of the lease, at most this, so that not all try at once.
const JITTER: u32 = 20;
/// Without word of a change the duty is looked at again after this part of the lease.
const LOOK: u32 = 2;

/// What is stored while a node holds a duty; the fencing token is the revision at which the key came to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DutyRecord {
    /// The holder.
    pub node: NodeId,
    /// Since when.
    pub since: Wall,
}

impl Versioned for DutyRecord {
    const KIND: u8 = 117;
    const VERSION: u16 = 1;
}

/// The thing that a duty is about. All of it is called on one task, and must not block.
pub trait Holder: Send + Sync {
    /// Whether this node may hold it now: has the role, does not drain, is sound. [`Duty::poke`] tells of changes.
    fn may_hold(&self) -> bool;
    /// The duty is this node's from now on, with this fencing token. An error gives it back at once.
    fn take(&self, token: u64) -> Result<(), String>;
    /// The duty is this node's no longer: stop at once.
    fn release(&self);
}

/// Where a duty is kept, and what time and chance it runs by.
pub struct Outside {
    /// This node.
    pub me: NodeId,
    /// Where the leases are.
    pub store: Arc<dyn Store>,
    /// The time. It must go on while the process is stopped.
    pub clock: Arc<dyn Clock>,
    /// For the jitter.
    pub rng: Box<dyn Rng>,
    /// What is counted.
    pub counts: Counts,
    /// Where it is told.
    pub journal: Journal,
}

/// One duty, as one node tries for it and holds it. Share it in an `Arc`.
pub struct Duty {
    name: String,
    ttl: Duration,
    me: NodeId,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rng: Mutex<Box<dyn Rng>>,
    counts: Counts,
    journal: Journal,
    held: Mutex<Option<Hold>>,
    changed: Notify,
    is_stopping: AtomicBool,
}

/// What this node believes to hold.
#[derive(Clone, Copy)]
struct Hold {
    lease: LeaseId,
    /// When the last confirmed renewal was sent.
    asked: Tick,
    /// When the key was written: the fencing token.
    written: Revision,
}

impl Hold {
    fn token(&self) -> u64 {
        self.written.0
    }
}

/// Why a duty was let go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It was not confirmed in time.
    RanOut,
    /// The store says that it is gone.
    Gone,
    /// This node gives it up.
    GivenUp,
}

impl End {
    const fn why(self) -> &'static str {
        match self {
            End::RanOut => "its lease was not confirmed in time",
            End::Gone => "its lease is gone",
            End::GivenUp => "this node drains, stops or cannot do it",
        }
    }
}

impl Duty {
    /// The duty `name` under leases of `ttl`: at least the store's shortest, at most [`TTL_MAX`]. Spawn [`Self::run`].
    pub fn new(name: &str, ttl: Duration, outside: Outside) -> Arc<Self> {
        let ttl = ttl.clamp(tutti_store::store::LEASE_TTL_MIN, TTL_MAX);
        Arc::new(Self {
            name: name.into(),
            ttl,
            me: outside.me,
            store: outside.store,
            clock: outside.clock,
            rng: Mutex::new(outside.rng),
            counts: outside.counts,
            journal: outside.journal,
            held: Mutex::new(None),
            changed: Notify::new(),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// Tries for the duty and holds it, until [`Self::stop`]; then it has been released and given back. Dropped while it
    /// holds, it releases, and the lease runs out.
    pub async fn run(self: Arc<Self>, holder: Arc<dyn Holder>) {
        let _guard = ReleaseOnDrop { duty: Arc::clone(&self), holder: Arc::clone(&holder) };
        while !self.is_stopping() {
            if !self.is_free_for(&*holder).await {
                continue;
            }
            match self.try_for_it(&*holder).await {
                Some(lease) => {
                    let end = self.keep(lease, &*holder).await;
                    self.let_go(&*holder, end);
                    if end == End::GivenUp {
                        self.give_back(lease).await;
                    }
                }
                None => self.pause(self.ttl / RENEW).await,
            }
        }
    }

    /// Gives the duty back, and makes [`Self::run`] return.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// Looks again whether this node may hold it.
    pub fn poke(&self) {
        self.changed.notify_one();
    }

    /// The fencing token, while this node holds the duty by its own clock; right even in a process that was stopped.
    pub fn token(&self) -> Option<u64> {
        let hold = (*self.held())?;
        (self.clock.now() < self.end_of(&hold)).then(|| hold.token())
    }

    /// The condition under which a transaction is applied only as long as this node holds the duty; none if it does not
    /// by its own clock.
    pub fn fence(&self) -> Option<Check> {
        self.token()?;
        let lease = (*self.held())?.lease;
        Some(Check::Held(self.key(), lease))
    }

    /// Who holds the duty as the local store shows it, with the fencing token.
    pub fn holder(&self) -> Result<Option<(DutyRecord, u64)>, StoreError> {
        holder(&*self.store, &self.name)
    }

    /// Waits for a reason to look again, then looks: whether the duty is free and this node may hold it.
    async fn is_free_for(&self, holder: &dyn Holder) -> bool {
        let revision = self.store.revision();
        let is_free = || matches!(self.store.get(&self.key()), Ok(None));
        if holder.may_hold() && is_free() {
            let jitter = self.jitter();
            self.pause(jitter).await;
            return !self.is_stopping() && holder.may_hold() && is_free();
        }
        let look = self.clock.sleep_until(self.clock.now() + self.ttl / LOOK);
        let watch = self.store.watch(TABLE, self.name.as_bytes(), revision).ok();
        tokio::select! {
            () = look => {}
            () = self.changed.notified() => {}
            () = next_change(watch) => {}
        }
        false
    }

    /// Takes the duty if it is still free; the lease, if this node holds it now. What takes so long that it would have to
    /// be let go at once is given up; a lease that was granted by then runs out by itself.
    async fn try_for_it(&self, holder: &dyn Holder) -> Option<LeaseId> {
        let asked = self.clock.now();
        let claim = std::pin::pin!(self.claim());
        let (lease, written) = match select(claim, self.clock.sleep_until(self.end_after(asked))).await {
            Either::Left((claimed, _)) => claimed?,
            Either::Right(_) => return None,
        };
        let hold = Hold { lease, asked, written };
        let is_in_time = self.clock.now() < self.end_of(&hold);
        if !is_in_time || self.is_stopping() || !holder.may_hold() {
            self.give_back(lease).await;
            return None;
        }
        let token = hold.token();
        if let Err(error) = holder.take(token) {
            tracing::warn!(duty = self.name, error, "this node cannot do what it took on; it gives it back");
            self.give_back(lease).await;
            return None;
        }
        *self.held() = Some(hold);
        self.counts.held.inc();
        self.counts.taken.inc();
        self.journal.note(format!("this node holds the {} (token {token})", self.name), "it was free");
        Some(lease)
    }

    /// A lease with the duty's key under it, and when that was written; none if another was faster.
    async fn claim(&self) -> Option<(LeaseId, Revision)> {
        let lease = self.store.grant(self.ttl).await.ok()?.id;
        let record = DutyRecord { node: self.me, since: self.clock.wall() };
        let put = Op::Put { at: self.key(), value: envelope::seal(&record).into(), lease: Some(lease) };
        let txn = Txn::of([put]).when(Check::Absent(self.key()));
        match self.store.commit(txn).await.ok().and_then(|commit| commit.done()) {
            Some(written) => Some((lease, written)),
            None => {
                self.give_back(lease).await;
                None
            }
        }
    }

    /// Renews until the duty must be let go.
    async fn keep(&self, lease: LeaseId, holder: &dyn Holder) -> End {
        let Some(hold) = *self.held() else { return End::Gone };
        let mut renew_at = hold.asked + self.ttl / RENEW;
        loop {
            let Some(hold) = *self.held() else { return End::Gone };
            let end = self.end_of(&hold);
            if self.is_stopping() || !holder.may_hold() {
                return End::GivenUp;
            }
            let now = self.clock.now();
            if now >= end {
                return End::RanOut;
            }
            if now < renew_at {
                let wait = self.clock.sleep_until(renew_at.min(end));
                select(std::pin::pin!(self.changed.notified()), wait).await;
                continue;
            }
            if self.was_taken_away(&hold) {
                return End::Gone;
            }
            match select(self.store.keep_alive(lease), self.clock.sleep_until(end)).await {
                Either::Left((Ok(()), _)) => {
                    renew_at = now + self.ttl / RENEW;
                    self.confirm(now, end);
                }
                Either::Left((Err(StoreError::NoLease(_)), _)) => return End::Gone,
                Either::Left((Err(_), _)) => renew_at = self.clock.now() + self.ttl / (RENEW * 4),
                Either::Right(_) => return End::RanOut,
            }
        }
    }

    /// Counts the confirmed renewal that was sent at `asked`, if the duty has not run out by now.
    fn confirm(&self, asked: Tick, end: Tick) {
        if self.clock.now() < end
            && let Some(hold) = &mut *self.held()
        {
            hold.asked = asked;
        }
    }

    /// Whether somebody deleted the key, although the lease may live. A local store that is behind does not say so.
    fn was_taken_away(&self, hold: &Hold) -> bool {
        if self.store.revision() < hold.written {
            return false;
        }
        match self.store.get(&self.key()) {
            Ok(found) => found.and_then(|entry| entry.lease) != Some(hold.lease),
            Err(_) => false,
        }
    }

    fn let_go(&self, holder: &dyn Holder, end: End) {
        if self.held().take().is_none() {
            return;
        }
        holder.release();
        self.counts.held.dec();
        if end == End::RanOut {
            self.counts.ran_out.inc();
        }
        self.journal.note(format!("this node no longer holds the {}", self.name), end.why());
    }

    /// Ends the lease, so that others need not wait for it; no more than a lease's time.
    async fn give_back(&self, lease: LeaseId) {
        let until = self.clock.now() + self.ttl;
        select(self.store.revoke(lease), self.clock.sleep_until(until)).await;
    }

    /// Waits for `how_long`, or until it is stopped.
    async fn pause(&self, how_long: Duration) {
        let timer = self.clock.sleep_until(self.clock.now() + how_long);
        select(std::pin::pin!(self.changed.notified()), timer).await;
    }

    fn jitter(&self) -> Duration {
        let most = (self.ttl / JITTER).as_nanos().min(u128::from(u64::MAX)) as u64;
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_nanos(rng.below(most.max(1)))
    }

    fn end_of(&self, hold: &Hold) -> Tick {
        self.end_after(hold.asked)
    }

    fn end_after(&self, asked: Tick) -> Tick {
        let (part, whole) = LET_GO;
        asked + self.ttl * part / whole
    }

    fn key(&self) -> Key {
        key(&self.name)
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    fn held(&self) -> MutexGuard<'_, Option<Hold>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who holds the duty `name` as `store` shows it, with the fencing token.
pub fn holder(store: &dyn Store, name: &str) -> Result<Option<(DutyRecord, u64)>, StoreError> {
    let Some(found) = store.get(&key(name))? else { return Ok(None) };
    let damaged =
        |error: envelope::EnvelopeError| StoreError::Damaged { at: key(name), reason: error.to_string() };
    let record = envelope::open(&found.value).map_err(damaged)?;
    Ok(Some((record, found.created.0)))
}

fn key(name: &str) -> Key {
    Key::new(TABLE, name)
}

async fn next_change(watch: Option<Box<dyn Watch>>) {
    if let Some(mut watch) = watch
        && watch.next().await != Err(WatchError::Closed)
    {
        return;
    }
    // The timer looks again.
    std::future::pending().await
}

/// Releases a duty whose task is dropped.
struct ReleaseOnDrop {
    duty: Arc<Duty>,
    holder: Arc<dyn Holder>,
}

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        self.duty.let_go(&*self.holder, End::GivenUp);
    }
}
