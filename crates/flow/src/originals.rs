//! Getting originals: kept ones while they are fresh, else from their folder or origin, once for all who wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tracing::Instrument;
use tutti_base::{
    BodyError, BoxFuture, Clock, ContentHash, Deadline, Fault, FileBody, Kind, Problem, Source, SourceKey,
    StreamBody, TenantId, Wall,
};
use tutti_cache::{OriginalRecord, Originals};
use tutti_fetch::{Fetch, FetchRequest, Fetched, FileStamp, FolderFile, OriginAnswer};

use crate::copying::Placed;
use crate::failures::{Failed, Failures};
use crate::flight::{Flights, Until};
use crate::journey::Outside;
use crate::look::{Found, Looked};
use crate::mesh::Mesh;
use crate::meter::{Counted, Meter};
use crate::purge::{named_tag, source_tag};
use crate::{Copies, PurgeLog, Spawn};

/// Fresh for this long where an origin says nothing (no heuristics: RFC 9111 §4.2.2 allows none).
const FRESH_UNSAID: Duration = Duration::from_secs(60);
/// Kept this long past its freshness for when the origin fails, where the origin says nothing.
const STALE_IF_ERROR: Duration = Duration::from_secs(7 * 24 * 3600);
/// Files that are read at once only to find out whether what is kept of them is still good.
pub const RECHECKS_MAX: i64 = 8;
/// An original that purges overtake on its way is got this often in all.
const OVERTAKEN_MAX: usize = 3;
/// Stamps of folder files that are remembered with their hashes.
const STAMPS_MAX: usize = 65_536;

/// An original that is at hand.
#[derive(Clone, Debug)]
pub struct Original {
    /// The hash of its bytes.
    pub hash: ContentHash,
    /// Its bytes; they do not change.
    pub body: FileBody,
    /// What purges find it by.
    pub tags: Vec<String>,
    /// Until when its origin says that it is fresh; none where it does not say.
    pub fresh_until: Option<Wall>,
    /// Whether answers made of it may be shared.
    pub shared: bool,
    /// Whether it is an expired copy, because the origin failed.
    pub stale: bool,
    /// Whether its origin forbids to serve what is made of it once that has expired (RFC 9111 §5.2.2.2).
    pub strict: bool,
    /// The place in this node's order of purges up to which it has survived all of them.
    pub purge_seen: u64,
}

/// Gets originals for the journey.
pub struct Desk {
    /// Kept originals.
    pub cache: Arc<dyn Originals>,
    /// The outside.
    pub fetch: Arc<dyn Fetch>,
    /// Unchanging copies.
    pub copies: Arc<dyn Copies>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Purges.
    pub purges: Arc<PurgeLog>,
    /// Failures.
    pub failures: Arc<Failures>,
    /// Metrics.
    pub meter: Meter,
    /// The other nodes.
    pub mesh: Arc<Mesh>,
    /// Background work: second copies.
    pub spawn: Arc<dyn Spawn>,
    flights: Flights<SourceKey, Original>,
    /// What this node gets as the owner, for itself and for others. Apart, so that two nodes that take each other for
    /// the owner do not wait for one another.
    owned: Flights<SourceKey, Original>,
    stamps: Mutex<HashMap<SourceKey, (FileStamp, ContentHash)>>,
    pub(crate) looks: Mutex<HashMap<SourceKey, Looked>>,
    /// Looks at the holders of a file that are under way.
    pub(crate) looking: Flights<SourceKey, Looked>,
    /// Files of which this node is the only holder, and who has a copy of which content of them.
    pub(crate) placed: Mutex<HashMap<SourceKey, Placed>>,
}

/// What to get.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub key: SourceKey,
    /// Where it comes from.
    pub source: Source,
    /// For whom.
    pub tenant: TenantId,
    /// The most bytes it may have.
    pub bytes_max: u64,
}

