//! Admission: whether work gets in, decided once, by predicted finish time and estimated bytes against what there is.
//!
//! Work that is predicted to finish before its deadline is queued, as long as the mean wait stays near its target: a
//! burst may fill the queue up to the deadline, a lasting overload may not keep it full (as CoDel tells a good queue from
//! a bad one: Nichols and Jacobson, ACM Queue 10(5), 2012).

use std::time::Duration;

use tutti_base::Tick;

/// What admission is bounded by.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// CPU milliseconds that jobs get a millisecond.
    pub cpu: f64,
    /// Bytes that all admitted jobs may use together.
    pub bytes: u64,
    /// Jobs that may be admitted at once, running or waiting.
    pub jobs: usize,
    /// The mean wait that a lasting load may cause.
    pub target_wait: Duration,
}

/// In a lasting overload the queue is kept this many target waits long: short enough to answer soon, long enough that
/// no engine ever waits for work.
const OVERLOAD_TARGETS: f64 = 2.0;
/// A cheaper rung may wait this much longer than full work, so that in an overload the places go to cheap work.
const CHEAPER_ALLOWANCE: f64 = 1.5;
/// Over how long the mean wait is taken.
const MEAN_OVER: Duration = Duration::from_secs(1);

/// What a job is asked to be admitted with.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Load {
    /// Predicted CPU time in ms.
    pub cpu_ms: f64,
    /// Estimated bytes.
    pub bytes: u64,
    /// What is left until its deadline.
    pub left: Duration,
    /// Whether it is a cheaper rung.
    pub cheaper: bool,
}

/// Admitted work; hand it back to [`Admission::finish`].
#[derive(Debug, PartialEq)]
#[must_use = "a ticket that is not handed back holds its place for ever"]
pub struct Ticket {
    cpu_ms: f64,
    bytes: u64,
}

/// What was decided.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It gets in.
    Admit(Ticket),
    /// It does not.
    Short(Shortage),
}

/// What there is not enough of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shortage {
    /// It would not finish before its deadline, or waits are too long already.
    Cpu,
    /// The bytes are used up.
    Memory,
    /// There are too many jobs.
    Jobs,
}

impl Shortage {
    /// The label in `tutti_admission_shed_total`.
    pub const fn word(self) -> &'static str {
        match self {
            Shortage::Cpu => "cpu",
            Shortage::Memory => "memory",
            Shortage::Jobs => "jobs",
        }
    }
}

/// The state of admission on one machine.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    backlog_ms: f64,
    bytes: u64,
    jobs: usize,
    mean_wait_ms: f64,
    seen: Tick,
    /// What other nodes give to jobs, in CPU ms a ms, and the work that they have from elsewhere.
    others_cpu: f64,
    others_backlog_ms: f64,
}

impl Admission {
    /// Nothing admitted yet.
    pub fn new(limits: Limits, now: Tick) -> Self {
        Self {
            limits,
            backlog_ms: 0.0,
            bytes: 0,
            jobs: 0,
            mean_wait_ms: 0.0,
            seen: now,
            others_cpu: 0.0,
            others_backlog_ms: 0.0,
        }
    }

    /// Decides whether `load` gets in at `now`.
    pub fn decide(&mut self, load: Load, now: Tick) -> Verdict {
        self.pass_time(now);
        if self.jobs >= self.limits.jobs {
            return Verdict::Short(Shortage::Jobs);
        }
        if let Some(shortage) = self.shortage(load) {
            return Verdict::Short(shortage);
        }
        self.jobs += 1;
        self.backlog_ms += load.cpu_ms;
        self.bytes += load.bytes;
        Verdict::Admit(Ticket { cpu_ms: load.cpu_ms, bytes: load.bytes })
    }

