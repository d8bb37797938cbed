//! The contract suite on the replicated store: one node on a real disk, and through a follower of three.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use tokio::runtime::Handle;
use tutti_base::disk::Disk;
use tutti_base::rng::SplitMix;
use tutti_base::{BoxFuture, Clock, NodeId, Tick, Wall};
use tutti_store::contract::{self, Subject};
use tutti_store::disk::make_private_folder;
use tutti_store::replicated::Writing;
use tutti_store::simulated::{ManualClock, SimDisk};
use tutti_store::{Outside, RaftConfig, RealDisk, ReplicatedStore, Store};
use tutti_telemetry::Metrics;

use crate::net::SimNet;

/// Leases and deadlines go by the hand-moved clock; who only waits a moment is woken by real time too.
struct ByHand(Arc<ManualClock>);

impl Clock for ByHand {
    fn now(&self) -> Tick {
        self.0.now()
    }
    fn wall(&self) -> Wall {
        self.0.wall()
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        let moment = until.since(self.0.now()).min(Duration::from_millis(100));
        let by_hand = self.0.sleep_until(until);
        Box::pin(async move {
            let moment = std::pin::pin!(tokio::time::sleep(moment));
            let _ = select(by_hand, moment).await;
        })
    }
}

/// Patient enough for a busy machine.
fn config() -> RaftConfig {
    RaftConfig { heartbeat_ms: 200, election_min_ms: 1000, election_max_ms: 2000, ..RaftConfig::default() }
}

async fn open(disk: Arc<dyn Disk>, id: u64, net: &SimNet, clock: &Arc<ManualClock>) -> Arc<ReplicatedStore> {
    let outside = Outside {
        clock: Arc::new(ByHand(clock.clone())),
        rng: Box::new(SplitMix::new(id)),
        writing: Writing::OnItsThread,
    };
    let metrics = Metrics::default();
    let config = config();
    let opened = ReplicatedStore::open(disk, NodeId(id), net.peers(NodeId(id)), outside, &metrics, &config);
    let store = opened.await.expect("the store opens");
    net.up(NodeId(id), store.service());
    store
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| Handle::current().block_on(work))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replicated_store_keeps_the_contract_alone_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let made = RefCell::new(0);
    contract::check_all(|| {
        *made.borrow_mut() += 1;
        let place = folder.path().join(made.borrow().to_string());
        make_private_folder(&place).expect("a folder");
        let clock = Arc::new(ManualClock::default());
        let store = wait(async {
            let store = open(Arc::new(RealDisk::at(place)), 1, &SimNet::new(1), &clock).await;
            store.found().await.expect("a cluster of one");
            store
        });
        Subject { store, clock }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replicated_store_keeps_the_contract_through_a_follower_of_three() {
    let others = RefCell::new(Vec::new());
    contract::check_all(|| {
        let clock = Arc::new(ManualClock::default());
        let net = SimNet::new(2);
        let nodes = wait(async {
            let mut nodes = Vec::new();
            for id in 1..=3 {
                nodes.push(open(Arc::new(SimDisk::default()), id, &net, &clock).await);
            }
            nodes[0].found().await.expect("a cluster of one");
            for id in 2..=3 {
                nodes[0].add_learner(NodeId(id)).await.expect("a learner");
            }
            nodes[0].set_voters((1..=3).map(NodeId).collect()).await.expect("voters");
            nodes[2].linearize().await.expect("a leader");
            nodes
        });
        let store: Arc<dyn Store> = nodes[2].clone();
        // Those of the check before are not wanted any more.
        *others.borrow_mut() = nodes;
        Subject { store, clock }
    })
    .await;
}
