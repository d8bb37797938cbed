//! One node's part of the replicated store: what all its tasks share, and starting openraft upon it. Each task is a file
//! beside this one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redb::WriteTransaction;
use tokio::sync::{mpsc, oneshot, watch};
use tutti_base::disk::Disk;
use tutti_base::rng::Rng;
use tutti_base::{Clock, NodeId, Peers, Tick};

use super::config::{REPLICAS_MAX, RaftConfig};
use super::counts::RaftCounts;
use super::health::Health;
use super::log::Log;
use super::machine::{Machine, Scene};
use super::network::Dialer;
use super::pen::{Lasts, Pen, Task};
use super::propose::Proposal;
use super::runtime;
use super::service::Guard;
use super::status::RaftStatus;
use super::tables::{self, EPOCH, Failure, Known, LOG, NUMBERS, PURGED, RUN, VOTE, put_cell};
use super::types::{AppliedRecord, PlaceRecord, Raft, Vote, VoteRecord};
use super::vault::Vault;
use super::{keep_alive, tables::APPLIED};
use crate::store::StoreError;

/// What the tasks of a node's store share.
pub(crate) struct Replica {
    pub(crate) me: NodeId,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Mutex<Box<dyn Rng>>,
    pub(crate) config: RaftConfig,
    pub(crate) counts: Arc<RaftCounts>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) pen: Arc<Pen>,
    pub(crate) health: Arc<Health>,
    pub(crate) scene: Arc<Scene>,
    pub(crate) raft: ArcSwapOption<Raft>,
    /// The log that the running raft writes.
    pub(crate) log: ArcSwapOption<Log>,
    /// Replaced with every start of raft.
    pub(crate) restarted: watch::Sender<u64>,
    pub(crate) status: watch::Sender<Arc<RaftStatus>>,
    pub(crate) epoch: AtomicU64,
    /// Whether this node was never part of a cluster: it takes any epoch.
    pub(crate) is_new: AtomicBool,
    /// The term that it led when raft was started, if it did: no election came between.
    pub(crate) inherited_term: AtomicU64,
    /// The term for which this node counts the time of leases; 0 for none.
    pub(crate) leases_of: AtomicU64,
    /// When the leader was last heard, as a tick.
    pub(crate) heard: AtomicU64,
    /// Until when this node, leading, refuses to vote for another, as a tick.
    pub(crate) loyal_until: AtomicU64,
    /// Whether it says nothing to followers, because no quorum answers it.
    pub(crate) is_muted: AtomicBool,
    /// This run's number; grows with every start.
    pub(crate) run: AtomicU64,
    pub(crate) sequence: AtomicU64,
    pub(crate) proposals: mpsc::Sender<Proposal>,
    pub(crate) keep_alives: mpsc::Sender<keep_alive::Asked>,
    /// The voters and learners that were seen last.
    pub(crate) members: Mutex<(Vec<NodeId>, Vec<NodeId>)>,
    /// Held while it is being made anew.
    pub(crate) rejoining: tokio::sync::Mutex<()>,
    /// Who said that the cluster went on under a newer epoch, and may be believed: whom to ask for the way back into it.
    pub(crate) guides: Mutex<Vec<NodeId>>,
    /// What the roles of other nodes allow; unset, everything.
    pub(crate) guard: OnceLock<Arc<dyn Guard>>,
}

impl Replica {
    /// Openraft, where it runs.
    pub(crate) fn raft(&self) -> Result<Arc<Raft>, StoreError> {
        self.raft.load_full().ok_or(StoreError::Closed)
    }

    pub(crate) fn draw(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Starts openraft upon what is on disk.
    pub(crate) async fn start(self: &Arc<Self>, known: &Known) -> Result<(), StoreError> {
        self.epoch.store(known.epoch, Ordering::SeqCst);
        self.is_new.store(known.is_new(), Ordering::SeqCst);
        let led = known.vote.filter(|vote| vote.is_committed() && vote.leader_id().node_id == self.me.0);
        self.inherited_term.store(led.map_or(0, |vote| vote.leader_id().term), Ordering::SeqCst);
        self.scene.applied.send_replace(known.applied.last.map_or(0, |last| last.index));
        self.heard.store(self.clock.now().0, Ordering::SeqCst);
        self.loyal_until.store(0, Ordering::SeqCst);
        self.is_muted.store(false, Ordering::SeqCst);
        let log = Log::new(self.vault.clone(), self.pen.clone(), self.health.clone(), known);
        self.log.store(Some(Arc::new(log.clone())));
        let machine = Machine(self.scene.clone());
        let config = Arc::new(self.config.for_raft());
        let dialer = Dialer { replica: Arc::downgrade(self) };
        runtime::seed(self.draw());
        let raft = openraft::Raft::new(self.me.0, config, dialer, log, machine).await;
        let raft = raft.map_err(|error| StoreError::Open(format!("the replicated log: {error}")))?;
        self.raft.store(Some(Arc::new(raft)));
        self.restarted.send_modify(|times| *times += 1);
        Ok(())
    }

    /// Stops openraft and waits until it is still.
    pub(crate) async fn stop(&self) {
        if let Some(raft) = self.raft.swap(None) {
            let _ = raft.shutdown().await;
        }
        self.scene.counts_leases.store(false, Ordering::SeqCst);
        self.leases_of.store(0, Ordering::SeqCst);
        self.scene.leases.clear();
    }

    /// Reads from disk what a new start needs.
    pub(crate) fn known(&self) -> Result<Known, Failure> {
        tables::open(&*self.vault.database()?)
    }

    /// Writes `surgery` durably, while openraft does not run.
    pub(crate) async fn operate(&self, surgery: Surgery) -> Result<(), StoreError> {
        let (done, written) = oneshot::channel();
        self.pen.hand(Box::new(Operation { surgery, done }));
        written.await.unwrap_or(Err(Failure::Closed)).map_err(StoreError::from)
    }

    /// Notes damage that a read met, where others have a whole copy.
    pub(crate) fn note_read(&self, error: &StoreError) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(error, StoreError::Damaged { .. }) && members.0.len() + members.1.len() > 1 {
            self.health.note(&Failure::Damaged(error.to_string()));
        }
    }

