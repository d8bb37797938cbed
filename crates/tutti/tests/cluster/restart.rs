//! All nodes die at once and come back in any order: nothing that was acknowledged is lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::cluster::Cluster;
use crate::node::eventually;

const PHOTO: &str = "/image/unsafe/rs:fit:70:70/plain/local:///photo01.jpg@webp";

/// Writes one number after the other until the nodes die; the last that was acknowledged.
fn write_until_all_die(cluster: &mut Cluster, from: u64) -> u64 {
    let acknowledged = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = &cluster.nodes[1];
        let (acknowledged, over) = (&acknowledged, &over);
        scope.spawn(move || {
            for number in from.. {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                if writer.tutti(&["store", "put", "number", &number.to_string()]).code == 0 {
                    acknowledged.store(number, Ordering::SeqCst);
                }
            }
        });
        eventually("writes are acknowledged", || {
            (acknowledged.load(Ordering::SeqCst) >= from + 5).then_some(())
        });
        cluster.nodes.iter().for_each(|node| node.strike());
        over.store(true, Ordering::SeqCst);
    });
    cluster.nodes.iter_mut().for_each(|node| node.bury());
    acknowledged.load(Ordering::SeqCst)
}

#[test]
fn all_nodes_killed_at_once_lose_nothing_in_whatever_order_they_come_back() {
    let mut cluster = Cluster::of_samples(3);
    cluster.nodes[0].done(&["config", "set", "tenants.main.only_presets", "false", "--why", "to be kept"]);
    let mut from = 1;
    for order in [[2, 1, 0], [1, 0, 2]] {
        let acknowledged = write_until_all_die(&mut cluster, from);
        for at in order {
            cluster.nodes[at].spawn(None);
        }
        for at in order {
            cluster.nodes[at].serves().unwrap_or_else(|log| panic!("node {at} ended:\n{log}"));
            cluster.nodes[at].image(PHOTO);
        }
        cluster.settled();
        for node in &cluster.nodes {
            assert!(node.done(&["config", "history"]).contains("to be kept"), "`{}`", node.name);
            let found = eventually("a linearizable read", || {
                let got = node.tutti(&["store", "get", "number", "--linearizable"]);
                (got.code == 0).then(|| got.out.trim().parse::<u64>().expect("a number"))
            });
            // The write that was under way may have come through without its answer.
            assert!(
                found == acknowledged || found == acknowledged + 1,
                "{found}, acknowledged {acknowledged}"
            );
        }
        println!("order {order:?}: {acknowledged} was acknowledged and is there");
        from = acknowledged + 2;
    }
}
