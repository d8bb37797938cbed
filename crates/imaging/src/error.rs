//! Why an image could not be made, in a closed set. Decides no status code.

use crate::probe::SourceFormat;

/// Why a job failed; never a crash.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ImagingError {
    /// The input is none of the known formats.
    #[error("the source is not an image of a known format")]
    NotAnImage,
    /// The input is of a format that cannot be decoded here.
    #[error("{} images cannot be decoded here; JPEG, PNG and WebP can", format.name())]
    Unsupported {
        /// What it is.
        format: SourceFormat,
    },
    /// The input breaks the rules of its format, or ends too early.
    #[error("the source is not a sound {}: {what}", format.name())]
    Malformed {
        /// What it claims to be.
        format: SourceFormat,
        /// What is wrong.
        what: String,
    },
    /// Something is over a limit.
    #[error("{what} is {value}, over the limit {name} of {max}")]
    Limit {
        /// The limit's name, as an option or a setting has it.
        name: &'static str,
        /// What was measured.
        what: &'static str,
        /// How much it is.
        value: u64,
        /// How much is allowed.
        max: u64,
    },
    /// A defect or a lack of memory of ours.
    #[error("the image could not be made: {what}")]
    Internal {
        /// What went wrong, for the log.
        what: String,
    },
}

impl ImagingError {
    /// The limit on pixels of a source frame.
    pub const SOURCE_PIXELS: &'static str = "max_src_resolution";
    /// The limit on bytes of a source.
    pub const SOURCE_BYTES: &'static str = "max_src_file_size";
    /// The limit on the sides of a result.
    pub const RESULT_SIDE: &'static str = "max_result_dimension";

    /// Whether the input alone is to blame, whatever the operations: such a verdict may be kept for the content.
    pub fn of_input(&self) -> bool {
        match self {
            ImagingError::NotAnImage | ImagingError::Unsupported { .. } | ImagingError::Malformed { .. } => {
                true
            }
            ImagingError::Limit { name, .. } => *name != Self::RESULT_SIDE,
            ImagingError::Internal { .. } => false,
        }
    }

    /// The name of the limit concerned, if there is one.
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            ImagingError::Limit { name, .. } => Some(name),
            _ => None,
        }
    }

    pub(crate) fn malformed(format: SourceFormat, what: impl Into<String>) -> Self {
        ImagingError::Malformed { format, what: what.into() }
    }

    pub(crate) fn internal(what: impl Into<String>) -> Self {
        ImagingError::Internal { what: what.into() }
    }
}
