//! The journey: from a planned request to its answer. What a flight does on the way is in `make`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::Instrument;
use tutti_base::{
    Body, BoxFuture, Clock, Context, Deadline, Fault, Kind, Nodes, Peers, Problem, RequestKey, SourceKey,
    Tick, Wall,
};
use tutti_cache::{Entry, Originals, Results};
use tutti_dispatch::Limits;
use tutti_fetch::Fetch;
use tutti_service::registry::ServiceId;
use tutti_service::{Action, Head, Registry, Response};
use tutti_telemetry::Metrics;

use crate::failures::Failures;
use crate::flight::{Flights, Seat};
use crate::gate::Gate;
use crate::mesh::Mesh;
use crate::meter::{Counted, Meter};
use crate::originals::{Desk, RECHECKS_MAX, Wanted};
use crate::seats::Seats;
use crate::{
    Answer, CacheNote, Copies, Kept, Made, Planned, PurgeKeeper, PurgeLog, Shelf, Spawn, Tenants, Timing,
    Whence, Work,
};

/// A folder's file is looked at again this long after it was last found unchanged.
pub const FOLDER_CHECK_EVERY: Duration = Duration::from_secs(1);
/// Stale answers that are made anew in the background at once.
pub const REFRESHES_MAX: i64 = 64;

/// How the journey is bounded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Config {
    /// The mean wait that a lasting load may cause.
    pub target_wait: Duration,
    /// Jobs that may be admitted at once, running or waiting.
    pub jobs_max: usize,
    /// The most bytes of one original.
    pub original_bytes_max: u64,
    /// Whether rungs other than refusal may be used.
    pub degrade: Degrade,
}

/// What may be answered when capacity is short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Degrade {
    /// Every rung of the plan's ladder.
    Ladder,
    /// Refusal only.
    RefuseOnly,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            target_wait: Duration::from_millis(100),
            jobs_max: 1024,
            original_bytes_max: 64 << 20,
            degrade: Degrade::Ladder,
        }
    }
}

/// Everything outside the journey.
#[derive(Clone)]
pub struct Outside {
    /// Kept results.
    pub results: Arc<dyn Results>,
    /// Kept originals.
    pub originals: Arc<dyn Originals>,
    /// Originals from outside.
    pub fetch: Arc<dyn Fetch>,
    /// Unchanging copies.
    pub copies: Arc<dyn Copies>,
    /// Engines.
    pub work: Arc<dyn Work>,
    /// Background work.
    pub spawn: Arc<dyn Spawn>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Tenants' settings.
    pub tenants: Arc<dyn Tenants>,
    /// The purge log's place.
    pub purges: Arc<dyn PurgeKeeper>,
    /// This node's folders, where they may be changed.
    pub shelf: Arc<dyn Shelf>,
    /// Asks other nodes.
    pub peers: Arc<dyn Peers>,
    /// Who is there.
    pub nodes: Arc<dyn Nodes>,
    /// This node's name.
    pub me: String,
    /// The seed of choices among equals.
    pub seed: u64,
}

/// Carries requests from their plan to their answer.
pub struct Flow {
    pub(crate) registry: Registry,
    pub(crate) outside: Outside,
    pub(crate) config: Config,
    pub(crate) desk: Arc<Desk>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) purges: Arc<PurgeLog>,
    pub(crate) failures: Arc<Failures>,
    pub(crate) meter: Meter,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) me: Arc<str>,
    /// What this node makes, for itself and for others.
    flights: Flights<RequestKey, Landed>,
    /// What this node asks other owners for. Apart, so that two nodes that take each other for the owner do not wait for
    /// one another.
    asks: Flights<RequestKey, Landed>,
    memo_generation: AtomicU64,
}

/// What a flight lands with, shared by all who waited.
#[derive(Clone)]
pub(crate) struct Landed {
    pub(crate) entry: Arc<Entry>,
    pub(crate) note: CacheNote,
    pub(crate) timing: Timing,
    /// Whether others than the one who asked may have it.
    pub(crate) shared: bool,
    pub(crate) whence: Whence,
}

