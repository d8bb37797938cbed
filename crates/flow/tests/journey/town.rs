//! Several nodes in one process: each a whole journey with caches and engines of its own, over a network that tests hold
//! in their hands. Time is paused; what a call takes is a few simulated milliseconds.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tutti_base::net::SILENT_AFTER;
use tutti_base::{
    BoxFuture, Call, CallError, Evidence, Load, Member, NodeId, NodeState, Nodes, Peers, Reply, Roles, Serve,
    Tick, Topic, View,
};
use tutti_flow::{Answering, Config, Flow};

use crate::world::{Outdoors, Said, World};

/// One way of a message.
const HOP: Duration = Duration::from_millis(1);

/// Who can reach whom, and who is what.
#[derive(Default)]
pub(crate) struct Net {
    flows: Mutex<HashMap<NodeId, Arc<Flow>>>,
    /// Dead nodes: calls to them break at once.
    dead: Mutex<BTreeSet<NodeId>>,
    /// Cut ways, from and to: calls over them are never heard of again.
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    pub(crate) calls: AtomicU64,
    members: Mutex<Vec<(NodeId, &'static str, Roles)>>,
    folders: Mutex<HashMap<NodeId, Vec<String>>>,
    /// Nodes that never said anything of themselves.
    silent: Mutex<BTreeSet<NodeId>>,
}

impl Net {
    fn is_dead(&self, node: NodeId) -> bool {
        self.dead.lock().unwrap().contains(&node)
    }
    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.lock().unwrap().contains(&(from, to))
    }
}

/// One node's way to the others, and its own picture of them.
pub(crate) struct Wire {
    me: NodeId,
    net: Arc<Net>,
    suspects: Mutex<BTreeSet<NodeId>>,
    clock: OnceLock<tokio::time::Instant>,
}

impl Wire {
    fn now(&self) -> Tick {
        Tick(self.clock.get_or_init(tokio::time::Instant::now).elapsed().as_nanos() as u64)
    }

    async fn ask(&self, to: NodeId, call: Call) -> Result<Reply, CallError> {
        self.net.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(HOP).await;
        if self.net.is_dead(to) {
            return Err(CallError::Unreachable(to));
        }
        if self.net.is_cut(self.me, to) || self.net.is_cut(to, self.me) {
            tokio::time::sleep(SILENT_AFTER).await;
            return Err(CallError::Silent(to));
        }
        let flow = Arc::clone(self.net.flows.lock().unwrap().get(&to).expect("it is a member"));
        let within = call.within;
        let answering = Answering(flow).serve(self.me, call);
        let died = async {
            while !self.net.is_dead(to) {
                tokio::time::sleep(HOP).await;
            }
        };
        let answer = tokio::select! {
            answer = answering => answer.map_err(|problem| CallError::Refused(to, Box::new(problem))),
            () = died => Err(CallError::Broken(to)),
            () = tokio::time::sleep(within) => Err(CallError::Late(to)),
        };
        tokio::time::sleep(HOP).await;
        answer
    }
}

impl Peers for Wire {
    fn call(&self, to: NodeId, call: Call) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(self.ask(to, call))
    }
    fn cast(&self, _to: NodeId, _topic: Topic, _head: Bytes) {}
}

impl Nodes for Wire {
    fn view(&self) -> Arc<View> {
        let suspects = self.suspects.lock().unwrap();
        let folders = self.net.folders.lock().unwrap();
        let member = |(id, name, roles): &(NodeId, &'static str, Roles)| Member {
            id: *id,
            name: (*name).into(),
            roles: *roles,
            state: if suspects.contains(id) { NodeState::Suspect } else { NodeState::Up },
            version: "1".into(),
            load: Arc::new(Load {
                sequence: u64::from(!self.net.silent.lock().unwrap().contains(id)),
                cpu: 1000,
                permits: 1,
                cache_mib: 100,
                purge: self.net.flows.lock().unwrap().get(id).map_or(0, |flow| flow.own_purges()),
                folders: folders.get(id).cloned().unwrap_or_default(),
                ..Load::default()
            }),
            heard: self.now(),
            rtt: HOP * 2,
        };
        let members = self.net.members.lock().unwrap().iter().map(member).collect();
        Arc::new(View { me: self.me, generation: 1, members })
    }
    fn note(&self, node: NodeId, evidence: Evidence) {
        let mut suspects = self.suspects.lock().unwrap();
        match evidence {
            Evidence::Failed => suspects.insert(node),
            Evidence::Answered => suspects.remove(&node),
        };
    }
}

