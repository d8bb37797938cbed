//! A plan with its keys: what the journey carries instead of the request's head.

use tutti_base::{RequestKey, Source, SourceKey, TenantId, Wall};
use tutti_service::registry::ServiceId;
use tutti_service::{Action, Input, JobPlan, Lifetime, Plan};

/// A plan, whose it is, and the keys that look-up, purge and single flight use.
#[derive(Debug)]
pub struct Planned {
    /// Which service made it.
    pub service: ServiceId,
    /// For whom.
    pub tenant: TenantId,
    /// The plan.
    pub plan: Plan,
    /// Names the answer without I/O; none when it must not be stored or shared.
    pub key: Option<RequestKey>,
    /// Every original that it needs.
    pub sources: Vec<(SourceKey, Source)>,
    /// Whether some of them are in folders, whose changes have to be looked for.
    pub in_folders: bool,
}

impl Planned {
    /// Gives `plan` its keys. `service_name` rather than the id goes into them: ids may change from build to build.
    pub fn new(service: ServiceId, service_name: &str, tenant: TenantId, plan: Plan) -> Self {
        let mut sources = Vec::new();
        collect_sources(&plan.action, &tenant, &mut sources);
        let storable = plan.cache.lifetime != Lifetime::Never;
        let key = storable.then(|| request_key(service_name, &tenant, &plan)).flatten();
        let in_folders = sources.iter().any(|(_, source)| matches!(source, Source::Local { .. }));
        Self { service, tenant, plan, key, sources, in_folders }
    }

    /// Whether the URL itself has expired.
    pub fn expired(&self, now: Wall) -> bool {
        self.plan.expires.is_some_and(|expires| now >= expires)
    }

    /// The job, where the plan is one.
    pub fn job(&self) -> Option<&JobPlan> {
        match &self.plan.action {
            Action::Job(job) => Some(job),
            Action::Respond(_) | Action::Gather(_) => None,
        }
    }
}

fn collect_sources(action: &Action, tenant: &TenantId, into: &mut Vec<(SourceKey, Source)>) {
    match action {
        Action::Respond(_) => {}
        Action::Gather(gather) => {
            gather.parts.iter().for_each(|part| collect_sources(&part.plan.action, tenant, into));
        }
        Action::Job(job) => job.inputs.iter().for_each(|input| match input {
            Input::Original(source) => into.push((source.key(tenant), source.clone())),
            Input::Plan(plan) => collect_sources(&plan.action, tenant, into),
        }),
    }
}

/// Only jobs are stored: an answer at hand needs no cache, and a gather's parts are stored by themselves.
fn request_key(service: &str, tenant: &TenantId, plan: &Plan) -> Option<RequestKey> {
    let Action::Job(job) = &plan.action else { return None };
    Some(RequestKey::of(&[tenant.as_str().as_bytes(), &job_name(service, tenant, job)]))
}

fn job_name(service: &str, tenant: &TenantId, job: &JobPlan) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = vec![service.into(), job.class.into(), job.params.to_vec()];
    for input in &job.inputs {
        parts.push(match input {
            Input::Original(source) => source.key(tenant).as_bytes().to_vec(),
            Input::Plan(plan) => match &plan.action {
                Action::Job(inner) => job_name(service, tenant, inner),
                Action::Respond(response) => response.body.to_vec(),
                Action::Gather(gather) => gather_name(service, tenant, gather),
            },
        });
    }
    let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    RequestKey::of(&slices).as_bytes().to_vec()
}

fn gather_name(service: &str, tenant: &TenantId, gather: &tutti_service::Gather) -> Vec<u8> {
    gather
        .parts
        .iter()
        .flat_map(|part| match &part.plan.action {
            Action::Job(job) => job_name(service, tenant, job),
            Action::Respond(response) => RequestKey::of(&[&response.body]).as_bytes().to_vec(),
            Action::Gather(inner) => gather_name(service, tenant, inner),
        })
        .collect()
}
