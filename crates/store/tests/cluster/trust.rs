//! Whose word counts: an epoch is believed only of a member that may lead, and nobody goes on alone while others are there.

use std::sync::Arc;
use std::time::Duration;

use tutti_base::{Clock, NodeId};
use tutti_store::replicated::{ELECTED_WITHIN, Guard};
use tutti_store::{Op, ReplicaHealth, Store, StoreError, Txn};

use crate::load::{key, number};
use crate::world::{World, simulate, until};

/// What deceit gets, in simulated time.
const LONG: Duration = Duration::from_secs(10);

async fn put(store: &dyn Store, name: &str, value: &str) {
    store.commit(Txn::of([Op::put(key(name), value.to_owned())])).await.expect("accepted");
}

fn cut(world: &World, one: u64, others: &[u64]) {
    for other in others {
        world.net.cut(NodeId(one), NodeId(*other));
        world.net.cut(NodeId(*other), NodeId(one));
    }
}

/// Nodes 1 to 3 keep what they acknowledged, and go on.
async fn assert_unmoved(world: &World) {
    put(&**world.store(1), "since", "2").await;
    for id in 1..=3 {
        let store = world.store(id);
        store.linearize().await.expect("a quorum");
        let status = store.status().borrow().clone();
        assert_eq!((status.epoch, &status.health), (0, &ReplicaHealth::Ok), "{status:#?}");
        assert_eq!((number(&**store, &key("kept")), number(&**store, &key("since"))), (Ok(1), Ok(2)));
    }
}

#[test]
fn a_newer_epoch_of_a_node_that_has_no_copy_is_not_believed() {
    simulate(async || {
        let mut world = World::of(41, 3).await;
        put(&**world.store(1), "kept", "1").await;
        // Somebody with a store of its own, which has seen another epoch.
        for id in [8, 9] {
            world.start(NodeId(id)).await;
        }
        let (eight, nine) = (world.store(8).clone(), world.store(9).clone());
        eight.found().await.expect("a cluster of its own");
        eight.add_learner(NodeId(9)).await.expect("a learner");
        until(&nine, "it follows", |status| status.learners.contains(&NodeId(9))).await;
        world.kill(NodeId(8)).await;
        nine.promote_alone().await.expect("the one voter");
        for id in 1..=3 {
            nine.add_learner(NodeId(id)).await.expect("asked for");
        }
        tokio::time::sleep(LONG).await;
        assert_unmoved(&world).await;
    });
}

/// Only the first three may lead.
struct FirstThree;

impl Guard for FirstThree {
    fn may_write(&self, _node: NodeId) -> bool {
        true
    }
    fn may_lead(&self, node: NodeId) -> bool {
        node.0 <= 3
    }
}

#[test]
fn a_newer_epoch_of_a_member_that_may_not_lead_is_not_believed() {
    simulate(async || {
        let mut world = World::of(42, 3).await;
        world.start(NodeId(4)).await;
        let four = world.store(4).clone();
        for id in 1..=3 {
            world.net.up(NodeId(id), world.store(id).guarded_service(Arc::new(FirstThree)));
        }
        let leader = world.leader().await;
        world.stores[&leader].add_learner(NodeId(4)).await.expect("a learner");
        put(&**world.store(1), "kept", "1").await;
        until(&four, "it has all", |_| number(&*four, &key("kept")) == Ok(1)).await;
        cut(&world, 4, &[1, 2, 3]);
        four.promote_alone().await.expect("nobody can keep it from that");
        world.net.heal();
        for id in 1..=3 {
            four.add_learner(NodeId(id)).await.expect("asked for");
        }
        tokio::time::sleep(LONG).await;
        assert_unmoved(&world).await;
    });
}

#[test]
fn nobody_is_made_the_one_voter_while_a_majority_answers_or_elects() {
    simulate(async || {
        let mut world = World::of(43, 3).await;
        world.start(NodeId(4)).await;
        let four = world.store(4).clone();
        let leader = world.leader().await;
        world.stores[&leader].add_learner(NodeId(4)).await.expect("a learner");
        until(&four, "it follows", |status| status.voters.len() == 3).await;
        let refused = four.promote_alone().await;
        assert!(matches!(&refused, Err(StoreError::Invalid(text)) if text.contains("leads")), "{refused:?}");
        world.kill(leader).await;
        let refused = four.promote_alone().await;
        assert!(matches!(&refused, Err(StoreError::Invalid(_))), "two of three elect one: {refused:?}");
        put(&*four, "x", "through those that are left").await;
        let other = world.leader().await;
        world.kill(other).await;
        let began = world.clock.now();
        four.promote_alone().await.expect("one of three is no majority");
        assert!(world.clock.now().since(began) >= ELECTED_WITHIN);
        assert_eq!(four.status().borrow().epoch, 1);
    });
}
