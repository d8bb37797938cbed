//! What is asked for: a job with its predicted cost and deadline. Knows no service.

use std::time::Duration;

use tutti_base::{NodeId, Tick};

use crate::policy::Policy;

/// Jobs that are predicted to take less than this many ms are small: they have a lane of their own.
pub const SMALL_MS: f64 = 20.0;

/// A job that wants a node.
#[derive(Clone, PartialEq, Debug)]
pub struct JobAsk {
    /// Its class in the service's description.
    pub class: &'static str,
    /// By which policy its node is chosen: the service's, as of now.
    pub policy: Policy,
    /// Predicted CPU time in ms, as this node would need it.
    pub predicted_ms: f64,
    /// Bytes that cross the network when it runs elsewhere, without the original.
    pub bytes: u64,
    /// What it costs a node that lacks the original to get it, in ms.
    pub original_ms: f64,
    /// Names its original, for policies that keep variants of one original together.
    pub key: u64,
    /// When its answer is worth nothing any more.
    pub deadline: Tick,
    /// Nodes that failed it already.
    pub tried: Vec<NodeId>,
}

impl JobAsk {
    /// A job that has been tried nowhere, brings no original and few bytes.
    pub fn new(class: &'static str, predicted_ms: f64, deadline: Tick) -> Self {
        let (policy, tried) = (Policy::default(), Vec::new());
        Self { class, policy, predicted_ms, bytes: 0, original_ms: 0.0, key: 0, deadline, tried }
    }

    /// Whether it goes by the small lane.
    pub fn size(&self) -> Size {
        if self.predicted_ms < SMALL_MS { Size::Small } else { Size::Heavy }
    }
}

/// Which lane a job goes by. Small jobs never wait behind heavy ones (size-interval assignment: Harchol-Balter, Crovella,
/// Murta 1998).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// Below [`SMALL_MS`].
    Small,
    /// All others.
    Heavy,
}

impl Size {
    /// The word in output and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Size::Small => "small",
            Size::Heavy => "heavy",
        }
    }
}

/// How work that was sent to a node ended.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Outcome {
    /// It was done, and took this many ms of CPU there.
    Done {
        /// Measured CPU time in ms; 0 when nobody measured: nothing is learned then.
        measured_ms: f64,
    },
    /// The node, or the way to it, failed. Not for refusals that the client is to blame for.
    Failed {
        /// How long the node wants to be left alone, where it said so.
        retry_after: Option<Duration>,
    },
    /// The node had no place: it is full and not at fault. Offer the job again.
    Full,
    /// Nobody wants it any more, or it ended by no fault of the node.
    Cancelled,
}

/// Milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A duration of milliseconds; 0 for what is below.
pub(crate) fn of_millis(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms.max(0.0) / 1000.0).unwrap_or(Duration::MAX)
}
