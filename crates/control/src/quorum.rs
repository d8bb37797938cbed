//! The seam to consensus: who votes, and the three changes of that. The replicated store is behind it.

mod replicated;

use std::collections::BTreeMap;

use tutti_base::{BoxFuture, NodeId};
use tutti_store::StoreError;

/// The voters as this node sees them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QuorumStatus {
    /// This node.
    pub me: NodeId,
    /// The leader, where one is known.
    pub leader: Option<NodeId>,
    /// The term of the leader.
    pub term: u64,
    /// Who votes, by id.
    pub voters: Vec<NodeId>,
    /// Who has a full copy and no vote, by id.
    pub learners: Vec<NodeId>,
    /// How many log entries each other member lacks; known to the leader alone.
    pub lag: BTreeMap<NodeId, u64>,
}

impl QuorumStatus {
    /// Whether this node leads.
    pub fn is_leader(&self) -> bool {
        self.leader == Some(self.me)
    }
    /// How many voters make a majority.
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}

/// Consensus, as control needs it. The changes are the leader's alone; on another node they fail and change nothing. Each
/// may be asked again: one that is done already is no error. Not cancel-safe: a dropped change may still happen.
pub trait Quorum: Send + Sync {
    /// The voters, as of now. Cheap.
    fn status(&self) -> QuorumStatus;
    /// Gives `node` a full copy without a vote.
    fn add_learner(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Makes exactly these vote; each of them has a copy already. Those that voted before become learners.
    fn set_voters(&self, voters: Vec<NodeId>) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Takes the copy from `node`, which has no vote.
    fn remove(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>>;
}
