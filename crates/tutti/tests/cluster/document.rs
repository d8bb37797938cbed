//! What is set on one node holds on all, at once: the document and roles.

use crate::cluster::Cluster;
use crate::node::eventually;

#[test]
fn the_document_and_roles_that_one_node_is_told_hold_on_all() {
    let cluster = Cluster::of_samples(3);
    cluster.nodes[2].done(&["config", "set", "tenants.main.only_presets", "true"]);
    let target = |width: u32| format!("/image/unsafe/w:{width}/plain/local:///photo01.jpg@jpg");
    for node in &cluster.nodes {
        eventually(&format!("`{}` has the document", node.name), || {
            let shown = node.tutti(&["config", "get", "tenants.main.only_presets"]);
            (shown.out.trim() == "true").then_some(())
        });
        eventually(&format!("`{}` goes by it", node.name), || {
            (node.get(&target(60)).status == 404).then_some(())
        });
    }
    cluster.nodes[0].done(&["config", "set", "tenants.main.only_presets", "false"]);
    for node in &cluster.nodes {
        eventually(&format!("`{}` goes by it", node.name), || {
            (node.get(&target(61)).status == 200).then_some(())
        });
    }
    let histories: Vec<String> = cluster.nodes.iter().map(|node| node.done(&["config", "history"])).collect();
    assert!(histories.iter().all(|history| *history == histories[0]), "{histories:#?}");

    cluster.nodes[0].done(&["node", "roles", "two", "front,cache"]);
    for node in &cluster.nodes {
        eventually(&format!("`{}` sees the roles", node.name), || {
            let two = node.sees("two")?;
            let roles: Vec<&str> = two["roles"].as_array()?.iter().filter_map(|role| role.as_str()).collect();
            (roles == ["front", "cache"]).then_some(())
        });
    }
    let made = || cluster.named("two").metric("tutti_render_total", &["service=\"image\""]).expect("metrics");
    let before = made();
    for width in 100..120 {
        let answer = cluster.named("two").image(&target(width));
        assert!(!answer.field("Server-Timing").is_some_and(|timing| timing.contains("made;desc=\"two\"")));
    }
    assert_eq!(made(), before, "a front that is no worker has it made elsewhere");
    assert_eq!(cluster.renders() - before, cluster.renders() - made());
    cluster.nodes[2].done(&["node", "roles", "two", "front,worker,voter,cache"]);
    eventually("it works again", || {
        let roles = cluster.nodes[2].sees("two")?["roles"].as_array()?.len();
        (roles == 4).then_some(())
    });
    cluster.settled();
}
