//! The one face of dispatch: offers jobs to nodes, remembers what was sent, and lets wait what has no place. Sends nothing.

use tutti_base::rng::Rng;
use tutti_base::{NodeId, Tick};

use crate::book::{Book, SentId};
use crate::breaker::Way;
use crate::candidate::Candidate;
use crate::estimate::{self, Scene};
use crate::explained::{Explained, Reason};
use crate::job::{JobAsk, Outcome, Size, of_millis};
use crate::policy::{self, Pick};
use crate::retry::RetryBudget;
use crate::waiting::{Ticket, WaitingRoom};

/// Waiting jobs of one size that a wake looks at beyond the first that finds no place.
const LOOK_AHEAD: usize = 4;

/// What becomes of a job.
#[derive(Clone, PartialEq, Debug)]
#[must_use = "work that is sent must be ended, and a ticket waited for or cancelled"]
pub enum Offer {
    /// Send it; hand `sent` back to [`Dispatcher::ended`], however it ends.
    Send {
        /// Names it in the book.
        sent: SentId,
        /// To whom and why.
        explained: Explained,
    },
    /// It waits for a place: [`Dispatcher::wake`] will name the ticket, or [`Dispatcher::cancel`] it.
    Wait(Ticket),
    /// Nobody can have it.
    Nowhere(NoPlace),
}

/// Why nobody can have a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoPlace {
    /// There is no node that has not failed it already.
    #[error("no node is left to send it to")]
    NoNode,
    /// Its deadline has passed.
    #[error("its deadline has passed")]
    Late,
    /// Too many wait already.
    #[error("too many jobs wait for a node; try again later")]
    RoomFull,
}

impl NoPlace {
    /// The word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            NoPlace::NoNode => "no-node",
            NoPlace::Late => "late",
            NoPlace::RoomFull => "room-full",
        }
    }
}

/// What a dispatcher did since it started, for metrics; only grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Jobs sent.
    pub sent: u64,
    /// Jobs that had to wait first.
    pub waited: u64,
    /// Jobs that nobody could have.
    pub nowhere: u64,
    /// Jobs sent to see how a node is.
    pub explored: u64,
    /// Jobs sent to a suspect, for want of others.
    pub panicked: u64,
    /// Jobs that nodes had no place for.
    pub bounced: u64,
    /// Failures of nodes.
    pub failed: u64,
    /// Retries that the budget did not allow.
    pub retries_refused: u64,
}

/// What a dispatcher knows of a node by itself, for `status` and `explain`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Standing {
    /// The node.
    pub node: NodeId,
    /// Jobs of this dispatcher that are on it.
    pub in_flight: usize,
    /// What its recent failures are expected to cost a job, in ms.
    pub failures_ms: f64,
    /// Whether it is left alone now.
    pub ejected: bool,
}

/// Dispatch at one front. Pure: the caller brings time, randomness and candidates, and carries out what is said.
#[derive(Debug)]
pub struct Dispatcher {
    book: Book,
    room: WaitingRoom,
    retries: RetryBudget,
    counts: Counts,
}

impl Default for Dispatcher {
    fn default() -> Self {
        Self::new()
    }
}

impl Dispatcher {
    /// Nothing sent yet, nothing known. The nodes of the first offer are taken to have been there before.
    pub fn new() -> Self {
        Self {
            book: Book::new(),
            room: WaitingRoom::default(),
            retries: RetryBudget::default(),
            counts: Counts::default(),
        }
    }

    /// Finds a node for `job` among the nodes where its service is on. O(candidates + work of ours on them).
    pub fn offer(
        &mut self,
        mut job: JobAsk,
        candidates: &[Candidate],
        now: Tick,
        rng: &mut dyn Rng,
    ) -> Offer {
        clean(&mut job);
        if job.tried.is_empty() {
            self.retries.request(now);
        }
        if job.deadline <= now {
            return self.nowhere(NoPlace::Late);
        }
        self.book.look(candidates, now);
        let scene = estimate::judge(&job, candidates, &self.book, now);
        // Who came later and may wait longer does not overtake.
        let queued = self.room.has_before(job.size(), job.deadline);
        let pick = match policy::pick(&job, &scene, self.room_ms(&job, candidates), &mut self.book, rng) {
            Pick::Take(..) if queued => Pick::Wait,
            pick => pick,
        };
        match pick {
            Pick::Take(at, reason) => self.send(&job, &scene, (at, reason), now),
            Pick::Wait => self.wait(job),
            Pick::Nowhere => self.nowhere(NoPlace::NoNode),
        }
    }

    /// Who would get `job`, without any effect.
    pub fn explain(&self, job: &JobAsk, candidates: &[Candidate], now: Tick, rng: &mut dyn Rng) -> Explained {
        let (mut job, mut book) = (job.clone(), self.book.clone());
        clean(&mut job);
        book.look(candidates, now);
        let scene = estimate::judge(&job, candidates, &book, now);
        let pick = policy::pick(&job, &scene, self.room_ms(&job, candidates), &mut book, rng);
        match pick {
            Pick::Take(at, reason) => explained(&job, &scene, Some(at), reason),
            Pick::Wait => explained(&job, &scene, None, Reason::Wait),
            Pick::Nowhere => explained(&job, &scene, None, Reason::Nowhere),
        }
    }

