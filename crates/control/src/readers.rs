//! Who needs which secret: by the roster's roles and by who votes. Pure but for reading both.

use std::sync::Arc;

use tutti_base::{NodeId, Roles};
use tutti_store::secrets::{Reader, ReadersOf};

use crate::quorum::{Quorum, QuorumStatus};
use crate::roster::{NodeRecord, Roster};

/// Secrets whose names begin with this belong to the cluster itself: for voters alone.
pub const CLUSTER_PREFIX: &str = "cluster.";
/// The secret of the certificate authority.
pub const AUTHORITY: &str = "cluster.authority";
/// With fewer voters than this, one of them may be lost for good before another could be sealed to.
const SAFE_VOTERS: usize = 3;

/// The rule, over the roster and the quorum of this node.
pub struct Readers {
    roster: Arc<Roster>,
    quorum: Arc<dyn Quorum>,
}

impl Readers {
    /// The rule over these two.
    pub fn new(roster: Arc<Roster>, quorum: Arc<dyn Quorum>) -> Self {
        Self { roster, quorum }
    }
}

impl ReadersOf for Readers {
    fn readers(&self, name: &str) -> Vec<Reader> {
        readers(name, &self.roster.nodes(), &self.quorum.status())
    }
}

/// Who needs the secret `name`.
///
/// The cluster's own (`cluster.*`): the voters; and while they are fewer than three, the nodes with the role voter as well,
/// because the one voter of two nodes may be lost, and the learner that is then promoted must be able to go on. All others:
/// the nodes with the role front, which check signatures. Never a node that leaves or was removed.
pub fn readers(name: &str, nodes: &[NodeRecord], status: &QuorumStatus) -> Vec<Reader> {
    let votes = |node: NodeId| status.voters.contains(&node);
    let may_be_alone = status.voters.len() < SAFE_VOTERS;
    let needs = |node: &&NodeRecord| match name.starts_with(CLUSTER_PREFIX) {
        true => node.roles.has(Roles::VOTER) && (may_be_alone || votes(node.id)),
        false => node.roles.has(Roles::FRONT),
    };
    // While nobody is known to vote, the cluster's own secrets stay as they are.
    if name.starts_with(CLUSTER_PREFIX) && status.voters.is_empty() {
        return Vec::new();
    }
    let staying = nodes.iter().filter(|node| node.standing.stays());
    staying.filter(needs).map(|node| Reader { node: node.id, key: node.sealing_key }).collect()
}

#[cfg(test)]
mod tests {
    use tutti_base::Wall;

    use super::*;
    use crate::roster::Standing;
    use crate::testing::{record, voters};

    fn ids(name: &str, nodes: &[NodeRecord], status: &QuorumStatus) -> Vec<u64> {
        readers(name, nodes, status).iter().map(|reader| reader.node.0).collect()
    }

    #[test]
    fn golden_who_needs_what() {
        let worker = record(4, Roles::WORKER);
        let cache = record(5, Roles::CACHE);
        let mut nodes: Vec<_> = (1..=3).map(|id| record(id, Roles::ALL)).collect();
        nodes.extend([worker, cache]);
        nodes.push(record(6, Roles::ALL));
        let three = voters(&[1, 2, 3]);
        assert_eq!(ids(AUTHORITY, &nodes, &three), [1, 2, 3]);
        assert_eq!(ids("img", &nodes, &three), [1, 2, 3, 6]);
        assert_eq!(ids(AUTHORITY, &nodes, &voters(&[1])), [1, 2, 3, 6], "one voter may be lost for good");
        assert_eq!(ids(AUTHORITY, &nodes, &voters(&[])), [0; 0]);
        nodes[1].standing = Standing::Removed { since: Wall(1) };
        nodes[2].standing = Standing::Leaving { since: Wall(1) };
        assert_eq!(ids(AUTHORITY, &nodes, &three), [1]);
        assert_eq!(ids("img", &nodes, &three), [1, 6]);
    }
}
