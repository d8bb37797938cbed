//! Answers other nodes' stores. Decides only what openraft leaves to us: whose epoch counts, and when nobody is voted for.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use openraft::ServerState;
use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{InstallSnapshotRequest, VoteRequest, VoteResponse};
use redb::{ReadableDatabase, ReadableTable};
use tutti_base::{Body, BoxFuture, Call, Kind, NodeId, Problem, Reply, Serve, Tick};

use super::replica::{Met, Replica};
use super::tables::{EPOCHS, Failure};
use super::types::{LogId, Raft, Types};
use super::wire::{self, Answer, Ask};
use crate::store::StoreError;

/// Says what other nodes may do to the store. A node that was taken over does no more than its roles allow.
pub trait Guard: Send + Sync {
    /// Whether `node` may write: people are served at it, or it votes.
    fn may_write(&self, node: NodeId) -> bool;
    /// Whether `node` may lead or stand for election. A node that is not known here may: this copy may be old.
    fn may_lead(&self, node: NodeId) -> bool;
}

/// Answers on the topic of the store.
pub(crate) struct Service {
    pub(crate) replica: Weak<Replica>,
    pub(crate) guard: Option<Arc<dyn Guard>>,
}

impl Service {
    /// Refuses what the guard does not allow to `from`.
    fn check(&self, from: NodeId, ask: &Ask) -> Result<(), Problem> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let is_allowed = match ask {
            Ask::Append(_) | Ask::Vote(_) | Ask::PreVote(_) | Ask::Chunk(_) => guard.may_lead(from),
            Ask::Write(_) | Ask::KeepAlive(_) => guard.may_write(from),
            Ask::ReadIndex | Ask::Epochs | Ask::Rejoin => true,
        };
        let detail = "the roles of that node do not allow this; give it the role front or voter";
        if is_allowed { Ok(()) } else { Err(Problem::new(Kind::Forbidden, detail)) }
    }
}

impl Serve for Service {
    fn serve(&self, from: NodeId, call: Call) -> BoxFuture<'static, Result<Reply, Problem>> {
        let replica = self.replica.upgrade();
        let opened = wire::opened::<Ask>(&call.head, &call.body)
            .map_err(|error| Problem::new(Kind::BadRequest, "not a message of a store").because(error));
        let checked = opened.and_then(|(epoch, ask)| self.check(from, &ask).map(|()| (epoch, ask)));
        Box::pin(async move {
            let closed = || Problem::new(Kind::Unavailable, "the store of this node was closed");
            let replica = replica.ok_or_else(closed)?;
            let (epoch, ask) = checked?;
            let answer = replica.answer(from, epoch, ask).await;
            let (head, body) = wire::sealed(replica.epoch(), &answer);
            Ok(Reply { head, body: Body::Whole(body) })
        })
    }
}

impl Replica {
    async fn answer(self: &Arc<Self>, from: NodeId, epoch: u64, ask: Ask) -> Answer {
        if let Ask::Epochs = ask {
            return self.epochs().map_or_else(|error| Answer::Unavailable(error.to_string()), Answer::Epochs);
        }
        if let Ask::Rejoin = ask {
            return self.take_in(from).await;
        }
        match self.meet(from, epoch).await {
            Met::Older => return Answer::Older,
            Met::Newer => {
                return Answer::Unavailable("this node was left behind and is joining again".into());
            }
            Met::Disbelieved => {
                let text = "the newer epoch is not believed here: as known here, who names it has no copy or may not lead";
                return Answer::Unavailable(text.into());
            }
            Met::Same => {}
        }
        if !self.health.is_ok() {
            return Answer::Unavailable("the storage of this node is damaged".into());
        }
        let Ok(raft) = self.raft() else { return Answer::Unavailable("this node is starting".into()) };
        self.answer_raft(&raft, ask).await
    }

