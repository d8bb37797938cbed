//! A simulated node: cores shared by running jobs, permits, a small lane, two queues, and the reports it writes.

use std::collections::VecDeque;

/// A job on its way through the simulation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) id: usize,
    pub(crate) class: &'static str,
    pub(crate) arrived: f64,
    /// What it really takes on a standard core, in ms.
    pub(crate) true_ms: f64,
    /// What the fronts and nodes think that it takes.
    pub(crate) predicted_ms: f64,
}

impl Job {
    pub(crate) fn is_small(&self) -> bool {
        self.predicted_ms < tutti_dispatch::job::SMALL_MS
    }
}

/// A report as it was written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    pub(crate) sequence: u64,
    pub(crate) jobs: u16,
    pub(crate) backlog_ms: f64,
    pub(crate) used_pct: u8,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    job: Job,
    /// Of a local core, in ms.
    left_ms: f64,
    done_ms: f64,
    rate: f64,
}

/// One node: as many permits as cores, and one more for a small job; small jobs go first, and heavy ones are niced.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) permits: usize,
    /// How many times longer everything takes here.
    pub(crate) slow: f64,
    /// Permits that local work of its own holds all the time.
    pub(crate) busy: usize,
    running: Vec<Running>,
    small: VecDeque<Job>,
    heavy: VecDeque<Job>,
    at: f64,
    sequence: u64,
    used: f64,
    pub(crate) generation: u64,
}

impl Node {
    pub(crate) fn new(permits: usize, slow: f64) -> Self {
        Self {
            permits,
            slow,
            busy: 0,
            running: Vec::new(),
            small: VecDeque::new(),
            heavy: VecDeque::new(),
            at: 0.0,
            sequence: 0,
            used: 0.0,
            generation: 0,
        }
    }

    pub(crate) fn jobs(&self) -> usize {
        self.running.len() + self.small.len() + self.heavy.len() + self.busy
    }

    /// Takes a job in, however many there are.
    pub(crate) fn queue(&mut self, job: Job, now: f64) {
        self.pass(now);
        if job.is_small() {
            self.small.push_back(job)
        } else {
            self.heavy.push_back(job)
        }
        self.start();
    }

    /// Takes a job in, unless it has all that it should have.
    pub(crate) fn accept(&mut self, job: Job, now: f64) -> bool {
        let of_size = |is: bool| self.running.iter().filter(|r| r.job.is_small() == is).count();
        let fits = if job.is_small() {
            of_size(true) + self.small.len() < self.permits + 4
        } else {
            of_size(false) + self.heavy.len() + self.busy < self.permits + 1
        };
        if fits {
            self.queue(job, now);
        }
        fits
    }

    /// Works until `now`, and hands over what has finished: (job, CPU ms that it took).
    pub(crate) fn finish(&mut self, now: f64) -> Vec<(Job, f64)> {
        self.pass(now);
        let done = self.running.iter().filter(|r| r.left_ms <= 1e-6).map(|r| (r.job, r.done_ms)).collect();
        self.running.retain(|r| r.left_ms > 1e-6);
        self.start();
        done
    }

    /// When the next job finishes, as things are.
    pub(crate) fn next(&self) -> Option<f64> {
        let rest = self.running.iter().filter(|r| r.rate > 0.0).map(|r| r.left_ms / r.rate);
        rest.min_by(f64::total_cmp).map(|ms| self.at + ms)
    }

    pub(crate) fn report(&mut self, now: f64) -> Report {
        self.pass(now);
        self.sequence += 1;
        let running = self.running.iter().map(|r| {
            let expected = r.job.predicted_ms * self.slow;
            (expected - r.done_ms).max(expected * 0.1)
        });
        let waiting = self.small.iter().chain(&self.heavy).map(|job| job.predicted_ms * self.slow);
        Report {
            sequence: self.sequence,
            jobs: self.jobs() as u16,
            backlog_ms: running.chain(waiting).sum::<f64>() + self.busy as f64 * 1000.0,
            used_pct: (self.used * 100.0) as u8,
        }
    }

    fn pass(&mut self, now: f64) {
        let passed = now - self.at;
        self.at = now;
        let busy =
            (self.running.iter().map(|r| r.rate).sum::<f64>() + self.busy as f64) / self.permits as f64;
        self.used += (busy.min(1.0) - self.used) * (1.0 - (-passed / 1000.0).exp());
        for running in &mut self.running {
            running.left_ms -= passed * running.rate;
            running.done_ms += passed * running.rate;
        }
    }

    fn start(&mut self) {
        loop {
            let small = self.running.iter().filter(|r| r.job.is_small()).count();
            let heavy = self.running.len() - small + self.busy;
            let job = if small + heavy < self.permits + 1 { self.small.pop_front() } else { None };
            let normal = heavy + small.saturating_sub(1);
            let heavy_next = || (normal < self.permits).then_some(());
            let job = job.or_else(|| heavy_next().and_then(|()| self.heavy.pop_front()));
            let Some(job) = job else { break };
            self.running.push(Running { job, left_ms: job.true_ms * self.slow, done_ms: 0.0, rate: 0.0 });
        }
        self.share();
        self.generation += 1;
    }

    /// Small jobs get a core each; what is left is shared by the heavy ones, who are niced.
    fn share(&mut self) {
        let small = self.running.iter().filter(|r| r.job.is_small()).count();
        let heavy = self.running.len() - small + self.busy;
        let cores = self.permits as f64;
        let small_rate = (cores / small.max(1) as f64).min(1.0);
        let left = cores - small_rate * small as f64;
        let heavy_rate = (left / heavy.max(1) as f64).min(1.0);
        for running in &mut self.running {
            running.rate = if running.job.is_small() { small_rate } else { heavy_rate };
        }
    }
}
