//! How the replicated store is, as this node sees it: one value for pages, metrics and tasks. Decides nothing.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use futures_util::future::{Either, select};
use openraft::{RaftMetrics, ServerState};
use serde::{Deserialize, Serialize};
use tutti_base::NodeId;

use super::health::ReplicaHealth;
use super::replica::Replica;

/// After how many leader's leases without a word a leader is not named any more.
const FORGOTTEN_AFTER: u32 = 4;

/// What a node is to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RaftRole {
    /// It orders all writes.
    Leader,
    /// It votes and follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It follows and does not vote.
    #[default]
    Learner,
}

/// How the replicated store is, as this node sees it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RaftStatus {
    /// This node.
    pub me: NodeId,
    /// What it is.
    pub role: RaftRole,
    /// Who leads, if anybody was heard of lately; a leader that no quorum answers names nobody.
    pub leader: Option<NodeId>,
    /// The term of the newest vote.
    pub term: u64,
    /// The epoch: grows when a node is made the voter by hand.
    pub epoch: u64,
    /// Who votes, by id.
    pub voters: Vec<NodeId>,
    /// Who follows without a vote, by id.
    pub learners: Vec<NodeId>,
    /// The index of the newest entry of the log here.
    pub last_log: u64,
    /// The index of the newest entry that is known to be committed.
    pub commit: u64,
    /// The index of the newest entry that reads here show.
    pub applied: u64,
    /// At the leader: how many entries each of the others lacks; none for one that was not reached yet.
    pub lag: Vec<(NodeId, Option<u64>)>,
    /// At the leader: how long ago a quorum acknowledged it, in ms.
    pub quorum_ms: Option<u64>,
    /// Whether this node's storage may be believed.
    pub health: ReplicaHealth,
}

impl RaftStatus {
    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        self.leader == Some(self.me)
    }
}

/// Keeps the status and the metrics up to date.
pub(crate) async fn run(replica: Arc<Replica>) {
    let mut restarted = replica.restarted.subscribe();
    loop {
        restarted.borrow_and_update();
        let Ok(raft) = replica.raft() else {
            replica.publish(None);
            if restarted.changed().await.is_err() {
                return;
            }
            continue;
        };
        let mut metrics = raft.metrics();
        drop(raft);
        loop {
            let now = metrics.borrow_and_update().clone();
            if let Err(fatal) = &now.running_state
                && !matches!(fatal, openraft::error::Fatal::Stopped)
            {
                replica.health.note(&super::tables::Failure::Disk(fatal.to_string()));
            }
            replica.publish(Some(&now));
            let moment = replica.clock.sleep_until(replica.clock.now() + replica.config.heartbeat());
            let changed = std::pin::pin!(metrics.changed());
            if let Either::Left((Err(_), _)) = select(changed, moment).await {
                break;
            }
            if restarted.has_changed().unwrap_or(true) {
                break;
            }
        }
        if replica.raft.load().is_none() {
            replica.publish(None);
        }
        replica.pause(replica.config.heartbeat() / 4).await;
    }
}

impl Replica {
    fn publish(&self, metrics: Option<&RaftMetrics<u64, openraft::EmptyNode>>) {
        let status = metrics.map_or_else(|| self.unseen(), |metrics| self.seen(metrics));
        self.counts.show(&status);
        self.status.send_if_modified(|now| {
            let is_new = **now != status;
            if is_new {
                *now = Arc::new(status);
            }
            is_new
        });
    }

    /// While raft does not run: what was seen last of its members.
    fn unseen(&self) -> RaftStatus {
        let (voters, learners) = self.members.lock().unwrap_or_else(PoisonError::into_inner).clone();
        RaftStatus {
            me: self.me,
            epoch: self.epoch(),
            voters,
            learners,
            applied: *self.scene.applied.borrow(),
            health: self.health.now(),
            ..RaftStatus::default()
        }
    }

    fn seen(&self, metrics: &RaftMetrics<u64, openraft::EmptyNode>) -> RaftStatus {
        let membership = metrics.membership_config.membership();
        let last_log = metrics.last_log_index.unwrap_or(0);
        let others = metrics.replication.iter().flatten().filter(|(id, _)| **id != self.me.0);
        let lag =
            others.map(|(id, matched)| (NodeId(*id), matched.map(|at| last_log.saturating_sub(at.index))));
        let committed = self.log.load().as_ref().and_then(|log| log.committed()).map_or(0, |id| id.index);
        let voters: Vec<NodeId> = membership.voter_ids().map(NodeId).collect();
        let learners: Vec<NodeId> = membership.learner_ids().map(NodeId).collect();
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = (voters.clone(), learners.clone());
        RaftStatus {
            me: self.me,
            role: match metrics.state {
                ServerState::Leader => RaftRole::Leader,
                ServerState::Candidate => RaftRole::Candidate,
                ServerState::Follower => RaftRole::Follower,
                ServerState::Learner | ServerState::Shutdown => RaftRole::Learner,
            },
            leader: self.leader_now(metrics),
            term: metrics.current_term,
            epoch: self.epoch(),
            voters,
            learners,
            last_log,
            commit: committed.max(metrics.last_applied.map_or(0, |id| id.index)),
            applied: *self.scene.applied.borrow(),
            lag: lag.collect(),
            quorum_ms: metrics.millis_since_quorum_ack,
            health: self.health.now(),
        }
    }

    fn leader_now(&self, metrics: &RaftMetrics<u64, openraft::EmptyNode>) -> Option<NodeId> {
        let leader = NodeId(metrics.current_leader?);
        let is_heard = if leader == self.me {
            let is_alone = metrics.membership_config.voter_ids().count() == 1;
            metrics.state == ServerState::Leader && (is_alone || !self.is_muted.load(Ordering::SeqCst))
        } else {
            self.since(&self.heard) < self.config.lease() * FORGOTTEN_AFTER
        };
        (is_heard && self.health.is_ok()).then_some(leader)
    }
}