/// Who is asked for the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// Whoever owns it.
    Owner,
    /// This node, whoever owns it: a peer asks, and takes it for the owner.
    Here,
}

impl Flow {
    /// A journey over `outside`.
    pub fn new(registry: Registry, outside: Outside, config: Config, metrics: &Metrics) -> Self {
        let meter = Meter::new(metrics);
        let (keeper, spawn) = (Arc::clone(&outside.purges), Arc::clone(&outside.spawn));
        let (me, now) = (outside.nodes.view().me, outside.clock.wall());
        let purges = Arc::new(PurgeLog::load(keeper, spawn, me, now, metrics));
        let failures = Arc::new(Failures::default());
        let capacity = outside.work.capacity();
        let limits = Limits {
            cpu: f64::from(capacity.cpu),
            bytes: capacity.bytes,
            jobs: config.jobs_max,
            target_wait: config.target_wait,
        };
        metrics.limit("admission_jobs", "Jobs admitted at once", config.jobs_max as u64);
        metrics.limit("admission_bytes", "Bytes of all admitted jobs", capacity.bytes);
        metrics.limit("original_bytes", "Bytes of one original", config.original_bytes_max);
        metrics.limit("flow_refreshes", "Stale answers made anew at once", REFRESHES_MAX as u64);
        metrics.limit("flow_rechecks", "Files read at once to check what is kept", RECHECKS_MAX as u64);
        let mesh = Arc::new(Mesh::new(Arc::clone(&outside.peers), Arc::clone(&outside.nodes), metrics));
        let desk =
            Desk::new(&outside, Arc::clone(&purges), Arc::clone(&failures), Arc::clone(&mesh), meter.clone());
        let seats = Seats::new(Arc::clone(&mesh), Arc::clone(&outside.clock), outside.seed, metrics);
        Self {
            registry,
            desk: Arc::new(desk),
            gate: Arc::new(Gate::new(limits, Arc::clone(&outside.clock), meter.clone())),
            flights: Flights::new(Arc::clone(&outside.clock)),
            asks: Flights::new(Arc::clone(&outside.clock)),
            seats: Arc::new(seats),
            me: outside.me.as_str().into(),
            mesh,
            purges,
            failures,
            meter,
            config,
            outside,
            memo_generation: AtomicU64::new(1),
        }
    }

    /// The services it knows.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Changes whenever plans may come out differently; memos are thrown away then.
    pub fn configuration_generation(&self) -> u64 {
        self.memo_generation.load(Ordering::Relaxed).wrapping_add(self.outside.tenants.generation())
    }

    /// Plans a request, without the memo.
    pub fn plan(&self, service: ServiceId, head: &Head<'_>) -> Result<Arc<Planned>, Problem> {
        let tenant = self.outside.tenants.get(&Default::default());
        let found = self.registry.get(service);
        let plan = found.plan(head, &tenant)?;
        Ok(Arc::new(Planned::new(service, found.describe().name, tenant.id.clone(), plan)))
    }

    /// The fresh resident answer to `planned`, if there is one: the path of a hit. Never blocks. The URL's own expiry
    /// and all purges have been checked.
    pub fn resident(&self, planned: &Planned, now: Wall) -> Option<Arc<Entry>> {
        let key = planned.key.as_ref()?;
        let entry = self.outside.results.resident(key)?;
        let fresh = now < entry.binding.fresh_until
            && !planned.expired(now)
            && self.purges.is_settled(self.outside.clock.now())
            && self.purges.spares(&entry, key)
            && !(planned.in_folders && now.since(entry.originals_checked()) > FOLDER_CHECK_EVERY);
        fresh.then_some(entry)
    }

