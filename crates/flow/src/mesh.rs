//! The other nodes as the journey uses them: who owns what, who holds which folder, and calls that note what they showed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tutti_base::envelope;
use tutti_base::{
    Body, Call, CallError, ContentHash, Evidence, Kind, Lane, Load, Member, NodeId, NodeState, Nodes, Peers,
    Problem, Report, RequestKey, Roles, Tick, Topic, View,
};
use tutti_telemetry::Metrics;

use crate::originals::Original;
use crate::seats::Intake;
use crate::wire::{Ask, Told};

/// How many nodes own an original and what is made of it.
pub const COPIES: usize = 2;
/// From this ask for the same answer on, a node that does not own it keeps it too.
pub const KEPT_FROM_ASK: u8 = 3;
/// After members came or went, owners look for this long at what the others have before they make anything.
pub const UNSTEADY_FOR: Duration = Duration::from_secs(3600);
/// Answers of other owners whose asks are counted; then counting begins anew.
pub const ASKS_MAX: usize = 16_384;
/// Originals whose places on other nodes are remembered; then remembering begins anew.
pub const PLACED_MAX: usize = 65_536;
/// Second copies under way at once; more are not made now.
pub const COPYING_MAX: i64 = 32;

/// The other nodes.
pub struct Mesh {
    peers: Arc<dyn Peers>,
    nodes: Arc<dyn Nodes>,
    lent: Mutex<HashMap<ContentHash, (usize, Original)>>,
    asks: Mutex<HashMap<RequestKey, u8>>,
    placed: Mutex<HashSet<(NodeId, ContentHash)>>,
    /// The generation of the view that was seen last, and when it was new.
    changed: Mutex<(u64, Tick)>,
}

/// Who holds a named folder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holders {
    /// Whether this node does.
    pub me: bool,
    /// Others that can be asked.
    pub others: Vec<NodeId>,
    /// The names of those that are away.
    pub away: Vec<String>,
    /// The names of nodes that are away and of which is not known what they hold: nothing was heard of them since this
    /// node started.
    pub unknown: Vec<String>,
}

impl Holders {
    /// The names of all that may hold it and are away.
    pub(crate) fn absent(&self) -> Vec<String> {
        self.away.iter().chain(&self.unknown).cloned().collect()
    }
}

impl Mesh {
    /// The nodes that `nodes` shows, asked through `peers`.
    pub fn new(peers: Arc<dyn Peers>, nodes: Arc<dyn Nodes>, metrics: &Metrics) -> Self {
        metrics.limit("flow_asks_counted", "Answers of other owners whose asks are counted", ASKS_MAX as u64);
        metrics.limit("flow_copies_in", "Second copies being taken at once", COPYING_MAX as u64);
        metrics.limit("flow_job_inputs", "Inputs of one job from a peer", crate::serve::INPUTS_MAX as u64);
        metrics.limit("flow_copying", "Second copies under way at once", COPYING_MAX as u64);
        Self {
            peers,
            nodes,
            lent: Mutex::default(),
            asks: Mutex::default(),
            placed: Mutex::default(),
            changed: Mutex::default(),
        }
    }

    /// Who is there.
    pub fn view(&self) -> Arc<View> {
        self.nodes.view()
    }

    /// The name of `node`, or its id where it has none.
    pub fn name(&self, node: NodeId) -> Arc<str> {
        self.view().get(node).map_or_else(|| node.to_string().into(), |member| Arc::clone(&member.name))
    }

    /// The owners of what `key` names, the first to be asked first; empty where this node does for all.
    pub fn owners(&self, key: u64) -> Vec<NodeId> {
        let view = self.view();
        if view.is_alone() {
            return Vec::new();
        }
        let able = |member: &&Member| member.is_up() && member.roles.has(Roles::CACHE);
        // A node that has said nothing yet is taken for one like this: most clusters are of one kind of machine, and then
        // all name the same owners also while one joins.
        let like_me = view.myself().map_or(0, |me| me.load.cache_mib);
        let room = |load: &Load| if load.sequence == 0 { like_me } else { load.cache_mib };
        let weight = |member: &Member| (member.id, f64::from(room(&member.load)));
        let nodes: Vec<_> = view.members.iter().filter(able).map(weight).collect();
        tutti_placement::owners(key, &nodes, COPIES)
    }

    /// Whether members came or went lately: another owner may then have what this one lacks.
    pub(crate) fn is_unsteady(&self, now: Tick) -> bool {
        let generation = self.view().generation;
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.0 != generation || changed.1 == Tick::default() {
            *changed = (generation, now);
        }
        now.since(changed.1) <= UNSTEADY_FOR
    }

    /// Who holds the folder `name`.
    pub fn holders(&self, name: &str) -> Holders {
        let view = self.view();
        let mut holders = Holders::default();
        for member in &view.members {
            let is_away = matches!(member.state, NodeState::Suspect | NodeState::Down);
            let is_holder = member.load.folders.iter().any(|held| held == name);
            match is_holder {
                true if member.id == view.me => holders.me = true,
                true if is_away => holders.away.push(member.name.to_string()),
                true => holders.others.push(member.id),
                false if is_away && member.id != view.me && member.load.sequence == 0 => {
                    holders.unknown.push(member.name.to_string());
                }
                false => {}
            }
        }
        holders
    }

