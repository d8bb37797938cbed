//! Who is up, suspect or down: gossip, links, calls and the roster taken together. A pure machine of events and time; it
//! opens no socket and reads no clock.

pub(crate) mod lag;
pub(crate) mod peer;
mod setting;
pub(crate) mod swim;
pub(crate) mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use foca::State;
use serde::Serialize;
use tutti_base::rng::Rng;
use tutti_base::{Evidence, NodeId, NodeState, Tick};

use crate::evidence::{Failure, HeldOut, Verdict};
use lag::Lag;
pub use lag::{DOUBT_MAX, LATE_AFTER};
use swim::Swim;
pub use swim::{GossipError, PROBE_EVERY, PROBE_WITHIN, SUSPICION, SUSPICION_MAX, Send, Way};
pub use wire::PACKET_MAX;

/// The largest roster, this node among it.
pub const MEMBERS_MAX: usize = 256;
/// The machine wants a tick at least this often: it measures by them how late this node's timer is.
pub const TICK_EVERY: Duration = Duration::from_millis(50);
/// A member of the roster that nobody heard of is suspect for this long, then down.
pub const UNSEEN_FOR: Duration = Duration::from_secs(3);
/// A member whose machine refuses connections for this long is down.
pub const REFUSED_FOR: Duration = Duration::from_secs(1);
/// How often members that are not active are announced to.
pub const ANNOUNCE_EVERY: Duration = Duration::from_millis(500);
/// To how many of them at once.
pub const ANNOUNCE_MAX: usize = 4;

/// Why a member is in its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// It answers probes.
    Answers,
    /// Nothing was heard of it yet.
    Unseen,
    /// It did not answer probes.
    Silent,
    /// It did not refute the suspicion in time.
    Lost,
    /// It said that it leaves.
    Left,
    /// The connection to it broke.
    Broken,
    /// Its machine refuses connections.
    Refused,
    /// Calls to it failed.
    Failed,
    /// The roster says so: drained, added or removed.
    Roster,
}

impl Why {
    /// The reason in a few words, for the journal.
    pub const fn words(self) -> &'static str {
        match self {
            Why::Answers => "it answers",
            Why::Unseen => "it was not heard of yet",
            Why::Silent => "it did not answer probes",
            Why::Lost => "it was silent for too long",
            Why::Left => "it left",
            Why::Broken => "the connection to it broke",
            Why::Refused => "its machine refuses connections",
            Why::Failed => "calls to it failed",
            Why::Roster => "the roster says so",
        }
    }
}

/// A change of one member's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct MembershipEvent {
    /// The member.
    pub node: NodeId,
    /// Its state before; `None` when it was no member.
    pub from: Option<NodeState>,
    /// Its state now; `None` when it is a member no more.
    pub to: Option<NodeState>,
    /// Why.
    pub why: Why,
}

/// What the roster says of a member's work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Duty {
    /// It works.
    Serving,
    /// It finishes what it has.
    Draining,
}

/// What happened to the control link to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkChange {
    /// It stands.
    Connected,
    /// It broke.
    Broken,
    /// Its machine refuses a new one.
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Connected,
    Broken { judged: bool },
    Refused { since: Tick },
}

/// The roster is too long.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a roster of {0} nodes; at most {MEMBERS_MAX} can be members: remove some")]
pub struct RosterTooLong(pub usize);

/// The membership of one node: events in; packets, states and changes out.
pub struct Membership {
    me: NodeId,
    swim: Swim,
    held: HeldOut,
    links: BTreeMap<NodeId, Link>,
    roster: BTreeMap<NodeId, Duty>,
    states: BTreeMap<NodeId, NodeState>,
    runs: BTreeMap<NodeId, u64>,
    lag: Lag,
    announce: Tick,
    turn: usize,
    events: Vec<MembershipEvent>,
    doubted: u64,
    spared: u64,
}

impl Membership {
    /// The membership of `me` in its run `run`, which is larger than those before it; the calendar in milliseconds will do.
    pub fn new(me: NodeId, run: u64, rng: Box<dyn Rng>, now: Tick) -> Self {
        Self {
            me,
            swim: Swim::new(me, run, rng),
            held: HeldOut::default(),
            links: BTreeMap::new(),
            roster: BTreeMap::new(),
            states: BTreeMap::new(),
            runs: BTreeMap::new(),
            lag: Lag::new(now),
            announce: now,
            turn: 0,
            events: Vec::new(),
            doubted: 0,
            spared: 0,
        }
    }

