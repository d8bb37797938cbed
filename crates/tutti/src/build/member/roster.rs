//! Follows the roster: members and their addresses reach the links and the membership, removed nodes are refused.

use std::sync::{Arc, Mutex, PoisonError};

use tutti_base::NodeId;
use tutti_cluster::node::{Cluster, RosterEntry};
use tutti_cluster::{Identity, KnownPeer, Links};
use tutti_control::{NodeRecord, Roster, Standing};
use tutti_store::RealDisk;

use super::Member;

/// What follows.
pub(super) struct Following {
    me: NodeId,
    roster: Arc<Roster>,
    nodes: Arc<Cluster>,
    links: Arc<Links>,
    identity: Arc<Mutex<Identity>>,
    disk: Arc<RealDisk>,
}

impl Following {
    /// The parts of `member`.
    pub(super) fn of(member: &Member, disk: &Arc<RealDisk>) -> Self {
        Self {
            me: member.links_id(),
            roster: Arc::clone(&member.roster),
            nodes: Arc::clone(&member.nodes),
            links: Arc::clone(&member.links),
            identity: Arc::clone(&member.identity),
            disk: Arc::clone(disk),
        }
    }

    fn apply(&self, nodes: &[NodeRecord]) {
        if nodes.is_empty() {
            // No cluster is empty: the copy of the store is being made anew. Whoever forgot the others now would not get it.
            return;
        }
        let removed = nodes.iter().filter(|node| node.standing.is_removed());
        let removed: Vec<NodeId> = removed.map(|node| node.id).collect();
        removed.iter().for_each(|id| self.links.forbid(*id));
        let entries = nodes.iter().filter(|node| !node.standing.is_removed()).map(|node| RosterEntry {
            id: node.id,
            name: node.name.as_str().into(),
            roles: node.roles,
            addresses: node.addresses.clone(),
            draining: !matches!(node.standing, Standing::Active),
        });
        let entries: Vec<_> = entries.collect();
        if !entries.iter().any(|entry| entry.id == self.me) {
            tracing::error!(
                "this node was removed from its cluster: the others refuse it; join it again with a new token"
            );
        }
        self.remember(&entries, removed);
        if let Err(error) = self.nodes.set_roster(entries) {
            tracing::error!(%error, "the roster cannot be followed");
        }
    }

    /// Keeps the others' addresses, and who was removed, for a start at which the store cannot be read yet.
    fn remember(&self, entries: &[RosterEntry], removed: Vec<NodeId>) {
        let others = entries.iter().filter(|entry| entry.id != self.me);
        let peers: Vec<_> = others
            .map(|entry| KnownPeer {
                id: entry.id,
                name: entry.name.to_string(),
                addresses: entry.addresses.clone(),
            })
            .collect();
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let is_newly_removed = identity.add_removed(removed);
        if !is_newly_removed && identity.peers() == peers.as_slice() {
            return;
        }
        identity.set_peers(peers);
        if let Err(error) = identity.save(&*self.disk) {
            tracing::warn!(%error, "the addresses of the other nodes could not be kept");
        }
    }
}

/// Applies the roster as it is.
pub(super) fn apply(member: &Member, disk: &Arc<RealDisk>) {
    match member.roster.list() {
        Ok(nodes) => Following::of(member, disk).apply(&nodes),
        Err(error) => tracing::error!(%error, "the roster cannot be read"),
    }
}

/// Applies every change.
pub(super) async fn follow(following: Following) {
    let mut changes = following.roster.watch();
    while changes.changed().await.is_ok() {
        let nodes = Arc::clone(&changes.borrow_and_update());
        following.apply(&nodes);
    }
}
