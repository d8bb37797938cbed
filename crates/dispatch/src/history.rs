//! What a node's work was like lately: how much longer than predicted by job class, and how often it failed.

use std::time::Duration;

use tutti_base::Tick;

use crate::job::millis;

/// Classes of which a node's speed is learned apart; further ones share the last place.
pub const CLASSES_MAX: usize = 64;
/// The ratio stays between these, whatever is measured: nothing becomes 0 or infinite.
const RATIO_MIN: f64 = 1.0 / 64.0;
const RATIO_MAX: f64 = 64.0;
/// Evidence loses half of its weight in this time.
const EVIDENCE_HALF_LIFE: Duration = Duration::from_secs(30);
/// The most evidence that counts: a newer job moves the mean by at least one part in so many.
const EVIDENCE_MAX: f64 = 50.0;
/// Without news a ratio halves its distance to 1 (in log space) in this time, so that nobody is condemned for ever.
const FORGIVE_HALF_LIFE: Duration = Duration::from_secs(60);
/// How far one job's ratio is usually from its node's (deviation of the logarithm): chance, not speed.
const CHANCE: f64 = 0.5;
/// The least that a failure costs, in ms (linkerd's load biaser: 5 s, or what Retry-After says).
const PENALTY_MIN: Duration = Duration::from_secs(5);
/// A penalty loses half of its weight in this part of its length: nearly nothing is left at its end.
const PENALTY_HALVES: f64 = 5.0;

/// One class's ratio of measured to predicted cost, as a mean in log space.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    class: &'static str,
    log: f64,
    evidence: f64,
    seen: Tick,
}

impl Ratio {
    fn now(&self, now: Tick) -> f64 {
        self.log * halved(now.since(self.seen), FORGIVE_HALF_LIFE)
    }

    fn learn(&mut self, log: f64, now: Tick) {
        let passed = now.since(self.seen);
        // What was learned counts as one job that went as predicted.
        let kept = (self.evidence * halved(passed, EVIDENCE_HALF_LIFE)).min(EVIDENCE_MAX);
        let before = self.now(now);
        self.evidence = kept + 1.0;
        self.log = before + (log - before) / (self.evidence + 1.0);
        self.seen = now;
    }
}

/// How often a node failed, each outcome weighing half as much after a while.
#[derive(Clone, Copy, Debug)]
struct Failures {
    failed: f64,
    answered: f64,
    penalty: Duration,
    seen: Tick,
}

impl Failures {
    fn pass(&mut self, now: Tick) {
        let left = halved(now.since(self.seen), self.penalty.div_f64(PENALTY_HALVES));
        self.failed *= left;
        self.answered *= left;
        self.seen = now;
    }
}

/// The history of one node, as one dispatcher saw it.
#[derive(Clone, Debug)]
pub(crate) struct History {
    ratios: Vec<Ratio>,
    failures: Failures,
}

impl History {
    pub(crate) fn new(now: Tick) -> Self {
        let failures = Failures { failed: 0.0, answered: 0.0, penalty: PENALTY_MIN, seen: now };
        Self { ratios: Vec::new(), failures }
    }

    /// Logarithm of measured by predicted cost of jobs of `class`, and how far that may be chance. 0 as long as nothing
    /// was measured.
    pub(crate) fn log_ratio(&self, class: &str, now: Tick) -> (f64, f64) {
        let found = self.ratios.iter().find(|ratio| ratio.class == class);
        let Some(ratio) = found else { return (self.mean_log(now), CHANCE) };
        let evidence = ratio.evidence * halved(now.since(ratio.seen), EVIDENCE_HALF_LIFE);
        (ratio.now(now), CHANCE / (evidence + 1.0).sqrt())
    }

    /// A class that is new on this node goes as the others do: a slow machine is slow at everything.
    fn mean_log(&self, now: Tick) -> f64 {
        if self.ratios.is_empty() {
            return 0.0;
        }
        self.ratios.iter().map(|ratio| ratio.now(now)).sum::<f64>() / self.ratios.len() as f64
    }

    /// Learns from a job that was done.
    pub(crate) fn done(&mut self, class: &'static str, predicted_ms: f64, measured_ms: f64, now: Tick) {
        self.failures.pass(now);
        self.failures.answered += 1.0;
        let measured = predicted_ms > 0.0 && measured_ms > 0.0;
        if !measured {
            return;
        }
        let log = (measured_ms / predicted_ms).clamp(RATIO_MIN, RATIO_MAX).ln();
        let start = self.mean_log(now);
        let at = self.ratios.iter().position(|ratio| ratio.class == class);
        let at = at.unwrap_or_else(|| {
            if self.ratios.len() < CLASSES_MAX {
                self.ratios.push(Ratio { class, log: start, evidence: 0.0, seen: now });
            }
            self.ratios.len() - 1
        });
        self.ratios[at].learn(log, now);
    }