    async fn answer_raft(self: &Arc<Self>, raft: &Raft, ask: Ask) -> Answer {
        let stopped = |error: &dyn std::fmt::Display| Answer::Unavailable(error.to_string());
        match ask {
            Ask::Append(request) => match raft.append_entries(request).await {
                Ok(answer) => {
                    if !matches!(answer, openraft::raft::AppendEntriesResponse::HigherVote(_)) {
                        self.hear_leader();
                    }
                    Answer::Append(answer)
                }
                Err(error) => stopped(&error),
            },
            Ask::Vote(request) => self.vote(raft, request).await,
            Ask::PreVote(last) => Answer::PreVote(self.would_vote(raft, last).await),
            Ask::Chunk(request) => self.take_chunk(raft, request).await,
            Ask::Write(write) => self.propose_for(write).await,
            Ask::KeepAlive(lease) => self.keep_alive_for(lease).await,
            Ask::ReadIndex => match raft.get_read_log_id().await {
                Ok((index, _)) => Answer::ReadIndex(index.map_or(0, |id| id.index)),
                Err(error) => self.not_leading(&error.to_string()),
            },
            Ask::Epochs | Ask::Rejoin => Answer::Unavailable("answered before".into()),
        }
    }

    fn hear_leader(&self) {
        self.heard.store(self.clock.now().0, Ordering::SeqCst);
        self.is_new.store(false, Ordering::SeqCst);
    }

    /// What to answer who took this node for the leader.
    pub(crate) fn not_leading(&self, why: &str) -> Answer {
        match self.status.borrow().leader {
            Some(leader) if leader == self.me => Answer::Unavailable(why.into()),
            leader => Answer::NotLeader(leader.map(|id| id.0)),
        }
    }

    /// Votes, unless this node leads and has promised not to. Openraft's followers refuse for the lease after a
    /// heartbeat; its leader itself does not, and a quorum that keeps a lease alive counts it.
    async fn vote(&self, raft: &Raft, request: VoteRequest<u64>) -> Answer {
        if self.is_loyal(raft) {
            let (vote, last) = (raft.metrics().borrow().vote, self.last_log());
            return Answer::Vote(VoteResponse::new(vote, last, false));
        }
        match raft.vote(request).await {
            Ok(answer) => Answer::Vote(answer),
            Err(error) => Answer::Unavailable(error.to_string()),
        }
    }

    /// Whether this node leads with a quorum behind it, or promised so a moment ago.
    fn is_loyal(&self, raft: &Raft) -> bool {
        if self.clock.now() < Tick(self.loyal_until.load(Ordering::SeqCst)) {
            return true;
        }
        let metrics = raft.metrics();
        let metrics = metrics.borrow();
        let is_acknowledged =
            metrics.millis_since_quorum_ack.is_some_and(|millis| millis < self.config.election_max_ms);
        metrics.state == ServerState::Leader && is_acknowledged && !self.is_muted.load(Ordering::SeqCst)
    }

    /// Whether this node would vote for a candidate whose log ends at `last`.
    async fn would_vote(&self, raft: &Raft, last: Option<LogId>) -> bool {
        let hears_one = self.since(&self.heard) < self.config.lease() && !self.leads(raft);
        !hears_one && !self.is_loyal(raft) && last >= self.last_log()
    }

    pub(crate) fn leads(&self, raft: &Raft) -> bool {
        raft.metrics().borrow().state == ServerState::Leader
    }

    /// Where this node's log ends.
    pub(crate) fn last_log(&self) -> Option<LogId> {
        self.log.load().as_ref().and_then(|log| log.last())
    }

    async fn take_chunk(&self, raft: &Raft, request: InstallSnapshotRequest<Types>) -> Answer {
        if request.offset + request.data.len() as u64 > super::config::SNAPSHOT_BYTES_MAX as u64 {
            return Answer::Unavailable("the snapshot is longer than 512 MiB".into());
        }
        let theirs = request.vote;
        match raft.install_snapshot(request).await {
            Ok(answer) => {
                if answer.vote <= theirs {
                    self.hear_leader();
                }
                Answer::Chunk(answer)
            }
            Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch))) => {
                Answer::Mismatch(mismatch)
            }
            Err(error) => Answer::Unavailable(error.to_string()),
        }
    }

    pub(crate) fn epochs(&self) -> Result<Vec<(u64, u64)>, StoreError> {
        let read = || -> Result<Vec<(u64, u64)>, Failure> {
            let disk = self.vault.database()?.begin_read()?;
            let mut epochs = Vec::new();
            for found in disk.open_table(EPOCHS)?.iter()? {
                let (epoch, fork) = found?;
                epochs.push((epoch.value(), fork.value()));
            }
            Ok(epochs)
        };
        read().map_err(StoreError::from)
    }
}
