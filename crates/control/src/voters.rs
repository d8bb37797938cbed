//! Who should vote: a pure plan of steps with reasons, from the facts of all nodes. Executes nothing and reads no clock.

#[cfg(test)]
mod tests;

use std::time::Duration;

use tutti_base::{NodeId, Roles};

use crate::quorum::QuorumStatus;
use crate::roster::Standing;

/// The rules of the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The most voters: 1, 3 or 5.
    pub most: usize,
    /// A voter that is down for this long is replaced where another node can be.
    pub replace_after: Duration,
    /// A learner that lacks no more than this many log entries is in step.
    pub lag_max: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { most: 3, replace_after: Duration::from_secs(60), lag_max: 100 }
    }
}

impl Rules {
    /// Whether the values make sense.
    pub fn validate(&self) -> Result<(), String> {
        if !matches!(self.most, 1 | 3 | 5) {
            return Err(format!("the most voters are {}; it must be 1, 3 or 5", self.most));
        }
        Ok(())
    }
}

/// What the plan needs to know of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeFacts {
    /// Its id.
    pub id: NodeId,
    /// Its name, for the reasons.
    pub name: String,
    /// What it does.
    pub roles: Roles,
    /// How it stands. A member of the consensus that the roster does not know counts as removed.
    pub standing: Standing,
    /// For how long it has been down; none: it is not.
    pub down_for: Option<Duration>,
    /// Whether it has a full copy and no vote.
    pub is_learner: bool,
    /// How many log entries it lacks, where that is known.
    pub lag: Option<u64>,
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Give a node a copy without a vote.
    AddLearner(NodeId),
    /// Make exactly these vote.
    SetVoters(Vec<NodeId>),
    /// Take the copy from a node.
    Remove(NodeId),
}

/// One change with its reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What to do.
    pub change: Change,
    /// Why: one sentence for people.
    pub why: String,
}

impl Step {
    fn new(change: Change, why: impl Into<String>) -> Self {
        Self { change, why: why.into() }
    }
}

/// How well a node suits a vote; the least is chosen first. Who must not vote has no rank.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    /// Leads, and takes part.
    Leads,
    /// Votes, and takes part.
    Votes,
    /// Is in step, and takes part.
    InStep,
    /// Votes, and drains.
    Drains,
    /// Votes, and has been down for long.
    Lost,
}

/// The steps from what is to what should be, the most urgent first; execute the first, look again, and so on until there
/// are none. Voters are chosen among nodes with the role voter, 1, 3 or 5 and never an even number: the largest number for
/// which there are nodes. Only learners in step become voters. A voter that was removed, leaves or lost the role goes at
/// once when another can take its place or none is on its way; one that drains or is long down, when another can take its
/// place. Every other node is a learner.
pub fn plan(nodes: &[NodeFacts], status: &QuorumStatus, rules: &Rules) -> Vec<Step> {
    let facts = Facts { nodes, status, rules };
    let mut steps = Vec::new();
    let vote = facts.vote();
    let is_urgent = facts.voters().any(|node| facts.must_go(node));
    if is_urgent {
        steps.extend(vote.clone());
    }
    steps.extend(nodes.iter().filter(|node| node.is_learner && !node.standing.stays()).map(|node| {
        Step::new(Change::Remove(node.id), format!("`{}` is {}", node.name, node.standing.word()))
    }));
    let is_new = |node: &&NodeFacts| {
        node.standing.stays() && node.down_for.is_none() && !node.is_learner && !facts.votes(node)
    };
    steps.extend(nodes.iter().filter(is_new).map(|node| {
        Step::new(Change::AddLearner(node.id), format!("`{}` has no copy of the store yet", node.name))
    }));
    if !is_urgent {
        steps.extend(vote);
    }
    steps
}

struct Facts<'a> {
    nodes: &'a [NodeFacts],
    status: &'a QuorumStatus,
    rules: &'a Rules,
}

impl<'a> Facts<'a> {
    fn votes(&self, node: &NodeFacts) -> bool {
        self.status.voters.contains(&node.id)
    }

    fn voters(&self) -> impl Iterator<Item = &'a NodeFacts> + '_ {
        self.nodes.iter().filter(|node| self.votes(node))
    }

    fn must_go(&self, node: &NodeFacts) -> bool {
        !node.standing.stays() || !node.roles.has(Roles::VOTER)
    }

    fn is_lost(&self, node: &NodeFacts) -> bool {
        node.down_for.is_some_and(|down| down >= self.rules.replace_after)
    }

