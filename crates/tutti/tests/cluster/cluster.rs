//! Several nodes that are one server, each with a loopback address that no other test uses.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::node::{Node, eventually};

pub(crate) const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples");
const NAMES: [&str; 8] = ["one", "two", "three", "four", "five", "six", "seven", "eight"];
/// Addresses of one cluster.
const BLOCK: u32 = 10;
/// Clusters of one run of the tests.
const BLOCKS: u32 = 25;
/// The port of the cluster address.
const SHARED_PORT: u16 = 8080;

/// The nodes, and the folder in which each has its own.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    first: u32,
    home: TempDir,
}

impl Cluster {
    /// `count` nodes of the sample photos.
    pub(crate) fn of_samples(count: usize) -> Self {
        Self::with(count, &["--originals", SAMPLES])
    }

    /// `count` nodes of the sample photos behind one address.
    pub(crate) fn behind_one_address(count: usize) -> Self {
        let mut cluster = Self::empty();
        let shared = cluster.shared().to_string();
        cluster.grow(count, &["--originals", SAMPLES, "--cluster-address", &shared]);
        cluster
    }

    /// `count` nodes that are started with these words.
    pub(crate) fn with(count: usize, words: &[&str]) -> Self {
        let mut cluster = Self::empty();
        cluster.grow(count, words);
        cluster
    }

    /// No node yet.
    pub(crate) fn empty() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let block = NEXT.fetch_add(1, Ordering::SeqCst);
        assert!(block < BLOCKS, "no addresses are left for another cluster");
        // The upper half of 127.0.0.0/8 by process, so that runs beside each other do not meet.
        let run = std::process::id();
        let second = 128 | (run >> 8) & 127;
        let first = (127 << 24) | (second << 16) | ((run & 255) << 8) | (block * BLOCK + 1);
        Self { nodes: Vec::new(), first, home: tempfile::tempdir().expect("a folder") }
    }

    /// The folder that goes with the cluster.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The one address of the cluster.
    pub(crate) fn shared(&self) -> SocketAddr {
        (self.host(BLOCK - 1), SHARED_PORT).into()
    }

    fn host(&self, at: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.first + at)
    }

    /// A further machine, which does not run yet and is none of the nodes.
    pub(crate) fn machine(&self, name: &str, at: u32, words: &[&str]) -> Node {
        Node::new(name, self.host(at), self.home(), words)
    }

    /// Adds nodes until there are `count`, and waits until all know all and as many vote as should.
    pub(crate) fn grow(&mut self, count: usize, words: &[&str]) {
        let known = self.nodes.len();
        for (at, name) in (0_u32..).zip(NAMES).take(count).skip(known) {
            let mut node = self.machine(name, at, words);
            if at == 0 {
                node.start(None);
            } else {
                node.spawn(Some(&self.token(&[])));
            }
            self.nodes.push(node);
        }
        for node in &mut self.nodes {
            node.serves().unwrap_or_else(|log| panic!("`{}` ended:\n{log}", node.name));
        }
        self.settled();
    }

    /// Waits until every running node sees every running node up, and the right number of them votes.
    #[track_caller]
    pub(crate) fn settled(&self) {
        let running: Vec<&Node> = self.nodes.iter().filter(|node| node.is_running()).collect();
        let voters = if running.len() >= 3 { 3 } else { 1 };
        for node in &running {
            eventually(&format!("`{}` sees all {} up and {voters} vote", node.name, running.len()), || {
                let status: serde_json::Value =
                    serde_json::from_str(&node.tutti(&["status", "--json"]).out).ok()?;
                status["leader"].as_str()?;
                let nodes = status["nodes"].as_array()?;
                // A node that weighs nothing has not told of itself yet.
                let up = |name: &str| {
                    let told =
                        |node: &&serde_json::Value| node["cache_mib"].as_u64().is_some_and(|room| room > 0);
                    nodes.iter().filter(told).any(|node| node["name"] == name && node["state"] == "up")
                };
                let votes = nodes.iter().filter(|node| node["voter"] == "voter").count();
                (running.iter().all(|other| up(&other.name)) && votes == voters).then_some(())
            });
        }
    }

    /// A new token.
    #[track_caller]
    pub(crate) fn token(&self, words: &[&str]) -> String {
        let made = self.nodes[0].json(&[&["token", "create"], words].concat());
        made["token"].as_str().expect("a token").to_owned()
    }

    pub(crate) fn named(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).expect("a node of this name")
    }

    /// Where the node `name` stands among the nodes.
    pub(crate) fn place_of(&self, name: &str) -> usize {
        self.nodes.iter().position(|node| node.name == name).expect("a node of this name")
    }

    /// The node that leads, as `asked` sees it.
    #[track_caller]
    pub(crate) fn leader(&self, asked: usize) -> String {
        eventually("somebody leads", || {
            let status: serde_json::Value =
                serde_json::from_str(&self.nodes[asked].tutti(&["status", "--json"]).out).ok()?;
            status["leader"].as_str().map(Into::into)
        })
    }

    /// A metric's sum over the running nodes.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let running = self.nodes.iter().filter(|node| node.is_running());
        running.map(|node| node.metric(name, labels).expect("metrics")).sum()
    }

    /// Results made by engines anywhere.
    pub(crate) fn renders(&self) -> f64 {
        self.metric("tutti_render_total", &["service=\"image\""])
    }
}
