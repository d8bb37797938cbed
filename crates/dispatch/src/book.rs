//! What this dispatcher has sent and not seen finished, node by node, and what it learned of each. Knows no policy.
//!
//! A report is old when it is read. What this dispatcher sent since is not in it, and what it has seen finished since is
//! no longer there; both are known exactly (the "own un-reported dispatches": Fox et al., SOSP 1997, section 4.5, where
//! the lack of them made queues swing). So a report is split when it comes: into the part that was this dispatcher's own
//! at that moment, and the others' part, which alone grows old.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tutti_base::{NodeId, NodeState, Tick};

use crate::breaker::Breaker;
use crate::candidate::Candidate;
use crate::history::{History, halved};
use crate::job::{JobAsk, Outcome, Size, of_millis};

/// Nodes that are remembered; beyond, those go that were not seen for longest and have no work of ours.
pub const NODES_MAX: usize = 1024;
/// Finished jobs a node that are remembered for the next report.
pub const LANDED_MAX: usize = 512;
/// A node that said that it has no place is asked again after this long, were there no news.
pub const FULL_FOR: Duration = Duration::from_millis(100);
/// Over how long the work given to nodes is evened out among equals.
const GIVEN_HALF_LIFE: Duration = Duration::from_secs(10);
/// A job that is overdue still needs this part of its cost.
const OVERDUE_LEFT: f64 = 0.1;
/// Weight of the newest report in the long means: this dispatcher's share of all work, and the others' usual work.
const NEWEST: f64 = 0.02;

/// Names work that was sent, until it ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SentId {
    /// The node that has it.
    pub node: NodeId,
    number: u64,
}

/// Work on its way.
#[derive(Clone, Debug)]
struct Flight {
    number: u64,
    class: &'static str,
    predicted_ms: f64,
    /// In CPU ms of the node that has it.
    expected_ms: f64,
    size: Size,
    sent: Tick,
    /// When it should have finished.
    due: Tick,
    /// When it ended, where it has.
    ended: Option<Tick>,
}

impl Flight {
    /// What it still needs at `at`, in CPU ms of its node.
    fn left_ms(&self, at: Tick) -> f64 {
        let ahead = self.due.since(at).as_secs_f64() * 1000.0;
        ahead.clamp(self.expected_ms * OVERDUE_LEFT, self.expected_ms)
    }
}

/// Work of ours on one node.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Own {
    pub(crate) jobs: f64,
    pub(crate) left_ms: f64,
    pub(crate) small: f64,
    pub(crate) small_left_ms: f64,
    /// By how much what is due already is late, in all.
    pub(crate) late_ms: f64,
}

/// One node in the book.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    flights: Vec<Flight>,
    /// Ended lately: a report on its way may still hold them.
    landed: VecDeque<Flight>,
    sequence: u64,
    /// What of the last report was ours.
    pub(crate) reported: Own,
    /// When it said that it has no place, where nothing was heard since.
    full: Option<Tick>,
    pub(crate) history: History,
    pub(crate) breaker: Breaker,
    /// When it was last given something.
    pub(crate) sampled: Tick,
    /// When it came, where it was not there from the start.
    pub(crate) joined: Option<Tick>,
    /// The work that it was given lately, in ms, as of `sampled`.
    given_ms: f64,
    /// Its credit among those who take turns.
    pub(crate) turn: f64,
    seen: Tick,
}

impl Account {
    /// A node of which nothing is known.
    pub(crate) fn new(joined: Option<Tick>, now: Tick) -> Self {
        Self {
            flights: Vec::new(),
            landed: VecDeque::new(),
            sequence: 0,
            reported: Own::default(),
            full: None,
            history: History::new(now),
            breaker: Breaker::default(),
            sampled: now,
            joined,
            given_ms: 0.0,
            turn: 0.0,
            seen: now,
        }
    }

    /// What of ours is on the node now.
    pub(crate) fn own(&self, now: Tick) -> Own {
        sum(self.flights.iter(), now)
    }

    /// The work that it was given lately, in ms; it halves every [`GIVEN_HALF_LIFE`].
    pub(crate) fn given_ms(&self, now: Tick) -> f64 {
        self.given_ms * halved(now.since(self.sampled), GIVEN_HALF_LIFE)
    }

    /// Whether it said that it has no place, and may well have none still.
    pub(crate) fn is_full(&self, now: Tick) -> bool {
        self.full.is_some_and(|said| now.since(said) < FULL_FOR)
    }

    /// Jobs of ours on the node.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Takes in what the candidate says; whether it says anything new.
    fn look(&mut self, candidate: &Candidate, now: Tick) -> bool {
        self.seen = now;
        if candidate.state == NodeState::Down {
            self.joined = Some(now);
        }
        if candidate.sequence == self.sequence {
            return false;
        }
        self.sequence = candidate.sequence;
        self.full = None;
        let (written, half) = (candidate.reported(now), candidate.rtt / 2);
        self.landed.retain(|flight| flight.ended.is_some_and(|ended| ended > written + half));
        let held = self.flights.iter().chain(&self.landed).filter(|flight| flight.sent + half <= written);
        self.reported = sum(held, written);
        true
    }
}

/// The other dispatchers' work on a node.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Others {
    pub(crate) jobs: f64,
    pub(crate) left_ms: f64,
}

