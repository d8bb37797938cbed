//! The TACC contract: what a service says of itself, plans, refines and runs, and what it is handed. No service lives here.

pub mod describe;
pub mod engine;
pub mod facts;
pub mod plan;
pub mod registry;
pub mod request;
pub mod run;
pub mod tenant;

pub use describe::{Capability, Description, JobClass, Mount};
pub use engine::{EngineFailure, EngineInput, EngineOutput, EngineProgram};
pub use facts::{Facts, HeadReader};
pub use plan::{Action, CachePolicy, Gather, Input, JobPlan, Lifetime, Part, Plan, Refined, Response, Rung};
pub use registry::Registry;
pub use request::{Fields, Head};
pub use run::{JobContext, Output, OwnedInput};
pub use tenant::{KeyPair, SourceRules, Tenant};

use tutti_base::{BoxFuture, Problem};

/// One service: a program that transforms one object, aggregates several, or answers by itself.
pub trait Service: Send + Sync {
    /// Its name, version, mounts, job classes and the capabilities it asks for. Constant.
    fn describe(&self) -> &Description;

    /// What answering `head` takes, without I/O. Whatever it reads of the header fields it names in [`Plan::reads`],
    /// and nothing else may influence the plan: it is memoised by (host, raw target, those values).
    fn plan(&self, head: &Head<'_>, tenant: &Tenant) -> Result<Plan, Problem>;

    /// Reads the header of one input, within the bounds that `reader` holds. The only parsing the server process does.
    fn facts(&self, _reader: &mut dyn HeadReader) -> Facts {
        Facts::unknown()
    }

    /// What only the bytes can tell: final format, exact cost, limits, pass-through. Pure.
    fn refine(&self, job: &JobPlan, _facts: &[Facts], _tenant: &Tenant) -> Result<Refined, Problem> {
        Ok(Refined::as_planned(job))
    }

    /// Does the job on whatever worker it was sent to. The default hands parameters and inputs to this service's engine.
    fn run<'a>(
        &'a self,
        job: Refined,
        inputs: Vec<OwnedInput>,
        context: &'a dyn JobContext,
    ) -> BoxFuture<'a, Result<Output, Problem>> {
        context.engine(job, inputs)
    }

    /// The program that runs in this service's engines, where it has one. Called in the child process, once.
    fn engine(&self) -> Option<Box<dyn EngineProgram>> {
        None
    }
}
