//! A breaker: keeps an origin that keeps failing from being asked. Pure; the clock is an argument.
//!
//! Closed it lets requests pass. After [`FAILURES_MAX`] failures in a row it opens for [`OPEN_FIRST`]; then one probe
//! decides: success closes it, failure opens it for twice as long, up to [`OPEN_MAX`].

use std::time::Duration;

use tutti_base::Tick;

/// So many failures in a row open it.
pub const FAILURES_MAX: u32 = 5;
/// How long it stays open the first time.
pub const OPEN_FIRST: Duration = Duration::from_secs(1);
/// The longest that it stays open.
pub const OPEN_MAX: Duration = Duration::from_secs(30);

/// The breaker of one origin.
#[derive(Clone, PartialEq, Debug)]
pub struct Breaker {
    state: State,
    /// Counts changes of state: a verdict on a request that was admitted in another state says nothing about this one.
    era: u64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Tick, pause: Duration },
    HalfOpen { pause: Duration },
}

/// What a breaker says of one request.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Admission {
    /// It may be sent; its verdict is given with this ticket.
    Pass(Ticket),
    /// It may not, for so long.
    Refuse(Duration),
}

/// Goes with an admitted request, and comes back with its verdict.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ticket {
    era: u64,
}

/// How an admitted request went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The origin answered.
    Success,
    /// It did not, or said that it cannot.
    Failure,
    /// Nothing can be said of it: given up by us.
    Unknown,
}

/// What a breaker is, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Traffic flows.
    Closed,
    /// Nothing is asked.
    Open,
    /// One probe is on its way.
    HalfOpen,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 }, era: 0 }
    }
}

