//! How nodes are chosen, as the operator says it, and what the house asks of the places for jobs. Chooses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tutti_dispatch::Policy;

use crate::{Flow, Intake};

/// How nodes are chosen: the operator's word, changed live.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Dispatching {
    /// For services that have none of their own.
    pub policy: Policy,
    /// Policies by service.
    pub policies: BTreeMap<String, Policy>,
    /// Where a service is off, by service: names of nodes.
    pub off: BTreeMap<String, BTreeSet<String>>,
    /// Weights of nodes by name, for policies that divide by capacity.
    pub weights: BTreeMap<String, f64>,
    /// Names of nodes that send nothing elsewhere.
    pub no_offload: BTreeSet<String>,
}

impl Flow {
    /// What this node has accepted, from itself and from others: what its hint says.
    pub fn accepted(&self) -> Intake {
        self.seats.accepted()
    }

    /// Looks for places for waiting jobs, for ever: reports of other nodes come at any time.
    pub fn keep_waking(&self) -> impl Future<Output = ()> + Send + use<> {
        Arc::clone(&self.seats).keep_waking()
    }

    /// Changes how nodes are chosen, from the next job on.
    pub fn set_dispatching(&self, dispatching: Dispatching) {
        self.seats.set_dispatching(dispatching);
    }
}
