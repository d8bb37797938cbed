//! Whole nodes in one process, on paused time and a network of function calls: the tasks, the view, the ears.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::Instant;
use tutti_base::rng::SplitMix;
use tutti_base::{
    BoxFuture, Call, CallError, Clock, Evidence, Load, NodeId, NodeState, Nodes, Peers, Reply, Roles, Serve,
    Tick, Topic, Wall,
};
use tutti_cluster::membership::{LinkChange, Why};
use tutti_cluster::node::{Cluster, EVENTS_MAX, Fabric, Me, Outside, RosterEntry};
use tutti_telemetry::Metrics;

use crate::sim::{id, ms};

struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Tick {
        Tick(self.0.elapsed().as_nanos() as u64)
    }
    fn wall(&self) -> Wall {
        Wall(1_800_000_000_000 + self.now().0 / 1_000_000)
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.0 + Duration::from_nanos(until.0)))
    }
}

/// What hears the casts and datagrams of one node.
type Ears = (Vec<(Topic, Arc<dyn Serve>)>, Arc<Cluster>);

/// All nodes, by id, and whether datagrams pass.
#[derive(Default)]
struct Switch {
    ears: Mutex<BTreeMap<NodeId, Ears>>,
    forbidden: Mutex<Vec<NodeId>>,
    blocked: AtomicBool,
    casts: Mutex<BTreeMap<Topic, usize>>,
}

/// One node's plug in the switch.
struct Plug(NodeId, Arc<Switch>);

impl Plug {
    fn soon(&self, to: NodeId, hear: impl FnOnce(&Ears, NodeId) + Send + 'static) {
        let (from, switch) = (self.0, self.1.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(200)).await;
            if let Some(ears) = switch.ears.lock().unwrap().get(&to) {
                hear(ears, from);
            }
        });
    }
}

impl Peers for Plug {
    fn call(&self, to: NodeId, call: Call) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(async move {
            let ears = self.1.ears.lock().unwrap().get(&to).map(|ears| ears.0.clone());
            let ears = ears.ok_or(CallError::Unreachable(to))?;
            let ear = ears.iter().find(|(known, _)| *known == call.topic).unwrap().1.clone();
            let answer = ear.serve(self.0, call).await;
            answer.map_err(|problem| CallError::Refused(to, Box::new(problem)))
        })
    }
    fn cast(&self, to: NodeId, topic: Topic, head: Bytes) {
        *self.1.casts.lock().unwrap().entry(topic).or_default() += 1;
        self.soon(to, move |ears, from| {
            let ear = ears.0.iter().find(|(known, _)| *known == topic);
            ear.unwrap().1.hear(from, head);
        });
    }
}

impl Fabric for Plug {
    fn datagram(&self, to: NodeId, payload: Bytes) -> bool {
        let passes = !self.1.blocked.load(Ordering::Relaxed);
        if passes {
            self.soon(to, move |ears, from| ears.1.hear_datagram(from, &payload));
        }
        passes
    }
    fn rtt(&self, _node: NodeId) -> Option<Duration> {
        Some(Duration::from_micros(400))
    }
    fn set_peers(&self, _peers: Vec<(NodeId, Vec<SocketAddr>)>) {}
    fn forbid(&self, node: NodeId) {
        self.1.forbidden.lock().unwrap().push(node);
    }
}

fn roster(size: u64) -> Vec<RosterEntry> {
    let entry = |number| RosterEntry {
        id: id(number),
        name: format!("n{number}").into(),
        roles: Roles::ALL,
        addresses: Vec::new(),
        draining: false,
    };
    (1..=size).map(entry).collect()
}

fn start(switch: &Arc<Switch>, number: u64) -> (Arc<Cluster>, Metrics) {
    let plug = Arc::new(Plug(id(number), switch.clone()));
    let metrics = Metrics::default();
    let outside = Outside {
        peers: plug.clone(),
        fabric: plug,
        clock: Arc::new(PausedClock(Instant::now())),
        rng: Box::new(SplitMix::new(number)),
        metrics: metrics.clone(),
    };
    let cluster = Cluster::start(outside, Me { id: id(number), version: "0.4.0".into() });
    switch.ears.lock().unwrap().insert(id(number), (cluster.ears().into(), cluster.clone()));
    (cluster, metrics)
}

async fn until(what: &str, within: Duration, done: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(ms(1)).await;
    }
    start.elapsed()
}

fn state(cluster: &Cluster, number: u64) -> Option<NodeState> {
    cluster.view().get(id(number)).map(|member| member.state)
}

fn sees_all(cluster: &Cluster, size: u64) -> bool {
    (1..=size).all(|number| state(cluster, number) == Some(NodeState::Up))
}

async fn three(switch: &Arc<Switch>) -> Vec<Arc<Cluster>> {
    let clusters: Vec<Arc<Cluster>> = (1..=3).map(|number| start(switch, number).0).collect();
    clusters.iter().for_each(|cluster| cluster.set_roster(roster(3)).unwrap());
    until("all up", ms(3000), || clusters.iter().all(|cluster| sees_all(cluster, 3))).await;
    clusters
}

