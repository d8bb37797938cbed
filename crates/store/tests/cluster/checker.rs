//! Whether a history of one register is linearizable: the search of Wing and Gong (JPDC 17, 1993) with the memory of Lowe
//! (Concurrency 29, 2017), bounded.

use std::collections::HashSet;

/// The most steps of one search.
const STEPS_MAX: usize = 2_000_000;

/// What was done to the register. Values are never used twice; 0 is the register that was never written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Write(u64),
    /// Writes the second if it is the first; whether it did is known unless the answer was lost.
    Swap(u64, u64, Option<bool>),
    Read(u64),
}

/// One operation; times count events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) act: Act,
    pub(crate) begin: u64,
    /// None if the answer never came: it may take effect at any later time, or never.
    pub(crate) end: Option<u64>,
}

/// What the search found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Linearizable,
    Broken,
    TooHard,
}

impl Act {
    fn apply(self, value: u64) -> Option<u64> {
        match self {
            Act::Write(new) => Some(new),
            Act::Read(seen) => (seen == value).then_some(value),
            Act::Swap(old, new, outcome) => match (old == value, outcome) {
                (true, Some(true) | None) => Some(new),
                (false, Some(false) | None) => Some(value),
                _ => None,
            },
        }
    }
}

/// Searches an order of `history` that a single register would give.
pub(crate) fn check(history: &[Done]) -> Verdict {
    assert!(history.len() <= 128, "a register's history has at most 128 operations");
    let must: u128 =
        history.iter().enumerate().filter(|(_, done)| done.end.is_some()).map(|(at, _)| 1 << at).sum();
    let mut seen = HashSet::new();
    let mut open = vec![(0u128, 0u64)];
    let mut steps = 0;
    while let Some((taken, value)) = open.pop() {
        if taken & must == must {
            return Verdict::Linearizable;
        }
        steps += 1;
        if steps > STEPS_MAX {
            return Verdict::TooHard;
        }
        // Whatever ended before another began comes before it.
        let left = |at: &usize| taken & (1 << *at) == 0;
        let first_end =
            (0..history.len()).filter(left).filter_map(|at| history[at].end).min().unwrap_or(u64::MAX);
        for at in (0..history.len()).filter(left).filter(|at| history[*at].begin < first_end) {
            if let Some(next) = history[at].act.apply(value) {
                let state = (taken | (1 << at), next);
                if seen.insert(state) {
                    open.push(state);
                }
            }
        }
    }
    Verdict::Broken
}

#[test]
fn the_checker_knows_good_histories_from_broken_ones() {
    let done = |act, begin, end| Done { act, begin, end: Some(end) };
    let lost = |act, begin| Done { act, begin, end: None };
    let good = [
        vec![done(Act::Write(1), 0, 1), done(Act::Read(1), 2, 3)],
        vec![done(Act::Write(1), 0, 5), done(Act::Read(0), 1, 2), done(Act::Read(1), 3, 4)],
        vec![lost(Act::Write(1), 0), done(Act::Read(0), 1, 2), done(Act::Read(1), 3, 4)],
        vec![done(Act::Write(1), 0, 1), done(Act::Swap(1, 2, Some(true)), 2, 3), done(Act::Read(2), 4, 5)],
        vec![done(Act::Write(1), 0, 1), lost(Act::Swap(1, 2, None), 2), done(Act::Read(1), 4, 5)],
    ];
    for history in good {
        assert_eq!(check(&history), Verdict::Linearizable, "{history:?}");
    }
    let broken = [
        vec![done(Act::Write(1), 0, 1), done(Act::Read(0), 2, 3)],
        vec![done(Act::Write(1), 0, 1), done(Act::Write(2), 2, 3), done(Act::Read(1), 4, 5)],
        vec![done(Act::Read(1), 1, 2), done(Act::Write(1), 3, 4)],
        vec![lost(Act::Write(1), 0), done(Act::Read(1), 1, 2), done(Act::Read(0), 3, 4)],
        vec![done(Act::Write(1), 0, 1), done(Act::Swap(0, 2, Some(true)), 2, 3)],
    ];
    for history in broken {
        assert_eq!(check(&history), Verdict::Broken, "{history:?}");
    }
}
