//! A network of memberships and hints on virtual time: delays, loss, cuts, pauses, kills, all from one seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tutti_base::rng::{Rng, SplitMix};
use tutti_base::{Load, NodeId, NodeState, Tick};
use tutti_cluster::hints::Hints;
use tutti_cluster::membership::{Duty, LinkChange, Membership, MembershipEvent, Way};

/// Headers and encryption of one message, as the budget counts them.
const OVERHEAD: u64 = 60;
/// The run of every node that did not start again.
pub(crate) const FIRST_RUN: u64 = 1_000_000;
const HINTS_EVERY: Duration = Duration::from_millis(50);
const REDIAL_EVERY: Duration = Duration::from_millis(200);

pub(crate) fn ms(span: u64) -> Duration {
    Duration::from_millis(span)
}

#[derive(Clone)]
enum Event {
    Tick,
    HintTick,
    Gossip(NodeId, Way, Bytes),
    Hint(NodeId, Bytes),
    Link(NodeId, LinkChange),
}

pub(crate) struct Node {
    pub(crate) membership: Membership,
    pub(crate) hints: Hints,
    pub(crate) load: Option<Load>,
    life: u64,
    state: Life,
    waiting: VecDeque<Event>,
}

#[derive(Clone, Copy, PartialEq)]
enum Life {
    Runs,
    Paused,
    Dead,
}

/// How the network is.
#[derive(Clone)]
pub(crate) struct Weather {
    pub(crate) datagram_loss_pct: u64,
    pub(crate) cast_loss_pct: u64,
    pub(crate) delay_us: (u64, u64),
    /// Whether control links stand and tell of their coming and going.
    pub(crate) links: bool,
}

impl Default for Weather {
    fn default() -> Self {
        Self { datagram_loss_pct: 0, cast_loss_pct: 0, delay_us: (50, 500), links: true }
    }
}

pub(crate) struct Sim {
    pub(crate) now: Tick,
    pub(crate) weather: Weather,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    /// What every observer saw.
    pub(crate) log: Vec<(Tick, NodeId, MembershipEvent)>,
    /// Bytes that each node sent, gossip and hints, framing included.
    pub(crate) sent: BTreeMap<NodeId, (u64, u64)>,
    pub(crate) refused: u64,
    /// Packets of the gossip that went over links.
    pub(crate) by_link: u64,
    cut: BTreeSet<(NodeId, NodeId)>,
    queue: BTreeMap<(Tick, u64), (NodeId, u64, Event)>,
    order: u64,
    rng: SplitMix,
    roster: BTreeMap<NodeId, Duty>,
}

pub(crate) fn id(number: u64) -> NodeId {
    NodeId(number)
}

impl Sim {
    /// `size` nodes, 1 to `size`, that know the roster and nothing else.
    pub(crate) fn new(seed: u64, size: u64, weather: Weather) -> Self {
        let mut sim = Self {
            now: Tick(0),
            weather,
            nodes: BTreeMap::new(),
            log: Vec::new(),
            sent: BTreeMap::new(),
            refused: 0,
            by_link: 0,
            cut: BTreeSet::new(),
            queue: BTreeMap::new(),
            order: 0,
            rng: SplitMix::new(seed),
            roster: (1..=size).map(|number| (id(number), Duty::Serving)).collect(),
        };
        (1..=size).for_each(|number| sim.start(id(number), FIRST_RUN));
        sim
    }

    /// The same, after all have seen each other.
    pub(crate) fn settled(seed: u64, size: u64, weather: Weather) -> Self {
        let mut sim = Self::new(seed, size, Weather { datagram_loss_pct: 0, ..weather.clone() });
        assert!(sim.run_until(ms(5000), Sim::all_up).is_some(), "seed {seed}: not all up: {:?}", sim.log);
        let phase = ms(sim.rng.below(1000));
        sim.run(phase);
        sim.weather = weather;
        sim.log.clear();
        sim
    }