impl Desk {
    /// A desk over `outside`.
    pub(crate) fn new(
        outside: &Outside,
        purges: Arc<PurgeLog>,
        failures: Arc<Failures>,
        mesh: Arc<Mesh>,
        meter: Meter,
    ) -> Self {
        Self {
            cache: Arc::clone(&outside.originals),
            fetch: Arc::clone(&outside.fetch),
            copies: Arc::clone(&outside.copies),
            clock: Arc::clone(&outside.clock),
            spawn: Arc::clone(&outside.spawn),
            flights: Flights::new(Arc::clone(&outside.clock)),
            owned: Flights::new(Arc::clone(&outside.clock)),
            stamps: Mutex::default(),
            looks: Mutex::default(),
            looking: Flights::new(Arc::clone(&outside.clock)),
            placed: Mutex::default(),
            purges,
            failures,
            mesh,
            meter,
        }
    }

    /// Gets `wanted` before `deadline`. Cancel-safe.
    pub async fn get(self: &Arc<Self>, wanted: &Wanted, deadline: Deadline) -> Result<Original, Problem> {
        if let Some(problem) = self.failures.recall(&Failed::Source(wanted.key), self.clock.now()) {
            return Err(problem);
        }
        let got = self.fly(&self.flights, wanted, deadline, |desk, wanted, until| {
            let span = tracing::debug_span!("flow.original", source = %wanted.source);
            Box::pin(async move { desk.obtain(&wanted, until.deadline()).await }.instrument(span))
        });
        let got = got.await;
        if let Err(problem) = &got {
            self.failures.note(Failed::Source(wanted.key), problem, self.clock.now());
        }
        got
    }

    /// Joins the flight of `wanted`, or begins it with `obtain`, until what lands has survived all purges that are known
    /// by then: what was under way when a purge was acknowledged is not good for who comes after it.
    async fn fly(
        self: &Arc<Self>,
        flights: &Flights<SourceKey, Original>,
        wanted: &Wanted,
        deadline: Deadline,
        obtain: impl Fn(Arc<Self>, Wanted, Until) -> BoxFuture<'static, Result<Original, Problem>>,
    ) -> Result<Original, Problem> {
        for _ in 0..OVERTAKEN_MAX {
            let flight =
                flights.fly(wanted.key, deadline, |until| obtain(Arc::clone(self), wanted.clone(), until));
            let got = flight.await.0?;
            match self.purges.check(got.purge_seen, &got.tags, None) {
                Ok(purge_seen) => return Ok(Original { purge_seen, ..got }),
                Err(_) => Meter::count(&self.meter.originals, "overtaken"),
            }
        }
        Err(Problem::new(Kind::Overloaded, "purges keep overtaking this original; try again later")
            .retry_after(Duration::from_secs(1)))
    }

    /// Whether a folder's file still has the content `hash`: by its stamp, or by reading it where no stamp is known, as
    /// after a restart. False as well when it cannot be said.
    pub async fn unchanged(
        self: &Arc<Self>,
        wanted: &Wanted,
        hash: &ContentHash,
        deadline: Deadline,
    ) -> bool {
        match self.newest_holder(wanted, deadline).await {
            Found::Here => {}
            Found::There(_, stamp) => {
                return match stamp.hash {
                    Some(known) => known == *hash,
                    None => self.still_has(wanted, hash, deadline).await,
                };
            }
            Found::Nowhere(_) => return false,
        }
        match (self.stamp_here(wanted, deadline).await, self.known(&wanted.key)) {
            (Some(now), Some((then, known))) => then == now && known == *hash,
            (Some(_), None) => self.still_has(wanted, hash, deadline).await,
            (None, _) => false,
        }
    }

    /// Reads the file, within [`RECHECKS_MAX`]: beyond, the answer counts as changed, and admission bounds the rest.
    async fn still_has(self: &Arc<Self>, wanted: &Wanted, hash: &ContentHash, deadline: Deadline) -> bool {
        let Some(_counted) = Counted::one_of(&self.meter.rechecks, RECHECKS_MAX) else { return false };
        self.get(wanted, deadline).await.is_ok_and(|original| original.hash == *hash)
    }

