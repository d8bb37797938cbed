//! A folder on one node is everyone's, and when that node is away the answer says so.

use std::time::Duration;

use crate::cluster::{Cluster, SAMPLES};
use crate::node::eventually;

fn target(width: u32, file: &str) -> String {
    format!("/image/unsafe/w:{width}/plain/local://shop/{file}@jpg")
}

#[test]
fn a_folder_of_one_node_is_served_by_all_and_its_absence_is_named() {
    let mut cluster = Cluster::of_samples(3);
    let shop = cluster.home().join("shop");
    std::fs::create_dir(&shop).expect("a folder");
    std::fs::copy(format!("{SAMPLES}/photo02.jpg"), shop.join("seen.jpg")).expect("a photo");
    std::fs::copy(format!("{SAMPLES}/photo03.jpg"), shop.join("unseen.jpg")).expect("a photo");
    let named = format!("shop={}", shop.display());
    let mut holder = cluster.machine("holder", 3, &["--originals", SAMPLES, "--originals", &named]);
    holder.start(Some(&cluster.token(&[])));
    cluster.nodes.push(holder);
    cluster.settled();

    for (at, node) in (0..).zip(&cluster.nodes) {
        let seen = eventually(&format!("`{}` knows of the folder", node.name), || {
            let answer = node.get(&target(50 + at, "seen.jpg"));
            // Hints of folders take a moment to arrive.
            (answer.status == 200).then_some(answer)
        });
        assert_eq!(seen.field("Content-Type"), Some("image/jpeg"));
        let missing = node.get(&target(50, "missing.jpg"));
        assert_eq!(missing.status, 404, "{}", missing.detail());
    }

    let holder = cluster.place_of("holder");
    cluster.nodes[holder].kill();
    eventually("the holder is missed", || {
        cluster.nodes[0].state_of("holder").filter(|state| state == "down").map(drop)
    });
    for node in &cluster.nodes[..3] {
        // What has been read once is on two nodes, and a new size of it can be made.
        let kept = node.get(&target(66, "seen.jpg"));
        assert_eq!(kept.status, 200, "`{}`: {}", node.name, String::from_utf8_lossy(&kept.body));
        for (width, file) in [(50, "unseen.jpg"), (51, "missing.jpg")] {
            let away = node.get(&target(width, file));
            assert_eq!(away.status, 503, "`{}`, {file}", node.name);
            assert!(away.detail().contains("holder"), "{}", away.detail());
            let wait = away.field("Retry-After").and_then(|secs| secs.parse().ok()).map(Duration::from_secs);
            assert!(wait.is_some_and(|wait| wait > Duration::ZERO));
        }
    }
    cluster.nodes[holder].start(None);
    eventually("it is served again", || {
        (cluster.nodes[1].get(&target(52, "unseen.jpg")).status == 200).then_some(())
    });
}
