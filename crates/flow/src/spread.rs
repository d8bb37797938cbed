//! Purges over the cluster: told to every node without a quorum, and learned by who was away before it uses its caches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, join, join_all, select};
use tutti_base::{Kind, Lane, NodeId, NodeState, Problem, Tick, View};

use crate::failures::Failed;
use crate::purge::{Gap, PAGES_MAX, Purge, Vector};
use crate::wire::{Ask, Told, WireBehind, WireMissing};
use crate::{Flow, PurgeLog, What};

/// A node that has not taken a purge after this long is named as not reached; it learns of the purge later.
pub const TELL_WITHIN: Duration = Duration::from_secs(1);
/// With no peer for this long at the start, a node serves what it kept, and says so.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(5);
/// How often the reports of others are compared with what is known here.
const STEP_EVERY: Duration = Duration::from_millis(200);
/// How often a node notes that it runs.
const BEAT_EVERY: Duration = Duration::from_millis(100);
/// How often what is known is compared with each of the others, whatever they report.
pub const COMPARE_EVERY: Duration = Duration::from_secs(10);
/// Among many it is less often, so that a node asks no more than one in this time.
const COMPARE_APART: Duration = Duration::from_secs(1);
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
                // It says that the original has changed: where the newest was may not be where it is now.
                self.desk.forget_look(source);
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

    /// Takes purges that `from` told of; asks it for those before them that are missing. In force here, and kept, when this
    /// returns.
    ///
    /// Errors: `BadRequest` for purges of others than `from`; `Unavailable` where some before them are missing still.
    pub(crate) async fn take_purges(&self, from: NodeId, purges: Vec<Purge>) -> Result<(), Problem> {
        let told = purges.iter().map(|purge| purge.number).max().unwrap_or(0);
        let what: Vec<What> = purges.iter().map(|purge| purge.what.clone()).collect();
        let view = self.mesh.view();
        let received = self.purges.receive(from, purges, &|node| view.get(node).is_some())?;
        what.iter().for_each(|what| self.clear(what));
        if received == Err(Gap) {
            let is_known = |flow: &Self| flow.purges.vector().get(&from).is_some_and(|known| *known >= told);
            if !self.learn_from(from).await? || !is_known(self) {
                return Err(Problem::new(
                    Kind::Unavailable,
                    "purges before these are missing, and cannot be had",
                ));
            }
        }
        self.purges.until_written().await
    }

    /// What a peer is missing, a page of it.
    pub(crate) fn missing_of(&self, behind: &WireBehind) -> WireMissing {
        self.purges.missing(behind)
    }

    /// Learns from `node` what is missing here, page by page. False when it cannot be asked. Cancel-safe: what has come by
    /// then is in force.
    pub(crate) async fn learn_from(&self, node: NodeId) -> Result<bool, Problem> {
        let view = self.mesh.view();
        let (mut refused, mut deletions_upto) = (BTreeSet::new(), 0);
        for _ in 0..PAGES_MAX {
            let known = self.purges.vector();
            let mut vector = known.clone();
            vector.extend(refused.iter().map(|origin| (*origin, u64::MAX)));
            let ask = Ask::Missing(WireBehind { vector, deletions_upto });
            let asked = self.mesh.ask(node, Lane::Control, &ask, Bytes::new(), TELL_WITHIN).await;
            let Ok((Told::Missing(missing), _)) = asked else { return Ok(false) };
            let (more, upto) = (missing.more, missing.deletions_upto);
            let caught =
                self.purges.catch_up(node, &known, missing, &|node: NodeId| view.get(node).is_some())?;
            caught.taken.iter().for_each(|purge| self.clear(&purge.what));
            let before = refused.len();
            for origin in caught.refused.into_iter().filter(|origin| refused.insert(*origin)) {
                tracing::warn!(%origin, from = %node, "purges were not taken: of a stranger too many, or out of order");
            }
            let is_further = upto > deletions_upto || refused.len() > before || self.purges.vector() != known;
            deletions_upto = upto.max(deletions_upto);
            // What cannot be written is in force all the same, and tried again with the next page.
            let written = self.purges.until_written().await;
            if !more || !is_further {
                return written.map(|()| true);
            }
        }
        Ok(true)
    }

    /// From now on nothing kept is served before [`Self::settle`] has ended. To be called before the front opens.
    pub fn unsettle(&self) {
        self.purges.unsettle();
    }

    /// At the start, among others: learns what was missed, from all who can be asked at once, before anything kept is
    /// served. With no peer for [`SETTLE_WITHIN`] it serves, and says so. However it ends, dropped or not, what is kept may
    /// be served then.
    pub async fn settle(&self) -> Settled {
        self.purges.unsettle();
        let _settling = Settling(&self.purges);
        let late = self.outside.clock.sleep_until(self.outside.clock.now() + SETTLE_WITHIN);
        match select(Box::pin(self.learn_from_any()), late).await {
            Either::Left((settled, _)) => settled,
            Either::Right(_) => {
                tracing::warn!(
                    "no other node could be asked which purges were missed; what is kept is served as it is"
                );
                Settled::Unasked
            }
        }
    }

    /// Asks all who are not down, again and again, until one of them has answered.
    async fn learn_from_any(&self) -> Settled {
        loop {
            let view = self.mesh.view();
            if view.is_alone() {
                return Settled::Alone;
            }
            let asked = view.others().filter(|member| member.state != NodeState::Down);
            let learned = self.learn_from_all(asked.map(|member| member.id).collect()).await;
            if !learned.is_empty() {
                let names: Vec<_> = learned.iter().map(|node| self.mesh.name(*node)).collect();
                return Settled::With(names.join(", "));
            }
            self.outside.clock.sleep_until(self.outside.clock.now() + TRY_EVERY).await;
        }
    }

    /// Learns from all of `nodes` at once; who has answered.
    async fn learn_from_all(&self, nodes: Vec<NodeId>) -> Vec<NodeId> {
        let learn = nodes.into_iter().map(|node| async move {
            match self.learn_from(node).await {
                Ok(has_answered) => has_answered.then_some(node),
                Err(problem) => {
                    // They are in force; only a restart now would lose them.
                    tracing::error!(%problem, "purges that were missed could not be kept");
                    Some(node)
                }
            }
        });
        join_all(learn).await.into_iter().flatten().collect()
    }

    /// Compares what others know with what is known here, for ever: with each that comes back, with each that reports
    /// purges unknown here, and with everyone now and then. A node that was cut off from all others, or stopped, serves
    /// nothing kept until it has asked them again.
    pub async fn keep_in_step(self: Arc<Self>) {
        join(self.keep_beating(), self.keep_learning()).await;
    }

    /// Nothing but the clock is waited for here, so that a late beat means that this node did not run.
    async fn keep_beating(&self) {
        loop {
            if self.mesh.view().is_alone() {
                self.purges.rest();
            } else if self.purges.beat(self.outside.clock.now()) {
                tracing::info!(
                    "this node was stopped for a while; it asks the others which purges it missed"
                );
            }
            self.outside.clock.sleep_until(self.outside.clock.now() + BEAT_EVERY).await;
        }
    }

    async fn keep_learning(&self) {
        let mut compared = Compared::default();
        loop {
            self.outside.clock.sleep_until(self.outside.clock.now() + STEP_EVERY).await;
            self.seats.wake();
            let view = self.mesh.view();
            let is_back = compared.is_back_among(&view);
            if is_back || !self.purges.is_settled(self.outside.clock.now()) {
                self.settle().await;
            }
            let now = self.outside.clock.now();
            let due = compared.due(&view, &self.purges.vector(), now);
            if due.is_empty() {
                continue;
            }
            self.purges.write_again();
            let learned = self.learn_from_all(due).await;
            compared.note(learned, now);
        }
    }
}

