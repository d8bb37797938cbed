//! Nodes die or fall silent under load, and no request is failed for it.

use std::time::Instant;

use crate::client;
use crate::cluster::Cluster;
use crate::load::{Load, Outcome, Patience};
use crate::node::eventually;

/// Requests that show that things go on.
const SOME: u64 = 30;

fn told(what: &str, outcome: &Outcome) {
    let Outcome { answered, retried, failures, slowest } = outcome;
    println!(
        "{what}: {answered} answered, {retried} after a retry, slowest {slowest:?}, {} failed",
        failures.len()
    );
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_worker_that_is_killed_or_falls_silent_under_load_fails_no_request_of_other_fronts() {
    let mut cluster = Cluster::of_samples(3);
    let fronts = [cluster.nodes[0].http(), cluster.nodes[1].http()];
    let load = Load::on(&fronts, Patience::None);
    let works = |cluster: &Cluster| {
        eventually("the victim does forwarded work", || {
            cluster.nodes[2].metric("tutti_render_total", &["service=\"image\""]).filter(|made| *made > 0.0)
        })
    };
    works(&cluster);
    cluster.nodes[2].kill();
    load.go_on(SOME);
    eventually("its death is seen", || {
        cluster.nodes[0].state_of("three").filter(|state| state == "down").map(drop)
    });
    load.go_on(SOME);
    cluster.nodes[2].start(None);
    cluster.settled();
    works(&cluster);
    told("kill -9 of a worker", &load.end());

    let load = Load::on(&fronts, Patience::None);
    load.go_on(SOME);
    cluster.nodes[2].freeze();
    load.go_on(SOME);
    eventually("its silence is seen", || {
        cluster.nodes[0].state_of("three").filter(|state| state != "up").map(drop)
    });
    load.go_on(SOME);
    cluster.nodes[2].thaw();
    cluster.settled();
    load.go_on(SOME);
    told("SIGSTOP of a worker", &load.end());
    cluster.nodes[2].image("/image/unsafe/w:33/plain/local:///photo01.jpg@png");
}

#[test]
fn the_death_of_the_leader_and_of_whoever_holds_the_address_is_not_seen_by_patient_clients() {
    let mut cluster = Cluster::behind_one_address(3);
    let shared = cluster.shared();
    eventually("somebody holds the address", || {
        client::ask(shared, "GET", "/readyz", &[]).ok().filter(|answer| answer.status == 200)
    });
    let load = Load::on(&[shared, shared], Patience::Demo);
    load.go_on(SOME);
    for round in 0..2 {
        let asked = (0..3).find(|at| cluster.nodes[*at].is_running()).expect("a node runs");
        let status = cluster.nodes[asked].json(&["status"]);
        let holder = status["cluster_address"]["holder"].as_str().expect("a holder").to_owned();
        let leader = status["leader"].as_str().expect("a leader").to_owned();
        // The holder first; then the leader, which may be another node.
        let victim = if round == 0 { &holder } else { &leader };
        let place = cluster.place_of(victim);
        let begun = Instant::now();
        cluster.nodes[place].kill();
        if round == 0 {
            eventually("the address answers again", || {
                client::ask(shared, "GET", "/readyz", &[]).ok().filter(|answer| answer.status == 200)
            });
            println!("the address answered again after {:?} (figure: 1 s)", begun.elapsed());
        }
        let other = (0..3).find(|at| *at != place).expect("another node");
        eventually("a write is accepted", || {
            (cluster.nodes[other].tutti(&["store", "put", "round", &round.to_string()]).code == 0)
                .then_some(())
        });
        println!(
            "round {round}: a write was accepted {:?} after the kill (leader {leader}, victim {victim})",
            begun.elapsed()
        );
        load.go_on(SOME);
        cluster.nodes[place].start(None);
        cluster.settled();
    }
    told("kill -9 of the holder and of the leader", &load.end());
}
