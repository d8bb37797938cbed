//! A cluster of stores in one runtime on paused time: nodes that can be killed, cut off and started again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tutti_base::rng::{Rng, SplitMix};
use tutti_base::{Clock, NodeId};
use tutti_store::replicated::Writing;
use tutti_store::simulated::{Loss, SimDisk};
use tutti_store::{Outside, RaftConfig, RaftStatus, ReplicatedStore};
use tutti_telemetry::Metrics;

use crate::net::{SimNet, TokioClock};

/// How long, in simulated time, what must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) net: SimNet,
    pub(crate) clock: TokioClock,
    pub(crate) rng: SplitMix,
    pub(crate) config: RaftConfig,
    pub(crate) disks: BTreeMap<NodeId, SimDisk>,
    pub(crate) stores: BTreeMap<NodeId, Arc<ReplicatedStore>>,
}

/// Runs `act` on a runtime of its own with paused time.
pub(crate) fn simulate<T>(act: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(act())
}

impl World {
    /// Nobody is there yet.
    pub(crate) fn new(seed: u64) -> Self {
        let config = RaftConfig { cache_bytes: 1 << 20, ..RaftConfig::default() };
        Self {
            net: SimNet::new(seed ^ 0x6e65),
            clock: TokioClock::start(),
            rng: SplitMix::new(seed),
            config,
            disks: BTreeMap::new(),
            stores: BTreeMap::new(),
        }
    }

    /// `count` nodes that vote; the first has founded the cluster.
    pub(crate) async fn of(seed: u64, count: u64) -> Self {
        let mut world = Self::new(seed);
        for id in 1..=count {
            world.start(NodeId(id)).await;
        }
        world.store(1).found().await.expect("a cluster of one");
        for id in 2..=count {
            world.store(1).add_learner(NodeId(id)).await.expect("a learner");
        }
        let voters = (1..=count).map(NodeId).collect();
        world.store(1).set_voters(voters).await.expect("voters");
        world
    }

    pub(crate) fn store(&self, id: u64) -> &Arc<ReplicatedStore> {
        &self.stores[&NodeId(id)]
    }

    /// Starts `id` upon its disk.
    pub(crate) async fn start(&mut self, id: NodeId) {
        let disk = self.disks.entry(id).or_default().clone();
        let outside = Outside {
            clock: Arc::new(self.clock),
            rng: Box::new(SplitMix::new(self.rng.next())),
            writing: Writing::InPlace,
        };
        let peers = self.net.peers(id);
        let metrics = Metrics::default();
        let opened = ReplicatedStore::open(Arc::new(disk), id, peers, outside, &metrics, &self.config);
        let store = opened.await.expect("a store opens after any crash");
        self.net.up(id, store.service());
        self.stores.insert(id, store);
    }

    /// kill -9: what was written and not synced is still there.
    pub(crate) async fn kill(&mut self, id: NodeId) {
        if let Some(store) = self.stores.remove(&id) {
            self.net.down(id);
            self.disks[&id].kill();
            store.shutdown().await;
        }
    }

    /// The power goes, everywhere at once.
    pub(crate) async fn cut_power(&mut self) {
        let ids: Vec<NodeId> = self.stores.keys().copied().collect();
        for id in &ids {
            let loss = if self.rng.below(2) == 0 { Loss::All } else { Loss::Some };
            self.net.down(*id);
            self.disks[id].cut_power(loss, &mut self.rng);
        }
        for id in ids {
            let store = self.stores.remove(&id).expect("it ran");
            store.shutdown().await;
        }
    }

    /// Any of the nodes that run.
    pub(crate) fn any(&mut self) -> Option<Arc<ReplicatedStore>> {
        let running = self.stores.len() as u64;
        self.stores.values().nth(self.rng.below(running) as usize).cloned()
    }

    /// Who leads, once somebody does.
    pub(crate) async fn leader(&self) -> NodeId {
        let until = self.clock.now() + PATIENCE;
        while self.clock.now() < until {
            if let Some((id, _)) = self.stores.iter().find(|(_, store)| store.status().borrow().leads()) {
                return *id;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!(
            "nobody leads: {:#?}",
            self.stores.values().map(|store| store.status().borrow().clone()).collect::<Vec<_>>()
        )
    }
}

/// Waits until `store`'s status is as wanted.
pub(crate) async fn until(store: &ReplicatedStore, what: &str, wanted: impl FnMut(&Arc<RaftStatus>) -> bool) {
    let mut status = store.status();
    let waited = tokio::time::timeout(PATIENCE, status.wait_for(wanted)).await;
    assert!(waited.is_ok(), "it never came to this: {what}; {:#?}", store.status().borrow());
}
