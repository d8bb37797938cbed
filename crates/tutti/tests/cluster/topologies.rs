//! The shapes of `deploy/topologies`: each file is started as it stands, and does what it says. Judges no speed.

use std::path::Path;

use toml::{Table, Value};

use crate::cluster::Cluster;
use crate::node::{Node, eventually};

const SHAPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/topologies");
const SAMPLES: &str = crate::cluster::SAMPLES;
/// Pictures that each front is asked for; nobody has asked for them before.
const PICTURES: u32 = 8;

/// One of the files.
struct Shape {
    /// Names and roles.
    nodes: Vec<(String, String)>,
    /// What `config apply` takes.
    document: Table,
}

impl Shape {
    fn read(name: &str) -> Self {
        let path = Path::new(SHAPES).join(name).with_extension("toml");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file: Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let word = |node: &Value, key: &str| node[key].as_str().expect("a text").to_owned();
        let nodes = file["node"].as_array().expect("nodes").iter();
        Self {
            nodes: nodes.map(|node| (word(node, "name"), word(node, "roles"))).collect(),
            document: file["document"].as_table().expect("a table").clone(),
        }
    }

    /// Starts the nodes, each with a token for its roles alone, and applies the document.
    fn start(&self) -> Cluster {
        let mut cluster = Cluster::empty();
        for (at, (name, roles)) in (0_u32..).zip(&self.nodes) {
            let mut node = cluster.machine(name, at, &["--originals", SAMPLES, "--roles", roles]);
            match at {
                0 => node.start(None),
                _ => node.start(Some(&cluster.token(&["--roles", roles]))),
            }
            cluster.nodes.push(node);
        }
        cluster.settled();
        let file = cluster.home().join("document.toml");
        std::fs::write(&file, toml::to_string(&self.document).expect("a document")).expect("a file");
        cluster.nodes[0].done(&["config", "apply", file.to_str().expect("a path")]);
        cluster
    }

    fn has(&self, name: &str, role: &str) -> bool {
        self.nodes.iter().any(|(known, roles)| known == name && roles.split(',').any(|word| word == role))
    }
}

/// Waits until every node calls the shape so.
#[track_caller]
fn is_called(cluster: &Cluster, word: &str) {
    for node in &cluster.nodes {
        eventually(&format!("`{}` says {word}", node.name), || {
            (node.json(&["status"])["topology"] == word).then_some(())
        });
    }
}

fn rendered(node: &Node) -> f64 {
    node.metric("tutti_render_total", &["service=\"image\""]).expect("metrics")
}

/// Asks `front` for pictures of sizes that begin at `width`.
#[track_caller]
fn ask(front: &Node, width: u32) {
    for width in (width..).take(PICTURES as usize) {
        // Heights differ much, so that no two come to the same result.
        let height = 40 + 3 * (width % 64);
        let target = format!("/image/unsafe/rs:force:{width}:{height}/plain/local:///photo02.jpg@jpg");
        front.image(&target);
    }
}

/// Starts the shape, asks every front, and compares who has worked with who should.
#[track_caller]
fn check(name: &str, word: &str) -> Cluster {
    let shape = Shape::read(name);
    let cluster = shape.start();
    is_called(&cluster, word);
    let fronts: Vec<&Node> = cluster.nodes.iter().filter(|node| shape.has(&node.name, "front")).collect();
    for (turn, front) in (1_u32..).zip(&fronts) {
        ask(front, 40 * turn);
    }
    for node in cluster.nodes.iter().filter(|node| !shape.has(&node.name, "worker")) {
        assert_eq!(rendered(node), 0.0, "`{}` is no worker", node.name);
    }
    let asked = f64::from(PICTURES) * fronts.len() as f64;
    assert!(cluster.renders() >= asked, "{} renders for {asked} pictures", cluster.renders());
    cluster
}

#[test]
fn a_master_and_its_slaves_become_a_pair_and_back_while_they_run() {
    let cluster = check("master-slave", "master-slave");
    cluster.nodes[0].done(&["node", "roles", "slave-1", "front,worker,voter,cache"]);
    is_called(&cluster, "pair plus balancing nodes");
    ask(cluster.named("slave-1"), 200);
    cluster.nodes[1].done(&["node", "roles", "slave-1", "worker,voter,cache"]);
    is_called(&cluster, "master-slave");
    cluster.nodes[1].done(&["node", "roles", "master", "front,voter,cache"]);
    is_called(&cluster, "one dispatcher");
    let before = rendered(&cluster.nodes[0]);
    ask(&cluster.nodes[0], 250);
    assert_eq!(rendered(&cluster.nodes[0]), before, "a dispatcher has it made elsewhere");
}

#[test]
fn masters_send_jobs_to_each_other_unless_off_load_is_off() {
    let cluster = check("master-master", "master-master");
    let sent = || cluster.metric("tutti_flow_remote_runs_total", &[]);
    // New sizes each time: what was made before is a hit and sends nothing.
    let mut width = 200;
    eventually("a job is sent to another node", || {
        width += 1;
        ask(&cluster.nodes[0], width);
        (sent() > 0.0).then_some(())
    });
    for node in &cluster.nodes {
        let key = format!("dispatch.nodes.{}.offload", node.name);
        cluster.nodes[0].done(&["config", "set", &key, "false"]);
    }
    for node in &cluster.nodes {
        eventually(&format!("`{}` has the document", node.name), || {
            let known = cluster.nodes.iter().all(|other| {
                let key = format!("dispatch.nodes.{}.offload", other.name);
                node.tutti(&["config", "get", &key]).out.trim() == "false"
            });
            known.then_some(())
        });
    }
    // The document is applied a moment after it is known: what that moment still sends is not judged.
    eventually("nothing is sent any more", || {
        let before = sent();
        width += 1;
        ask(&cluster.nodes[0], width);
        (sent() == before).then_some(())
    });
    let (before, made) = (sent(), cluster.renders());
    cluster.nodes.iter().zip([600, 620, 640]).for_each(|(front, width)| ask(front, width));
    assert_eq!(sent(), before, "no node gives a job away");
    assert!(cluster.renders() >= made + 3.0 * f64::from(PICTURES));
}

#[test]
fn a_pair_works_with_its_balancing_nodes() {
    check("pair-and-balancing-nodes", "pair plus balancing nodes");
}

#[test]
fn one_dispatcher_renders_nothing() {
    check("one-dispatcher", "one dispatcher");
}

#[test]
fn many_dispatchers_render_nothing_and_one_may_be_lost() {
    let mut cluster = check("many-dispatchers", "many dispatchers");
    cluster.nodes[0].kill();
    ask(cluster.named("dispatcher-2"), 500);
}
