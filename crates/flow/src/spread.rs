//! Purges over the cluster: told to every node without a quorum, and learned by who was away before it uses its caches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use tutti_base::{Lane, NodeId, NodeState, Problem};

use crate::failures::Failed;
use crate::purge::{Gap, Purge};
use crate::wire::{Ask, Told, WireMissing};
use crate::{Flow, What};

/// A node that has not taken a purge after this long is named as not reached; it learns of the purge later.
pub const TELL_WITHIN: Duration = Duration::from_secs(1);
/// With no peer for this long at the start, a node serves what it kept, and says so.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(5);
/// How often the reports of others are compared with what is known here.
const STEP_EVERY: Duration = Duration::from_millis(200);
/// How often a node notes that it runs.
const BEAT_EVERY: Duration = Duration::from_millis(100);
/// How often a start without a peer tries again.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// What a purge reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reached {
    /// The purge's number at this node.
    pub number: u64,
    /// The names of the nodes where it is in force.
    pub reached: Vec<String>,
    /// The names of those that learn of it when they are back.
    pub not_reached: Vec<String>,
}

impl Flow {
    /// Purges one URL in all its variants, an original, a tag, or everything, on every node. In force here, and on all
    /// nodes that the answer names as reached, when this returns.
    pub async fn purge(&self, what: What) -> Result<Reached, Problem> {
        self.clear(&what);
        let purge = self.purges.purge(what).await?;
        let number = purge.number;
        let view = self.mesh.view();
        let ask = Ask::Purges(vec![purge]);
        let tell = view.others().map(|member| async {
            let is_told = member.state != NodeState::Down
                && self.mesh.ask(member.id, Lane::Control, &ask, Bytes::new(), TELL_WITHIN).await.is_ok();
            (member.name.to_string(), is_told)
        });
        let (told, missed): (Vec<_>, Vec<_>) =
            join_all(tell).await.into_iter().partition(|(_, is_told)| *is_told);
        let names = |nodes: Vec<(String, bool)>| nodes.into_iter().map(|(name, _)| name);
        let reached = std::iter::once(self.me.to_string()).chain(names(told)).collect();
        Ok(Reached { number, reached, not_reached: names(missed).collect() })
    }

    /// What this node has accepted, from itself and from others: what its hint says.
    pub fn accepted(&self) -> crate::Intake {
        self.seats.accepted()
    }

    /// Looks for places for waiting jobs, for ever: reports of other nodes come at any time.
    pub fn keep_waking(&self) -> impl Future<Output = ()> + Send + use<> {
        Arc::clone(&self.seats).keep_waking()
    }

    /// Changes how nodes are chosen, from the next job on.
    pub fn set_dispatching(&self, dispatching: crate::Dispatching) {
        self.seats.set_dispatching(dispatching);
    }

    /// The number of this node's own newest purge: what its hint says.
    pub fn own_purges(&self) -> u64 {
        self.purges.own()
    }

    /// Lets go at once of what a purge takes away; what it cannot find at once is found when it is looked up.
    fn clear(&self, what: &What) {
        match what {
            What::All => {
                self.failures.clear();
                self.outside.results.clear();
                self.outside.originals.clear();
            }
            What::Source(source) => {
                self.failures.forget(&Failed::Source(*source));
                self.outside.originals.forget(source);
            }
            What::Deleted { source, folder, path, at } => {
                self.failures.forget(&Failed::Source(*source));
                self.outside.originals.forget(source);
                self.outside.shelf.remove_older(folder, path, *at);
                self.desk.forget_look(source);
            }
            What::Requests(keys) => keys.iter().for_each(|key| self.outside.results.forget(key)),
            What::Tag(_) => {}
        }
    }

    /// Takes purges that `from` told of; asks it for those before them that are missing.
    pub(crate) async fn take_purges(&self, from: NodeId, purges: Vec<Purge>) -> Result<(), Problem> {
        purges.iter().for_each(|purge| self.clear(&purge.what));
        match self.purges.receive(purges).await? {
            Ok(_) => Ok(()),
            Err(Gap) => self.learn_from(from).await.map(drop),
        }
    }