impl Others {
    /// What of a node's last report was not ours.
    pub(crate) fn of(candidate: &Candidate, reported: Own) -> Self {
        Self {
            jobs: (f64::from(candidate.jobs) - reported.jobs).max(0.0),
            left_ms: (candidate.backlog_ms - reported.left_ms).max(0.0),
        }
    }
    /// The same by permit and by core.
    pub(crate) fn by_size(self, candidate: &Candidate) -> Self {
        Self { jobs: self.jobs / candidate.permits(), left_ms: self.left_ms / candidate.cores() }
    }
    /// The way from here to `there`, as far as `part` (0 to 1) of it.
    pub(crate) fn toward(self, there: Self, part: f64) -> Self {
        Self {
            jobs: self.jobs + (there.jobs - self.jobs) * part,
            left_ms: self.left_ms + (there.left_ms - self.left_ms) * part,
        }
    }
}

fn sum<'a>(flights: impl Iterator<Item = &'a Flight>, at: Tick) -> Own {
    flights.fold(Own::default(), |mut own, flight| {
        let left_ms = flight.left_ms(at);
        own.jobs += 1.0;
        own.left_ms += left_ms;
        own.late_ms += at.since(flight.due).as_secs_f64() * 1000.0;
        if flight.size == Size::Small {
            own.small += 1.0;
            own.small_left_ms += left_ms;
        }
        own
    })
}

/// What one dispatcher knows of all nodes by itself.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    accounts: BTreeMap<NodeId, Account>,
    number: u64,
    /// The part of all reported jobs that was ours, 0 to 1: how much the other dispatchers send for each job of ours.
    share: f64,
    /// What the others have on a node, by permit and by core, as a long mean.
    usual: Others,
    begun: bool,
}

impl Book {
    pub(crate) fn new() -> Self {
        Self { accounts: BTreeMap::new(), number: 0, share: 1.0, usual: Others::default(), begun: false }
    }

    /// Takes in what the candidates say. Nodes that are there the first time are taken to have been there before.
    pub(crate) fn look(&mut self, candidates: &[Candidate], now: Tick) {
        for candidate in candidates {
            let joined = self.begun.then_some(now);
            let account = self.accounts.entry(candidate.node).or_insert_with(|| Account::new(joined, now));
            if !account.look(candidate, now) || candidate.state != NodeState::Up {
                continue;
            }
            let others = Others::of(candidate, account.reported).by_size(candidate);
            self.usual = self.usual.toward(others, NEWEST);
            if candidate.jobs > 0 {
                let ours = (account.reported.jobs / f64::from(candidate.jobs)).min(1.0);
                self.share += (ours - self.share) * NEWEST;
            }
        }
        self.begun |= !candidates.is_empty();
        while self.accounts.len() > NODES_MAX && self.forget_one() {}
    }

    pub(crate) fn account(&self, node: NodeId) -> Option<&Account> {
        self.accounts.get(&node)
    }

    pub(crate) fn account_mut(&mut self, node: NodeId) -> Option<&mut Account> {
        self.accounts.get_mut(&node)
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = (NodeId, &Account)> {
        self.accounts.iter().map(|(node, account)| (*node, account))
    }

    /// The part of all jobs that this dispatcher sends, 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        self.share
    }

    /// What the others usually have on a node, by permit and by core.
    pub(crate) fn usual(&self) -> Others {
        self.usual
    }

    /// Books `job` as sent to `node`, where it should finish in `total_ms` and take `expected_ms` of CPU.
    pub(crate) fn sent(
        &mut self,
        job: &JobAsk,
        node: NodeId,
        expected_ms: f64,
        total_ms: f64,
        now: Tick,
    ) -> SentId {
        self.number += 1;
        let number = self.number;
        let joined = self.begun.then_some(now);
        let account = self.accounts.entry(node).or_insert_with(|| Account::new(joined, now));
        account.given_ms = account.given_ms(now) + expected_ms;
        account.sampled = now;
        account.flights.push(Flight {
            number,
            class: job.class,
            predicted_ms: job.predicted_ms,
            expected_ms,
            size: job.size(),
            sent: now,
            due: now + of_millis(total_ms),
            ended: None,
        });
        SentId { node, number }
    }

    /// Takes work out that has ended, and learns from it. `false` when it is not in the book (any more).
    pub(crate) fn ended(&mut self, sent: SentId, outcome: Outcome, now: Tick) -> bool {
        let Some(account) = self.accounts.get_mut(&sent.node) else { return false };
        let at = account.flights.iter().position(|flight| flight.number == sent.number);
        let Some(at) = at else { return false };
        let mut flight = account.flights.swap_remove(at);
        match outcome {
            Outcome::Done { measured_ms } => {
                account.breaker.answered();
                account.full = None;
                account.history.done(flight.class, flight.predicted_ms, measured_ms, now);
            }
            Outcome::Failed { retry_after } => {
                account.breaker.failed(now);
                account.history.failed(retry_after, now);
            }
            Outcome::Full => account.full = Some(now),
            Outcome::Cancelled => {}
        }
        // What was refused was never part of a report.
        if outcome != Outcome::Full {
            flight.ended = Some(now);
            account.landed.push_back(flight);
            if account.landed.len() > LANDED_MAX {
                account.landed.pop_front();
            }
        }
        true
    }

    fn forget_one(&mut self) -> bool {
        let idle = self.accounts.iter().filter(|(_, account)| account.flights.is_empty());
        let oldest = idle.min_by_key(|(_, account)| account.seen).map(|(node, _)| *node);
        oldest.is_some_and(|node| self.accounts.remove(&node).is_some())
    }
}

#[cfg(test)]
mod tests;
