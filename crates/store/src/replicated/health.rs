//! Whether this node's storage may be believed. The first reason to doubt it stays until the storage is made anew.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::tables::Failure;

/// How a replica is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "reason")]
pub enum ReplicaHealth {
    /// Nothing is known to be wrong.
    #[default]
    Ok,
    /// Its log, its state or its disk failed: it takes no part until it is repaired.
    Damaged(String),
    /// Its peers went on without it under a newer epoch; it is joining them again.
    Superseded(u64),
}

/// The health of this node's storage.
#[derive(Default)]
pub(crate) struct Health {
    now: Mutex<ReplicaHealth>,
    /// Told of every change.
    pub(crate) changed: Notify,
}

impl Health {
    pub(crate) fn now(&self) -> ReplicaHealth {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.now() == ReplicaHealth::Ok
    }

    /// Notes a failure, unless it says only that the store was closed.
    pub(crate) fn note(&self, failure: &Failure) {
        if *failure != Failure::Closed {
            self.fall(ReplicaHealth::Damaged(failure.to_string()));
        }
    }

    /// Notes that the cluster goes on under `epoch`.
    pub(crate) fn superseded(&self, epoch: u64) {
        self.fall(ReplicaHealth::Superseded(epoch));
    }

    fn fall(&self, to: ReplicaHealth) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == ReplicaHealth::Ok {
            *now = to;
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn recover(&self) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = ReplicaHealth::Ok;
        self.changed.notify_waiters();
    }
}
