//! What a job will cost, in the contract's terms: a guess for a typical photo before anything is known, exact afterwards.

use tutti_imaging::{ImageFacts, SourceFormat, Spec, estimate};
use tutti_service::plan::Cost;

use crate::job::{ImageJob, Original};

/// The features of the one job class, as imaging names them.
pub(crate) const FEATURES: &[&str] = &tutti_imaging::cost::FEATURES;

/// The cost of `spec` for an original of these facts; unknown ones are charged as the worst that the limits let through.
pub(crate) fn of(spec: &Spec, image: &ImageFacts) -> Cost {
    let tutti_imaging::Cost { cpu_ms, bytes, features } = estimate(spec, image);
    Cost { cpu_ms, bytes, features }
}

/// The cost of handing an original on.
pub(crate) fn none() -> Cost {
    Cost::default()
}

/// The guess before the original is known: a photo of 12 megapixels and 4 MB, as phones and cameras make them.
pub(crate) fn before_facts(job: &ImageJob) -> Cost {
    if job.original == Original::Raw {
        return none();
    }
    let photo = ImageFacts {
        format: Some(SourceFormat::Jpeg),
        unknown: false,
        width: 4000,
        height: 3000,
        bits: 8,
        channels: 3,
        ..ImageFacts::unknown(4_000_000)
    };
    of(&job.spec, &photo)
}
