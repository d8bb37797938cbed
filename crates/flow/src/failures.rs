//! Failures that are remembered briefly, so that what cannot work is not tried again at once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tutti_base::{ContentHash, Kind, Problem, ResultKey, SourceKey, Tick};

/// How long an origin's 404 and 410, and other 4xx, are remembered.
pub const ORIGIN_REFUSED_FOR: Duration = Duration::from_secs(10);
/// How long an origin's 5xx, a refused connection and a time-out are remembered.
pub const ORIGIN_BROKEN_FOR: Duration = Duration::from_secs(1);
/// How long an input that cannot be decoded, and a job that cannot be done, are remembered.
pub const UNPROCESSABLE_FOR: Duration = Duration::from_secs(3600);
/// How many failures are remembered; the oldest goes first.
pub const REMEMBERED_MAX: usize = 8192;

/// What failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Failed {
    /// Fetching this source.
    Source(SourceKey),
    /// Anything with these bytes, under this engine epoch.
    Content(ContentHash, u32),
    /// Making this result.
    Result(ResultKey),
}

#[derive(Default)]
struct Memory {
    by_what: HashMap<Failed, (Problem, Tick)>,
    by_age: VecDeque<Failed>,
    time_outs: HashMap<ResultKey, Tick>,
}

/// The failures remembered on this node.
#[derive(Default)]
pub struct Failures(Mutex<Memory>);

impl Failures {
    /// What is remembered of `what` at `now`.
    pub fn recall(&self, what: &Failed, now: Tick) -> Option<Problem> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.by_what.get(what).filter(|(_, until)| now < *until).map(|(problem, _)| problem.clone())
    }

    /// Remembers `problem` of `what` for as long as its kind is worth it.
    pub fn note(&self, what: Failed, problem: &Problem, now: Tick) {
        let Some(worth) = remembered_for(&what, problem.kind) else { return };
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.by_what.insert(what, (problem.clone(), now + worth)).is_none() {
            memory.by_age.push_back(what);
        }
        if memory.by_age.len() > REMEMBERED_MAX
            && let Some(oldest) = memory.by_age.pop_front()
        {
            memory.by_what.remove(&oldest);
        }
    }

    /// Notes that making `result` ran into its last waiter's deadline in the engine. The second time within an hour it is
    /// remembered as a failure of its operations.
    pub fn note_time_out(&self, result: ResultKey, now: Tick) {
        let second = {
            let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            memory.time_outs.retain(|_, at| now.since(*at) < UNPROCESSABLE_FOR);
            if memory.time_outs.len() >= REMEMBERED_MAX {
                memory.time_outs.clear();
            }
            memory.time_outs.insert(result, now).is_some()
        };
        if second {
            let detail =
                "this picture took longer than its deadline twice; it is not tried again for an hour";
            self.note(
                Failed::Result(result),
                &Problem::new(Kind::Unprocessable, detail).about("deadline"),
                now,
            );
        }
    }

    /// Forgets what failed of `source` (it was purged, or asked for with a cache buster).
    pub fn forget(&self, what: &Failed) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.by_what.remove(what);
        memory.by_age.retain(|kept| kept != what);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Memory::default();
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_what.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn remembered_for(what: &Failed, kind: Kind) -> Option<Duration> {
    match kind {
        // An original that is too long has no hash to be remembered by, and may be another one soon.
        Kind::Unprocessable if matches!(what, Failed::Source(_)) => Some(ORIGIN_REFUSED_FOR),
        Kind::OriginStatus(_) => Some(ORIGIN_REFUSED_FOR),
        Kind::OriginBroken | Kind::OriginTimeout => Some(ORIGIN_BROKEN_FOR),
        Kind::Unprocessable => Some(UNPROCESSABLE_FOR),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: usize) -> Failed {
        Failed::Source(SourceKey::of(&[&n.to_le_bytes()]))
    }

    #[test]
    fn each_kind_is_remembered_for_its_time_and_ours_not_at_all() {
        let failures = Failures::default();
        let at = |secs| Tick(0) + Duration::from_secs_f64(secs);
        for (kind, secs) in
            [(Kind::OriginStatus(404), 10.0), (Kind::OriginBroken, 1.0), (Kind::Unprocessable, 10.0)]
        {
            failures.note(source(1), &Problem::new(kind, "x"), at(0.0));
            assert!(failures.recall(&source(1), at(secs - 0.1)).is_some(), "{kind:?}");
            assert!(failures.recall(&source(1), at(secs + 0.1)).is_none(), "{kind:?}");
        }
        failures.note(source(2), &Problem::new(Kind::Overloaded, "x"), at(0.0));
        assert!(failures.recall(&source(2), at(0.0)).is_none());
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_limit() {
        let failures = Failures::default();
        (0..REMEMBERED_MAX + 5)
            .for_each(|n| failures.note(source(n), &Problem::new(Kind::OriginBroken, "x"), Tick(0)));
        assert_eq!(failures.len(), REMEMBERED_MAX);
        assert!(failures.recall(&source(0), Tick(0)).is_none());
        assert!(failures.recall(&source(REMEMBERED_MAX), Tick(0)).is_some());
    }

    #[test]
    fn only_the_second_time_out_is_a_failure_of_the_operations() {
        let failures = Failures::default();
        let result = ResultKey::of(&[b"slow"]);
        failures.note_time_out(result, Tick(0));
        assert!(failures.recall(&Failed::Result(result), Tick(0)).is_none());
        failures.note_time_out(result, Tick(0) + Duration::from_secs(60));
        let problem = failures.recall(&Failed::Result(result), Tick(0) + Duration::from_secs(61));
        assert_eq!(problem.map(|p| p.kind), Some(Kind::Unprocessable));
    }
}
