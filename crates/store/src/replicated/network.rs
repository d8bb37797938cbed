//! Openraft's messages over the seam to peers. Sends, and says what went wrong; retries nothing.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, EmptyNode, RaftNetwork, RaftNetworkFactory};
use tutti_base::net::SMALL_MAX;
use tutti_base::{Body, Call, CallError, Lane, NodeId, Topic};

use super::replica::{Met, Replica};
use super::types::Types;
use super::wire::{self, Answer, Ask};

type Failed<E = openraft::error::Infallible> = RPCError<u64, EmptyNode, RaftError<u64, E>>;

/// Makes lines to peers.
pub(crate) struct Dialer {
    pub(crate) replica: Weak<Replica>,
}

impl RaftNetworkFactory<Types> for Dialer {
    type Network = Line;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Line {
        Line { replica: self.replica.clone(), target: NodeId(target) }
    }
}

/// The line to one peer.
pub(crate) struct Line {
    replica: Weak<Replica>,
    target: NodeId,
}

impl Line {
    async fn ask<E: std::error::Error>(&self, ask: &Ask, within: Duration) -> Result<Answer, Failed<E>> {
        let replica = self.replica.upgrade().ok_or_else(|| unreachable("the store was closed"))?;
        if replica.is_muted.load(Ordering::SeqCst) && matches!(ask, Ask::Append(_) | Ask::Chunk(_)) {
            return Err(unreachable("no quorum answers this leader, so it is silent for a while"));
        }
        replica.ask(self.target, ask, within).await.map_err(|error| unreachable(&error.to_string()))
    }

    fn unexpected<E: std::error::Error>(&self, answer: &Answer) -> Failed<E> {
        match answer {
            Answer::Unavailable(why) => unreachable(why),
            _ => unreachable("an answer to another question"),
        }
    }
}

/// Openraft waits a while before it tries again; any other of its errors it retries at once.
fn unreachable<E: std::error::Error>(why: &str) -> Failed<E> {
    RPCError::Unreachable(Unreachable::from(AnyError::error(why)))
}

impl RaftNetwork<Types> for Line {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failed> {
        match self.ask(&Ask::Append(rpc), option.hard_ttl()).await? {
            Answer::Append(answer) => Ok(answer),
            other => Err(self.unexpected(&other)),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failed<InstallSnapshotError>> {
        match self.ask(&Ask::Chunk(rpc), option.hard_ttl()).await? {
            Answer::Chunk(answer) => Ok(answer),
            Answer::Mismatch(mismatch) => {
                let source = RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch));
                Err(RPCError::RemoteError(RemoteError::new(self.target.0, source)))
            }
            other => Err(self.unexpected(&other)),
        }
    }

    async fn vote(&mut self, rpc: VoteRequest<u64>, option: RPCOption) -> Result<VoteResponse<u64>, Failed> {
        match self.ask(&Ask::Vote(rpc), option.hard_ttl()).await? {
            Answer::Vote(answer) => Ok(answer),
            other => Err(self.unexpected(&other)),
        }
    }

    fn backoff(&self) -> Backoff {
        let heartbeat =
            self.replica.upgrade().map_or(Duration::from_millis(60), |replica| replica.config.heartbeat());
        Backoff::new(std::iter::repeat(heartbeat))
    }
}

impl Replica {
    /// Asks `to` for an answer, and in the name of which epoch it was given. Cancel-safe.
    pub(crate) async fn exchange(
        &self,
        to: NodeId,
        ask: &Ask,
        within: Duration,
    ) -> Result<(u64, Answer), CallError> {
        let (head, body) = wire::sealed(self.epoch(), ask);
        let lane = if body.len() > SMALL_MAX { Lane::Bulk } else { Lane::Control };
        let reply = self.peers.call(to, Call { topic: Topic::STORE, lane, head, body, within }).await?;
        let Body::Whole(body) = reply.body else { return Err(CallError::Broken(to)) };
        wire::opened::<Answer>(&reply.head, &body).map_err(|_| CallError::Broken(to))
    }

    /// Asks `to`. Cancel-safe. An answer of another epoch is none.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        to: NodeId,
        ask: &Ask,
        within: Duration,
    ) -> Result<Answer, CallError> {
        let (epoch, answer) = self.exchange(to, ask, within).await?;
        match self.meet(to, epoch).await {
            Met::Same => Ok(answer),
            Met::Older | Met::Newer | Met::Disbelieved => Err(CallError::Unreachable(to)),
        }
    }
}
