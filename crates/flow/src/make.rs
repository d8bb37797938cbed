//! What a flight does: admission, originals, facts, refine, engine, store; and the ladder when capacity is short.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tutti_base::{
    Body, BoxFuture, Clock, ContentHash, Context, KeptBody, Kind, Problem, RequestKey, ResultKey, Tick, Wall,
};
use tutti_cache::{Binding, Entry, ResultMeta};
use tutti_dispatch::Shortage;
use tutti_service::facts::FileHead;
use tutti_service::{Facts, Input, JobPlan, Lifetime, Output, Plan, Refined, Rung};

use crate::failures::Failed;
use crate::flight::Until;
use crate::gate::{Place, Rank};
use crate::journey::{Degrade, Landed};
use crate::meter::Meter;
use crate::originals::{Original, Wanted};
use crate::purge::{named_tag, source_tag};
use crate::run::Engine;
use crate::{Answer, CacheNote, Flow, Planned, Timing, Whence};

/// A degraded answer is fresh for this long.
const DEGRADED_FOR: Duration = Duration::from_secs(10);
/// An answer made of an expired original is fresh for this long.
const STALE_ORIGINAL_FOR: Duration = Duration::from_secs(5);
/// A render that a purge overtook is begun anew this often.
const PURGED_MIDWAY_MAX: usize = 3;
/// A result that is passed through or handed between plans has at most this many bytes in memory.
pub(crate) const PASSED_BYTES_MAX: u64 = 64 << 20;

/// Everything that one making needs to know.
pub(crate) struct Making<'a> {
    pub(crate) planned: &'a Planned,
    job: &'a JobPlan,
    old: Option<&'a Arc<Entry>>,
    pub(crate) until: &'a Until,
    pub(crate) context: &'a Context,
    /// The cheaper rung's word, when it is one.
    degraded: Option<&'static str>,
}

/// Why nothing was made.
enum Unmade {
    Problem(Problem),
    Short(Shortage),
    PurgedMidway,
}

impl From<Problem> for Unmade {
    fn from(problem: Problem) -> Self {
        Unmade::Problem(problem)
    }
}

/// Notes how long each part took.
struct Stopwatch<'a> {
    clock: &'a dyn Clock,
    since: Tick,
    timing: Timing,
}

impl<'a> Stopwatch<'a> {
    fn start(clock: &'a dyn Clock) -> Self {
        Self { clock, since: clock.now(), timing: Timing::default() }
    }
    fn lap(&mut self, part: &'static str) {
        let now = self.clock.now();
        self.timing.0.push((part, now.since(self.since)));
        self.since = now;
    }
}

impl Flow {
    /// Makes the answer to `planned`. `old` is the expired one, if there is one.
    pub(crate) async fn make(
        self: &Arc<Self>,
        planned: Arc<Planned>,
        old: Option<Arc<Entry>>,
        until: Until,
        context: Context,
    ) -> Result<Landed, Problem> {
        let Some(job) = planned.job() else {
            return Err(Problem::new(Kind::Internal, "only jobs are made in flights"));
        };
        let making = Making {
            planned: &planned,
            job,
            old: old.as_ref(),
            until: &until,
            context: &context,
            degraded: None,
        };
        match self.admit_and_produce(&making, Rank::Full).await {
            Ok(landed) => Ok(landed),
            Err(Unmade::Short(shortage)) => self.ladder(&making, shortage).await,
            Err(Unmade::Problem(problem)) => self.placeholder(&making, problem).await,
            Err(Unmade::PurgedMidway) => {
                Err(Problem::new(Kind::Overloaded, "purges keep overtaking this render; try again later")
                    .retry_after(Duration::from_secs(1)))
            }
        }
    }

    async fn admit_and_produce(self: &Arc<Self>, making: &Making<'_>, rank: Rank) -> Result<Landed, Unmade> {
        let left = making.until.deadline().left(self.outside.clock.now());
        self.gate.note_others(self.seats.others());
        let mut place = tracing::debug_span!("flow.admit")
            .in_scope(|| self.gate.enter(making.job.class, &making.job.cost, left, rank))
            .map_err(Unmade::Short)?;
        for _ in 0..PURGED_MIDWAY_MAX {
            match self.produce(making, &mut place).await {
                Err(Unmade::PurgedMidway) => {
                    self.meter.purged_midway.inc();
                }
                outcome => return outcome,
            }
        }
        Err(Unmade::PurgedMidway)
    }

