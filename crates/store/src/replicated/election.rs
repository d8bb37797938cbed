//! When a node may stand for election, and when a leader must fall silent: what openraft 0.9 leaves open. Votes for nobody.
//!
//! *A vote before the vote*: a node that has not heard a leader for the leader's lease asks all voters whether they would
//! vote for it, and only while a majority would does openraft let it stand. So a node that was cut off does not raise terms
//! and does not depose a leader when it returns. Openraft stands a lease and a drawn time (`election_min_ms` to
//! `election_max_ms`) after the last heartbeat, so asking costs no time.
//!
//! *Silence without a quorum*: a leader whose heartbeats arrive but whose followers' answers do not would lead forever and
//! commit nothing. After two leases without an acknowledgement it sends nothing for long enough that others elect one of
//! themselves, then tries again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::ServerState;
use tutti_base::{NodeId, Tick};

use super::replica::Replica;
use super::types::Raft;
use super::wire::{Answer, Ask};

/// A leader that no quorum acknowledged for so many leases falls silent.
const SILENT_AFTER_LEASES: u32 = 2;

/// Watches over elections until the store is dropped.
pub(crate) async fn run(replica: Arc<Replica>) {
    let step = replica.config.heartbeat() / 2;
    let mut unacknowledged: Option<Tick> = None;
    loop {
        replica.pause(step).await;
        let Ok(raft) = replica.raft() else {
            unacknowledged = None;
            continue;
        };
        let (state, quorum, voters) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
            (metrics.state, metrics.millis_since_quorum_ack, voters)
        };
        if state == ServerState::Leader && voters.len() > 1 {
            let since = *unacknowledged.get_or_insert(replica.clock.now());
            let is_fresh = quorum.is_some_and(|millis| millis < 2 * replica.config.election_max_ms);
            if is_fresh {
                unacknowledged = None;
            } else if replica.clock.now().since(since) > replica.config.lease() * SILENT_AFTER_LEASES {
                replica.fall_silent().await;
                unacknowledged = None;
            }
            continue;
        }
        unacknowledged = None;
        replica.is_muted.store(false, Ordering::SeqCst);
        let may_stand = replica.may_stand(&raft, &voters).await;
        raft.runtime_config().elect(may_stand);
    }
}

impl Replica {
    async fn may_stand(self: &Arc<Self>, raft: &Raft, voters: &[u64]) -> bool {
        if !voters.contains(&self.me.0) || !self.health.is_ok() {
            return false;
        }
        if voters.len() == 1 {
            return true;
        }
        if self.since(&self.heard) < self.config.lease() {
            return false;
        }
        let ask = Ask::PreVote(self.last_log());
        let others = voters.iter().filter(|id| **id != self.me.0);
        let asked = others.map(|id| self.ask(NodeId(*id), &ask, self.config.heartbeat()));
        let within = self.clock.sleep_until(self.clock.now() + self.config.heartbeat());
        let answers = tokio::select! {
            biased;
            answers = majority(asked, voters.len() / 2) => answers,
            () = within => false,
        };
        if answers {
            self.counts.pre_votes.inc();
        }
        // A leader may have spoken while others were asked.
        answers && self.since(&self.heard) >= self.config.lease() && !self.leads(raft)
    }

    /// Says nothing as a leader until others have had the time to elect one of themselves.
    async fn fall_silent(&self) {
        self.counts.mutes.inc();
        self.is_muted.store(true, Ordering::SeqCst);
        let long = self.config.lease() * 2 + self.config.heartbeat() * 4;
        let until = self.clock.now() + long;
        while self.clock.now() < until {
            self.pause(Duration::min(self.config.heartbeat(), long)).await;
            let Ok(raft) = self.raft() else { break };
            if !self.leads(&raft) {
                break;
            }
        }
        self.is_muted.store(false, Ordering::SeqCst);
    }
}

/// Whether `wanted` of the asked would vote.
async fn majority<E>(
    asked: impl Iterator<Item = impl Future<Output = Result<Answer, E>>>,
    wanted: usize,
) -> bool {
    let answers = join_all(asked.map(|answer| async {
        let answer = std::pin::pin!(answer);
        matches!(answer.await, Ok(Answer::PreVote(true)))
    }));
    answers.await.into_iter().filter(|would| *would).count() >= wanted
}
