//! Applies options and the presets they name, nested, without following loops.

use tutti_base::{Kind, Problem};
use tutti_service::Tenant;

use super::arguments::Call;
use super::known::shorten;
use super::options::Options;

/// The service's name among the tenant's presets.
const SERVICE: &str = "image";
/// The preset that is applied before everything else, where there is one.
const DEFAULT: &str = "default";
/// The most options that one URL may come to when its presets are expanded.
pub(crate) const MAX_STEPS: usize = 1000;

/// Applies options in order, counting them.
pub(super) struct Applier<'a> {
    tenant: &'a Tenant,
    options: Options,
    /// The presets that are being expanded, outermost first.
    open: Vec<String>,
    steps: usize,
}

impl<'a> Applier<'a> {
    /// Begins with the defaults and the preset `default`.
    pub(super) fn start(tenant: &'a Tenant) -> Result<Self, Problem> {
        let mut applier = Self::empty(tenant);
        if find(tenant, DEFAULT).is_some() {
            applier.preset(DEFAULT)?;
        }
        Ok(applier)
    }

    fn empty(tenant: &'a Tenant) -> Self {
        Self { tenant, options: Options::default(), open: Vec::new(), steps: 0 }
    }

    /// Applies one option.
    pub(super) fn apply(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            let detail = format!("the presets here come to more than {MAX_STEPS} options");
            return Err(Problem::new(Kind::NotFound, detail).about("preset"));
        }
        match call.name {
            "preset" | "pr" => call.args.iter().try_for_each(|name| self.preset(name)),
            _ => self.options.apply(call),
        }
    }

    /// Applies the preset `name`; one that is being expanded already is skipped.
    pub(super) fn preset(&mut self, name: &str) -> Result<(), Problem> {
        let tenant = self.tenant;
        let Some(text) = find(tenant, name) else {
            let detail = format!("there is no preset `{}`", shorten(name));
            return Err(Problem::new(Kind::NotFound, detail).about("preset"));
        };
        if self.open.iter().any(|open| open == name) {
            return Ok(());
        }
        self.open.push(name.to_owned());
        for segment in text.trim().split('/') {
            let call = Call::read(segment).ok_or_else(|| broken(name, segment))?;
            self.apply(&call).map_err(|problem| within(problem, name))?;
        }
        self.open.pop();
        Ok(())
    }

    /// What it came to so far.
    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// What all of it came to.
    pub(super) fn finish(self) -> Options {
        self.options
    }
}

fn find<'a>(tenant: &'a Tenant, name: &str) -> Option<&'a str> {
    tenant.presets.get(&(SERVICE.to_owned(), name.to_owned())).map(String::as_str)
}

fn broken(name: &str, segment: &str) -> Problem {
    let detail = format!("preset `{name}` has `{}`, which is no option with arguments", shorten(segment));
    Problem::new(Kind::NotFound, detail).about("preset")
}

fn within(problem: Problem, name: &str) -> Problem {
    let detail = match problem.detail.starts_with("preset `") {
        true => problem.detail,
        false => format!("preset `{name}`: {}", problem.detail).into(),
    };
    Problem { detail, ..problem }
}

/// Says what is wrong with the presets of `tenant`, so that a bad one is refused when it is configured and not in use.
pub(crate) fn validate(tenant: &Tenant) -> Result<(), String> {
    for (service, name) in tenant.presets.keys() {
        if service == SERVICE {
            Applier::empty(tenant).preset(name).map_err(|problem| problem.detail.into_owned())?;
        }
    }
    Ok(())
}
