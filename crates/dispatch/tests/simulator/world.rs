//! The simulated world: fronts and nodes, messages that take time, in virtual time and by seed. Asserts nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use tutti_base::rng::SplitMix;
use tutti_dispatch::{Outcome, Policy, SentId};

use crate::draw::{exponential, log_normal};
use crate::front::{Chooser, Deed, Front, tick};
use crate::node::{Job, Node, Report};

/// What comes in: draws (class, ms on a standard core).
pub(crate) type Draw = fn(&mut SplitMix) -> (&'static str, f64);

/// What is simulated.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) fronts: usize,
    /// (permits, how many times slower, when it joins in ms) by node.
    pub(crate) nodes: Vec<(usize, f64, f64)>,
    pub(crate) chooser: Chooser,
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) draw: Draw,
    /// Deviation of the logarithm of predicted by true cost.
    pub(crate) error: f64,
    pub(crate) end_ms: f64,
    pub(crate) hint_ms: f64,
    /// Answers carry a report.
    pub(crate) piggyback: bool,
    /// No report is heard from then to then.
    pub(crate) frozen: (f64, f64),
    /// This node answers errors at once from then on.
    pub(crate) failing: Option<(usize, f64)>,
    /// Round trip between a front and a node.
    pub(crate) rtt_ms: f64,
}

impl Scenario {
    pub(crate) fn of(nodes: Vec<(usize, f64, f64)>, draw: Draw) -> Self {
        Self {
            fronts: 3,
            nodes,
            chooser: Chooser::Tutti(Policy::Predicted),
            rate: 0.0,
            draw,
            error: 0.2,
            end_ms: 60_000.0,
            hint_ms: 200.0,
            piggyback: true,
            frozen: (f64::INFINITY, f64::INFINITY),
            failing: None,
            rtt_ms: 0.3,
        }
    }

    /// Sets the rate so that all nodes together are loaded by `load`.
    pub(crate) fn loaded(mut self, load: f64) -> Self {
        let mut rng = SplitMix::new(77);
        let mean = (0..200_000).map(|_| (self.draw)(&mut rng).1).sum::<f64>() / 200_000.0;
        let cores: f64 = self.nodes.iter().map(|(permits, slow, _)| *permits as f64 / slow).sum();
        self.rate = load * cores * 1000.0 / mean;
        self
    }
}

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) arrived: f64,
    pub(crate) took_ms: f64,
    pub(crate) node: usize,
    pub(crate) true_ms: f64,
    pub(crate) small: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) answers: Vec<Answer>,
    /// (when, to which node) of everything sent.
    pub(crate) sent: Vec<(f64, usize)>,
    pub(crate) failed: usize,
    pub(crate) bounced: usize,
    /// Jobs on each node, looked at every 100 ms.
    pub(crate) queues: Vec<Vec<usize>>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Arrive,
    Burst(usize),
    AtNode {
        node: usize,
        front: usize,
        job: Job,
        sent: Option<SentId>,
    },
    Turn {
        node: usize,
        generation: u64,
    },
    Back {
        node: usize,
        front: usize,
        job: Job,
        sent: Option<SentId>,
        outcome: Outcome,
        report: Option<Report>,
    },
    Emit(usize),
    Hint {
        node: usize,
        front: usize,
        report: Report,
    },
    Look,
}

pub(crate) struct World {
    scenario: Scenario,
    pub(crate) nodes: Vec<Node>,
    fronts: Vec<Front>,
    /// Who asked for a job that a node has.
    asked: BTreeMap<usize, (usize, Option<SentId>)>,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    number: u64,
    now: f64,
    rng: SplitMix,
    made: usize,
    outcomes: Outcomes,
}

impl World {
    pub(crate) fn new(scenario: Scenario, seed: u64) -> Self {
        let permits: Vec<usize> = scenario.nodes.iter().map(|node| node.0).collect();
        let front = |at: usize| {
            Front::new(scenario.chooser, permits.clone(), scenario.rtt_ms, seed * 1000 + at as u64)
        };
        let mut world = Self {
            nodes: scenario.nodes.iter().map(|(permits, slow, _)| Node::new(*permits, *slow)).collect(),
            fronts: (0..scenario.fronts).map(front).collect(),
            scenario,
            asked: BTreeMap::new(),
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            number: 0,
            now: 0.0,
            rng: SplitMix::new(seed),
            made: 0,
            outcomes: Outcomes::default(),
        };
        let period = world.scenario.hint_ms;
        for node in 0..world.nodes.len() {
            let joins = world.scenario.nodes[node].2;
            // Those that are there from the start are known before the first request.
            let first = if joins > 0.0 { joins } else { node as f64 / 100.0 };
            world.at(first, Event::Emit(node));
            world.at(first + period * (node as f64 + 0.5) / world.nodes.len() as f64, Event::Emit(node));
        }
        if world.scenario.rate > 0.0 {
            world.at(10.0, Event::Arrive);
        }
        world.at(100.0, Event::Look);
        world
    }

    /// Lets `count` requests come to the first front, evenly from `from` over `over_ms`.
    pub(crate) fn burst(&mut self, count: usize, from: f64, over_ms: f64) {
        (0..count).for_each(|n| self.at(from + over_ms * n as f64 / count as f64, Event::Burst(0)));
    }

    /// Runs to the end of the scenario, and then until all is answered.
    pub(crate) fn run(mut self) -> Outcomes {
        while let Some(Reverse((at, number))) = self.heap.pop() {
            self.now = at as f64 / 1e6;
            let event = self.events.remove(&number).expect("what is on the heap is an event");
            self.happen(event);
        }
        self.outcomes
    }

