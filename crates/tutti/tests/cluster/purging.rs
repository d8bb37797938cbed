//! A purge reaches every node, and one that was stopped learns of it before it serves what it kept.

use crate::cluster::Cluster;
use crate::node::eventually;

const PHOTO: &str = "/image/unsafe/rs:fit:90:90/plain/local:///photo03.jpg@webp";

fn names(reply: &serde_json::Value, key: &str) -> Vec<String> {
    let mut names: Vec<String> = reply[key]
        .as_array()
        .expect("names")
        .iter()
        .filter_map(|name| Some(name.as_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

#[test]
fn a_purge_names_whom_it_reached_and_a_node_that_was_stopped_learns_of_it_before_it_serves() {
    let cluster = Cluster::of_samples(3);
    // Asked for often enough to be kept on every node.
    let warm = || {
        for node in &cluster.nodes {
            eventually(&format!("`{}` has a copy of its own", node.name), || {
                let answer = node.image(PHOTO);
                let through =
                    answer.field("Server-Timing").is_some_and(|timing| timing.contains("through;desc"));
                (answer.is_hit() && !through).then_some(())
            });
        }
    };
    warm();
    let reply = cluster.nodes[1].json(&["cache", "purge", "--url", PHOTO]);
    assert_eq!(names(&reply, "reached"), ["one", "three", "two"], "{reply}");
    assert!(names(&reply, "not_reached").is_empty(), "{reply}");
    assert!(!cluster.nodes[2].image(PHOTO).is_hit(), "the first to ask has it made anew");

    warm();
    // The stopped node is none that leads.
    let leader = cluster.leader(0);
    let stopped = cluster.nodes.iter().find(|node| node.name != leader).expect("another node");
    let asked = cluster.nodes.iter().find(|node| node.name != stopped.name).expect("another node");
    stopped.freeze();
    let reply = asked.json(&["cache", "purge", "--url", PHOTO]);
    assert_eq!(names(&reply, "not_reached"), [stopped.name.as_str()], "{reply}");
    assert_eq!(names(&reply, "reached").len(), 2, "{reply}");
    eventually("the stopped node is given up", || {
        (asked.state_of(&stopped.name).as_deref() == Some("down")).then_some(())
    });
    // A request that waits for it when it wakes up.
    let answer = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| stopped.get(PHOTO));
        stopped.thaw();
        waiting.join().expect("an answer")
    });
    assert_eq!(answer.status, 200);
    assert!(!answer.is_hit(), "what was purged is not served: {:?}", answer.fields);
    let anew = asked.image(PHOTO);
    assert_eq!(anew.etag(), answer.etag());
    cluster.settled();
}