/// With whom this node has compared purges since they were last away.
#[derive(Default)]
struct Compared {
    members: usize,
    with: BTreeMap<NodeId, Option<Tick>>,
}

impl Compared {
    /// Takes over who is here. Whether nobody was, of those there are, and somebody is again.
    fn is_back_among(&mut self, view: &View) -> bool {
        let was_cut_off = self.members > 0 && self.with.is_empty();
        let is_here = |state: NodeState| matches!(state, NodeState::Up | NodeState::Draining);
        let here = view.others().filter(|member| is_here(member.state)).map(|member| member.id);
        self.with = here.map(|node| (node, self.with.get(&node).copied().flatten())).collect();
        self.members = view.others().count();
        was_cut_off && !self.with.is_empty()
    }

    /// Those to compare with now: who has come back, who reports more than is known, and whose turn it is.
    fn due(&self, view: &View, vector: &Vector, now: Tick) -> Vec<NodeId> {
        let every = COMPARE_EVERY.max(COMPARE_APART * u32::try_from(self.with.len()).unwrap_or(u32::MAX));
        let is_behind = |node: &NodeId| {
            let reported = view.get(*node).map_or(0, |member| member.load.purge);
            reported > vector.get(node).copied().unwrap_or(0)
        };
        let is_due = |(node, last): &(&NodeId, &Option<Tick>)| {
            last.is_none_or(|last| now.since(last) >= every) || is_behind(node)
        };
        self.with.iter().filter(is_due).map(|(node, _)| *node).collect()
    }

    /// That all of `nodes` were asked at `now`.
    fn note(&mut self, nodes: Vec<NodeId>, now: Tick) {
        self.with.extend(nodes.into_iter().map(|node| (node, Some(now))));
    }
}

/// Ends the wait for what was missed, however the learning ends.
struct Settling<'a>(&'a PurgeLog);

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.0.settle();
    }
}

/// How a start learned what was missed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settled {
    /// There is nobody else.
    Alone,
    /// From these nodes.
    With(String),
    /// Nobody could be asked.
    Unasked,
}
