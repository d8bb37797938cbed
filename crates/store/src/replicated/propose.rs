//! Writes on their way to the log: to the leader wherever it is, all that wait in one entry, applied once however often they
//! are sent. Applies nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{mpsc, oneshot};
use tutti_base::{CallError, Kind, NodeId, Tick};

use super::config::{PROPOSAL_BYTES_MAX, PROPOSAL_WRITES_MAX};
use super::replica::Replica;
use super::status::RaftStatus;
use super::types::{Batch, Origin, Outcome, Outcomes, Refused, Write};
use super::wire::{Answer, Ask};
use crate::store::{LeaseId, StoreError};
use crate::work::{Command, Reply};

/// How long a write waits for news of a leader before it asks again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// A write that waits at the leader.
pub(crate) struct Proposal {
    write: Write,
    /// Set once it may be in the log.
    is_proposed: Arc<AtomicBool>,
    reply: oneshot::Sender<Tried>,
}

/// What came of sending a write once.
#[derive(Debug)]
enum Tried {
    /// It stands at this place of the log, and that is what became of it.
    Done(u64, Outcome),
    /// It was not taken.
    Not,
    /// It may or may not be in the log.
    Unsure,
    /// Too many wait at the leader.
    Busy,
}

impl Replica {
    /// Has `command` applied, once. Not cancel-safe: whether a dropped one is applied is open.
    pub(crate) async fn submit(self: &Arc<Self>, command: Command) -> Result<Reply, StoreError> {
        let sequence = self.sequence.fetch_add(1, Ordering::SeqCst);
        let from = Origin { node: self.me.0, run: self.run.load(Ordering::SeqCst), sequence };
        let write = Write { from, command };
        let until = self.clock.now() + self.config.write_within();
        let mut is_unsure = false;
        while self.clock.now() < until {
            match self.send_once(&write, until).await {
                Tried::Done(index, outcome) => {
                    self.wait_applied(index, until).await;
                    return outcome.map_err(StoreError::from);
                }
                Tried::Busy => return Err(StoreError::Busy { limit: self.config.queue }),
                Tried::Unsure => is_unsure = true,
                Tried::Not => {}
            }
            if let Some(error) = self.closed() {
                return Err(if is_unsure { StoreError::Unknown } else { error });
            }
            self.wait_for_news(until).await;
        }
        Err(if is_unsure { StoreError::Unknown } else { self.no_leader() })
    }

    /// Why there is no leader, in a sentence for people.
    pub(crate) fn no_leader(&self) -> StoreError {
        let status = self.status.borrow();
        let text = match status.voters.len() {
            0 => "this node has not joined a cluster yet".into(),
            1 if status.voters[0] != self.me => format!(
                "its one voter, node {}, cannot be reached; start it again, or make this node the voter",
                status.voters[0]
            ),
            voters => format!(
                "no leader answers; {} of its {voters} voters must run and reach one another",
                voters / 2 + 1
            ),
        };
        StoreError::NoLeader(text)
    }

    fn closed(&self) -> Option<StoreError> {
        self.proposals.is_closed().then_some(StoreError::Closed)
    }

    /// Sends `write` to whoever leads now.
    async fn send_once(self: &Arc<Self>, write: &Write, until: Tick) -> Tried {
        let leader = self.status.borrow().leader;
        match leader {
            None => Tried::Not,
            Some(leader) if leader == self.me => {
                let is_proposed = Arc::new(AtomicBool::new(false));
                let proposed = self.propose(write.clone(), is_proposed.clone());
                let gone = || if is_proposed.load(Ordering::SeqCst) { Tried::Unsure } else { Tried::Not };
                self.unless_over(leader, until, proposed).await.unwrap_or_else(gone)
            }
            Some(leader) => {
                let within = until.since(self.clock.now());
                let ask = Ask::Write(write.clone());
                let asked = self.ask(leader, &ask, within);
                match self.unless_over(leader, until, asked).await {
                    Some(Ok(Answer::Write(index, outcome))) => Tried::Done(index, outcome),
                    Some(Ok(Answer::Busy(_))) => Tried::Busy,
                    Some(Ok(Answer::Unsure)) | None => Tried::Unsure,
                    Some(Err(CallError::Refused(_, problem))) if problem.kind == Kind::Forbidden => {
                        Tried::Done(0, Err(Refused::Invalid(problem.detail.into())))
                    }
                    Some(Ok(_) | Err(CallError::Unreachable(_) | CallError::Refused(..))) => Tried::Not,
                    Some(Err(_)) => Tried::Unsure,
                }
            }
        }
    }

    /// What `work` gives, unless `leader` leads no more or the time is over before.
    pub(crate) async fn unless_over<T>(
        &self,
        leader: NodeId,
        until: Tick,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut status = self.status.subscribe();
        let over = async {
            // An early wake is no end: some clocks wake by others' time.
            while self.clock.now() < until {
                self.clock.sleep_until(until).await;
            }
        };
        let another = |status: &Arc<RaftStatus>| status.leader.is_some_and(|now| now != leader);
        tokio::select! {
            biased;
            done = work => Some(done),
            _ = status.wait_for(another) => None,
            () = over => None,
        }
    }

