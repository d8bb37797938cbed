//! The quorum of the replicated store, as control sees it. Translates, and decides nothing.

use tutti_base::{BoxFuture, NodeId};
use tutti_store::{RaftStatus, ReplicatedStore, StoreError};

use super::{Quorum, QuorumStatus};

impl From<&RaftStatus> for QuorumStatus {
    fn from(status: &RaftStatus) -> Self {
        Self {
            me: status.me,
            leader: status.leader,
            term: status.term,
            voters: status.voters.clone(),
            learners: status.learners.clone(),
            lag: status.lag.iter().filter_map(|(id, lag)| Some((*id, (*lag)?))).collect(),
        }
    }
}

impl Quorum for ReplicatedStore {
    fn status(&self) -> QuorumStatus {
        let status = ReplicatedStore::status(self).borrow().clone();
        QuorumStatus::from(&*status)
    }
    fn add_learner(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(ReplicatedStore::add_learner(self, node))
    }
    fn set_voters(&self, voters: Vec<NodeId>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(ReplicatedStore::set_voters(self, voters))
    }
    fn remove(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(ReplicatedStore::remove(self, node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_was_not_reached_yet_has_no_lag() {
        let raft = RaftStatus {
            me: NodeId(1),
            leader: Some(NodeId(1)),
            voters: vec![NodeId(1)],
            learners: vec![NodeId(2), NodeId(3)],
            lag: vec![(NodeId(2), Some(7)), (NodeId(3), None)],
            ..RaftStatus::default()
        };
        let status = QuorumStatus::from(&raft);
        assert!(status.is_leader());
        assert_eq!(status.lag, [(NodeId(2), 7)].into());
    }
}
