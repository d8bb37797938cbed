//! What a service says of itself before it is asked anything.

use std::time::Duration;

/// A service's constant description.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its name: lower-case letters, digits and hyphens; the label in metrics and its section in the configuration.
    pub name: &'static str,
    /// One line for `tutti help` and the console.
    pub summary: &'static str,
    /// Where it answers by default.
    pub mounts: Vec<Mount>,
    /// The kinds of job it gives rise to.
    pub classes: Vec<JobClass>,
    /// What it needs beyond the contract.
    pub capabilities: Vec<Capability>,
    /// How long a request may take, from its arrival.
    pub deadline: Duration,
    /// Raised when the engine's output for the same job changes; older results are then stale.
    pub epoch: u32,
}

/// A place in the URL space where a service answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// Begins and ends with `/`.
    pub prefix: String,
    /// The one host it answers on; none for all hosts that nothing else has claimed.
    pub host: Option<String>,
}

impl Mount {
    /// A mount on every unclaimed host.
    pub fn at(prefix: &str) -> Self {
        Self { prefix: prefix.into(), host: None }
    }
}

/// A kind of job, with the features its cost is learned from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobClass {
    /// Its name, unique in the service.
    pub name: &'static str,
    /// What the features in [`crate::plan::Cost::features`] are, in order.
    pub features: &'static [&'static str],
}

/// What a service asks the house for; each is handed in as a trait object through the job context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capability {
    /// Engines of its own: sandboxed child processes.
    Engine,
    /// Fetching originals from outside.
    Fetch,
}