    /// Learns that the node failed a job.
    pub(crate) fn failed(&mut self, retry_after: Option<Duration>, now: Tick) {
        self.failures.pass(now);
        self.failures.penalty = retry_after.unwrap_or_default().max(PENALTY_MIN);
        self.failures.failed += 1.0;
    }

    /// What the next job is expected to lose to a failure, in ms: how likely it is times what it costs. A node that
    /// answers errors at once is slow by this, not fast.
    pub(crate) fn penalty_ms(&self, now: Tick) -> f64 {
        let mut failures = self.failures;
        failures.pass(now);
        if failures.failed < 0.001 {
            return 0.0;
        }
        millis(failures.penalty) * failures.failed / (failures.failed + failures.answered + 1.0)
    }
}

/// What is left of a weight after `passed` when it halves every `half_life`.
pub(crate) fn halved(passed: Duration, half_life: Duration) -> f64 {
    (-passed.as_secs_f64() / half_life.as_secs_f64()).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl History {
        fn ratio(&self, class: &str, now: Tick) -> f64 {
            self.log_ratio(class, now).0.exp()
        }
    }

    fn at(secs: u64) -> Tick {
        Tick(0) + Duration::from_secs(secs)
    }

    #[test]
    fn a_slow_node_is_learned_by_class_and_a_new_class_goes_as_the_others() {
        let mut history = History::new(at(0));
        assert_eq!(history.ratio("resize", at(0)), 1.0);
        (0..100).for_each(|_| history.done("resize", 10.0, 160.0, at(1)));
        assert!((history.ratio("resize", at(1)) - 16.0).abs() < 1.0);
        assert!((history.ratio("encode", at(1)) - 16.0).abs() < 1.0);
        history.done("encode", 10.0, 10.0, at(1));
        assert!(history.ratio("encode", at(1)) < 9.0);
    }

    #[test]
    fn old_evidence_gives_way_and_no_news_is_forgiven() {
        let mut history = History::new(at(0));
        (0..1000).for_each(|_| history.done("resize", 10.0, 100.0, at(1)));
        let before = history.ratio("resize", at(1));
        assert!(history.ratio("resize", at(301)) < 1.1 && before > 9.0);
        (0..200).for_each(|_| history.done("resize", 10.0, 10.0, at(2)));
        assert!(history.ratio("resize", at(2)) < 1.2, "{}", history.ratio("resize", at(2)));
    }

    #[test]
    fn chance_shrinks_with_evidence_and_grows_without_news() {
        let mut history = History::new(at(0));
        let chance = |history: &History, now| history.log_ratio("resize", now).1;
        assert_eq!(chance(&history, at(0)), CHANCE);
        (0..99).for_each(|_| history.done("resize", 10.0, 12.0, at(1)));
        assert!(chance(&history, at(1)) < 0.075 && chance(&history, at(200)) > 0.3);
    }

    #[test]
    fn no_measurement_makes_a_ratio_that_is_nothing_or_endless() {
        let mut history = History::new(at(0));
        (0..1000).for_each(|_| history.done("a", 10.0, 1e-9, at(1)));
        (0..1000).for_each(|_| history.done("b", 10.0, 1e12, at(1)));
        history.done("a", 0.0, 5.0, at(1));
        history.done("a", f64::NAN, 5.0, at(1));
        let (a, b) = (history.ratio("a", at(1)), history.ratio("b", at(1)));
        assert!(a >= RATIO_MIN && b <= RATIO_MAX * 1.001 && a.is_finite(), "{a} {b}");
    }

    #[test]
    fn fast_failures_are_slow_for_five_seconds_and_one_among_many_hardly_counts() {
        let mut history = History::new(at(0));
        (0..20).for_each(|_| history.failed(None, at(1)));
        assert!(history.penalty_ms(at(1)) > 4500.0);
        assert!(history.penalty_ms(at(12)) < 60.0);
        let mut busy = History::new(at(0));
        (0..1000).for_each(|_| busy.done("a", 1.0, 1.0, at(1)));
        busy.failed(None, at(1));
        assert!(busy.penalty_ms(at(1)) < 6.0);
    }

    #[test]
    fn a_node_that_asks_to_be_left_alone_longer_is() {
        let mut history = History::new(at(0));
        (0..20).for_each(|_| history.failed(Some(Duration::from_secs(60)), at(1)));
        assert!(history.penalty_ms(at(2)) > 40_000.0 && history.penalty_ms(at(30)) > 500.0);
    }

    #[test]
    fn classes_beyond_the_limit_share_the_last_place() {
        let mut history = History::new(at(0));
        let names: Vec<&'static str> = (0..CLASSES_MAX + 5).map(|n| &*n.to_string().leak()).collect();
        names.iter().for_each(|name| history.done(name, 1.0, 2.0, at(1)));
        assert_eq!(history.ratios.len(), CLASSES_MAX);
    }
}