    /// Waits for another leader, or a moment.
    pub(crate) async fn wait_for_news(&self, until: Tick) {
        let mut status = self.status.subscribe();
        let leader = status.borrow_and_update().leader;
        let moment = self.clock.sleep_until(until.min(self.clock.now() + ASK_AGAIN));
        tokio::select! {
            biased;
            _ = status.wait_for(|status| status.leader != leader) => {}
            () = moment => {}
        }
    }

    /// Waits until reads here show the entry `index`, so that a writer reads what it wrote.
    pub(crate) async fn wait_applied(&self, index: u64, until: Tick) -> bool {
        let mut applied = self.scene.applied.subscribe();
        let over = async {
            while self.clock.now() < until {
                self.clock.sleep_until(until).await;
            }
        };
        tokio::select! {
            biased;
            reached = applied.wait_for(|applied| *applied >= index) => reached.is_ok(),
            () = over => false,
        }
    }

    async fn propose(&self, write: Write, is_proposed: Arc<AtomicBool>) -> Tried {
        let (reply, answer) = oneshot::channel();
        self.scene.counts.queue.inc();
        let proposal = Proposal { write, is_proposed: is_proposed.clone(), reply };
        if let Err(error) = self.proposals.try_send(proposal) {
            self.scene.counts.queue.dec();
            return if matches!(error, mpsc::error::TrySendError::Full(_)) {
                Tried::Busy
            } else {
                Tried::Not
            };
        }
        let gone = |_| if is_proposed.load(Ordering::SeqCst) { Tried::Unsure } else { Tried::Not };
        answer.await.unwrap_or_else(gone)
    }

    /// Answers a peer that took this node for the leader.
    pub(crate) async fn propose_for(&self, write: Write) -> Answer {
        if self.status.borrow().leader != Some(self.me) {
            return self.not_leading("this node does not lead");
        }
        if let Command::Commit(txn) = &write.command
            && let Err(error) = txn.validate()
        {
            return Answer::Write(0, Err(Refused::Invalid(error.to_string())));
        }
        match self.propose(write, Arc::default()).await {
            Tried::Done(index, outcome) => Answer::Write(index, outcome),
            Tried::Not => self.not_leading("this node does not lead"),
            Tried::Unsure => Answer::Unsure,
            Tried::Busy => Answer::Busy("too many writes wait at the leader".into()),
        }
    }
}

/// Puts what waits into the log, one entry after another, until nobody can send any more.
pub(crate) async fn run(replica: Arc<Replica>, mut waiting: mpsc::Receiver<Proposal>) {
    loop {
        let first = tokio::select! {
            biased;
            first = waiting.recv() => match first {
                Some(first) => Some(first),
                None => return,
            },
            () = replica.lease_is_due() => None,
        };
        let proposals = gather(first, &mut waiting);
        replica.scene.counts.queue.dec_by(proposals.len() as i64);
        let expired = replica.take_due_leases();
        if proposals.is_empty() && expired.is_empty() {
            continue;
        }
        replica.commit(proposals, expired).await;
    }
}

fn gather(first: Option<Proposal>, waiting: &mut mpsc::Receiver<Proposal>) -> Vec<Proposal> {
    let mut bytes = first.as_ref().map_or(0, |proposal| proposal.write.size());
    let mut proposals: Vec<_> = first.into_iter().collect();
    while proposals.len() < PROPOSAL_WRITES_MAX
        && bytes < PROPOSAL_BYTES_MAX
        && let Ok(next) = waiting.try_recv()
    {
        bytes += next.write.size();
        proposals.push(next);
    }
    proposals
}

impl Replica {
    async fn commit(&self, proposals: Vec<Proposal>, expired: Vec<LeaseId>) {
        let Ok(raft) = self.raft() else {
            proposals.into_iter().for_each(|proposal| drop(proposal.reply.send(Tried::Not)));
            return;
        };
        // Who has gone meanwhile has been told that it was not proposed.
        let proposals: Vec<_> =
            proposals.into_iter().filter(|proposal| !proposal.reply.is_closed()).collect();
        proposals.iter().for_each(|proposal| proposal.is_proposed.store(true, Ordering::SeqCst));
        let is_expiry = !expired.is_empty();
        let writes = proposals.iter().map(|proposal| proposal.write.clone()).collect();
        let start = self.clock.now();
        let written = raft.client_write(Batch { expired, writes, epoch: None }).await;
        let answer = match written {
            Ok(written) => {
                self.counts.commit.observe(self.clock.now().since(start).as_secs_f64());
                return answer_all(proposals, written.log_id.index, written.data);
            }
            Err(RaftError::APIError(
                ClientWriteError::ForwardToLeader(_) | ClientWriteError::ChangeMembershipError(_),
            ))
            | Err(RaftError::Fatal(_)) => || Tried::Unsure,
        };
        if is_expiry {
            // Whoever leads counts their time again.
            self.leases_of.store(0, Ordering::SeqCst);
        }
        proposals.into_iter().for_each(|proposal| drop(proposal.reply.send(answer())));
    }
}

fn answer_all(proposals: Vec<Proposal>, index: u64, outcomes: Outcomes) {
    for (proposal, outcome) in proposals.into_iter().zip(outcomes.0) {
        // A caller that has gone does not want to know.
        let _ = proposal.reply.send(Tried::Done(index, outcome));
    }
}
