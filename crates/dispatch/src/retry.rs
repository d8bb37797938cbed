//! The retry budget: retries are a share of the requests, so that they cannot keep an overload alive (Bronson et al.,
//! "Metastable Failures", HotOS 2021).

use std::time::Duration;

use tutti_base::Tick;

/// The share of requests that may be retries.
pub const RETRY_SHARE: f64 = 0.2;
/// Retries a second that are always allowed.
pub const RETRIES_A_SECOND: f64 = 10.0;
/// Over how many seconds both are counted.
pub const WINDOW_SECS: u64 = 10;

/// Counts requests and retries of the last ten seconds.
#[derive(Clone, Debug, Default)]
pub struct RetryBudget {
    /// (second, requests, retries), each in the place that its second names.
    seconds: [(u64, u32, u32); WINDOW_SECS as usize],
}

impl RetryBudget {
    /// Counts a request that is tried for the first time.
    pub fn request(&mut self, now: Tick) {
        self.second(now).1 += 1;
    }

    /// Takes a retry out of the budget; `false` when there is none left, and then the failure is the answer.
    pub fn take(&mut self, now: Tick) -> bool {
        if self.left(now) < 1.0 {
            return false;
        }
        self.second(now).2 += 1;
        true
    }

    /// Retries that are left now.
    pub fn left(&self, now: Tick) -> f64 {
        let this = second_of(now);
        let recent = self.seconds.iter().filter(|(second, ..)| second + WINDOW_SECS > this);
        let (requests, retries) = recent.fold((0, 0), |(a, b), (_, asked, again)| (a + asked, b + again));
        RETRY_SHARE * f64::from(requests) + RETRIES_A_SECOND * WINDOW_SECS as f64 - f64::from(retries)
    }

    fn second(&mut self, now: Tick) -> &mut (u64, u32, u32) {
        let this = second_of(now);
        let place = &mut self.seconds[(this % WINDOW_SECS) as usize];
        if place.0 != this {
            *place = (this, 0, 0);
        }
        place
    }
}

fn second_of(now: Tick) -> u64 {
    // Seconds from 1, so that no second equals the empty place.
    now.0 / Duration::from_secs(1).as_nanos() as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Tick {
        Tick(0) + Duration::from_secs(secs)
    }

    #[test]
    fn a_fifth_of_the_requests_and_a_few_more_may_be_retries() {
        let mut budget = RetryBudget::default();
        (0..1000).for_each(|_| budget.request(at(5)));
        let taken = (0..1000).filter(|_| budget.take(at(5))).count();
        assert_eq!(taken, 300, "20 % of 1000 and 10 a second over 10 s");
        assert!(!budget.take(at(6)));
    }

    #[test]
    fn the_budget_comes_back_when_the_seconds_have_passed() {
        let mut budget = RetryBudget::default();
        (0..100).for_each(|_| assert!(budget.take(at(5))));
        assert!(!budget.take(at(14)));
        assert!(budget.take(at(15)));
        assert_eq!(budget.left(at(1000)), 100.0);
    }
}