    fn at(&mut self, when: f64, event: Event) {
        self.number += 1;
        self.heap.push(Reverse(((when * 1e6).ceil() as u64, self.number)));
        self.events.insert(self.number, event);
    }

    fn is_over(&self) -> bool {
        self.now >= self.scenario.end_ms
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Burst(front) => self.ask_new(front),
            Event::AtNode { node, front, job, sent } => self.at_node(node, front, job, sent),
            Event::Turn { node, generation } => self.turn(node, generation),
            Event::Back { node, front, job, sent, outcome, report } => {
                if let Some(report) = report.filter(|_| !self.is_frozen()) {
                    self.fronts[front].hear(node, report, self.now);
                }
                self.back(node, front, job, sent, outcome);
            }
            Event::Emit(node) => self.emit(node),
            Event::Hint { node, front, report } => {
                if !self.is_frozen() {
                    self.fronts[front].hear(node, report, self.now);
                }
                self.wake(front);
            }
            Event::Look => self.look(),
        }
    }

    fn is_frozen(&self) -> bool {
        (self.scenario.frozen.0..self.scenario.frozen.1).contains(&self.now)
    }

    fn arrive(&mut self) {
        let front = (crate::draw::unit(&mut self.rng) * self.fronts.len() as f64) as usize;
        self.ask_new(front);
        let next = self.now + exponential(1000.0 / self.scenario.rate, &mut self.rng);
        if next < self.scenario.end_ms {
            self.at(next, Event::Arrive);
        }
    }

    fn ask_new(&mut self, front: usize) {
        let (class, true_ms) = (self.scenario.draw)(&mut self.rng);
        let predicted_ms = true_ms * log_normal(self.scenario.error, &mut self.rng);
        self.made += 1;
        self.ask(front, Job { id: self.made, class, arrived: self.now, true_ms, predicted_ms });
    }

    fn ask(&mut self, front: usize, job: Job) {
        if let Some(deed) = self.fronts[front].ask(job, self.now) {
            self.act(front, deed);
        }
    }

    fn wake(&mut self, front: usize) {
        for deed in self.fronts[front].wake(self.now) {
            self.act(front, deed);
        }
    }

    fn act(&mut self, front: usize, deed: Deed) {
        match deed {
            Deed::Send { node, job, sent } => {
                self.outcomes.sent.push((self.now, node));
                self.at(self.now + self.scenario.rtt_ms / 2.0, Event::AtNode { node, front, job, sent });
            }
            Deed::Fail => self.outcomes.failed += 1,
        }
    }

    fn at_node(&mut self, node: usize, front: usize, job: Job, sent: Option<SentId>) {
        if self.scenario.failing.is_some_and(|(failing, from)| failing == node && self.now >= from) {
            self.answer(node, front, job, sent, Outcome::Failed { retry_after: None });
            return;
        }
        // The strawman knows no places: its nodes queue whatever comes.
        let accepted = match sent {
            Some(_) => self.nodes[node].accept(job, self.now),
            None => {
                self.nodes[node].queue(job, self.now);
                true
            }
        };
        if accepted {
            self.asked.insert(job.id, (front, sent));
            self.plan(node);
        } else {
            self.answer(node, front, job, sent, Outcome::Full);
        }
    }

    fn turn(&mut self, node: usize, generation: u64) {
        if self.nodes[node].generation != generation {
            return;
        }
        for (job, measured_ms) in self.nodes[node].finish(self.now) {
            let (front, sent) = self.asked.remove(&job.id).expect("a node runs what was asked for");
            self.answer(node, front, job, sent, Outcome::Done { measured_ms });
        }
        self.plan(node);
    }

    fn plan(&mut self, node: usize) {
        if let Some(next) = self.nodes[node].next() {
            let generation = self.nodes[node].generation;
            self.at(next.max(self.now), Event::Turn { node, generation });
        }
    }

    fn answer(&mut self, node: usize, front: usize, job: Job, sent: Option<SentId>, outcome: Outcome) {
        let report = self.scenario.piggyback.then(|| self.nodes[node].report(self.now));
        let event = Event::Back { node, front, job, sent, outcome, report };
        self.at(self.now + self.scenario.rtt_ms / 2.0, event);
    }

    fn back(&mut self, node: usize, front: usize, job: Job, sent: Option<SentId>, outcome: Outcome) {
        if let Some(sent) = sent {
            self.fronts[front].dispatcher.ended(sent, outcome, tick(self.now));
        }
        match outcome {
            Outcome::Done { .. } => self.outcomes.answers.push(Answer {
                arrived: job.arrived,
                took_ms: self.now - job.arrived,
                node,
                true_ms: job.true_ms,
                small: job.is_small(),
            }),
            Outcome::Full => {
                self.outcomes.bounced += 1;
                self.ask(front, job);
            }
            Outcome::Failed { .. } if self.fronts[front].may_retry(job.id, node, self.now) => {
                self.ask(front, job)
            }
            Outcome::Failed { .. } | Outcome::Cancelled => self.outcomes.failed += 1,
        }
        self.wake(front);
    }

    fn emit(&mut self, node: usize) {
        let report = self.nodes[node].report(self.now);
        for front in 0..self.fronts.len() {
            self.at(self.now + self.scenario.rtt_ms / 2.0, Event::Hint { node, front, report });
        }
        // Each node has two hints at the start; one of them goes on.
        if (!self.is_over() || !self.asked.is_empty()) && report.sequence != 1 {
            self.at(self.now + self.scenario.hint_ms, Event::Emit(node));
        }
    }

    fn look(&mut self) {
        self.outcomes.queues.push(self.nodes.iter().map(Node::jobs).collect());
        if !self.is_over() {
            self.at(self.now + 100.0, Event::Look);
        }
    }
}
