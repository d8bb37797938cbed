//! The cluster document: one table a part, each owned by the part that it configures. Reads it, checks it, says what
//! follows from a change. Applies nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use toml::Table;
use tutti_dispatch::Policy;
use tutti_flow::journey::Degrade;
use tutti_store::document::{Consequence, Invalid, Validate};

use crate::strict;
use crate::tenancy::TenantSection;

/// The whole document.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cluster {
    /// The front door. Needs a restart.
    pub front: tutti_front::Config,
    /// Originals from outside. Applies live.
    pub fetch: tutti_fetch::Config,
    /// The caches; `dir` is a setting of the machine. Needs a restart.
    pub cache: tutti_cache::CacheConfig,
    /// Engines. Needs a restart.
    pub worker: tutti_worker::Config,
    /// What gets in when capacity is short. Needs a restart.
    pub admission: AdmissionSection,
    /// Which node gets work. Applies live.
    pub dispatch: DispatchSection,
    /// The image service. Applies live.
    pub image: tutti_service_image::Config,
    /// Tenants by name; `main` is always there. Applies live.
    pub tenants: BTreeMap<String, TenantSection>,
}

/// The section `[admission]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdmissionSection {
    /// The mean wait that a lasting load may cause, in ms, 1 to 10,000.
    pub target_wait_ms: u64,
    /// Jobs that may be admitted at once, running or waiting, 1 to 100,000.
    pub jobs: usize,
    /// What is answered when capacity is short: `ladder` (a stale copy, a cheaper one, then 503) or `refuse`.
    pub when_short: WhenShort,
}

/// What is answered when capacity is short.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WhenShort {
    /// Every rung of the ladder.
    #[default]
    Ladder,
    /// 503 only.
    Refuse,
}

/// The section `[dispatch]`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DispatchSection {
    /// How a node is chosen: `predicted` (expected finish time), `least-loaded`, `p2c`, `weighted-round-robin`,
    /// `lottery` or `hash`.
    pub policy: Option<String>,
    /// Services that are dispatched otherwise, by name.
    pub services: BTreeMap<String, ServiceDispatch>,
    /// What is special about nodes, by name.
    pub nodes: BTreeMap<String, NodeDispatch>,
}

/// The section `[dispatch.services.NAME]`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServiceDispatch {
    /// Its policy; as `dispatch.policy` unless set.
    pub policy: Option<String>,
    /// Names of the nodes where it is off: they do no work for it, and still answer for it.
    pub off: BTreeSet<String>,
}

/// The section `[dispatch.nodes.NAME]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NodeDispatch {
    /// Its weight, 0.01 to 100, for the policies that divide by capacity; 1 unless set.
    pub weight: f64,
    /// Whether it gives work to other nodes.
    pub offload: bool,
}

impl Default for NodeDispatch {
    fn default() -> Self {
        Self { weight: 1.0, offload: true }
    }
}

impl DispatchSection {
    fn validate(&self) -> Result<(), String> {
        let services = self.services.values().filter_map(|service| service.policy.as_ref());
        for policy in self.policy.iter().chain(services) {
            policy.parse::<Policy>().map_err(|error| error.to_string())?;
        }
        for (name, node) in &self.nodes {
            if !(0.01..=100.0).contains(&node.weight) {
                return Err(format!("`nodes.{name}.weight` is {}; it must be 0.01 to 100", node.weight));
            }
        }
        Ok(())
    }

    /// As the journey takes it. Policies were validated; one that is unknown all the same is the default.
    pub(crate) fn dispatching(&self) -> tutti_flow::Dispatching {
        let policy = |word: &Option<String>| word.as_ref().and_then(|word| word.parse::<Policy>().ok());
        let services = self.services.iter();
        let off = services.clone().map(|(name, service)| (name.clone(), service.off.clone()));
        let policies = services.filter_map(|(name, service)| Some((name.clone(), policy(&service.policy)?)));
        let nodes = self.nodes.iter();
        let stays = nodes.clone().filter(|(_, node)| !node.offload).map(|(name, _)| name.clone());
        tutti_flow::Dispatching {
            policy: policy(&self.policy).unwrap_or_default(),
            policies: policies.collect(),
            off: off.collect(),
            weights: nodes.map(|(name, node)| (name.clone(), node.weight)).collect(),
            no_offload: stays.collect(),
        }
    }
}

