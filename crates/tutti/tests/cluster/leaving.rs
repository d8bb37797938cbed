//! Nodes are drained, come back, and are removed, and no request is failed for it.

use crate::cluster::{Cluster, SAMPLES};
use crate::load::{Load, Patience};
use crate::node::eventually;

/// Requests that show that things go on.
const SOME: u64 = 25;

#[test]
fn a_drained_node_gets_no_new_work_and_a_removed_one_is_refused_and_its_secrets_are_listed() {
    let mut cluster = Cluster::of_samples(3);
    let mut four = cluster.machine("four", 3, &["--originals", SAMPLES]);
    four.start(Some(&cluster.token(&[])));
    cluster.nodes.push(four);
    cluster.settled();
    std::fs::write(cluster.home().join("key"), "0011223344").expect("a file");
    let key = cluster.home().join("key");
    let set = |name: &str| {
        let mut command = std::process::Command::new(crate::node::BINARY);
        command.args(["secret", "set", name, "--data"]).arg(cluster.nodes[0].data());
        command.stdin(std::fs::File::open(&key).expect("a file"));
        assert!(command.status().expect("the binary").success());
    };
    set("shop_key");

    let fronts = [cluster.nodes[0].http(), cluster.nodes[1].http()];
    let load = Load::on(&fronts, Patience::None);
    let four = cluster.named("four");
    let made = || four.metric("tutti_render_total", &["service=\"image\""]).expect("metrics");
    eventually("`four` is given work", || (made() > 0.0).then_some(()));

    cluster.nodes[1].done(&["node", "drain", "four", "--why", "a test"]);
    for node in &cluster.nodes {
        eventually(&format!("`{}` sees it draining", node.name), || {
            node.state_of("four").filter(|state| state == "draining").map(drop)
        });
    }
    // What was given to it before may still end.
    load.go_on(SOME);
    let before = made();
    load.go_on(SOME);
    assert_eq!(made(), before, "a drained node gets nothing new");
    let events = cluster.nodes[1].done(&["events"]);
    assert!(events.contains("a test"), "the journal has the reason: {events}");

    cluster.nodes[0].done(&["node", "resume", "four"]);
    eventually("it is given work again", || (made() > before).then_some(()));

    let removed = cluster.nodes[0].json(&["node", "remove", "four"]);
    let rotate: Vec<&str> =
        removed["rotate"].as_array().expect("names").iter().filter_map(|name| name.as_str()).collect();
    assert_eq!(rotate, ["shop_key"], "{removed}");
    for node in &cluster.nodes[..3] {
        eventually(&format!("`{}` knows it no longer", node.name), || {
            node.sees("four").is_none().then_some(())
        });
    }
    eventually("it is told that it was removed", || {
        four.log().contains("was removed from the cluster; join again with a token").then_some(())
    });
    load.go_on(SOME);
    let outcome = load.end();
    println!(
        "{} answered while a node was drained, resumed and removed; slowest {:?}",
        outcome.answered, outcome.slowest
    );
    assert!(outcome.failures.is_empty(), "{:#?}", outcome.failures);

    // Started again it is refused as well, and never comes back into the others' view.
    let place = cluster.place_of("four");
    cluster.nodes[place].kill();
    cluster.nodes[place].spawn(None);
    let refusals = |log: &str| log.matches("was removed from the cluster").count();
    let known = refusals(&cluster.nodes[place].log());
    eventually("it is refused again", || (refusals(&cluster.nodes[place].log()) > known).then_some(()));
    assert!(cluster.nodes[0].sees("four").is_none());
}