    /// Corrects admitted work when its cost is known better. On a shortage the ticket comes back as it was.
    pub fn correct(&mut self, ticket: Ticket, load: Load, now: Tick) -> Result<Ticket, (Ticket, Shortage)> {
        self.pass_time(now);
        self.backlog_ms = (self.backlog_ms - ticket.cpu_ms).max(0.0);
        self.bytes = self.bytes.saturating_sub(ticket.bytes);
        // It has its place already: a wait that grew since does not throw it out, only what would miss the deadline.
        let verdict = self.misses_deadline(load).or_else(|| self.memory(load));
        let kept = if verdict.is_some() { ticket } else { Ticket { cpu_ms: load.cpu_ms, bytes: load.bytes } };
        self.backlog_ms += kept.cpu_ms;
        self.bytes += kept.bytes;
        match verdict {
            None => Ok(kept),
            Some(shortage) => Err((kept, shortage)),
        }
    }

    /// Takes back the place of work that has ended, however it ended.
    pub fn finish(&mut self, ticket: Ticket, now: Tick) {
        self.pass_time(now);
        self.jobs = self.jobs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(ticket.bytes);
        self.backlog_ms = if self.jobs == 0 { 0.0 } else { (self.backlog_ms - ticket.cpu_ms).max(0.0) };
    }

    /// How long work admitted now would wait.
    pub fn wait(&self) -> Duration {
        Duration::from_secs_f64(self.wait_ms() / 1000.0)
    }

    /// The mean wait over the last second or so.
    pub fn mean_wait(&self) -> Duration {
        Duration::from_secs_f64(self.mean_wait_ms / 1000.0)
    }

    /// How long a refused client should stay away: the backlog, and at least a second.
    pub fn retry_after(&self) -> Duration {
        Duration::from_secs(self.wait().as_secs().max(1))
    }

    /// Jobs admitted, and their estimated bytes.
    pub fn admitted(&self) -> (usize, u64) {
        (self.jobs, self.bytes)
    }

    /// Notes what other nodes give to jobs, in CPU ms a ms, and the work that they have from elsewhere, in CPU ms: what
    /// is admitted here may run there.
    pub fn note_others(&mut self, cpu: f64, backlog_ms: f64) {
        self.others_cpu = cpu.max(0.0);
        self.others_backlog_ms = backlog_ms.max(0.0);
    }

    /// How long the work of all nodes keeps them busy, in ms.
    fn wait_ms(&self) -> f64 {
        (self.backlog_ms + self.others_backlog_ms) / (self.limits.cpu + self.others_cpu)
    }

    /// Bytes that jobs may use together, here and on the others, taken to have as much for each core.
    fn bytes_limit(&self) -> u64 {
        (self.limits.bytes as f64 * (1.0 + self.others_cpu / self.limits.cpu)) as u64
    }

    /// Changes the limits; what is admitted stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    fn shortage(&self, load: Load) -> Option<Shortage> {
        self.misses_deadline(load).or_else(|| self.memory(load)).or_else(|| {
            let target_ms = self.limits.target_wait.as_secs_f64() * 1000.0;
            let allowance = if load.cheaper { CHEAPER_ALLOWANCE } else { 1.0 };
            let wait_ms = self.wait_ms();
            let lasting = self.mean_wait_ms > target_ms;
            (lasting && wait_ms > target_ms * OVERLOAD_TARGETS * allowance).then_some(Shortage::Cpu)
        })
    }

    /// A job that meets an idle machine runs at once and at full speed: predictions do not keep it out.
    fn misses_deadline(&self, load: Load) -> Option<Shortage> {
        if self.backlog_ms + self.others_backlog_ms <= 0.0 {
            return None;
        }
        let finish_ms = self.wait_ms() + load.cpu_ms;
        (finish_ms > load.left.as_secs_f64() * 1000.0).then_some(Shortage::Cpu)
    }

    fn memory(&self, load: Load) -> Option<Shortage> {
        (self.bytes.saturating_add(load.bytes) > self.bytes_limit()).then_some(Shortage::Memory)
    }

    /// The mean follows the wait with time, not with the number of arrivals: a burst passes before it moves.
    fn pass_time(&mut self, now: Tick) {
        let passed = now.since(self.seen).as_secs_f64() / MEAN_OVER.as_secs_f64();
        self.seen = self.seen.max(now);
        let wait_ms = self.wait_ms();
        self.mean_wait_ms += (wait_ms - self.mean_wait_ms) * (1.0 - (-passed).exp());
    }
}

#[cfg(test)]
mod tests;