    async fn obtain(self: &Arc<Self>, wanted: &Wanted, deadline: Deadline) -> Result<Original, Problem> {
        match wanted.source {
            Source::Http { .. } => self.obtain_from_outside(wanted, deadline).await,
            Source::Local { .. } => self.obtain_from_folder(wanted, deadline).await,
        }
    }

    /// Whoever owns an original asks its origin; everyone else asks the owners first.
    async fn obtain_from_outside(
        self: &Arc<Self>,
        wanted: &Wanted,
        deadline: Deadline,
    ) -> Result<Original, Problem> {
        let kept = self.kept(wanted).await;
        if let Some((record, body)) = &kept
            && self.clock.wall() < record.fresh_until
        {
            Meter::count(&self.meter.originals, "kept");
            return Ok(original(wanted, record, body.clone(), false));
        }
        if let Some(outcome) = self.ask_owners(wanted, kept.as_ref(), deadline).await {
            return outcome.or_else(|problem| self.stale_instead(wanted, kept, problem));
        }
        self.get_as_owner(wanted, deadline).await
    }

    /// Gets an original from its origin, for everyone.
    pub(crate) async fn get_as_owner(
        self: &Arc<Self>,
        wanted: &Wanted,
        deadline: Deadline,
    ) -> Result<Original, Problem> {
        self.fly(&self.owned, wanted, deadline, |desk, wanted, until| {
            Box::pin(async move { desk.fetch_from_origin(&wanted, until.deadline()).await })
        })
        .await
    }

    async fn fetch_from_origin(
        self: &Arc<Self>,
        wanted: &Wanted,
        deadline: Deadline,
    ) -> Result<Original, Problem> {
        let kept = self.kept(wanted).await;
        if let Some((record, body)) = &kept
            && self.clock.wall() < record.fresh_until
        {
            return Ok(original(wanted, record, body.clone(), false));
        }
        let validator = kept.as_ref().map(|(record, _)| record.validator.clone()).unwrap_or_default();
        let request = FetchRequest { validator, ..request(wanted, deadline) };
        let purge_seen = self.purges.newest();
        let fetched = match self.fetch.fetch(&request).await {
            Ok(Fetched::File(file)) => self.copy_of_file(wanted, file, purge_seen).await,
            Ok(Fetched::Body(answer, body)) => self.receive(wanted, answer, body, purge_seen).await,
            Ok(Fetched::NotModified(answer)) => self.confirm(wanted, answer, kept.clone(), purge_seen).await,
            Err(problem) => Err(problem),
        };
        fetched.or_else(|problem| self.stale_instead(wanted, kept, problem))
    }

    /// The file in this node's own folder.
    pub(crate) async fn read_own_folder(
        &self,
        wanted: &Wanted,
        deadline: Deadline,
    ) -> Result<Original, Problem> {
        let purge_seen = self.purges.newest();
        match self.fetch.fetch(&request(wanted, deadline)).await? {
            Fetched::File(file) if self.is_deleted(wanted, file.stamp.modified_ns) => {
                Err(Problem::new(Kind::NotFound, "the original was deleted"))
            }
            Fetched::File(file) => self.copy_of_file(wanted, file, purge_seen).await,
            Fetched::Body(..) | Fetched::NotModified(_) => {
                Err(Problem::new(Kind::Internal, "a folder answered as an origin"))
            }
        }
    }

    /// Exactly these bytes from this node's own folder, where its file is known to have them.
    pub(crate) async fn in_own_folder(
        &self,
        wanted: &Wanted,
        hash: &ContentHash,
        deadline: Deadline,
    ) -> Option<Original> {
        let (stamp, _) = self.known(&wanted.key).filter(|(_, known)| known == hash)?;
        let purge_seen = self.purges.newest();
        match self.fetch.fetch(&request(wanted, deadline)).await {
            Ok(Fetched::File(file)) if file.stamp == stamp => {
                let copy = self.copy_of_file(wanted, file, purge_seen).await;
                copy.ok().filter(|original| original.hash == *hash)
            }
            _ => None,
        }
    }