    /// Starts a node in the run `run`, or starts it anew.
    pub(crate) fn start(&mut self, node: NodeId, run: u64) {
        let life = self.nodes.get(&node).map_or(0, |before| before.life + 1);
        let mut rng = || Box::new(SplitMix::new(self.rng.next()));
        let mut membership = Membership::new(node, run, rng(), self.now);
        let mut hints = Hints::new(run, "0.1.0", rng(), self.now);
        let others: BTreeSet<NodeId> = self.roster.keys().copied().filter(|other| *other != node).collect();
        hints.set_members(self.now, others.clone(), &others);
        membership.set_roster(self.now, &self.roster).unwrap();
        let started = Node {
            membership,
            hints,
            load: Some(Load::default()),
            life,
            state: Life::Runs,
            waiting: VecDeque::new(),
        };
        self.nodes.insert(node, started);
        let (first, later) = (self.rng.below(50_000), self.rng.below(50_000));
        self.put(Duration::from_micros(first), node, Event::Tick);
        self.put(Duration::from_micros(later), node, Event::HintTick);
        if self.weather.links {
            let there: Vec<NodeId> =
                others.into_iter().filter(|other| self.nodes.contains_key(other)).collect();
            for other in there {
                self.put(ms(1), node, Event::Link(other, LinkChange::Connected));
                self.put(ms(1), other, Event::Link(node, LinkChange::Connected));
            }
        }
        self.flush(node);
    }

    fn put(&mut self, after: Duration, node: NodeId, event: Event) {
        let Some(life) = self.nodes.get(&node).map(|node| node.life) else { return };
        self.order += 1;
        self.queue.insert((self.now + after, self.order), (node, life, event));
    }

