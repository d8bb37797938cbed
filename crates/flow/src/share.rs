//! Originals over the cluster: folders of any node are everyone's, origins are asked once, second copies follow. The
//! desk's dealings with other nodes; what it does alone is in `originals`.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{join, join_all};
use tutti_base::{
    Body, CallError, ContentHash, Deadline, FileBody, Kind, Lane, NodeId, Problem, Source, Tick, Wall,
};
use tutti_cache::OriginalRecord;

use crate::journey::FOLDER_CHECK_EVERY;
use crate::mesh::COPYING_MAX;
use crate::meter::{Counted, Meter};
use crate::originals::{Desk, Original, Wanted, keeping_failed, original, tags_of, too_long};
use crate::wire::{Ask, Told, Which, WireCopy, WireOriginal, WireOriginalFound, WireStamp, WireStat};

/// Looks at folders of other nodes that are remembered.
const LOOKS_MAX: usize = 65_536;
/// No look at another node's folder takes longer.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// A copy of a folder's file on another node may stand in this long when every holder is away.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often a look is repeated when the holder that it found has gone.
const LOOKS_PER_ASK: usize = 2;
/// A second copy takes at most this long.
const COPY_WITHIN: Duration = Duration::from_secs(30);

/// Where the newest file of a name is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// In this node's own folder.
    Here,
    /// In that node's folder.
    There(NodeId, WireStamp),
    /// Nowhere that can be asked; these nodes hold the folder and are away.
    Nowhere(Vec<String>),
}

/// A look at all holders, as long as it is good.
pub(crate) struct Looked {
    at: Tick,
    found: Found,
}

impl Desk {
    /// Where the newest file of `wanted`'s name is: by modification time, then by content. Holders are asked at most once
    /// a second.
    pub(crate) async fn newest_holder(&self, wanted: &Wanted, deadline: Deadline) -> Found {
        let Source::Local { folder, .. } = &wanted.source else { return Found::Here };
        let holders = self.mesh.holders(folder);
        if holders.others.is_empty() {
            let is_ours = holders.me || holders.away.is_empty();
            return if is_ours { Found::Here } else { Found::Nowhere(holders.away) };
        }
        let now = self.clock.now();
        if let Some(looked) = self.looks().get(&wanted.key)
            && now.since(looked.at) <= FOLDER_CHECK_EVERY
        {
            return looked.found.clone();
        }
        let within = deadline.left(now).min(LOOK_WITHIN);
        let ask = Ask::Stat(WireStat { source: wanted.source.clone(), tenant: wanted.tenant.clone() });
        let others = holders.others.iter().map(|node| async {
            (*node, self.mesh.ask(*node, Lane::Small, &ask, Bytes::new(), within).await)
        });
        let (others, here) = join(join_all(others), self.look_here(wanted, holders.me, deadline)).await;
        let mut away = holders.away;
        let mut stamps: Vec<(Option<NodeId>, WireStamp)> =
            here.map(|stamp| (None, stamp)).into_iter().collect();
        for (node, answer) in others {
            match answer {
                Ok((Told::Stat(stamp), _)) => stamps.extend(stamp.map(|stamp| (Some(node), stamp))),
                Ok(_) | Err(_) => away.push(self.mesh.name(node).to_string()),
            }
        }
        self.tell_conflict(wanted, &stamps);
        let rank =
            |(node, stamp): &(Option<NodeId>, WireStamp)| (stamp.modified_ns, stamp.hash, node.is_none());
        let found = match stamps.into_iter().max_by_key(rank) {
            Some((None, _)) => Found::Here,
            Some((Some(node), stamp)) => Found::There(node, stamp),
            None => Found::Nowhere(away),
        };
        let mut looks = self.looks();
        if looks.len() >= LOOKS_MAX {
            looks.clear();
        }
        looks.insert(wanted.key, Looked { at: now, found: found.clone() });
        found
    }