    /// Asks `to`, and notes what that showed of it.
    pub(crate) async fn ask(
        &self,
        to: NodeId,
        lane: Lane,
        ask: &Ask,
        body: Bytes,
        within: Duration,
    ) -> Result<(Told, Body), CallError> {
        let call = Call { topic: Topic::FLOW, lane, head: envelope::seal(ask).into(), body, within };
        match self.peers.call(to, call).await {
            Ok(reply) => {
                self.nodes.note(to, Evidence::Answered);
                let told = envelope::open(&reply.head).map_err(|error| garbled(to, &error))?;
                Ok((told, reply.body))
            }
            Err(error) => {
                if error.blames_peer() {
                    self.nodes.note(to, Evidence::Failed);
                    tracing::debug!(%error, "a peer failed");
                }
                Err(error)
            }
        }
    }

    /// What this node has accepted, to go along with an answer.
    pub(crate) fn report(&self, accepted: &Intake) -> Report {
        Report {
            sequence: self.nodes.reported(),
            jobs: accepted.jobs().min(usize::from(u16::MAX)) as u16,
            backlog_ms: accepted.backlog_ms as u32,
        }
    }

    /// Takes a report that came with an answer of `node`.
    pub(crate) fn hear(&self, node: NodeId, report: Report) {
        self.nodes.hear(node, report);
    }

    /// Lends an original to peers by its hash until the loan is dropped. Who takes it learns whether it may keep it: where
    /// the same bytes are lent more than once, by the strictest of their names.
    pub(crate) fn lend(self: &Arc<Self>, original: &Original) -> Loan {
        let mut lent = self.lent();
        let (loans, first) = lent.entry(original.hash).or_insert_with(|| (0, original.clone()));
        *loans += 1;
        first.shared &= original.shared;
        first.purge_seen = first.purge_seen.min(original.purge_seen);
        Loan { mesh: Arc::clone(self), hash: original.hash }
    }

    /// What is lent under `hash`.
    pub(crate) fn borrowed(&self, hash: &ContentHash) -> Option<Original> {
        self.lent().get(hash).map(|(_, original)| original.clone())
    }

    /// Counts one more ask for `key`, which others own: whether it is asked for so often that it should be kept here.
    pub(crate) fn is_wanted_often(&self, key: &RequestKey) -> bool {
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        if asks.len() >= ASKS_MAX && !asks.contains_key(key) {
            asks.clear();
        }
        let count = asks.entry(*key).or_insert(0);
        *count = count.saturating_add(1);
        *count >= KEPT_FROM_ASK
    }

    /// Whether `node` is known to have an original.
    pub(crate) fn has(&self, node: NodeId, hash: &ContentHash) -> bool {
        self.placed().contains(&(node, *hash))
    }

    /// Notes that `node` has an original now.
    pub(crate) fn note_placed(&self, node: NodeId, hash: ContentHash) {
        let mut placed = self.placed();
        if placed.len() >= PLACED_MAX {
            placed.clear();
        }
        placed.insert((node, hash));
    }

    fn placed(&self) -> MutexGuard<'_, HashSet<(NodeId, ContentHash)>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lent(&self) -> MutexGuard<'_, HashMap<ContentHash, (usize, Original)>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that peers may take while this lives.
pub(crate) struct Loan {
    mesh: Arc<Mesh>,
    hash: ContentHash,
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut lent = self.mesh.lent();
        if let Some((loans, _)) = lent.get_mut(&self.hash) {
            *loans -= 1;
            if *loans == 0 {
                lent.remove(&self.hash);
            }
        }
    }
}

/// An answer that this build cannot read.
fn garbled(node: NodeId, error: &dyn std::fmt::Display) -> CallError {
    let problem = Problem::new(Kind::Unavailable, "a peer's answer could not be read").because(error);
    CallError::Refused(node, Box::new(problem))
}

/// A node that knows no others: what one machine is.
pub struct Alone(View);

impl Alone {
    /// The node `me`.
    pub fn new(me: NodeId) -> Self {
        Self(View { me, generation: 0, members: Vec::new() })
    }
}

impl Nodes for Alone {
    fn view(&self) -> Arc<View> {
        Arc::new(self.0.clone())
    }
    fn note(&self, _node: NodeId, _evidence: Evidence) {}
}

impl Peers for Alone {
    fn call(
        &self,
        to: NodeId,
        _call: Call,
    ) -> tutti_base::BoxFuture<'_, Result<tutti_base::Reply, CallError>> {
        Box::pin(async move { Err(CallError::Unreachable(to)) })
    }
    fn cast(&self, _to: NodeId, _topic: Topic, _head: Bytes) {}
}