    /// Makes these the members. Who is missing is forgotten for good; unknown ids are never heard.
    pub fn set_roster(&mut self, now: Tick, roster: &BTreeMap<NodeId, Duty>) -> Result<(), RosterTooLong> {
        if roster.len() > MEMBERS_MAX {
            return Err(RosterTooLong(roster.len()));
        }
        let others: BTreeSet<NodeId> = roster.keys().copied().filter(|id| *id != self.me).collect();
        let added: Vec<NodeId> = others.iter().filter(|id| !self.roster.contains_key(id)).copied().collect();
        self.roster = roster.clone();
        self.swim.set_members(now, &others);
        self.held.set_members(others.iter().copied());
        self.links.retain(|id, _| others.contains(id));
        self.runs.retain(|id, _| others.contains(id));
        for id in added {
            self.swim.announce(now, id);
        }
        self.refresh(now);
        Ok(())
    }

    /// Takes a packet of the gossip that came from the node `from`, whose name the link or datagram has proved.
    pub fn packet(&mut self, now: Tick, from: NodeId, way: Way, bytes: &[u8]) -> Result<(), GossipError> {
        let run = self.swim.run();
        self.swim.packet(now, from, way, bytes)?;
        self.held.alive(from);
        if self.swim.run() != run {
            self.announce = now;
        }
        self.refresh(now);
        Ok(())
    }

    /// Does what is due; when to call again, at most [`TICK_EVERY`] later.
    pub fn tick(&mut self, now: Tick) -> Tick {
        if let Some(span) = self.lag.tick(now) {
            self.swim.forgive(now, span);
        }
        self.swim.tick(now, self.lag.stretch());
        self.judge_broken_links(now);
        if now >= self.announce {
            self.announce = now + ANNOUNCE_EVERY;
            self.announce_in_turn(now);
        }
        self.refresh(now);
        let latest = now + TICK_EVERY;
        let next = self.swim.next().map_or(latest, |due| due.min(latest)).max(now + Duration::from_millis(1));
        self.lag.expect(next);
        next
    }

    /// Links that broke while this node doubted itself, and still are.
    fn judge_broken_links(&mut self, now: Tick) {
        if self.lag.doubts(now) {
            return;
        }
        let waits = |link: &Link| *link == Link::Broken { judged: false };
        let broken: Vec<NodeId> =
            self.links.iter().filter(|(_, link)| waits(link)).map(|(id, _)| *id).collect();
        for id in broken {
            self.links.insert(id, Link::Broken { judged: true });
            self.fail(now, id, Failure::Connection);
        }
    }

    /// Announces this node to members that are not active, some at a time; to all as long as its own run is not known.
    fn announce_in_turn(&mut self, now: Tick) {
        let is_known = self.swim.is_known();
        let inactive = |id: &NodeId| self.swim.state(*id).is_none_or(|state| state == State::Down);
        let others = self.roster.keys().copied().filter(|id| *id != self.me);
        let wanted: Vec<NodeId> = others.filter(|id| !is_known || inactive(id)).collect();
        for _ in 0..wanted.len().min(ANNOUNCE_MAX) {
            self.turn = (self.turn + 1) % wanted.len();
            self.swim.announce(now, wanted[self.turn]);
        }
    }

    /// Takes a change of the control link to `node`.
    pub fn link(&mut self, now: Tick, node: NodeId, change: LinkChange) {
        if !self.roster.contains_key(&node) || node == self.me {
            return;
        }
        match (change, self.links.get(&node).copied()) {
            (LinkChange::Connected, before) => {
                self.links.insert(node, Link::Connected);
                self.heard(now, node);
                if before != Some(Link::Connected) {
                    self.swim.announce(now, node);
                }
            }
            (LinkChange::Refused, Some(Link::Refused { .. })) => {}
            (LinkChange::Refused, _) => {
                self.links.insert(node, Link::Refused { since: now });
            }
            (LinkChange::Broken, Some(Link::Refused { .. } | Link::Broken { .. })) => {}
            (LinkChange::Broken, _) => {
                let judged = !self.lag.doubts(now);
                self.links.insert(node, Link::Broken { judged });
                if judged {
                    self.fail(now, node, Failure::Connection);
                }
            }
        }
        self.refresh(now);
    }

    /// Takes what a call showed of `node`.
    pub fn note(&mut self, now: Tick, node: NodeId, evidence: Evidence) {
        if node == self.me || !self.roster.contains_key(&node) {
            return;
        }
        match evidence {
            Evidence::Answered => self.heard(now, node),
            Evidence::Failed if self.lag.doubts(now) => self.doubted += 1,
            Evidence::Failed => self.fail(now, node, Failure::Call),
        }
        self.refresh(now);
    }

