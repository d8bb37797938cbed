//! Originals over the cluster: folders of any node are everyone's, origins are asked once. The desk's dealings
//! with other nodes; what it does alone is in `originals`, second copies are in `copying`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tutti_base::{
    Body, CallError, ContentHash, Deadline, FileBody, Kind, Lane, NodeId, Problem, Source, Wall,
};
use tutti_cache::OriginalRecord;

use crate::look::Found;
use crate::meter::Meter;
use crate::originals::{Desk, Original, Wanted, keeping_failed, original, tags_of, too_long};
use crate::wire::{Ask, Told, Which, WireOriginal, WireOriginalFound, WireStamp};

/// A copy of a folder's file on another node may stand in this long when every holder is away.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often a look is repeated when the holder that it found has gone.
const LOOKS_PER_ASK: usize = 2;

impl Desk {
    /// The newest file, from wherever it is; a copy that is kept where every holder is away.
    pub(crate) async fn obtain_from_folder(
        self: &Arc<Self>,
        wanted: &Wanted,
        deadline: Deadline,
    ) -> Result<Original, Problem> {
        for _ in 0..LOOKS_PER_ASK {
            match self.newest_holder(wanted, deadline).await {
                Found::Here => return self.obtain_here(wanted, deadline).await,
                Found::There(node, stamp) => match self.from_folder_of(node, wanted, stamp, deadline).await {
                    Err(error) if error.blames_peer() => self.forget_look(&wanted.key),
                    outcome => return outcome.map_err(in_folder),
                },
                Found::Nowhere(away) => return self.without_holders(wanted, away).await,
            }
        }
        let away = vec!["every holder of its folder".to_owned()];
        self.without_holders(wanted, away).await
    }

