//! Pacing engines beneath a CPU quota, and on fronts that have other nodes to give work to. Pure: time is an argument.
//!
//! A quota (cgroup CFS bandwidth) does not slow a group down, it stops the whole of it for the rest of a period, the
//! front and all its connections included. So engines are held to a share of the quota that leaves room for the rest:
//! a bucket of CPU milliseconds that time fills and jobs empty.

use std::time::Duration;

use tutti_base::Tick;

/// What of the quota engines get; the rest is the front's, the journey's and the kernel's network work.
const SHARE: f64 = 0.8;
/// What may be saved up while there is no work, in CPU ms: well below what one period of the quota (100 ms) holds.
const SAVED_MAX_MS: f64 = 20.0;

/// The bucket.
#[derive(Debug)]
pub(crate) struct Pace {
    /// CPU ms a ms.
    rate: f64,
    left_ms: f64,
    filled: Tick,
}

impl Pace {
    /// Full, for a quota of `cores`.
    pub(crate) fn new(cores: f32, now: Tick) -> Self {
        Self::at(f64::from(cores) * SHARE, now)
    }

    /// Full, for `rate` CPU ms a ms.
    pub(crate) fn at(rate: f64, now: Tick) -> Self {
        Self { rate, left_ms: SAVED_MAX_MS, filled: now }
    }

    /// CPU ms a ms that it lets through.
    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }

    /// How long the next job has to wait; zero when it may begin.
    pub(crate) fn wait(&mut self, now: Tick) -> Duration {
        self.fill(now);
        Duration::from_secs_f64((-self.left_ms / self.rate / 1000.0).max(0.0))
    }

    /// Takes out what a job used.
    pub(crate) fn spend(&mut self, cpu_ms: f32, now: Tick) {
        self.fill(now);
        self.left_ms -= f64::from(cpu_ms);
    }

    fn fill(&mut self, now: Tick) {
        let passed_ms = now.since(self.filled).as_secs_f64() * 1000.0;
        self.filled = self.filled.max(now);
        self.left_ms = (self.left_ms + passed_ms * self.rate).min(SAVED_MAX_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Tick {
        Tick(ms * 1_000_000)
    }

    #[test]
    fn over_a_second_engines_get_their_share_of_the_quota_and_no_more() {
        let mut pace = Pace::new(1.5, at(0));
        let spent: f32 = (0..1000)
            .map(|ms| {
                // Two engines, each of which always has a job of 20 ms that ends 20 ms after it began.
                let may = ms % 10 == 0 && pace.wait(at(ms)).is_zero();
                if may {
                    pace.spend(20.0, at(ms));
                }
                if may { 20.0 } else { 0.0 }
            })
            .sum();
        let share = 1500.0 * SHARE as f32;
        assert!((spent - share).abs() <= 45.0, "{spent} of {share}");
    }

    #[test]
    fn after_a_rest_little_is_saved_up() {
        let mut pace = Pace::new(1.0, at(0));
        pace.spend(SAVED_MAX_MS as f32, at(60_000));
        assert!(pace.wait(at(60_000)).is_zero());
        pace.spend(10.0 * SHARE as f32, at(60_000));
        assert!((9..=10).contains(&pace.wait(at(60_000)).as_millis()));
        assert!(pace.wait(at(60_011)).is_zero());
    }
}