    /// What a peer is missing.
    pub(crate) fn missing_of(&self, vector: &crate::purge::Vector) -> WireMissing {
        let (purges, gaps) = self.purges.missing(vector);
        WireMissing { purges, gaps, vector: self.purges.vector() }
    }

    /// Learns from `node` what is missing here. False when it cannot be asked.
    pub(crate) async fn learn_from(&self, node: NodeId) -> Result<bool, Problem> {
        let ask = Ask::Missing(self.purges.vector());
        let Ok((Told::Missing(missing), _)) =
            self.mesh.ask(node, Lane::Control, &ask, Bytes::new(), TELL_WITHIN).await
        else {
            return Ok(false);
        };
        let taken = self.purges.catch_up(missing.purges, &missing.gaps, &missing.vector).await?;
        taken.iter().for_each(|purge| self.clear(&purge.what));
        Ok(true)
    }

    /// At the start, among others: learns what was missed before anything kept is served. With no peer for
    /// [`SETTLE_WITHIN`] it serves, and says so.
    pub async fn settle(&self) -> Settled {
        self.purges.unsettle();
        let until = self.outside.clock.now() + SETTLE_WITHIN;
        let settled = loop {
            let view = self.mesh.view();
            if view.is_alone() {
                break Settled::Alone;
            }
            for member in view.others().filter(|member| member.state == NodeState::Up) {
                if self.learn_from(member.id).await.unwrap_or(false) {
                    self.purges.settle();
                    return Settled::With(member.name.to_string());
                }
            }
            if self.outside.clock.now() >= until {
                tracing::warn!(
                    "no other node could be asked which purges were missed; what is kept is served as it is"
                );
                break Settled::Unasked;
            }
            self.outside.clock.sleep_until(self.outside.clock.now() + TRY_EVERY).await;
        };
        self.purges.settle();
        settled
    }

    /// Compares what others report with what is known here, and learns what is missing, for ever. A node that was cut off
    /// from all others, or stopped, serves nothing kept until it has asked one of them again.
    pub async fn keep_in_step(self: Arc<Self>) {
        join(self.keep_beating(), self.keep_learning()).await;
    }

    /// Nothing but the clock is waited for here, so that a late beat means that this node did not run.
    async fn keep_beating(&self) {
        loop {
            if self.mesh.view().is_alone() {
                self.purges.rest();
            } else if self.purges.beat(self.outside.clock.now()) {
                tracing::info!("this node was stopped for a while; it asks the others which purges it missed");
            }
            self.outside.clock.sleep_until(self.outside.clock.now() + BEAT_EVERY).await;
        }
    }

    async fn keep_learning(&self) {
        let mut were: BTreeMap<NodeId, NodeState> = BTreeMap::new();
        loop {
            self.outside.clock.sleep_until(self.outside.clock.now() + STEP_EVERY).await;
            let view = self.mesh.view();
            let is_here = |state: NodeState| matches!(state, NodeState::Up | NodeState::Draining);
            let was_cut_off = !were.is_empty() && !were.values().any(|state| is_here(*state));
            let is_back = was_cut_off && view.others().any(|member| is_here(member.state));
            if is_back || !self.purges.is_settled(self.outside.clock.now()) {
                self.settle().await;
            }
            let vector = self.purges.vector();
            let behind = view.others().filter(|member| {
                is_here(member.state) && member.load.purge > vector.get(&member.id).copied().unwrap_or(0)
            });
            for member in behind {
                if let Err(problem) = self.learn_from(member.id).await {
                    tracing::error!(%problem, "purges that were missed could not be kept");
                }
            }
            were = view.others().map(|member| (member.id, member.state)).collect();
            self.seats.wake();
        }
    }
}

/// How a start learned what was missed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settled {
    /// There is nobody else.
    Alone,
    /// From this node.
    With(String),
    /// Nobody could be asked.
    Unasked,
}