    /// Whether it could vote once it is in step.
    fn is_coming(&self, node: &NodeFacts) -> bool {
        let may = node.roles.has(Roles::VOTER) && node.standing == Standing::Active;
        may && node.down_for.is_none() && !self.votes(node) && self.rank(node).is_none()
    }

    fn rank(&self, node: &NodeFacts) -> Option<Rank> {
        if self.must_go(node) {
            return None;
        }
        let is_active = node.standing == Standing::Active;
        if self.votes(node) {
            return Some(match () {
                () if self.is_lost(node) => Rank::Lost,
                () if !is_active => Rank::Drains,
                () if self.status.leader == Some(node.id) => Rank::Leads,
                () => Rank::Votes,
            });
        }
        let is_in_step = node.is_learner && node.lag.is_some_and(|lag| lag <= self.rules.lag_max);
        (is_in_step && is_active && node.down_for.is_none()).then_some(Rank::InStep)
    }

    /// The step to the voters that should be, if they are others than those that are.
    fn vote(&self) -> Option<Step> {
        let wanted = self.wanted();
        let mut now = self.status.voters.clone();
        now.sort_unstable();
        let shrinks = wanted.len() < now.len();
        let one_is_coming = self.nodes.iter().any(|node| self.is_coming(node));
        if wanted.is_empty() || wanted == now || (shrinks && one_is_coming) {
            return None;
        }
        Some(Step::new(Change::SetVoters(wanted.clone()), self.reason(&now, &wanted)))
    }

    /// Who should vote, by id. Empty where nobody can.
    fn wanted(&self) -> Vec<NodeId> {
        let ranked = |node: &NodeFacts| Some((self.rank(node)?, node.id));
        let mut pool: Vec<_> = self.nodes.iter().filter_map(ranked).collect();
        pool.sort_unstable();
        let alive = pool.iter().filter(|(rank, _)| *rank < Rank::Lost).count();
        let size = self.size(alive, pool.len() - alive);
        let mut wanted: Vec<_> = pool.into_iter().take(size).map(|(_, id)| id).collect();
        wanted.sort_unstable();
        wanted
    }

    /// How many voters: as many as there are nodes for, odd. Lost ones fill a place, unless fewer voters without them
    /// bear the loss of more.
    fn size(&self, alive: usize, lost: usize) -> usize {
        let odd = |some: usize| if some.is_multiple_of(2) { some.saturating_sub(1) } else { some };
        let with = odd((alive + lost).min(self.rules.most));
        let without = odd(alive.min(self.rules.most));
        let spare = |size: usize| (size.saturating_sub(1) / 2).checked_sub(size.saturating_sub(alive));
        if spare(without) > spare(with) { without } else { with }
    }

    fn reason(&self, now: &[NodeId], wanted: &[NodeId]) -> String {
        let named = |ids: &mut dyn Iterator<Item = &NodeId>| {
            let name = |id: &NodeId| self.nodes.iter().find(|node| node.id == *id).map(|node| &node.name);
            ids.map(|id| name(id).map_or_else(|| format!("`{id}`"), |name| format!("`{name}`")))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let new = named(&mut wanted.iter().filter(|id| !now.contains(id)));
        let going: Vec<_> = now.iter().filter(|id| !wanted.contains(id)).map(|id| self.going(*id)).collect();
        let going = going.join(", ");
        match (new.is_empty(), going.is_empty()) {
            (false, false) => format!("{new} in place of {going}"),
            (false, true) => {
                format!("{} voters bear the loss of {}: {new} join", wanted.len(), (wanted.len() - 1) / 2)
            }
            (true, _) if wanted.len() == 1 => format!("1 voter remains without {going}"),
            (true, _) => format!("{} voters remain without {going}", wanted.len()),
        }
    }

    /// A voter that goes, with the cause.
    fn going(&self, id: NodeId) -> String {
        let Some(node) = self.nodes.iter().find(|node| node.id == id) else {
            return format!("`{id}`, which no node is");
        };
        let cause = match &node.standing {
            Standing::Active if self.is_lost(node) => {
                format!("down for {} s", node.down_for.unwrap_or_default().as_secs())
            }
            Standing::Active if !node.roles.has(Roles::VOTER) => "no longer with the role voter".into(),
            Standing::Active => "not needed for an odd number".into(),
            other => other.word().into(),
        };
        format!("`{}` ({cause})", node.name)
    }
}
