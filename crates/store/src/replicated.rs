//! The store of a cluster: Raft over the seam to peers, redb on the seam to the disk, local reads on every node. Knows no
//! addresses: who is whom is known elsewhere.

mod backup;
mod config;
mod counts;
mod election;
mod health;
mod keep_alive;
mod late;
mod log;
mod machine;
mod network;
mod pen;
mod propose;
mod rejoin;
mod replica;
mod runtime;
mod service;
mod snapshot;
mod status;
mod tables;
mod types;
mod vault;
mod wire;

#[cfg(test)]
mod suite;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, EmptyNode};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tutti_base::disk::Disk;
use tutti_base::rng::Rng;
use tutti_base::{BoxFuture, Clock, NodeId, Peers, Serve};
use tutti_telemetry::Metrics;

pub use self::backup::{KEPT_BY_RESTORE, Restored};
pub use self::config::{
    APPEND_BYTES_MAX, CHUNK_BYTES_MAX, ELECTED_WITHIN, KEEP_ALIVES_MAX, OUTCOMES_MAX, PROPOSAL_BYTES_MAX,
    PROPOSAL_WRITES_MAX, RECENT_BYTES_MAX, RECENT_ENTRIES_MAX, REPLICAS_MAX, RaftConfig, SNAPSHOT_BYTES_MAX,
};
pub use self::health::ReplicaHealth;
pub use self::late::late_file;
pub use self::pen::Writing;
pub use self::service::Guard;
pub use self::snapshot::Sealed;
pub use self::status::{RaftRole, RaftStatus};
pub use self::vault::wipe;

use self::counts::RaftCounts;
use self::machine::Scene;
use self::pen::Pen;
use self::replica::{Replica, Surgery};
use self::service::Service;
use self::vault::Vault;
use self::wire::{Answer, Ask};
use crate::counts::Counts;
use crate::reading;
use crate::record::{VALUES, split_name};
use crate::store::{Entry, Lease, LeaseId, Page, Revision, Scan, Store, StoreError, Watch, check_ttl};
use crate::txn::{Commit, KEY_MAX, Key, Txn, check_table};
use crate::work::{Command, Reply};

/// The world of a replicated store but for its disk and its peers.
pub struct Outside {
    /// Counts the time of leases, waits and deadlines. Raft's own timers are tokio's.
    pub clock: Arc<dyn Clock>,
    /// Draws the election time-out.
    pub rng: Box<dyn Rng>,
    /// Who writes the file.
    pub writing: Writing,
}