impl Breaker {
    /// Whether a request may be sent at `now`.
    pub fn admit(&mut self, now: Tick) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Pass(Ticket { era: self.era }),
            State::Open { until, .. } if now < until => Admission::Refuse(until.since(now)),
            State::Open { pause, .. } => {
                self.enter(State::HalfOpen { pause });
                Admission::Pass(Ticket { era: self.era })
            }
            State::HalfOpen { pause } => Admission::Refuse(pause),
        }
    }

    /// Takes the verdict on an admitted request at `now`.
    pub fn settle(&mut self, ticket: Ticket, verdict: Verdict, now: Tick) {
        if ticket.era != self.era {
            return;
        }
        match (self.state, verdict) {
            (State::Closed { .. }, Verdict::Success) => self.state = State::Closed { failures: 0 },
            (State::Closed { failures }, Verdict::Failure) if failures + 1 < FAILURES_MAX => {
                self.state = State::Closed { failures: failures + 1 };
            }
            (State::Closed { .. }, Verdict::Failure) => self.open(OPEN_FIRST, now),
            (State::HalfOpen { .. }, Verdict::Success) => self.enter(State::Closed { failures: 0 }),
            (State::HalfOpen { pause }, Verdict::Failure) => self.open((pause * 2).min(OPEN_MAX), now),
            // Nobody knows how the probe went: the next request is the probe.
            (State::HalfOpen { pause }, Verdict::Unknown) => self.enter(State::Open { until: now, pause }),
            (State::Closed { .. }, Verdict::Unknown) | (State::Open { .. }, _) => {}
        }
    }

    /// What it is now.
    pub fn condition(&self) -> Condition {
        match self.state {
            State::Closed { .. } => Condition::Closed,
            State::Open { .. } => Condition::Open,
            State::HalfOpen { .. } => Condition::HalfOpen,
        }
    }

    fn open(&mut self, pause: Duration, now: Tick) {
        self.enter(State::Open { until: now + pause, pause });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.era += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Tick = Tick(1_000_000_000);

    fn pass(breaker: &mut Breaker, now: Tick) -> Ticket {
        match breaker.admit(now) {
            Admission::Pass(ticket) => ticket,
            Admission::Refuse(wait) => panic!("refused for {wait:?}"),
        }
    }

    fn fail(breaker: &mut Breaker, now: Tick) {
        let ticket = pass(breaker, now);
        breaker.settle(ticket, Verdict::Failure, now);
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        (0..FAILURES_MAX).for_each(|_| fail(&mut breaker, START));
        assert_eq!(breaker.condition(), Condition::Open);
        breaker
    }

    #[test]
    fn it_opens_at_the_limit_of_failures_in_a_row_and_not_before() {
        let mut breaker = Breaker::default();
        (1..FAILURES_MAX).for_each(|_| fail(&mut breaker, START));
        assert_eq!(breaker.condition(), Condition::Closed);
        let ticket = pass(&mut breaker, START);
        breaker.settle(ticket, Verdict::Success, START);
        (1..FAILURES_MAX).for_each(|_| fail(&mut breaker, START));
        assert_eq!(breaker.condition(), Condition::Closed);
        fail(&mut breaker, START);
        assert_eq!(breaker.admit(START), Admission::Refuse(OPEN_FIRST));
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let mut breaker = opened();
        let later = START + OPEN_FIRST;
        let probe = pass(&mut breaker, later);
        assert!(matches!(breaker.admit(later), Admission::Refuse(_)));
        breaker.settle(probe, Verdict::Success, later);
        assert_eq!(breaker.condition(), Condition::Closed);
        fail(&mut breaker, later);
        assert_eq!(breaker.condition(), Condition::Closed, "old failures are forgotten");
    }

    #[test]
    fn each_failed_probe_doubles_the_pause_up_to_its_limit() {
        let (mut breaker, mut now, mut pause) = (opened(), START, OPEN_FIRST);
        for _ in 0..8 {
            assert!(matches!(breaker.admit(now + pause - Duration::from_nanos(1)), Admission::Refuse(_)));
            now = now + pause;
            fail(&mut breaker, now);
            pause = (pause * 2).min(OPEN_MAX);
        }
        assert_eq!(breaker.admit(now), Admission::Refuse(OPEN_MAX));
    }

    #[test]
    fn a_probe_that_was_given_up_makes_room_for_the_next_at_once() {
        let mut breaker = opened();
        let later = START + OPEN_FIRST;
        let probe = pass(&mut breaker, later);
        breaker.settle(probe, Verdict::Unknown, later);
        let next = pass(&mut breaker, later);
        breaker.settle(next, Verdict::Success, later);
        assert_eq!(breaker.condition(), Condition::Closed);
    }

    #[test]
    fn late_verdicts_from_before_a_change_count_for_nothing() {
        let mut breaker = Breaker::default();
        let slow = pass(&mut breaker, START);
        (0..FAILURES_MAX).for_each(|_| fail(&mut breaker, START));
        breaker.settle(slow, Verdict::Success, START);
        assert_eq!(breaker.condition(), Condition::Open);
        let later = START + OPEN_FIRST;
        let _probe = pass(&mut breaker, later);
        breaker.settle(slow, Verdict::Failure, later);
        assert_eq!(breaker.condition(), Condition::HalfOpen);
    }

    proptest! {
        #[test]
        fn it_never_stays_shut_longer_than_its_longest_pause(steps in prop::collection::vec((0..3_u8, 0..40_000_u64), 1..200)) {
            let (mut breaker, mut now) = (Breaker::default(), START);
            for (verdict, ms) in steps {
                now = now + Duration::from_millis(ms);
                let verdict = [Verdict::Success, Verdict::Failure, Verdict::Unknown][usize::from(verdict)];
                match breaker.admit(now) {
                    Admission::Pass(ticket) => breaker.settle(ticket, verdict, now),
                    Admission::Refuse(wait) => {
                        prop_assert!(wait <= OPEN_MAX);
                        prop_assert!(matches!(breaker.admit(now + wait), Admission::Pass(_)));
                        breaker.settle(Ticket { era: breaker.era }, verdict, now);
                    }
                }
            }
        }
    }
}
