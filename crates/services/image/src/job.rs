//! The parameters of an image job as they are keyed and sent: a [`Spec`] and what the service decides beside it.

use serde::{Deserialize, Serialize};
use tutti_base::envelope::{self, EnvelopeError, Versioned};
use tutti_imaging::Spec;

/// One image job. Equal jobs are equal values and give equal bytes.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ImageJob {
    /// What to make. Planned jobs carry the default limits, so that setting others does not rename every answer;
    /// refined jobs carry those that hold.
    pub spec: Spec,
    /// How the original is handed on; empty in refined jobs.
    pub original: Original,
    /// Media types of originals that are handed on as they are, if that is the wanted format too; sorted.
    pub skip: Vec<String>,
    /// Which of the formats that the client takes.
    pub choice: FormatChoice,
    /// Text that keeps answers apart that would else be one; empty in refined jobs.
    pub cachebuster: Option<String>,
}

/// What becomes of the original.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Original {
    /// It is rendered.
    #[default]
    Rendered,
    /// It is rendered, but handed on as it is where rendering would change nothing that was asked for.
    KeptIfUnchanged,
    /// It is handed on as it is.
    Raw,
}

/// Which format, where none is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum FormatChoice {
    /// The smallest that the client takes.
    #[default]
    Smallest,
    /// The one that costs the least CPU: a rung of the degrade ladder.
    Cheapest,
}

impl Versioned for ImageJob {
    const KIND: u8 = 60;
    const VERSION: u16 = 1;
}

impl ImageJob {
    /// Encoded, with its version.
    pub fn seal(&self) -> bytes::Bytes {
        envelope::seal(self).into()
    }

    /// Reads what [`ImageJob::seal`] made.
    pub fn open(params: &[u8]) -> Result<Self, EnvelopeError> {
        envelope::open(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_its_envelope() {
        let job = ImageJob {
            skip: vec!["image/png".into()],
            original: Original::Raw,
            choice: FormatChoice::Cheapest,
            cachebuster: Some("7".into()),
            ..ImageJob::default()
        };
        assert_eq!(ImageJob::open(&job.seal()), Ok(job));
        assert!(ImageJob::open(b"nonsense").is_err());
    }
}
