//! What a running job is handed, and what it gives back.

use std::fs::File;
use std::sync::Arc;

use tutti_base::http::Field;
use tutti_base::{Body, BoxFuture, Context, Problem};

use crate::{Facts, Refined};

/// One input of a running job: immutable bytes behind a read-only descriptor.
#[derive(Clone, Debug)]
pub struct OwnedInput {
    /// The bytes: a cached file, or a memfd sealed against writing.
    pub file: Arc<File>,
    /// Their number.
    pub len: u64,
    /// What the probe found.
    pub facts: Facts,
}

/// What a job gives back.
#[derive(Debug)]
pub struct Output {
    /// The value of `Content-Type`.
    pub content_type: String,
    /// The bytes.
    pub body: Body,
    /// Fields that belong to these bytes, stored with them.
    pub fields: Vec<Field>,
    /// CPU time that the engine took, in milliseconds; what the cost model learns from.
    pub cpu_ms: f32,
}

/// What the house gives to a running job.
pub trait JobContext: Send + Sync {
    /// The request for whose sake it runs: tenant, deadline, id.
    fn request(&self) -> &Context;
    /// Runs one engine job: `params` and `inputs` go to an engine of this service, its output comes back. One crash is
    /// retried on a fresh engine. Cancel-safe: dropping it kills the engine's job.
    fn engine(&self, job: Refined, inputs: Vec<OwnedInput>) -> BoxFuture<'_, Result<Output, Problem>>;
}
