//! Plans: what answering a request takes. Values without behaviour; equal plans give equal keys.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tutti_base::http::Field;
use tutti_base::{Source, Wall};

/// What answering one request takes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to do.
    pub action: Action,
    /// The request header fields that this plan read, in lower case; also what `Vary` is made of.
    pub reads: Vec<&'static str>,
    /// The value of `Vary`, where the answer depends on fields that were read.
    pub vary: Option<&'static str>,
    /// How the answer may be kept.
    pub cache: CachePolicy,
    /// What to answer instead when capacity is short, best first. Refusal follows by itself.
    pub ladder: Vec<Rung>,
    /// Fields that go with the answer (never with a failure), such as `Content-Disposition`.
    pub fields: Vec<Field>,
    /// When the URL itself expires; afterwards it is answered 404.
    pub expires: Option<Wall>,
    /// The original shown in place of a failure, where the tenant has set one: a job that makes it.
    pub placeholder: Option<Box<JobPlan>>,
}

impl Plan {
    /// A plan that does `action`, reads nothing and may not be stored.
    pub fn of(action: Action) -> Self {
        Self {
            action,
            reads: Vec::new(),
            vary: None,
            cache: CachePolicy::never(),
            ladder: Vec::new(),
            fields: Vec::new(),
            expires: None,
            placeholder: None,
        }
    }
}

/// What a plan does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Answer at once.
    Respond(Response),
    /// Run one job.
    Job(JobPlan),
    /// Run several plans and put their answers together.
    Gather(Gather),
}

/// An answer that needs no work.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

/// Several parts, asked at once.
#[derive(Clone, Debug)]
pub struct Gather {
    /// The parts, in the order in which their answers stand.
    pub parts: Vec<Part>,
    /// How long to wait for them.
    pub within: Duration,
    /// How many must have answered; with fewer the gather fails.
    pub at_least: usize,
    /// The value of `Content-Type` of the whole.
    pub content_type: String,
    /// Stands in place of a part that is late or dead.
    pub missing: Bytes,
}

/// One part of a gather.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it is called in notes and traces.
    pub name: String,
    /// What it takes.
    pub plan: Plan,
}

/// One job: canonical parameters, inputs and predicted cost.
#[derive(Clone, Debug)]
pub struct JobPlan {
    /// The name of its class in the service's description.
    pub class: &'static str,
    /// The canonical operations, encoded and versioned by the service; part of the request key.
    pub params: Bytes,
    /// What it works on.
    pub inputs: Vec<Input>,
    /// What it will cost before anything is known of the inputs: a typical guess.
    pub cost: Cost,
}

/// One input of a job.
#[derive(Clone, Debug)]
pub enum Input {
    /// An original.
    Original(Source),
    /// The answer of another plan.
    Plan(Box<Plan>),
}

/// The predicted cost of a job.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// CPU time in milliseconds on a reference core.
    pub cpu_ms: f32,
    /// Memory in bytes while it runs, in engine and server together.
    pub bytes: u64,
    /// Values of the class's features, for learning.
    pub features: [f32; 4],
}

/// A job after the facts are known.
#[derive(Clone, Debug)]
pub struct Refined {
    /// The name of its class.
    pub class: &'static str,
    /// The final parameters, as the engine gets them; part of the result key.
    pub params: Bytes,
    /// The corrected cost.
    pub cost: Cost,
    /// Give the first input's bytes as they are, with this media type, instead of running anything.
    pub pass_through: Option<String>,
}

impl Refined {
    /// The job exactly as it was planned.
    pub fn as_planned(job: &JobPlan) -> Self {
        Self { class: job.class, params: job.params.clone(), cost: job.cost, pass_through: None }
    }
}

/// How an answer may be kept.
#[derive(Clone, PartialEq, Debug)]
pub struct CachePolicy {
    /// For how long it is fresh.
    pub lifetime: Lifetime,
    /// For how long after that it may be served while it is made anew (RFC 5861).
    pub stale_while_revalidate: Duration,
    /// For how long after that it may be served when its origin or our capacity fails (RFC 5861 stale-if-error).
    pub stale_if_error: Duration,
    /// Tags to purge it by, beside those of its originals.
    pub tags: Vec<String>,
}

impl CachePolicy {
    /// Neither stored here nor by anyone else.
    pub fn never() -> Self {
        Self {
            lifetime: Lifetime::Never,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            tags: Vec::new(),
        }
    }
}

/// For how long an answer is fresh.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Lifetime {
    /// Not stored at all.
    Never,
    /// As long as its originals are, or this where they do not say.
    OfOriginals {
        /// Where the originals do not say.
        default: Duration,
    },
    /// For this long, whatever the originals say.
    Fixed(Duration),
}

/// One rung of the degrade ladder.
#[derive(Clone, Debug)]
pub enum Rung {
    /// An expired copy, however old within its stale-if-error time.
    Stale,
    /// The same size in pixels by a cheaper job.
    Cheaper {
        /// What is cheaper about it, for `Cache-Status` and metrics, such as `effort`.
        word: &'static str,
        /// The cheaper job.
        job: JobPlan,
    },
}