    /// The file in this node's own folder. Where it is not there, a node that is away may have it.
    async fn obtain_here(self: &Arc<Self>, wanted: &Wanted, deadline: Deadline) -> Result<Original, Problem> {
        match self.read_own_folder(wanted, deadline).await {
            Ok(got) => {
                self.share_only_copy(wanted, &got);
                Ok(got)
            }
            Err(problem) if problem.kind == Kind::NotFound => {
                let Source::Local { folder, .. } = &wanted.source else { return Err(problem) };
                let away = self.mesh.holders(folder).absent();
                if away.is_empty() { Err(problem) } else { self.without_holders(wanted, away).await }
            }
            Err(problem) => Err(problem),
        }
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

    /// Every holder is away: what is kept stands in; without it the answer names who is missing, and is no 404 unless the
    /// file was deleted.
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
        if self.purges.deleted(&wanted.key).is_some() {
            return Err(Problem::new(Kind::NotFound, "the original was deleted"));
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

    /// Gets `which` bytes of `wanted` from `node`, and keeps them where that is allowed. What a purge took away that
    /// `node` has not learned of is refused, as if `node` were away.
    pub(crate) async fn pull(
        self: &Arc<Self>,
        node: NodeId,
        wanted: &Wanted,
        which: Which,
        kept: Option<&(OriginalRecord, FileBody)>,
        deadline: Deadline,
    ) -> Result<Original, CallError> {
        let before = self.purges.newest();
        let (found, body) = self.ask_for(node, wanted, which, kept, deadline).await?;
        let refused = |problem| CallError::Refused(node, Box::new(problem));
        let mut tags = found.tags.clone();
        tags.extend(tags_of(wanted, &[]).into_iter().filter(|tag| !found.tags.contains(tag)));
        let survived = self.purges.check_foreign(&found.vector, &tags, None).ok();
        let purge_seen = match (which, survived) {
            (_, Some(purge_seen)) => purge_seen,
            // Read from the folder after it was asked for, whatever its node knew by then.
            (Which::InFolder, None) => before,
            (Which::These(_), None) => 0,
            (Which::Current, None) => {
                let detail = "a peer has not learned yet that this original was purged";
                return Err(refused(Problem::new(Kind::Unavailable, detail)));
            }
        };
        let is_keepable = survived.is_some() || which == Which::InFolder;
        let record = self.record_of(wanted, &found).filter(|_| is_keepable);
        let record = record.map(|record| OriginalRecord { purge_seen, ..record });
        let body = match kept {
            Some((had, at_hand)) if had.hash == found.hash => {
                if let Some(record) = record {
                    self.cache.update(&wanted.key, OriginalRecord { len: had.len, ..record }).await;
                }
                at_hand.clone()
            }
            _ => self.take_in(wanted, &found.hash, body, record).await.map_err(|failed| match failed {
                TakeIn::Broken => CallError::Broken(node),
                TakeIn::Problem(problem) => refused(problem),
            })?,
        };
        Meter::count(&self.meter.originals, "peer");
        let WireOriginalFound { hash, fresh_until, shared, stale, strict, .. } = found;
        Ok(Original { hash, body, tags, fresh_until, shared, stale, strict, purge_seen })
    }

    async fn ask_for(
        &self,
        node: NodeId,
        wanted: &Wanted,
        which: Which,
        kept: Option<&(OriginalRecord, FileBody)>,
        deadline: Deadline,
    ) -> Result<(WireOriginalFound, Body), CallError> {
        let ask = Ask::Original(WireOriginal {
            source: Some(wanted.source.clone()),
            tenant: wanted.tenant.clone(),
            bytes_max: wanted.bytes_max,
            which,
            have: kept.map(|(record, _)| record.hash),
        });
        let within = deadline.left(self.clock.now());
        match self.mesh.ask(node, Lane::Bulk, &ask, Bytes::new(), within).await? {
            (Told::Original(found), body) => Ok((*found, body)),
            _ => {
                let problem = Problem::new(Kind::Unavailable, "a peer answered something else");
                Err(CallError::Refused(node, Box::new(problem)))
            }
        }
    }

    /// Under which record an original from a peer may be kept: its origin's, where the peer keeps it by that and it may be
    /// shared; a folder's file needs none.
    fn record_of(&self, wanted: &Wanted, found: &WireOriginalFound) -> Option<OriginalRecord> {
        match (&found.record, &wanted.source) {
            _ if !found.shared => None,
            (Some(record), _) => Some(record.clone()).filter(|it| it.shared && it.hash == found.hash),
            (None, Source::Local { .. }) => Some(folder_record(found.hash, found.len, self.clock.wall(), 0)),
            (None, Source::Http { .. }) => None,
        }
    }

    /// Writes what arrives, checks that it is what was announced, and keeps it where there is a record for it.
    async fn take_in(
        &self,
        wanted: &Wanted,
        hash: &ContentHash,
        body: Body,
        record: Option<OriginalRecord>,
    ) -> Result<FileBody, TakeIn> {
        let failed = |error: &std::io::Error| TakeIn::Problem(keeping_failed(error));
        let mut writer = self.cache.writer();
        let mut len = 0u64;
        let mut fits = |more: usize| {
            len += more as u64;
            if len > wanted.bytes_max { Err(TakeIn::Problem(too_long(wanted.bytes_max))) } else { Ok(()) }
        };
        match body {
            Body::Whole(bytes) => {
                fits(bytes.len())?;
                writer.write(&bytes).map_err(|error| failed(&error))?;
            }
            Body::File(_) => {
                let bytes = self.copies.read(body, wanted.bytes_max).await.map_err(|error| failed(&error))?;
                fits(bytes.len())?;
                writer.write(&bytes).map_err(|error| failed(&error))?;
            }
            Body::Stream(mut stream) => {
                while let Some(chunk) = stream.chunks.next().await {
                    let chunk = chunk.map_err(|_| TakeIn::Broken)?;
                    fits(chunk.len())?;
                    writer.write(&chunk).map_err(|error| failed(&error))?;
                }
            }
        }
        let sealed = writer.seal().map_err(|error| failed(&error))?;
        if sealed.hash != *hash {
            return Err(TakeIn::Broken);
        }
        if let Some(record) = record {
            (sealed.keep)(wanted.key, OriginalRecord { len: sealed.body.len, ..record });
        }
        Ok(sealed.body)
    }

    /// Answers a peer's [`Ask::Original`]; what is longer than `bytes_max`, or than the peer wants, is refused.
    pub(crate) async fn give(
        self: &Arc<Self>,
        ask: WireOriginal,
        bytes_max: u64,
        deadline: Deadline,
    ) -> Result<(WireOriginalFound, Body), Problem> {
        // What is got has survived all purges known by then, hence those of now.
        let vector = self.purges.vector();
        let wanted = ask.source.map(|source| Wanted {
            key: source.key(&ask.tenant),
            source,
            tenant: ask.tenant,
            bytes_max,
        });
        let got = match (ask.which, &wanted) {
            (Which::These(hash), wanted) => self.these(&hash, wanted.as_ref()).await?,
            (_, None) => {
                return Err(Problem::new(Kind::BadRequest, "an original without a name was asked for"));
            }
            (_, Some(wanted)) if matches!(wanted.source, Source::Local { .. }) => {
                self.read_own_folder(wanted, deadline).await?
            }
            (Which::Current, Some(wanted)) => self.get_as_owner(wanted, deadline).await?,
            (Which::InFolder, Some(wanted)) => {
                let detail = format!("{} is in no folder", wanted.source);
                return Err(Problem::new(Kind::BadRequest, detail));
            }
        };
        if got.body.len > ask.bytes_max {
            return Err(too_long(ask.bytes_max));
        }
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

    /// Exactly these bytes, lent or kept. What is lent may be kept there where it may be here.
    async fn these(&self, hash: &ContentHash, wanted: Option<&Wanted>) -> Result<Original, Problem> {
        let gone = || Problem::new(Kind::Unavailable, "these bytes are not at hand here any more");
        if let Some(lent) = self.mesh.borrowed(hash) {
            let survived = self.purges.check(lent.purge_seen, &lent.tags, None).is_ok();
            return Ok(Original { shared: lent.shared && survived, ..lent });
        }
        let wanted = wanted.ok_or_else(gone)?;
        let (record, body) =
            self.kept(wanted).await.filter(|(record, _)| record.hash == *hash).ok_or_else(gone)?;
        Ok(original(wanted, &record, body, false))
    }

    /// Exactly these bytes of `wanted`, where they are here already: kept, or in this node's own folder.
    pub(crate) async fn at_hand(
        &self,
        wanted: &Wanted,
        hash: &ContentHash,
        deadline: Deadline,
    ) -> Option<Original> {
        if let Some((record, body)) = self.kept(wanted).await
            && record.hash == *hash
        {
            return Some(original(wanted, &record, body, false));
        }
        match wanted.source {
            Source::Local { .. } => self.in_own_folder(wanted, hash, deadline).await,
            Source::Http { .. } => None,
        }
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
pub(crate) fn folder_record(hash: ContentHash, len: u64, now: Wall, purge_seen: u64) -> OriginalRecord {
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