    /// The rungs below full work, best first; refusal is the last.
    async fn ladder(self: &Arc<Self>, making: &Making<'_>, shortage: Shortage) -> Result<Landed, Problem> {
        let refusal = self.gate.refusal(shortage);
        if self.config.degrade == Degrade::RefuseOnly {
            return Err(refusal);
        }
        for rung in &making.planned.plan.ladder {
            let landed = match rung {
                Rung::Stale => self.stale_rung(making),
                Rung::Cheaper { word, job } => self.cheaper_rung(making, word, job).await?,
            };
            if let Some(landed) = landed {
                return Ok(landed);
            }
        }
        Err(refusal)
    }

    fn stale_rung(&self, making: &Making<'_>) -> Option<Landed> {
        let entry = making.old.filter(|old| self.outside.clock.wall() < old.binding.error_until)?;
        Meter::count(&self.meter.degraded, "stale");
        Some(Landed {
            entry: Arc::clone(entry),
            note: CacheNote::Stale,
            timing: Timing::default(),
            shared: true,
            whence: Whence::default(),
        })
    }

    async fn cheaper_rung(
        self: &Arc<Self>,
        making: &Making<'_>,
        word: &'static str,
        job: &JobPlan,
    ) -> Result<Option<Landed>, Problem> {
        let note = CacheNote::Degraded(word);
        let key = making.planned.key.map(|full| degraded_key(&full, word));
        if let Some(key) = key
            && let Some(entry) = self.outside.results.resident(&key)
            && self.outside.clock.wall() < entry.binding.fresh_until
            && self.purges.spares(&entry, &key)
        {
            Meter::count(&self.meter.degraded, word);
            let whence = Whence::default();
            return Ok(Some(Landed { entry, note, timing: Timing::default(), shared: true, whence }));
        }
        let cheaper = Making { job, degraded: Some(word), ..*making };
        match self.admit_and_produce(&cheaper, Rank::Cheaper).await {
            Ok(landed) => {
                Meter::count(&self.meter.degraded, word);
                Ok(Some(Landed { note, ..landed }))
            }
            Err(Unmade::Short(_) | Unmade::PurgedMidway) => Ok(None),
            Err(Unmade::Problem(problem)) => Err(problem),
        }
    }

    /// The tenant's placeholder in place of a failure that is not about capacity, where one is set.
    async fn placeholder(self: &Arc<Self>, making: &Making<'_>, problem: Problem) -> Result<Landed, Problem> {
        let Some(job) = &making.planned.plan.placeholder else { return Err(problem) };
        if matches!(problem.kind, Kind::Overloaded | Kind::Timeout | Kind::Unavailable | Kind::Forbidden) {
            return Err(problem);
        }
        let instead = Making { job, old: None, degraded: Some("placeholder"), ..*making };
        match self.admit_and_produce(&instead, Rank::Full).await {
            Ok(landed) => Ok(Landed { note: CacheNote::Degraded("placeholder"), ..landed }),
            Err(_) => Err(problem),
        }
    }

    async fn produce(self: &Arc<Self>, making: &Making<'_>, place: &mut Place) -> Result<Landed, Unmade> {
        let mut watch = Stopwatch::start(&*self.outside.clock);
        let purge_seen = self.purges.newest();
        let originals = self.gather_inputs(making).await?;
        watch.lap("original");
        let service = Arc::clone(self.registry.get(making.planned.service));
        let tenant = self.outside.tenants.get(&making.planned.tenant);
        let facts = self.facts_of(&originals, making)?;
        let refined = tracing::debug_span!("flow.refine")
            .in_scope(|| service.refine(making.job, &facts, &tenant))
            .map_err(|problem| self.note_input(problem, &originals, making))?;
        let epoch = service.describe().epoch;
        let name = service.describe().name;
        let result = result_key(making.planned, name, epoch, &refined, &originals);
        let binding = self.binding(making, result, &originals, purge_seen);
        let key = self.store_key(making, &originals);
        if let Some(landed) = self.already_made(making, key, &binding, &mut watch).await? {
            return Ok(landed);
        }
        if let Some(problem) = self.failures.recall(&Failed::Result(result), self.outside.clock.now()) {
            return Err(problem.into());
        }
        let left = making.until.deadline().left(self.outside.clock.now());
        place.correct(refined.class, &refined.cost, left).map_err(Unmade::Short)?;
        let engine = Engine { refined, originals: &originals, facts, result };
        let (output, whence) = self.run(making, engine, place).await?;
        watch.lap("engine");
        let landed = self.store(making, key, binding, output, whence, &mut watch).await?;
        if let Some(key) = key
            && making.degraded.is_none()
        {
            self.copy_result(making.planned, key, &landed.entry);
        }
        watch.lap("store");
        Ok(Landed { timing: watch.timing, ..landed })
    }

