//! What the journey needs of the outside, beside the caches' and the fetcher's own traits.

use tutti_base::{BoxFuture, Context, Problem};
use tutti_service::registry::ServiceId;
use tutti_service::{Output, OwnedInput, Refined};

/// Does jobs on this machine.
pub trait Work: Send + Sync {
    /// Waits for a CPU permit, then runs `task`. The deadline in its context bounds the run; cancel-safe: dropping it
    /// frees the permit and kills the engine's job.
    ///
    /// Errors: `Unprocessable` for malformed input, limits, and a second crash; `Timeout` when the deadline passed in
    /// the engine; `Overloaded` when it passed while waiting for a permit.
    fn run(&self, task: Task) -> BoxFuture<'_, Result<Output, Problem>>;

    /// What this machine can give to jobs.
    fn capacity(&self) -> Capacity;
}

/// One job with everything it needs.
#[derive(Debug)]
pub struct Task {
    /// Whose job it is.
    pub service: ServiceId,
    /// The job.
    pub job: Refined,
    /// Its inputs, in the order of the plan.
    pub inputs: Vec<OwnedInput>,
    /// For whose sake.
    pub context: Context,
}

/// What a machine can give to jobs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Capacity {
    /// Cores, after the front's share: jobs run at once.
    pub permits: usize,
    /// CPU milliseconds a millisecond: cores or quota, less the front's reserve.
    pub cpu: f32,
    /// Bytes that jobs may use together.
    pub bytes: u64,
}
