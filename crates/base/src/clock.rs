//! The clock seam. Nothing outside an implementation of [`Clock`] reads the time.

use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::BoxFuture;

/// A moment of the monotonic clock, in nanoseconds since an arbitrary start. Compare only ticks of one clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// Time from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Tick {
    type Output = Tick;
    fn add(self, by: Duration) -> Tick {
        Tick(self.0.saturating_add(by.as_nanos().min(u128::from(u64::MAX)) as u64))
    }
}

impl Sub<Duration> for Tick {
    type Output = Tick;
    fn sub(self, by: Duration) -> Tick {
        Tick(self.0.saturating_sub(by.as_nanos().min(u128::from(u64::MAX)) as u64))
    }
}

/// A moment of the calendar clock, in milliseconds since 1970. It may step; use it only for what outlives the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Wall(pub u64);

impl Wall {
    /// Whole seconds since 1970.
    pub fn secs(self) -> u64 {
        self.0 / 1000
    }
    /// Time from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Wall) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Wall {
    type Output = Wall;
    fn add(self, by: Duration) -> Wall {
        Wall(self.0.saturating_add(by.as_millis().min(u128::from(u64::MAX)) as u64))
    }
}

/// Where time comes from: the machine's clock in the server, a simulated one in the lab.
pub trait Clock: Send + Sync {
    /// The monotonic clock.
    fn now(&self) -> Tick;
    /// The calendar clock.
    fn wall(&self) -> Wall;
    /// Completes at `until` or soon after. Cancel-safe.
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()>;
}

/// Reads the machine's clocks; it is the one place that does. Sleeping needs a runtime, so the binary wraps this.
#[derive(Clone, Copy)]
pub struct MachineTime {
    start: Instant,
}

impl MachineTime {
    /// Starts the monotonic count now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
    /// The monotonic clock.
    pub fn now(&self) -> Tick {
        Tick(self.start.elapsed().as_nanos() as u64)
    }
    /// The `Instant` of a tick, for handing to a runtime's timer.
    pub fn instant(&self, tick: Tick) -> Instant {
        self.start + Duration::from_nanos(tick.0)
    }
    /// The calendar clock; 1970 if the machine says it is earlier.
    pub fn wall(&self) -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall(since.as_millis() as u64)
    }
}
