//! The ways in and back: founding a cluster of one, going on alone under a new epoch, and being made anew from a peer after
//! damage or after the cluster went on without this node. Moves no data: snapshots do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use openraft::{ChangeMembers, CommittedLeaderId, EmptyNode, RaftLogReader};
use tutti_base::NodeId;

use super::config::ELECTED_WITHIN;
use super::health::ReplicaHealth;
use super::late;
use super::replica::{Replica, Surgery};
use super::types::{AppliedRecord, Batch, LogId, Membership, StoredMembership, Vote};
use super::wire::{Answer, Ask};
use crate::store::StoreError;

/// How long one try of asking the way back may take, and how long it waits until the next.
const ASK_WITHIN: Duration = Duration::from_secs(5);
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long one look may take whether a majority answers, and how long until the next.
const LOOK_WITHIN: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Replica {
    fn alone(&self, at: LogId) -> AppliedRecord {
        let voters = BTreeSet::from([self.me.0]);
        let membership = Membership::new(vec![voters], BTreeMap::from([(self.me.0, EmptyNode {})]));
        AppliedRecord { last: Some(at), membership: StoredMembership::new(Some(at), membership) }
    }

    /// Makes a cluster of one of a node that was in none. What stands in the state already is the state of the cluster:
    /// the log begins after it, so that learners get it as a snapshot.
    pub(crate) async fn found(self: &Arc<Self>) -> Result<(), StoreError> {
        if !self.known()?.is_new() {
            return Ok(());
        }
        self.stop().await;
        let first = LogId::new(CommittedLeaderId::new(0, 0), 0);
        self.operate(Surgery { base: Some(self.alone(first)), ..Surgery::default() }).await?;
        self.start(&self.known()?).await?;
        self.stand().await
    }

    /// Makes this learner the one voter of a new epoch. What has reached it is kept.
    pub(crate) async fn promote_alone(self: &Arc<Self>) -> Result<(), StoreError> {
        let _one_at_a_time = self.rejoining.lock().await;
        let status = self.status.borrow().clone();
        if status.voters.is_empty() || status.voters.contains(&self.me) {
            let text =
                "only a node that follows without a vote can be made the one voter; this one is not one";
            return Err(StoreError::Invalid(text.into()));
        }
        if let Some(leader) = self.find_quorum(&status.voters).await {
            let text = format!(
                "node {leader} leads and a majority of the voters answers it, so nothing is lost; a node is made the \
                 one voter only when they do not"
            );
            return Err(StoreError::Invalid(text));
        }
        self.stop().await;
        let forked = self.fork().await;
        if forked.is_err() {
            self.start(&self.known()?).await?;
        }
        let (epoch, fork) = forked?;
        self.start(&self.known()?).await?;
        self.stand().await?;
        // From here on every copy of the state says where this epoch began.
        let batch = Batch { epoch: Some((epoch, fork)), ..Batch::default() };
        let written = self.raft()?.client_write(batch).await;
        written.map(|_| ()).map_err(|error| StoreError::NoLeader(error.to_string()))
    }

    /// The leader among `voters` that a majority of them answers, if there is one. Several may just be electing.
    async fn find_quorum(self: &Arc<Self>, voters: &[NodeId]) -> Option<NodeId> {
        let until = self.clock.now() + ELECTED_WITHIN;
        loop {
            let asked = voters.iter().map(|voter| async {
                // Answered by a leader alone, once a majority has confirmed it.
                let answer = self.ask(*voter, &Ask::ReadIndex, LOOK_WITHIN).await;
                matches!(answer, Ok(Answer::ReadIndex(_))).then_some(*voter)
            });
            let found = join_all(asked).await.into_iter().flatten().next();
            if found.is_some() || voters.len() == 1 || self.clock.now() >= until {
                return found;
            }
            self.pause(LOOK_AGAIN).await;
        }
    }

    /// Applies what the log has, and begins the next epoch after it.
    async fn fork(&self) -> Result<(u64, u64), StoreError> {
        let known = self.known()?;
        let log = self.log.load_full().ok_or(StoreError::Closed)?;
        let last = known.last.max(known.applied.last).unwrap_or_default();
        let next = known.applied.last.map_or(0, |applied| applied.index + 1);
        let entries = (*log).clone().try_get_log_entries(next..last.index + 1).await;
        let entries = entries.map_err(|error| StoreError::Failed(error.to_string()))?;
        if !entries.is_empty() {
            let mut machine = super::machine::Machine(self.scene.clone());
            let applied = openraft::storage::RaftStateMachine::apply(&mut machine, entries).await;
            applied.map_err(|error| StoreError::Failed(error.to_string()))?;
        }
        let epoch = known.epoch + 1;
        let term = known.vote.map_or(0, |vote| vote.leader_id().term).max(last.leader_id.term) + 1;
        let base = LogId::new(CommittedLeaderId::new(term, self.me.0), last.index + 1);
        self.operate(Surgery {
            epoch: Some(epoch),
            vote: Some(Vote::new(term, self.me.0)),
            base: Some(self.alone(base)),
            fork: Some((epoch, last.index)),
            ..Surgery::default()
        })
        .await?;
        Ok((epoch, last.index))
    }

    /// Lets a node that votes alone lead at once, and waits until it does.
    async fn stand(&self) -> Result<(), StoreError> {
        let raft = self.raft()?;
        raft.runtime_config().elect(true);
        raft.trigger().elect().await.map_err(|error| StoreError::Failed(error.to_string()))?;
        let wait = raft.wait(Some(self.config.write_within()));
        let leads = wait.metrics(|now| now.current_leader == Some(self.me.0), "to lead alone").await;
        leads.map_err(|error| StoreError::NoLeader(error.to_string()))?;
        raft.ensure_linearizable().await.map_err(|error| StoreError::NoLeader(error.to_string()))?;
        let mut status = self.status.subscribe();
        let until = self.clock.now() + self.config.write_within();
        let shown = status.wait_for(|status| status.leads() && status.epoch == self.epoch());
        self.unless_over(self.me, until, shown).await.map(|_| ()).ok_or_else(|| self.no_leader())
    }

    /// Takes `node` in again, with nothing expected of what it had. Its vote in answer is what it starts from.
    pub(crate) async fn take_in(&self, node: NodeId) -> Answer {
        if !self.status.borrow().leads() {
            return self.not_leading("this node does not lead");
        }
        let Ok(raft) = self.raft() else { return Answer::Unavailable("this node is starting".into()) };
        match self.forget_and_add(&raft, node).await {
            Ok(()) => Answer::Rejoin(raft.metrics().borrow().vote),
            Err(error) => Answer::Unavailable(error.to_string()),
        }
    }

    async fn forget_and_add(&self, raft: &super::types::Raft, node: NodeId) -> Result<(), StoreError> {
        let refused = |error: &dyn std::fmt::Display| StoreError::NoLeader(error.to_string());
        let (is_voter, is_member, voters) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            let membership = metrics.membership_config.membership();
            let voters: BTreeSet<u64> = membership.voter_ids().collect();
            (voters.contains(&node.0), membership.get_node(&node.0).is_some(), voters)
        };
        if is_voter {
            if voters.len() == 1 {
                return Err(StoreError::Invalid(format!("node {node} is the only voter")));
            }
            let without = ChangeMembers::RemoveVoters(BTreeSet::from([node.0]));
            raft.change_membership(without, false).await.map_err(|error| refused(&error))?;
        } else if is_member {
            let without = ChangeMembers::RemoveNodes(BTreeSet::from([node.0]));
            raft.change_membership(without, false).await.map_err(|error| refused(&error))?;
        }
        raft.add_learner(node.0, EmptyNode {}, false).await.map(|_| ()).map_err(|error| refused(&error))
    }

    /// Is made anew from a peer: asks the leader to be taken in again, forgets everything, and starts as a learner. Before,
    /// what the cluster went on without is listed in a file.
    pub(crate) async fn rejoin(self: &Arc<Self>, guides: &[NodeId]) -> Result<(), StoreError> {
        let status = self.status.borrow().clone();
        if status.voters == [self.me] && !matches!(self.health.now(), ReplicaHealth::Superseded(_)) {
            let text = "this node is the only voter, so no other has more; restore a backup instead";
            return Err(StoreError::Invalid(text.into()));
        }
        let known: BTreeSet<NodeId> = guides
            .iter()
            .chain(&status.voters)
            .chain(&status.learners)
            .copied()
            .filter(|id| *id != self.me && self.may_lead(*id))
            .collect();
        let _one_at_a_time = self.rejoining.lock().await;
        self.stop().await;
        let epochs = self.ask_epochs(&known).await?;
        let epoch = epochs.last().map_or(0, |(epoch, _)| *epoch).max(self.epoch());
        if epoch > self.epoch() {
            self.list_late(&epochs)?;
        } else if matches!(self.health.now(), ReplicaHealth::Superseded(_)) {
            let text =
                "no node shows where the newer epoch began any more; this node waits for one that does";
            return Err(StoreError::NoLeader(text.into()));
        }
        let vote = self.ask_in(&known, epoch).await?;
        let run = self.run.load(Ordering::SeqCst);
        self.vault.empty(&*self.clock).await?;
        let surgery = Surgery { epoch: Some(epoch), run: Some(run), vote: Some(vote), ..Surgery::default() };
        self.operate(surgery).await?;
        self.scene.changes.jump(crate::store::Revision(0));
        self.health.recover();
        self.counts.rejoins.inc();
        self.guides.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
        self.start(&self.known()?).await
    }

    /// Lists what this node wrote after the first epoch that it missed began.
    fn list_late(&self, epochs: &[(u64, u64)]) -> Result<(), StoreError> {
        let ours = self.epoch();
        let missed = epochs.iter().filter(|(epoch, _)| *epoch > ours);
        let fork = missed.map(|(_, fork)| *fork).min().unwrap_or(0);
        let now = epochs.last().map_or(ours, |(epoch, _)| *epoch);
        let known = self.known()?;
        let log = self.log.load_full().ok_or(StoreError::Closed)?;
        late::list(&*self.disk, &log, ours, now, fork, known.purged.map(|purged| purged.index)).map(|_| ())
    }

    async fn ask_epochs(self: &Arc<Self>, peers: &BTreeSet<NodeId>) -> Result<Vec<(u64, u64)>, StoreError> {
        let mut newest: Option<Vec<(u64, u64)>> = None;
        for peer in peers {
            if let Ok((_, Answer::Epochs(epochs))) = self.exchange(*peer, &Ask::Epochs, ASK_WITHIN).await
                && newest.as_ref().is_none_or(|newest| epochs.last() > newest.last())
            {
                newest = Some(epochs);
            }
        }
        newest.ok_or_else(|| StoreError::NoLeader("no other node of the store answers".into()))
    }

    /// Asks `peers`, and whom they name as the leader, to be taken in; only a leader of the epoch `epoch` may.
    async fn ask_in(self: &Arc<Self>, peers: &BTreeSet<NodeId>, epoch: u64) -> Result<Vote, StoreError> {
        let mut why = "no other node of the store leads".to_string();
        let mut asked = peers.clone();
        let mut next: Vec<NodeId> = peers.iter().copied().collect();
        while let Some(peer) = next.pop() {
            match self.exchange(peer, &Ask::Rejoin, ASK_WITHIN).await {
                Ok((theirs, _)) if theirs != epoch => why = format!("node {peer} is of another epoch"),
                Ok((_, Answer::Rejoin(vote))) => return Ok(vote),
                Ok((_, Answer::NotLeader(Some(leader)))) => {
                    let leader = NodeId(leader);
                    if self.may_lead(leader) && asked.insert(leader) {
                        next.push(leader);
                    }
                }
                Ok((_, Answer::Unavailable(reason))) => why = reason,
                Ok(_) => {}
                Err(error) => why = error.to_string(),
            }
        }
        Err(StoreError::NoLeader(why))
    }
}