impl Default for AdmissionSection {
    fn default() -> Self {
        let journey = tutti_flow::Config::default();
        Self {
            target_wait_ms: journey.target_wait.as_millis() as u64,
            jobs: journey.jobs_max,
            when_short: WhenShort::Ladder,
        }
    }
}

impl AdmissionSection {
    fn validate(&self) -> Result<(), String> {
        if !(1..=10_000).contains(&self.target_wait_ms) {
            return Err(format!("`target_wait_ms` is {}; it must be 1 to 10000", self.target_wait_ms));
        }
        if !(1..=100_000).contains(&self.jobs) {
            return Err(format!("`jobs` is {}; it must be 1 to 100000", self.jobs));
        }
        Ok(())
    }
}

impl Cluster {
    /// Reads a document strictly; all that is wrong with it where it cannot be.
    pub(crate) fn read(table: &Table) -> Result<Self, Vec<Invalid>> {
        let cluster: Self = strict::read(table.clone()).map_err(|invalid| vec![invalid])?;
        let wrong = cluster.wrong();
        if wrong.is_empty() { Ok(cluster) } else { Err(wrong) }
    }

    fn wrong(&self) -> Vec<Invalid> {
        let words = |result: Result<(), String>| result.err();
        let sections = [
            ("front", self.front.validate().err().map(|error| error.to_string())),
            ("fetch", self.fetch.validate().err().map(|error| error.to_string())),
            ("cache", self.cache.validate().err().map(|error| error.to_string())),
            ("worker", self.worker.validate().err().map(|error| error.to_string())),
            ("admission", words(self.admission.validate())),
            ("dispatch", words(self.dispatch.validate())),
            ("image", words(self.image.validate())),
        ];
        let sections = sections
            .into_iter()
            .filter_map(|(path, message)| message.map(|message| Invalid { path: path.into(), message }));
        let tenants = self.tenants.iter().filter_map(|(name, tenant)| {
            let message = tenant.validate(name).err()?;
            Some(Invalid { path: format!("tenants.{name}"), message })
        });
        sections.chain(tenants).collect()
    }

    /// The journey's bounds.
    pub(crate) fn journey(&self) -> tutti_flow::Config {
        tutti_flow::Config {
            target_wait: Duration::from_millis(self.admission.target_wait_ms),
            jobs_max: self.admission.jobs,
            original_bytes_max: self.image.limits.source_bytes.max(self.fetch.max_body_bytes),
            degrade: match self.admission.when_short {
                WhenShort::Ladder => Degrade::Ladder,
                WhenShort::Refuse => Degrade::RefuseOnly,
            },
        }
    }

    /// What runs once this document was applied live to a server that was started with `started`.
    pub(crate) fn running_as(self, started: &Cluster) -> Self {
        Self {
            front: started.front.clone(),
            cache: started.cache.clone(),
            worker: started.worker.clone(),
            admission: started.admission.clone(),
            ..self
        }
    }

    /// The keys that cannot change while the server runs, and what has to be restarted.
    fn restarts(&self, running: &Cluster) -> Vec<Consequence> {
        let changed = [
            ("front", self.front != running.front),
            ("cache", self.cache != running.cache),
            ("worker", self.worker != running.worker),
            ("admission", self.admission != running.admission),
        ];
        changed
            .into_iter()
            .filter(|(_, changed)| *changed)
            .map(|(path, _)| Consequence::Restart { path: path.into(), what: "tutti serve".into() })
            .collect()
    }
}

/// Checks documents against what runs now.
pub(crate) struct Rules {
    running: ArcSwap<Cluster>,
}

impl Rules {
    /// Rules beside a server that runs with `running`.
    pub(crate) fn beside(running: Arc<Cluster>) -> Arc<Self> {
        Arc::new(Self { running: ArcSwap::new(running) })
    }
    /// Another document is in force now.
    pub(crate) fn follow(&self, running: Arc<Cluster>) {
        self.running.store(running);
    }
}

impl Validate for Rules {
    fn validate(&self, doc: &Table) -> Result<Vec<Consequence>, Vec<Invalid>> {
        let cluster = Cluster::read(doc)?;
        let mut consequences = cluster.restarts(&self.running.load());
        consequences.extend(cluster.fetch.exceptions().into_iter().map(|text| Consequence::Note { text }));
        Ok(consequences)
    }
}