    /// Notes a message of the epoch `theirs`. Whether its sender is of this node's cluster as of now.
    pub(crate) async fn meet(&self, from: NodeId, theirs: u64) -> Met {
        let ours = self.epoch();
        if theirs == ours {
            return Met::Same;
        }
        if theirs < ours {
            return Met::Older;
        }
        if !self.is_new.load(Ordering::SeqCst) {
            return self.hear_of_epoch(from);
        }
        if !self.may_lead(from) {
            return self.disbelieve();
        }
        let adopted = Surgery { epoch: Some(theirs), ..Surgery::default() };
        match self.operate(adopted).await {
            Ok(()) => {
                self.epoch.store(theirs, Ordering::SeqCst);
                Met::Same
            }
            Err(_) => Met::Newer,
        }
    }

    /// Notes that `from`, which may be believed, names a newer epoch. It still has to show where that began:
    /// [`super::rejoin::run`] asks.
    fn hear_of_epoch(&self, from: NodeId) -> Met {
        if !self.trusts(from) {
            return self.disbelieve();
        }
        let mut guides = self.guides.lock().unwrap_or_else(PoisonError::into_inner);
        if !guides.contains(&from) && guides.len() < REPLICAS_MAX {
            guides.push(from);
            self.health.changed.notify_waiters();
        }
        Met::Newer
    }

    /// Counts an epoch that is not believed.
    pub(crate) fn disbelieve(&self) -> Met {
        self.counts.disbelieved.inc();
        Met::Disbelieved
    }

    /// Whether `node` is believed when it names a newer epoch: it has a copy as of the membership known here, and its
    /// roles let it lead.
    pub(crate) fn trusts(&self, node: NodeId) -> bool {
        let is_member = {
            let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
            members.0.contains(&node) || members.1.contains(&node)
        };
        is_member && self.may_lead(node)
    }

    /// Whether the roles of `node` let it lead.
    pub(crate) fn may_lead(&self, node: NodeId) -> bool {
        self.guard.get().is_none_or(|guard| guard.may_lead(node))
    }

    /// How long ago `tick` was.
    pub(crate) fn since(&self, tick: &AtomicU64) -> Duration {
        self.clock.now().since(Tick(tick.load(Ordering::SeqCst)))
    }

    /// Waits for `by`, by the clock.
    pub(crate) async fn pause(&self, by: Duration) {
        self.clock.sleep_until(self.clock.now() + by).await;
    }
}

/// How a message's epoch stands to this node's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Met {
    Same,
    /// The other one was left behind.
    Older,
    /// This node was left behind, as one says that may be believed; it is looked into.
    Newer,
    /// The other one says so, and may not be believed.
    Disbelieved,
}

/// Changes to this node's own values that openraft does not make.
#[derive(Default)]
pub(crate) struct Surgery {
    pub(crate) epoch: Option<u64>,
    pub(crate) run: Option<u64>,
    pub(crate) vote: Option<Vote>,
    /// The state covers this, and the log is empty before and after it.
    pub(crate) base: Option<AppliedRecord>,
    /// Begins an epoch at this entry.
    pub(crate) fork: Option<(u64, u64)>,
}

struct Operation {
    surgery: Surgery,
    done: oneshot::Sender<Result<(), Failure>>,
}

impl Task for Operation {
    fn lasts(&self) -> Lasts {
        Lasts::Durably
    }
    fn write(&mut self, disk: &WriteTransaction) -> Result<(), Failure> {
        let surgery = &self.surgery;
        let mut numbers = disk.open_table(NUMBERS)?;
        if let Some(epoch) = surgery.epoch {
            numbers.insert(EPOCH, epoch)?;
        }
        if let Some(run) = surgery.run {
            numbers.insert(RUN, run)?;
        }
        if let Some(vote) = surgery.vote {
            put_cell(disk, VOTE, &VoteRecord(vote))?;
        }
        if let Some((epoch, fork)) = surgery.fork {
            disk.open_table(tables::EPOCHS)?.insert(epoch, fork)?;
        }
        if let Some(base) = &surgery.base {
            disk.open_table(LOG)?.retain(|_, _| false)?;
            put_cell(disk, APPLIED, base)?;
            put_cell(disk, PURGED, &PlaceRecord(base.last))?;
        }
        Ok(())
    }
    fn done(self: Box<Self>, outcome: Result<(), Failure>) {
        let _ = self.done.send(outcome);
    }
}