impl Replica {
    fn next_guide(&self) -> Option<NodeId> {
        self.guides.lock().unwrap_or_else(PoisonError::into_inner).first().copied()
    }

    /// Lets `guide` show where the newer epoch began that it named. Only then does this node give up what it has.
    async fn look_into(&self, guide: NodeId) {
        // One that does not answer names its epoch again once it does.
        if let Ok((_, Answer::Epochs(epochs))) = self.exchange(guide, &Ask::Epochs, ASK_WITHIN).await {
            match epochs.last() {
                Some((epoch, _)) if *epoch > self.epoch() => return self.health.superseded(*epoch),
                _ => self.disbelieve(),
            };
        }
        self.guides.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != guide);
        self.pause(ASK_AGAIN).await;
    }
}

/// Brings a node that was left behind back by itself, and stops one that is damaged. Damage waits to be told what to do: an
/// operator may want to look first.
pub(crate) async fn run(replica: Arc<Replica>) {
    loop {
        let changed = replica.health.changed.notified();
        match replica.health.now() {
            ReplicaHealth::Ok => match replica.next_guide() {
                Some(guide) => replica.look_into(guide).await,
                None => changed.await,
            },
            ReplicaHealth::Damaged(_) => {
                replica.stop().await;
                changed.await;
            }
            ReplicaHealth::Superseded(_) => {
                let guides = replica.guides.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if replica.rejoin(&guides).await.is_err() {
                    replica.pause(ASK_AGAIN).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