    async fn gather_inputs(self: &Arc<Self>, making: &Making<'_>) -> Result<Vec<Original>, Problem> {
        let deadline = making.until.deadline();
        let one = |input: &'_ Input| -> BoxFuture<'_, Result<Original, Problem>> {
            match input {
                Input::Original(source) => {
                    let wanted = Wanted {
                        key: source.key(&making.planned.tenant),
                        source: source.clone(),
                        tenant: making.planned.tenant.clone(),
                        bytes_max: self.config.original_bytes_max,
                    };
                    Box::pin(async move { self.desk.get(&wanted, deadline).await })
                }
                Input::Plan(plan) => {
                    let (plan, context) = ((**plan).clone(), making.context.clone());
                    Box::pin(self.input_of_plan(making.planned, plan, context))
                }
            }
        };
        try_join_all(making.job.inputs.iter().map(one)).await
    }

    /// The answer of another plan, as an input.
    async fn input_of_plan(
        self: &Arc<Self>,
        outer: &Planned,
        plan: Plan,
        context: Context,
    ) -> Result<Original, Problem> {
        let name = self.registry.get(outer.service).describe().name;
        let planned = Arc::new(Planned::new(outer.service, name, outer.tenant.clone(), plan));
        let tags: Vec<String> = planned.sources.iter().map(|(key, _)| source_tag(key)).collect();
        let before = self.purges.newest();
        let (body, shared, purge_seen) = match self.answer(planned, context).await {
            Answer::Kept(kept) => {
                (Body::from(kept.entry.body.clone()), true, kept.entry.purge_checked().min(before))
            }
            Answer::Made(made) => {
                (made.body, made.storable || matches!(made.cache, CacheNote::Bypass), before)
            }
            Answer::Problem(problem, ..) => return Err(problem),
        };
        let unreadable =
            |error| Problem::new(Kind::Internal, "an inner answer could not be read").because(error);
        let bytes = self.outside.copies.read(body, PASSED_BYTES_MAX).await.map_err(unreadable)?;
        let hash = ContentHash::of(&bytes);
        let body = self.outside.copies.file(bytes).await.map_err(unreadable)?;
        Ok(Original { hash, body, tags, fresh_until: None, shared, stale: false, strict: false, purge_seen })
    }

    fn facts_of(&self, originals: &[Original], making: &Making<'_>) -> Result<Vec<Facts>, Problem> {
        let service = self.registry.get(making.planned.service);
        let epoch = service.describe().epoch;
        let _span = tracing::debug_span!("flow.probe").entered();
        originals
            .iter()
            .map(|original| {
                let failed = Failed::Content(original.hash, epoch);
                match self.failures.recall(&failed, self.outside.clock.now()) {
                    Some(problem) => Err(problem),
                    None => Ok(service.facts(&mut FileHead::new(&original.body))),
                }
            })
            .collect()
    }

    /// Remembers that an input is to blame, where it is.
    pub(crate) fn note_input(
        &self,
        problem: Problem,
        originals: &[Original],
        making: &Making<'_>,
    ) -> Problem {
        if problem.of_input
            && let [only] = originals
        {
            let epoch = self.registry.get(making.planned.service).describe().epoch;
            self.failures.note(Failed::Content(only.hash, epoch), &problem, self.outside.clock.now());
        }
        problem
    }

    /// Bytes that were made before, for another request or before the answer expired; unless a purge came meanwhile.
    async fn already_made(
        &self,
        making: &Making<'_>,
        key: Option<RequestKey>,
        binding: &Binding,
        watch: &mut Stopwatch<'_>,
    ) -> Result<Option<Landed>, Unmade> {
        let Some(key) = key else { return Ok(None) };
        let Some(entry) = self.outside.results.rebind(key, binding.clone()).await else { return Ok(None) };
        watch.lap("look-up");
        if !self.purges.spares(&entry, &key) {
            self.outside.results.forget(&key);
            return Err(Unmade::PurgedMidway);
        }
        let note = if making.old.is_some() { CacheNote::Renewed } else { CacheNote::Hit };
        let maker = entry.meta.maker.as_deref().map(Into::into);
        let whence = Whence { maker, ..Whence::default() };
        Ok(Some(Landed { entry, note, timing: watch.timing.clone(), shared: true, whence }))
    }

    pub(crate) async fn pass_through(
        &self,
        originals: &[Original],
        media: String,
    ) -> Result<Output, Problem> {
        let Some(first) = originals.first() else {
            return Err(Problem::new(Kind::Internal, "nothing to pass through"));
        };
        let body = Body::File(first.body.clone());
        Ok(Output { content_type: media, body, fields: Vec::new(), cpu_ms: 0.0 })
    }

