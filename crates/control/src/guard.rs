//! What other nodes may do to the store, by their roles. A worker that was taken over reads what it has and no more.

use std::sync::Arc;

use tutti_base::{NodeId, Roles};
use tutti_store::replicated::Guard;

use crate::roster::{NodeRecord, Roster};

/// The rule, over the roster of this node.
pub struct ByRoles(pub Arc<Roster>);

impl Guard for ByRoles {
    fn may_write(&self, node: NodeId) -> bool {
        may_write(&self.0.nodes(), node)
    }
    fn may_lead(&self, node: NodeId) -> bool {
        may_lead(&self.0.nodes(), node)
    }
}

/// People are served at it, or it votes. Whoever is unknown here writes elsewhere: the leader knows its members.
fn may_write(nodes: &[NodeRecord], node: NodeId) -> bool {
    let found = nodes.iter().find(|record| record.id == node && !record.standing.is_removed());
    found.is_some_and(|record| record.roles.has(Roles::FRONT) || record.roles.has(Roles::VOTER))
}

/// It may vote, or this copy of the roster is older than it.
fn may_lead(nodes: &[NodeRecord], node: NodeId) -> bool {
    let found = nodes.iter().find(|record| record.id == node);
    found.is_none_or(|record| record.roles.has(Roles::VOTER) && !record.standing.is_removed())
}

#[cfg(test)]
mod tests {
    use tutti_base::Wall;

    use super::*;
    use crate::roster::Standing;
    use crate::testing::record;

    #[test]
    fn golden_who_may_do_what() {
        let mut removed = record(5, Roles::ALL);
        removed.standing = Standing::Removed { since: Wall(1) };
        let nodes = [
            record(1, Roles::ALL),
            record(2, Roles::WORKER.with(Roles::CACHE)),
            record(3, Roles::FRONT),
            record(4, Roles::VOTER),
            removed,
        ];
        let ids = |may: fn(&[NodeRecord], NodeId) -> bool| {
            (1..=6).filter(|id| may(&nodes, NodeId(*id))).collect::<Vec<u64>>()
        };
        assert_eq!(ids(may_write), [1, 3, 4]);
        assert_eq!(ids(may_lead), [1, 4, 6], "one that is not known yet may lead");
    }
}
