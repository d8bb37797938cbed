//! Leases at the leader: their time is counted there, in memory, and only their end is written to the log.
//!
//! A keep-alive succeeds once a quorum has acknowledged a heartbeat that was sent after it arrived, and then counts from its
//! arrival. For the leader's lease (`election_max_ms`) after a heartbeat no follower votes for another leader, and the
//! leader itself refuses for as long from the start of the round. So whoever is elected next was elected at least that
//! long after the arrival, and may take it off: it lets every lease run for its time less the leader's lease, and a margin
//! for clocks that do not run alike, from its own election. (openraft 0.9.25: `Engine::handle_vote_req`, `UTime::touch`.)
//! No time is taken off where no election lay between: in a cluster of one, and at a leader that was restarted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, select};
use redb::ReadableTable;
use tokio::sync::{mpsc, oneshot};
use tutti_base::{Tick, envelope};

use super::config::KEEP_ALIVES_MAX;
use super::replica::Replica;
use super::status::{RaftRole, RaftStatus};
use super::tables::{Failure, damaged};
use super::types::Refused;
use super::wire::{Answer, Ask};
use crate::record::{LEASES, StoredLease};
use crate::store::{LeaseId, StoreError};

/// Added to what a new leader leaves of a lease.
const MARGIN: Duration = Duration::from_millis(10);

/// A keep-alive that waits for a round.
pub(crate) struct Asked {
    lease: LeaseId,
    at: Tick,
    /// An error if no quorum answered.
    reply: oneshot::Sender<Result<Result<(), Refused>, ()>>,
}

impl Replica {
    /// Keeps `lease` alive, wherever the leader is. Cancel-safe.
    pub(crate) async fn keep_alive(self: &Arc<Self>, lease: LeaseId) -> Result<(), StoreError> {
        let until = self.clock.now() + self.config.write_within();
        while self.clock.now() < until {
            let leader = self.status.borrow().leader;
            let kept = match leader {
                Some(leader) if leader == self.me => {
                    self.unless_over(leader, until, self.keep_alive_here(lease)).await.unwrap_or(Err(()))
                }
                Some(leader) => {
                    let within = until.since(self.clock.now());
                    let ask = Ask::KeepAlive(lease);
                    match self.unless_over(leader, until, self.ask(leader, &ask, within)).await {
                        Some(Ok(Answer::KeepAlive(kept))) => Ok(kept),
                        _ => Err(()),
                    }
                }
                None => Err(()),
            };
            if let Ok(kept) = kept {
                return kept.map_err(StoreError::from);
            }
            self.wait_for_news(until).await;
        }
        Err(self.no_leader())
    }

    async fn keep_alive_here(&self, lease: LeaseId) -> Result<Result<(), Refused>, ()> {
        let (reply, answer) = oneshot::channel();
        let asked = Asked { lease, at: self.clock.now(), reply };
        self.keep_alives.try_send(asked).map_err(|_| ())?;
        answer.await.unwrap_or(Err(()))
    }

    /// Answers a peer that took this node for the leader.
    pub(crate) async fn keep_alive_for(&self, lease: LeaseId) -> Answer {
        match self.keep_alive_here(lease).await {
            Ok(kept) => Answer::KeepAlive(kept),
            Err(()) => self.not_leading("no quorum answered this leader"),
        }
    }

    /// Whether this node counts the time of leases for the term that it leads.
    pub(crate) fn counts_leases(&self) -> bool {
        let status = self.status.borrow();
        let term = self.leases_of.load(Ordering::SeqCst);
        term != 0 && term == status.term && status.role == RaftRole::Leader
    }

    /// Completes when the time of a lease is over.
    pub(crate) async fn lease_is_due(&self) {
        let leases = &self.scene.leases;
        loop {
            let changed = std::pin::pin!(leases.changed.notified());
            match leases.next_end() {
                Some(end) if end <= self.clock.now() && self.counts_leases() => return,
                Some(end) if end > self.clock.now() => {
                    let _: Either<_, _> = select(changed, self.clock.sleep_until(end)).await;
                }
                _ => changed.await,
            }
        }
    }

    pub(crate) fn take_due_leases(&self) -> Vec<LeaseId> {
        if self.counts_leases() { self.scene.leases.take_due(self.clock.now()) } else { Vec::new() }
    }

