//! A simulated front: the production dispatcher, the reports it has, and the work it waits for. Chooses nothing itself.

use std::collections::BTreeMap;
use std::time::Duration;

use tutti_base::rng::SplitMix;
use tutti_base::{NodeId, NodeState, Tick};
use tutti_dispatch::{Candidate, Dispatcher, JobAsk, Offer, Policy, SentId, WaitTicket};

use crate::draw::unit;
use crate::node::{Job, Report};

pub(crate) fn tick(ms: f64) -> Tick {
    // Not 0: no moment is before the start.
    Tick((1e9 + ms * 1e6) as u64)
}

/// How a front chooses.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Chooser {
    /// By the code under test.
    Tutti(Policy),
    /// By lot, with tickets by the queues of the last reports alone: what SOSP 1997 began with.
    LastReports,
}

/// What a front wants done.
#[derive(Debug)]
pub(crate) enum Deed {
    Send { node: usize, job: Job, sent: Option<SentId> },
    Fail,
}

#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) dispatcher: Dispatcher,
    chooser: Chooser,
    /// (report, when it was heard) by node; none for nodes that are not members yet.
    known: Vec<Option<(Report, f64)>>,
    rng: SplitMix,
    waiting: BTreeMap<WaitTicket, Job>,
    tried: BTreeMap<usize, Vec<NodeId>>,
    permits: Vec<usize>,
    rtt_ms: f64,
}

impl Front {
    pub(crate) fn new(chooser: Chooser, permits: Vec<usize>, rtt_ms: f64, seed: u64) -> Self {
        Self {
            dispatcher: Dispatcher::new(),
            chooser,
            known: vec![None; permits.len()],
            rng: SplitMix::new(seed),
            waiting: BTreeMap::new(),
            tried: BTreeMap::new(),
            permits,
            rtt_ms,
        }
    }

    pub(crate) fn hear(&mut self, node: usize, report: Report, now: f64) {
        let newer = self.known[node].is_none_or(|(known, _)| known.sequence < report.sequence);
        if newer {
            self.known[node] = Some((report, now));
        }
    }

    pub(crate) fn candidates(&self, now: f64) -> Vec<Candidate> {
        let known = self.known.iter().enumerate().filter_map(|(node, known)| Some((node, (*known)?)));
        known.map(|(node, (report, heard))| self.candidate(node, report, now - heard)).collect()
    }

    fn candidate(&self, node: usize, report: Report, age_ms: f64) -> Candidate {
        Candidate {
            node: NodeId(node as u64 + 1),
            is_me: false,
            state: NodeState::Up,
            sequence: report.sequence,
            age: Duration::from_secs_f64(age_ms / 1000.0),
            cpu: self.permits[node] as f64 * 1000.0,
            permits: self.permits[node] as u16,
            jobs: report.jobs,
            backlog_ms: report.backlog_ms,
            used_pct: report.used_pct,
            rtt: Duration::from_secs_f64(self.rtt_ms / 1000.0),
            bytes_per_ms: 125_000.0,
            has_original: 1.0,
            joined_for: Duration::MAX,
            weight: 1.0,
        }
    }

    pub(crate) fn ask(&mut self, job: Job, now: f64) -> Option<Deed> {
        let policy = match self.chooser {
            Chooser::Tutti(policy) => policy,
            Chooser::LastReports => return Some(self.by_last_reports(job)),
        };
        let mut ask = JobAsk::new(job.class, job.predicted_ms, tick(job.arrived + 30_000.0));
        ask.policy = policy;
        ask.key = job.id as u64 % 97;
        ask.tried = self.tried.get(&job.id).cloned().unwrap_or_default();
        let candidates = self.candidates(now);
        match self.dispatcher.offer(ask, &candidates, tick(now), &mut self.rng) {
            Offer::Send { sent, .. } => Some(self.deed(job, sent)),
            Offer::Wait(ticket) => {
                self.waiting.insert(ticket, job);
                None
            }
            Offer::Nowhere(_) => Some(Deed::Fail),
        }
    }

    /// After news: who waits may have a place now.
    pub(crate) fn wake(&mut self, now: f64) -> Vec<Deed> {
        if self.dispatcher.waiting() == 0 {
            return Vec::new();
        }
        let candidates = self.candidates(now);
        let woken = self.dispatcher.wake(&candidates, tick(now), &mut self.rng);
        let deeds = woken.into_iter().map(|(ticket, offer)| {
            let job = self.waiting.remove(&ticket).expect("a ticket is of a job that waits");
            match offer {
                Offer::Send { sent, .. } => self.deed(job, sent),
                Offer::Wait(_) => panic!("who is woken does not wait"),
                Offer::Nowhere(_) => Deed::Fail,
            }
        });
        deeds.collect()
    }

    /// Notes a failure; whether to try again.
    pub(crate) fn may_retry(&mut self, job: usize, node: usize, now: f64) -> bool {
        self.tried.entry(job).or_default().push(NodeId(node as u64 + 1));
        self.dispatcher.may_retry(tick(now))
    }

    fn deed(&self, job: Job, sent: SentId) -> Deed {
        Deed::Send { node: sent.node.0 as usize - 1, job, sent: Some(sent) }
    }

    fn by_last_reports(&mut self, job: Job) -> Deed {
        let tickets = |known: &Option<(Report, f64)>| known.map_or(0.0, |(r, _)| 1.0 / f64::from(r.jobs + 1));
        let all: f64 = self.known.iter().map(tickets).sum();
        let mut left = unit(&mut self.rng) * all;
        let drawn = self.known.iter().position(|known| {
            left -= tickets(known);
            left < 0.0
        });
        Deed::Send { node: drawn.unwrap_or(0), job, sent: None }
    }
}