    /// Books work that goes to `node` without an offer, such as what runs where it arrived because nobody else may
    /// have it. End it like any other.
    pub fn started(&mut self, job: &JobAsk, node: NodeId, now: Tick) -> SentId {
        let account = self.book.account(node);
        let log_ratio = account.map_or(0.0, |account| account.history.log_ratio(job.class, now).0);
        let expected_ms = job.predicted_ms.max(0.0) * log_ratio.exp();
        self.counts.sent += 1;
        self.book.sent(job, node, expected_ms, expected_ms, now)
    }

    /// Takes back work that has ended, and learns from how. Ending twice does nothing. Call [`Dispatcher::wake`] after.
    pub fn ended(&mut self, sent: SentId, outcome: Outcome, now: Tick) {
        if !self.book.ended(sent, outcome, now) {
            return;
        }
        match outcome {
            Outcome::Failed { .. } => self.counts.failed += 1,
            Outcome::Full => self.counts.bounced += 1,
            Outcome::Done { .. } | Outcome::Cancelled => {}
        }
    }

    /// Whether a failed job may be tried again; takes it out of the retry budget.
    pub fn may_retry(&mut self, now: Tick) -> bool {
        let may = self.retries.take(now);
        self.counts.retries_refused += u64::from(!may);
        may
    }

    /// Finds places for those who wait: call it when work has ended and when a report has come. Each ticket that is
    /// named has left the room, to be sent or (late, or without a node) to be given up.
    pub fn wake(&mut self, candidates: &[Candidate], now: Tick, rng: &mut dyn Rng) -> Vec<(Ticket, Offer)> {
        let late = self.room.expire(now);
        let mut woken: Vec<_> =
            late.into_iter().map(|ticket| (ticket, self.nowhere(NoPlace::Late))).collect();
        if self.room.len() == 0 {
            return woken;
        }
        self.book.look(candidates, now);
        for size in [Size::Small, Size::Heavy] {
            while let Some(next) = self.next(size, candidates, now, rng) {
                woken.push(next);
            }
        }
        woken
    }

    /// Takes a job out of the waiting room, because nobody wants it any more. `false` when it was not there.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        self.room.leave(ticket).is_some()
    }

    /// Jobs that wait here.
    pub fn waiting(&self) -> usize {
        self.room.len()
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What is known of each node.
    pub fn standings(&self, now: Tick) -> Vec<Standing> {
        let accounts = self.book.accounts();
        let standing = accounts.map(|(node, account)| Standing {
            node,
            in_flight: account.in_flight(),
            failures_ms: account.history.penalty_ms(now),
            ejected: matches!(account.breaker.way(now), Way::Open(_)),
        });
        standing.collect()
    }

    /// The next job of this size that leaves the room.
    fn next(
        &mut self,
        size: Size,
        candidates: &[Candidate],
        now: Tick,
        rng: &mut dyn Rng,
    ) -> Option<(Ticket, Offer)> {
        let book = &mut self.book;
        let mut decided = self.room.first(size).take(LOOK_AHEAD).map(|(ticket, job)| {
            let scene = estimate::judge(job, candidates, book, now);
            let pick = policy::pick(job, &scene, 0.0, book, rng);
            (ticket, scene, pick)
        });
        let (ticket, scene, pick) = decided.find(|(.., pick)| *pick != Pick::Wait)?;
        drop(decided);
        let job = self.room.leave(ticket)?;
        let offer = match pick {
            Pick::Take(at, reason) => self.send(&job, &scene, (at, reason), now),
            Pick::Wait | Pick::Nowhere => self.nowhere(NoPlace::NoNode),
        };
        Some((ticket, offer))
    }

    fn send(&mut self, job: &JobAsk, scene: &Scene, (at, reason): (usize, Reason), now: Tick) -> Offer {
        let chosen = &scene.nodes[at];
        // The penalty for failures is no time that the job takes.
        let total_ms = chosen.total_ms - chosen.terms.failures_ms;
        let sent = self.book.sent(job, chosen.node, chosen.expected_ms, total_ms, now);
        self.counts.sent += 1;
        self.counts.explored += u64::from(reason == Reason::Explored);
        self.counts.panicked += u64::from(reason == Reason::Panic);
        Offer::Send { sent, explained: explained(job, scene, Some(at), reason) }
    }

    fn wait(&mut self, job: JobAsk) -> Offer {
        match self.room.enter(job) {
            Some(ticket) => {
                self.counts.waited += 1;
                Offer::Wait(ticket)
            }
            None => self.nowhere(NoPlace::RoomFull),
        }
    }

    fn nowhere(&mut self, why: NoPlace) -> Offer {
        self.counts.nowhere += 1;
        Offer::Nowhere(why)
    }

    /// How long the jobs that wait before `job` keep all nodes busy.
    fn room_ms(&self, job: &JobAsk, candidates: &[Candidate]) -> f64 {
        if self.room.len() == 0 {
            return 0.0;
        }
        let cores: f64 = candidates.iter().map(Candidate::cores).sum();
        self.room.before_ms(job.size(), job.deadline) / cores.max(0.01)
    }
}

/// Costs are numbers from 0 that a duration can hold, whatever predicted them.
fn clean(job: &mut JobAsk) {
    for ms in [&mut job.predicted_ms, &mut job.original_ms] {
        *ms = if ms.is_finite() { of_millis(*ms).as_secs_f64().min(1e6) * 1000.0 } else { 0.0 };
    }
}

fn explained(job: &JobAsk, scene: &Scene, chosen: Option<usize>, reason: Reason) -> Explained {
    Explained {
        policy: job.policy,
        considered: scene.nodes.iter().map(estimate::Estimate::considered).collect(),
        chosen: chosen.map(|at| scene.nodes[at].node),
        reason,
    }
}

#[cfg(test)]
mod tests;
