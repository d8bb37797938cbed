//! Which leases are alive and until when, by the clock seam. Writes nothing: the writer decides, this remembers.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tutti_base::Tick;

use crate::store::{LeaseId, StoreError};

struct Live {
    ttl: Duration,
    until: Tick,
}

/// The leases alive.
#[derive(Default)]
pub(crate) struct Leases {
    live: Mutex<HashMap<LeaseId, Live>>,
    /// Told when the earliest end may have changed.
    pub(crate) changed: Notify,
}

impl Leases {
    pub(crate) fn start(&self, lease: LeaseId, ttl: Duration, now: Tick) {
        self.live().insert(lease, Live { ttl, until: now + ttl });
        self.changed.notify_one();
    }

    /// As [`Self::start`], with `left` of its time and only where it does not run already.
    pub(crate) fn resume(&self, lease: LeaseId, ttl: Duration, left: Duration, now: Tick) {
        self.live().entry(lease).or_insert(Live { ttl, until: now + left });
        self.changed.notify_one();
    }

    /// Forgets all of them: another node counts their time.
    pub(crate) fn clear(&self) {
        self.live().clear();
    }

    /// Lets `lease` live for its whole time from `asked` on, where its time was not over before; never shortens it.
    pub(crate) fn extend(&self, lease: LeaseId, asked: Tick) -> Result<(), StoreError> {
        let mut live = self.live();
        let found = live.get_mut(&lease).ok_or(StoreError::NoLease(lease))?;
        if asked >= found.until {
            return Err(StoreError::NoLease(lease));
        }
        found.until = found.until.max(asked + found.ttl);
        Ok(())
    }

    /// Gives `lease` its whole time again; an error if its time is over.
    pub(crate) fn keep_alive(&self, lease: LeaseId, now: Tick) -> Result<(), StoreError> {
        let mut live = self.live();
        match live.get_mut(&lease) {
            Some(found) if now < found.until => {
                found.until = now + found.ttl;
                Ok(())
            }
            _ => Err(StoreError::NoLease(lease)),
        }
    }

    pub(crate) fn end(&self, lease: LeaseId) {
        self.live().remove(&lease);
    }

    /// Takes out the leases whose time is over, in order; from here on they cannot be kept alive.
    pub(crate) fn take_due(&self, now: Tick) -> Vec<LeaseId> {
        let mut live = self.live();
        let mut due: Vec<_> =
            live.iter().filter(|(_, lease)| lease.until <= now).map(|(id, _)| *id).collect();
        due.sort();
        for id in &due {
            live.remove(id);
        }
        due
    }

    /// When the next one ends.
    pub(crate) fn next_end(&self) -> Option<Tick> {
        self.live().values().map(|lease| lease.until).min()
    }

    pub(crate) fn len(&self) -> usize {
        self.live().len()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<LeaseId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
