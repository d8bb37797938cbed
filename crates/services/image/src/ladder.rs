//! What to answer when capacity is short: an old copy, then the same size in pixels for less work. Decides nothing itself.

use tutti_imaging::spec::Effort;
use tutti_service::{JobPlan, Rung};

use crate::job::{FormatChoice, ImageJob, Original};

/// The rungs of `job`, best first. The format changes only where it was ours to choose.
pub(crate) fn rungs(job: &ImageJob, plan: impl Fn(&ImageJob) -> JobPlan) -> Vec<Rung> {
    let mut rungs = vec![Rung::Stale];
    if job.original == Original::Raw {
        return rungs;
    }
    let mut cheaper = job.clone();
    cheaper.spec.output.effort = Effort::Least;
    rungs.push(Rung::Cheaper { word: "effort", job: plan(&cheaper) });
    if job.spec.output.format.is_none() && job.spec.output.prefer.is_some() {
        cheaper.choice = FormatChoice::Cheapest;
        rungs.push(Rung::Cheaper { word: "format", job: plan(&cheaper) });
    }
    rungs
}
