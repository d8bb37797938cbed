//! Who is held out by what this node's own calls and connections showed of it. Pure; knows no gossip and no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tutti_base::{NodeId, Tick};

/// How long the first failure holds a node out.
pub(crate) const HOLD_MIN: Duration = Duration::from_secs(1);
/// How long repeated failures hold a node out at most.
pub(crate) const HOLD_MAX: Duration = Duration::from_secs(30);
/// After this long without a failure the next one counts as the first.
pub(crate) const QUIET: Duration = Duration::from_secs(60);

/// What failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// A call: refused, broken or silent.
    Call,
    /// The connection.
    Connection,
}

/// What became of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The node is held out.
    Held,
    /// Too many are held out already: this node itself may be the one that is cut off.
    Spared,
}

#[derive(Debug)]
struct Hold {
    failure: Failure,
    last: Tick,
    lasts: Duration,
    until: Tick,
    is_alive: bool,
}

impl Hold {
    /// A node comes back after its hold time, once there was a sign of life.
    fn holds(&self, now: Tick) -> bool {
        now < self.until || !self.is_alive
    }
}

/// The nodes that this node holds out by local evidence.
#[derive(Debug, Default)]
pub(crate) struct HeldOut {
    holds: BTreeMap<NodeId, Hold>,
    others: usize,
}

impl HeldOut {
    /// Says who the others are.
    pub(crate) fn set_members(&mut self, others: impl ExactSizeIterator<Item = NodeId> + Clone) {
        self.others = others.len();
        self.holds.retain(|id, _| others.clone().any(|other| other == *id));
    }

    /// How many may be held out at once: half of the others, at least one.
    pub(crate) fn most(&self) -> usize {
        (self.others / 2).max(1)
    }

    /// Counts a failure of `node`. One in a hold that lasts changes nothing but that a new sign of life is needed.
    pub(crate) fn failed(&mut self, now: Tick, node: NodeId, failure: Failure) -> Verdict {
        let others_held = self.held(now).filter(|held| *held != node).count();
        if others_held >= self.most() {
            return Verdict::Spared;
        }
        let fresh = Hold { failure, last: now, lasts: HOLD_MIN, until: now + HOLD_MIN, is_alive: false };
        let Some(hold) = self.holds.get_mut(&node) else {
            self.holds.insert(node, fresh);
            return Verdict::Held;
        };
        if now.since(hold.last) >= QUIET {
            *hold = fresh;
        } else if !hold.holds(now) {
            let lasts = (hold.lasts * 2).min(HOLD_MAX);
            *hold = Hold { lasts, until: now + lasts, ..fresh };
        } else {
            (hold.last, hold.is_alive) = (now, false);
        }
        Verdict::Held
    }

    /// Notes a sign of life of `node`.
    pub(crate) fn alive(&mut self, node: NodeId) {
        if let Some(hold) = self.holds.get_mut(&node) {
            hold.is_alive = true;
        }
    }

    /// `node` is another run now: what was held against the earlier one is gone.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.holds.remove(&node);
    }

    /// Why `node` is held out, if it is.
    pub(crate) fn why(&self, now: Tick, node: NodeId) -> Option<Failure> {
        self.holds.get(&node).filter(|hold| hold.holds(now)).map(|hold| hold.failure)
    }

    /// All that are held out.
    pub(crate) fn held(&self, now: Tick) -> impl Iterator<Item = NodeId> + '_ {
        self.holds.iter().filter(move |(_, hold)| hold.holds(now)).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);

    fn held_out(others: u64) -> HeldOut {
        let mut held = HeldOut::default();
        held.set_members((1..=others).map(NodeId).collect::<Vec<_>>().into_iter());
        held
    }

    fn at(ms: u64) -> Tick {
        Tick(ms * 1_000_000)
    }

    #[test]
    fn a_hold_ends_after_its_time_and_a_sign_of_life_and_doubles_while_failures_repeat() {
        let mut held = held_out(3);
        let mut now = at(0);
        let mut spans = Vec::new();
        for _ in 0..8 {
            held.failed(now, A, Failure::Call);
            held.alive(A);
            let start = now;
            while held.why(now, A).is_some() {
                now = now + Duration::from_millis(100);
            }
            spans.push(now.since(start).as_secs());
        }
        assert_eq!(spans, [1, 2, 4, 8, 16, 30, 30, 30]);
        held.failed(now + QUIET + HOLD_MAX, A, Failure::Call);
        held.alive(A);
        assert!(held.why(now + QUIET + HOLD_MAX + Duration::from_millis(1001), A).is_none());
    }

    #[test]
    fn without_a_sign_of_life_a_hold_does_not_end() {
        let mut held = held_out(2);
        held.failed(at(0), A, Failure::Connection);
        assert_eq!(held.why(at(100_000), A), Some(Failure::Connection));
        held.alive(A);
        assert_eq!(held.why(at(100_000), A), None);
    }

    #[test]
    fn fifty_failures_at_once_count_as_one() {
        let mut held = held_out(2);
        for ms in 0..50 {
            held.failed(at(ms), A, Failure::Call);
        }
        held.alive(A);
        assert!(held.why(at(999), A).is_some() && held.why(at(1000), A).is_none());
    }

    #[test]
    fn at_most_half_of_the_others_but_at_least_one_are_held_out() {
        for (others, most) in [(1, 1), (2, 1), (3, 1), (4, 2), (63, 31)] {
            let mut held = held_out(others);
            let verdicts: Vec<_> =
                (1..=others).map(|id| held.failed(at(0), NodeId(id), Failure::Call)).collect();
            assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Held).count(), most);
            assert_eq!(held.held(at(1)).count(), most);
        }
    }
}