    fn fail(&mut self, now: Tick, node: NodeId, failure: Failure) {
        if self.held.failed(now, node, failure) == Verdict::Spared {
            self.spared += 1;
        }
    }

    /// Notes that `node` was heard on a link.
    pub fn heard(&mut self, now: Tick, node: NodeId) {
        self.swim.heard(now, node);
        self.held.alive(node);
    }

    /// Tells all members that this node leaves. The machine says nothing afterwards.
    pub fn leave(&mut self, now: Tick) {
        self.swim.leave(now);
    }

    /// The state of `node`; `None` when it is not in the roster.
    pub fn state(&self, node: NodeId) -> Option<NodeState> {
        self.states.get(&node).copied()
    }

    /// How many failures did not count because this node's own timer was late, and because enough were held out.
    pub fn discounted(&self) -> (u64, u64) {
        (self.doubted, self.spared)
    }

    /// How late the last tick was, and by how much time-outs are widened for it.
    pub fn lag(&self) -> (Duration, u32) {
        (self.lag.last(), self.lag.stretch())
    }

    /// The run under which this node is known.
    pub fn run(&self) -> u64 {
        self.swim.run()
    }

    /// What is to be sent since the last call.
    pub fn take_sends(&mut self) -> Vec<Send> {
        self.swim.take_sends()
    }

    /// What changed since the last call.
    pub fn take_events(&mut self) -> Vec<MembershipEvent> {
        std::mem::take(&mut self.events)
    }

    fn refresh(&mut self, now: Tick) {
        self.clear_of_earlier_runs();
        let mut states = BTreeMap::new();
        for (&id, &duty) in &self.roster {
            let (state, why) = self.judge(now, id, duty);
            let from = self.states.get(&id).copied();
            if from != Some(state) {
                self.events.push(MembershipEvent { node: id, from, to: Some(state), why });
            }
            states.insert(id, state);
        }
        let gone = self.states.iter().filter(|(id, _)| !states.contains_key(id));
        self.events.extend(gone.map(|(&node, &from)| MembershipEvent {
            node,
            from: Some(from),
            to: None,
            why: Why::Roster,
        }));
        self.states = states;
    }

    /// A member that runs anew is not blamed for its earlier run.
    fn clear_of_earlier_runs(&mut self) {
        for &id in self.roster.keys() {
            let run = self.swim.run_of(id);
            if self.runs.insert(id, run).is_some_and(|before| before != run && before != 0) {
                self.held.forget(id);
            }
        }
    }

    fn judge(&self, now: Tick, id: NodeId, duty: Duty) -> (NodeState, Why) {
        let (state, why) =
            if id == self.me { (NodeState::Up, Why::Answers) } else { self.judge_other(now, id) };
        match (state, duty) {
            (NodeState::Up, Duty::Draining) => (NodeState::Draining, Why::Roster),
            _ => (state, why),
        }
    }

    fn judge_other(&self, now: Tick, id: NodeId) -> (NodeState, Why) {
        let link = self.links.get(&id).copied();
        let refused = match link {
            // Whoever is heard after the refusal is not gone.
            Some(Link::Refused { since }) if self.swim.last_heard(id).is_none_or(|heard| heard <= since) => {
                Some(now.since(since))
            }
            _ => None,
        };
        let since = self.swim.since(id).map_or(Duration::ZERO, |since| now.since(since));
        match self.swim.state(id) {
            Some(State::Down) if self.swim.has_left(id) => (NodeState::Down, Why::Left),
            Some(State::Down) => (NodeState::Down, Why::Lost),
            _ if refused.is_some_and(|span| span > REFUSED_FOR) => (NodeState::Down, Why::Refused),
            _ if refused.is_some() => (NodeState::Suspect, Why::Refused),
            None if link == Some(Link::Connected) => (NodeState::Up, Why::Answers),
            None if since > UNSEEN_FOR => (NodeState::Down, Why::Unseen),
            None => (NodeState::Suspect, Why::Unseen),
            Some(State::Suspect) => (NodeState::Suspect, Why::Silent),
            Some(State::Alive) => match self.held.why(now, id) {
                Some(Failure::Call) => (NodeState::Suspect, Why::Failed),
                Some(Failure::Connection) => (NodeState::Suspect, Why::Broken),
                None => (NodeState::Up, Why::Answers),
            },
        }
    }
}
