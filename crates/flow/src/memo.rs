//! Memoised plans: one table a front thread, so that a hit takes no lock. Keyed by what planning may read and nothing else.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tutti_base::Problem;
use tutti_base::http::Method;
use tutti_service::Head;
use tutti_service::registry::ServiceId;

use crate::{Flow, Planned};

/// Plans of one URL that differ by the header fields they read; more are planned anew each time.
const VARIANTS_MAX: usize = 8;
/// A value of a field that is longer is not remembered.
const VALUE_LEN_MAX: usize = 256;

/// A bounded table of plans. Not shared between threads. Two generations: what was not asked for while one filled up is
/// forgotten with the next.
pub struct Memo {
    hasher: RandomState,
    young: HashMap<u64, Remembered>,
    old: HashMap<u64, Remembered>,
    generation: u64,
    entries_max: usize,
}

/// The values of the fields that planning read, in the order of their names.
type Values = Vec<Option<Box<[u8]>>>;

/// The plans of one URL.
struct Remembered {
    service: ServiceId,
    host: Box<str>,
    path: Box<str>,
    query: Option<Box<str>>,
    /// The fields that planning this URL reads.
    reads: Vec<&'static str>,
    variants: Vec<(Values, Arc<Planned>)>,
}

impl Memo {
    /// A table of at most `entries` plans.
    pub fn new(entries: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            young: HashMap::new(),
            old: HashMap::new(),
            generation: 0,
            entries_max: entries.max(2),
        }
    }

    /// The plan of `head`, made now or remembered. Failures are not remembered.
    pub fn plan(
        &mut self,
        flow: &Flow,
        service: ServiceId,
        head: &Head<'_>,
    ) -> Result<Arc<Planned>, Problem> {
        if !matches!(head.method, Method::Get | Method::Head) {
            return flow.plan(service, head);
        }
        self.follow(flow.configuration_generation());
        let at = self.hasher.hash_one((service, head.host, head.path, head.query));
        if let Some(planned) = self.remembered(at, service, head) {
            return Ok(planned);
        }
        let planned = flow.plan(service, head)?;
        self.remember(at, service, head, &planned);
        Ok(planned)
    }

    /// Forgets everything when the configuration has changed since: presets, keys and limits go into plans.
    fn follow(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.young.clear();
            self.old.clear();
        }
    }

    fn remembered(&mut self, at: u64, service: ServiceId, head: &Head<'_>) -> Option<Arc<Planned>> {
        if let Some(found) = self.young.get(&at) {
            return found.variant(service, head);
        }
        let found = self.old.remove(&at)?;
        let planned = found.variant(service, head);
        self.make_room();
        self.young.insert(at, found);
        planned
    }

    fn remember(&mut self, at: u64, service: ServiceId, head: &Head<'_>, planned: &Arc<Planned>) {
        let Some(values) = values_of(&planned.plan.reads, head) else { return };
        self.make_room();
        let entry =
            self.young.entry(at).or_insert_with(|| Remembered::of(service, head, &planned.plan.reads));
        if !entry.is_of(service, head) || entry.reads != planned.plan.reads {
            *entry = Remembered::of(service, head, &planned.plan.reads);
        }
        if entry.variants.len() < VARIANTS_MAX {
            entry.variants.push((values, Arc::clone(planned)));
        }
    }

    fn make_room(&mut self) {
        if self.young.len() >= self.entries_max / 2 {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

impl Remembered {
    fn of(service: ServiceId, head: &Head<'_>, reads: &[&'static str]) -> Self {
        Self {
            service,
            host: head.host.into(),
            path: head.path.into(),
            query: head.query.map(Into::into),
            reads: reads.to_vec(),
            variants: Vec::new(),
        }
    }

    fn is_of(&self, service: ServiceId, head: &Head<'_>) -> bool {
        self.service == service
            && *self.host == *head.host
            && *self.path == *head.path
            && self.query.as_deref() == head.query
    }

    fn variant(&self, service: ServiceId, head: &Head<'_>) -> Option<Arc<Planned>> {
        if !self.is_of(service, head) {
            return None;
        }
        let fits = |values: &Values| {
            self.reads.iter().zip(values).all(|(field, value)| head.fields.get(field) == value.as_deref())
        };
        self.variants.iter().find(|(values, _)| fits(values)).map(|(_, planned)| Arc::clone(planned))
    }
}

fn values_of(reads: &[&'static str], head: &Head<'_>) -> Option<Values> {
    reads
        .iter()
        .map(|field| match head.fields.get(field) {
            Some(value) if value.len() > VALUE_LEN_MAX => None,
            value => Some(value.map(Into::into)),
        })
        .collect()
}
