//! Nodes as all rooms see them: names, roles, states, loads, and the view of who is there. Soft state; decides nothing.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Tick;

/// Names a node for the life of the cluster: random, never 0, never used again. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {self}")
    }
}

impl FromStr for NodeId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        u64::from_str_radix(text, 16).map(Self).map_err(|_| format!("`{text}` is not the id of a node"))
    }
}

/// What a node does for the cluster, in any mix.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Roles(u8);

impl Roles {
    /// Answers clients.
    pub const FRONT: Roles = Roles(1);
    /// Runs jobs for others (its own too).
    pub const WORKER: Roles = Roles(2);
    /// May vote in the replicated store.
    pub const VOTER: Roles = Roles(4);
    /// Owns a share of results and originals.
    pub const CACHE: Roles = Roles(8);
    /// Every role: what a node has unless told otherwise.
    pub const ALL: Roles = Roles(15);
    const WORDS: [(Roles, &'static str); 4] = [
        (Roles::FRONT, "front"),
        (Roles::WORKER, "worker"),
        (Roles::VOTER, "voter"),
        (Roles::CACHE, "cache"),
    ];

    /// Whether all of `roles` are among these.
    pub const fn has(self, roles: Roles) -> bool {
        self.0 & roles.0 == roles.0
    }
    /// These and those.
    pub const fn with(self, roles: Roles) -> Roles {
        Roles(self.0 | roles.0)
    }
    /// These without those.
    pub const fn without(self, roles: Roles) -> Roles {
        Roles(self.0 & !roles.0)
    }
    /// Their words, in a fixed order.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Self::WORDS.into_iter().filter(move |(role, _)| self.has(*role)).map(|(_, word)| word)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roles({self})")
    }
}

impl FromStr for Roles {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut roles = Roles::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let known = Self::WORDS.iter().find(|(_, known)| *known == word);
            let (role, _) = known
                .ok_or_else(|| format!("`{word}` is not a role; roles are front, worker, voter and cache"))?;
            roles = roles.with(*role);
        }
        Ok(roles)
    }
}

/// How a node is, as this node sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It answers.
    #[default]
    Up,
    /// It did not answer lately; nothing new is given to it as long as there are others.
    Suspect,
    /// It is lost, or left.
    Down,
    /// It finishes what it has and takes nothing new.
    Draining,
}

impl NodeState {
    /// The word in output and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            NodeState::Up => "up",
            NodeState::Suspect => "suspect",
            NodeState::Down => "down",
            NodeState::Draining => "draining",
        }
    }
}

/// What a node says of itself: the hint. Soft state; the newest sequence wins.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Load {
    /// Grows with every report of one run of the node.
    pub sequence: u64,
    /// CPU milliseconds a second that jobs get: cores or quota, less the front's share.
    pub cpu: u32,
    /// Jobs that run at once.
    pub permits: u16,
    /// Jobs that it has accepted from anyone, running or waiting for a permit.
    pub jobs: u16,
    /// Predicted CPU time of these, in ms, less what has been worked off.
    pub backlog_ms: u32,
    /// How much of its CPU is used, 0 to 100.
    pub used_pct: u8,
    /// The share of requests answered from its caches lately, 0 to 100.
    pub hit_pct: u8,
    /// Requests answered since it started.
    pub requests: u64,
    /// Room of its caches in MiB: its weight among owners.
    pub cache_mib: u32,
    /// The newest purge of its own log.
    pub purge: u64,
    /// The newest revision of the store that its reads show.
    pub revision: u64,
    /// The engine epoch that it can make.
    pub epoch: u32,
    /// Named folders of originals that it holds; the unnamed one is the empty name.
    pub folders: Vec<String>,
}

/// One node as this node sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: Arc<str>,
    /// What it does.
    pub roles: Roles,
    /// How it is.
    pub state: NodeState,
    /// The version that it runs.
    pub version: Arc<str>,
    /// What it said of itself last.
    pub load: Arc<Load>,
    /// When that was heard.
    pub heard: Tick,
    /// Round-trip time to it; zero for this node.
    pub rtt: Duration,
}

impl Member {
    /// Whether it may be given new work: up, and not draining.
    pub fn is_up(&self) -> bool {
        self.state == NodeState::Up
    }
}

/// Who is there, as this node sees it: itself first by right, all in the order of their ids.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct View {
    /// This node.
    pub me: NodeId,
    /// Grows with every change of members, states or roles; not with loads.
    pub generation: u64,
    /// All members that were not removed, this node among them, by id.
    pub members: Vec<Member>,
}

impl View {
    /// The member `id`.
    pub fn get(&self, id: NodeId) -> Option<&Member> {
        self.members.binary_search_by_key(&id, |member| member.id).ok().map(|at| &self.members[at])
    }
    /// This node, where it is a member already.
    pub fn myself(&self) -> Option<&Member> {
        self.get(self.me)
    }
    /// All but this node.
    pub fn others(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.id != self.me)
    }
    /// Whether this node is the only one.
    pub fn is_alone(&self) -> bool {
        self.others().next().is_none()
    }
}

/// Shows who is there.
pub trait Nodes: Send + Sync {
    /// The view as of now. Cheap: a shared value.
    fn view(&self) -> Arc<View>;
    /// Notes what a call showed of `node`, at once and locally.
    fn note(&self, node: NodeId, evidence: Evidence);
    /// The number of this node's newest report, for [`Report::sequence`]; 0 where it reports nothing.
    fn reported(&self) -> u64 {
        0
    }
    /// Takes a report of `node` that came with an answer, if it is newer than what is known.
    fn hear(&self, _node: NodeId, _report: Report) {}
}

/// What goes along with an answer: the part of a hint that changes with every job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// As in [`Load::sequence`].
    pub sequence: u64,
    /// As in [`Load::jobs`].
    pub jobs: u16,
    /// As in [`Load::backlog_ms`].
    pub backlog_ms: u32,
}

/// What the data path showed of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// It answered.
    Answered,
    /// The connection was refused or broke, or it was silent.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_they_are_written() {
        let some: Roles = "front, cache".parse().unwrap();
        assert_eq!(some.to_string(), "front,cache");
        assert!(some.has(Roles::FRONT) && !some.has(Roles::WORKER));
        assert_eq!(Roles::ALL.to_string().parse(), Ok(Roles::ALL));
        assert!("fornt".parse::<Roles>().unwrap_err().contains("`fornt`"));
    }

    #[test]
    fn a_view_finds_its_members_by_id() {
        let member = |id| Member {
            id: NodeId(id),
            name: "n".into(),
            roles: Roles::ALL,
            state: NodeState::Up,
            version: "1".into(),
            load: Arc::default(),
            heard: Tick(0),
            rtt: Duration::ZERO,
        };
        let view = View { me: NodeId(2), generation: 1, members: vec![member(2), member(5)] };
        assert_eq!(view.get(NodeId(5)).map(|found| found.id), Some(NodeId(5)));
        assert_eq!(view.others().count(), 1);
        assert!(!view.is_alone());
    }
}
