//! Second copies of originals: placed on the owners by who has read one, fetched by them. Changes nothing of the original.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tutti_base::{ContentHash, Deadline, Kind, Lane, NodeId, Problem, Source, SourceKey};
use tutti_cache::OriginalRecord;

use crate::mesh::COPYING_MAX;
use crate::meter::Counted;
use crate::originals::{Desk, Original, Wanted, tags_of};
use crate::share::folder_record;
use crate::wire::{Ask, Which, WireCopy};

/// A second copy takes at most this long.
const COPY_WITHIN: Duration = Duration::from_secs(30);
/// Files of which this node is the only holder whose copies are remembered; then remembering begins anew.
const COPIES_KNOWN_MAX: usize = 65_536;

/// Who has a copy of a file of which this node is the only holder.
pub(crate) struct Placed {
    hash: ContentHash,
    /// The place in the order of purges as of when it was placed: a purge of the file takes the copies away.
    purge_seen: u64,
    /// Those that have it, or are taking it.
    nodes: Vec<NodeId>,
}

impl Desk {
    /// Lets the other owner fetch a second copy of an original from here, which is kept here.
    pub(crate) fn copy_to_owners(self: &Arc<Self>, wanted: &Wanted, record: OriginalRecord) {
        self.send_copies(wanted, record, self.other_owners(wanted), None);
    }

    /// Where this node is the only holder of a folder, its owners get a copy as soon as it has been read once.
    pub(crate) fn share_only_copy(self: &Arc<Self>, wanted: &Wanted, got: &Original) {
        let Source::Local { folder, .. } = &wanted.source else { return };
        if self.mesh.view().is_alone() || !self.mesh.holders(folder).others.is_empty() {
            return;
        }
        let mut owners = self.other_owners(wanted);
        owners.retain(|node| !self.is_placed(wanted, &got.hash, *node));
        let record = folder_record(got.hash, got.body.len, self.clock.wall(), got.purge_seen);
        self.send_copies(wanted, record, owners, Some(got));
    }

    fn other_owners(&self, wanted: &Wanted) -> Vec<NodeId> {
        let me = self.mesh.view().me;
        self.mesh.owners(wanted.key.prefix()).into_iter().filter(|node| *node != me).collect()
    }

    /// Lets `nodes` fetch copies from here, within [`COPYING_MAX`]. What is not kept here is lent to them meanwhile; which
    /// of them have it is remembered then.
    fn send_copies(
        self: &Arc<Self>,
        wanted: &Wanted,
        record: OriginalRecord,
        nodes: Vec<NodeId>,
        lent: Option<&Original>,
    ) {
        let vector = self.purges.vector();
        if nodes.is_empty()
            || self.purges.check(record.purge_seen, &tags_of(wanted, &record.tags), None).is_err()
        {
            return;
        }
        let Some(counted) = Counted::one_of(&self.meter.copying, COPYING_MAX) else { return };
        let (key, hash, purge_seen) = (wanted.key, record.hash, record.purge_seen);
        let loan = lent.map(|original| self.mesh.lend(original));
        if loan.is_some() {
            self.note_placing(wanted, Placed { hash, purge_seen, nodes: nodes.clone() });
        }
        let (source, tenant) = (wanted.source.clone(), wanted.tenant.clone());
        let ask = Ask::Copy(Box::new(WireCopy { source, tenant, record, vector }));
        let desk = Arc::clone(self);
        self.spawn.spawn(
            "flow.copy",
            Box::pin(async move {
                let _until_done = (counted, loan);
                for node in nodes {
                    let placed = desk.mesh.ask(node, Lane::Small, &ask, Bytes::new(), COPY_WITHIN).await;
                    if let Err(error) = placed {
                        desk.note_not_placed(&key, &hash, node);
                        tracing::debug!(%error, "a second copy of an original could not be placed");
                    }
                }
            }),
        );
    }

    fn is_placed(&self, wanted: &Wanted, hash: &ContentHash, node: NodeId) -> bool {
        self.placed().get(&wanted.key).is_some_and(|placed| {
            placed.hash == *hash
                && placed.nodes.contains(&node)
                && self.purges.check(placed.purge_seen, &tags_of(wanted, &[]), None).is_ok()
        })
    }

    fn note_placing(&self, wanted: &Wanted, placing: Placed) {
        let before = self.placed().get(&wanted.key).map(|placed| placed.nodes.clone()).unwrap_or_default();
        let still = before.into_iter().filter(|node| self.is_placed(wanted, &placing.hash, *node));
        let nodes = still.chain(placing.nodes.iter().copied()).collect();
        let mut placed = self.placed();
        if placed.len() >= COPIES_KNOWN_MAX {
            placed.clear();
        }
        placed.insert(wanted.key, Placed { nodes, ..placing });
    }

    fn note_not_placed(&self, key: &SourceKey, hash: &ContentHash, node: NodeId) {
        if let Some(placed) = self.placed().get_mut(key).filter(|placed| placed.hash == *hash) {
            placed.nodes.retain(|it| *it != node);
        }
    }

    /// Answers a peer's [`Ask::Copy`]: fetches the original from `from`, unless it is here. Fails where it could not
    /// be had.
    pub(crate) async fn copy(
        self: &Arc<Self>,
        from: NodeId,
        ask: WireCopy,
        bytes_max: u64,
        deadline: Deadline,
    ) -> Result<(), Problem> {
        let refused = |detail: &'static str| Problem::new(Kind::Unavailable, detail);
        let _counted = Counted::one_of(&self.meter.copies_in, COPYING_MAX)
            .ok_or_else(|| refused("too many copies are being taken here already"))?;
        let key = ask.source.key(&ask.tenant);
        let wanted = Wanted { key, source: ask.source, tenant: ask.tenant, bytes_max };
        let purge_seen = self
            .purges
            .check_foreign(&ask.vector, &tags_of(&wanted, &ask.record.tags), None)
            .map_err(|_| refused("this original was purged"))?;
        if !ask.record.shared {
            return Err(refused("this original may not be shared"));
        }
        let record = OriginalRecord { purge_seen, ..ask.record };
        if let Some((kept, _)) = self.kept(&wanted).await.filter(|(kept, _)| kept.hash == record.hash) {
            self.cache.update(&wanted.key, OriginalRecord { len: kept.len, ..record }).await;
            return Ok(());
        }
        self.pull(from, &wanted, Which::These(record.hash), None, deadline)
            .await
            .map(drop)
            .map_err(|error| refused("a copy of an original could not be fetched").because(error))
    }

    fn placed(&self) -> MutexGuard<'_, HashMap<SourceKey, Placed>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
