//! The worker: gives each job a CPU permit, and its service what it needs to run.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, SemaphorePermit, TryAcquireError};
use tracing::Instrument;
use tutti_base::{Body, BoxFuture, Clock, Context, FileBody, Kind, Problem};
use tutti_flow::{Capacity, Task, Work};
use tutti_process::{EngineSpec, Identity, SandboxReport, privilege};
use tutti_service::{Capability, Output, OwnedInput, Registry, Service};
use tutti_telemetry::Metrics;

use crate::Config;
use crate::capacity::{Bound, Machine};
use crate::config::ConfigError;
use crate::count::{Counts, Raised};
use crate::job::{self, Job};
use crate::pace::Pace;
use crate::pool::Pool;

/// This very program, even when its file has been replaced: server and engines are always one version.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Jobs that are predicted to take less CPU than this many ms are small (as in `dispatch`).
const SMALL_MS: f32 = 20.0;

/// When a client whose job found no permit may try again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Does jobs on this machine. Dropping it kills its engines.
pub struct Worker {
    registry: Registry,
    hands: Hands,
    /// Where a quota bounds us, or the front's cap.
    pace: std::sync::Mutex<Option<Pace>>,
    machine: Machine,
    front_cap: f32,
    pools: Vec<Option<Arc<Pool>>>,
    waiting_max: usize,
    warm: usize,
}

/// What all jobs share.
pub(crate) struct Hands {
    pub(crate) clock: Arc<dyn Clock>,
    permits: Semaphore,
    /// For small jobs alone, so that they never wait behind heavy ones.
    small: Semaphore,
    counts: Counts,
    capacity: Capacity,
}

/// What else the machine has to do beside jobs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nothing that others could not wait for; or there is nobody to give work to.
    Free,
    /// It answers clients, and other nodes can do its work.
    FrontAmongOthers,
}

/// How big a job is predicted to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Size {
    /// It has a permit of its own to fall back on.
    Small,
    /// It waits its turn. So does one of which nothing is predicted.
    Heavy,
}

impl Size {
    fn of(cpu_ms: f32) -> Self {
        if cpu_ms > 0.0 && cpu_ms < SMALL_MS { Size::Small } else { Size::Heavy }
    }
}

/// How starting a service's first engines went.
#[derive(Debug)]
pub struct Warmed {
    /// The service.
    pub service: &'static str,
    /// Which layers hold its engines, or why none started.
    pub engines: Result<SandboxReport, String>,
}

impl Worker {
    /// A worker for the services of `registry`, on what `machine` can give. Starts nothing yet.
    pub fn new(
        config: &Config,
        registry: Registry,
        machine: Machine,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let capacity = machine.capacity(config);
        let most = config.engines_max.unwrap_or(2 * capacity.permits + 1).max(capacity.permits);
        let counts = Counts::register(metrics, config, capacity.permits, most);
        let uid_first = privilege::may_change_user().then_some(config.engine_uid_first);
        let pool = |service: &Arc<dyn Service>| {
            let name = service.describe().name;
            let wanted = service.describe().capabilities.contains(&Capability::Engine);
            wanted.then(|| {
                Arc::new(Pool::new(name, spec(config, name), uid_first, most, counts.clone(), clock.clone()))
            })
        };
        let pools = registry.iter().map(|(_, service)| pool(service)).collect();
        let permits = Semaphore::new(capacity.permits);
        let pace = std::sync::Mutex::new(beneath_quota(&machine, &*clock));
        let hands = Hands { clock, permits, small: Semaphore::new(1), counts, capacity };
        let (waiting_max, warm, front_cap) = (config.waiting_max, config.warm, config.front_cap);
        Ok(Self { registry, hands, pace, machine, front_cap, pools, waiting_max, warm })
    }

    /// Starts the first engines of every service that has any, so that the first request need not wait; for `doctor`
    /// as well. Cancel-safe.
    pub async fn warm(&self) -> Vec<Warmed> {
        let mut warmed = Vec::new();
        if self.warm == 0 {
            return warmed;
        }
        for pool in self.pools.iter().flatten() {
            let engines = pool.warm(self.warm).await.map_err(|none| none.reason);
            warmed.push(Warmed { service: pool.service, engines });
        }
        warmed
    }

