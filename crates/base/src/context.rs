//! What travels with a request: who asks, until when, and under which id. Never a header field.

use std::fmt;
use std::time::Duration;

use crate::{TenantId, Tick};

/// Names one request in logs and traces: 64 random bits, shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The moment after which nobody waits for the answer any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Deadline(pub Tick);

impl Deadline {
    /// The deadline `within` from `now`.
    pub fn after(now: Tick, within: Duration) -> Self {
        Self(now + within)
    }
    /// What is left at `now`; zero when it has passed.
    pub fn left(self, now: Tick) -> Duration {
        self.0.since(now)
    }
    /// Whether it has passed.
    pub fn passed(self, now: Tick) -> bool {
        now >= self.0
    }
}

/// The context of one request, handed down by value from the front to the engine.
#[derive(Clone, Debug)]
pub struct Context {
    /// Its id.
    pub id: RequestId,
    /// Whose request it is.
    pub tenant: TenantId,
    /// When it arrived.
    pub arrived: Tick,
    /// When its answer is due.
    pub deadline: Deadline,
}
