//! When something that failed may be started again: exponential back-off and a fail count. Pure; time is an argument.

use std::time::Duration;

use tutti_base::Tick;

/// How long to wait after failures.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RestartPolicy {
    /// After the first failure.
    pub first: Duration,
    /// At most; each failure in a row doubles the wait up to here.
    pub longest: Duration,
    /// A failure counts as one of a row until this long after it.
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            longest: Duration::from_secs(10),
            window: Duration::from_secs(60),
        }
    }
}

/// The failures of one thing so far.
#[derive(Clone, Debug)]
pub struct Restarts {
    policy: RestartPolicy,
    fails: u32,
    last: Tick,
}

impl Restarts {
    /// No failures yet.
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, fails: 0, last: Tick::default() }
    }
    /// Notes a failure at `now`; returns how long to wait before the next start.
    pub fn failed(&mut self, now: Tick) -> Duration {
        if now.since(self.last) > self.policy.window {
            self.fails = 0;
        }
        self.fails = self.fails.saturating_add(1);
        self.last = now;
        self.wait(now)
    }
    /// Notes a start that worked: the row is broken.
    pub fn succeeded(&mut self) {
        self.fails = 0;
    }
    /// How long to wait at `now` before the next start; zero when it may be at once.
    pub fn wait(&self, now: Tick) -> Duration {
        if self.fails == 0 {
            return Duration::ZERO;
        }
        let doublings = 2_u32.saturating_pow(self.fails - 1);
        let pause = self.policy.first.saturating_mul(doublings).min(self.policy.longest);
        (self.last + pause).since(now)
    }
    /// Failures in a row, within the window of the last.
    pub fn fails(&self) -> u32 {
        self.fails
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Tick {
        Tick(ms * 1_000_000)
    }

    fn restarts() -> Restarts {
        Restarts::new(RestartPolicy { first: 50 * MS, longest: 400 * MS, window: 1000 * MS })
    }

    #[test]
    fn each_failure_doubles_the_wait_up_to_the_longest() {
        let mut restarts = restarts();
        let waits: Vec<_> = (0..6).map(|_| restarts.failed(at(10)).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 400, 400]);
        assert_eq!(restarts.fails(), 6);
    }

    #[test]
    fn the_wait_runs_out_and_a_start_that_works_ends_it() {
        let mut restarts = restarts();
        assert_eq!(restarts.wait(at(0)), Duration::ZERO);
        restarts.failed(at(100));
        assert_eq!(restarts.wait(at(120)), 30 * MS);
        assert_eq!(restarts.wait(at(150)), Duration::ZERO);
        restarts.failed(at(150));
        restarts.succeeded();
        assert_eq!(restarts.wait(at(150)), Duration::ZERO);
    }

    #[test]
    fn a_failure_after_a_quiet_window_counts_as_the_first() {
        let mut restarts = restarts();
        restarts.failed(at(0));
        restarts.failed(at(500));
        assert_eq!(restarts.failed(at(1501)), 50 * MS, "1001 ms after the last");
    }

    #[test]
    fn thousands_of_failures_do_not_overflow() {
        let mut restarts = restarts();
        for _ in 0..5000 {
            restarts.failed(at(7));
        }
        assert_eq!(restarts.wait(at(7)), 400 * MS);
    }
}