    /// Begins to count, for the term that this node leads.
    async fn count_leases(&self, status: &RaftStatus, counted: &mut u64) -> Result<(), StoreError> {
        let raft = self.raft()?;
        if *counted != status.term {
            self.scene.leases.clear();
        }
        self.scene.counts_leases.store(true, Ordering::SeqCst);
        raft.ensure_linearizable().await.map_err(|error| StoreError::NoLeader(error.to_string()))?;
        let is_inherited = self.inherited_term.load(Ordering::SeqCst) == status.term;
        let takes_off = status.voters.len() > 1 && !is_inherited && *counted != status.term;
        let off = if takes_off { self.config.lease() } else { Duration::ZERO };
        let now = self.clock.now();
        for (lease, ttl) in self.stored_leases()? {
            self.scene.leases.resume(lease, ttl, ttl.saturating_sub(off) + MARGIN, now);
        }
        *counted = status.term;
        self.leases_of.store(status.term, Ordering::SeqCst);
        self.scene.leases.changed.notify_one();
        Ok(())
    }

    fn stored_leases(&self) -> Result<Vec<(LeaseId, Duration)>, Failure> {
        let mut leases = Vec::new();
        for found in self.vault.read()?.open_table(LEASES)?.iter()? {
            let (id, bytes) = found?;
            let stored: StoredLease = envelope::open(bytes.value()).map_err(damaged("a lease"))?;
            leases.push((LeaseId(id.value()), Duration::from_millis(stored.ttl_ms)));
        }
        Ok(leases)
    }
}

/// Counts leases whenever this node leads.
pub(crate) async fn count(replica: Arc<Replica>) {
    let mut statuses = replica.status.subscribe();
    let mut counted = 0;
    loop {
        let status = statuses.borrow_and_update().clone();
        let leads = status.role == RaftRole::Leader;
        if !leads && replica.scene.counts_leases.swap(false, Ordering::SeqCst) {
            replica.leases_of.store(0, Ordering::SeqCst);
            replica.scene.leases.clear();
        }
        if leads && replica.leases_of.load(Ordering::SeqCst) != status.term {
            let lost = statuses.wait_for(|now| now.role != RaftRole::Leader || now.term != status.term);
            tokio::select! {
                biased;
                _ = replica.count_leases(&status, &mut counted) => {}
                _ = lost => {}
            }
            if replica.leases_of.load(Ordering::SeqCst) != status.term {
                replica.pause(replica.config.heartbeat() / 2).await;
                continue;
            }
        }
        let changed = std::pin::pin!(statuses.changed());
        let moment = replica.clock.sleep_until(replica.clock.now() + replica.config.heartbeat());
        if let Either::Left((Err(_), _)) = select(changed, moment).await {
            return;
        }
    }
}

/// Has what waits confirmed by rounds of heartbeats, one round after another.
pub(crate) async fn run(replica: Arc<Replica>, mut waiting: mpsc::Receiver<Asked>) {
    while let Some(first) = waiting.recv().await {
        let mut asked = vec![first];
        while asked.len() < KEEP_ALIVES_MAX
            && let Ok(next) = waiting.try_recv()
        {
            asked.push(next);
        }
        let is_leading = replica.round().await;
        for Asked { lease, at, reply } in asked {
            // Who asked may have gone.
            let _ = reply.send(match is_leading && replica.counts_leases() {
                true => Ok(replica.scene.leases.extend(lease, at).map_err(|_| Refused::NoLease(lease))),
                false => Err(()),
            });
        }
    }
}

impl Replica {
    /// Whether a quorum answered a heartbeat that was sent from now on. From now on until the lease after, this node
    /// votes for nobody else.
    async fn round(&self) -> bool {
        let Ok(raft) = self.raft() else { return false };
        if !self.counts_leases() || self.is_muted.load(Ordering::SeqCst) {
            return false;
        }
        let before = self.loyal_until.load(Ordering::SeqCst);
        let loyal_until = self.clock.now() + self.config.lease();
        self.loyal_until.store(loyal_until.0, Ordering::SeqCst);
        self.counts.rounds.inc();
        if raft.get_read_log_id().await.is_ok() {
            return true;
        }
        self.loyal_until.store(before, Ordering::SeqCst);
        false
    }
}
