//! Where the newest file of a name is: looks at the folders of all holders, at most one at a time a file. Moves no bytes;
//! that is `share`'s.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use tutti_base::{Deadline, Lane, NodeId, Source, SourceKey, Tick};

use crate::journey::FOLDER_CHECK_EVERY;
use crate::originals::{Desk, Wanted, tags_of};
use crate::wire::{Ask, Told, WireStamp, WireStat};

/// Looks at folders of other nodes that are remembered; then remembering begins anew.
const LOOKS_MAX: usize = 65_536;
/// No look at another node's folder takes longer. What a look found is used up to this much longer while the next is
/// under way.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// How often a look is waited for again that a purge has overtaken; then it is made apart.
const LOOKS_OVERTAKEN_MAX: usize = 2;

/// Where the newest file of a name is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// In this node's own folder.
    Here,
    /// In that node's folder.
    There(NodeId, WireStamp),
    /// Nowhere that can be asked; these nodes hold the folder, or may, and are away.
    Nowhere(Vec<String>),
}

/// A look at all holders, as long as it is good.
#[derive(Clone)]
pub(crate) struct Looked {
    at: Tick,
    purge_seen: u64,
    found: Found,
}

impl Desk {
    /// Where the newest file of `wanted`'s name is: by modification time, then by content. Holders are asked at most once
    /// a second, however many want to know. Cancel-safe.
    pub(crate) async fn newest_holder(self: &Arc<Self>, wanted: &Wanted, deadline: Deadline) -> Found {
        let Source::Local { folder, .. } = &wanted.source else { return Found::Here };
        let holders = self.mesh.holders(folder);
        if holders.others.is_empty() {
            let is_ours = holders.me || holders.away.is_empty();
            return if is_ours { Found::Here } else { Found::Nowhere(holders.absent()) };
        }
        for _ in 0..LOOKS_OVERTAKEN_MAX {
            if let Some(found) = self.looked(wanted) {
                return found;
            }
            let look = self.looking.fly(wanted.key, deadline, |_| {
                let (desk, wanted) = (Arc::clone(self), wanted.clone());
                Box::pin(async move { Ok(desk.look(&wanted).await) })
            });
            match look.await.0 {
                Ok(looked) if self.has_survived(wanted, &looked) => return looked.found,
                Ok(_) => {}
                Err(_) => {
                    let silent = holders.others.iter().map(|node| self.mesh.name(*node).to_string());
                    return Found::Nowhere(silent.chain(holders.absent()).collect());
                }
            }
        }
        self.look(wanted).await.found
    }

    /// What the last look found, while that is recent. While the next one is under way it is good for longer: nobody but
    /// who began that one waits for it.
    fn looked(&self, wanted: &Wanted) -> Option<Found> {
        let is_under_way = self.looking.is_under_way(&wanted.key);
        let most = if is_under_way { FOLDER_CHECK_EVERY + LOOK_WITHIN } else { FOLDER_CHECK_EVERY };
        let looked = self.looks().get(&wanted.key).cloned()?;
        let is_recent = self.clock.now().since(looked.at) <= most;
        (is_recent && self.has_survived(wanted, &looked)).then_some(looked.found)
    }

    /// A purge of the original says that it may have changed: what was looked at before is not good after it.
    fn has_survived(&self, wanted: &Wanted, looked: &Looked) -> bool {
        self.purges.check(looked.purge_seen, &tags_of(wanted, &[]), None).is_ok()
    }

