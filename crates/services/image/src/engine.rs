//! The program inside an image engine: one renderer that keeps its buffers. Runs in the sandbox only.

use tutti_base::Kind;
use tutti_imaging::{ImagingError, Renderer};
use tutti_service::{EngineFailure, EngineInput, EngineOutput, EngineProgram};

use crate::job::{ImageJob, Original};

/// Renders image jobs, one at a time.
pub struct ImageEngine {
    renderer: Renderer,
}

impl ImageEngine {
    /// An engine with empty buffers.
    pub fn new() -> Self {
        Self { renderer: Renderer::new() }
    }
}

impl Default for ImageEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl EngineProgram for ImageEngine {
    fn run(
        &mut self,
        params: &[u8],
        inputs: &[EngineInput<'_>],
        out: &mut Vec<u8>,
    ) -> Result<EngineOutput, EngineFailure> {
        let job =
            ImageJob::open(params).map_err(|error| defect(format!("the job could not be read: {error}")))?;
        let input = inputs.first().ok_or_else(|| defect("the job came without its original"))?;
        if job.original == Original::Raw {
            return Err(defect("an original that is handed on needs no engine"));
        }
        let rendered = self.renderer.render(&job.spec, input.bytes, out).map_err(failure)?;
        Ok(EngineOutput { content_type: rendered.format.media().to_owned(), fields: Vec::new() })
    }
}

fn failure(error: ImagingError) -> EngineFailure {
    let kind = match error {
        ImagingError::Internal { .. } => Kind::Internal,
        _ => Kind::Unprocessable,
    };
    EngineFailure {
        kind,
        of_input: error.of_input(),
        detail: error.to_string(),
        subject: error.limit().map(str::to_owned),
    }
}

fn defect(detail: impl Into<String>) -> EngineFailure {
    EngineFailure { kind: Kind::Internal, of_input: false, detail: detail.into(), subject: None }
}