/// One node's copy of the store of a cluster. Dropping it stops its tasks without a word to the others.
pub struct ReplicatedStore {
    replica: Arc<Replica>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl ReplicatedStore {
    /// Opens or makes the store `store.redb` on `disk` and takes part in what its node was part of; a new node waits to be
    /// added, or to be told to found a cluster. A file of one node from before is the state of the cluster that it
    /// founds. Needs a tokio runtime; checks the whole file, which blocks.
    ///
    /// Errors: the file is damaged ([`wipe`] it on a node that is not the only voter), of a newer version, or in use.
    pub async fn open(
        disk: Arc<dyn Disk>,
        me: NodeId,
        peers: Arc<dyn Peers>,
        outside: Outside,
        metrics: &Metrics,
        config: &RaftConfig,
    ) -> Result<Arc<Self>, StoreError> {
        config.validate().map_err(StoreError::Open)?;
        let (vault, known, revision) = Vault::open(disk.clone(), config.cache_bytes)?;
        let counts = Counts::register(metrics, config.queue);
        let raft_counts = RaftCounts::register(metrics, config);
        let pen = Pen::new(vault.clone(), outside.clock.clone(), counts.clone(), outside.writing)?;
        let clock = (&outside.clock, outside.writing);
        let snapshots = raft_counts.snapshots.clone();
        let scene = Arc::new(Scene::new(&vault, &pen, clock, counts, snapshots, revision));
        let (proposals, waiting_proposals) = mpsc::channel(config.queue);
        let (keep_alives, waiting_keep_alives) = mpsc::channel(KEEP_ALIVES_MAX);
        let run = (known.run + 1).max(outside.clock.wall().0);
        let first = RaftStatus { me, ..RaftStatus::default() };
        let replica = Arc::new(Replica {
            me,
            disk,
            peers,
            clock: outside.clock,
            rng: Mutex::new(outside.rng),
            config: config.clone(),
            counts: raft_counts,
            vault,
            pen,
            health: scene.health.clone(),
            scene,
            raft: Default::default(),
            log: Default::default(),
            restarted: watch::Sender::new(0),
            status: watch::Sender::new(Arc::new(first)),
            epoch: AtomicU64::new(known.epoch),
            is_new: AtomicBool::new(true),
            inherited_term: AtomicU64::new(0),
            leases_of: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            loyal_until: AtomicU64::new(0),
            is_muted: AtomicBool::new(false),
            run: AtomicU64::new(run),
            sequence: AtomicU64::new(1),
            proposals,
            keep_alives,
            members: Mutex::default(),
            rejoining: tokio::sync::Mutex::default(),
            guides: Mutex::default(),
            guard: OnceLock::new(),
        });
        replica.operate(Surgery { run: Some(run), ..Surgery::default() }).await?;
        replica.start(&known).await?;
        let tasks = vec![
            tokio::spawn(status::run(replica.clone())),
            tokio::spawn(election::run(replica.clone())),
            tokio::spawn(propose::run(replica.clone(), waiting_proposals)),
            tokio::spawn(keep_alive::run(replica.clone(), waiting_keep_alives)),
            tokio::spawn(keep_alive::count(replica.clone())),
            tokio::spawn(rejoin::run(replica.clone())),
        ];
        Ok(Arc::new(Self { replica, tasks: Mutex::new(tasks) }))
    }

    /// Makes a cluster of one of this node, unless it is part of one already, and leads it. For a first start.
    pub async fn found(&self) -> Result<(), StoreError> {
        self.replica.found().await
    }

    /// What answers [`tutti_base::Topic::STORE`].
    pub fn service(&self) -> Arc<dyn Serve> {
        Arc::new(Service { replica: Arc::downgrade(&self.replica), guard: None })
    }

    /// The same, for nodes that `guard` does not trust with everything. The first guard given also says whose epoch this
    /// node believes.
    pub fn guarded_service(&self, guard: Arc<dyn Guard>) -> Arc<dyn Serve> {
        let guard = Arc::clone(self.replica.guard.get_or_init(|| guard));
        Arc::new(Service { replica: Arc::downgrade(&self.replica), guard: Some(guard) })
    }

    /// How the store is, now and with every change.
    pub fn status(&self) -> watch::Receiver<Arc<RaftStatus>> {
        self.replica.status.subscribe()
    }

    /// At the leader: makes `node` a learner, which gets a copy of everything. Nothing happens if it has one. Not
    /// cancel-safe.
    pub async fn add_learner(&self, node: NodeId) -> Result<(), StoreError> {
        let status = self.replica.status.borrow().clone();
        if status.voters.contains(&node) || status.learners.contains(&node) {
            return self.leading().map(|_| ());
        }
        let members = status.voters.len() + status.learners.len();
        StoreError::within("number of nodes with a copy", members + 1, REPLICAS_MAX)?;
        let raft = self.leading()?;
        raft.add_learner(node.0, EmptyNode {}, false).await.map(|_| ()).map_err(not_changed)
    }

    /// At the leader: makes exactly `voters` vote. They must be learners or voters; voters that are not among them become
    /// learners. Waits until it is committed. Not cancel-safe.
    pub async fn set_voters(&self, voters: Vec<NodeId>) -> Result<(), StoreError> {
        if voters.is_empty() {
            return Err(StoreError::Invalid(
                "a store without a voter takes no writes; name at least one".into(),
            ));
        }
        let voters: BTreeSet<u64> = voters.into_iter().map(|id| id.0).collect();
        let raft = self.leading()?;
        raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), true)
            .await
            .map(|_| ())
            .map_err(not_changed)
    }

    /// At the leader: forgets `node`. A voter gives up its vote first. Not cancel-safe.
    pub async fn remove(&self, node: NodeId) -> Result<(), StoreError> {
        let raft = self.leading()?;
        let status = self.replica.status.borrow().clone();
        let changes = BTreeSet::from([node.0]);
        let changes = if status.voters.contains(&node) {
            if status.voters.len() == 1 {
                let text = format!("node {node} is the only voter; make another one vote first");
                return Err(StoreError::Invalid(text));
            }
            ChangeMembers::RemoveVoters(changes)
        } else if status.learners.contains(&node) {
            ChangeMembers::RemoveNodes(changes)
        } else {
            return Ok(());
        };
        raft.change_membership(changes, false).await.map(|_| ()).map_err(not_changed)
    }

    fn leading(&self) -> Result<Arc<types::Raft>, StoreError> {
        let status = self.replica.status.borrow();
        if status.leads() {
            self.replica.raft()
        } else {
            Err(StoreError::NotLeader { leader: status.leader })
        }
    }

    /// Waits until reads here show everything that was acknowledged anywhere before the call. The revision that they show
    /// then. Cancel-safe.
    pub async fn linearize(&self) -> Result<Revision, StoreError> {
        let replica = &self.replica;
        let until = replica.clock.now() + replica.config.write_within();
        while replica.clock.now() < until {
            let leader = replica.status.borrow().leader;
            if let Some(index) = self.read_index(leader, until.since(replica.clock.now())).await
                && replica.wait_applied(index, until).await
            {
                return Ok(self.revision());
            }
            replica.wait_for_news(until).await;
        }
        Err(replica.no_leader())
    }

    async fn read_index(&self, leader: Option<NodeId>, within: Duration) -> Option<u64> {
        let replica = &self.replica;
        let leader = leader?;
        let until = replica.clock.now() + within;
        let asked = async {
            if leader == replica.me {
                let (index, _) = replica.raft().ok()?.get_read_log_id().await.ok()?;
                return Some(index.map_or(0, |id| id.index));
            }
            match replica.ask(leader, &Ask::ReadIndex, within).await {
                Ok(Answer::ReadIndex(index)) => Some(index),
                _ => None,
            }
        };
        replica.unless_over(leader, until, asked).await.flatten()
    }

    /// Makes this learner the one voter under a new epoch, for two nodes of which the voter is lost. What reached it is
    /// kept. The old voter, should it return, lists what it wrote since in [`late_file`] and joins as a new learner once
    /// it meets this node; nothing of it is merged. Refused while a majority of the voters answers; where there are
    /// several, that is looked at for [`ELECTED_WITHIN`], so that an election is not mistaken for their loss.
    /// Not cancel-safe: spawn it.
    pub async fn promote_alone(&self) -> Result<(), StoreError> {
        self.replica.promote_alone().await
    }

    /// Makes this node's copy anew from its peers after damage: it gives up its vote, forgets everything and comes back as
    /// a learner. `peers` are asked besides the members it knows. Refused on the only voter. Not cancel-safe; after an
    /// error it may be called again.
    pub async fn repair(&self, peers: &[NodeId]) -> Result<(), StoreError> {
        self.replica.rejoin(peers).await
    }

    /// Writes a backup of one revision while the store goes on; which one. Without keys that live by a lease. `to` is
    /// written on a thread for blocking work.
    pub async fn backup(&self, to: Box<dyn Write + Send>, secrets: Sealed) -> Result<Revision, StoreError> {
        backup::save(&self.replica.vault, self.replica.scene.writing, secrets, to).await
    }

    /// Makes the state what a backup says, after checking all of it, but for [`KEPT_BY_RESTORE`]. Reading blocks. Broken
    /// off, it may be run again.
    pub async fn restore(&self, from: &mut (dyn Read + Send)) -> Result<Restored, StoreError> {
        self.linearize().await?;
        let tables = self.tables()?;
        backup::restore(self, &tables, from).await
    }

    /// The tables that have keys.
    fn tables(&self) -> Result<Vec<String>, StoreError> {
        let disk = self.replica.vault.read()?;
        let values = disk.open_table(VALUES).map_err(reading::failed)?;
        let mut tables: Vec<String> = Vec::new();
        let mut from = Vec::new();
        while let Some(found) = values.range::<&[u8]>(from.as_slice()..).map_err(reading::failed)?.next() {
            let (name, _) = found.map_err(reading::failed)?;
            let Some(at) = split_name(name.value()) else { break };
            from = [at.table.as_bytes(), &[1]].concat();
            tables.push(at.table);
        }
        Ok(tables)
    }

    /// Stops taking part and closes the file, with all that was applied synced. Followers elect another leader by
    /// themselves.
    pub async fn shutdown(&self) {
        self.replica.stop().await;
        // On a disk that failed there is nothing to keep.
        let _ = self.replica.operate(Surgery::default()).await;
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(JoinHandle::abort);
        for task in tasks {
            let _ = task.await;
        }
        self.replica.scene.changes.close();
        self.replica.vault.close();
    }
}