    /// The stamp of the file in this node's own folder.
    pub(crate) async fn stamp_here(&self, wanted: &Wanted, deadline: Deadline) -> Option<FileStamp> {
        match self.fetch.fetch(&request(wanted, deadline)).await {
            Ok(Fetched::File(file)) if !self.is_deleted(wanted, file.stamp.modified_ns) => Some(file.stamp),
            _ => None,
        }
    }

    /// A deletion that this node learned of late counts before its folder has been cleared.
    pub(crate) fn is_deleted(&self, wanted: &Wanted, modified_ns: i128) -> bool {
        let changed_ms = u64::try_from(modified_ns / 1_000_000).unwrap_or(0);
        self.purges.deleted(&wanted.key).is_some_and(|at| changed_ms <= at.0)
    }

    /// What is kept of `wanted` and has survived all purges; its record says up to which.
    pub(crate) async fn kept(&self, wanted: &Wanted) -> Option<(OriginalRecord, FileBody)> {
        let (record, body) = self.cache.find(&wanted.key).await?;
        let Ok(purge_seen) = self.purges.check(record.purge_seen, &tags_of(wanted, &record.tags), None)
        else {
            self.cache.forget(&wanted.key);
            return None;
        };
        Some((OriginalRecord { purge_seen, ..record }, body))
    }

    async fn copy_of_file(
        &self,
        wanted: &Wanted,
        file: FolderFile,
        purge_seen: u64,
    ) -> Result<Original, Problem> {
        if file.stamp.len > wanted.bytes_max {
            return Err(too_long(wanted.bytes_max));
        }
        let (body, hash) = self.copies.freeze(&file, wanted.bytes_max).await.map_err(|error| {
            Problem::new(Kind::NotFound, "the original could not be read")
                .because(format!("{}: {error}", wanted.source))
        })?;
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps.len() >= STAMPS_MAX {
            stamps.clear();
        }
        stamps.insert(wanted.key, (file.stamp, hash));
        Meter::count(&self.meter.originals, "folder");
        Ok(Original {
            hash,
            body,
            tags: tags_of(wanted, &[]),
            fresh_until: None,
            shared: true,
            stale: false,
            strict: false,
            purge_seen,
        })
    }

    async fn receive(
        self: &Arc<Self>,
        wanted: &Wanted,
        answer: OriginAnswer,
        mut body: StreamBody,
        purge_seen: u64,
    ) -> Result<Original, Problem> {
        let mut writer = self.cache.writer();
        let mut len = 0u64;
        while let Some(chunk) = body.chunks.next().await {
            let chunk = chunk.map_err(|error| broken_body(wanted, &error))?;
            len += chunk.len() as u64;
            if len > wanted.bytes_max {
                return Err(too_long(wanted.bytes_max));
            }
            writer.write(&chunk).map_err(|error| keeping_failed(&error))?;
        }
        let sealed = writer.seal().map_err(|error| keeping_failed(&error))?;
        let record = self.record(answer, sealed.hash, len, purge_seen);
        Meter::count(&self.meter.originals, "fetched");
        let got = original(wanted, &record, sealed.body, false);
        if record.shared && self.purges.check(purge_seen, &got.tags, None).is_ok() {
            (sealed.keep)(wanted.key, record.clone());
            self.copy_to_owners(wanted, record);
        }
        Ok(got)
    }

