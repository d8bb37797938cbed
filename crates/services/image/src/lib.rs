//! The image service: imgproxy's URL dialect compiled to canonical jobs, refined by what an original is, rendered in engines.
//! Does no I/O; knows no caches, peers or sockets.

mod accept;
mod compile;
mod config;
mod cost;
mod dialect;
mod disposition;
mod engine;
mod job;
mod ladder;
mod percent;
mod refine;
mod url;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tutti_base::http::{Field, Method};
use tutti_base::{Kind, Problem, Source, Wall};
use tutti_imaging::spec::Format;
use tutti_service::{
    Action, CachePolicy, Capability, Description, EngineProgram, Facts, Head, HeadReader, Input, JobClass,
    JobPlan, Lifetime, Mount, Plan, Refined, Service, Tenant,
};

use self::dialect::Asked;
use self::dialect::options::Options;
use self::job::Original;

pub use self::config::{Config, LimitsConfig, Quality};
pub use self::dialect::known::{BUILT, GUARDED, NOT_BUILT};
pub use self::dialect::signature::{SIGNATURE_BYTES, sign, sign_truncated};
pub use self::engine::ImageEngine;
pub use self::job::{FormatChoice, ImageJob};
pub use self::url::{ImageUrl, SourceEncoding};

/// Raised when an engine's bytes for the same job change.
pub const EPOCH: u32 = 1;
/// How long a request may take, from its arrival.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// The class of every job of this service.
pub const RENDER: &str = "render";

/// The image service. Its settings can be changed while it runs; each plan is made under one version of them.
pub struct ImageService {
    description: Description,
    config: ArcSwap<Config>,
}

impl ImageService {
    /// The service with these settings.
    ///
    /// # Errors
    /// What [`Config::validate`] says.
    pub fn new(config: Config) -> Result<Self, String> {
        config.validate()?;
        let description = Description {
            name: "image",
            summary: "resizes, crops and re-encodes photos on demand, by imgproxy's URLs",
            mounts: vec![Mount::at("/image/")],
            classes: vec![JobClass { name: RENDER, features: cost::FEATURES }],
            capabilities: vec![Capability::Engine, Capability::Fetch],
            deadline: DEADLINE,
            epoch: EPOCH,
        };
        Ok(Self { description, config: ArcSwap::from_pointee(config) })
    }

    /// Puts other settings in place, for all plans from now on. Plans that were memoised have to be forgotten by whoever
    /// keeps them.
    ///
    /// # Errors
    /// What [`Config::validate`] says; the settings then stay as they are.
    pub fn reconfigure(&self, config: Config) -> Result<(), String> {
        config.validate()?;
        self.config.store(Arc::new(config));
        Ok(())
    }
}

/// Says what is wrong with a tenant's image presets, so that a bad one is refused when it is set and not when it is used.
///
/// # Errors
/// One sentence that names the preset and what is wrong with it.
pub fn validate_presets(tenant: &Tenant) -> Result<(), String> {
    dialect::presets::validate(tenant)
}

/// The canonical form of a source's URL, as purges and `explain` name it.
///
/// # Errors
/// `NotFound`, saying why it cannot be a source.
pub fn canonical_source(url: &str) -> Result<Source, Problem> {
    dialect::source::canonical(url)
}

impl Service for ImageService {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn plan(&self, head: &Head<'_>, tenant: &Tenant) -> Result<Plan, Problem> {
        if !matches!(head.method, Method::Get | Method::Head) {
            return Err(Problem::new(Kind::MethodNotAllowed, "images answer GET and HEAD only"));
        }
        let config = self.config.load();
        let asked = dialect::read(head.path, tenant, &config)?;
        let negotiable = compile::negotiable(&asked.options, &config);
        let negotiated = if negotiable { accept::negotiate(head.fields.get(ACCEPT)) } else { None };
        let mut plan = planned(&asked, negotiated, tenant, &config)?;
        if negotiable {
            plan.reads = vec![ACCEPT];
            plan.vary = Some("Accept");
        }
        Ok(plan)
    }

    fn facts(&self, reader: &mut dyn HeadReader) -> Facts {
        refine::facts(reader)
    }

    fn refine(&self, job: &JobPlan, facts: &[Facts], _tenant: &Tenant) -> Result<Refined, Problem> {
        let params = open(job)?;
        let facts = facts.first().ok_or_else(|| broken("an image job came without its original"))?;
        refine::refine(&params, facts, &self.config.load())
    }

    fn engine(&self) -> Option<Box<dyn EngineProgram>> {
        Some(Box::new(ImageEngine::new()))
    }
}

const ACCEPT: &str = "accept";

/// The whole plan but for what it read.
fn planned(
    asked: &Asked,
    negotiated: Option<Format>,
    tenant: &Tenant,
    config: &Config,
) -> Result<Plan, Problem> {
    let job = compile::compile(&asked.options, negotiated, config)?;
    let of = |job: &ImageJob, source: &Source| JobPlan {
        class: RENDER,
        params: job.seal(),
        inputs: vec![Input::Original(source.clone())],
        cost: cost::before_facts(job),
    };
    let mut plan = Plan::of(Action::Job(of(&job, &asked.source)));
    plan.cache = cache_policy(config);
    plan.ladder = ladder::rungs(&job, |cheaper| of(cheaper, &asked.source));
    plan.fields = fields(&asked.options);
    plan.expires = asked.options.expires.map(|at| Wall(at.saturating_mul(1000)));
    let placeholder = tenant.placeholder.as_ref().filter(|_| job.original != Original::Raw);
    plan.placeholder = placeholder.map(|source| Box::new(of(&job, source)));
    Ok(plan)
}

/// What goes with the answer. Raw originals may be SVG: they are shown, but run nothing.
fn fields(options: &Options) -> Vec<Field> {
    let mut fields: Vec<Field> = disposition::field(options).into_iter().collect();
    if options.raw {
        fields.push((
            "Content-Security-Policy".into(),
            "default-src 'none'; style-src 'unsafe-inline'; sandbox".into(),
        ));
    }
    fields
}

/// As long as the originals are fresh, with our own terms where they do not say. No tags of its own: equal jobs share one
/// answer, whatever URL or preset they came by, so only those of the originals can hold for all.
fn cache_policy(config: &Config) -> CachePolicy {
    CachePolicy {
        lifetime: Lifetime::OfOriginals { default: Duration::from_secs(config.fresh_s) },
        stale_while_revalidate: Duration::from_secs(config.stale_while_revalidate_s),
        stale_if_error: Duration::from_secs(config.stale_if_error_s),
        tags: Vec::new(),
    }
}

fn open(job: &JobPlan) -> Result<ImageJob, Problem> {
    ImageJob::open(&job.params).map_err(|error| broken("an image job could not be read").because(error))
}

fn broken(detail: &'static str) -> Problem {
    Problem::new(Kind::Internal, detail)
}

#[cfg(test)]
mod tests;