impl Drop for ReplicatedStore {
    fn drop(&mut self) {
        self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner).iter().for_each(JoinHandle::abort);
        self.replica.scene.changes.close();
        self.replica.raft.store(None);
        self.replica.vault.close();
    }
}

fn not_changed(error: RaftError<u64, ClientWriteError<u64, EmptyNode>>) -> StoreError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            StoreError::NotLeader { leader: forward.leader_id.map(NodeId) }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(
            _,
        ))) => {
            StoreError::NoLeader("another change of its members is under way; try again in a moment".into())
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            StoreError::Invalid(error.to_string())
        }
        RaftError::Fatal(error) => StoreError::Failed(error.to_string()),
    }
}

impl Store for ReplicatedStore {
    fn get(&self, at: &Key) -> Result<Option<Entry>, StoreError> {
        reading::get(&self.replica.vault.read()?, at).inspect_err(|error| self.replica.note_read(error))
    }

    fn range(&self, scan: &Scan) -> Result<Page, StoreError> {
        reading::range(&self.replica.vault.read()?, scan).inspect_err(|error| self.replica.note_read(error))
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Commit, StoreError>> {
        Box::pin(async move {
            let counts = &self.replica.scene.counts;
            txn.validate().inspect_err(|error| counts.refused(error))?;
            match self
                .replica
                .submit(Command::Commit(txn))
                .await
                .inspect_err(|error| counts.refused(error))?
            {
                Reply::Commit(commit) => Ok(commit),
                Reply::Lease(_) | Reply::Done => Err(StoreError::Unknown),
            }
        })
    }

    fn watch(&self, table: &str, prefix: &[u8], after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        check_table(table)?;
        StoreError::within("key", prefix.len(), KEY_MAX)?;
        Ok(Box::new(self.replica.scene.changes.follow(table, prefix, after)))
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
        Box::pin(async move {
            check_ttl(ttl)?;
            match self.replica.submit(Command::Grant(ttl)).await? {
                Reply::Lease(lease) => Ok(lease),
                Reply::Commit(_) | Reply::Done => Err(StoreError::Unknown),
            }
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.replica.keep_alive(lease))
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.replica.submit(Command::Revoke(lease)).await.map(|_| ()) })
    }

    fn revision(&self) -> Revision {
        self.replica.scene.changes.newest()
    }
}
