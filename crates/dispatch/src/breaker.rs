//! A node that fails again and again is left alone for a while. Says only when; how many may be is decided where all are seen.

use std::time::Duration;

use tutti_base::Tick;

/// Failures in a row that open the breaker.
pub const FAILURES_MAX: u32 = 3;
/// The first time that a node is left alone.
pub const EJECT_MIN: Duration = Duration::from_secs(1);
/// It doubles with each time in a row, up to this.
pub const EJECT_MAX: Duration = Duration::from_secs(30);

/// The breaker of one node: closed lets work flow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Breaker {
    in_a_row: u32,
    /// How often it was opened since the last success.
    times: u32,
    /// Open until then.
    until: Option<Tick>,
}

/// What a breaker lets through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// Everything.
    Closed,
    /// One job at a time, to see.
    Trial,
    /// Nothing before this moment.
    Open(Tick),
}

impl Breaker {
    pub(crate) fn way(&self, now: Tick) -> Way {
        match self.until {
            None => Way::Closed,
            Some(until) if until > now => Way::Open(until),
            Some(_) => Way::Trial,
        }
    }

    pub(crate) fn answered(&mut self) {
        *self = Self::default();
    }

    /// Counts a failure. Work that was under way when the breaker opened adds nothing.
    pub(crate) fn failed(&mut self, now: Tick) {
        match self.way(now) {
            Way::Open(_) => {}
            Way::Trial => self.open(now),
            Way::Closed => {
                self.in_a_row += 1;
                if self.in_a_row >= FAILURES_MAX {
                    self.open(now);
                }
            }
        }
    }

    fn open(&mut self, now: Tick) {
        let length = EJECT_MIN.saturating_mul(1 << self.times.min(16)).min(EJECT_MAX);
        self.times += 1;
        self.until = Some(now + length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Tick {
        Tick(0) + Duration::from_millis(ms)
    }

    #[test]
    fn three_failures_in_a_row_open_it_and_a_success_between_does_not() {
        let mut breaker = Breaker::default();
        breaker.failed(at(0));
        breaker.failed(at(0));
        breaker.answered();
        breaker.failed(at(0));
        breaker.failed(at(0));
        assert_eq!(breaker.way(at(0)), Way::Closed);
        breaker.failed(at(0));
        assert_eq!(breaker.way(at(999)), Way::Open(at(1000)));
        assert_eq!(breaker.way(at(1000)), Way::Trial);
    }

    #[test]
    fn it_stays_open_twice_as_long_each_time_up_to_thirty_seconds() {
        let mut breaker = Breaker::default();
        (0..3).for_each(|_| breaker.failed(at(0)));
        let mut now = at(0);
        let mut lengths = Vec::new();
        for _ in 0..7 {
            let Way::Open(until) = breaker.way(now) else { panic!("it must be open") };
            lengths.push(until.since(now).as_secs());
            breaker.failed(now); // under way when it opened
            now = until;
            breaker.failed(now);
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 30, 30]);
        breaker.answered();
        assert_eq!(breaker.way(now), Way::Closed);
    }
}
