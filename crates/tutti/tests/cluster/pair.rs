//! Two machines: one votes and one follows. When the voter is lost requests go on, and an operator decides who goes on.

use crate::cluster::Cluster;
use crate::node::{Node, eventually};

const PHOTO: &str = "/image/unsafe/rs:fit:75:75/plain/local:///photo04.jpg@webp";

fn quorum(node: &Node) -> String {
    node.json(&["status"])["quorum"].as_str().expect("a sentence").to_owned()
}

#[test]
fn of_two_nodes_the_one_that_is_left_serves_and_is_promoted_and_the_old_voter_comes_back_as_a_learner() {
    let mut cluster = Cluster::of_samples(2);
    cluster.nodes[0].done(&["config", "set", "tenants.main.only_presets", "false", "--why", "to be kept"]);
    eventually("the sentence says what the loss of the voter would mean", || {
        let said = quorum(&cluster.nodes[1]);
        (said.contains("one voter (`one`)") && said.contains("`tutti promote two`")).then_some(())
    });
    cluster.nodes[0].kill();
    cluster.nodes[1].image(PHOTO);
    let refused = cluster.nodes[1].tutti(&["store", "put", "k", "lost"]);
    assert!(refused.code != 0 && refused.err.contains("its one voter"), "{refused:?}");
    eventually("the sentence says that writes wait", || {
        quorum(&cluster.nodes[1]).contains("The quorum is lost").then_some(())
    });

    let untyped = cluster.nodes[1].tutti(&["promote", "two", "--confirm", "tow"]);
    assert_ne!(untyped.code, 0, "the name is typed once more, and right: {untyped:?}");
    let promoted = cluster.nodes[1].json(&["promote", "two", "--confirm", "two"]);
    assert_eq!(promoted["epoch"], 1, "{promoted}");
    let named = "late-writes-0.json";
    assert!(promoted["text"].as_str().is_some_and(|text| text.contains(named)), "{promoted}");
    cluster.nodes[1].done(&["store", "put", "k", "kept"]);

    cluster.nodes[0].start(None);
    eventually("the old voter follows, and has what was written without it", || {
        let got = cluster.nodes[0].tutti(&["store", "get", "k"]);
        (got.code == 0 && got.out.trim() == "kept").then_some(())
    });
    cluster.settled();
    assert!(cluster.nodes[0].data().join(named).exists(), "what it wrote alone is listed");
    let voters: Vec<String> = ["one", "two"]
        .map(|name| {
            cluster.nodes[0].sees(name).expect("a node")["voter"].as_str().expect("a word").to_owned()
        })
        .into();
    assert_eq!(voters, ["learner", "voter"]);
    assert!(cluster.nodes[0].done(&["config", "history"]).contains("to be kept"));
    // It goes by what is written from now on.
    cluster.nodes[1].done(&["config", "set", "tenants.main.only_presets", "true"]);
    eventually("the old voter follows the document", || {
        (cluster.nodes[0].get(PHOTO).status == 404).then_some(())
    });
}