#[tokio::test(start_paused = true)]
async fn three_nodes_see_each_other_and_each_others_loads() {
    let switch = Arc::new(Switch::default());
    let clusters = three(&switch).await;
    clusters[0].read_own_load(Box::new(|| Load {
        cpu: 2500,
        folders: vec!["cats".into()],
        ..Load::default()
    }));
    until("the load of 1", ms(500), || clusters[2].view().get(id(1)).unwrap().load.cpu == 2500).await;
    let view = clusters[2].view();
    let member = view.get(id(1)).unwrap();
    assert_eq!((&*member.name, &*member.version, member.rtt), ("n1", "0.4.0", Duration::from_micros(400)));
    assert_eq!(view.myself().map(|me| me.rtt), Some(Duration::ZERO));
    let generation = view.generation;
    tokio::time::sleep(ms(1000)).await;
    let later = clusters[2].view();
    assert_eq!(later.generation, generation, "loads alone do not move it");
    assert!(later.get(id(1)).unwrap().load.sequence > member.load.sequence);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_and_a_failed_call_show_at_once_and_are_told() {
    let switch = Arc::new(Switch::default());
    let clusters = three(&switch).await;
    let (mut events, mut changed) = (clusters[0].events(), clusters[0].changed());
    changed.mark_unchanged();
    clusters[0].link(id(2), LinkChange::Broken);
    assert_eq!(state(&clusters[0], 2), Some(NodeState::Suspect));
    let event = events.try_recv().unwrap();
    assert_eq!((event.node, event.from, event.why), (id(2), Some(NodeState::Up), Why::Broken));
    assert!(changed.has_changed().unwrap());
    clusters[1].note(id(3), Evidence::Failed);
    assert_eq!(state(&clusters[1], 3), Some(NodeState::Suspect));
    assert_eq!(state(&clusters[0], 3), Some(NodeState::Up), "evidence is local");
    clusters[1].note(id(3), Evidence::Answered);
    let back = until("held for a second", ms(1200), || state(&clusters[1], 3) == Some(NodeState::Up)).await;
    assert!(back >= ms(900), "{back:?}");
}

#[tokio::test(start_paused = true)]
async fn all_folders_of_a_node_are_known_however_many() {
    let switch = Arc::new(Switch::default());
    let clusters = three(&switch).await;
    let folders: Vec<String> = (0..500).map(|number| format!("folder-{number}")).collect();
    clusters[0].set_own_load(Load { folders: folders.clone(), ..Load::default() });
    let known = || clusters[1].view().get(id(1)).unwrap().load.folders == folders;
    until("all folders", ms(500), known).await;
    assert_eq!(clusters[1].folders_left_off(id(1)), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_follower_of_events_is_told_that_it_missed_some() {
    let switch = Arc::new(Switch::default());
    let (cluster, _) = start(&switch, 1);
    let mut events = cluster.events();
    for turn in 0..=EVENTS_MAX {
        let mut roster = roster(1);
        roster[0].draining = turn % 2 == 1;
        cluster.set_roster(roster).unwrap();
    }
    assert!(matches!(events.try_recv(), Err(TryRecvError::Lagged(1))));
    assert!(events.try_recv().is_ok(), "and goes on");
}

#[tokio::test(start_paused = true)]
async fn without_datagrams_the_control_lane_carries_all() {
    let switch = Arc::new(Switch { blocked: AtomicBool::new(true), ..Switch::default() });
    let clusters = three(&switch).await;
    let mut events = clusters[0].events();
    tokio::time::sleep(ms(20_000)).await;
    assert!(events.try_recv().is_err(), "nobody changes");
    assert!(switch.casts.lock().unwrap()[&Topic::GOSSIP] > 100);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_down_and_who_is_removed_is_refused() {
    let switch = Arc::new(Switch::default());
    let clusters = three(&switch).await;
    let mut events = clusters[0].events();
    clusters[2].leave();
    until("down", ms(100), || state(&clusters[0], 3) == Some(NodeState::Down)).await;
    assert_eq!(events.try_recv().unwrap().why, Why::Left);
    clusters[0].set_roster(roster(2)).unwrap();
    assert_eq!((state(&clusters[0], 3), clusters[0].view().members.len()), (None, 2));
    assert_eq!(*switch.forbidden.lock().unwrap(), [id(3)]);
    let event = events.try_recv().unwrap();
    assert_eq!((event.to, event.why), (None, Why::Roster));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_is_found_by_the_others() {
    let switch = Arc::new(Switch::default());
    let clusters = three(&switch).await;
    switch.ears.lock().unwrap().remove(&id(3));
    clusters[2].leave();
    // Its last words are on their way to nobody: the others must find out by themselves.
    let alone = || [0, 1].iter().all(|at| state(&clusters[*at], 3) == Some(NodeState::Down));
    until("down", ms(3000), alone).await;
    assert_eq!(clusters[0].own_lag().1, 1, "nobody was late");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_node_ends_its_tasks_and_metrics_show_states_and_limits() {
    let switch = Arc::new(Switch::default());
    let (cluster, metrics) = start(&switch, 1);
    cluster.set_roster(roster(2)).unwrap();
    cluster.set_own_load(Load { cpu: 7, ..Load::default() });
    until("the own load", ms(100), || cluster.view().myself().unwrap().load.cpu == 7).await;
    let text = metrics.text();
    assert!(text.contains("tutti_cluster_members{state=\"up\"} 1"), "{text}");
    assert!(text.contains("tutti_limit_cluster_hint_delta_bytes 64"), "{text}");
    switch.ears.lock().unwrap().clear();
    let weak = Arc::downgrade(&cluster);
    drop(cluster);
    until("gone", ms(100), || weak.strong_count() == 0).await;
}
