//! Whole nodes over the real links on loopback: what the simulated network promises holds over TLS and UDP too.

use std::sync::Arc;
use std::time::Duration;

use tutti_base::clock::MachineTime;
use tutti_base::rng::SplitMix;
use tutti_base::{BoxFuture, Clock, Load, NodeState, Nodes, Roles, Tick, Wall};
use tutti_cluster::node::{Cluster, Me, RosterEntry};
use tutti_cluster::{Config, Identity, Links, Outside};
use tutti_telemetry::Metrics;

struct RealClock(MachineTime);

impl Clock for RealClock {
    fn now(&self) -> Tick {
        self.0.now()
    }
    fn wall(&self) -> Wall {
        self.0.wall()
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.0.instant(until).into()))
    }
}

struct Node {
    links: Arc<Links>,
    cluster: Arc<Cluster>,
    metrics: Metrics,
    entry: RosterEntry,
}

async fn start(identity: Identity, clock: &Arc<dyn Clock>) -> Node {
    let metrics = Metrics::default();
    let config = Config { listen: vec!["127.0.0.1:0".parse().unwrap()], ..Config::default() };
    let rng = || Box::new(SplitMix::new(identity.node().0));
    let outside = Outside { clock: clock.clone(), rng: rng(), metrics: metrics.clone() };
    let links = Links::start(config, &identity, outside).await.unwrap();
    let me = Me { id: identity.node(), version: "0.4.0".into() };
    let cluster = Cluster::over(&links, clock.clone(), rng(), metrics.clone(), me);
    let entry = RosterEntry {
        id: identity.node(),
        name: identity.name().into(),
        roles: Roles::ALL,
        addresses: links.addresses().to_vec(),
        draining: false,
    };
    Node { links, cluster, metrics, entry }
}

async fn three(clock: &Arc<dyn Clock>) -> Vec<Node> {
    let (first, authority) = Identity::found("n0", clock.wall()).unwrap();
    let mut nodes = vec![start(first, clock).await];
    for name in ["n1", "n2"] {
        let mut identity = Identity::new(name).unwrap();
        let request = identity.request().unwrap();
        let signed = authority.sign(&request, identity.node(), name, clock.wall()).unwrap();
        identity.admit(authority.cluster(), signed, vec![authority.certificate().to_vec()]);
        nodes.push(start(identity, clock).await);
    }
    let roster: Vec<RosterEntry> = nodes.iter().map(|node| node.entry.clone()).collect();
    nodes.iter().for_each(|node| node.cluster.set_roster(roster.clone()).unwrap());
    nodes
}

/// Waits for `condition`; a test that waits for ever is stopped by its runner.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn sees(node: &Node, other: &Node, state: NodeState) -> bool {
    node.cluster.view().get(other.entry.id).is_some_and(|member| member.state == state)
}

#[test]
fn nodes_over_real_links_see_each_other_come_speak_and_go() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(RealClock(MachineTime::start()));
        let mut nodes = three(&clock).await;
        until(|| nodes.iter().all(|node| nodes.iter().all(|other| sees(node, other, NodeState::Up)))).await;
        nodes[2].cluster.set_own_load(Load { cpu: 4321, ..Load::default() });
        let told = |node: &Node| {
            let view = node.cluster.view();
            view.get(nodes[2].entry.id).is_some_and(|two| two.load.cpu == 4321 && !two.rtt.is_zero())
        };
        until(|| nodes[..2].iter().all(told)).await;
        let datagrams = "tutti_cluster_gossip_sent_total{way=\"datagram\"}";
        until(|| nodes.iter().all(|node| node.metrics.text().contains(datagrams))).await;

        let gone = nodes.pop().unwrap();
        let start = clock.now();
        gone.links.stop().await;
        drop(gone.cluster);
        until(|| nodes.iter().all(|node| !node.cluster.view().get(gone.entry.id).unwrap().is_up())).await;
        let suspect = clock.now().since(start);
        let down = |node: &Node| node.cluster.view().get(gone.entry.id).unwrap().state == NodeState::Down;
        until(|| nodes.iter().all(down)).await;
        println!("over real links: not up after {suspect:?}, down after {:?}", clock.now().since(start));

        let roster: Vec<RosterEntry> = nodes.iter().map(|node| node.entry.clone()).collect();
        nodes.iter().for_each(|node| node.cluster.set_roster(roster.clone()).unwrap());
        assert!(nodes.iter().all(|node| node.cluster.view().members.len() == 2));
        nodes[1].cluster.leave();
        until(|| sees(&nodes[0], &nodes[1], NodeState::Down)).await;
        for node in nodes {
            node.links.stop().await;
        }
    });
    runtime.shutdown_background();
}