    async fn store(
        &self,
        making: &Making<'_>,
        key: Option<RequestKey>,
        binding: Binding,
        output: Output,
        whence: Whence,
        watch: &mut Stopwatch<'_>,
    ) -> Result<Landed, Unmade> {
        let bytes = match output.body {
            Body::Whole(bytes) => bytes,
            other => self.outside.copies.read(other, PASSED_BYTES_MAX).await.map_err(|error| {
                Problem::new(Kind::Internal, "a result could not be read back").because(error)
            })?,
        };
        let meta = ResultMeta {
            content_type: output.content_type,
            hash: ContentHash::of(&bytes),
            len: bytes.len() as u64,
            fields: output.fields,
            cpu_ms: output.cpu_ms,
            maker: whence.maker.as_deref().map(Into::into),
        };
        watch.lap("hash");
        if !self.purges.spares_binding(&binding, key.as_ref()) {
            return Err(Unmade::PurgedMidway);
        }
        let shared = key.is_some();
        let entry = tracing::debug_span!("flow.store").in_scope(|| match key {
            Some(key) => self.outside.results.put(key, binding, meta, bytes),
            None => Arc::new(Entry::new(binding, meta, KeptBody::Whole(bytes))),
        });
        let note = match (shared, making.old.is_some()) {
            (false, _) => CacheNote::Miss,
            (true, true) => CacheNote::Renewed,
            (true, false) => CacheNote::Stored,
        };
        Ok(Landed { entry, note, timing: Timing::default(), shared, whence })
    }

    /// Under which key the result may be stored: none when an original may not be shared.
    fn store_key(&self, making: &Making<'_>, originals: &[Original]) -> Option<RequestKey> {
        if !originals.iter().all(|original| original.shared) {
            return None;
        }
        let full = making.planned.key?;
        Some(making.degraded.map_or(full, |word| degraded_key(&full, word)))
    }

    fn binding(
        &self,
        making: &Making<'_>,
        result: ResultKey,
        originals: &[Original],
        purge_seen: u64,
    ) -> Binding {
        let now = self.outside.clock.wall();
        // An original may have been on its way before this began.
        let purge_seen = originals.iter().map(|original| original.purge_seen).fold(purge_seen, u64::min);
        let policy = &making.planned.plan.cache;
        let fresh_for = fresh_for(policy.lifetime, originals, now, making.degraded.is_some());
        let fresh_until = now + fresh_for;
        let lasting = making.degraded.is_none() && !originals.iter().any(|original| original.strict);
        let mut tags: Vec<String> =
            originals.iter().flat_map(|original| original.tags.iter().cloned()).collect();
        tags.extend(policy.tags.iter().map(|tag| named_tag(tag)));
        tags.sort_unstable();
        tags.dedup();
        Binding {
            result,
            originals: originals.iter().map(|original| original.hash).collect(),
            stored_at: now,
            fresh_until,
            revalidate_until: if lasting { fresh_until + policy.stale_while_revalidate } else { fresh_until },
            error_until: if lasting { fresh_until + policy.stale_if_error } else { fresh_until },
            tags,
            purge_seen,
            degraded: making.degraded.map(Into::into),
        }
    }
}

fn fresh_for(lifetime: Lifetime, originals: &[Original], now: Wall, degraded: bool) -> Duration {
    let said =
        originals.iter().filter_map(|original| original.fresh_until).map(|until| until.since(now)).min();
    let wanted = match lifetime {
        Lifetime::Never => Duration::ZERO,
        Lifetime::Fixed(fixed) => fixed,
        Lifetime::OfOriginals { default } => said.unwrap_or(default),
    };
    let stale = originals.iter().any(|original| original.stale);
    let wanted = if stale { STALE_ORIGINAL_FOR } else { wanted };
    if degraded { wanted.min(DEGRADED_FOR) } else { wanted }
}

fn result_key(
    planned: &Planned,
    service: &str,
    epoch: u32,
    refined: &Refined,
    originals: &[Original],
) -> ResultKey {
    let hashes: Vec<u8> = originals.iter().flat_map(|original| *original.hash.as_bytes()).collect();
    let pass = refined.pass_through.as_deref().unwrap_or("");
    ResultKey::of(&[
        planned.tenant.as_str().as_bytes(),
        service.as_bytes(),
        &epoch.to_le_bytes(),
        refined.class.as_bytes(),
        &refined.params,
        pass.as_bytes(),
        &hashes,
    ])
}

/// Where a degraded answer is found: never under the full key.
fn degraded_key(full: &RequestKey, word: &str) -> RequestKey {
    RequestKey::of(&[b"degraded", full.as_bytes(), word.as_bytes()])
}