    async fn run_task(&self, task: Task) -> Result<Output, Problem> {
        if let (Some(media), Some(input)) = (&task.job.pass_through, task.inputs.first()) {
            return Ok(passed_through(media, input));
        }
        let size = Size::of(task.job.cost.cpu_ms);
        let waiting = self.permit(&task.context, size).instrument(tracing::debug_span!("worker.permit"));
        let _permit = waiting.await?;
        self.keep_pace().await;
        let _busy = Raised::on(&self.hands.counts.busy);
        let deadline = task.context.deadline;
        let service = self.registry.get(task.service);
        let pool = self.pools[usize::from(task.service.0)].as_ref();
        if pool.is_none() {
            // No engine will ever begin: the service itself does, now.
            task.started.store(true, Ordering::Release);
        }
        let (request, started) = (task.context, task.started);
        let job = Job { request, pool, hands: &self.hands, started, turn: Mutex::new(()) };
        tokio::select! {
            biased;
            result = service.run(task.job, task.inputs, &job) => {
                self.spent(&result);
                result
            }
            () = self.hands.clock.sleep_until(deadline.0) => Err(job::out_of_time()),
        }
    }

    /// Waits until the quota has room for another job. The permit is held meanwhile: nobody else could use it.
    async fn keep_pace(&self) {
        let clock = &self.hands.clock;
        loop {
            let now = clock.now();
            let wait = self.pace().as_mut().map_or(Duration::ZERO, |pace| pace.wait(now));
            if wait.is_zero() {
                return;
            }
            clock.sleep_until(now + wait).await;
        }
    }

    /// Holds jobs to the front's cap, or lets them have the machine, from now on. A quota holds besides.
    pub fn set_standing(&self, standing: Standing) {
        let clock = &*self.hands.clock;
        let beneath = beneath_quota(&self.machine, clock);
        let rate = f64::from(self.machine.cores) * f64::from(self.front_cap);
        let wanted = match (standing, beneath) {
            (Standing::FrontAmongOthers, Some(quota)) if quota.rate() <= rate => Some(quota),
            (Standing::FrontAmongOthers, _) => Some(Pace::at(rate, clock.now())),
            (Standing::Free, beneath) => beneath,
        };
        let mut pace = self.pace();
        if pace.as_ref().map(Pace::rate) != wanted.as_ref().map(Pace::rate) {
            *pace = wanted;
        }
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, Option<Pace>> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spent(&self, result: &Result<Output, Problem>) {
        if let (Some(pace), Ok(output)) = (self.pace().as_mut(), result) {
            pace.spend(output.cpu_ms, self.hands.clock.now());
        }
    }

    /// A permit, in the order of asking; a small job may have the one that is set aside for its like.
    async fn permit(&self, context: &Context, size: Size) -> Result<SemaphorePermit<'_>, Problem> {
        let Hands { clock, permits, small, counts, .. } = &self.hands;
        let asked = clock.now();
        if context.deadline.passed(asked) {
            return Err(self.refuse("late"));
        }
        match permits.try_acquire() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::NoPermits) => {}
            Err(TryAcquireError::Closed) => return Err(self.refuse("closed")),
        }
        if size == Size::Small
            && let Ok(permit) = small.try_acquire()
        {
            return Ok(permit);
        }
        if counts.waiting.get() >= i64::try_from(self.waiting_max).unwrap_or(i64::MAX) {
            return Err(self.refuse("full"));
        }
        let _waiting = Raised::on(&counts.waiting);
        let permit = tokio::select! {
            biased;
            permit = permits.acquire() => permit.map_err(|_| self.refuse("closed")),
            permit = small.acquire(), if size == Size::Small => permit.map_err(|_| self.refuse("closed")),
            () = clock.sleep_until(context.deadline.0) => Err(self.refuse("late")),
        };
        counts.wait_seconds.observe(clock.now().since(asked).as_secs_f64());
        permit
    }

    fn refuse(&self, reason: &'static str) -> Problem {
        self.hands.counts.refused.get_or_create(&[("reason", reason)]).inc();
        Problem::new(Kind::Overloaded, "there is no capacity for this work now; try again")
            .retry_after(TRY_AGAIN)
            .because(format!("no permit: {reason}"))
    }
}

impl Work for Worker {
    fn run(&self, task: Task) -> BoxFuture<'_, Result<Output, Problem>> {
        Box::pin(self.run_task(task))
    }
    fn capacity(&self) -> Capacity {
        self.hands.capacity
    }
}

/// The pace beneath a quota, where there is one.
fn beneath_quota(machine: &Machine, clock: &dyn Clock) -> Option<Pace> {
    match machine.bound {
        Bound::Quota => Some(Pace::new(machine.cores, clock.now())),
        Bound::Cores => None,
    }
}

fn spec(config: &Config, service: &str) -> EngineSpec {
    EngineSpec {
        program: PathBuf::from(OWN_PROGRAM),
        args: vec!["engine".into(), service.into()],
        limits: config.engine_limits(),
        identity: Identity::Server,
        nice: config.engine_nice,
    }
}

fn passed_through(media: &str, input: &OwnedInput) -> Output {
    let body = Body::File(FileBody { file: input.file.clone(), offset: 0, len: input.len });
    Output { content_type: media.to_owned(), body, fields: Vec::new(), cpu_ms: 0.0 }
}