/// A cluster.
pub(crate) struct Town {
    pub(crate) net: Arc<Net>,
    pub(crate) nodes: Vec<World>,
    wires: Vec<Arc<Wire>>,
    pub(crate) outdoors: Arc<Outdoors>,
}

const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];

impl Town {
    pub(crate) fn of(count: usize) -> Self {
        Self::with_roles(&vec![Roles::ALL; count])
    }

    pub(crate) fn with_roles(roles: &[Roles]) -> Self {
        Self::with(&roles.iter().map(|roles| (*roles, Config::default())).collect::<Vec<_>>())
    }

    /// Nodes with these roles and bounds.
    pub(crate) fn with(roles: &[(Roles, Config)]) -> Self {
        let (net, outdoors) = (Arc::<Net>::default(), Arc::<Outdoors>::default());
        let id = |at: usize| NodeId(at as u64 + 1);
        let members = roles.iter().enumerate().map(|(at, (roles, _))| (id(at), NAMES[at], *roles));
        *net.members.lock().unwrap() = members.collect();
        let wires: Vec<_> = (0..roles.len())
            .map(|at| {
                let (net, suspects, clock) = (Arc::clone(&net), Mutex::default(), OnceLock::new());
                Arc::new(Wire { me: id(at), net, suspects, clock })
            })
            .collect();
        let node = |at: usize| {
            let wire = Arc::clone(&wires[at]);
            let peers = Arc::<Wire>::clone(&wire);
            World::at(roles[at].1, Arc::clone(&outdoors), peers, wire, NAMES[at])
        };
        let nodes: Vec<_> = (0..roles.len()).map(node).collect();
        for (at, node) in nodes.iter().enumerate() {
            net.flows.lock().unwrap().insert(id(at), Arc::clone(&node.flow));
        }
        Self { net, nodes, wires, outdoors }
    }

    /// Renders of all nodes together.
    pub(crate) fn runs(&self) -> usize {
        self.nodes.iter().map(World::runs).sum()
    }

    /// How often owners were passed over, by all nodes.
    pub(crate) fn passed_over(&self) -> u64 {
        self.nodes.iter().map(|node| count(&node.metrics.text(), "tutti_flow_passed_over_total")).sum()
    }

    pub(crate) async fn ask(&self, at: usize, url: &str) -> Said {
        self.nodes[at].ask(url).await
    }

    pub(crate) fn kill(&self, at: usize) {
        self.net.dead.lock().unwrap().insert(NodeId(at as u64 + 1));
    }

    /// Cuts the way from `from` to `to`, and not back.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.net.cut.lock().unwrap().insert((NodeId(from as u64 + 1), NodeId(to as u64 + 1)));
    }

    /// Cuts `at` off from everyone.
    pub(crate) fn isolate(&self, at: usize) {
        (0..self.nodes.len()).filter(|other| *other != at).for_each(|other| self.cut(at, other));
    }

    pub(crate) fn heal(&self) {
        self.net.cut.lock().unwrap().clear();
        self.wires.iter().for_each(|wire| wire.suspects.lock().unwrap().clear());
    }

    /// Says that the node holds the unnamed folder.
    pub(crate) fn hold_folder(&self, at: usize) {
        self.net.folders.lock().unwrap().insert(NodeId(at as u64 + 1), vec![String::new()]);
    }

    /// The node is away and has never been heard of.
    pub(crate) fn never_heard_of(&self, at: usize) {
        let node = NodeId(at as u64 + 1);
        self.net.silent.lock().unwrap().insert(node);
        self.kill(at);
        for wire in &self.wires {
            wire.suspects.lock().unwrap().insert(node);
        }
    }

    /// Gives the nodes a folder of their own each, which is the unnamed one.
    pub(crate) fn open_folders(&self, nodes: &[usize]) {
        for at in nodes {
            self.hold_folder(*at);
            self.nodes[*at].shelf.hold();
        }
    }

    /// The node is back, as it was.
    pub(crate) fn revive(&self, at: usize) {
        self.net.dead.lock().unwrap().remove(&NodeId(at as u64 + 1));
        self.heal();
    }

    /// The node that makes what is asked for, by the keys of its original.
    pub(crate) fn owners(&self, url: &str) -> Vec<usize> {
        let source = self.nodes[0].plan(url).sources[0].0.prefix();
        let weights: Vec<_> = (1..=self.nodes.len() as u64).map(|id| (NodeId(id), 100.0)).collect();
        tutti_placement::owners(source, &weights, 2).into_iter().map(|node| node.0 as usize - 1).collect()
    }
}

/// The value of a counter without labels.
pub(crate) fn count(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    line.unwrap_or(0.0) as u64
}
