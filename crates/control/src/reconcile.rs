//! The leader's loop over the voters: inventory, plan, one step, again. Idempotent: it keeps nothing but since when nodes
//! are down.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::Notify;
use tutti_base::{Clock, NodeId, NodeState, Nodes, Roles, Tick};
use tutti_store::StoreError;

use crate::counts::Counts;
use crate::journal::Journal;
use crate::quorum::{Quorum, QuorumStatus};
use crate::roster::{NodeRecord, Roster, Standing};
use crate::sentence::sentence;
use crate::voters::{Change, NodeFacts, Rules, Step, plan};

/// The timer that wakes the loop; changes wake it too.
pub const WAKE_EVERY: Duration = Duration::from_secs(1);
/// The most that one step may take before the loop looks again.
pub const STEP_WITHIN: Duration = Duration::from_secs(10);
/// The most steps in a row without a pause of [`WAKE_EVERY`].
pub const STEPS_MAX: usize = 16;

/// What one turn of the loop did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Another node leads, or nobody, or this node is not in the roster yet.
    NotMine,
    /// All is as it should be.
    Settled,
    /// This step was taken.
    Did(Step),
    /// This step failed; the next turn plans anew.
    Failed(Step, String),
}

/// The world that the loop looks at and acts on.
pub struct Outside {
    /// Who belongs to the cluster.
    pub roster: Arc<Roster>,
    /// Who votes.
    pub quorum: Arc<dyn Quorum>,
    /// Who answers.
    pub nodes: Arc<dyn Nodes>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where steps are told.
    pub journal: Journal,
}

/// The loop. Share it in an `Arc`.
pub struct Reconciler {
    outside: Outside,
    rules: Rules,
    counts: Counts,
    poked: Notify,
    down_since: Mutex<HashMap<NodeId, Tick>>,
}

impl Reconciler {
    /// A loop by `rules`; spawn [`Self::run`] on every node.
    pub fn new(outside: Outside, rules: Rules, counts: Counts) -> Arc<Self> {
        Arc::new(Self { outside, rules, counts, poked: Notify::new(), down_since: Mutex::default() })
    }

    /// Wakes the loop: something has changed.
    pub fn poke(&self) {
        self.poked.notify_one();
    }

    /// Runs until it is dropped, which leaves no step half done: consensus finishes or forgets it.
    pub async fn run(self: Arc<Self>) {
        let mut roster = self.outside.roster.watch();
        loop {
            let mut steps = 0;
            let mut turn = self.turn().await;
            while steps + 1 < STEPS_MAX && matches!(turn, Turn::Did(_)) {
                steps += 1;
                turn = self.turn().await;
            }
            if turn == Turn::Settled
                && let Err(error) = self.outside.roster.forget_removed().await
            {
                tracing::warn!(%error, "nodes that were removed long ago are not forgotten yet; it is tried again");
            }
            let timer = self.outside.clock.sleep_until(self.outside.clock.now() + WAKE_EVERY);
            tokio::select! {
                () = timer => {}
                () = self.poked.notified() => {}
                // It ends with the roster, which this holds.
                _ = roster.changed() => {}
            }
        }
    }

    /// Looks, plans and takes the first step.
    pub async fn turn(&self) -> Turn {
        self.observe();
        let status = self.outside.quorum.status();
        let is_known = self.outside.roster.nodes().iter().any(|node| node.id == status.me);
        // Without a record of its own the roster is not the cluster's yet: acting on it would remove everybody.
        if !status.is_leader() || !is_known {
            return Turn::NotMine;
        }
        let Some(step) = plan(&self.facts(), &status, &self.rules).into_iter().next() else {
            return Turn::Settled;
        };
        self.take(step).await
    }

    async fn take(&self, step: Step) -> Turn {
        let (quorum, clock) = (&self.outside.quorum, &self.outside.clock);
        let (what, change) = match step.change.clone() {
            Change::AddLearner(id) => {
                (format!("{} gets a copy of the store", self.name(id)), quorum.add_learner(id))
            }
            Change::Remove(id) => {
                (format!("{} gives up its copy of the store", self.name(id)), quorum.remove(id))
            }
            Change::SetVoters(ids) => {
                let names: Vec<_> = ids.iter().map(|id| self.name(*id)).collect();
                (format!("the voters are {}", names.join(", ")), quorum.set_voters(ids))
            }
        };
        let done: Result<(), String> =
            match select(change, clock.sleep_until(clock.now() + STEP_WITHIN)).await {
                Either::Left((done, _)) => done.map_err(|error: StoreError| error.to_string()),
                Either::Right(_) => Err(format!("it took more than {STEP_WITHIN:?}")),
            };
        match done {
            Ok(()) => {
                self.counts.step(&step.change);
                self.outside.journal.note(what, step.why.clone());
                Turn::Did(step)
            }
            Err(error) => {
                self.counts.step_failed(&step.change);
                tracing::warn!(
                    what,
                    why = step.why,
                    error,
                    "a change of the voters failed; it is planned anew"
                );
                Turn::Failed(step, error)
            }
        }
    }

    /// Remembers since when nodes are down. Every node does, so that a new leader knows.
    fn observe(&self) {
        let (now, view) = (self.outside.clock.now(), self.outside.nodes.view());
        let is_down = |node: &NodeRecord| {
            node.id != view.me && view.get(node.id).is_none_or(|member| member.state == NodeState::Down)
        };
        let mut since = self.down_since();
        let records = self.outside.roster.nodes();
        since.retain(|id, _| records.iter().any(|node| node.id == *id && is_down(node)));
        for node in records.iter().filter(|node| is_down(node)) {
            since.entry(node.id).or_insert(now);
        }
    }

    /// The facts of all nodes as of now, those among them that only the consensus knows.
    pub fn facts(&self) -> Vec<NodeFacts> {
        let status = self.outside.quorum.status();
        let now = self.outside.clock.now();
        let since = self.down_since();
        let down_for = |id: NodeId| since.get(&id).map(|since| now.since(*since));
        let records = self.outside.roster.nodes();
        let known = records.iter().map(|node| known(node, &status, down_for(node.id)));
        let members = status.voters.iter().chain(&status.learners);
        let strangers = members.filter(|id| !records.iter().any(|node| node.id == **id));
        known.chain(strangers.map(|id| stranger(*id, &status))).collect()
    }

    /// One sentence for people on the quorum as of now.
    pub fn sentence(&self) -> String {
        sentence(&self.outside.quorum.status(), &self.facts())
    }

    fn name(&self, id: NodeId) -> String {
        let records = self.outside.roster.nodes();
        let found = records.iter().find(|node| node.id == id);
        found.map_or_else(|| format!("`{id}`"), |node| format!("`{}`", node.name))
    }

    fn down_since(&self) -> MutexGuard<'_, HashMap<NodeId, Tick>> {
        self.down_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn known(node: &NodeRecord, status: &QuorumStatus, down_for: Option<Duration>) -> NodeFacts {
    NodeFacts {
        id: node.id,
        name: node.name.clone(),
        roles: node.roles,
        standing: node.standing.clone(),
        down_for,
        is_learner: status.learners.contains(&node.id),
        lag: status.lag.get(&node.id).copied(),
    }
}

/// A member of the consensus that the roster has forgotten.
fn stranger(id: NodeId, status: &QuorumStatus) -> NodeFacts {
    NodeFacts {
        id,
        name: id.to_string(),
        roles: Roles::default(),
        standing: Standing::Removed { since: tutti_base::Wall(0) },
        down_for: None,
        is_learner: status.learners.contains(&id),
        lag: None,
    }
}
