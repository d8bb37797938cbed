//! What a node needs to see before it gives up what it has.

use std::time::Duration;

use tutti_base::rng::SplitMix;
use tutti_base::{Body, BoxFuture, Call, CallError, Clock, Peers, Reply, Tick, Topic, Wall};
use tutti_telemetry::Metrics;

use super::*;
use crate::replicated::{Outside, RaftConfig, ReplicatedStore, Writing, wire};
use crate::simulated::SimDisk;
use crate::store::Store;
use crate::txn::{Key, Op, Txn};

const CLAIMED: u64 = 99;

#[derive(Clone, Copy)]
struct PausedClock(tokio::time::Instant);

impl Clock for PausedClock {
    fn now(&self) -> Tick {
        Tick(self.0.elapsed().as_nanos() as u64)
    }
    fn wall(&self) -> Wall {
        Wall(1_767_225_600_000)
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.0 + Duration::from_nanos(until.0)))
    }
}

/// A peer that names an epoch in whatever it answers, and has no beginning of it to show.
struct Deceived;

impl Peers for Deceived {
    fn call(&self, to: NodeId, call: Call) -> BoxFuture<'_, Result<Reply, CallError>> {
        let asked = wire::opened::<Ask>(&call.head, &call.body);
        Box::pin(async move {
            let answer = match asked {
                Ok((_, Ask::Epochs)) => Answer::Epochs(Vec::new()),
                Ok((_, Ask::Rejoin)) => Answer::Rejoin(Vote::new_committed(CLAIMED, to.0)),
                _ => Answer::Older,
            };
            let (head, body) = wire::sealed(CLAIMED, &answer);
            Ok(Reply { head, body: Body::Whole(body) })
        })
    }
    fn cast(&self, _to: NodeId, _topic: Topic, _head: bytes::Bytes) {}
}

#[tokio::test(start_paused = true)]
async fn a_member_that_names_a_newer_epoch_and_cannot_show_its_beginning_is_not_believed() {
    let outside = Outside {
        clock: Arc::new(PausedClock(tokio::time::Instant::now())),
        rng: Box::new(SplitMix::new(1)),
        writing: Writing::InPlace,
    };
    let (config, metrics) =
        (RaftConfig { cache_bytes: 1 << 20, ..RaftConfig::default() }, Metrics::default());
    let (disk, peers) = (Arc::new(SimDisk::default()), Arc::new(Deceived));
    let store = ReplicatedStore::open(disk, NodeId(1), peers, outside, &metrics, &config).await.unwrap();
    store.found().await.unwrap();
    let at = Key::new("t", "kept");
    store.commit(Txn::of([Op::put(at.clone(), "1")])).await.unwrap();
    store.add_learner(NodeId(2)).await.unwrap();
    while store.replica.counts.disbelieved.get() < 3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(store.status().borrow().health, ReplicaHealth::Ok);
    assert_eq!(store.status().borrow().epoch, 0);
    store.commit(Txn::of([Op::put(Key::new("t", "since"), "2")])).await.unwrap();
    assert!(store.get(&at).unwrap().is_some(), "an acknowledged write");
}
