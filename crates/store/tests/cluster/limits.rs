//! The replicated store at its limits.

use std::time::Duration;

use futures_util::future::join_all;
use tutti_base::NodeId;
use tutti_store::replicated::{
    APPEND_BYTES_MAX, KEEP_ALIVES_MAX, OUTCOMES_MAX, PROPOSAL_WRITES_MAX, RECENT_ENTRIES_MAX, REPLICAS_MAX,
    RaftConfig,
};
use tutti_store::{Op, Store, StoreError, Txn};

use crate::load::{key, number};
use crate::world::{World, simulate, until};

fn put(name: &str, value: impl Into<bytes::Bytes>) -> Txn {
    Txn::of([Op::put(key(name), value)])
}

#[test]
fn writes_that_wait_share_an_entry_of_the_log_up_to_its_limit() {
    simulate(async || {
        let world = World::of(31, 3).await;
        let leader = world.stores[&world.leader().await].clone();
        let before = leader.status().borrow().last_log;
        let names: Vec<String> = (0..2 * PROPOSAL_WRITES_MAX).map(|index| format!("w{index}")).collect();
        let writes = join_all(names.iter().map(|name| leader.commit(put(name, "x")))).await;
        assert!(writes.iter().all(Result::is_ok));
        until(&leader, "all is applied", |status| status.applied == status.last_log).await;
        let entries = leader.status().borrow().last_log - before;
        assert!((2..=4).contains(&entries), "{} writes made {entries} entries", names.len());
    });
}

#[test]
fn keep_alives_that_wait_share_a_round_and_more_than_fit_are_tried_again() {
    simulate(async || {
        let world = World::of(32, 3).await;
        let leader = world.stores[&world.leader().await].clone();
        let lease = leader.grant(Duration::from_secs(60)).await.expect("a lease").id;
        let kept = join_all((0..KEEP_ALIVES_MAX + 10).map(|_| leader.keep_alive(lease))).await;
        assert!(kept.iter().all(Result::is_ok));
    });
}

#[test]
fn large_writes_travel_one_by_one_and_small_ones_together() {
    simulate(async || {
        let world = World::of(33, 3).await;
        let leader = world.leader().await;
        let follower = NodeId(1 + leader.0 % 3);
        world.net.pause(follower);
        let large = vec![7; APPEND_BYTES_MAX + 1];
        for index in 0..6 {
            let write = world.stores[&leader].commit(put(&format!("large{index}"), large.clone()));
            write.await.expect("two are a quorum");
        }
        world.net.heal();
        let (follower, leader) = (&world.stores[&follower], &world.stores[&leader]);
        until(follower, "it caught up", |_| follower.revision() == leader.revision()).await;
        let whole = Txn::of((0..4).map(|index| Op::put(key(&format!("whole{index}")), vec![1; 1 << 19])));
        follower.commit(whole).await.expect("larger than a message of the control lane");
    });
}

#[test]
fn entries_that_are_not_in_memory_any_more_are_read_from_the_log() {
    simulate(async || {
        let mut world = World::new(34);
        world.start(NodeId(1)).await;
        let one = world.store(1).clone();
        one.found().await.expect("a cluster of one");
        let count = 2 * RECENT_ENTRIES_MAX;
        for index in 0..count {
            one.commit(put("x", index.to_string())).await.expect("accepted");
        }
        world.start(NodeId(2)).await;
        one.add_learner(NodeId(2)).await.expect("a learner");
        let two = world.store(2);
        until(two, "it has all", |_| two.revision() == one.revision()).await;
        assert_eq!(number(&**two, &key("x")), Ok(count as u64 - 1));
        world.kill(NodeId(1)).await;
        world.start(NodeId(1)).await;
        let one = world.store(1);
        until(one, "it leads again", |status| status.leads()).await;
        assert_eq!(number(&**one, &key("x")), Ok(count as u64 - 1));
    });
}

#[test]
fn more_writes_than_outcomes_are_remembered_are_each_applied_once() {
    simulate(async || {
        let world = World::of(35, 3).await;
        let follower = world.stores[&NodeId(1 + world.leader().await.0 % 3)].clone();
        let before = follower.revision();
        let count = OUTCOMES_MAX + 200;
        for round in 0..count / 8 {
            let names: Vec<String> = (0..8).map(|index| format!("o{round}-{index}")).collect();
            let writes = join_all(names.iter().map(|name| follower.commit(put(name, "x")))).await;
            assert!(writes.iter().all(Result::is_ok));
        }
        assert_eq!(follower.revision().0 - before.0, count / 8 * 8);
    });
}

#[test]
fn as_many_nodes_have_a_copy_as_allowed_and_no_more() {
    simulate(async || {
        let mut world = World::new(36);
        world.config =
            RaftConfig { heartbeat_ms: 1000, election_min_ms: 2000, election_max_ms: 4000, ..world.config };
        world.start(NodeId(1)).await;
        let one = world.store(1).clone();
        one.found().await.expect("a cluster of one");
        for id in 2..=REPLICAS_MAX as u64 {
            one.add_learner(NodeId(id)).await.expect("within the limit");
            until(&one, "it is one", |status| status.learners.contains(&NodeId(id))).await;
        }
        let refused = one.add_learner(NodeId(9999)).await;
        assert!(matches!(refused, Err(StoreError::TooLong { limit: REPLICAS_MAX, .. })), "{refused:?}");
        one.remove(NodeId(2)).await.expect("one leaves");
        until(&one, "it left", |status| !status.learners.contains(&NodeId(2))).await;
        one.add_learner(NodeId(9999)).await.expect("another fits");
    });
}