    async fn confirm(
        &self,
        wanted: &Wanted,
        answer: OriginAnswer,
        kept: Option<(OriginalRecord, FileBody)>,
        purge_seen: u64,
    ) -> Result<Original, Problem> {
        let Some((before, body)) = kept else {
            let detail = "the origin answered 304 to a request that named no version";
            return Err(Problem::new(Kind::OriginBroken, detail));
        };
        let mut record = self.record(answer, before.hash, before.len, purge_seen);
        record.claimed_type = record.claimed_type.or(before.claimed_type);
        record.validator = if record.validator.is_empty() { before.validator } else { record.validator };
        record.tags = if record.tags.is_empty() { before.tags } else { record.tags };
        self.cache.update(&wanted.key, record.clone()).await;
        Meter::count(&self.meter.originals, "unchanged");
        Ok(original(wanted, &record, body, false))
    }

    /// A kept copy past its freshness, when the origin failed and the copy's time for that has not run out.
    fn stale_instead(
        &self,
        wanted: &Wanted,
        kept: Option<(OriginalRecord, FileBody)>,
        problem: Problem,
    ) -> Result<Original, Problem> {
        match kept {
            Some((record, body))
                if problem.kind.fault() == Fault::Upstream
                    && !matches!(problem.kind, Kind::OriginStatus(_))
                    && self.clock.wall() < record.error_until =>
            {
                Meter::count(&self.meter.originals, "stale");
                Ok(original(wanted, &record, body, true))
            }
            _ => Err(problem),
        }
    }

    fn record(&self, answer: OriginAnswer, hash: ContentHash, len: u64, purge_seen: u64) -> OriginalRecord {
        let now = self.clock.wall();
        let fresh_until = now + answer.fresh_for.unwrap_or(FRESH_UNSAID);
        OriginalRecord {
            hash,
            len,
            claimed_type: answer.claimed_type,
            validator: answer.validator,
            stored_at: now,
            fresh_until,
            error_until: fresh_until + answer.stale_if_error.unwrap_or(STALE_IF_ERROR),
            explicit_lifetime: answer.fresh_for.is_some(),
            shared: answer.shared,
            tags: answer.tags,
            purge_seen,
        }
    }

    pub(crate) fn known(&self, key: &SourceKey) -> Option<(FileStamp, ContentHash)> {
        self.stamps.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }
}

/// What to ask the outside for.
fn request(wanted: &Wanted, deadline: Deadline) -> FetchRequest {
    FetchRequest {
        source: wanted.source.clone(),
        tenant: wanted.tenant.clone(),
        validator: Default::default(),
        deadline,
    }
}

pub(crate) fn original(wanted: &Wanted, record: &OriginalRecord, body: FileBody, stale: bool) -> Original {
    Original {
        hash: record.hash,
        body,
        tags: tags_of(wanted, &record.tags),
        fresh_until: record.explicit_lifetime.then_some(record.fresh_until),
        shared: record.shared,
        stale,
        strict: record.error_until <= record.fresh_until,
        purge_seen: record.purge_seen,
    }
}

pub(crate) fn tags_of(wanted: &Wanted, named: &[String]) -> Vec<String> {
    std::iter::once(source_tag(&wanted.key)).chain(named.iter().map(|tag| named_tag(tag))).collect()
}

pub(crate) fn too_long(limit: u64) -> Problem {
    let detail = format!("the original is longer than the limit of {limit} bytes (source_bytes)");
    Problem::new(Kind::Unprocessable, detail).about("source_bytes")
}

pub(crate) fn broken_body(wanted: &Wanted, error: &BodyError) -> Problem {
    match error {
        BodyError::TooLong { limit } => too_long(*limit),
        BodyError::Timeout => {
            Problem::new(Kind::OriginTimeout, "the origin did not send the original in time")
        }
        BodyError::Broken(_) => Problem::new(Kind::OriginBroken, "the origin broke off in the original"),
    }
    .because(format!("{}: {error}", wanted.source))
}

pub(crate) fn keeping_failed(error: &std::io::Error) -> Problem {
    Problem::new(Kind::Internal, "the original could not be kept while it was read").because(error)
}