    /// Every process of the node is gone: its links break, and its machine refuses new ones.
    pub(crate) fn kill(&mut self, node: NodeId) {
        self.nodes.get_mut(&node).unwrap().state = Life::Dead;
        if !self.weather.links {
            return;
        }
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|other| *other != node).collect();
        for other in others {
            self.put(ms(1), other, Event::Link(node, LinkChange::Broken));
            self.put(ms(1) + REDIAL_EVERY, other, Event::Link(node, LinkChange::Refused));
        }
    }

    /// The machine is gone: nothing tells of it.
    pub(crate) fn vanish(&mut self, node: NodeId) {
        self.nodes.get_mut(&node).unwrap().state = Life::Dead;
    }

    /// Stops the process (SIGSTOP); the kernel keeps what arrives.
    pub(crate) fn pause(&mut self, node: NodeId) {
        self.nodes.get_mut(&node).unwrap().state = Life::Paused;
    }

    /// Lets it go on. What waited is handled at once, the late tick first: the worst order.
    pub(crate) fn resume(&mut self, node: NodeId) {
        let paused = self.nodes.get_mut(&node).unwrap();
        paused.state = Life::Runs;
        let mut waiting: Vec<Event> = paused.waiting.drain(..).collect();
        waiting.sort_by_key(|event| !matches!(event, Event::Tick));
        waiting.into_iter().for_each(|event| self.handle(node, event));
    }

    /// Nothing goes from `from` to `to` any more.
    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// All cuts are gone.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Gives every node that runs another roster.
    pub(crate) fn set_roster(&mut self, roster: BTreeMap<NodeId, Duty>) {
        let now = self.now;
        for node in self.nodes.values_mut() {
            node.membership.set_roster(now, &roster).unwrap();
        }
        self.roster = roster;
        self.flush_all();
    }

    /// Does something to one node.
    pub(crate) fn with(&mut self, node: NodeId, work: impl FnOnce(&mut Node, Tick)) {
        let now = self.now;
        work(self.nodes.get_mut(&node).unwrap(), now);
        self.flush(node);
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(first) = self.queue.first_entry().filter(|first| first.key().0 <= end) {
            let at = first.key().0;
            let (node, life, event) = first.remove();
            self.now = at;
            self.dispatch(node, life, event);
        }
        self.now = end;
    }

    /// Runs until `done`, at most for `span`; how long it took, to the millisecond.
    pub(crate) fn run_until(&mut self, span: Duration, done: impl Fn(&Sim) -> bool) -> Option<Duration> {
        let start = self.now;
        while !done(self) {
            if self.now.since(start) >= span {
                return None;
            }
            self.run(ms(1));
        }
        Some(self.now.since(start))
    }

    fn dispatch(&mut self, node: NodeId, life: u64, event: Event) {
        let Some(target) = self.nodes.get_mut(&node).filter(|target| target.life == life) else { return };
        match target.state {
            Life::Dead => {}
            Life::Paused => target.waiting.push_back(event),
            Life::Runs => self.handle(node, event),
        }
    }

    fn handle(&mut self, node: NodeId, event: Event) {
        let now = self.now;
        let target = self.nodes.get_mut(&node).expect("an event of a node that is there");
        match event {
            Event::Tick => {
                let next = target.membership.tick(now);
                // A runtime's timer is a little late.
                let late = Duration::from_micros(self.rng.below(1500));
                self.put(next.since(now) + late, node, Event::Tick);
            }
            Event::HintTick => {
                let load = target.load.clone();
                load.into_iter().for_each(|load| target.hints.set_own(load));
                target.hints.tick(now);
                self.put(HINTS_EVERY, node, Event::HintTick);
            }
            Event::Gossip(from, way, bytes) => {
                self.refused += u64::from(target.membership.packet(now, from, way, &bytes).is_err());
            }
            Event::Hint(from, bytes) => {
                self.refused += u64::from(target.hints.hear(now, from, &bytes).is_err())
            }
            Event::Link(peer, change) => {
                target.membership.link(now, peer, change);
                if change == LinkChange::Connected {
                    target.hints.connected(now, peer);
                }
            }
        }
        self.flush(node);
    }

    fn flush_all(&mut self) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.flush(node));
    }

    fn flush(&mut self, node: NodeId) {
        let now = self.now;
        let source = self.nodes.get_mut(&node).expect("a node that is there");
        let (packets, hints) = (source.membership.take_sends(), source.hints.take_sends());
        let events = source.membership.take_events();
        if source.state == Life::Dead {
            return;
        }
        self.log.extend(events.into_iter().map(|event| (now, node, event)));
        for packet in packets {
            let size = packet.bytes.len() as u64 + OVERHEAD;
            for way in [Way::Datagram, Way::Link] {
                if packet.way == way || packet.way == Way::Both {
                    self.sent.entry(node).or_default().0 += size;
                    self.by_link += u64::from(way == Way::Link);
                    self.carry(node, packet.to, way, Event::Gossip(node, way, packet.bytes.clone()));
                }
            }
        }
        for (to, bytes) in hints {
            self.sent.entry(node).or_default().1 += bytes.len() as u64 + OVERHEAD;
            self.carry(node, to, Way::Link, Event::Hint(node, bytes));
        }
    }

    fn carry(&mut self, from: NodeId, to: NodeId, way: Way, event: Event) {
        let loss =
            if way == Way::Datagram { self.weather.datagram_loss_pct } else { self.weather.cast_loss_pct };
        if self.cut.contains(&(from, to)) || self.rng.below(100) < loss {
            return;
        }
        let (least, most) = self.weather.delay_us;
        let delay = least + self.rng.below(most - least + 1);
        self.put(Duration::from_micros(delay), to, event);
    }

    pub(crate) fn state(&self, observer: NodeId, node: NodeId) -> Option<NodeState> {
        self.nodes[&observer].membership.state(node)
    }

    fn running(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().filter(|(_, node)| node.state == Life::Runs).map(|(id, _)| *id)
    }

    /// Whether all that run see all others in `state`.
    pub(crate) fn all_see(&self, node: NodeId, state: NodeState) -> bool {
        self.running()
            .filter(|observer| *observer != node)
            .all(|observer| self.state(observer, node) == Some(state))
    }

    /// Whether all that run see all of the roster up.
    pub(crate) fn all_up(&self) -> bool {
        self.roster.keys().all(|node| self.all_see(*node, NodeState::Up))
    }

    /// How often a node was seen in `state` by another, apart from those `but`.
    pub(crate) fn seen(&self, state: NodeState, but: &[NodeId]) -> usize {
        let counts = |(_, _, event): &&(Tick, NodeId, MembershipEvent)| {
            event.to == Some(state) && !but.contains(&event.node)
        };
        self.log.iter().filter(counts).count()
    }
}