    async fn look_here(&self, wanted: &Wanted, is_holder: bool, deadline: Deadline) -> Option<WireStamp> {
        if !is_holder {
            return None;
        }
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

    /// The newest file, from wherever it is; a copy that is kept where every holder is away.
    pub(crate) async fn obtain_from_folder(
        self: &Arc<Self>,
        wanted: &Wanted,
        deadline: Deadline,
    ) -> Result<Original, Problem> {
        for _ in 0..LOOKS_PER_ASK {
            match self.newest_holder(wanted, deadline).await {
                Found::Here => {
                    let got = self.from_own_folder(wanted, deadline).await?;
                    self.share_only_copy(wanted, &got);
                    return Ok(got);
                }
                Found::There(node, stamp) => match self.from_folder_of(node, wanted, stamp, deadline).await {
                    Err(error) if error.blames_peer() => drop(self.looks().remove(&wanted.key)),
                    outcome => return outcome.map_err(in_folder),
                },
                Found::Nowhere(away) => return self.without_holders(wanted, away).await,
            }
        }
        let away = vec!["every holder of its folder".to_owned()];
        self.without_holders(wanted, away).await
    }

    async fn from_folder_of(
        self: &Arc<Self>,
        node: NodeId,
        wanted: &Wanted,
        stamp: WireStamp,
        deadline: Deadline,
    ) -> Result<Original, CallError> {
        let kept = self.kept(wanted).await;
        if let (Some((record, body)), Some(hash)) = (&kept, stamp.hash)
            && record.hash == hash
        {
            Meter::count(&self.meter.originals, "kept");
            return Ok(original(wanted, record, body.clone(), false));
        }
        self.pull(node, wanted, Which::InFolder, kept.as_ref(), deadline).await
    }

    /// Every holder is away: what is kept stands in; without it the answer names who is missing, and is no 404.
    async fn without_holders(&self, wanted: &Wanted, away: Vec<String>) -> Result<Original, Problem> {
        if away.is_empty() {
            // In the words of a node alone.
            return Err(Problem::new(Kind::NotFound, format!("there is no original at {}", wanted.source))
                .about("source")
                .because("it is in no node's folder"));
        }
        if let Some((record, body)) = self.kept(wanted).await {
            Meter::count(&self.meter.originals, "stale");
            return Ok(original(wanted, &record, body, true));
        }
        let nodes = away.join(", ");
        let detail =
            format!("the nodes that hold this original are away: {nodes}; try again when they are back");
        Err(Problem::new(Kind::Unavailable, detail).about("folder").retry_after(Duration::from_secs(5)))
    }

    /// The original as its owners have it; none where this node has to ask the origin itself.
    pub(crate) async fn ask_owners(
        self: &Arc<Self>,
        wanted: &Wanted,
        kept: Option<&(OriginalRecord, FileBody)>,
        deadline: Deadline,
    ) -> Option<Result<Original, Problem>> {
        let me = self.mesh.view().me;
        for owner in self.mesh.owners(wanted.key.prefix()) {
            if owner == me {
                return None;
            }
            match self.pull(owner, wanted, Which::Current, kept, deadline).await {
                Ok(original) => return Some(Ok(original)),
                Err(CallError::Refused(_, problem)) if problem.kind != Kind::Unavailable => {
                    return Some(Err(*problem));
                }
                Err(_) => {
                    self.meter.passed_over.inc();
                }
            }
        }
        None
    }

    /// Gets `which` bytes of `wanted` from `node`, and keeps them where that is allowed.
    pub(crate) async fn pull(
        self: &Arc<Self>,
        node: NodeId,
        wanted: &Wanted,
        which: Which,
        kept: Option<&(OriginalRecord, FileBody)>,
        deadline: Deadline,
    ) -> Result<Original, CallError> {
        let ask = Ask::Original(WireOriginal {
            source: Some(wanted.source.clone()),
            tenant: wanted.tenant.clone(),
            bytes_max: wanted.bytes_max,
            which,
            have: kept.map(|(record, _)| record.hash),
        });
        let within = deadline.left(self.clock.now());
        let (told, body) = self.mesh.ask(node, Lane::Bulk, &ask, Bytes::new(), within).await?;
        let refused = |problem| CallError::Refused(node, Box::new(problem));
        let Told::Original(found) = told else {
            return Err(refused(Problem::new(Kind::Unavailable, "a peer answered something else")));
        };
        let body = match kept {
            Some((record, at_hand)) if record.hash == found.hash => at_hand.clone(),
            _ => self.take_in(wanted, &found, body).await.map_err(|failed| match failed {
                TakeIn::Broken => CallError::Broken(node),
                TakeIn::Problem(problem) => refused(problem),
            })?,
        };
        Meter::count(&self.meter.originals, "peer");
        Ok(Original {
            hash: found.hash,
            body,
            tags: found.tags,
            fresh_until: found.fresh_until,
            shared: found.shared,
            stale: found.stale,
            strict: found.strict,
        })
    }

    /// Writes what arrives, checks that it is what was announced, and keeps it.
    async fn take_in(
        &self,
        wanted: &Wanted,
        found: &WireOriginalFound,
        body: Body,
    ) -> Result<FileBody, TakeIn> {
        let failed = |error: &std::io::Error| TakeIn::Problem(keeping_failed(error));
        let mut writer = self.cache.writer();
        match body {
            Body::Whole(bytes) => writer.write(&bytes).map_err(|error| failed(&error))?,
            Body::File(_) => {
                let bytes = self.copies.read(body, wanted.bytes_max).await.map_err(|error| failed(&error))?;
                writer.write(&bytes).map_err(|error| failed(&error))?;
            }
            Body::Stream(mut stream) => {
                let mut len = 0u64;
                while let Some(chunk) = stream.chunks.next().await {
                    let chunk = chunk.map_err(|_| TakeIn::Broken)?;
                    len += chunk.len() as u64;
                    if len > wanted.bytes_max {
                        return Err(TakeIn::Problem(too_long(wanted.bytes_max)));
                    }
                    writer.write(&chunk).map_err(|error| failed(&error))?;
                }
            }
        }
        let sealed = writer.seal().map_err(|error| failed(&error))?;
        if sealed.hash != found.hash {
            return Err(TakeIn::Broken);
        }
        let tags = tags_of(wanted, found.record.as_ref().map_or(&[], |record| &record.tags));
        if let Ok(purge_seen) = self.purges.check_foreign(&found.vector, &tags, None)
            && found.shared
        {
            let record = found.record.clone().unwrap_or_else(|| of_folder(found, self.clock.wall()));
            (sealed.keep)(wanted.key, OriginalRecord { purge_seen, ..record });
        }
        Ok(sealed.body)
    }

    /// Lets the other owner fetch a second copy of an original from here.
    pub(crate) fn copy_to_owners(self: &Arc<Self>, wanted: &Wanted, record: OriginalRecord) {
        let me = self.mesh.view().me;
        let vector = self.purges.vector();
        let others: Vec<_> =
            self.mesh.owners(wanted.key.prefix()).into_iter().filter(|node| *node != me).collect();
        if others.is_empty()
            || self.purges.check(record.purge_seen, &tags_of(wanted, &record.tags), None).is_err()
        {
            return;
        }
        let Some(counted) = Counted::one_of(&self.meter.copying, COPYING_MAX) else { return };
        let (source, tenant) = (wanted.source.clone(), wanted.tenant.clone());
        let ask = Ask::Copy(Box::new(WireCopy { source, tenant, record, vector }));
        let mesh = Arc::clone(&self.mesh);
        self.spawn.spawn(
            "flow.copy",
            Box::pin(async move {
                let _counted = counted;
                for node in others {
                    if let Err(error) = mesh.ask(node, Lane::Small, &ask, Bytes::new(), COPY_WITHIN).await {
                        tracing::debug!(%error, "a second copy of an original could not be placed");
                    }
                }
            }),
        );
    }

    /// Where this node is the only holder of a folder, its owners get a copy as soon as it has been read once.
    fn share_only_copy(self: &Arc<Self>, wanted: &Wanted, got: &Original) {
        let Source::Local { folder, .. } = &wanted.source else { return };
        if self.mesh.view().is_alone() || !self.mesh.holders(folder).others.is_empty() {
            return;
        }
        let mut shared = self.shared();
        if shared.get(&wanted.key) == Some(&got.hash) {
            return;
        }
        if shared.len() >= LOOKS_MAX {
            shared.clear();
        }
        shared.insert(wanted.key, got.hash);
        drop(shared);
        let now = self.clock.wall();
        let record = folder_record(got.hash, got.body.len, now, self.purges.newest());
        let loan = self.mesh.lend(got.hash, &got.body);
        self.copy_to_owners(wanted, record);
        let (clock, until) = (Arc::clone(&self.clock), self.clock.now() + COPY_WITHIN);
        self.spawn.spawn(
            "flow.lend",
            Box::pin(async move {
                clock.sleep_until(until).await;
                drop(loan);
            }),
        );
    }

    /// Answers a peer's [`Ask::Original`].
    pub(crate) async fn give(
        self: &Arc<Self>,
        ask: WireOriginal,
        deadline: Deadline,
    ) -> Result<(WireOriginalFound, Body), Problem> {
        let vector = self.purges.vector();
        let wanted = ask.source.map(|source| Wanted {
            key: source.key(&ask.tenant),
            source,
            tenant: ask.tenant,
            bytes_max: ask.bytes_max,
        });
        let named = || Problem::new(Kind::BadRequest, "an original without a name was asked for");
        let got = match (ask.which, wanted.as_ref()) {
            (Which::These(hash), wanted) => self.these(&hash, wanted).await?,
            (_, None) => return Err(named()),
            (Which::InFolder, Some(wanted)) => self.from_own_folder(wanted, deadline).await?,
            (Which::Current, Some(wanted)) => self.get_as_owner(wanted, deadline).await?,
        };
        let record = match &wanted {
            Some(wanted) => self.kept(wanted).await.map(|(record, _)| record),
            None => None,
        };
        let found = WireOriginalFound {
            hash: got.hash,
            len: got.body.len,
            tags: got.tags,
            fresh_until: got.fresh_until,
            shared: got.shared,
            stale: got.stale,
            strict: got.strict,
            record: record.filter(|record| record.hash == got.hash),
            vector,
        };
        let body = if ask.have == Some(found.hash) { Body::empty() } else { Body::File(got.body) };
        Ok((found, body))
    }

    /// Exactly these bytes, lent or kept.
    async fn these(&self, hash: &ContentHash, wanted: Option<&Wanted>) -> Result<Original, Problem> {
        let gone = || Problem::new(Kind::Unavailable, "these bytes are not at hand here any more");
        if let Some(body) = self.mesh.borrowed(hash) {
            let tags = wanted.map_or_else(Vec::new, |wanted| tags_of(wanted, &[]));
            return Ok(Original {
                hash: *hash,
                body,
                tags,
                fresh_until: None,
                shared: true,
                stale: false,
                strict: false,
            });
        }
        let wanted = wanted.ok_or_else(gone)?;
        let (record, body) =
            self.kept(wanted).await.filter(|(record, _)| record.hash == *hash).ok_or_else(gone)?;
        Ok(original(wanted, &record, body, false))
    }

    /// Exactly these bytes of `wanted`, where they are here already: kept, or in this node's own folder.
    pub(crate) async fn at_hand(&self, wanted: &Wanted, hash: &ContentHash) -> Option<Original> {
        if let Some((record, body)) = self.kept(wanted).await
            && record.hash == *hash
        {
            return Some(original(wanted, &record, body, false));
        }
        None
    }

    /// Forgets where the newest file of a name was.
    pub(crate) fn forget_look(&self, source: &tutti_base::SourceKey) {
        self.looks().remove(source);
    }

    /// Answers a peer's [`Ask::Stat`].
    pub(crate) async fn stat(&self, ask: WireStat, deadline: Deadline) -> Option<WireStamp> {
        let wanted =
            Wanted { key: ask.source.key(&ask.tenant), source: ask.source, tenant: ask.tenant, bytes_max: 0 };
        self.look_here(&wanted, true, deadline).await
    }

    /// Answers a peer's [`Ask::Copy`]: fetches the original from `from`, unless it is here.
    pub(crate) async fn copy(
        self: &Arc<Self>,
        from: NodeId,
        ask: WireCopy,
        bytes_max: u64,
        deadline: Deadline,
    ) {
        let key = ask.source.key(&ask.tenant);
        let wanted = Wanted { key, source: ask.source, tenant: ask.tenant, bytes_max };
        let Ok(purge_seen) =
            self.purges.check_foreign(&ask.vector, &tags_of(&wanted, &ask.record.tags), None)
        else {
            return;
        };
        let record = OriginalRecord { purge_seen, ..ask.record };
        if self.kept(&wanted).await.is_some_and(|(kept, _)| kept.hash == record.hash) {
            self.cache.update(&wanted.key, record).await;
            return;
        }
        if let Err(error) = self.pull(from, &wanted, Which::These(record.hash), None, deadline).await {
            tracing::debug!(%error, "a second copy of an original could not be fetched");
        }
    }

    fn looks(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<tutti_base::SourceKey, Looked>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(
        &self,
    ) -> std::sync::MutexGuard<'_, std::collections::HashMap<tutti_base::SourceKey, ContentHash>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why bytes were not taken in.
enum TakeIn {
    /// They are not what was announced, or the way broke.
    Broken,
    /// They could not be kept, or are too many.
    Problem(Problem),
}

/// The record of a folder's file on a node that does not hold the folder. It is always checked with a holder first.
fn folder_record(hash: ContentHash, len: u64, now: Wall, purge_seen: u64) -> OriginalRecord {
    OriginalRecord {
        hash,
        len,
        claimed_type: None,
        validator: Default::default(),
        stored_at: now,
        fresh_until: now,
        error_until: now + KEPT_FOR,
        explicit_lifetime: false,
        shared: true,
        tags: Vec::new(),
        purge_seen,
    }
}

fn of_folder(found: &WireOriginalFound, now: Wall) -> OriginalRecord {
    folder_record(found.hash, found.len, now, 0)
}

/// What a failed look into another node's folder means for the client.
fn in_folder(error: CallError) -> Problem {
    match error {
        CallError::Refused(_, problem) => *problem,
        CallError::Late(_) => {
            Problem::new(Kind::OriginTimeout, "the original did not come in time from its node")
        }
        other => Problem::new(Kind::Unavailable, "the node that holds this original cannot be reached")
            .because(other)
            .retry_after(Duration::from_secs(1)),
    }
}