    /// Answers `planned`, whatever it takes. Work that others wait for goes on when this future is dropped; work that
    /// nobody waits for is cancelled.
    pub fn answer(self: &Arc<Self>, planned: Arc<Planned>, context: Context) -> BoxFuture<'static, Answer> {
        let flow = Arc::clone(self);
        let service = flow.registry.get(planned.service).describe().name;
        let span = tracing::debug_span!("flow.answer", id = %context.id, service);
        Box::pin(async move { flow.answer_whatever(planned, context).await }.instrument(span))
    }

    async fn answer_whatever(self: Arc<Self>, planned: Arc<Planned>, context: Context) -> Answer {
        if planned.expired(self.outside.clock.wall()) {
            let problem = Problem::new(Kind::NotFound, "this URL has expired").about("expires");
            return Answer::Problem(problem, CacheNote::Bypass, Timing::default());
        }
        match &planned.plan.action {
            Action::Respond(response) => Answer::Made(respond(response, &planned)),
            Action::Gather(gather) => self.gather(gather, &planned, &context).await,
            Action::Job(_) => self.answer_job(planned, context, Turn::Owner).await,
        }
    }

    pub(crate) async fn answer_job(
        self: &Arc<Self>,
        planned: Arc<Planned>,
        context: Context,
        turn: Turn,
    ) -> Answer {
        let Some(key) = planned.key else {
            let until = crate::flight::Until::fixed(context.deadline);
            let made = self.make(Arc::clone(&planned), None, until, context.clone()).await;
            return self.landed(made, planned, None);
        };
        let old = self.look_up(&planned, &key, &context).await;
        let now = self.outside.clock.wall();
        if let Some(Found { entry, current: Current::Yes }) = &old {
            let (cache, timing) = (CacheNote::Hit, Timing::default());
            let whence = self.whence_of(entry);
            return Answer::Kept(Kept { entry: Arc::clone(entry), planned, cache, timing, whence });
        }
        if let Some(Found { entry, current: Current::No }) = &old
            && now < entry.binding.revalidate_until
        {
            self.refresh(&planned, &key, entry, &context, turn);
            let (cache, timing) = (CacheNote::Stale, Timing::default());
            let whence = self.whence_of(entry);
            return Answer::Kept(Kept { entry: Arc::clone(entry), planned, cache, timing, whence });
        }
        let old = old.map(|found| found.entry);
        let made = self.fly(&planned, key, old.clone(), &context, turn).await;
        self.landed(made, planned, old)
    }

    /// What is known of who made a kept answer.
    pub(crate) fn whence_of(&self, entry: &Entry) -> Whence {
        Whence { maker: entry.meta.maker.as_deref().map(Into::into), ..Whence::default() }
    }

    /// What is kept for `key` and has survived all purges, and whether it may be served as it is.
    async fn look_up(&self, planned: &Planned, key: &RequestKey, context: &Context) -> Option<Found> {
        self.purges.until_settled(&*self.outside.clock).await;
        let entry = self.outside.results.find(key).instrument(tracing::debug_span!("flow.look_up")).await?;
        if !self.purges.spares(&entry, key) {
            self.outside.results.forget(key);
            return None;
        }
        let now = self.outside.clock.wall();
        if now >= entry.binding.fresh_until {
            return Some(Found { entry, current: Current::No });
        }
        if planned.in_folders && now.since(entry.originals_checked()) > FOLDER_CHECK_EVERY {
            if !self.folders_unchanged(planned, &entry, context.deadline).await {
                return Some(Found { entry, current: Current::Changed });
            }
            entry.note_fresh(self.outside.clock.wall());
        }
        Some(Found { entry, current: Current::Yes })
    }

    /// Whether what another node has kept is still made of what the folders have now.
    pub(crate) async fn is_current(
        &self,
        planned: &Planned,
        entry: &Entry,
        until: &crate::flight::Until,
    ) -> bool {
        let is_recent = self.outside.clock.wall().since(entry.originals_checked()) <= FOLDER_CHECK_EVERY;
        is_recent || self.folders_unchanged(planned, entry, until.deadline()).await
    }

    async fn folders_unchanged(&self, planned: &Planned, entry: &Entry, deadline: Deadline) -> bool {
        let wanted = self.wanted(planned);
        if wanted.len() != entry.binding.originals.len() {
            return false;
        }
        for (wanted, hash) in wanted.iter().zip(&entry.binding.originals) {
            let in_folder = matches!(wanted.source, tutti_base::Source::Local { .. });
            if in_folder && !self.desk.unchanged(wanted, hash, deadline).await {
                return false;
            }
        }
        true
    }

    /// The originals that `planned` needs, as the desk takes them.
    pub(crate) fn wanted(&self, planned: &Planned) -> Vec<Wanted> {
        let one = |(key, source): &(SourceKey, tutti_base::Source)| Wanted {
            key: *key,
            source: source.clone(),
            tenant: planned.tenant.clone(),
            bytes_max: self.config.original_bytes_max,
        };
        planned.sources.iter().map(one).collect()
    }

    async fn fly(
        self: &Arc<Self>,
        planned: &Arc<Planned>,
        key: RequestKey,
        old: Option<Arc<Entry>>,
        context: &Context,
        turn: Turn,
    ) -> Result<Landed, Problem> {
        let owners = match turn {
            Turn::Owner => self.owners_of(planned),
            Turn::Here => Vec::new(),
        };
        let flights = if owners.is_empty() { &self.flights } else { &self.asks };
        let flight = flights.fly(key, context.deadline, |until| {
            let (flow, planned, old, context) =
                (Arc::clone(self), Arc::clone(planned), old.clone(), context.clone());
            let (span, owners) = (tracing::debug_span!("flow.flight"), owners.clone());
            let counted = Counted::one(&self.meter.flights);
            Box::pin(
                async move {
                    let _counted = counted;
                    if owners.is_empty() {
                        match flow.peek(&planned, key, old.is_some(), &until).await {
                            Some(landed) => Ok(landed),
                            None => flow.make(planned, old, until, context).await,
                        }
                    } else {
                        flow.ask_owners(planned, key, owners, until, context).await
                    }
                }
                .instrument(span),
            )
        });
        let (outcome, seat) = flight.await;
        match (outcome, seat) {
            (Ok(landed), Seat::Follower) if !landed.shared => self.make_alone(planned, old, context).await,
            (Ok(mut landed), Seat::Follower) => {
                self.meter.collapsed.inc();
                if landed.note == CacheNote::Stored {
                    landed.note = CacheNote::Collapsed;
                }
                Ok(landed)
            }
            (outcome, _) => outcome,
        }
    }

    /// Makes the answer here, once for all who wait for it here: no owner could be asked.
    pub(crate) async fn make_once(
        self: &Arc<Self>,
        planned: Arc<Planned>,
        key: RequestKey,
        until: crate::flight::Until,
        context: Context,
    ) -> Result<Landed, Problem> {
        let old = self.look_up(&planned, &key, &context).await;
        if let Some(Found { entry, current: Current::Yes }) = old {
            let whence = self.whence_of(&entry);
            return Ok(Landed {
                entry,
                note: CacheNote::Hit,
                timing: Timing::default(),
                shared: true,
                whence,
            });
        }
        let old = old.map(|found| found.entry);
        loop {
            let deadline = until.deadline();
            let context = Context { deadline, ..context.clone() };
            let made = self.fly_boxed(Arc::clone(&planned), key, old.clone(), context).await;
            // Who joined meanwhile may wait longer.
            let is_extended = deadline.passed(self.outside.clock.now()) && until.deadline() > deadline;
            if !(is_extended && matches!(&made, Err(problem) if problem.kind == Kind::Timeout)) {
                return made;
            }
        }
    }

    /// [`Self::fly`] here. Boxed, because a flight that asks owners may end in one that makes.
    fn fly_boxed(
        self: &Arc<Self>,
        planned: Arc<Planned>,
        key: RequestKey,
        old: Option<Arc<Entry>>,
        context: Context,
    ) -> BoxFuture<'static, Result<Landed, Problem>> {
        let flow = Arc::clone(self);
        Box::pin(async move { flow.fly(&planned, key, old, &context, Turn::Here).await })
    }

    /// What may not be shared is made for each who asks.
    async fn make_alone(
        self: &Arc<Self>,
        planned: &Arc<Planned>,
        old: Option<Arc<Entry>>,
        context: &Context,
    ) -> Result<Landed, Problem> {
        let until = crate::flight::Until::fixed(context.deadline);
        self.make(Arc::clone(planned), old, until, context.clone()).await
    }

    fn landed(
        &self,
        made: Result<Landed, Problem>,
        planned: Arc<Planned>,
        old: Option<Arc<Entry>>,
    ) -> Answer {
        match made {
            Ok(landed) if !landed.shared => Answer::Made(unshared(landed, &planned)),
            Ok(Landed { entry, note: cache, timing, whence, .. }) => {
                Answer::Kept(Kept { entry, planned, cache, timing, whence })
            }
            Err(problem) => match old {
                Some(entry) if self.stale_helps(&problem, &entry) => {
                    let (cache, timing) = (CacheNote::Stale, Timing::default());
                    let whence = self.whence_of(&entry);
                    Answer::Kept(Kept { entry, planned, cache, timing, whence })
                }
                _ => Answer::Problem(problem, CacheNote::Miss, Timing::default()),
            },
        }
    }

    /// An expired answer is better than a failure that is not the client's (RFC 5861 §4).
    fn stale_helps(&self, problem: &Problem, entry: &Entry) -> bool {
        problem.kind.fault() != Fault::Client
            && !matches!(problem.kind, Kind::OriginStatus(_))
            && !(problem.kind == Kind::Overloaded && self.config.degrade == Degrade::RefuseOnly)
            && self.outside.clock.wall() < entry.binding.error_until
    }

    /// Makes a stale answer anew in the background, at most once at a time and within [`REFRESHES_MAX`].
    fn refresh(
        self: &Arc<Self>,
        planned: &Arc<Planned>,
        key: &RequestKey,
        entry: &Arc<Entry>,
        context: &Context,
        turn: Turn,
    ) {
        let Some(counted) = Counted::one_of(&self.meter.refreshes, REFRESHES_MAX) else {
            self.meter.refreshes_skipped.inc();
            return;
        };
        let (flow, planned, key, old) = (Arc::clone(self), Arc::clone(planned), *key, Arc::clone(entry));
        let now: Tick = self.outside.clock.now();
        let within = self.registry.get(planned.service).describe().deadline;
        let context = Context { deadline: Deadline::after(now, within), ..context.clone() };
        self.outside.spawn.spawn(
            "flow.refresh",
            Box::pin(async move {
                let _counted = counted;
                if let Err(problem) = flow.fly(&planned, key, Some(old), &context, turn).await {
                    tracing::debug!(%problem, cause = problem.cause, "a stale answer could not be made anew");
                }
            }),
        );
    }

    /// Throws memoised plans away: the configuration of a service has changed.
    pub fn configuration_changed(&self) {
        self.memo_generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Admission as of now: predicted wait, mean wait, jobs and bytes admitted.
    pub fn load(&self) -> (Duration, Duration, usize, u64) {
        self.gate.load()
    }
}

struct Found {
    entry: Arc<Entry>,
    current: Current,
}

/// Whether a kept answer may be served as it is.
enum Current {
    /// It is fresh.
    Yes,
    /// It has expired.
    No,
    /// Its original has changed: it must not be served, but may stand in when everything else fails.
    Changed,
}

fn respond(response: &Response, planned: &Planned) -> Made {
    Made {
        status: response.status,
        content_type: response.content_type.clone(),
        fields: planned.plan.fields.clone(),
        body: Body::Whole(response.body.clone()),
        storable: false,
        cache: CacheNote::Bypass,
        timing: Timing::default(),
        whence: Whence::default(),
    }
}

fn unshared(landed: Landed, planned: &Planned) -> Made {
    let meta = &landed.entry.meta;
    Made {
        status: 200,
        content_type: meta.content_type.clone(),
        fields: meta.fields.iter().chain(&planned.plan.fields).cloned().collect(),
        body: landed.entry.body.clone().into(),
        storable: false,
        cache: CacheNote::Miss,
        timing: landed.timing,
        whence: landed.whence,
    }
}
