//! The program inside an engine: a child process without network, files or privileges that works on one job at a time.

use serde::{Deserialize, Serialize};
use tutti_base::Kind;
use tutti_base::http::Field;

/// A service's engine program. One instance lives in one child process and may keep buffers between jobs.
pub trait EngineProgram {
    /// Works on one job and appends the result to `out`, which is empty and keeps its capacity between jobs. It may be
    /// killed at any instruction.
    fn run(
        &mut self,
        params: &[u8],
        inputs: &[EngineInput<'_>],
        out: &mut Vec<u8>,
    ) -> Result<EngineOutput, EngineFailure>;
}

/// One input, mapped read-only.
#[derive(Clone, Copy, Debug)]
pub struct EngineInput<'a> {
    /// Its bytes; untrusted.
    pub bytes: &'a [u8],
}

/// What goes with a result's bytes.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct EngineOutput {
    /// The value of `Content-Type`.
    pub content_type: String,
    /// Fields that belong to these bytes.
    pub fields: Vec<Field>,
}

/// Why an engine could not do a job; not a crash.
#[derive(Clone, PartialEq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{detail}")]
pub struct EngineFailure {
    /// What it is: `Unprocessable` for malformed input and for limits, `Internal` for defects.
    pub kind: Kind,
    /// Whether it is the input alone that is to blame, whatever the operations.
    pub of_input: bool,
    /// One sentence that a client may read.
    pub detail: String,
    /// The limit or option concerned.
    pub subject: Option<String>,
}
