//! Configuration to running parts, room by room. The one place where all seams meet; no wiring function passes a screen.

mod address;
mod caches;
mod member;
mod services;
pub(crate) mod state;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;
use tutti_base::{Clock, Topic};
use tutti_cache::Caches;
use tutti_cluster::Links;
use tutti_fetch::Outside as Sources;
use tutti_flow::{Answering, Flow, Outside, Work};
use tutti_front::{Drained, Front};
use tutti_service::Registry;
use tutti_store::Store;
use tutti_store::replicated::ReplicatedStore;
use tutti_telemetry::Metrics;
use tutti_worker::{Machine, Warmed, Worker};

use crate::cluster::Cluster;
use crate::settings::Settings;
use crate::world::{Answered, Chance, Loads, MachineClock, MemoryCopies, OnRuntime, StoredPurges};

pub(crate) use address::{ADDRESS_DUTY, ClusterAddress};
pub(crate) use member::Member;
pub(crate) use services::Services;
pub(crate) use state::State;

/// What other nodes have given to this one to do gets this long when it stops.
const PEERS_WITHIN: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What a node without a cache directory weighs among owners.
const MEMORY_ONLY_MIB: u32 = 64;
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
    /// This node among others.
    pub member: Member,
    /// What the front has answered.
    pub answered: Arc<Answered>,
    /// Store, document, secrets, tenants.
    pub state: State,
    /// The services.
    pub services: Services,
    /// Engines.
    pub worker: Arc<Worker>,
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
        let member = Member::build(&settings, &clock, &metrics).await?;
        let store: Arc<dyn Store> = Arc::<ReplicatedStore>::clone(&member.store);
        let secrets = member.secrets.clone();
        let state = State::open(&settings, Arc::clone(&store), secrets, member.keys()?, &clock).await?;
        let cluster = Arc::clone(&state.cluster);
        let services = Services::new(&cluster, gallery(&settings))?;
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
        let capacity = worker.capacity();
        let outside = Outside {
            results: Arc::clone(&caches.results),
            originals: Arc::clone(&caches.originals),
            fetch: Arc::<Sources>::clone(&sources),
            copies: Arc::new(MemoryCopies),
            work: Arc::<Worker>::clone(&worker),
            spawn: Arc::new(OnRuntime(Handle::current())),
            clock: Arc::clone(&clock),
            tenants: Arc::<crate::tenancy::TenantTable>::clone(&state.tenants),
            purges: Arc::new(StoredPurges(Arc::clone(&state.local))),
            shelf: Arc::new(sources.shelf()),
            peers: Arc::<Links>::clone(&member.links),
            nodes: Arc::<tutti_cluster::node::Cluster>::clone(&member.nodes),
            me: member.name(),
            seed: Chance::seed(),
        };
        let flow = Arc::new(Flow::new(services.registry.clone(), outside, cluster.journey(), &metrics));
        flow.set_dispatching(cluster.dispatch.dispatching());
        member.links.register(Topic::FLOW, Arc::new(Answering(Arc::clone(&flow))));
        let answered = Arc::<Answered>::default();
        let loads = Loads::new(
            Arc::clone(&flow),
            store,
            Arc::clone(&clock),
            capacity,
            cache_room(&caches),
            settings.originals.keys().cloned().collect(),
            Arc::clone(&answered),
        );
        member.nodes.read_own_load(Box::new(move || loads.read()));
        Ok(Self {
            settings,
            cluster,
            metrics,
            clock,
            state,
            member,
            services,
            worker,
            caches,
            sources,
            flow,
            engines,
            answered,
        })
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
        let until = self.clock.now() + PEERS_WITHIN;
        while self.flow.accepted().jobs() > 0 && self.clock.now() < until {
            self.clock.sleep_until(self.clock.now() + LOOK_EVERY).await;
        }
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

/// Room for results in MiB: this node's weight among owners.
fn cache_room(caches: &Caches) -> u32 {
    let stats = caches.results.stats();
    let room = if stats.disk_ok { stats.disk_limit } else { u64::from(MEMORY_ONLY_MIB) << 20 };
    u32::try_from(room >> 20).unwrap_or(u32::MAX).max(1)
}

/// The pictures that the demo's page shows: those of the unnamed folder, where it is wanted.
fn gallery(settings: &Settings) -> Vec<String> {
    let folder = settings.originals.get("").filter(|_| settings.gallery);
    let listed = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    let names =
        listed.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_picture = |name: &String| [".jpg", ".png", ".webp"].iter().any(|end| name.ends_with(end));
    let mut names: Vec<String> = names.filter(is_picture).collect();
    names.sort_unstable();
    names
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