    /// Asks all holders.
    async fn look(&self, wanted: &Wanted) -> Looked {
        let (at, purge_seen) = (self.clock.now(), self.purges.newest());
        let folder = match &wanted.source {
            Source::Local { folder, .. } => folder.as_str(),
            Source::Http { .. } => "",
        };
        let holders = self.mesh.holders(folder);
        let ask = Ask::Stat(WireStat { source: wanted.source.clone(), tenant: wanted.tenant.clone() });
        let others = holders.others.iter().map(|node| async {
            (*node, self.mesh.ask(*node, Lane::Small, &ask, Bytes::new(), LOOK_WITHIN).await)
        });
        let own = async {
            match holders.me {
                true => self.look_here(wanted, Deadline::after(at, LOOK_WITHIN)).await,
                false => None,
            }
        };
        let (others, own) = join(join_all(others), own).await;
        let mut away = holders.absent();
        let mut stamps: Vec<(Option<NodeId>, WireStamp)> =
            own.map(|stamp| (None, stamp)).into_iter().collect();
        for (node, answer) in others {
            match answer {
                Ok((Told::Stat(stamp), _)) => stamps.extend(stamp.map(|stamp| (Some(node), stamp))),
                Ok(_) | Err(_) => away.push(self.mesh.name(node).to_string()),
            }
        }
        // A holder may not know yet that its file is a deleted one.
        stamps.retain(|(_, stamp)| !self.is_deleted(wanted, stamp.modified_ns));
        self.tell_conflict(wanted, &stamps);
        let rank =
            |(node, stamp): &(Option<NodeId>, WireStamp)| (stamp.modified_ns, stamp.hash, node.is_none());
        let found = match stamps.into_iter().max_by_key(rank) {
            Some((None, _)) => Found::Here,
            Some((Some(node), stamp)) => Found::There(node, stamp),
            None => Found::Nowhere(away),
        };
        self.remember(wanted.key, Looked { at, purge_seen, found })
    }

    fn remember(&self, key: SourceKey, looked: Looked) -> Looked {
        let mut looks = self.looks();
        if looks.len() >= LOOKS_MAX {
            looks.clear();
        }
        looks.insert(key, looked.clone());
        looked
    }

    /// How the file is in this node's own folder.
    async fn look_here(&self, wanted: &Wanted, deadline: Deadline) -> Option<WireStamp> {
        let stamp = self.stamp_here(wanted, deadline).await?;
        let hash = self.known(&wanted.key).filter(|(known, _)| *known == stamp).map(|(_, hash)| hash);
        Some(WireStamp { modified_ns: stamp.modified_ns, len: stamp.len, hash })
    }

    /// One path with two contents is somebody's mistake: the newest wins everywhere, and it is told.
    fn tell_conflict(&self, wanted: &Wanted, stamps: &[(Option<NodeId>, WireStamp)]) {
        let differs = |a: &WireStamp, b: &WireStamp| {
            a.len != b.len || matches!((a.hash, b.hash), (Some(a), Some(b)) if a != b)
        };
        if !stamps.windows(2).any(|pair| differs(&pair[0].1, &pair[1].1)) {
            return;
        }
        let name = |node: Option<NodeId>| node.unwrap_or(self.mesh.view().me);
        let nodes: Vec<_> = stamps.iter().map(|(node, _)| self.mesh.name(name(*node)).to_string()).collect();
        self.meter.conflicts.inc();
        let source = wanted.source.to_string();
        tracing::warn!(
            source,
            ?nodes,
            "ALERT: one path has different contents on these nodes; the newest is served"
        );
    }

    /// Forgets where the newest file of a name was.
    pub(crate) fn forget_look(&self, source: &SourceKey) {
        self.looks().remove(source);
    }

    /// Answers a peer's [`Ask::Stat`], which is for files of folders alone.
    pub(crate) async fn stat(&self, ask: WireStat, deadline: Deadline) -> Option<WireStamp> {
        if !matches!(ask.source, Source::Local { .. }) {
            return None;
        }
        let wanted =
            Wanted { key: ask.source.key(&ask.tenant), source: ask.source, tenant: ask.tenant, bytes_max: 0 };
        self.look_here(&wanted, deadline).await
    }

    fn looks(&self) -> MutexGuard<'_, HashMap<SourceKey, Looked>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
