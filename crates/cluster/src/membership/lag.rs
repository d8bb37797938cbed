//! How late this node's own timer is: a stalled observer doubts itself first (Lifeguard, arXiv 1707.00788). Pure.

use std::time::Duration;

use tutti_base::Tick;

/// A tick that comes this much too late was a stall: what seemed to fail in that span does not count.
pub const LATE_AFTER: Duration = Duration::from_millis(50);
/// After a stall, answers that waited in the kernel are read first: evidence does not count for this long.
pub(crate) const DOUBT_FOR: Duration = Duration::from_millis(200);
/// The most by which time-outs widen: to nine times.
pub const DOUBT_MAX: u32 = 8;
/// One on-time span of this length takes one step of doubt back.
const CALM: Duration = Duration::from_secs(1);

/// The doubt of a node in itself.
#[derive(Debug)]
pub(crate) struct Lag {
    due: Tick,
    doubt_until: Tick,
    doubt: u32,
    calm_since: Tick,
    last: Duration,
}

impl Lag {
    pub(crate) fn new(now: Tick) -> Self {
        Self { due: now, doubt_until: now, doubt: 0, calm_since: now, last: Duration::ZERO }
    }

    /// Says that a tick runs now; the stall that it shows, if any. `next` follows with [`Lag::expect`].
    pub(crate) fn tick(&mut self, now: Tick) -> Option<Duration> {
        self.last = now.since(self.due);
        if self.last > LATE_AFTER {
            self.doubt_until = now + DOUBT_FOR;
            self.doubt = (self.doubt + 1).min(DOUBT_MAX);
            self.calm_since = now;
            return Some(self.last);
        }
        if now.since(self.calm_since) >= CALM {
            self.doubt = self.doubt.saturating_sub(1);
            self.calm_since = now;
        }
        None
    }

    /// When the next tick should run.
    pub(crate) fn expect(&mut self, due: Tick) {
        self.due = due;
    }

    /// Whether evidence gathered now does not count: the timer is late at this moment, or was just now.
    pub(crate) fn doubts(&self, now: Tick) -> bool {
        now < self.doubt_until || now.since(self.due) > LATE_AFTER
    }

    /// By how much time-outs are multiplied.
    pub(crate) fn stretch(&self) -> u32 {
        1 + self.doubt
    }

    /// How late the last tick was.
    pub(crate) fn last(&self) -> Duration {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn doubt_grows_with_stalls_up_to_its_limit_and_goes_when_calm() {
        let mut lag = Lag::new(Tick(0));
        let mut now = Tick(0);
        for _ in 0..20 {
            lag.expect(now + Duration::from_millis(50));
            now = now + Duration::from_millis(101);
            assert_eq!(lag.tick(now), Some(Duration::from_millis(51)));
        }
        assert_eq!(lag.stretch(), 1 + DOUBT_MAX);
        assert!(lag.doubts(now));
        for _ in 0..(20 * 10) {
            lag.expect(now + Duration::from_millis(50));
            now = now + Duration::from_millis(100);
            assert_eq!(lag.tick(now), None, "50 ms late is not yet a stall");
        }
        assert_eq!(lag.stretch(), 1);
    }

    #[test]
    fn evidence_is_doubted_while_the_timer_is_late_and_shortly_after() {
        let mut lag = Lag::new(Tick(0));
        lag.expect(Tick(50 * MS));
        assert!(!lag.doubts(Tick(100 * MS)));
        assert!(lag.doubts(Tick(101 * MS)), "before the late tick ran");
        lag.tick(Tick(400 * MS));
        lag.expect(Tick(450 * MS));
        assert!(lag.doubts(Tick(420 * MS)));
        lag.tick(Tick(450 * MS));
        lag.expect(Tick(650 * MS));
        assert!(!lag.doubts(Tick(601 * MS)));
    }
}
