//! Configuration to running parts, room by room. The one place where all seams meet; no wiring function passes a screen.

mod caches;
mod services;
pub(crate) mod state;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;
use tutti_base::Clock;
use tutti_cache::Caches;
use tutti_fetch::Outside as Sources;
use tutti_flow::{Flow, Outside};
use tutti_front::{Drained, Front};
use tutti_service::Registry;
use tutti_telemetry::Metrics;
use tutti_worker::{Machine, Warmed, Worker};

use crate::cluster::Cluster;
use crate::settings::Settings;
use crate::world::{MachineClock, MemoryCopies, OnRuntime, StoredPurges};

pub(crate) use services::Services;
pub(crate) use state::State;

/// Requests that are under way when the server stops get this long.
const DRAIN_WITHIN: Duration = Duration::from_secs(15);

/// Everything that runs.
pub(crate) struct House {
    /// What was set for this machine.
    pub settings: Settings,
    /// The document that it runs with.
    pub cluster: Arc<Cluster>,
    /// Metrics.
    pub metrics: Metrics,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Store, document, secrets, tenants.
    pub state: State,
    /// The services.
    pub services: Services,
    /// The caches.
    pub caches: Arc<Caches>,
    /// Folders and origins.
    pub sources: Arc<Sources>,
    /// The journey.
    pub flow: Arc<Flow>,
    /// How starting the first engines went.
    pub engines: Vec<Warmed>,
}

impl House {
    /// Builds every room but the doors. Runs inside the runtime.
    pub(crate) async fn build(settings: Settings) -> anyhow::Result<Self> {
        let metrics = Metrics::default();
        let clock: Arc<dyn Clock> = Arc::new(MachineClock::start());
        let state = State::open(&settings, &clock, &metrics).await?;
        let cluster = Arc::clone(&state.cluster);
        let services = Services::new(&cluster)?;
        let caches = Arc::new(caches::open(&settings, &cluster, &clock, &metrics)?);
        let sources = Arc::new(sources(&settings, &cluster, &state, &clock, &metrics)?);
        let worker = Arc::new(Worker::new(
            &cluster.worker,
            services.registry.clone(),
            Machine::read(),
            Arc::clone(&clock),
            &metrics,
        )?);
        let engines = worker.warm().await;
        let outside = Outside {
            results: Arc::clone(&caches.results),
            originals: Arc::clone(&caches.originals),
            fetch: Arc::<Sources>::clone(&sources),
            copies: Arc::new(MemoryCopies),
            work: worker,
            spawn: Arc::new(OnRuntime(Handle::current())),
            clock: Arc::clone(&clock),
            tenants: Arc::<crate::tenancy::TenantTable>::clone(&state.tenants),
            purges: Arc::new(StoredPurges(Arc::clone(&state.store))),
        };
        let flow = Arc::new(Flow::new(services.registry.clone(), outside, cluster.journey(), &metrics));
        Ok(Self { settings, cluster, metrics, clock, state, services, caches, sources, flow, engines })
    }

    /// Opens the front door on `listeners`.
    pub(crate) fn open_front(&self, listeners: Vec<TcpListener>) -> anyhow::Result<Front> {
        let outside = tutti_front::Outside {
            runtime: Handle::current(),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            log: Some(Box::new(std::io::stdout())),
        };
        let front = Front::start(self.cluster.front.clone(), listeners, Arc::clone(&self.flow), outside);
        front.context("the front door could not be opened")
    }

    /// Lets requests end, then makes what is queued for the disk durable.
    pub(crate) async fn close(&self, front: Front) -> Drained {
        let drained = front.drain(DRAIN_WITHIN).await;
        let caches = Arc::clone(&self.caches);
        if !tokio::task::spawn_blocking(move || caches.close()).await.unwrap_or(false) {
            tracing::warn!("the caches did not finish writing in time; what is missing will be made again");
        }
        drained
    }

    /// The services' registry.
    pub(crate) fn registry(&self) -> &Registry {
        &self.services.registry
    }
}

fn sources(
    settings: &Settings,
    cluster: &Cluster,
    state: &State,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> anyhow::Result<Sources> {
    for exception in cluster.fetch.exceptions() {
        tracing::warn!(exception, "an exception from the address guard is in force");
    }
    let allow = state.tenants.allow_url();
    let folders = settings.originals.clone();
    let sources = Sources::new(cluster.fetch.clone(), folders, allow, Arc::clone(clock), metrics)
        .map_err(|error| anyhow::anyhow!("[fetch]: {error}"))?;
    for report in sources.check_folders().iter().filter(|report| !report.readable()) {
        tracing::error!("{report}");
    }
    Ok(sources)
}
